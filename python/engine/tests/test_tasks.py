"""Tasks at a real head."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pyarrow as pa
import pytest

import engine


@pytest.fixture
def table():
    return pa.table({"x": [1, 2, 3]})


def test_results(client, table):
    task = client.run_task("echo", table)
    assert task.result(timeout=30).equals(table)
    result = task.wait()
    assert (result.state, result.rows, result.attempts, result.error) == ("SUCCEEDED", (3,), 1, None)
    assert task.ended
    assert client.get(task.ref()).equals(table)
    large = pa.table({"x": np.arange(100_000)})
    assert client.run_task("echo", large).result().equals(large)
    assert client.run_task("echo", client.put(large)).result().equals(large)
    both = client.run_task("echo", table, large, outputs=2)
    assert client.get(both.ref(1)).equals(large)
    with pytest.raises(engine.NotFoundError, match="outputs 0 to 1"):
        both.ref(2)
    assert client.run_task("noop").wait().rows == ()
    with pytest.raises(engine.NotFoundError, match="made no output"):
        client.run_task("noop").result()


def test_tasks_of_tasks(client, table):
    task = client.run_task("echo", table)
    for _ in range(20):
        task = client.run_task("echo", task)
    assert task.result(timeout=30).equals(table)


def test_another_client_gets_an_output(client, head, table):
    task = client.run_task("echo", table)
    task.result(timeout=30)
    ref = engine.ObjectRef.parse(str(task.ref()))
    deadline = time.monotonic() + 30
    with engine.Client(head.address) as other:
        while True:
            try:
                assert other.get(ref, timeout=30).equals(table)
                return
            except engine.NotFoundError:  # The cluster's directory hears of an output some moments after its task's client does.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def test_failures(client, table):
    with pytest.raises(engine.NotFoundError, match='no node has operator "nope"'):
        client.run_task("nope").result(timeout=30)
    failed = client.run_task("infer", table, params={"model": "/no/such.onnx"})
    result = failed.wait(timeout=30)
    assert result.state == "FAILED"
    with pytest.raises(type(result.error)):
        failed.result()
    # What hangs on it fails by the same reason.
    with pytest.raises(engine.EngineError, match=r"such\.onnx"):
        client.run_task("echo", failed).result(timeout=30)
    with pytest.raises(engine.InvalidArgumentError, match='did you mean "gpu"'):
        client.run_task("noop", resources={"gpus": 1})
    with pytest.raises(engine.InvalidArgumentError, match="is not a size"):
        client.run_task("noop", resources={"memory": "much"})
    with pytest.raises(engine.InvalidArgumentError, match="belongs to cluster"):
        client.run_task("echo", engine.ObjectRef(b"0123456789abcdef", "other"))


def test_cancel_and_deadlines(client):
    task = client.run_task("noop", resources={"custom": {"nowhere": 1}}, wait_for_nodes=True)
    with pytest.raises(engine.DeadlineError, match=task.id):
        task.wait(timeout=0.05)
    task.cancel()
    assert task.wait(timeout=30).state == "CANCELLED"
    with pytest.raises(engine.CanceledError):
        task.result()


def test_closing_cancels(head):
    with engine.Client(head.address) as client:
        task = client.run_task("noop", resources={"custom": {"nowhere": 1}}, wait_for_nodes=True)
    assert task.wait().state == "CANCELLED"


def test_no_head_is_the_tasks_error():
    with engine.Client("127.0.0.1:1") as client, pytest.raises(engine.UnavailableError, match=r"127\.0\.0\.1:1"):
        client.run_task("noop").result(timeout=30)


def test_a_thousand_in_flight(head, table):
    async def main():
        async with engine.aio.Client(head.address) as client:
            began = time.perf_counter()
            waiting = [await client.run_task("noop", resources={"custom": {"nowhere": 1}}, wait_for_nodes=True) for _ in range(1000)]
            results = await asyncio.gather(*(echo(client, i) for i in range(1000)))
            assert [r.column("x")[0].as_py() for r in results] == list(range(1000))
            print(f"1,000 tasks while 1,000 wait: {time.perf_counter() - began:.2f} s")
            for task in waiting:
                task.cancel()
            assert {r.state for r in await asyncio.gather(*(t.wait(30) for t in waiting))} == {"CANCELLED"}

    async def echo(client, i):
        return await (await client.run_task("echo", pa.table({"x": [i]}))).result(timeout=30)

    asyncio.run(main())


def test_tasks_survive_a_head_that_comes_back(start_head, table):
    head = start_head()
    port = int(head.address.rpartition(":")[2])
    with engine.Client(head.address) as client:
        assert client.run_task("echo", table).result(timeout=30).equals(table)
        waiting = client.run_task("echo", table, resources={"custom": {"later": 1}}, wait_for_nodes=True)
        head.kill()
        start_head(port=port, more=("--resources", '{"later": 1}'))
        assert waiting.result(timeout=60).equals(table)
