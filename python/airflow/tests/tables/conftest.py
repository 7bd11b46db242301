"""A real engine for the tests of this folder: heads on free ports, each in a folder of its own, ended with its test."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Head:
    """A head with a worker, in one process."""

    address: str
    process: subprocess.Popen[str]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


def start(folder: Path) -> Head:
    """Start a head that is ready when this returns."""
    binary = os.environ.get("ENGINE_BINARY")
    assert binary, "ENGINE_BINARY is the path of the engine's program"
    command = [binary, "start", "--head", "--block", "-o", "json", "--data-dir", str(folder / "data"), "--port", "0", "--web-port", "0"]
    command += ["--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "2", "--object-store-memory", "256MiB"]
    with (folder / "head.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            return Head(json.loads(text)["address"], process)
    raise AssertionError((folder / "head.log").read_text())


@pytest.fixture
def start_head(tmp_path: Path) -> Iterator[Callable[[str], Head]]:
    """Starts heads of the test's own, each another cluster."""
    heads: list[Head] = []

    def begin(name: str) -> Head:
        folder = tmp_path / name
        folder.mkdir()
        heads.append(start(folder))
        return heads[-1]

    yield begin
    for head in heads:
        head.stop()


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """The head that tests share."""
    head = start(tmp_path_factory.mktemp("head"))
    yield head
    head.stop()
