"""The Airflow and the engine that the live tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from world import Airflow, Engine, Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = Path(os.environ.get("ENGINE_AIRFLOW_TEST") or tmp_path_factory.mktemp("live"))
    folder.mkdir(exist_ok=True)
    processes = Processes(folder)
    yield processes
    processes.stop()


@pytest.fixture(scope="session")
def cluster(processes: Processes) -> Engine:
    binary = os.environ.get("ENGINE_BINARY")
    assert binary, "ENGINE_BINARY is the path of the engine's program"
    return Engine(processes, binary)


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


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A CSV file of 1,000 rows with the columns a and b."""
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(1000)))
    return path
