"""Operators at a real engine, without an Airflow: what a try does that finds a job of an earlier one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import engine
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred
from engines import kill_clusters, until

from engine_provider.clusters import ProcessDriver, _alive
from engine_provider.follow import Cursor, follow
from engine_provider.hooks import EngineHook
from engine_provider.operators import EngineStartClusterOperator, EngineStopClusterOperator, EngineSubmitJobOperator, EngineTaskOperator
from engine_provider.sensors import EngineJobSensor
from engine_provider.triggers import EngineJobTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines import Engine


class TaskInstance(SimpleNamespace):
    """What an operator needs of one."""

    def __init__(self, run_id: str, **more: Any) -> None:
        fields = {"dag_id": "d", "task_id": "t", "map_index": -1, "try_number": 1, "max_tries": 0, "start_date": datetime.now(timezone.utc)}
        super().__init__(run_id=run_id, xcoms={}, **{**fields, **more})

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, key: str, **_: Any) -> Any:
        return self.xcoms.get(key)


@pytest.fixture
def client(cluster: Engine) -> Iterator[engine.Client]:
    with engine.Client(cluster.address) as client:
        yield client


@pytest.fixture
def job(numbers: Path, tmp_path: Path) -> dict[str, Any]:
    return {"source": {"csv": {"paths": [str(numbers)]}}, "sink": {"parquet": {"path": str(tmp_path / "out"), "mode": "overwrite"}}}


def dag_run(seconds_ago: float = 0) -> Any:
    """A DAG run that is started now, or was so long ago."""
    return SimpleNamespace(start_date=datetime.now(timezone.utc) - timedelta(seconds=seconds_ago))


def never(job: dict[str, Any]) -> dict[str, Any]:
    """Return the job as one that waits for a worker that there is not."""
    return {**job, "placement": {"node_labels": {"gate": "never"}}}


def execute(operator: Any, ti: TaskInstance, **context: Any) -> Any:
    """Run an operator as Airflow's task runner does."""
    ExecutorSafeguard.tracker.set(operator)
    return operator.execute({"ti": ti, "dag": None, **context})


def make(kind: type, cluster: Engine, **fields: Any) -> Any:
    with DAG("d", schedule=None):
        return kind(task_id="t", address=cluster.address, **fields)


def submit(cluster: Engine, job: Any, **fields: Any) -> Any:
    return make(EngineSubmitJobOperator, cluster, job=job, progress_every=0.2, **fields)


def deferred(operator: Any, ti: TaskInstance) -> EngineJobTrigger:
    with pytest.raises(TaskDeferred) as raised:
        execute(operator, ti)
    trigger: Any = raised.value.trigger
    path, kwargs = trigger.serialize()
    assert path.endswith("EngineJobTrigger")
    return EngineJobTrigger(**kwargs)


def event_of(trigger: EngineJobTrigger) -> dict[str, Any]:
    async def first() -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    return dict(asyncio.run(first()))


def test_job_succeeds_and_a_second_try_takes_its_success(cluster: Engine, client: engine.Client, job: Any, request: Any):
    ti = TaskInstance(request.node.name)
    first = execute(submit(cluster, job), ti)
    assert (first["state"], first["rows_written"], first["address"]) == ("SUCCEEDED", 1000, cluster.address)
    assert ti.xcoms["engine_job"]["submission_id"] == first["submission_id"] == f"airflow/d/t/{ti.run_id}@0"
    assert ti.xcoms["_link_EngineJobLink"].endswith(f"/jobs/{first['job_id']}")
    second = execute(submit(cluster, job, retries=1), TaskInstance(request.node.name, try_number=2, max_tries=1))
    assert second["job_id"] == first["job_id"]
    third = execute(submit(cluster, job, retries=1), TaskInstance(request.node.name, try_number=3, max_tries=3))  # Cleared.
    assert third["job_id"] != first["job_id"]
    assert client.job(first["job_id"]).status().state == "SUCCEEDED"
    status = client.job(third["job_id"]).status()
    assert status.labels == {"airflow_dag": "d", "airflow_task": "t", "airflow_run": ti.run_id}
    assert status.spec["orphan_ttl"] == "10m"


@pytest.mark.parametrize(("policy", "resumptions", "same"), [("resume", 1, True), ("attach", 0, True), ("restart", 0, False)])
def test_policies_for_a_job_that_was_stopped(
    cluster: Engine, client: engine.Client, job: Any, request: Any, policy: str, resumptions: int, same: bool
):
    fields: dict[str, Any] = {"deferrable": True, "retries": 1, "retry_policy": policy}
    first = deferred(submit(cluster, never(job), **fields), TaskInstance(request.node.name, max_tries=1))
    again = deferred(submit(cluster, never(job), **fields), TaskInstance(request.node.name, max_tries=1))
    assert again.job_id == first.job_id  # The same try, as after a restart of the scheduler.
    client.job(first.job_id).stop()
    second = TaskInstance(request.node.name, try_number=2, max_tries=1)
    if policy == "attach":
        with pytest.raises(AirflowFailException, match="was stopped"):
            execute(submit(cluster, never(job), **fields), second)
        return
    trigger = deferred(submit(cluster, never(job), **fields), second)
    assert (trigger.job_id == first.job_id) is same
    status = client.job(trigger.job_id).status()
    assert (status.state, status.resumptions) == ("PENDING", resumptions)
    if not same:
        with pytest.raises(engine.NotFoundError):
            client.job(first.job_id).status()
    client.job(trigger.job_id).stop()


@pytest.mark.parametrize(("policy", "final"), [("resume", False), ("restart", False), ("attach", True)])
def test_job_that_somebody_else_stops_is_worth_a_retry(
    cluster: Engine, client: engine.Client, job: Any, request: Any, policy: str, final: bool
):
    ti = TaskInstance(request.node.name)
    operator = submit(cluster, never(job), deferrable=True, retry_policy=policy)
    trigger = deferred(operator, ti)
    client.job(trigger.job_id).stop()
    with pytest.raises(AirflowException, match="by somebody else") as raised:
        operator.execute_complete({"ti": ti}, event_of(trigger))
    assert isinstance(raised.value, AirflowFailException) is final


def test_restart_takes_the_success_of_an_earlier_try(cluster: Engine, client: engine.Client, job: Any, request: Any, tmp_path: Path):
    job["sink"]["parquet"]["mode"] = "append"
    name = request.node.name
    fields: dict[str, Any] = {"retry_policy": "restart", "retries": 2}
    first = execute(submit(cluster, job, **fields), TaskInstance(name, max_tries=2))
    # Its process died before it could say so.
    for attempt in (2, 3):
        again = execute(submit(cluster, job, **fields), TaskInstance(name, try_number=attempt, max_tries=2))
        assert again["job_id"] == first["job_id"]
    assert pq.read_table(tmp_path / "out").num_rows == 1000
    cleared = execute(submit(cluster, job, **fields), TaskInstance(name, try_number=4, max_tries=5))
    assert cleared["job_id"] != first["job_id"]


def test_older_generation_that_runs_is_stopped_first(cluster: Engine, client: engine.Client, job: Any, request: Any, tmp_path: Path):
    old = deferred(submit(cluster, never(job), deferrable=True), TaskInstance(request.node.name))
    # Both write the same folder, so the second one could not begin beside the first.
    new = execute(submit(cluster, job), TaskInstance(request.node.name, try_number=2, max_tries=1))
    assert new["submission_id"].endswith("@1")
    assert pq.read_table(tmp_path / "out").num_rows == 1000
    with pytest.raises(engine.NotFoundError):
        client.job(old.job_id).status()


def test_run_that_is_made_again_has_a_job_of_its_own(cluster: Engine, client: engine.Client, job: Any, request: Any, tmp_path: Path):
    name, run = request.node.name, dag_run()
    first = execute(submit(cluster, job), TaskInstance(name), dag_run=run)
    assert client.job(first["job_id"]).status().labels["airflow_run_started"] == run.start_date.isoformat()
    retried = execute(submit(cluster, job, retries=1), TaskInstance(name, try_number=2, max_tries=1), dag_run=run)
    assert retried["job_id"] == first["job_id"]
    # The run was deleted, and is made again under its id.
    remade = dag_run()
    second = execute(submit(cluster, job), TaskInstance(name), dag_run=remade)
    assert second["submission_id"] == first["submission_id"]
    assert second["job_id"] != first["job_id"]
    assert pq.read_table(tmp_path / "out").num_rows == 1000
    again = execute(submit(cluster, job, retries=1), TaskInstance(name, try_number=2, max_tries=1), dag_run=remade)
    assert again["job_id"] == second["job_id"]


def test_job_of_a_run_that_was_deleted_is_stopped(cluster: Engine, client: engine.Client, job: Any, request: Any):
    name = request.node.name
    fields: dict[str, Any] = {"deferrable": True}
    with pytest.raises(TaskDeferred):
        execute(submit(cluster, never(job), **fields), TaskInstance(name), dag_run=dag_run())
    (old,) = cluster.jobs(name)
    # They write the same folder, so the second one could not begin beside the first.
    new = execute(submit(cluster, job), TaskInstance(name), dag_run=dag_run())
    assert (new["state"], new["submission_id"]) == ("SUCCEEDED", old.submission_id)
    with pytest.raises(engine.NotFoundError):
        client.job(old.job_id).status()


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("attempt", [1, 2])
def test_job_of_another_airflow_is_left_alone(cluster: Engine, client: engine.Client, job: Any, request: Any, earlier: bool, attempt: int):
    """Both have the default namespace, and a DAG of the same name and time: whichever began first, the other one does not disturb it."""
    name = request.node.name
    runs = [dag_run(2), dag_run(1)]
    theirs, mine = runs if earlier else reversed(runs)
    with pytest.raises(TaskDeferred):
        execute(submit(cluster, never(job), deferrable=True), TaskInstance(name), dag_run=theirs)
    (old,) = cluster.jobs(name)
    said = r"the namespace 'airflow' too: .* in the extra of connection 'engine_default'.*\[conflict\]"
    with pytest.raises(AirflowFailException, match=said):  # In its second attempt it was cleared, and is of another generation.
        execute(submit(cluster, job), TaskInstance(name, try_number=attempt, max_tries=attempt - 1), dag_run=mine)
    assert [(one.job_id, one.state) for one in cluster.jobs(name)] == [(old.job_id, "PENDING")]
    client.job(old.job_id).stop()


@pytest.mark.parametrize("first", [True, False])
def test_job_that_does_not_say_of_which_start_its_run_is_is_attached_to(
    cluster: Engine, client: engine.Client, job: Any, request: Any, first: bool
):
    """Airflow does not say it while a run is queued again; and so it is the other way round."""
    name = request.node.name
    contexts: list[dict[str, Any]] = [{}, {"dag_run": dag_run()}]
    for context in contexts if first else reversed(contexts):
        with pytest.raises(TaskDeferred):
            execute(submit(cluster, never(job), deferrable=True), TaskInstance(name), **context)
    (only,) = cluster.jobs(name)
    assert (only.state, "airflow_run_started" in only.labels) == ("PENDING", not first)
    client.job(only.job_id).stop()


@pytest.mark.parametrize("role", ["submit", "operate"])
@pytest.mark.parametrize("case", ["cleared", "restart", "made again"])
def test_task_that_is_run_anew_needs_role_operate(
    cluster: Engine, client: engine.Client, job: Any, request: Any, monkeypatch: pytest.MonkeyPatch, role: str, case: str
):
    connection = {"conn_type": "engine", "host": "127.0.0.1", "port": cluster.port, "password": cluster.token(role)}
    monkeypatch.setenv("AIRFLOW_CONN_ROLE", json.dumps(connection))
    fields: dict[str, Any] = {"engine_conn_id": "role", "deferrable": True, "retry_policy": "restart" if case == "restart" else "resume"}
    name, run = request.node.name, dag_run()
    with pytest.raises(TaskDeferred):
        execute(submit(cluster, never(job), **fields), TaskInstance(name), dag_run=run)
    (old,) = cluster.jobs(name)
    if case == "restart":
        client.job(old.job_id).stop()
    again = TaskInstance(name, try_number=2, max_tries=1) if case == "cleared" else TaskInstance(name)
    context = {"dag_run": dag_run() if case == "made again" else run}
    if role == "submit":
        with pytest.raises(AirflowFailException, match=r"the token of connection 'role' needs role operate, since .*\[permission\]"):
            execute(submit(cluster, never(job), **fields), again, **context)
        assert [one.state for one in cluster.jobs(name)] == ["STOPPED"]
        return
    with pytest.raises(TaskDeferred):
        execute(submit(cluster, never(job), **fields), again, **context)
    (new,) = cluster.jobs(name)
    assert (new.job_id != old.job_id, new.state) == (True, "PENDING")
    client.job(new.job_id).stop()


def test_changed_job_under_the_same_generation_is_refused(cluster: Engine, client: engine.Client, job: Any, request: Any):
    first = deferred(submit(cluster, never(job), deferrable=True), TaskInstance(request.node.name))
    with pytest.raises(AirflowFailException, match=r"has another spec.*\[conflict\]"):
        execute(submit(cluster, {**never(job), "priority": 7}), TaskInstance(request.node.name))
    client.job(first.job_id).stop()


def test_success_is_taken_although_the_inputs_have_changed(cluster: Engine, job: Any, request: Any, numbers: Path):
    job = {**job, "labels": {"odd": "$${env:X}"}}
    first = execute(submit(cluster, job), TaskInstance(request.node.name))
    numbers.write_text("a,b\n1,2\n")
    again = execute(submit(cluster, job, retries=1), TaskInstance(request.node.name, try_number=2, max_tries=1))
    assert (again["job_id"], again["rows_written"]) == (first["job_id"], 1000)
    with pytest.raises(AirflowFailException, match=r"\[conflict\]"):
        execute(submit(cluster, {**job, "priority": 7}, retries=1), TaskInstance(request.node.name, try_number=2, max_tries=1))


def test_task_that_is_killed_while_it_submits_stops_the_job(cluster: Engine, client: engine.Client, job: Any, request: Any):
    operator = submit(cluster, never(job))
    tell = operator._begin

    def begin(*arguments: Any) -> Any:
        operator.on_kill()  # There is no job yet.
        return tell(*arguments)

    operator._begin = begin
    with pytest.raises(AirflowException, match="was killed"):
        execute(operator, TaskInstance(request.node.name))
    assert client.job(operator._job_id).status().state == "STOPPED"


def test_trigger_ends_with_the_job_and_its_error(cluster: Engine, client: engine.Client, job: Any, request: Any, tmp_path: Path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\nx,y\n")
    bad = {**job, "source": {"csv": {"paths": [str(tmp_path / "bad.csv")], "columns": [{"name": "a", "type": "int64"}]}}}
    # Not by way of the operator: the job might fail before the task could defer.
    trigger = EngineJobTrigger(engine_conn_id="engine_default", address=cluster.address, job_id=client.submit(bad).id)
    with pytest.raises(AirflowFailException, match=r"bad.csv:3.*\[data\]"):
        submit(cluster, bad, deferrable=True).execute_complete({"ti": TaskInstance(request.node.name)}, event_of(trigger))


def test_trigger_stops_the_job_when_its_task_is_killed(cluster: Engine, client: engine.Client, job: Any, request: Any):
    trigger = deferred(submit(cluster, never(job), deferrable=True), TaskInstance(request.node.name))
    asyncio.run(trigger.on_kill())
    assert client.job(trigger.job_id).status().state == "STOPPED"
    sensor = EngineJobTrigger(engine_conn_id="engine_default", address=cluster.address, job_id=trigger.job_id, stop_on_kill=False)
    client.job(trigger.job_id).resume()
    asyncio.run(sensor.on_kill())
    assert client.job(trigger.job_id).status().state == "PENDING"
    client.job(trigger.job_id).stop()


def test_deferred_task_runs_out_of_time(cluster: Engine, client: engine.Client, job: Any, request: Any):
    ti = TaskInstance(request.node.name)
    operator = submit(cluster, never(job), deferrable=True, execution_timeout=timedelta(seconds=1))
    trigger = deferred(operator, ti)
    assert trigger.deadline == pytest.approx(ti.start_date.timestamp() + 1)
    event = event_of(trigger)
    assert client.job(trigger.job_id).status().state == "STOPPED"
    with pytest.raises(AirflowTaskTimeout, match=trigger.job_id):
        operator.execute_complete({"ti": ti}, event)


def test_killed_task_stops_its_job(cluster: Engine, client: engine.Client, job: Any, request: Any):
    operator = submit(cluster, never(job))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            execute(operator, TaskInstance(request.node.name))
        except AirflowException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: operator._job_id, "the job is submitted")
    operator.on_kill()
    thread.join(60)
    assert client.job(operator._job_id).status().state == "STOPPED"
    assert "was killed" in str(failures[0])
    assert not isinstance(failures[0], AirflowFailException)  # A worker that is shut down is no reason against a retry.


def test_orphan_goes_on_when_it_is_followed_again(cluster: Engine, client: engine.Client, job: Any, request: Any):
    trigger = deferred(submit(cluster, never(job), deferrable=True, orphan_ttl="50ms"), TaskInstance(request.node.name))
    until(lambda: client.job(trigger.job_id).status().ended, "nobody follows the job, so it is stopped")
    assert "nobody has followed" in str(client.job(trigger.job_id).status().error)

    async def go_on() -> None:
        async with await EngineHook(address=cluster.address).get_async_conn() as aclient:
            task = asyncio.create_task(follow(aclient, trigger.job_id, trigger.log, Cursor(), progress_every=0))
            while (await aclient.job(trigger.job_id).status()).resumptions == 0:
                await asyncio.sleep(0.02)
            while not task.done():  # On a loaded machine it may just have been stopped as an orphan again, and then this does nothing.
                await aclient.job(trigger.job_id).stop()  # By somebody: that is final.
                await asyncio.sleep(0.02)
            result = await task
            assert (result.state, result.error) == ("STOPPED", None)

    asyncio.run(asyncio.wait_for(go_on(), 60))


def test_progress_is_told_while_a_job_waits(cluster: Engine, client: engine.Client, job: Any):
    handle = client.submit(never(job))
    said: list[str] = []

    def info(text: str, **_: Any) -> None:
        said.append(text)
        if text.startswith("PENDING: "):
            handle.stop()

    async def wait() -> str:
        async with await EngineHook(address=cluster.address).get_async_conn() as aclient:
            return (
                await follow(
                    aclient, handle.id, SimpleNamespace(debug=info, info=info, warning=info, error=info), Cursor(), progress_every=0.05
                )
            ).state

    assert asyncio.run(asyncio.wait_for(wait(), 60)) == "STOPPED"
    assert len([text for text in said if text.startswith("PENDING: ")]) == 1  # Once, as nothing has changed.
    assert said[-1].startswith("job stopped")


def test_sensor_does_not_keep_a_job_alive(cluster: Engine, client: engine.Client, job: Any):
    handle = client.submit({**never(job), "orphan_ttl": "200ms"})
    sensor = make(EngineJobSensor, cluster, job_id=handle.id, deferrable=True, poke_interval=0.05, timeout=60)
    ti = TaskInstance("sensor")
    try:
        event = event_of(deferred(sensor, ti))
    except AirflowFailException as error:
        assert "nobody has followed it" in str(error)  # noqa: PT017 - it was stopped before the sensor could defer
    else:
        with pytest.raises(AirflowFailException, match="nobody has followed it"):
            sensor.execute_complete({"ti": ti}, event)


def test_head_that_is_away_is_waited_for_and_then_given_up(cluster: Engine):
    async def wait() -> None:
        hook = EngineHook(address="127.0.0.1:1")
        async with await hook.get_async_conn() as aclient:
            await follow(aclient, "j", SimpleNamespace(warning=said.append, info=said.append), Cursor(), progress_every=0, patience=1)

    said: list[str] = []
    with pytest.raises(engine.UnavailableError, match=r"127\.0\.0\.1:1"):
        asyncio.run(asyncio.wait_for(wait(), 120))
    assert len([text for text in said if "is waited for" in text]) == 1


def test_sensor_waits_for_a_job_that_is_yet_to_come(cluster: Engine, client: engine.Client, job: Any, request: Any):
    name = f"sensed-{os.getpid()}"
    sensor = make(EngineJobSensor, cluster, job_id=name, deferrable=False)
    ti = TaskInstance(request.node.name)
    assert sensor.poke({"ti": ti}) is False
    client.submit(job, submission_id=name).result(timeout=60)
    done = sensor.poke({"ti": ti})
    assert done.is_done
    assert done.xcom_value["rows_written"] == 1000
    with pytest.raises(AirflowFailException, match=r"\[not_found\]"):
        make(EngineJobSensor, cluster, job_id="never", must_exist=True).poke({"ti": ti})
    with pytest.raises(AirflowFailException, match="renders to nothing"):
        make(EngineJobSensor, cluster, job_id=" ").poke({"ti": ti})


def test_task_is_run_once_a_generation(cluster: Engine, client: engine.Client, request: Any):
    ti = TaskInstance(request.node.name)
    table = pa.table({"x": [1, 2, 3]})
    first = execute(make(EngineTaskOperator, cluster, operator="echo", args=[table], ttl=60), ti)
    assert client.get(first).equals(table)
    second = execute(make(EngineTaskOperator, cluster, operator="echo", args=[table], ttl=60), ti)
    assert second == first
    run = dag_run()
    remade = execute(make(EngineTaskOperator, cluster, operator="echo", args=[table], ttl=60), ti, dag_run=run)
    assert remade != first
    assert execute(make(EngineTaskOperator, cluster, operator="echo", args=[table], ttl=60), ti, dag_run=run) == remade
    given = execute(make(EngineTaskOperator, cluster, operator="echo", args=[first], result="table"), TaskInstance(request.node.name + "2"))
    assert given.equals(table)
    with pytest.raises(AirflowException, match="nope"):
        execute(make(EngineTaskOperator, cluster, operator="nope"), TaskInstance(request.node.name + "3"))


def test_task_of_a_long_name_whose_outputs_are_gone_in_part(cluster: Engine, client: engine.Client, request: Any, monkeypatch: Any):
    ti = TaskInstance(request.node.name + "x" * 200)
    tables = [pa.table({"x": [i]}) for i in range(2)]
    fields: dict[str, Any] = {"operator": "echo", "args": tables, "outputs": 2, "ttl": 60}
    first = execute(make(EngineTaskOperator, cluster, **fields), ti)
    assert execute(make(EngineTaskOperator, cluster, **fields), ti) == first
    client.delete(engine.ObjectRef.parse(first[1]))  # Of this one, the name too is gone; the other's is not.
    monkeypatch.setattr("engine_provider.operators.task._THERE_WITHIN", 0.5)
    second = execute(make(EngineTaskOperator, cluster, **fields), ti)
    assert not set(first) & set(second)
    assert [client.get(ref).to_pydict() for ref in second] == [{"x": [0]}, {"x": [1]}]


def test_cluster_of_processes(tmp_path: Path):
    small = {"object-store-memory": "64MiB"}
    driver = ProcessDriver(folder=str(tmp_path), head_options={"num-cpus": 1, **small}, worker_options=small)
    try:
        started = driver.start("mine", 1, 60)
        assert driver.start("mine", 1, 60) == started
        with engine.Client(started.address) as client:
            assert client.cluster()["nodes_alive"] == 2
            assert driver.scale("mine", 0, 60).workers == 0
            until(lambda: client.cluster()["nodes_alive"] == 1, "the worker has left")
    finally:
        driver.stop("mine", 30)
    driver.stop("mine", 30)
    with pytest.raises(engine.NotFoundError):
        driver.scale("mine", 1, 5)
    with pytest.raises(engine.UnavailableError), engine.Client(started.address, timeout=2) as client:
        client.cluster()
    assert list(tmp_path.iterdir()) == []


def test_start_that_is_broken_off_ends_what_it_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    driver_options = {"folder": str(tmp_path), "head_options": {"num-cpus": 1, "object-store-memory": "64MiB"}}
    with DAG("d", schedule=None):
        operator = EngineStartClusterOperator(task_id="t", cluster="mine", driver_options=driver_options)
    addresses: list[str] = []
    wait = ProcessDriver._await_nodes

    def killed(driver: ProcessDriver, cluster: Any, *arguments: Any) -> None:
        addresses.append(cluster.address)
        operator.on_kill()  # As the handler of a signal does.
        wait(driver, cluster, *arguments)

    def there() -> bool:
        try:
            with engine.Client(addresses[0], timeout=2) as client:
                return bool(client.cluster())
        except engine.UnavailableError:
            return False

    monkeypatch.setattr(ProcessDriver, "_await_nodes", killed)
    driver = ProcessDriver(**driver_options)
    try:
        with pytest.raises(AirflowException, match="was killed while cluster mine started"):
            execute(operator, TaskInstance("r"))
        assert not there()
        assert list(tmp_path.iterdir()) == []
        operator.on_kill()  # It has ended: nothing comes of it.
        monkeypatch.setattr(ProcessDriver, "_await_nodes", wait)
        addresses[:] = [execute(operator, TaskInstance("r"))["address"]]
        # One that ran before goes on.
        monkeypatch.setattr(ProcessDriver, "_await_nodes", killed)
        with pytest.raises(AirflowException, match="was killed"):
            execute(operator, TaskInstance("r"))
        assert there()
        assert driver._read("mine").address == addresses[0]
    finally:
        driver.stop("mine", 30)


class KilledError(Exception):
    """What the handler of a signal raises."""


@pytest.fixture
def kills() -> Iterator[None]:
    """Make SIGUSR1 raise KilledError, as Airflow does at SIGTERM."""

    def handler(*_: Any) -> None:
        raise KilledError

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def start_and_be_killed(folder: Path) -> None:
    """Start a cluster, which a signal breaks off, and look for what is left of it."""
    with pytest.raises(KilledError):
        ProcessDriver(folder=str(folder), head_options={"object-store-memory": "64MiB"}).start("slow", 5, 60)
    assert list(folder.iterdir()) == []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            assert str(folder).encode() not in path.read_bytes()


@pytest.mark.usefixtures("kills")
def test_start_that_is_killed_before_the_head_is_ready_leaves_no_process(tmp_path: Path):
    """A signal comes while `engine start` runs."""

    def tell() -> None:
        until(lambda: (tmp_path / "slow" / "head" / "engine.log").exists(), "the head starts")
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=tell)
    thread.start()
    start_and_be_killed(tmp_path)
    thread.join()


@pytest.mark.usefixtures("kills")
def test_start_that_is_killed_while_a_process_is_made_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A signal comes when a worker's `engine start` runs, and who starts it does not know its id yet."""
    make = subprocess.Popen

    def killed(program: list[str], **options: Any) -> Any:
        process = make(program, **options)
        if any("worker-1" in argument for argument in program) and "start" in program:
            os.kill(os.getpid(), signal.SIGUSR1)
        return process

    monkeypatch.setattr("engine_provider.clusters.subprocess.Popen", killed)
    start_and_be_killed(tmp_path)


def test_clusters_that_tests_have_left_are_killed(tmp_path: Path):
    small = {"num-cpus": 1, "object-store-memory": "64MiB"}
    driver = ProcessDriver(folder=str(tmp_path / "clusters"), head_options=small, worker_options=small)
    try:
        started = driver.start("left", 1, 60)
        (tmp_path / "clusters" / "left" / "ended").mkdir()
        (tmp_path / "clusters" / "left" / "ended" / "engine.pid").write_text(str(os.getpid()))  # Another process's.
        kill_clusters(tmp_path / "clusters")
        with pytest.raises(engine.UnavailableError), engine.Client(started.address, timeout=2) as client:
            client.cluster()
        until(lambda: not [one for one in (tmp_path / "clusters" / "left").iterdir() if _alive(one)], "its nodes have ended")
    finally:
        driver.stop("left", 30)


def test_cluster_of_which_nothing_is_known_is_named():
    for kind in (EngineStartClusterOperator, EngineStopClusterOperator):
        for name in (None, "None", ""):
            with DAG("d", schedule=None):
                operator = kind(task_id="t", cluster=name)
            with pytest.raises(AirflowFailException, match="renders to nothing: the XCom"):
                execute(operator, TaskInstance("r"))


def test_cluster_that_never_becomes_ready_says_why(tmp_path: Path):
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho 'waiting for a licence' >&2\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(engine.DeadlineError, match="not ready in time; it said: waiting for a licence"):
        ProcessDriver(str(program), str(tmp_path / "clusters")).start("slow", 0, 1)
    program.write_text("#!/bin/sh\necho 'no port left' >&2\nexit 1\n")
    with pytest.raises(engine.UnavailableError, match="no port left"):
        ProcessDriver(str(program), str(tmp_path / "clusters")).start("broken", 0, 10)
    with pytest.raises(engine.NotFoundError, match="no such program"):
        ProcessDriver(str(tmp_path / "nowhere"), str(tmp_path / "clusters")).start("none", 0, 10)
    with pytest.raises(engine.InvalidArgumentError, match="is no name"):
        ProcessDriver(str(program), str(tmp_path / "clusters")).start("../up", 0, 10)


def test_wrong_addresses_are_named(cluster: Engine, monkeypatch: pytest.MonkeyPatch):
    ok, said = EngineHook(address=cluster.address).test_connection()
    assert ok, said
    assert "cluster" in said
    monkeypatch.setattr("engine_provider.hooks.CALL_TIMEOUT", 3.0)
    for address, word in (
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("nowhere.invalid:10001", "nowhere.invalid"),
        (f"127.0.0.1:{cluster.web_port}", str(cluster.web_port)),
        ("127.0.0.1", "HOST:PORT"),
    ):
        ok, said = EngineHook(address=address).test_connection()
        assert not ok
        assert word in said


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"password": "engine-0123456789"}, "token"),
        ({"extra": {"tls": True}}, "perhaps the head has no TLS"),
        ({"extra": {"tls": True, "server_name": "other.example"}}, "perhaps the head has no TLS"),
    ],
)
def test_wrong_tokens_and_tls_are_named(cluster: Engine, job: Any, request: Any, monkeypatch: pytest.MonkeyPatch, field: Any, said: str):
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps({"conn_type": "engine", "host": "127.0.0.1", "port": cluster.port, **field}))
    monkeypatch.setattr("engine_provider.hooks.CALL_TIMEOUT", 5.0)
    ok, text = EngineHook("wrong").test_connection()
    assert not ok
    assert said in text
    with DAG("d", schedule=None):
        operator = EngineSubmitJobOperator(task_id="t", job=job, engine_conn_id="wrong")
    # A token does not become right by itself; a head may come back.
    with pytest.raises(AirflowException, match=said) as raised:
        execute(operator, TaskInstance(request.node.name))
    assert isinstance(raised.value, AirflowFailException) is ("password" in field)
