"""Following a job: its log lines and progress into a task's log, each line once, until the job has ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from engine import errors, jobs

from engine_provider import faults

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from engine import aio

T = TypeVar("T")

PROGRESS_EVERY = 10.0
"""Seconds between two lines that tell of progress."""
PATIENCE = 600.0
"""Seconds for which a head that is away is waited for."""
_NEW_OUTAGE = 2 * 60.0  # The client itself reconnects a stream for a minute.
MAX_OUTPUTS = 1_000
"""How many output files a task's result names."""


@dataclass
class Cursor:
    """How far a job's log has been read.

    Attributes:
        sequence: the last line's number.
        millis: the time under which it was written, in milliseconds since 1970.

    """

    sequence: int = 0
    millis: int = 0

    def stamp(self, line: jobs.LogLine) -> str:
        """Take a line, and return the time under which it goes to the task's log, as ISO 8601.

        That is its own, made larger than that of the line before. So lines that are read again from the same cursor, because a process was
        killed before it could say how far it had come, are equal to those that it has written, and Airflow shows them once and in order.
        """
        self.sequence = line.sequence
        self.millis = max(int(line.time.timestamp() * 1000), self.millis + 1)
        return datetime.fromtimestamp(self.millis / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def log_line(log: Any, line: jobs.LogLine, cursor: Cursor) -> None:
    """Write a job's line to a task's log, under its own time and level."""
    details = "".join(f" {k}={v}" for k, v in sorted(line.attributes.items()))
    emit = {"DEBUG": log.debug, "WARN": log.warning, "ERROR": log.error}.get(line.level, log.info)
    emit(f"{line.message}{details}", timestamp=cursor.stamp(line), origin=line.origin, line=line.sequence)


def progress_text(status: jobs.JobStatus) -> str:
    """Return how far a job is, in words."""
    p = status.progress
    if status.state == jobs.PENDING or not p.tasks_total:
        return f"{status.state}{f': {status.reason}' if status.reason else ''}"
    running = f", {p.tasks_running} running" if p.tasks_running else ""
    rejected = f", {p.rows_rejected:,} rejected" if p.rows_rejected else ""
    reason = f" ({status.reason})" if status.reason else ""
    return (
        f"{status.state}: {100 * p.fraction:.0f}%, {p.rows_read:,} rows read, {p.rows_written:,} written{rejected}, "
        f"{p.tasks_done} of {p.tasks_total} tasks done{running}{reason}"
    )


async def follow(
    client: aio.Client,
    job_id: str,
    log: Any,
    cursor: Cursor,
    *,
    progress_every: float = PROGRESS_EVERY,
    patience: float = PATIENCE,
    resume_orphans: bool = True,
) -> jobs.JobResult:
    """Follow a job until it has ended, and return how.

    A head that is away is waited for. A job that was stopped because nobody followed it, as this process or the head was away, goes on.

    Args:
        client: a client of the loop that runs.
        job_id: the job's id.
        log: where lines go: what has info, warning, and error with keywords.
        cursor: after which line the log is read; it moves as lines are written.
        progress_every: seconds between two lines that tell of progress; 0 means that none does.
        patience: seconds for which a head that is away is waited for.
        resume_orphans: whether a job goes on that was stopped because nobody followed it.

    Raises:
        EngineError: if the head was away for longer, or does not know the job.

    """
    job = client.job(job_id)
    away_since: float | None = None
    pause = 0.5
    while True:
        began = time.monotonic()
        try:
            async with _progress(job, log, progress_every):
                async for line in job.logs(follow=True, after=cursor.sequence):
                    log_line(log, line, cursor)
                    pause = 0.5
                result = await job.wait()
            async for line in job.logs(after=cursor.sequence):
                log_line(log, line, cursor)
            if not (resume_orphans and is_orphan(result)):
                return result
            log.warning("the job was stopped because nobody had followed it; it goes on")
            await job.resume()
        except (errors.UnavailableError, errors.DeadlineError) as error:
            now = time.monotonic()
            if away_since is not None and now - began > _NEW_OUTAGE:
                away_since = None  # The head was there in the meantime.
            if away_since is None:
                log.warning(f"the head is away, and is waited for: {faults.describe(error)}")
                away_since = now
            if now - away_since > patience:
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(2 * pause, 5.0)


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, work).result()


async def poll(
    client: aio.Client, job_id: str, *, every: float, patience: float = PATIENCE, await_submission: bool = True
) -> jobs.JobResult:
    """Ask for a job's state now and then until it has ended, and return how. It does not count as following it.

    Args:
        client: a client of the loop that runs.
        job_id: the job's id or submission id.
        every: seconds between two questions.
        patience: seconds for which a head that is away is waited for.
        await_submission: whether a job that is not known is waited for.

    Raises:
        NotFoundError: for a job that is not known, and is not waited for.
        EngineError: if the head was away for longer.

    """
    heard = time.monotonic()
    while True:
        try:
            if (await client.job(job_id).status()).ended:
                return await client.job(job_id).wait()
            heard = time.monotonic()
        except errors.NotFoundError:
            if not await_submission:
                raise
            heard = time.monotonic()
        except (errors.UnavailableError, errors.DeadlineError):
            if time.monotonic() - heard > patience:
                raise
        await asyncio.sleep(every)


def is_orphan(ended: jobs.JobResult | jobs.JobStatus) -> bool:
    """Tell whether a job was stopped because nobody followed it."""
    return ended.state == jobs.STOPPED and ended.error is not None


@contextlib.asynccontextmanager
async def _progress(job: aio.Job, log: Any, every: float) -> Any:
    """Write a line about progress now and then."""
    if not every:
        yield
        return

    async def tell() -> None:
        last = ""
        while True:
            await asyncio.sleep(every)
            try:
                status = await job.status()
            except errors.EngineError:
                continue  # Who follows the job says what is wrong.
            text = progress_text(status)
            if text != last and not status.ended:
                log.info(text)
            last = text

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def to_dict(result: jobs.JobResult) -> dict[str, Any]:
    """Return how a job ended as what JSON can hold: what a trigger's event carries. At most `MAX_OUTPUTS` outputs are named."""
    counts = {k: v for k, v in asdict(result).items() if k not in ("error", "outputs")}
    outputs = list(result.outputs)
    return {**counts, "outputs": outputs[:MAX_OUTPUTS], "outputs_total": len(outputs), "error": faults.to_dict(result.error)}


def from_dict(event: Mapping[str, Any]) -> jobs.JobResult:
    """Return what `to_dict` was made of, but for outputs above its limit."""
    fields = {k: v for k, v in event.items() if k in jobs.JobResult.__dataclass_fields__ and k not in ("error", "outputs")}
    return jobs.JobResult(**fields, outputs=tuple(event.get("outputs") or ()), error=faults.from_dict(event.get("error")))
