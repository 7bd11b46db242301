"""A real engine for the tests: the binary of ENGINE_BINARY, else one that is built here, and heads on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The engine's program."""
    path = os.environ.get("ENGINE_BINARY")
    if not path:
        path = str(tmp_path_factory.mktemp("bin") / "engine")
        subprocess.run(["go", "build", "-o", path, "./cmd/engine"], cwd=ROOT, check=True)
    os.environ["ENGINE_BINARY"] = path
    return path


@dataclass
class Head:
    """A head with a worker, in one process."""

    address: str
    web: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()


def start(binary: str, folder: Path, *, port: int = 0, more: tuple[str, ...] = ()) -> Head:
    """Start a head that is ready when this returns."""
    command = [binary, "start", "--head", "--block", "-o", "json", "--data-dir", str(folder / "data"), "--port", str(port)]
    command += ["--web-port", "0", "--flight-port", "0", "--gossip-port", "-1", "--object-store-memory", "1GiB", *more]
    with (folder / "head.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            said = json.loads(text)
            return Head(said["address"], said["web"], process)
    raise AssertionError((folder / "head.log").read_text())


@pytest.fixture
def start_head(binary: str, tmp_path: Path) -> Iterator[Callable[..., Head]]:
    """Starts a head of the test's own; the same data folder again is the same cluster."""
    heads: list[Head] = []

    def begin(name: str = "head", **options: object) -> Head:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        heads.append(start(binary, folder, **options))
        return heads[-1]

    yield begin
    for head in heads:
        head.stop()


@pytest.fixture(scope="session")
def head(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """The head that tests share."""
    head = start(binary, tmp_path_factory.mktemp("head"))
    yield head
    head.stop()


@pytest.fixture
def client(head: Head) -> Iterator[engine.Client]:
    with engine.Client(head.address) as client:
        yield client


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A CSV file of 1,000 rows with the columns a and b."""
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(1000)))
    return path


def until(done: Callable[[], bool], what: str) -> None:
    """Wait until something is so, at most 20 s."""
    import time

    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, f"not within 20 s: {what}"
        time.sleep(0.01)
