"""Runs the DAGs of examples/airflow with dag.test(), each in a process of its own, against a real head."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[4] / "examples" / "airflow"
MODEL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "engine" / "models" / "all-minilm-l6-v2"

RUN = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

folder, dag_id, conf, to = sys.argv[1:]
bag = DagBag(folder)
assert not bag.import_errors, bag.import_errors
run = bag.dags[dag_id].test(run_conf=json.loads(conf))
with create_session() as session:
    rows = session.query(XComModel).filter_by(dag_id=dag_id, run_id=run.run_id, key="return_value")
    returned = [[row.task_id, row.map_index, row.value] for row in rows]
states = [[ti.task_id, ti.map_index, str(ti.state)] for ti in run.get_task_instances()]
Path(to).write_text(json.dumps({"state": str(run.state), "states": states, "returned": returned}))
"""


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory) -> Path:
    """The home of an Airflow with a database of its own."""
    home = tmp_path_factory.mktemp("airflow")
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment(home), check=True, capture_output=True, timeout=300)
    return home


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": "engine_provider.xcom.EngineXComBackend",
        "AIRFLOW__ENGINE__XCOM_CHECKPOINT": str(home / "xcom"),
    }


@pytest.fixture
def run(head, airflow_home, tmp_path):
    """Runs a DAG, and returns what its tasks have returned, by task id; of mapped tasks by index."""

    def begin(dag_id: str, **conf: Any) -> dict[str, Any]:
        env = {**environment(airflow_home), "AIRFLOW_CONN_ENGINE_DEFAULT": f"engine://{head.address}"}
        command = [sys.executable, "-c", RUN, str(EXAMPLES), dag_id, json.dumps(conf), str(tmp_path / "ended.json")]
        done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=1800)
        print(done.stdout[-20_000:], done.stderr[-20_000:])
        assert done.returncode == 0
        ended = json.loads((tmp_path / "ended.json").read_text())
        assert [task for task in ended["states"] if task[2] != "success"] == []
        assert ended["state"] == "success"
        returned: dict[str, Any] = {}
        for name, index, value in ended["returned"]:
            if index < 0:
                returned[name] = value
            else:
                returned.setdefault(name, {})[index] = value
        return returned

    return begin


def test_wine_scoring(run, tmp_path):
    returned = run("wine_scoring", work=str(tmp_path), rows=3000)
    assert returned["score"]["rows_written"] == 3000
    assert 0.4 < returned["report"] < 0.6


def test_embeddings_sweep(run, tmp_path):
    if not (MODEL / "model.safetensors").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("missing: all-MiniLM-L6-v2 (scripts/fetch-minilm.sh)")
        pytest.skip("missing: all-MiniLM-L6-v2 (scripts/fetch-minilm.sh)")
    returned = run("embeddings_sweep", work=str(tmp_path), model=str(MODEL), partitions=2, max_tokens=[4, 64])
    jobs = list(returned["embed"].values())
    assert len(jobs) == len({job["job_id"] for job in jobs}) == 4
    assert sum(job["rows_written"] for job in jobs) == 2 * 239  # One message has no text.
    best = returned["best"]
    assert (best["max_tokens"], best["jobs"]) == (64, 4)
    assert best["score"] > 0.8


def test_tables_by_xcom(run, airflow_home):
    returned = run("tables_by_xcom", rows=2000)
    assert returned["report"] == 2000
    assert returned["clean_up"] == 3
    assert not list((airflow_home / "xcom").rglob("*.arrows"))
