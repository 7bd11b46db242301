"""The Airflow that the live tests share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from world import Airflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines import Engine, Processes


@pytest.fixture(scope="session")
def airflow(processes: Processes, cluster: Engine) -> Airflow:
    return Airflow(processes, cluster, processes.folder / "clusters")


@pytest.fixture(scope="session", autouse=True)
def alone(airflow: Airflow, processes: Processes) -> Callable[[], int]:
    """A DAG in `dag.test()`, which runs beside the other tests. It is waited for by the call, which returns its exit code."""
    path = processes.folder / "alone.csv"
    path.write_text("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(1000)))
    conf = {"input": str(path), "out": str(processes.folder / "alone")}
    script = f"""
from airflow.dag_processing.dagbag import DagBag
run = DagBag({str(airflow.dags)!r}).dags["sync"].test(run_conf={conf!r})
assert str(run.state) == "success", run.state
"""
    return processes.start("dag-test", [sys.executable, "-c", script], airflow.without_scheduler()).wait
