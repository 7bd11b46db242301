"""Jobs at a real head."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from conftest import until

import engine
from engine import jobs


def job(path, out, **more):
    return {"name": "test", "source": {"csv": {"paths": [str(path)]}}, "sink": {"parquet": {"path": str(out), **more}}}


def test_submit_and_wait(client, numbers, tmp_path):
    handle = client.submit(job(numbers, tmp_path / "out"))
    result = handle.wait(timeout=30)
    assert result.state == "SUCCEEDED"
    assert (result.rows_read, result.rows_written, result.error) == (1000, 1000, None)
    assert result.raise_for_state() is result
    assert pq.read_table(list(result.outputs)).column("b").to_pylist() == [2 * i for i in range(1000)]
    status = handle.status()
    assert (status.job_id, status.name, status.state, status.ended) == (handle.id, "test", "SUCCEEDED", True)
    assert status.progress.fraction > 0.99
    assert status.submit_time <= status.start_time <= status.end_time
    assert status.spec["source"] == {"csv": {"paths": [str(numbers)]}}
    assert handle.id in [one.job_id for one in client.jobs(states=["SUCCEEDED"])]
    assert [one.state for one in handle.watch()][-1] == "SUCCEEDED"
    handle.forget()
    with pytest.raises(engine.NotFoundError) as raised:
        handle.status()
    assert handle.id in str(raised.value)


def test_paths_are_relative_to_the_file(client, numbers, tmp_path):
    file = tmp_path / "wine.yaml"
    file.write_text("source:\n  csv: {paths: [numbers.csv]}\nsink:\n  csv: {path: out}\n")
    handle = client.submit(file)
    assert handle.result(timeout=30).rows_written == 1000
    assert handle.status().name == "wine"
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_logs_are_whole_and_in_order(client, numbers, tmp_path):
    began = time.perf_counter()
    handle = client.submit(job(numbers, tmp_path / "out"))
    lines = []
    for line in handle.logs(follow=True, timeout=30):
        if not lines:
            print(f"submit to first log line: {(time.perf_counter() - began) * 1e3:.1f} ms (goal 100 ms)")
        lines.append(line)
    sequences = [line.sequence for line in lines]
    assert sequences == sorted(set(sequences))
    assert lines[0].message == "job accepted"
    assert lines[-1].message == "job succeeded"
    assert list(handle.logs()) == lines
    # A cursor goes on where it stood, with no line twice and none left out.
    assert list(handle.logs(follow=True, after=lines[1].sequence)) == lines[2:]
    assert "job accepted" in str(lines[0])


def test_failure_is_the_engines_error(client, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n1,2\n3,4,5\n")
    handle = client.submit(job(path, tmp_path / "out"))
    result = handle.wait(timeout=30)
    assert (result.state, type(result.error)) == ("FAILED", engine.DataError)
    assert "bad.csv:3" in str(result.error)
    assert not result.error.retryable
    with pytest.raises(engine.DataError, match=r"bad\.csv:3"):
        handle.result()
    assert isinstance(handle.status().error, engine.DataError)


def test_resume_goes_on(client, tmp_path):
    path = tmp_path / "late.csv"
    handle = client.submit(job(path, tmp_path / "out"))
    with pytest.raises(engine.NotFoundError, match=r"late\.csv"):
        handle.result(timeout=30)
    path.write_text("a\n1\n")
    assert handle.resume().resumptions == 1
    assert handle.result(timeout=30).rows_written == 1
    with pytest.raises(engine.ConflictError):
        handle.resume()


def test_submission_id_attaches(client, numbers, tmp_path):
    spec = job(numbers, tmp_path / "out", mode="overwrite")
    first = client.submit(spec, "nightly-1")
    again = client.submit(spec, submission_id="nightly-1")
    assert (first.attached, again.attached, again.id) == (False, True, first.id)
    assert client.job("nightly-1").wait(30).job_id == first.id
    with pytest.raises(engine.ConflictError):
        client.submit(job(numbers, tmp_path / "other"), submission_id="nightly-1")
    for bad in ("", "a b", "x" * 201):
        with pytest.raises(engine.InvalidArgumentError):
            client.submit(spec, submission_id=bad)


def test_stop_and_deadlines(client, numbers, tmp_path):
    spec = {**job(numbers, tmp_path / "out"), "resources": {"custom": {"nowhere": 1}}}
    handle = client.submit(spec)
    with pytest.raises(engine.DeadlineError, match=handle.id):
        handle.wait(timeout=0.05)
    with pytest.raises(TimeoutError):
        list(handle.logs(follow=True, timeout=0.05))
    assert handle.stop().state == "STOPPED"
    assert handle.wait(timeout=30).state == "STOPPED"
    with pytest.raises(engine.StoppedError):
        handle.result()


def test_job_that_nobody_follows_is_stopped(client, numbers, tmp_path):
    spec = {**job(numbers, tmp_path / "out"), "resources": {"custom": {"nowhere": 1}}, "orphan_ttl": "50ms"}
    handle = client.submit(spec)
    until(lambda: handle.status().ended, "the job is stopped")  # To ask for its state is not to follow it.
    result = handle.wait(timeout=30)
    assert result.state == "STOPPED"
    with pytest.raises(engine.StoppedError, match="nobody has followed it"):
        result.raise_for_state()
    assert handle.status().error.kind == "stopped"


def test_job_of_a_text():
    text = "source: {csv: {paths: [a.csv]}}\nsink: {postgres: {url: 'postgres://u@h/d', table: t, password: '${secret:pg}'}}\n"
    spec = jobs.parse(text, name="nightly.yaml", base="/data")
    assert (spec.name, list(spec.source.csv.paths)) == ("nightly", ["/data/a.csv"])
    assert jobs.secret_names(spec) == ["pg"]
    assert jobs.secrets_of(spec, {"pg": "xyz", "other": "abc"}) == {"pg": b"xyz"}
    with pytest.raises(engine.InvalidArgumentError, match="pg"):
        jobs.secrets_of(spec)
    with pytest.raises(engine.InvalidArgumentError, match=r'nightly.yaml:1:16: unknown field "pahts".*paths'):
        jobs.parse("source: {csv: {pahts: [a.csv]}}", name="nightly.yaml")


def test_output_with_data_is_a_conflict(client, numbers, tmp_path):
    client.submit(job(numbers, tmp_path / "out")).result(timeout=30)
    with pytest.raises(engine.ConflictError) as raised:
        client.submit(job(numbers, tmp_path / "out")).result(timeout=30)
    assert str(tmp_path / "out") in str(raised.value)


def test_addresses_that_are_wrong_are_named(head):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    web = head.web.removeprefix("http://")
    for address in (nobody, web, "no-such-host.invalid:10001"):
        with engine.Client(address) as wrong, pytest.raises(engine.UnavailableError) as raised:
            wrong.jobs()
        assert raised.value.id == address
        assert raised.value.hint
    for address in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ","):
        with pytest.raises(engine.InvalidArgumentError, match="connect"):
            engine.Client(address)


def test_another_tls_is_named(head):
    with engine.Client(head.address, tls=engine.TLS()) as wrong, pytest.raises(engine.UnavailableError, match="TLS"):
        wrong.jobs()


def test_one_address_of_several_is_enough(head):
    with engine.Client(f"127.0.0.1:1,{head.address}") as one:
        assert one.cluster()["nodes_alive"] == 1
    assert one.address.endswith(head.address)


def test_address_of_the_environment(head, monkeypatch):
    monkeypatch.setenv("ENGINE_ADDRESS", head.address)
    with engine.Client() as one:
        assert one.cluster()["cluster_id"] == one.cluster_id()


def test_closed_client_says_so(head):
    one = engine.Client(head.address)
    one.jobs()
    one.close()
    one.close()
    for use in (one.jobs, lambda: one.put(None), lambda: one.run_task("noop")):
        with pytest.raises(engine.EngineError):
            use()


def test_a_head_that_is_killed_is_followed(start_head, tmp_path):
    """The log is whole and the job succeeds though the head was killed in the middle and came back."""
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.csv")
        paths[-1].write_text("a,b\n" + "".join(f"{n},{n}.5\n" for n in range(20_000)))
    first = start_head()
    port = int(first.address.rpartition(":")[2])
    with engine.Client(first.address) as client:
        spec = {
            "source": {"csv": {"paths": [str(p) for p in paths]}},
            "sink": {"parquet": {"path": str(tmp_path / "out")}},
            "resources": {"custom": {"later": 1}},
        }
        handle = client.submit(spec)
        lines = []
        for line in handle.logs(follow=True, timeout=60):
            lines.append(line)
            if len(lines) == 2:
                first.kill()
                start_head(port=port, more=("--resources", '{"later": 1}'))
        result = handle.result(timeout=60)
    assert result.rows_written == 120_000
    sequences = [line.sequence for line in lines]
    assert sequences == sorted(set(sequences))
    assert lines[-1].message == "job succeeded"


def test_progress_in_lines(client, numbers, tmp_path, capsys):
    assert client.submit(job(numbers, tmp_path / "out")).wait(progress=True).state == "SUCCEEDED"
    assert "SUCCEEDED, 1,000 rows written" in capsys.readouterr().err


def test_progress_bar(client, numbers, tmp_path, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    assert client.submit(job(numbers, tmp_path / "out")).result(progress=True).rows_written == 1000
    assert "100%" in capsys.readouterr().err


def test_progress_in_a_notebook(client, numbers, tmp_path, monkeypatch):
    """What a kernel is asked to show: one output, which is changed in place."""
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(("update", data)))

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append(("display", data))
        return handle

    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    handle_of_job = client.submit({**job(numbers, tmp_path / "out"), "name": "<a & b>"})
    assert handle_of_job.wait(progress=True).state == "SUCCEEDED"
    assert [how for how, _ in shown] == ["display"] + ["update"] * (len(shown) - 1)
    last = shown[-1][1]
    assert "&lt;a &amp; b&gt;" in last["text/html"]
    assert 'value="1.0000"' in last["text/html"]
    assert last["text/plain"].endswith("SUCCEEDED  100%  1,000 rows")


def test_what_is_no_job(client):
    with pytest.raises(engine.InvalidArgumentError, match="int is no job"):
        client.submit(3)
    with pytest.raises(engine.NotFoundError, match=r"gone\.yaml"):
        client.submit("gone.yaml")
    with pytest.raises(engine.InvalidArgumentError, match="no state 'DONE'"):
        client.jobs(states=["DONE"])


def test_a_token_says_who_calls(head, binary, tmp_path, monkeypatch):
    path = tmp_path / "token"
    make = [binary, "token", "create", "python", "--role", "viewer", "--address", head.address, "--file", str(path)]
    subprocess.run(make, check=True, capture_output=True)
    text = path.read_text().strip()
    spec = {"source": {"csv": {"paths": ["/a.csv"]}}, "sink": {"parquet": {"path": "/b"}}}
    with engine.Client(head.address, token=text) as viewer:
        viewer.jobs()
        with pytest.raises(engine.PermissionError, match="viewer"):
            viewer.submit(spec)
    with engine.Client(head.address, token=text[:-1]) as mistyped, pytest.raises(engine.UnauthenticatedError, match="mistyped"):
        mistyped.jobs()
    monkeypatch.setenv("ENGINE_TOKEN_FILE", str(path))
    with engine.Client(head.address) as viewer, pytest.raises(engine.PermissionError, match="viewer"):
        viewer.submit(spec)
    path.chmod(0o644)
    with pytest.raises(engine.PermissionError, match="owner"):
        engine.Client(head.address)


def test_tokens_do_not_travel_in_clear_text():
    with pytest.raises(engine.InvalidArgumentError, match=r"clear text"):
        engine.Client("10.1.2.3:10001", token="secret")
    engine.Client("10.1.2.3:10001", token="secret", tls=engine.TLS()).close()


def test_a_forked_process_makes_its_own_client(client):
    pid = os.fork()
    if pid == 0:
        try:
            client.jobs()
        except engine.CanceledError as error:
            os._exit(0 if "forked" in str(error) else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_program_that_forgets_to_close_ends_well(head):
    program = f"""
import engine, pyarrow as pa, numpy as np
client = engine.Client({head.address!r})
table = client.get(client.put(pa.table({{"x": np.zeros(1_000_000)}})))
task = client.run_task("noop", resources={{"custom": {{"nowhere": 1}}}}, wait_for_nodes=True)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupts_end_a_wait(head, numbers, tmp_path):
    program = f"""
import signal
import engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background
client = engine.Client({head.address!r})
job = engine.read_csv({str(numbers)!r}).write_csv({str(tmp_path / "o")!r}).options(resources={{"custom": {{"nowhere": 1}}}}).submit(client)
try:
    print(job.id, flush=True)
    job.wait()
except KeyboardInterrupt:
    print(job.stop().state)
client.close()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert out.strip() == "STOPPED"


def test_another_head_takes_over(start_head, numbers, tmp_path):
    """A client that was given one of three heads goes on with the others when the one that leads is killed."""
    first = start_head("one", more=("--num-cpus", "0"))
    others = [start_head(name, more=("--join", first.address, "--num-cpus", "0")) for name in ("two", "three")]
    with engine.Client(others[0].address) as client:
        spec = {**job(numbers, tmp_path / "out"), "resources": {"custom": {"nowhere": 1}}}
        handle = client.submit(spec)
        first.kill()
        assert handle.status().state == "PENDING"
        assert client.submit(job(numbers, tmp_path / "other")).status().state == "PENDING"
        assert handle.stop().state == "STOPPED"
        assert handle.wait(timeout=30).state == "STOPPED"
        # Each head keeps the lines that were written while it led; their numbers go up over a change.
        lines = list(handle.logs(follow=True, timeout=30))
        assert lines
        assert [line.sequence for line in lines] == sorted({line.sequence for line in lines})
