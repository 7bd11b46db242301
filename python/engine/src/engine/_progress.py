"""The progress of a job: a bar in a notebook, a bar of rich on standard error in a terminal, else a line at each change of state."""

from __future__ import annotations

import html
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.jobs import JobStatus


def show(changes: Iterable[JobStatus]) -> None:
    """Show what becomes of a job, until it has ended."""
    if _in_notebook():
        _cell(changes)
        return
    try:
        from rich.console import Console
    except ImportError:
        _lines(changes)
        return
    console = Console(stderr=True)
    if console.is_terminal:
        _bar(changes, console)
    else:
        _lines(changes)


def _in_notebook() -> bool:
    """Tell whether a kernel runs this whose front end shows HTML: Jupyter, an editor's notebook, Colab."""
    ipython: Any = sys.modules.get("IPython")  # A notebook has imported it.
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def _cell(changes: Iterable[JobStatus]) -> None:
    """Show a bar as a cell's output, which changes in place; rich's own needs the widgets that many notebooks lack."""
    from IPython.display import display

    handle: Any = None
    for job in changes:
        title, rows, fraction = _title(job), f"{job.progress.rows_written:,} rows", _fraction(job)
        bar = f'<progress value="{fraction:.4f}" max="1"></progress>'
        data = {
            "text/plain": f"{title}  {100 * fraction:.0f}%  {rows}",
            "text/html": f"<div>{html.escape(title)} {bar} {100 * fraction:.0f}%, {rows}</div>",
        }
        if handle is None:
            handle = display(data, raw=True, display_id=True)
        else:
            handle.update(data, raw=True)


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
