#!/usr/bin/env python3
"""Executes the notebooks beside it; `scripts/notebooks-test.sh` calls it.

python execute.py FOLDER [NAME...] executes all notebooks, or those named, and writes them with their outputs, and their plots as PNG
files, into a folder. It fails if a cell raises, if a notebook makes no plot, or if one is stored with outputs.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
COLORS = re.compile(r"\x1b\[[0-9;]*m")
CELL_TIMEOUT = 600
"""Seconds that one cell may take; the first run fetches a model."""


def check_stored(notebook: nbformat.NotebookNode) -> None:
    """Refuse a notebook with outputs: they go stale unseen, and make every change of a plot a change of the file."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            raise SystemExit(f"cell {number} is stored with outputs; clear them with `jupyter nbconvert --clear-output --inplace`")


def plots(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return the plots of an executed notebook, as PNG."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def execute(path: Path, to: Path) -> int:
    """Execute one notebook in its own folder, write what came of it, also of a failure, and return how many plots it has made."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    check_stored(notebook)
    with tempfile.TemporaryDirectory() as sockets:
        # Over TCP, everybody on the machine could read along.
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(notebook, km=manager, timeout=CELL_TIMEOUT, resources={"metadata": {"path": str(path.parent)}})
        client.owns_km = True  # so that it ends the kernel
        try:
            client.execute()
        finally:
            nbformat.write(notebook, to / path.name)
    found = plots(notebook)
    for number, plot in enumerate(found, 1):
        (to / f"{path.stem}-{number}.png").write_bytes(plot)
    return len(found)


def main() -> None:
    """Parse the command line, and execute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="notebooks without their suffix; default: all")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    paths = [HERE / f"{name}.ipynb" for name in args.names] or sorted(HERE.glob("*.ipynb"))
    if not paths:
        raise SystemExit(f"{HERE} has no notebooks")
    for path in paths:
        start = time.monotonic()
        try:
            made = execute(path, args.folder)
        except CellExecutionError as error:
            raise SystemExit(f"{path.name}: {COLORS.sub('', str(error))}") from None
        if made == 0:
            raise SystemExit(f"{path.name}: it made no plot")
        print(f"{path.name}: {made} plots in {time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
