"""The engine that the tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines import Engine, Processes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = Path(os.environ.get("ENGINE_AIRFLOW_TEST") or tmp_path_factory.mktemp("live"))
    folder.mkdir(exist_ok=True)
    processes = Processes(folder)
    yield processes
    processes.stop()


@pytest.fixture(scope="session")
def cluster(processes: Processes) -> Engine:
    binary = os.environ.get("ENGINE_BINARY")
    assert binary, "ENGINE_BINARY is the path of the engine's program"
    return Engine(processes, binary)


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A CSV file of 1,000 rows with the columns a and b."""
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(1000)))
    return path
