"""The asyncio face."""

from __future__ import annotations

import asyncio
import time

import pytest

import engine
from engine._rpc import follow


def test_jobs(head, numbers, tmp_path):
    async def main():
        async with engine.aio.Client(head.address) as client:
            pipeline = engine.read_csv(numbers).write_parquet(tmp_path / "out")
            job = await client.submit(pipeline)
            lines = [line async for line in job.logs(follow=True)]
            result = await job.result(timeout=30)
            assert (result.rows_written, lines[-1].message) == (1000, "job succeeded")
            assert [s.state async for s in job.watch()] == ["SUCCEEDED"]
            with pytest.raises(engine.ConflictError):
                await job.resume()
            assert (await client.jobs(limit=1))[0].job_id

    asyncio.run(main())


def test_a_thousand_jobs_in_flight(head, tmp_path):
    """All are submitted and followed at a time; none gets lost, and none is told twice."""
    path = tmp_path / "one.csv"
    path.write_text("a\n1\n")

    async def follow(client, i):
        job = await client.submit(engine.read_csv(path).write_objects().options(name=f"job {i}", resources={"cpu": 0.1}), timeout=120)
        result = await job.result(timeout=300)
        return job.id, result.rows_written

    async def main():
        async with engine.aio.Client(head.address) as client:
            began = time.perf_counter()
            done = await asyncio.gather(*(follow(client, i) for i in range(1000)))
            assert len({job_id for job_id, _ in done}) == 1000
            assert {rows for _, rows in done} == {1}
            print(f"1,000 jobs in flight: {time.perf_counter() - began:.1f} s")

    asyncio.run(main())


def test_deadline_of_a_call_is_not_that_of_the_wait():
    """It is told as it is, also where nothing bounds the wait."""

    async def stream():
        raise engine.DeadlineError("the head is slow", op="o")
        yield

    async def main(timeout):
        async for _ in follow("follow job", "j", stream, timeout):
            pass

    for timeout in (None, 60.0):
        with pytest.raises(engine.DeadlineError, match="the head is slow"):
            asyncio.run(main(timeout))


def test_cancelled_waits_leave_the_job(head, numbers, tmp_path):
    async def main():
        async with engine.aio.Client(head.address) as client:
            spec = engine.read_csv(numbers).write_parquet(tmp_path / "out").options(resources={"custom": {"nowhere": 1}})
            job = await client.submit(spec)
            waiting = asyncio.create_task(job.wait())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await job.status()).state == "PENDING"
            await job.stop()

    asyncio.run(main())


def test_both_faces_in_one_process(head, client):
    """A synchronous client beside an asynchronous one: gRPC's loops do not disturb each other."""
    problems = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        async with engine.aio.Client(head.address) as other:
            for _ in range(100):
                await asyncio.gather(*(other.jobs(limit=1) for _ in range(5)), asyncio.to_thread(client.jobs, limit=1))

    asyncio.run(main())
    assert not problems
