"""Tasks of a client: what has not ended, and the stream over which it is told."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import errors
from engine._objects import closed_error
from engine._proto.engine.v1 import task_pb2, task_service_pb2
from engine._rpc import TASKS, Backoff, Heads, Stream, is_broken
from engine._store import decode
from engine.refs import ObjectRef

if TYPE_CHECKING:
    import pyarrow as pa

    from engine._objects import Objects

_FIRST_WINDOW = 100_000
_BATCH_TASKS = 2_000
_BATCH_BYTES = 4 << 20
_PREFIX = os.urandom(8)
_COUNT = itertools.count(1)

STATES = {
    task_pb2.TASK_STATE_SUCCEEDED: "SUCCEEDED",
    task_pb2.TASK_STATE_FAILED: "FAILED",
    task_pb2.TASK_STATE_CANCELLED: "CANCELLED",
}


@dataclass(frozen=True)
class TaskResult:
    """How a task ended.

    Attributes:
        state: SUCCEEDED, FAILED, or CANCELLED.
        rows: the rows of each output, in order; there may be fewer outputs than asked for.
        bytes: the sizes of the outputs in bytes.
        checkpoints: the URIs of their durable copies; empty texts if the task was not to make any.
        node: where the last attempt ran. Empty if there was none.
        attempts: how many attempts there were.
        seconds: how long the last one ran.
        error: why it failed or was cancelled, else None.

    """

    state: str
    rows: tuple[int, ...] = ()
    bytes: tuple[int, ...] = ()
    checkpoints: tuple[str, ...] = ()
    node: str = ""
    attempts: int = 0
    seconds: float = 0.0
    error: errors.EngineError | None = None


@dataclass(eq=False)
class Handle:
    """A task that was submitted."""

    id: bytes
    template: task_pb2.TaskTemplate
    key: bytes
    args: list[task_pb2.TaskArgument]
    done: asyncio.Future[TaskResult]
    outputs: int
    values: list[bytes] = field(default_factory=list)
    submitted: int = 0
    cancelled: task_service_pb2.TaskCancellation | None = None

    def ref(self, output: int, cluster: str) -> ObjectRef:
        if not 0 <= output < self.outputs:
            raise errors.NotFoundError(f"it has outputs 0 to {self.outputs - 1}", op="name output", id=f"{self.id.hex()}/{output}")
        return ObjectRef(self.id[:14] + (output + 1).to_bytes(2, "big"), cluster)

    def value(self, output: int) -> pa.Table | None:
        """Return an output that came with the outcome."""
        return decode(self.values[output]) if output < len(self.values) and self.values[output] else None


def producer(object_id: bytes) -> tuple[bytes, int] | None:
    """Return the task that an object would be of, and which output, counted from 0."""
    number = int.from_bytes(object_id[14:], "big")
    return (object_id[:14] + b"\0\0", number - 1) if 1 <= number <= 1000 else None


class Tasks:
    """Runs tasks over one stream, which is opened again when it breaks. It belongs to one event loop."""

    def __init__(self, heads: Heads, objects: Objects) -> None:
        self._heads = heads
        self._objects = objects
        self._unfinished: dict[bytes, Handle] = {}
        # Get finds outputs there that came with the outcome.
        self._recent: collections.OrderedDict[bytes, Handle] = collections.OrderedDict()
        self._window = _FIRST_WINDOW
        self._room = asyncio.Condition()
        self._kept: asyncio.Task[Any] | None = None
        self._session = ""
        self._stream = 0
        self._queue: collections.deque[Handle] = collections.deque()
        self._cancellations: list[task_service_pb2.TaskCancellation] = []
        self._acknowledged = bytearray()
        self._templates: dict[bytes, int] = {}
        self._wake = asyncio.Event()
        self._opened = False

    async def run(self, template: task_pb2.TaskTemplate, args: list[task_pb2.TaskArgument], outputs: int) -> Handle:
        """Submit a task; how it ends is the handle's."""
        if self._objects.background.closed:
            raise closed_error()
        async with self._room:
            await self._room.wait_for(lambda: len(self._unfinished) < self._window)
        task_id = _PREFIX + next(_COUNT).to_bytes(6, "big") + b"\0\0"
        future: asyncio.Future[TaskResult] = asyncio.get_running_loop().create_future()
        handle = Handle(task_id, template, template.SerializeToString(deterministic=True), args, future, outputs)
        self._unfinished[task_id] = handle
        self._queue.append(handle)
        if self._kept is None or self._kept.done():
            self._kept = self._objects.background.start(self._keep())
        self._wake.set()
        return handle

    def cancel(self, handle: Handle, *, children: bool, force: bool) -> None:
        """Cancel a task that has not ended."""
        if handle.done.done():
            return
        handle.cancelled = task_service_pb2.TaskCancellation(task_id=handle.id, children=children, force=force)
        if handle.submitted == self._stream and self._stream:
            self._cancellations.append(handle.cancelled)
            self._wake.set()

    def known(self, task_id: bytes) -> Handle | None:
        """Return a task of this client that has not ended, or has of late."""
        return self._unfinished.get(task_id) or self._recent.get(task_id)

    def close(self) -> None:
        """End what has not ended."""
        self._end_all(closed_error(), submitted_only=False)

    async def _keep(self) -> None:
        """Keep a stream open until the client is closed or no head takes it. What has not ended by then ends with the reason."""
        failure: errors.EngineError = closed_error()
        backoff = Backoff()
        self._opened = False
        try:
            while True:
                try:
                    await self._follow(backoff)
                    failure = errors.UnavailableError("the head ended the stream", op="run tasks")
                except errors.EngineError as error:
                    failure = error
                    passing = is_broken(error) or isinstance(
                        error, (errors.UnavailableError, errors.FencedError, errors.DeadlineError, errors.ExhaustedError)
                    )
                    if not passing or not (self._opened or isinstance(error, errors.FencedError)):
                        return
                await backoff.wait()
        except asyncio.CancelledError:
            failure = closed_error()
            raise
        finally:
            self._end_all(failure, submitted_only=False)

    async def _follow(self, backoff: Backoff) -> None:
        """Open one stream, submit all that has not ended, and take in outcomes until the stream breaks."""
        await self._objects.session.ensure()
        session = self._objects.session.id
        if self._session not in ("", session):
            self._acknowledged.clear()
            ended = "the session has ended: the head did not hear from this client in time"
            self._end_all(errors.FencedError(ended, op="keep session", id=self._session), submitted_only=True)
        self._session = session
        stream = await self._heads.open(TASKS.RunTasks)
        sender: asyncio.Task[None] | None = None
        try:
            await stream.send(task_service_pb2.RunTasksRequest(session_id=session))
            response = await stream.receive()
            if response is None:
                return
            self._opened = True
            self._objects.heard(response.cluster_id)
            self._window = response.window or self._window
            self._stream += 1
            self._templates.clear()
            self._cancellations.clear()
            self._queue = collections.deque(sorted(self._unfinished.values(), key=lambda h: h.id))
            self._wake.set()
            sender = asyncio.get_running_loop().create_task(self._send(stream))
            while response is not None:
                if response.outcomes:
                    backoff.reset()
                await self._take(response)
                response = await stream.receive()
        finally:
            stream.cancel()
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, stream: Stream) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (request := self._next()) is not None:
                await stream.send(request)

    def _next(self) -> task_service_pb2.RunTasksRequest | None:
        """Take what is to be sent into one message."""
        if not (self._queue or self._cancellations or self._acknowledged):
            return None
        request = task_service_pb2.RunTasksRequest(cancellations=self._cancellations, acknowledged=bytes(self._acknowledged))
        self._cancellations.clear()
        self._acknowledged.clear()
        size = 0
        while self._queue and len(request.tasks) < _BATCH_TASKS and size < _BATCH_BYTES:
            handle = self._queue.popleft()
            if handle.done.done():
                continue
            number = self._templates.get(handle.key)
            if number is None:
                number = self._templates[handle.key] = len(self._templates) + 1
                template = request.templates.add()
                template.CopyFrom(handle.template)
                template.number = number
                size += len(handle.key)
            again = handle.submitted not in (0, self._stream)
            request.tasks.add(task_id=handle.id, template=number, arguments=handle.args, again=again)
            handle.submitted = self._stream
            size += 40 + sum(len(a.value) + 20 for a in handle.args)
            if handle.cancelled is not None:
                request.cancellations.append(handle.cancelled)
        return request

    async def _take(self, response: task_service_pb2.RunTasksResponse) -> None:
        for outcome in response.outcomes:
            self._acknowledged += outcome.task_id
            handle = self._unfinished.get(outcome.task_id)
            if handle is not None:
                handle.values = [output.value for output in outcome.outputs]
                self._end(handle, _result_of(outcome))
        if self._acknowledged:
            self._wake.set()
            async with self._room:
                self._room.notify_all()
        if response.refusals:
            pause = max(r.retry_after_millis for r in response.refusals) / 1000
            again = [h for r in response.refusals if (h := self._unfinished.get(r.task_id)) is not None]
            asyncio.get_running_loop().call_later(min(max(pause, 0.001), 60), self._offer, again, self._stream)

    def _offer(self, handles: list[Handle], stream: int) -> None:
        """Send tasks again that the head has refused for now, unless another stream has."""
        if stream == self._stream:
            self._queue.extendleft(reversed(handles))
            self._wake.set()

    def _end(self, handle: Handle, result: TaskResult) -> None:
        self._unfinished.pop(handle.id, None)
        if not handle.done.done():
            handle.done.set_result(result)
        self._recent[handle.id] = handle
        while len(self._recent) > 10_000:
            self._recent.popitem(last=False)

    def _end_all(self, error: errors.EngineError, *, submitted_only: bool) -> None:
        state = "CANCELLED" if isinstance(error, errors.CanceledError) else "FAILED"
        for handle in list(self._unfinished.values()):
            if handle.submitted or not submitted_only:
                self._end(handle, TaskResult(state, error=error))
        with contextlib.suppress(RuntimeError):  # The loop may be at its end.
            self._wake.set()


def _result_of(outcome: task_pb2.TaskOutcome) -> TaskResult:
    state = STATES.get(outcome.state, "FAILED")
    error = None
    if state != "SUCCEEDED":
        error = errors.from_proto(outcome.error)
    return TaskResult(
        state,
        rows=tuple(o.rows for o in outcome.outputs),
        bytes=tuple(o.size_bytes for o in outcome.outputs),
        checkpoints=tuple(o.checkpoint for o in outcome.outputs),
        node=outcome.node_id,
        attempts=outcome.attempts,
        seconds=outcome.run_nanos / 1e9,
        error=error,
    )
