"""What needs neither Airflow's database nor an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import random
import time
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from types import SimpleNamespace

import engine
import jsonschema
import pytest
from airflow.sdk import DAG, Connection, TaskInstanceState
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from engine import errors, jobs

from engine_provider import faults, ids, lineage, links, secrets, specs, triggers
from engine_provider.clusters import ClusterDriver, ProcessDriver, make_driver
from engine_provider.follow import Cursor, from_dict, log_line, progress_text, to_dict
from engine_provider.get_provider_info import get_provider_info
from engine_provider.hooks import EngineHook, read_settings
from engine_provider.operators import EngineSubmitJobOperator, EngineTaskOperator
from engine_provider.operators.job import address_of
from engine_provider.triggers import EngineJobTrigger

SEED = random.randrange(1 << 32)


# Ids


def test_generation_grows_with_each_clearing_and_with_nothing_else():
    print("seed", SEED)
    chance = random.Random(SEED)
    for _ in range(300):
        retries = chance.randrange(4)
        try_number, max_tries, seen = 1, retries, [ids.generation(retries, retries, 1)]
        for _ in range(10):
            before = ids.generation(max_tries, retries, try_number)
            if chance.random() < 0.5 and try_number <= max_tries:
                try_number += 1  # A retry.
                assert ids.generation(max_tries, retries, try_number) == before
            else:
                max_tries = try_number + retries  # Airflow's own rule when a task is cleared.
                try_number += 1
                assert ids.generation(max_tries, retries, try_number) > before
                seen.append(ids.generation(max_tries, retries, try_number))
        assert seen == sorted(set(seen))
        assert seen[0] == 0


def test_submission_ids_are_what_the_engine_takes_and_differ():
    given = [
        ("airflow", "wine", "score", "manual__2026-11-27T14:00:00+00:00", -1, 0),
        ("airflow", "wine", "score", "manual__2026-11-27T14:00:00+00:00", -1, 1),
        ("airflow", "wine", "score", "manual__2026-11-27T14:00:00+00:00", 0, 0),
        ("airflow", "wine", "score", "manual__2026-11-27T14:00:00+00:00", 10, 0),
        ("airflow", "wein bär", "score", "r", -1, 0),
        ("airflow", "wein_b_r", "score", "r", -1, 0),
        ("airflow", "d", "a/b", "c", -1, 0),
        ("airflow", "d/a", "b", "c", -1, 0),
        ("airflow", "d", "t", "x@1", -1, 0),
        ("airflow", "d" * 250, "t" * 250, "r" * 250, 7, 3),
        ("airflow", "d" * 250, "t" * 250, "r" * 250, 8, 3),
        ("b", "d" * 250, "t" * 250, "r" * 250, 8, 3),
    ]
    made = [ids.submission_id(*one) for one in given]
    assert len(set(made)) == len(made)
    for text in made:
        assert 1 <= len(text) <= 200
        assert all(c.isascii() and (c.isalnum() or c in "._:/@+-") for c in text)
    assert made[0] == "airflow/wine/score/manual__2026-11-27T14:00:00+00:00@0"
    assert made[3].endswith("/10@0")
    short = [ids.submission_id(*one, max_length=192) for one in given]
    assert len(set(short)) == len(short)
    assert max(map(len, short)) == 192


@pytest.mark.parametrize(
    ("label", "submitted", "same", "before"),
    [
        ("2026-11-27T03:00:05+00:00", 5, True, False),
        (None, 1, True, False),
        ("2026-11-27T03:00:04.000067+00:00", 4, False, True),
        ("2026-11-27T05:00:04+02:00", 4, False, True),
        ("2026-11-27T03:00:04+00:00", 5, False, False),  # It goes on beside this one.
        ("2026-11-27T03:00:04+00:00", 6, False, False),
        ("2026-11-27T03:00:06+00:00", 6, False, False),
        ("2026-11-27T03:00:06+00:00", 4, False, False),
        ("2026-11-27T03:00:04+00:00", None, False, False),
        ("2026-11-27T03:00:04", 4, False, False),
        ("yesterday", 4, False, False),
    ],
)
def test_runs_are_told_apart(label, submitted, same, before):
    labels = {} if label is None else {ids.RUN_STARTED: label}
    at = None if submitted is None else datetime(2026, 11, 27, 3, 0, submitted, tzinfo=timezone.utc)
    started = "2026-11-27T03:00:05+00:00"
    assert (ids.is_same_run(labels, started), ids.is_run_before(labels, at, started)) == (same, before)
    assert ids.is_same_run(labels, "")  # Airflow does not say it.
    assert not ids.is_run_before(labels, at, "")


# Connections


def connection(**fields):
    return Connection(conn_id="c", conn_type="engine", **fields)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "head"}, "head:10001"),
        ({"host": "head", "port": 7}, "head:7"),
        ({"host": "a:1, b:2"}, "a:1,b:2"),
        ({"host": "a,b", "port": 5}, "a:5,b:5"),
        ({"host": "::1"}, "[::1]:10001"),
        ({"host": "[::1]:7"}, "[::1]:7"),
    ],
)
def test_addresses_of_connections(fields, address):
    assert read_settings(connection(**fields), "c").address == address


def test_what_a_connection_says(tmp_path):
    (tmp_path / "ca.pem").write_text("PEM")
    extra = {
        "ca": str(tmp_path / "ca.pem"),
        "key": "-----BEGIN X",
        "server_name": "h",
        "web": "http://w/",
        "namespace": "n",
        "secrets": {"a": "b"},
    }
    settings = read_settings(connection(host="head", password="t", extra=json.dumps(extra)), "c")
    assert (settings.token, settings.web, settings.namespace, settings.secrets) == ("t", "http://w", "n", {"a": "b"})
    assert settings.tls == engine.TLS(ca=b"PEM", key=b"-----BEGIN X", server_name="h")
    assert "t" not in repr(settings).replace("settings", "").replace("Settings", "").split("address")[0]
    assert "PEM" not in repr(settings)
    assert read_settings(connection(host="head"), "c").tls is None
    assert read_settings(connection(host="head", extra='{"tls": true}'), "c").tls == engine.TLS()
    assert read_settings(None, "c", "h:1").address == "h:1"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "c: it has no host"),
        ({"host": " "}, "c: it has no host"),
        ({"host": "h", "extra": '{"ca": "/no/such.pem"}'}, "ca: /no/such.pem: No such file"),
        ({"host": "h", "extra": '{"secrets": {"a": 1}}'}, "secrets in its extra"),
    ],
)
def test_bad_connections_are_named(fields, said):
    with pytest.raises(engine.InvalidArgumentError, match=said):
        read_settings(connection(**fields), "c")


def test_missing_connection_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_THERE", json.dumps({"conn_type": "engine"}))
    for conn_id, said in (("missing", "there is no Airflow connection 'missing'"), ("there", "it has no host")):
        with pytest.raises(AirflowFailException, match=said):
            EngineHook(conn_id).settings  # noqa: B018
    with pytest.raises(AirflowFailException, match="'missing'"):
        EngineHook("missing", "h:1").settings  # noqa: B018 - one that is named must be there
    assert EngineHook(address="h:1").settings.address == "h:1"


def test_token_is_not_sent_in_clear_text(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FAR", json.dumps({"conn_type": "engine", "host": "far.example.com", "password": "xyzzy"}))
    ok, said = EngineHook("far").test_connection()
    assert not ok
    assert "clear text" in said
    assert "far" in said
    assert "xyzzy" not in said


# What Airflow is told


def test_provider_info_is_what_airflow_takes():
    schema = json.loads(files("airflow").joinpath("provider.yaml.schema.json").read_text())
    info = get_provider_info()
    fields = schema["properties"]
    jsonschema.validate(info["connection-types"], {**fields["connection-types"], "definitions": schema.get("definitions", {})})
    jsonschema.validate(info, json.loads(files("airflow").joinpath("provider_info.schema.json").read_text()))
    from airflow.providers_manager import ProvidersManager
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager = ProvidersManager()
    runtime = ProvidersManagerTaskRuntime()
    hook = runtime.hooks["engine"]
    assert hook is not None
    assert (hook.hook_class_name, hook.connection_id_attribute_name) == ("engine_provider.hooks.EngineHook", "engine_conn_id")
    assert {name for name in manager.connection_form_widgets if name.startswith("extra__engine__")} == {
        f"extra__engine__{name}" for name in ("web", "namespace", "tls", "ca", "cert", "key", "server_name")
    }
    assert manager.field_behaviours["engine"]["relabeling"]["password"] == "Token"
    assert "engine_provider.links.EngineJobLink" in manager.extra_links_class_names
    assert "engine" in [name for name, _ in runtime.taskflow_decorators.items()]


# Jobs


@pytest.mark.parametrize(
    ("template", "rendered", "place"),
    [
        ("{{ x }}", "", "job"),
        ({"a": {"b": ["x", "{{ x }}"]}}, {"a": {"b": ["x", "  "]}}, "job.a.b.1"),
        ({"a": "{% if x %}{% endif %}"}, {"a": None}, "job.a"),
    ],
)
def test_template_that_renders_to_nothing_is_named(template, rendered, place):
    with pytest.raises(engine.InvalidArgumentError, match="renders to nothing") as raised:
        specs.check_rendered(template, rendered)
    assert raised.value.id == place


def test_empty_texts_of_no_template_are_taken():
    specs.check_rendered({"quote": "", "nulls": [""], "n": 1, "x": "{{ a }}"}, {"quote": "", "nulls": [""], "n": 1, "x": "y"})


def test_jobs_of_all_kinds(tmp_path):
    job = {"source": {"csv": {"paths": ["a.csv"]}}, "sink": {"parquet": {"path": "out"}}}
    pipeline = engine.read_csv("a.csv").write_parquet("out")
    (tmp_path / "job.yaml").write_text("source: {csv: {paths: [$x]}}\nsink: {parquet: {path: out}}\n")
    base = tmp_path / "base"
    of_dict, of_pipeline = (specs.load(one, base, [], str) for one in (job, pipeline))
    assert of_dict == of_pipeline
    assert list(of_dict.source.csv.paths) == [str(base / "a.csv")]
    of_file = specs.load("job.yaml", base, ["/no", str(tmp_path)], lambda text: text.replace("$x", "a.csv"))
    assert list(of_file.source.csv.paths) == [str(tmp_path / "a.csv")]
    assert specs.load(of_file, base, [], str) is not of_file
    specs.complete(of_file, name="n", labels={"airflow_dag": "d" * 300}, orphan_ttl="5m", cpu=2, memory="1GiB")
    assert (of_file.name, of_file.orphan_ttl, of_file.resources.cpu, of_file.resources.memory) == ("job", "5m", 2, "1GiB")
    assert len(of_file.labels["airflow_dag"]) == 256


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        ({}, engine.InvalidArgumentError, "empty"),
        ("", engine.InvalidArgumentError, "empty"),
        (7, engine.InvalidArgumentError, "a int is no job"),
        ("missing.yaml", engine.NotFoundError, "/some/where"),
        ({"sorce": {}}, engine.InvalidArgumentError, 'did you mean "source"'),
    ],
)
def test_bad_jobs_are_named(job, kind, said):
    with pytest.raises(kind, match=said):
        specs.load(job, "/", ["/some/where"], str)


def test_errors_fail_a_task_as_they_should():
    user = faults.failure(engine.DataError("no number", op="read csv", id="a.csv:7", hint="fix it"), "job j failed")
    assert isinstance(user, AirflowFailException)
    assert str(user) == "job j failed: read csv: a.csv:7: no number (fix it) [data]"
    ours = faults.failure(engine.UnavailableError("gone"))
    assert isinstance(ours, AirflowException)
    assert not isinstance(ours, AirflowFailException)
    for cls in errors._CLASSES.values():
        error = cls("m", op="o", id="i", hint="h")
        again = faults.from_dict(json.loads(json.dumps(faults.to_dict(error))))
        assert (type(again), str(again)) == (type(error), str(error))
    assert faults.from_dict(None) is None


# Logs


def line(sequence, time, level="INFO"):
    return jobs.LogLine(sequence, time, level, "head", f"line {sequence}", {"k": "v"})


def test_lines_read_again_are_equal_and_in_order():
    class Log(list):
        def info(self, text, **more):
            self.append((text, more))

        debug = warning = error = info

    now = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
    # Clocks of several nodes differ, and some lines share a millisecond.
    lines = [line(i, now + timedelta(milliseconds=d)) for i, d in enumerate([5, 5, 5, 3, 40, 39, 41], 1)]
    first, second = Log(), Log()
    cursor = Cursor()
    for one in lines[:4]:
        log_line(first, one, cursor)
    begin = Cursor(**json.loads(json.dumps({"sequence": 0, "millis": 0})))
    for one in lines:
        log_line(second, one, begin)
    assert second[:4] == first
    stamps = [more["timestamp"] for _, more in second]
    assert stamps == sorted(set(stamps))
    assert begin.sequence == 7
    assert second[0][0] == "line 1 k=v"


def test_progress_in_words():
    status = jobs.JobStatus("j", "", "", "PENDING", "no node has 4 cores", None, jobs.Progress(), None, None, None)
    assert progress_text(status) == "PENDING: no node has 4 cores"
    progress = jobs.Progress(tasks_total=4, tasks_done=1, tasks_running=2, rows_read=1200, rows_written=900)
    status = jobs.JobStatus("j", "", "", "RUNNING", "", None, progress, None, None, None)
    assert progress_text(status) == "RUNNING: 25%, 1,200 rows read, 900 written, 1 of 4 tasks done, 2 running"


def test_results_travel_by_an_event():
    result = jobs.JobResult("j", "FAILED", rows_read=3, outputs=("a", "b"), error=engine.DataError("m", id="x"))
    event = json.loads(json.dumps(to_dict(result)))
    assert event["outputs_total"] == 2
    again = from_dict(event)
    assert (again.job_id, again.rows_read, again.outputs, str(again.error)) == ("j", 3, ("a", "b"), "x: m")


def test_trigger_is_made_again_of_what_it_serializes():
    trigger = EngineJobTrigger(engine_conn_id="c", job_id="j", cursor={"sequence": 3, "millis": 4}, deadline=1.5, stop_on_kill=False)
    path, kwargs = trigger.serialize()
    assert path == "engine_provider.triggers.EngineJobTrigger"
    again = EngineJobTrigger(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == trigger.serialize()
    assert again.cursor == Cursor(3, 4)


class Job:
    """A job that takes its time to be stopped."""

    def __init__(self, pause=0.0):
        self.pause = pause
        self.stopped = 0

    def trigger(self, monkeypatch, **more):
        @contextlib.asynccontextmanager
        async def client():
            yield SimpleNamespace(job=lambda _: self)

        trigger = EngineJobTrigger(engine_conn_id="c", job_id="j", **more)
        trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="g.t", map_index=-1)

        async def connect():
            return client()

        monkeypatch.setattr(trigger._hook, "get_async_conn", connect)
        return trigger

    async def stop(self):
        await asyncio.sleep(self.pause)
        self.stopped += 1
        return SimpleNamespace(state="STOPPED")


def airflow_says(monkeypatch, answer):
    def ask(**asked):
        if isinstance(answer, Exception):
            raise answer
        assert (asked["dag_id"], asked["task_ids"], asked["run_ids"]) == ("d", ["g.t"], ["r"])
        return answer

    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", ask)


@pytest.mark.parametrize(
    ("answer", "map_index", "stopped"),
    [
        ({"r": {"g.t": "deferred"}}, -1, 0),
        ({"r": {"g.t": TaskInstanceState.DEFERRED}}, None, 0),
        ({"r": {"g.t_3": "deferred", "g.t_4": "failed"}}, 3, 0),
        ({"r": {"g.t_3": "deferred", "g.t_4": "failed"}}, 4, 1),
        ({"r": {"g.t": "failed"}}, -1, 1),
        ({"r": {"g.t": None}}, -1, 1),
        ({}, -1, 1),
        (RuntimeError("the API is away"), -1, 1),
    ],
)
def test_kill_spares_the_job_of_a_task_that_is_still_deferred(monkeypatch, answer, map_index, stopped):
    airflow_says(monkeypatch, answer)
    job = Job()
    trigger = job.trigger(monkeypatch)
    trigger.task_instance.map_index = map_index
    asyncio.run(trigger.on_kill())
    assert job.stopped == stopped


def test_kill_goes_on_when_it_is_cancelled(monkeypatch):
    airflow_says(monkeypatch, {"r": {"g.t": "failed"}})
    job = Job(pause=0.2)
    trigger = job.trigger(monkeypatch)

    async def main():
        killing = asyncio.create_task(trigger.on_kill())
        for _ in range(3):
            await asyncio.sleep(0.01)
            killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        assert job.stopped == 0
        (kill,) = triggers._KILLS
        await kill
        assert job.stopped == 1
        await asyncio.sleep(0)
        assert not triggers._KILLS

    asyncio.run(main())


@pytest.mark.parametrize(
    ("hook", "answer", "stopped"),
    [
        (False, {"r": {"g.t": "failed"}}, 1),
        (False, {"r": {"g.t": "success"}}, 1),
        (False, {"r": {"g.t": "skipped"}}, 1),
        (False, {"r": {"g.t": "removed"}}, 1),
        (False, {"r": {"g.t": None}}, 1),  # Cleared.
        (False, {"r": {"g.t": "deferred"}}, 0),  # A triggerer that ends.
        *((False, {"r": {"g.t": state}}, 0) for state in ("scheduled", "queued", "running", "restarting", "up_for_retry")),
        (False, {"r": {"g.t": "up_for_reschedule"}}, 0),
        (False, {"r": {}}, 0),
        (False, RuntimeError("the API is away"), 0),
        (True, {"r": {"g.t": "failed"}}, 0),  # That is what the hook is for.
    ],
)
def test_cancellation_stops_the_job_where_airflow_has_no_hook(monkeypatch, hook, answer, stopped):
    airflow_says(monkeypatch, answer)
    monkeypatch.setattr(triggers, "_HAS_KILL_HOOK", hook)
    job = Job()
    trigger = job.trigger(monkeypatch)

    async def main():
        following = asyncio.Event()

        async def follow(client):
            following.set()
            await asyncio.sleep(3600)

        async def run():
            async for _ in trigger.run():
                pass

        monkeypatch.setattr(trigger, "_follow", follow)
        running = asyncio.create_task(run())
        await following.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.gather(*triggers._KILLS)

    asyncio.run(main())
    assert job.stopped == stopped


def test_deadline_of_a_call_is_not_that_of_the_task(monkeypatch):
    job = Job()
    trigger = job.trigger(monkeypatch, deadline=time.time() + 600)

    async def fail(client):
        raise engine.DeadlineError("the head is slow")

    monkeypatch.setattr(trigger, "_follow", fail)

    async def first():
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(first())
    assert event["error"]["kind"] == "deadline"
    assert job.stopped == 0


# Links, lineage, secrets, drivers


@pytest.mark.parametrize(
    ("web", "address", "url"),
    [
        ("http://127.0.0.1:8265", "127.0.0.1:10001", "http://127.0.0.1:8265/jobs/j"),
        ("http://0.0.0.0:8265", "head:10001,b:1", "http://head:8265/jobs/j"),
        ("http://[::]:8265", "head:10001", "http://head:8265/jobs/j"),
        ("https://engine.example.com/x/", "head:1", "https://engine.example.com/x/jobs/j"),
        ("", "head:1", ""),
    ],
)
def test_links(web, address, url):
    assert links.job_url(web, address, "j") == url


def test_assets_of_jobs():
    job = {
        "source": {"csv": {"paths": ["/d/a.csv", "/d/*/b.csv", "rel/c.csv", "s3://b/k/*.csv", "{{ x }}", "/d ä/x.csv", "file:///u/v.csv"]}},
        "sinks": {
            "train": {"parquet": {"path": "out/train"}},
            "rest": {"postgres": {"url": "postgres://u@h/db?sslmode=x", "table": "t"}},
            "objects": {"object": {"name": "n"}},
        },
    }
    inputs, outputs = lineage.assets_of(job, "/base")
    assert [asset.uri for asset in inputs] == [
        "file:///d/a.csv",
        "file:///d",
        "file:///base/rel/c.csv",
        "s3://b/k",
        "file:///d%20%C3%A4/x.csv",
        "file:///u/v.csv",
    ]
    assert [asset.uri for asset in outputs] == ["file:///base/out/train", "postgres://h:5432/db/public/t"]
    assert [a.uri for a in lineage.assets_of(job)[1]] == ["postgres://h:5432/db/public/t"]


def test_operator_takes_lineage_of_what_is_known():
    with DAG("d", schedule=None):
        task = EngineSubmitJobOperator(task_id="t", job=engine.read_csv("/in/{{ ds }}.csv", "/in/all.csv").write_parquet("/out"))
        off = EngineSubmitJobOperator(task_id="u", job=engine.read_csv("/in/all.csv").write_parquet("/out"), lineage=False)
    assert [a.uri for a in task.inlets] == ["file:///in/all.csv"]
    assert [a.uri for a in task.outlets] == ["file:///out"]
    assert off.inlets == []
    assert off.outlets == []
    assert task.job["source"]["csv"]["paths"][0] == "/in/{{ ds }}.csv"
    assert set(task.template_fields) <= set(vars(task))


def test_secrets_come_from_connections_and_variables(monkeypatch):
    uri = {"conn_type": "postgres", "login": "me", "password": "p.w", "extra": json.dumps({"token": "tok", "n": 1})}
    monkeypatch.setenv("AIRFLOW_CONN_WARE_HOUSE", json.dumps(uri))
    monkeypatch.setenv("AIRFLOW_VAR_KEY", "var")
    assert secrets.read("s", "connection:ware_house.password") == "p.w"
    assert secrets.read("s", "connection:ware_house.extra.token") == "tok"
    assert secrets.read("s", "variable:key") == "var"
    for source, said in (
        ("nothing", "does not say where"),
        ("connection:ware_house", "does not say where"),
        ("connection:ware_house.nope", "names no field"),
        ("connection:ware_house.extra.n", "has no text extra.n"),
        ("connection:ware_house.host", "has no text host|is empty"),
        ("connection:none.password", "there is no Airflow connection 'none'"),
        ("variable:none", "there is no Airflow variable 'none'"),
    ):
        with pytest.raises(engine.EngineError, match=said) as raised:
            secrets.read("s", source)
        assert raised.value.id == "secrets.s"
    job = {"source": {"postgres": {"url": "postgres://u@h/d", "table": "t", "password": "${secret:pg}"}}, "sink": {"csv": {"path": "/o"}}}
    spec = specs.load(job, "/", [], str)
    assert secrets.resolve(spec, {"pg": "variable:key"}, {"pg": "default"}) == {"pg": b"var"}
    assert secrets.resolve(spec, {}, {"pg": "default", "more": "x"}) == {"pg": b"default"}
    with pytest.raises(engine.InvalidArgumentError, match=r"the job has no \$\{secret:other\}: it names pg"):
        secrets.resolve(spec, {"pg": "variable:key", "other": "variable:key"}, {})
    with pytest.raises(engine.InvalidArgumentError, match="pg"):
        secrets.resolve(spec, {}, {})


def test_object_that_is_lost_is_made_again():
    class Client:
        def lookup(self, name):
            return name

        def wait(self, refs, timeout):
            if "lost.1" in refs:
                raise engine.DeadlineError("1 of 2 are there")
            return refs

    with DAG("d", schedule=None):
        task = EngineTaskOperator(task_id="t", operator="echo", outputs=2)
    assert task._made(Client(), "there", 2) == ["there.0", "there.1"]
    assert task._made(Client(), "lost", 2) is None


def test_drivers_by_name_and_path():
    assert isinstance(make_driver("process", {"binary": "x"}), ProcessDriver)
    assert isinstance(make_driver("engine_provider.clusters.ProcessDriver"), ClusterDriver)
    for driver, options in (("kubernetes", {}), ("os.path", {}), ("no.such", {}), ("process", {"nope": 1})):
        with pytest.raises(engine.InvalidArgumentError):
            make_driver(driver, options)


def test_addresses_of_clusters():
    assert address_of({"address": "a:1", "name": "n"}) == "a:1"
    assert address_of("a:1") == "a:1"
    assert address_of({}) is None
    assert address_of("") is None


def test_operator_is_pickled_with_its_policy():
    with DAG("d", schedule=None):
        task = EngineSubmitJobOperator(task_id="t", job={"x": 1}, retry_policy="attach")
        mapped = EngineSubmitJobOperator.partial(task_id="m", retry_policy="restart").expand(job=[{"x": 1}])
    assert task.job_retry_policy == "attach"
    assert task.retry_policy is None  # Airflow's own argument of this name.
    assert mapped.partial_kwargs["retry_policy"] == "restart"
    assert pickle.loads(pickle.dumps(task.job)) == {"x": 1}
