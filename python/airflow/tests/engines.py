"""A real engine on free ports, in a folder of its own, and other processes of tests. What is started here is ended here."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE = 180.0
"""Seconds that anything may take: the machine may be loaded. Nothing waits for as long if all is well."""


def until(done: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + within
    while True:
        value = done()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def kill_clusters(folder: Path) -> None:
    """Kill the nodes that tasks have started below a folder: they lead sessions of their own, so nobody else ends them then."""
    for file in folder.glob("*/*/engine.pid"):
        with contextlib.suppress(OSError):
            found = re.search(r"\d+", file.read_text())
            # The id may be another process's by now.
            if found and str(file.parent).encode() in Path(f"/proc/{found[0]}/cmdline").read_bytes():
                os.killpg(int(found[0]), signal.SIGKILL)


class Processes:
    """The processes that were started, each a session of its own, whose ids are in a file for whoever cleans up after a crash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "pids"
        self._all: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder, start_new_session=True
            )
        with self._file.open("a") as file:
            file.write(f"{process.pid}\n")
        self._all[name] = process
        return process

    def kill(self, name: str) -> None:
        """Kill a process and all that it has started."""
        process = self._all.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def alive(self, name: str) -> bool:
        return self._all[name].poll() is None

    def stop(self) -> None:
        for process in self._all.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + 5
        for name in list(self._all):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._all[name].wait(max(0.1, end - time.monotonic()))
            self.kill(name)
        kill_clusters(self.folder / "clusters")
        self._file.unlink(missing_ok=True)


class Engine:
    """A cluster: a head that can be killed and started again at the same port, and workers with a label each."""

    def __init__(self, processes: Processes, binary: str) -> None:
        self._processes = processes
        self._binary = binary
        self.port, self.web_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.data = processes.folder / "engine-head"
        self.start_head()
        self.start_worker("open")

    def start_head(self) -> None:
        command = [self._binary, "start", "--head", "--block", "--num-cpus", "0", "--data-dir", str(self.data), "--port", str(self.port)]
        self._processes.start("engine-head", [*command, "--web-port", str(self.web_port), "--gossip-port", "-1"])
        until(self._is_ready, "the engine's head is ready")

    def _is_ready(self) -> bool:
        assert self._processes.alive("engine-head"), (self._processes.folder / "engine-head.log").read_text()
        try:
            with engine.Client(self.address, timeout=2) as client:
                return bool(client.cluster())
        except engine.EngineError:
            return False

    def kill_head(self) -> None:
        self._processes.kill("engine-head")

    def start_worker(self, gate: str, cpus: int = 1) -> None:
        folder = self._processes.folder / f"engine-{gate}"
        command = [self._binary, "start", "--address", self.address, "--block", "--data-dir", str(folder), "--num-cpus", str(cpus)]
        command += ["--labels", f"gate={gate}", "--flight-port", "0", "--object-store-memory", "128MiB"]
        self._processes.start(f"engine-{gate}", command)

    def kill_worker(self, gate: str) -> None:
        self._processes.kill(f"engine-{gate}")

    def token(self, role: str) -> str:
        """Make a token of a role, and return its text."""
        command = [self._binary, "token", "create", f"test-{role}-{time.monotonic_ns()}", "--role", role, "--address", self.address]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "token"
            subprocess.run([*command, "--file", str(file)], check=True, capture_output=True, timeout=PATIENCE)
            return file.read_text().strip()

    def jobs(self, run_id: str) -> list[engine.JobStatus]:
        """Return the jobs of a DAG run, the oldest first."""
        with engine.Client(self.address) as client:
            return [job for job in reversed(client.jobs(limit=1000)) if job.labels.get("airflow_run") == run_id]

    def log(self, job_id: str) -> list[engine.LogLine]:
        with engine.Client(self.address) as client:
            return list(client.job(job_id).logs())
