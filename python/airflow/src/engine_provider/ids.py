"""Submission ids: by which a task finds its job again, whatever became of the process that submitted it.

An id is NAMESPACE/DAG/TASK/RUN[/MAP INDEX]@GENERATION. All tries of a generation have the same one, so a retry attaches to the job of the
try before. Clearing a task that has ended, or is deferred, begins a new generation, and so a new job.

A DAG run that is deleted and made again has the same run id, and so its tasks have the same submission ids. So do those of another Airflow
that uses the same namespace. What tells them apart is when the run was started, which a retry, a restarted scheduler, or a cleared task
leave as it is: jobs carry it as a label.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.definitions.context import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

MAX_LENGTH = 200
"""How many characters the engine takes as a submission id."""
RUN_STARTED = "airflow_run_started"
"""The label of a job that says when the DAG run was started whose task has submitted it."""

_OTHER = re.compile(r"[^A-Za-z0-9._:/+-]")  # The engine takes @ too, which separates the generation here.


def generation(max_tries: int, retries: int, try_number: int) -> int:
    """Return a number that is the same for all tries between two clearings, and grows with each clearing.

    Airflow gives a task that is cleared as many tries more as it has retries, counted from the last try; so what is left of `max_tries`
    is the number of the try before which the generation began, from 0.

    Args:
        max_tries: the number of the last try but one that the task instance may have.
        retries: the task's own.
        try_number: the number of this try, from 1.

    """
    return min(max(0, max_tries - retries), max(0, try_number - 1))


def generation_of(ti: RuntimeTaskInstanceProtocol, retries: int) -> int:
    """Return the generation of a running task instance."""
    return generation(ti.max_tries, retries, ti.try_number)


def submission_id(
    namespace: str, dag_id: str, task_id: str, run_id: str, map_index: int, generation: int, max_length: int = MAX_LENGTH
) -> str:
    """Return the submission id of a task instance.

    Args:
        namespace: tells Airflows apart that share a cluster.
        dag_id: the DAG's.
        task_id: the task's, with those of its groups.
        run_id: the DAG run's.
        map_index: of a mapped task, from 0; -1 for others.
        generation: see `generation`.
        max_length: how many characters it has at most.

    What an id cannot hold is replaced, and what is too long is cut; then a hash of the whole keeps different tasks apart.

    """
    parts = [namespace, dag_id, task_id, run_id, *([str(map_index)] if map_index is not None and map_index >= 0 else [])]
    whole = "/".join(parts)
    suffix = f"@{generation}"
    text = _OTHER.sub("_", whole)
    if text != whole or len(text) + len(suffix) > max_length or any("/" in part for part in parts):
        mark = "." + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        text = text[: max_length - len(suffix) - len(mark)] + mark
    return text + suffix


def submission_id_of(ti: RuntimeTaskInstanceProtocol, namespace: str, generation: int, max_length: int = MAX_LENGTH) -> str:
    """Return the submission id of a running task instance in a generation."""
    map_index = ti.map_index if ti.map_index is not None else -1
    return submission_id(namespace, ti.dag_id, ti.task_id, ti.run_id, map_index, generation, max_length)


def run_started(context: Context) -> str:
    """Return when the DAG run of a task was started, as ISO 8601 in UTC; empty if Airflow does not say it.

    It stays while the run goes on, unless somebody sets the state of the active run to queued: then Airflow starts it anew, and the jobs of
    its tasks are those of a run before. A run that is begun again after its end, because a task of it was cleared, has another one, and
    only the tasks that were cleared run in it, which are of a new generation.
    """
    run: Any = context.get("dag_run")
    start = run.start_date if run is not None else None
    return start.astimezone(timezone.utc).isoformat() if start is not None else ""


def is_same_run(labels: Mapping[str, str], started: str) -> bool:
    """Tell whether a job is of the DAG run that was started then. Where one of the two does not say when it was, nothing speaks against it.

    Args:
        labels: the job's.
        started: of the DAG run, see `run_started`.

    """
    told = labels.get(RUN_STARTED, "")
    return not told or not started or told == started


def is_run_before(labels: Mapping[str, str], submitted: datetime | None, started: str) -> bool:
    """Tell whether a job is of a DAG run that was deleted, or had ended, before the one began that was started then.

    Such a job was submitted before, too. Otherwise both runs go on at once, and so are those of two Airflows.

    Args:
        labels: the job's.
        submitted: when it was.
        started: of the DAG run that is asked for, see `run_started`.

    """
    try:
        start = datetime.fromisoformat(started)
        return submitted is not None and datetime.fromisoformat(labels[RUN_STARTED]) < start and submitted < start
    except (KeyError, TypeError, ValueError):  # Somebody else's label.
        return False
