"""What the engine says of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import errors
from engine._proto.engine.v1 import job_service_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import datetime

    from engine._proto.engine.v1 import job_pb2

PENDING = "PENDING"
"""Accepted and durable; no task has been given to a worker yet."""
RUNNING = "RUNNING"
"""At least one task has been given to a worker."""
STOPPED = "STOPPED"
"""A user stopped it."""
SUCCEEDED = "SUCCEEDED"
"""The whole output is in place."""
FAILED = "FAILED"
"""It ended with an error."""

_STATES = {
    job_service_pb2.JOB_STATE_PENDING: PENDING,
    job_service_pb2.JOB_STATE_RUNNING: RUNNING,
    job_service_pb2.JOB_STATE_STOPPED: STOPPED,
    job_service_pb2.JOB_STATE_SUCCEEDED: SUCCEEDED,
    job_service_pb2.JOB_STATE_FAILED: FAILED,
}
_NUMBERS = {name: number for number, name in _STATES.items()}
ENDED = frozenset({STOPPED, SUCCEEDED, FAILED})
"""The states in which nothing more happens, unless the job is resumed."""


def state_number(state: str) -> job_service_pb2.JobState:
    """Return the number of a state on the wire."""
    if state not in _NUMBERS:
        raise errors.InvalidArgumentError(f"there is no state {state!r}; there are {', '.join(_NUMBERS)}", op="list jobs")
    return _NUMBERS[state]


@dataclass(frozen=True)
class Progress:
    """What a job has done so far. Counts of unfinished attempts are included while they run, and dropped if they fail.

    Attributes:
        tasks_total: tasks of the plan; 0 before the job is planned.
        tasks_done: tasks whose output is committed.
        tasks_running: tasks that a worker holds now.
        rows_read: rows read from the source.
        rows_processed: rows that the steps are through with; while a model works on a record batch, fewer than rows_read.
        rows_written: rows written to the sink.
        rows_rejected: rows set aside because they do not fit.
        rows_filtered: rows that steps filter have left out.
        bytes_read: bytes read, as stored.
        bytes_total: bytes of all inputs, as stored; 0 before the job is planned.
        bytes_written: bytes written, as stored.
        batches: record batches that went through the steps.

    """

    tasks_total: int = 0
    tasks_done: int = 0
    tasks_running: int = 0
    rows_read: int = 0
    rows_processed: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_filtered: int = 0
    bytes_read: int = 0
    bytes_total: int = 0
    bytes_written: int = 0
    batches: int = 0

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1; 0 before the job is planned."""
        if self.bytes_total > 0:
            # What is read ahead of a model is not done yet.
            return min(1.0, self.bytes_read / self.bytes_total * self.rows_processed / max(1, self.rows_read))
        return self.tasks_done / self.tasks_total if self.tasks_total else 0.0


@dataclass(frozen=True)
class JobStatus:
    """A job as it was when it was asked for.

    Attributes:
        job_id: its id.
        submission_id: the id that its submission was given; may be empty.
        name: its name; not unique.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED, or FAILED.
        reason: what a pending job waits for, in words; may be empty.
        error: why it failed, or that it was stopped because nobody followed it (see orphan_ttl); else None.
        progress: what it has done.
        submit_time: when it was accepted, in UTC.
        start_time: when its first task started; None before.
        end_time: when it ended; None before.
        labels: its labels.
        resumptions: how often it has been resumed.
        spec: the job as a dict that can be submitted again; empty where the call says so.

    """

    job_id: str
    submission_id: str
    name: str
    state: str
    reason: str
    error: errors.EngineError | None
    progress: Progress
    submit_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    labels: Mapping[str, str] = field(default_factory=dict)
    resumptions: int = 0
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        job_id: its id.
        state: STOPPED, SUCCEEDED, or FAILED.
        rows_read: rows read from the source: rows_written + rows_rejected + rows_filtered.
        rows_written: rows written to the sink.
        rows_rejected: rows set aside because they do not fit.
        rows_filtered: rows that steps filter have left out.
        bytes_read: bytes read, as stored.
        bytes_written: bytes written, as stored.
        seconds: from its submission to its end.
        outputs: the output files in the order of the input, as paths or URLs; of objects their references, see `ObjectRef.parse`.
        error: why it failed, or that it was stopped because nobody followed it (see orphan_ttl); else None.

    """

    job_id: str
    state: str
    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_filtered: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    outputs: tuple[str, ...] = ()
    error: errors.EngineError | None = None

    def raise_for_state(self) -> JobResult:
        """Return the result of a job that succeeded.

        Raises:
            EngineError: the job's own error if it failed; a `StoppedError` if it was stopped.

        """
        if self.state == SUCCEEDED:
            return self
        if self.state == STOPPED:
            raise self.error or errors.StoppedError("the job was stopped", op="run job", id=self.job_id)
        raise self.error or errors.InternalError(f"the job ended {self.state}", op="run job", id=self.job_id)


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        sequence: counts the lines of one job from 1, so it is a cursor; gaps are possible after a change of the head.
        time: when it was written, in UTC by the clock of the node that wrote it.
        level: DEBUG, INFO, WARN, or ERROR.
        origin: "head" or a worker's node id.
        message: what happened, without a line end.
        attributes: details, such as task or rows.

    """

    sequence: int
    time: datetime
    level: str
    origin: str
    message: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        details = "".join(f" {k}={v}" for k, v in sorted(self.attributes.items()))
        return f"{self.time:%H:%M:%S.%f} {self.level:5} {self.message}{details}"


def parse(text: str, *, name: str = "job", base: str | os.PathLike[str] = ".") -> job_pb2.JobSpec:
    """Make a JobSpec of the text of a job file, for programs that change it before they submit it.

    Args:
        text: YAML or JSON.
        name: stands in errors, as a file's name would, and gives the job its default name.
        base: the folder to which relative paths are relative.

    Raises:
        InvalidArgumentError: for what no job can have, with its line, and a misspelled name with the nearest known one.
        NotFoundError: for the name of a model that is not imported.

    """
    from engine import _binary, _jobfile

    return _jobfile.parse(name, text, base, _binary.model)


def secrets_of(spec: job_pb2.JobSpec, given: Mapping[str, str | bytes] | None = None) -> dict[str, bytes]:
    """Return the values of what a job's credential fields refer to, as `Client.submit` takes them for a JobSpec.

    Args:
        spec: the job.
        given: values of ${secret:NAME}, by name. Those of ${secret:env:NAME} and ${secret:file:PATH} are this process's.

    Raises:
        InvalidArgumentError: for a name that is not given, with its place in the job.
        PermissionError: for a secret in a file that others may read or change.

    """
    from engine import _secrets

    return _secrets.collect(spec, given, local=True)


def secret_names(spec: job_pb2.JobSpec) -> list[str]:
    """Return what a job's credential fields refer to, sorted: "NAME", "env:NAME", or "file:PATH"."""
    from engine import _secrets

    return sorted({name for _, _, text in _secrets.credentials(spec) if (name := _secrets.reference(text))})


def status_of(job: job_service_pb2.Job) -> JobStatus:
    """Make a status of its message."""
    from datetime import timezone

    from engine._jobfile import to_dict

    def time(name: str) -> datetime | None:
        at: datetime | None = getattr(job, name).ToDatetime(timezone.utc) if job.HasField(name) else None
        return at

    return JobStatus(
        job_id=job.job_id,
        submission_id=job.submission_id,
        name=job.name,
        state=_STATES.get(job.state, PENDING),
        reason=job.reason,
        error=errors.from_proto(job.error) if job.HasField("error") else None,
        progress=Progress(**{name: getattr(job.progress, name) for name in Progress.__dataclass_fields__}),
        submit_time=time("submit_time"),
        start_time=time("start_time"),
        end_time=time("end_time"),
        labels=dict(job.labels),
        resumptions=job.resumptions,
        spec=to_dict(job.spec) if job.HasField("spec") else {},
    )


def result_of(job: job_service_pb2.Job) -> JobResult:
    """Make the result of a job that has ended."""
    progress = job.progress
    seconds = job.end_time.ToNanoseconds() - job.submit_time.ToNanoseconds() if job.HasField("end_time") else 0
    return JobResult(
        job_id=job.job_id,
        state=_STATES.get(job.state, FAILED),
        rows_read=progress.rows_read,
        rows_written=progress.rows_written,
        rows_rejected=progress.rows_rejected,
        rows_filtered=progress.rows_filtered,
        bytes_read=progress.bytes_read,
        bytes_written=progress.bytes_written,
        seconds=seconds / 1e9,
        outputs=tuple(o.path for o in job.outputs),
        error=errors.from_proto(job.error) if job.HasField("error") else None,
    )


def result_of_json(result: Mapping[str, Any]) -> JobResult:
    """Make a result of what `engine run -o json` prints."""
    failure = result.get("error")
    return JobResult(
        job_id=result["job_id"],
        state=result["state"],
        **{name: result.get(name, 0) for name in ("rows_read", "rows_written", "rows_rejected", "rows_filtered")},
        bytes_read=result.get("bytes_read", 0),
        bytes_written=result.get("bytes_written", 0),
        seconds=result.get("seconds", 0.0),
        outputs=tuple(result.get("outputs") or ()),
        error=errors.make(
            failure.get("kind", ""),
            failure.get("message", ""),
            op=failure.get("operation", ""),
            id=failure.get("id", ""),
            hint=failure.get("hint", ""),
        )
        if failure
        else None,
    )


def line_of(line: job_service_pb2.LogLine) -> LogLine:
    """Make a line of its message."""
    from datetime import timezone

    return LogLine(
        sequence=line.sequence,
        time=line.time.ToDatetime(timezone.utc),
        level=line.level,
        origin=line.origin,
        message=line.message,
        attributes=dict(line.attributes),
    )
