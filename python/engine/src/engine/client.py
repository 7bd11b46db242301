"""The synchronous face of the client.

It does what `engine.aio` does, on an event loop of its own in a thread. It is safe to use from several threads, and from notebooks, whose
own loop it leaves alone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from engine import _loop, aio, errors
from engine._rpc import CALL_TIMEOUT, TLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import pyarrow as pa

    from engine import jobs
    from engine._proto.engine.v1 import job_pb2
    from engine._tasks import TaskResult
    from engine.builder import Pipeline
    from engine.refs import ObjectRef

__all__ = ["TLS", "Client", "Job", "Task"]

T = TypeVar("T")


class _Face:
    """What runs on the loop behind: the process that made it may use it, and one that was forked off it may not."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._pid != os.getpid():
            work.close()
            raise _forked()
        return _loop.run(work)

    def _iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        if self._pid != os.getpid():
            raise _forked()
        return _loop.iterate(items)


def _forked() -> errors.EngineError:
    return errors.CanceledError("the client was made before this process was forked", op="use client", hint="make one in each process")


class Client(_Face):
    """A client of the head that leads a cluster, whichever that is.

    Args:
        address: the head's "host:port", or those of several heads, "a:10001,b:10001", of which one is enough: the others are learned from
            it. Default: the environment variable ENGINE_ADDRESS, else 127.0.0.1:10001.
        token: what proves who you are: a token of the cluster, or a JWT of an identity provider that it trusts. Default: ENGINE_TOKEN,
            else the file that ENGINE_TOKEN_FILE names, else none, which is enough for the user whose cluster it is on this machine.
        tls: how the connection is encrypted. Default: as ENGINE_TLS_CA says, see `TLS.from_environment`; without that not at all, as befits
            loopback.
        timeout: seconds that a call has which has no timeout of its own and does not wait for a job or task. Default: 30.

    Nothing is connected yet: that no head can be reached is the `UnavailableError` of the first call. Calls go to the head that leads;
    when that changes or the connection breaks they are repeated there with pauses, within their deadline. Use it in a `with` block, or
    `close` it: that ends its session, and with it the objects that it put and the tasks that it runs. Jobs go on.

    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        tls: TLS | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> None:
        async def make() -> aio.Client:
            return aio.Client(address, token=token, tls=tls, timeout=timeout)

        super().__init__()
        self._client = self._run(make())
        self._closed = False

    @property
    def address(self) -> str:
        """The addresses that the client was given."""
        return self._client.address

    @property
    def timeout(self) -> float:
        """Seconds that a call has which has no timeout of its own."""
        return self._client.timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and with it the client's tasks and objects, and free the connections. Tables that were got stay readable."""
        if not self._closed and self._pid == os.getpid():
            self._closed = True
            self._run(self._client.close())

    def submit(
        self,
        job: Mapping[str, Any] | str | os.PathLike[str] | job_pb2.JobSpec | Pipeline,
        submission_id: str | None = None,
        *,
        only_new: bool = False,
        secrets: Mapping[str, str | bytes] | None = None,
        base: str | os.PathLike[str] = ".",
        timeout: float | None = None,
    ) -> Job:
        """Hand a job to the head. When it returns, the job is durable.

        Args:
            job: a job as a dict of the form of a job file, the path of a job file, a JobSpec (whose paths are absolute), or a pipeline.
            submission_id: makes submitting idempotent: the same id and job attach to the job that exists. 1 to 200 letters, digits,
                and ._:/@+-.
            only_new: leave out the inputs that earlier jobs with the same output folders have read; the sinks' mode must be append.
            secrets: the values of the job's ${secret:NAME}, by name; what it does not refer to is not sent. Those of ${secret:env:NAME}
                and ${secret:file:PATH} are this process's, except for a JobSpec, where they are given here too, as "env:NAME" and
                "file:PATH", or left to the head and the workers.
            base: the folder to which the relative paths of a dict or pipeline are relative; a file's are relative to the file.
            timeout: seconds for the whole call.

        Raises:
            InvalidArgumentError: for a job that can never work; a misspelled name with its place and the nearest known one.
            PermissionError: for a secret in a file that others may read or change.
            ConflictError: for an output folder with data, or a submission id that belongs to another job.
            ExhaustedError: if too many jobs wait.

        """
        work = self._client.submit(job, submission_id=submission_id, only_new=only_new, secrets=secrets, base=base, timeout=timeout)
        return Job(self._run(work))

    def job(self, job_id: str) -> Job:
        """Return a handle of a job by its id or submission id. It asks the head nothing."""
        return Job(self._client.job(job_id))

    def jobs(self, *, limit: int = 100, states: Iterable[str] = ()) -> list[jobs.JobStatus]:
        """Return up to `limit` jobs, the newest first, in one of the states, or in any if none is given; without their specs."""
        return self._run(self._client.jobs(limit=limit, states=states))

    def put(self, table: Any, *, timeout: float | None = None) -> ObjectRef:
        """Keep a table as one immutable object, in the store of this machine if there is one.

        The store copies the columns out of this process's memory; they must not change before the call returns. The object lives as
        long as the client's session, unless it is pinned: it is deleted when the client is closed, and some seconds after it was lost.

        Args:
            table: a table of pyarrow, pandas, or polars, or anything that exports an Arrow stream.
            timeout: seconds for the whole call, waiting for room in a full store included.

        Raises:
            InvalidArgumentError: for a column that Arrow cannot hold, which it names, and an object larger than the store.
            ExhaustedError: if there was no room in time.
            UnavailableError: if no store can be reached.

        """
        return self._run(self._client.put(table, timeout=timeout))

    def get(self, ref: ObjectRef | Task | str, *, timeout: float | None = None) -> pa.Table:
        """Return an object's table: without a copy if the object is on this machine, else after it was brought here.

        A table over shared memory is read-only and valid for as long as it, or anything made of it without a copy (numpy arrays, polars
        frames), is in use, even if the object is deleted or the client closed; its memory is given back after that. A task's output is
        waited for, without limit if no timeout is given.

        Args:
            ref: the object's reference, or its text; or a task, whose first output is meant.
            timeout: seconds for the whole call.

        Raises:
            NotFoundError: for an object that nobody knows, or that has expired.
            InvalidArgumentError: for a reference of another cluster.
            UnavailableError: if all copies are gone or out of reach.
            EngineError: the task's own error if it has failed.

        """
        return self._run(self._client.get(ref._task if isinstance(ref, Task) else ref, timeout=timeout))

    def wait(self, refs: Sequence[ObjectRef], *, count: int = 0, timeout: float | None = None) -> list[ObjectRef]:
        """Return those of the objects that can be read, once `count` of them can, or all if it is 0.

        Raises:
            DeadlineError: if they are too few after `timeout` seconds.

        """
        return self._run(self._client.wait(refs, count=count, timeout=timeout))

    def delete(self, *refs: ObjectRef) -> None:
        """Delete objects and all their copies, whoever owns them. Checkpoints stay, and tables that are in use."""
        self._run(self._client.delete(*refs))

    def pin(self, ref: ObjectRef, name: str = "", *, ttl: float | None = None) -> None:
        """Make an object live on without its client, under a name by which `lookup` finds it.

        Args:
            ref: the object.
            name: unique in the cluster, 1 to 200 letters, digits, and ._:/@+-. Empty means the object's id.
            ttl: seconds that the pin lasts. None means until `unpin`.

        Raises:
            ConflictError: if another object has the name.

        """
        self._run(self._client.pin(ref, name, ttl=ttl))

    def unpin(self, name: str) -> None:
        """End a pin. An object that nobody else owns is deleted."""
        self._run(self._client.unpin(name))

    def lookup(self, name: str) -> ObjectRef:
        """Return the object that is pinned under a name.

        Raises:
            NotFoundError: if there is none.

        """
        return self._run(self._client.lookup(name))

    def checkpoint(self, ref: ObjectRef, folder: str, *, timeout: float = aio.STORAGE_TIMEOUT) -> str:
        """Write an object durably into a folder, s3://bucket/prefix or an absolute path, and return the file's URI.

        The file is an Arrow IPC stream, which outlives the cluster.
        """
        return self._run(self._client.checkpoint(ref, folder, timeout=timeout))

    def restore(self, uri: str, *, timeout: float = aio.STORAGE_TIMEOUT) -> ObjectRef:
        """Make an object of a checkpoint, of this cluster or another, under the id that it had. The client's session owns it."""
        return self._run(self._client.restore(uri, timeout=timeout))

    def run_task(
        self,
        operator: str,
        *args: Any,
        params: Any = None,
        resources: Mapping[str, Any] | None = None,
        outputs: int = 1,
        name: str = "",
        queue: str = "",
        priority: int = 0,
        max_attempts: int = 0,
        timeout: float | None = None,
        node_labels: Mapping[str, str] | None = None,
        wait_for_nodes: bool = False,
        recompute: bool = False,
        checkpoint: str = "",
    ) -> Task:
        """Submit a task, and return a handle of it at once.

        A task belongs to the client's session, as do its outputs: closing the client cancels what has not ended. It may run more than
        once if a node is lost, but not after its end was told here.

        Args:
            operator: the name of an operator that the workers have, such as "infer", "embed", or "echo".
            *args: its arguments in order: references, tasks (whose first outputs are meant, and which need not have ended), or tables,
                of which those above 100 KiB are put first.
            params: the operator's parameters: bytes as they are, anything else as JSON.
            resources: what it takes while it runs, as in a job file: cpu, gpu, memory, gpu_memory, custom. Default: one core.
            outputs: how many objects it makes, at most 1,000.
            name: for people. Default: the operator's.
            queue: whose share it uses. Default: "default".
            priority: among the waiting tasks of one queue the larger one comes first.
            max_attempts: in all; only failures of the infrastructure are tried again. Default (0): 4.
            timeout: seconds of one attempt. None means no limit.
            node_labels: labels that the node must have; "" means that the label exists, "!" before a value that it differs.
            wait_for_nodes: keep a request pending that no node can meet now, rather than refuse it.
            recompute: the same results come when it runs again, so outputs that are lost may be computed anew.
            checkpoint: a folder where outputs are written durably before the task counts as done.

        What is wrong with the task is the error of `Task.result`; only misuse is raised here.

        """
        work = self._client.run_task(
            operator,
            *(arg._task if isinstance(arg, Task) else arg for arg in args),
            params=params,
            resources=resources,
            outputs=outputs,
            name=name,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            timeout=timeout,
            node_labels=node_labels,
            wait_for_nodes=wait_for_nodes,
            recompute=recompute,
            checkpoint=checkpoint,
        )
        return Task(self._run(work))

    def cluster(self) -> dict[str, Any]:
        """Return the head's identity and what its nodes offer and use: cluster_id, version, web, nodes_alive, jobs, total, used, …."""
        return self._run(self._client.cluster())

    def cluster_id(self) -> str:
        """Return the cluster's id, which its object references carry."""
        return self._run(self._client.cluster_id())


class Job(_Face):
    """A handle of one job; see `Client.submit` and `Client.job`."""

    def __init__(self, job: aio.Job) -> None:
        super().__init__()
        self._job = job

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def id(self) -> str:
        """The id by which the handle was made: the job's own after `submit`."""
        return self._job.id

    @property
    def attached(self) -> bool:
        """Whether `submit` found the job under its submission id instead of making it."""
        return self._job.attached

    def status(self) -> jobs.JobStatus:
        """Return the job as it is now.

        Raises:
            NotFoundError: for an unknown job.

        """
        return self._run(self._job.status())

    def stop(self) -> jobs.JobStatus:
        """Stop the job, and return it as it is then. A job that has ended is returned as it is."""
        return self._run(self._job.stop())

    def resume(self, *, secrets: Mapping[str, str | bytes] | None = None) -> jobs.JobStatus:
        """Make a failed or stopped job run again where it stood.

        Args:
            secrets: values that replace those that the job has, by name, "env:NAME", or "file:PATH".

        Raises:
            ConflictError: if it has succeeded, or if its inputs or models have changed; the error says which.

        """
        return self._run(self._job.resume(secrets=secrets))

    def forget(self, *, discard: bool = False) -> jobs.JobStatus:
        """Drop the job, which must have ended, and return it as it was.

        Args:
            discard: also the files that it has published, if it did not succeed.

        """
        return self._run(self._job.forget(discard=discard))

    def watch(self, *, timeout: float | None = None) -> Iterator[jobs.JobStatus]:
        """Yield the job now and after each change until it has ended. It connects again by itself when the head restarts.

        Raises:
            DeadlineError: if it has not ended within `timeout` seconds.

        """
        return self._iterate(self._job.watch(timeout=timeout))

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> jobs.JobResult:
        """Wait until the job has ended, and return how. A job that failed is a result too: see `result` and `raise_for_state`.

        Args:
            timeout: seconds. None means no limit.
            progress: show a progress bar in a notebook, or in a terminal if the package rich is installed; else lines on standard error.

        Raises:
            DeadlineError: if it has not ended in time; it goes on.

        """
        if progress:
            from engine import _progress

            _progress.show(self.watch(timeout=timeout))
        return self._run(self._job.wait(timeout))

    def result(self, timeout: float | None = None, *, progress: bool = False) -> jobs.JobResult:
        """Wait until the job has ended well, and return its counts and outputs.

        Raises:
            EngineError: the job's own error if it failed; a `StoppedError` if it was stopped; a `DeadlineError` as `wait` does.

        """
        return self.wait(timeout, progress=progress).raise_for_state()

    def logs(self, follow: bool = False, *, after: int = 0, timeout: float | None = None) -> Iterator[jobs.LogLine]:
        """Yield the lines of the job's log in order, each once, also across a restart of the head.

        Args:
            follow: wait for further lines until the job has ended.
            after: the sequence number after which lines are wanted: the last one seen is a cursor.
            timeout: seconds for all of it. None means no limit.

        """
        return self._iterate(self._job.logs(follow=follow, after=after, timeout=timeout))


class Task(_Face):
    """A task that was submitted. Its outputs may be named, and be arguments of further tasks, before they exist."""

    def __init__(self, task: aio.Task) -> None:
        super().__init__()
        self._task = task

    def __repr__(self) -> str:
        return f"Task({self.id!r})"

    @property
    def id(self) -> str:
        """The task's id, 32 hexadecimal digits."""
        return self._task.id

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._task.ended

    def ref(self, output: int = 0) -> ObjectRef:
        """Return the reference of an output, counted from 0."""
        return self._task.ref(output)

    def wait(self, timeout: float | None = None) -> TaskResult:
        """Wait until the task has ended, and return how; a task that failed is a result too.

        Raises:
            DeadlineError: if it has not ended within `timeout` seconds; it goes on.

        """
        return self._run(self._task.wait(timeout))

    def result(self, timeout: float | None = None) -> pa.Table:
        """Wait until the task has ended well, and return its first output; see `Client.get`.

        Raises:
            EngineError: the task's own error if it has failed or was cancelled; a `NotFoundError` if it makes no output.

        """
        return self._run(self._task.result(timeout))

    def cancel(self, *, children: bool = False, force: bool = False) -> None:
        """Cancel the task unless it has ended.

        Args:
            children: also the tasks that it has submitted.
            force: do not wait for the operator to return.

        """
        _loop.loop().call_soon_threadsafe(lambda: self._task.cancel(children=children, force=force))


_default: Client | None = None
_default_lock = threading.Lock()


def default_client() -> Client:
    """Return the process's client of ENGINE_ADDRESS, which ends with the process."""
    global _default
    with _default_lock:
        if _default is None or _default._pid != os.getpid():
            _default = Client()
            atexit.register(_close_quietly, _default)
        return _default


def _close_quietly(client: Client) -> None:
    with contextlib.suppress(errors.EngineError):
        client.close()
