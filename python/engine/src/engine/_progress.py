"""The progress of a job on standard error: a bar of rich in a terminal or notebook, else a line at each change of state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.jobs import JobStatus


def show(changes: Iterable[JobStatus]) -> None:
    """Show what becomes of a job, until it has ended."""
    try:
        from rich.console import Console
    except ImportError:
        _lines(changes)
        return
    console = Console(stderr=True)
    if console.is_terminal or console.is_jupyter:
        _bar(changes, console)
    else:
        _lines(changes)


def _bar(changes: Iterable[JobStatus], console: object) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=1.0, rows=0)
        for job in changes:
            bar.update(task, description=_title(job), completed=_fraction(job), rows=job.progress.rows_written)


def _lines(changes: Iterable[JobStatus]) -> None:
    last = ""
    for job in changes:
        title = _title(job)
        if title != last:
            print(f"{title}, {job.progress.rows_written:,} rows written", file=sys.stderr)
        last = title


def _title(job: JobStatus) -> str:
    why = f" ({job.reason})" if job.reason and not job.ended else ""
    return f"{job.name or 'job'} {job.job_id}: {job.state}{why}"


def _fraction(job: JobStatus) -> float:
    return 1.0 if job.state == "SUCCEEDED" else job.progress.fraction
