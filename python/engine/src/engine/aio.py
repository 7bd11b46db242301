"""The asyncio face of the client: `engine.aio.Client`. A client and all that comes from it belong to one event loop.

    async with engine.aio.Client() as client:
        job = await client.submit("job.yaml")
        result = await job.wait()

Thousands of jobs and tasks may be under way at a time: a call that waits costs a coroutine and no thread. The loop must not be
blocked for longer than some seconds, or the head takes the client for lost, with its objects and tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from secrets import choice
from typing import TYPE_CHECKING, Any

from engine import _binary, _jobfile, _secrets, errors, jobs
from engine._objects import Objects
from engine._proto.engine.v1 import cluster_service_pb2, job_pb2, job_service_pb2, object_service_pb2, task_pb2, task_service_pb2
from engine._rpc import CALL_TIMEOUT, CLUSTER, JOBS, OBJECTS, TASKS, TLS, Heads, default_token, follow
from engine._store import MAX_INLINE_BYTES, encode
from engine._tasks import Handle, TaskResult, Tasks, producer
from engine.refs import ObjectRef, to_arrow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from types import TracebackType

    import pyarrow as pa

    from engine.builder import Pipeline

__all__ = ["TLS", "Client", "Job", "Task"]

DEFAULT_ADDRESS = "127.0.0.1:10001"
STORAGE_TIMEOUT = 900.0
"""Seconds that `checkpoint` and `restore` have if no timeout is given: as much as an upload of some GB may take."""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # of job ids; without letters that look like others
_SETTLE = 10.0


class Client:
    """A client of the head that leads a cluster, whichever that is.

    Args:
        address: the head's "host:port", or those of several heads, "a:10001,b:10001", of which one is enough: the others are learned from
            it. Default: the environment variable ENGINE_ADDRESS, else 127.0.0.1:10001.
        token: what proves who you are: a token of the cluster, or a JWT of an identity provider that it trusts. Default: ENGINE_TOKEN,
            else the file that ENGINE_TOKEN_FILE names, else none, which is enough for the user whose cluster it is on this machine.
        tls: how the connection is encrypted. Default: as ENGINE_TLS_CA says, see `TLS.from_environment`; without that not at all, as befits
            loopback.
        timeout: seconds that a call has which has no timeout of its own and does not wait for a job or task.

    Nothing is connected yet: that no head can be reached is the `UnavailableError` of the first call. Calls go to the head that leads;
    when that changes or the connection breaks they are repeated there with pauses, within their deadline.

    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: TLS | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> None:
        address = address or os.environ.get("ENGINE_ADDRESS") or DEFAULT_ADDRESS
        self._heads = Heads(address, token=token or default_token(), tls=tls or TLS.from_environment(), timeout=timeout)
        self._objects = Objects(self._heads)
        self._tasks = Tasks(self._heads, self._objects)
        self.address = address
        self.timeout = timeout

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session, and with it the client's tasks and objects, and free the connections. Tables that were got stay readable."""
        self._tasks.close()
        await self._objects.close()
        await self._heads.close()

    # Jobs

    async def submit(
        self,
        job: Mapping[str, Any] | str | os.PathLike[str] | job_pb2.JobSpec | Pipeline,
        *,
        submission_id: str | None = None,
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
        spec = await load_spec(job, base)
        local = not isinstance(job, job_pb2.JobSpec)
        values = await asyncio.to_thread(_secrets.collect, spec, secrets, local=local)
        job_id = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-" + "".join(choice(_DIGITS) for _ in range(8))
        # With an id of its own, the call can be repeated when its answer is lost, without making a second job.
        request = job_service_pb2.SubmitJobRequest(
            spec=spec, job_id=job_id, submission_id=submission_id or "", only_new=only_new, secrets=values
        )
        if submission_id is not None and not submission_id:
            raise errors.InvalidArgumentError("the submission id is empty", op="submit job", hint="give None to have none")
        try:
            response = await self._heads.call(JOBS.SubmitJob, request, timeout)
        except errors.DeadlineError as error:
            hint = f"`engine job status {job_id}` tells whether it was; a submission id makes it safe to submit again"
            raise errors.DeadlineError(f"it may have been accepted: {error}", op="submit job", id=job_id, hint=hint) from None
        return Job(self, response.job.job_id, attached=response.attached)

    def job(self, job_id: str) -> Job:
        """Return a handle of a job by its id or submission id. It asks the head nothing."""
        return Job(self, job_id)

    async def jobs(self, *, limit: int = 100, states: Iterable[str] = ()) -> list[jobs.JobStatus]:
        """Return up to `limit` jobs, the newest first, in one of the states, or in any if none is given; without their specs."""
        request = job_service_pb2.ListJobsRequest(limit=limit, states=[jobs.state_number(s) for s in states])
        response = await self._heads.call(JOBS.ListJobs, request)
        return [jobs.status_of(job) for job in response.jobs]

    # Objects

    async def put(self, table: Any, *, timeout: float | None = None) -> ObjectRef:
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
        return await self._objects.put(await asyncio.to_thread(to_arrow, table), self.timeout if timeout is None else timeout)

    async def get(self, ref: ObjectRef | Task | str, *, timeout: float | None = None) -> pa.Table:
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
        if isinstance(ref, Task):
            ref = ref.ref()
        elif isinstance(ref, str):
            ref = ObjectRef.parse(ref)
        await self._objects.check("get object", ref)
        made = producer(ref.id)
        if made is not None:
            return await self._get_output(ref, made[0], made[1], timeout)
        return await self._objects.get(ref.id, self.timeout if timeout is None else timeout)

    async def _get_output(self, ref: ObjectRef, task_id: bytes, output: int, timeout: float | None) -> pa.Table:
        """Get what may be a task's output: once the task has ended, and from its outcome if that holds it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        handle = self._tasks.known(task_id)
        if handle is not None:
            result = await Task(self, handle).wait(timeout)
            if result.error is not None:
                raise result.error
            if output >= len(result.bytes) or not result.bytes[output]:
                raise errors.NotFoundError(f"its task has ended and made no output {output}", op="get object", id=str(ref))
            value = handle.value(output)
            if value is not None:
                return value
        left = self.timeout if deadline is None else max(0.001, deadline - time.monotonic())
        try:
            return await self._objects.get(ref.id, left)
        except errors.NotFoundError:
            if handle is None and not await self._task_goes_on(task_id):
                raise
        # The outcome may be here before the head has heard of the object; and a task of another client may still run.
        await self._objects.wait([ref], 1, timeout if handle is None else min(_SETTLE, left))
        return await self._objects.get(ref.id, left)

    async def _task_goes_on(self, task_id: bytes) -> bool:
        """Tell whether a task of another client may still make its outputs; its own error is raised if it has failed."""
        try:
            response = await self._heads.call(TASKS.GetTask, task_service_pb2.GetTaskRequest(task_id=task_id))
        except errors.UnavailableError:
            raise
        except errors.EngineError:
            return False  # The head does not know the task.
        if response.task.state in (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED):
            raise errors.from_proto(response.task.error)
        return True

    async def wait(self, refs: Sequence[ObjectRef], *, count: int = 0, timeout: float | None = None) -> list[ObjectRef]:
        """Return those of the objects that can be read, once `count` of them can, or all if it is 0.

        Raises:
            DeadlineError: if they are too few after `timeout` seconds.

        """
        return await self._objects.wait(refs, count, timeout)

    async def delete(self, *refs: ObjectRef) -> None:
        """Delete objects and all their copies, whoever owns them. Checkpoints stay, and tables that are in use."""
        await self._objects.delete(refs)

    async def pin(self, ref: ObjectRef, name: str = "", *, ttl: float | None = None) -> None:
        """Make an object live on without its client, under a name by which `lookup` finds it.

        Args:
            ref: the object.
            name: unique in the cluster, 1 to 200 letters, digits, and ._:/@+-. Empty means the object's id.
            ttl: seconds that the pin lasts. None means until `unpin`.

        Raises:
            ConflictError: if another object has the name.

        """
        await self._objects.check("pin object", ref)
        request = object_service_pb2.PinObjectRequest(object_id=ref.id, name=name)
        if ttl is not None:
            request.ttl.FromNanoseconds(int(ttl * 1e9))
        await self._heads.call(OBJECTS.PinObject, request)

    async def unpin(self, name: str) -> None:
        """End a pin. An object that nobody else owns is deleted."""
        await self._heads.call(OBJECTS.UnpinObject, object_service_pb2.UnpinObjectRequest(name=name))

    async def lookup(self, name: str) -> ObjectRef:
        """Return the object that is pinned under a name.

        Raises:
            NotFoundError: if there is none.

        """
        response = await self._heads.call(OBJECTS.DescribeObjects, object_service_pb2.DescribeObjectsRequest(names=[name]))
        if not response.objects:
            raise errors.NotFoundError("no object is pinned under this name", op="look up object", id=name)
        return ObjectRef(response.objects[0].object_id, await self.cluster_id())

    async def checkpoint(self, ref: ObjectRef, folder: str, *, timeout: float = STORAGE_TIMEOUT) -> str:
        """Write an object durably into a folder, s3://bucket/prefix or an absolute path, and return the file's URI.

        The file is an Arrow IPC stream, which outlives the cluster.
        """
        await self._objects.check("checkpoint object", ref)
        request = object_service_pb2.CheckpointObjectRequest(object_id=ref.id, folder=folder)
        response = await self._heads.call(OBJECTS.CheckpointObject, request, timeout)
        return str(response.uri)

    async def restore(self, uri: str, *, timeout: float = STORAGE_TIMEOUT) -> ObjectRef:
        """Make an object of a checkpoint, of this cluster or another, under the id that it had. The client's session owns it."""
        await self._objects.session.ensure()
        request = object_service_pb2.RestoreObjectRequest(uri=uri, session_id=self._objects.session.id)
        response = await self._heads.call(OBJECTS.RestoreObject, request, timeout)
        return ObjectRef(response.object.object_id, await self.cluster_id())

    # Tasks

    async def run_task(
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
        template = task_pb2.TaskTemplate(
            operator=operator,
            name=name,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            outputs=outputs,
            wait_for_nodes=wait_for_nodes,
            recompute=recompute,
            checkpoint=checkpoint,
        )
        if params is not None:
            template.params = params if isinstance(params, bytes) else json.dumps(params).encode()
        if resources is not None:
            wanted = job_pb2.Resources()
            _jobfile.fill(wanted, resources, "resources")
            template.resources.CopyFrom(wanted)
        if timeout is not None:
            template.timeout.FromNanoseconds(int(timeout * 1e9))
        if node_labels:
            template.placement.node_labels.update(node_labels)
        return Task(self, await self._tasks.run(template, [await self._argument(arg) for arg in args], outputs))

    async def _argument(self, arg: Any) -> task_pb2.TaskArgument:
        if isinstance(arg, Task):
            arg = arg.ref()
        if not isinstance(arg, ObjectRef):
            table = await asyncio.to_thread(to_arrow, arg)
            encoding = encode(table)
            if encoding.size <= MAX_INLINE_BYTES:
                return task_pb2.TaskArgument(value=encoding.to_bytes())
            arg = await self.put(table)
        await self._objects.check("pass argument", arg)
        return task_pb2.TaskArgument(object_id=arg.id)

    # Cluster

    async def cluster(self) -> dict[str, Any]:
        """Return the head's identity and what its nodes offer and use: cluster_id, version, web, nodes_alive, jobs, total, used, …."""
        response = await self._heads.call(CLUSTER.GetCluster, cluster_service_pb2.GetClusterRequest())
        self._objects.heard(response.cluster_id)
        return {
            "cluster_id": response.cluster_id,
            "version": response.version,
            "web": response.web,
            "nodes_alive": response.nodes_alive,
            "jobs": dict(response.jobs),
            "tasks_pending": response.tasks_pending,
            "tasks_running": response.tasks_running,
            "total": _jobfile.to_dict(response.total),
            "used": _jobfile.to_dict(response.used),
        }

    async def cluster_id(self) -> str:
        """Return the cluster's id, which its object references carry."""
        if not self._objects.cluster_id:
            await self.cluster()
        return self._objects.cluster_id


class Job:
    """A handle of one job.

    Attributes:
        id: the id by which the handle was made: the job's own after `submit`.
        attached: whether `submit` found the job under its submission id instead of making it.

    """

    def __init__(self, client: Client, job_id: str, *, attached: bool = False) -> None:
        self._client = client
        self.id = job_id
        self.attached = attached

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    async def status(self) -> jobs.JobStatus:
        """Return the job as it is now.

        Raises:
            NotFoundError: for an unknown job.

        """
        request = job_service_pb2.GetJobRequest(job_id=self.id)
        return jobs.status_of((await self._client._heads.call(JOBS.GetJob, request)).job)

    async def stop(self) -> jobs.JobStatus:
        """Stop the job, and return it as it is then. A job that has ended is returned as it is."""
        request = job_service_pb2.StopJobRequest(job_id=self.id)
        return jobs.status_of((await self._client._heads.call(JOBS.StopJob, request)).job)

    async def resume(self, *, secrets: Mapping[str, str | bytes] | None = None) -> jobs.JobStatus:
        """Make a failed or stopped job run again where it stood.

        Args:
            secrets: values that replace those that the job has, by name, "env:NAME", or "file:PATH".

        Raises:
            ConflictError: if it has succeeded, or if its inputs or models have changed; the error says which.

        """
        request = job_service_pb2.ResumeJobRequest(job_id=self.id, secrets=_secrets.encoded(secrets))
        return jobs.status_of((await self._client._heads.call(JOBS.ResumeJob, request)).job)

    async def forget(self, *, discard: bool = False) -> jobs.JobStatus:
        """Drop the job, which must have ended, and return it as it was.

        Args:
            discard: also the files that it has published, if it did not succeed.

        """
        request = job_service_pb2.ForgetJobRequest(job_id=self.id, discard=discard)
        return jobs.status_of((await self._client._heads.call(JOBS.ForgetJob, request)).job)

    async def watch(self, *, timeout: float | None = None) -> AsyncGenerator[jobs.JobStatus, None]:
        """Yield the job now and after each change until it has ended. It connects again by itself when the head restarts.

        Raises:
            DeadlineError: if it has not ended within `timeout` seconds.

        """
        async with contextlib.aclosing(self._watch(timeout)) as changes:
            async for job in changes:
                yield jobs.status_of(job)

    async def _watch(self, timeout: float | None) -> AsyncGenerator[job_service_pb2.Job, None]:
        heads = self._client._heads

        async def changes() -> AsyncGenerator[job_service_pb2.Job, None]:
            job: job_service_pb2.Job | None = None
            async for response in heads.stream(JOBS.WatchJob, job_service_pb2.WatchJobRequest(job_id=self.id)):
                job = response.job
                yield job
            if job is None or jobs.status_of(job).state not in jobs.ENDED:
                raise errors.UnavailableError("the head ended the stream", op="follow job", id=self.id)

        async with contextlib.aclosing(follow("follow job", self.id, changes, timeout)) as all_changes:
            async for job in all_changes:
                yield job

    async def wait(self, timeout: float | None = None) -> jobs.JobResult:
        """Wait until the job has ended, and return how. A job that failed is a result too: see `result` and `raise_for_state`.

        Args:
            timeout: seconds. None means no limit.

        Raises:
            DeadlineError: if it has not ended in time; it goes on.

        """
        last: job_service_pb2.Job | None = None
        async with contextlib.aclosing(self._watch(timeout)) as changes:
            async for change in changes:
                last = change
        if last is None:
            raise errors.InternalError("the head told nothing of it", op="follow job", id=self.id)
        return jobs.result_of(last)

    async def result(self, timeout: float | None = None) -> jobs.JobResult:
        """Wait until the job has ended well, and return its counts and outputs.

        Raises:
            EngineError: the job's own error if it failed; a `StoppedError` if it was stopped; a `DeadlineError` as `wait` does.

        """
        return (await self.wait(timeout)).raise_for_state()

    async def logs(self, *, follow: bool = False, after: int = 0, timeout: float | None = None) -> AsyncGenerator[jobs.LogLine, None]:
        """Yield the lines of the job's log in order, each once, also across a restart of the head.

        Args:
            follow: wait for further lines until the job has ended.
            after: the sequence number after which lines are wanted: the last one seen is a cursor.
            timeout: seconds for all of it. None means no limit.

        """
        heads = self._client._heads
        cursor = after

        async def read() -> AsyncGenerator[job_service_pb2.LogLine, None]:
            nonlocal cursor
            request = job_service_pb2.ReadJobLogRequest(job_id=self.id, after_sequence=cursor, follow=follow)
            async for response in heads.stream(JOBS.ReadJobLog, request):
                for line in response.lines:
                    cursor = line.sequence
                    yield line

        async with contextlib.aclosing(_follow("follow job", self.id, read, timeout)) as lines:
            async for line in lines:
                yield jobs.line_of(line)


_follow = follow  # a name that parameters do not hide


class Task:
    """A task that was submitted. Its outputs may be named, and be arguments of further tasks, before they exist."""

    def __init__(self, client: Client, handle: Handle) -> None:
        self._client = client
        self._handle = handle

    def __repr__(self) -> str:
        return f"Task({self.id!r})"

    @property
    def id(self) -> str:
        """The task's id, 32 hexadecimal digits."""
        return self._handle.id.hex()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._handle.done.done()

    def ref(self, output: int = 0) -> ObjectRef:
        """Return the reference of an output, counted from 0."""
        return self._handle.ref(output, self._client._objects.cluster_id)

    async def wait(self, timeout: float | None = None) -> TaskResult:
        """Wait until the task has ended, and return how; a task that failed is a result too.

        Raises:
            DeadlineError: if it has not ended within `timeout` seconds; it goes on.

        """
        try:
            return await asyncio.wait_for(asyncio.shield(self._handle.done), timeout)
        except asyncio.TimeoutError:
            raise errors.DeadlineError(f"it has not ended within {timeout:g} s", op="wait for task", id=self.id) from None

    async def result(self, timeout: float | None = None) -> pa.Table:
        """Wait until the task has ended well, and return its first output; see `Client.get`.

        Raises:
            EngineError: the task's own error if it has failed or was cancelled; a `NotFoundError` if it makes no output.

        """
        return await self._client.get(self.ref(), timeout=timeout)

    def cancel(self, *, children: bool = False, force: bool = False) -> None:
        """Cancel the task unless it has ended.

        Args:
            children: also the tasks that it has submitted.
            force: do not wait for the operator to return.

        """
        self._client._tasks.cancel(self._handle, children=children, force=force)


async def load_spec(job: Any, base: str | os.PathLike[str]) -> job_pb2.JobSpec:
    """Make a JobSpec of whatever says what a job is."""
    if isinstance(job, job_pb2.JobSpec):
        return job
    if isinstance(job, Mapping):
        return await asyncio.to_thread(_jobfile.from_dict, job, base, _binary.model)
    if isinstance(job, (str, os.PathLike)):
        return await asyncio.to_thread(_jobfile.load, job, _binary.model)
    if hasattr(job, "to_dict"):
        return await asyncio.to_thread(_jobfile.from_dict, job.to_dict(), base, _binary.model)
    raise errors.InvalidArgumentError(
        f"a {type(job).__name__} is no job", op="submit job", hint="give a dict, the path of a job file, a JobSpec, or a pipeline"
    )
