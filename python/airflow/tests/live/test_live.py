"""DAGs through Airflow's scheduler, with a real engine, while processes die."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING

import engine
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import until
from world import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engines import Engine, Processes
    from world import Airflow, Run

pytestmark = pytest.mark.live


def rows(folder: Path) -> int:
    return pq.read_table(folder).num_rows


def job_lines(run: Run, attempt: int | None = None) -> list[int]:
    """Return the numbers of the job's lines that Airflow shows, in its order."""
    return [line["line"] for line in run.log(attempt=attempt) if "line" in line]


def test_success(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    run = airflow.trigger("sync", input=str(numbers), out=str(tmp_path / "out"))
    run.wait("success")
    (job,) = cluster.jobs(run.id)
    result = run.xcom()
    assert (result["state"], result["rows_written"], result["job_id"]) == ("SUCCEEDED", 1000, job.job_id)
    assert job.submission_id == result["submission_id"]
    assert job.submission_id.endswith("@0")
    assert rows(tmp_path / "out") == 1000
    assert job_lines(run) == [line.sequence for line in cluster.log(job.job_id)]
    link = run.links()["Engine job"]
    page = urllib.request.urlopen(link, timeout=30).read().decode()
    assert job.job_id in page
    assert "SUCCEEDED" in page
    assert "1000" in page
    assert f"its page is {link}" in run.text()
    events = airflow.api("GET", f"/assets/events?source_dag_id=sync&source_run_id={urllib.request.quote(run.id, safe='')}")
    (event,) = events["asset_events"]
    assert event["uri"] == f"file://{tmp_path / 'out'}"
    assert event["extra"]["engine_job"] == job.job_id
    # A task that ended is cleared: a new generation has a new job, which replaces the output.
    run.ended()  # The scheduler may be about to end the run, and would end it in spite of what is cleared now.
    tries = run.instance()["try_number"]
    run.clear()
    until(lambda: len(cluster.jobs(run.id)) == 2, "clearing makes a new job")
    run.wait("success")
    ids = [one.submission_id for one in cluster.jobs(run.id)]
    assert ids == [job.submission_id, job.submission_id.removesuffix("0") + str(tries)]
    assert rows(tmp_path / "out") == 1000


def test_fault_of_the_user_fails_without_a_retry(airflow: Airflow, cluster: Engine, tmp_path: Path):
    broken = tmp_path / "broken.csv"
    broken.write_text("a,b\n1,2\n2,x\n")
    run = airflow.trigger("deferred", input=str(broken), out=str(tmp_path / "out"))
    assert run.wait("failed", "up_for_retry")["state"] == "failed"
    assert run.instance()["try_number"] == 1
    said = [line for line in run.log() if line.get("error_detail") or line.get("level") in ("error", "critical")]
    error = str(said[-1].get("error_detail") or said[-1]["event"])
    assert all(part in error for part in ("broken.csv:3", "[data]", "AirflowFailException")), error
    (job,) = cluster.jobs(run.id)
    assert (job.state, job.error.kind) == ("FAILED", "data")


def test_bad_input_names_what_is_wrong(airflow: Airflow, numbers: Path, tmp_path: Path):
    empty = airflow.trigger("once", input="", out=str(tmp_path / "out"))
    missing = airflow.trigger("once", input=str(tmp_path / "missing.csv"), out=str(tmp_path / "out2"))
    empty.wait("failed")
    assert "job.source.csv.paths.0" in empty.text()
    assert "renders to nothing" in empty.text()
    missing.wait("failed")
    assert "missing.csv" in missing.text()
    assert "[not_found]" in missing.text()


def test_retry_attaches_after_the_task_was_killed(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    run = airflow.trigger("sync", input=str(numbers), out=str(tmp_path / "out"), gate="attach")
    until(lambda: cluster.jobs(run.id), "the job is submitted")
    os.kill(run.wait("running")["pid"], signal.SIGKILL)
    until(lambda: run.instance()["try_number"] == 2 and run.state() == "running", "the second try runs")
    until(lambda: "is attached to" in run.text(attempt=2), "the second try attaches")
    cluster.start_worker("attach")
    run.wait("success")
    (job,) = cluster.jobs(run.id)  # Exactly one.
    assert (job.state, job.resumptions) == ("SUCCEEDED", 0)
    assert rows(tmp_path / "out") == 1000
    assert job_lines(run, 2) == [line.sequence for line in cluster.log(job.job_id)]
    cluster.kill_worker("attach")


def test_triggerer_dies_and_the_log_is_whole(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    run = airflow.trigger("deferred", input=str(numbers), out=str(tmp_path / "out"), gate="triggerer")
    run.wait("deferred")
    (job,) = until(lambda: cluster.jobs(run.id), "the job is submitted")
    until(lambda: job_lines(run), "the first triggerer has written lines")
    airflow.kill("triggerer")
    airflow.start("triggerer")
    cluster.start_worker("triggerer")
    run.wait("success")
    assert len(cluster.jobs(run.id)) == 1
    assert run.instance()["try_number"] == 1
    # Each line once, and in order, although two triggerers have written the first ones.
    assert job_lines(run) == [line.sequence for line in cluster.log(job.job_id)]
    folder = airflow.home / "logs" / "dag_id=deferred" / f"run_id={run.id}" / "task_id=run"
    assert len([path for path in folder.iterdir() if ".trigger." in path.name]) == 2
    assert rows(tmp_path / "out") == 1000
    cluster.kill_worker("triggerer")


def test_mark_failed_and_clear_while_deferred(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    marked = airflow.trigger("deferred", input=str(numbers), out=str(tmp_path / "marked"), gate="never")
    cleared = airflow.trigger("deferred", input=str(numbers), out=str(tmp_path / "cleared"), gate="never")
    for run in (marked, cleared):
        run.wait("deferred")
        until(lambda run=run: job_lines(run), "the trigger follows the job")
    marked.mark("failed")
    job = until(lambda: (found := cluster.jobs(marked.id)[0]).state == "STOPPED" and found, "the job is stopped", 60)
    # By both sides' own records: what asking for them takes does not count.
    ended = datetime.fromisoformat(marked.instance()["end_date"].replace("Z", "+00:00"))
    took = (job.end_time - ended).total_seconds()
    print(f"marked failed while deferred: the job ended {took:.1f} s after Airflow had recorded it")
    assert took < 10
    cleared.clear()
    (new,) = until(lambda: [j for j in cluster.jobs(cleared.id) if not j.submission_id.endswith("@0")], "a new generation begins")
    assert new.state == "PENDING"
    assert len(cluster.jobs(cleared.id)) == 1  # The job before was stopped, and as it had not succeeded it is forgotten.
    until(lambda: cleared.state() == "deferred" and job_lines(cleared), "the trigger follows the new job")
    cleared.mark("failed")
    until(lambda: cluster.jobs(cleared.id)[-1].state == "STOPPED", "the second job is stopped", 60)


def test_kill_of_the_running_task_stops_the_job(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    run = airflow.trigger("once", input=str(numbers), out=str(tmp_path / "out"), gate="never")
    run.wait("running")
    until(lambda: cluster.jobs(run.id) and job_lines(run), "the task follows the job")
    run.mark("failed")
    until(lambda: cluster.jobs(run.id)[0].state == "STOPPED", "the job is stopped", 60)
    assert cluster.jobs(run.id)[0].error is None


def test_orphan_is_stopped(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    run = airflow.trigger("once", input=str(numbers), out=str(tmp_path / "out"), gate="never", orphan_ttl="2s")
    until(lambda: cluster.jobs(run.id) and job_lines(run), "the task follows the job")
    os.kill(run.wait("running")["pid"], signal.SIGKILL)
    job = until(lambda: (found := cluster.jobs(run.id)[0]).ended and found, "nobody follows the job, so it is stopped")
    assert job.state == "STOPPED"
    assert "nobody has followed it" in str(job.error)
    assert run.wait("failed")


def test_engine_dies_in_the_middle(airflow: Airflow, cluster: Engine, tmp_path: Path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for i in range(40):
        (inputs / f"{i:02}.csv").write_text("a,b\n" + "".join(f"{j},{i}\n" for j in range(20_000)))
    cluster.start_worker("dies")
    run = airflow.trigger("deferred", input=str(inputs), out=str(tmp_path / "out"), gate="dies")
    until(lambda: (jobs := cluster.jobs(run.id)) and 0 < jobs[0].progress.tasks_done < 40, "the job is in its middle")
    cluster.kill_worker("dies")
    cluster.kill_head()
    cluster.start_head()
    (job,) = cluster.jobs(run.id)
    assert not job.ended
    cluster.start_worker("dies")
    run.wait("success")
    (job,) = cluster.jobs(run.id)
    table = pq.read_table(tmp_path / "out").to_pydict()
    assert sorted(zip(table["b"], table["a"], strict=True)) == [(i, j) for i in range(40) for j in range(20_000)]
    assert run.xcom()["rows_written"] == 800_000
    assert run.instance()["try_number"] == 1
    shown = job_lines(run)
    assert shown == sorted(set(shown))
    assert set(shown) == {line.sequence for line in cluster.log(job.job_id)}
    cluster.kill_worker("dies")


def test_scheduler_and_its_workers_die(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    waits = airflow.trigger("deferred", input=str(numbers), out=str(tmp_path / "deferred"), gate="scheduler")
    runs = airflow.trigger("sync", input=str(numbers), out=str(tmp_path / "sync"), gate="scheduler")
    waits.wait("deferred")
    runs.wait("running")
    until(lambda: job_lines(runs), "the task follows its job")
    airflow.kill("scheduler")  # With it go the workers of a LocalExecutor, and the tasks that they run.
    airflow.start("scheduler")
    cluster.start_worker("scheduler")
    for run in (waits, runs):
        run.wait("success")
        (job,) = cluster.jobs(run.id)
        assert (job.state, job.resumptions) == ("SUCCEEDED", 0)
        assert rows(tmp_path / run.dag) == 1000
    cluster.kill_worker("scheduler")


def test_decorator_sensor_file_and_clusters(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    with engine.Client(cluster.address) as client:
        ref = client.put(pa.table({"x": [1, 2, 3]}))
        clusters = airflow.trigger("cluster", cluster="mine", input=str(numbers), out=str(tmp_path / "cluster"), ref=str(ref))
        decorated = airflow.trigger("decorated", input=str(numbers), out=str(tmp_path / "decorated"))
        file = airflow.trigger("file", input=str(numbers), out=str(tmp_path / "file"))
        sensor = airflow.trigger("sensor", job=f"airflow/file/run/{file.id}@0")
        assert decorated.ended() == "success", decorated.text("score")
        assert {rows(tmp_path / "decorated" / name) for name in ("10", "20")} == {10, 20}
        assert sorted(job.labels["airflow_map_index"] for job in cluster.jobs(decorated.id)) == ["0", "1"]
        assert sensor.ended() == "success", sensor.text("wait")
        assert sensor.xcom(task="wait")["rows_written"] == rows(tmp_path / "file") == 1000
        assert [job.name for job in cluster.jobs(file.id)] == ["from-a-file"]
        assert clusters.ended() == "success", "\n".join(clusters.text(task) for task in ("start", "scale", "run", "echo", "stop"))
        assert rows(tmp_path / "cluster") == 1000
        started = clusters.xcom(task="start")
        assert clusters.xcom()["address"] == started["address"] != cluster.address
        assert clusters.xcom(task="scale")["workers"] == 1
        assert client.get(clusters.xcom(task="echo")).to_pydict() == {"x": [1, 2, 3]}
        with pytest.raises(engine.UnavailableError), engine.Client(started["address"], timeout=3) as gone:
            gone.cluster()


def test_secret_is_nowhere(airflow: Airflow, cluster: Engine, processes: Processes, tmp_path: Path):
    run = airflow.trigger("secret", out=str(tmp_path / "out"))
    other = airflow.trigger("no_secret", out=str(tmp_path / "out2"))
    run.wait("failed", "success")
    other.wait("failed", "success")
    # The secret was handed over: it is the server that cannot be reached. What the spec names is known, and what it is is not.
    (job,) = cluster.jobs(run.id)
    assert "127.0.0.1:1" in str(job.error), job
    with engine.Client(cluster.address) as client:
        assert "${secret:key}" in str(client.job(job.job_id).status().spec)
    assert "connection 'nothing'" in other.text()
    assert "secrets.key" in other.text()
    found = [path for path in processes.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not found
    answers = [run.text(), json.dumps(run.instance()), json.dumps(run.links()), json.dumps(run.xcom("engine_job"))]
    assert not [answer for answer in answers if SECRET in answer]
    assert (processes.folder / "airflow" / "airflow.db").is_file()


def test_run_that_is_deleted_and_made_again_runs_again(airflow: Airflow, cluster: Engine, numbers: Path, tmp_path: Path):
    """It has the same id, and so have its submissions: the job of the run before is not taken for its own."""
    fields = {"id": "again", "input": str(numbers), "out": str(tmp_path / "out")}
    run = airflow.trigger("sync", **fields)
    run.wait("success")
    run.ended()
    (first,) = cluster.jobs(run.id)
    run.delete()
    airflow.trigger("sync", **fields).wait("success")
    (second,) = cluster.jobs(run.id)
    assert second.submission_id == first.submission_id
    assert second.job_id != first.job_id
    assert rows(tmp_path / "out") == 1000


def test_dag_test(alone: Callable[[], int], processes: Processes):
    code = alone()
    said = (processes.folder / "dag-test.log").read_text()
    assert code == 0, said[-8000:]
    assert "job planned" in said
    assert rows(processes.folder / "alone") == 1000
