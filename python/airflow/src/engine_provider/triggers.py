"""The trigger of deferred tasks: it follows a job in the triggerer, and writes the job's lines into the task's log."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskInstanceState
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent
from engine import errors

from engine_provider import faults
from engine_provider.follow import PATIENCE, PROGRESS_EVERY, Cursor, follow, poll, to_dict
from engine_provider.hooks import EngineHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from engine import aio, jobs

STOP_WITHIN = 25.0
"""Seconds that stopping a job has when its task is killed."""

_ASKED_WITHIN = 5.0  # Seconds that Airflow has to say what became of the task.
_ENDED_BY_USER = (
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.REMOVED,
    None,  # Cleared.
)
_HAS_KILL_HOOK = hasattr(BaseTrigger, "on_kill")  # Since Airflow 3.3.
_KILLS: set[asyncio.Task[None]] = set()
"""Kills that have begun. Airflow cancels a trigger again each second until it has ended; what it started goes on here."""


class EngineJobTrigger(BaseTrigger):
    """Waits until a job has ended, and fires one event.

    The event has "result", how the job ended (see `engine_provider.follow.to_dict`); or "error", if it could not be followed to its end; or
    "timeout": true. It is the same trigger whichever triggerer runs it: a new one goes on from the cursor, and writes lines that the
    old one has written already so that Airflow shows them once.

    Args:
        engine_conn_id: the Airflow connection.
        address: where the head is, instead.
        job_id: the job's id or submission id.
        cursor: how far the job's log has been read, as a dict of `engine_provider.follow.Cursor`.
        lines: whether the job is followed, and its lines go to the task's log; otherwise it is asked for now and then, which does not count
            as following it.
        stop_on_kill: whether the job is stopped when a user marks or clears the task.
        resume_orphans: whether a job goes on that was stopped because nobody followed it, as when no triggerer ran.
        await_submission: without lines: whether a job that is not known is waited for.
        deadline: the time, in seconds since 1970, at which the wait ends with the event "timeout"; the job is stopped with
            `stop_on_kill`. None means never.
        progress_every: seconds between two lines that tell of progress; 0 means none.
        patience: seconds for which a head that is away is waited for.
        poll_interval: without lines: seconds between two questions.

    """

    def __init__(
        self,
        *,
        engine_conn_id: str,
        job_id: str,
        address: str | None = None,
        cursor: Mapping[str, int] | None = None,
        lines: bool = True,
        stop_on_kill: bool = True,
        resume_orphans: bool = True,
        await_submission: bool = False,
        deadline: float | None = None,
        progress_every: float = PROGRESS_EVERY,
        patience: float = PATIENCE,
        poll_interval: float = 5.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine_conn_id = engine_conn_id
        self.job_id = job_id
        self.address = address
        self.cursor = Cursor(**(cursor or {}))
        self.lines = lines
        self.stop_on_kill = stop_on_kill
        self.resume_orphans = resume_orphans
        self.await_submission = await_submission
        self.deadline = deadline
        self.progress_every = progress_every
        self.patience = patience
        self.poll_interval = poll_interval
        self._hook = EngineHook(engine_conn_id, address)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return of what Airflow makes this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "engine_conn_id": self.engine_conn_id,
                "job_id": self.job_id,
                "address": self.address,
                "cursor": asdict(self.cursor),
                "lines": self.lines,
                "stop_on_kill": self.stop_on_kill,
                "resume_orphans": self.resume_orphans,
                "await_submission": self.await_submission,
                "deadline": self.deadline,
                "progress_every": self.progress_every,
                "patience": self.patience,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the job, and yield the event once it has ended."""
        left = None if self.deadline is None else max(0.0, self.deadline - time.time())
        try:
            async with await self._hook.get_async_conn() as client:
                try:
                    result = await asyncio.wait_for(self._follow(client), left)
                except errors.EngineError:
                    raise  # A DeadlineError is a TimeoutError too, and is the head's.
                except asyncio.TimeoutError:
                    await self._end_in_time(client)
                    yield TriggerEvent({"timeout": True, "job_id": self.job_id})
                    return
            yield TriggerEvent({"result": to_dict(result), "job_id": self.job_id})
        except errors.EngineError as error:
            yield TriggerEvent({"error": faults.to_dict(error), "job_id": self.job_id})
        except AirflowFailException as error:
            failure = errors.InvalidArgumentError(str(error), op="follow job", id=self.job_id)
            yield TriggerEvent({"error": faults.to_dict(failure), "job_id": self.job_id})
        except asyncio.CancelledError:
            # Airflow 3.2 says no more than this when a user marks or clears the task, and nothing else when a triggerer ends.
            if not _HAS_KILL_HOOK and self.stop_on_kill:
                self._begin_kill(sure=False)
            raise

    async def _follow(self, client: aio.Client) -> jobs.JobResult:
        if not self.lines:
            return await poll(client, self.job_id, every=self.poll_interval, patience=self.patience, await_submission=self.await_submission)
        return await follow(
            client,
            self.job_id,
            self.log,
            self.cursor,
            progress_every=self.progress_every,
            patience=self.patience,
            resume_orphans=self.resume_orphans,
        )

    async def _end_in_time(self, client: aio.Client) -> None:
        self.log.error("the task ran out of time")
        if self.stop_on_kill:
            await self._stop(client)

    async def on_kill(self) -> None:
        """Stop the job, as its task was marked or cleared by a user. Airflow's own hook: no restart of a triggerer comes here.

        It goes on when it is cancelled, as Airflow does after a second.
        """
        if not self.stop_on_kill:
            return
        await asyncio.shield(self._begin_kill(sure=True))

    def _begin_kill(self, *, sure: bool) -> asyncio.Task[None]:
        """Stop the job, unless its task waits still.

        Args:
            sure: whether it is known that a user has marked or cleared the task. Otherwise Airflow must say that the task has come to
                an end, or was cleared: one that is to be tried again, or runs again, attaches to the job.

        """
        kill = asyncio.create_task(self._kill(sure))
        _KILLS.add(kill)
        kill.add_done_callback(_KILLS.discard)
        return kill

    async def _kill(self, sure: bool) -> None:
        if await self._goes_on(sure):
            self.log.info(f"the job {self.job_id} goes on: its task has not ended")
            return
        try:
            async with await self._hook.get_async_conn() as client:
                await self._stop(client)
        except AirflowFailException as error:
            self.log.error(f"the job {self.job_id} could not be stopped, and goes on until its orphan_ttl: {error}")

    async def _goes_on(self, sure: bool) -> bool:
        """Tell whether the task needs its job still: a trigger that moves to another triggerer is cancelled as one whose task was marked.

        Args:
            sure: see `_begin_kill`; the job goes on without it where nobody can say what became of the task.

        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # Where DAGs are read, nobody needs it.

        ti: Any = self.task_instance
        if ti is None:
            return not sure
        mapped = ti.map_index is not None and ti.map_index >= 0
        ask = partial(
            RuntimeTaskInstance.get_task_states,
            dag_id=ti.dag_id,
            task_ids=[ti.task_id],
            run_ids=[ti.run_id],
            map_index=ti.map_index if mapped else None,
        )
        try:
            states = await asyncio.wait_for(asyncio.to_thread(ask), _ASKED_WITHIN)
            state = states[ti.run_id][f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id]
        except Exception as error:
            so = "is stopped" if sure else "goes on"
            self.log.warning(f"Airflow does not say what became of the task, so its job {so}: {error!r}")
            return not sure
        return bool(state == TaskInstanceState.DEFERRED) if sure else state not in _ENDED_BY_USER

    async def _stop(self, client: aio.Client) -> None:
        try:
            status = await asyncio.wait_for(client.job(self.job_id).stop(), STOP_WITHIN)
        except (errors.EngineError, asyncio.TimeoutError) as error:
            what = faults.describe(error) if isinstance(error, errors.EngineError) else f"no answer within {STOP_WITHIN:g} s"
            self.log.error(f"the job {self.job_id} could not be stopped, and goes on until its orphan_ttl: {what}")
        else:
            self.log.info(f"the job {self.job_id} was stopped: {status.state}")
