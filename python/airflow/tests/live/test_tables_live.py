"""Tables between tasks that Airflow's scheduler runs, and what becomes of them when tasks are cleared and the cluster is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import engine
import pytest
from engines import until

if TYPE_CHECKING:
    from pathlib import Path

    from world import Airflow, Engine, Run

pytestmark = pytest.mark.live


def checkpoints(airflow: Airflow, run: Run) -> set[str]:
    """The names of the run's checkpoints."""
    kept = airflow.home / "xcom" / "tables"
    stem = "".join(c if c.isalnum() or c in "_-" else "_" for c in run.id)
    return {path.name for folder in kept.glob(f"{stem}*") for path in folder.rglob("*.arrows")}


def reference(value: dict) -> engine.ObjectRef:
    assert value["__engine_table__"] == 1
    return engine.ObjectRef.parse(value["ref"])


def again(run: Run, task: str, *, to: str = "success") -> None:
    """Clear a task alone, and wait for its end."""
    run.ended()  # The scheduler may be about to end the run, and would end it in spite of what is cleared now.
    before = run.instance(task)["try_number"]
    run.clear(task)
    until(lambda: run.instance(task)["try_number"] > before and run.state(task) in ("success", "failed"), f"{task} has run again")
    assert run.state(task) == to, run.text(task)


def test_tables_between_tasks(airflow: Airflow, cluster: Engine):
    run = airflow.trigger("tables", rows=1000, hold=True)
    run.wait("failed", task="hold")
    assert run.xcom(task="add") == 2 * sum(range(1000))
    made, doubled = run.xcom(task="make"), run.xcom(task="double")
    assert (made["rows"], made["table"]["library"], made["table"]["rows"]) == (1000, "pandas", 1000)
    assert doubled["library"] == "polars"
    names = {f"{reference(one).id.hex()}.arrows" for one in (made["table"], doubled)}
    assert checkpoints(airflow, run) == names
    with engine.Client(cluster.address) as client:
        assert client.get(reference(doubled)).column_names == ["a", "s", "b"]
        # A task that is cleared reads the checkpoint if the object has expired.
        client.delete(reference(made["table"]))
    again(run, "double")
    # What it had handed over is deleted, and what it hands over now takes its place.
    redone = run.xcom(task="double")
    assert reference(redone) != reference(doubled)
    names = {f"{reference(one).id.hex()}.arrows" for one in (made["table"], redone)}
    assert checkpoints(airflow, run) == names
    with engine.Client(cluster.address) as client, pytest.raises(engine.NotFoundError):
        client.get(reference(doubled))
    # The head is gone: the checkpoint is read as it is.
    cluster.kill_head()
    try:
        again(run, "add")
    finally:
        cluster.start_head()
    assert run.xcom(task="add") == 2 * sum(range(1000))
    # Once the checkpoint is gone too, the task fails without a retry, and says what to do.
    with engine.Client(cluster.address) as client:
        client.delete(reference(redone))
    for path in (airflow.home / "xcom").rglob(f"{reference(redone).id.hex()}.arrows"):
        path.unlink()
    again(run, "add", to="failed")
    assert "clear the task that has made it" in run.text("add")


def test_clean_up_after_the_run(airflow: Airflow):
    run = airflow.trigger("tables", rows=10)
    assert run.ended() == "success"
    assert run.xcom(task="clean_up") == 2
    assert checkpoints(airflow, run) == set()


def test_tables_of_mapped_tasks(airflow: Airflow):
    run = airflow.trigger("mapped_tables")
    assert run.ended() == "success"
    assert run.xcom(task="total") == [1, 2, 3, 10, 20]


def test_a_column_that_cannot_be_held(airflow: Airflow):
    run = airflow.trigger("tables", rows=10, broken=True)
    assert run.wait("failed", "up_for_retry", task="make")["state"] == "failed"
    assert "column 's'" in run.text("make")


def test_tables_come_over_the_network(airflow: Airflow, cluster: Engine, tmp_path: Path):
    """Much as a task on another machine would: a client with another host's identity, and no folder of checkpoints."""
    run = airflow.trigger("tables", rows=50_000, hold=True)
    run.wait("failed", task="hold")
    doubled = run.xcom(task="double")
    with engine.Client(cluster.address) as far:
        far._client._objects._host = "another machine"
        table = far.get(doubled["ref"])
    assert table.num_rows == 50_000
    assert table["b"].to_pylist() == [2 * a for a in range(50_000)]
