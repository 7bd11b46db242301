"""Clusters that Airflow's tasks start, scale, and stop, behind one narrow interface, and the driver for processes on this host."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import Client, errors

if TYPE_CHECKING:
    from collections.abc import Mapping

STARTUP_TIMEOUT = 60.0
"""Seconds in which a cluster must be ready."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TAIL = 10
_POLL = 0.1
_UNWIND = 4.0  # Seconds; Airflow kills a task for good 5 s after it was told to end.


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        name: by which its driver finds it again.
        address: "host:port" of its head, for clients.
        web: the base URL of its head's pages; empty if it has none.
        workers: how many workers it has beside the head's own.
        driver: the name of its driver.
        details: what its driver remembers.

    """

    name: str
    address: str
    web: str = ""
    workers: int = 0
    driver: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as what an XCom can hold."""
        return {**asdict(self), "details": dict(self.details)}


class ClusterDriver(ABC):
    """What starts and ends clusters somewhere. All calls block, and may be repeated: to do again what is done does nothing.

    Attributes:
        name: by which tasks choose it; constant of each class.

    """

    name = ""

    @abstractmethod
    def start(self, name: str, workers: int, timeout: float) -> Cluster:
        """Start a cluster, or find the one of the name, and return once its head and that many workers are ready.

        If it fails, or is broken off by any exception, as when the task is killed, it ends what it has started; a cluster that ran before
        goes on.

        Args:
            name: 1 to 100 letters, digits, and ._-
            workers: how many beside the head's own.
            timeout: seconds in which it must be ready.

        Raises:
            DeadlineError: if it was not ready in time; with what it said.
            EngineError: if it could not be started.

        """

    @abstractmethod
    def scale(self, name: str, workers: int, timeout: float) -> Cluster:
        """Give a cluster more workers or fewer, and return once those are ready. Work of a worker that goes is done by others.

        Raises:
            NotFoundError: if there is no cluster of the name.
            DeadlineError: as `start` does.

        """

    @abstractmethod
    def stop(self, name: str, timeout: float) -> None:
        """End a cluster and its workers. One that is not there is ended."""


class ProcessDriver(ClusterDriver):
    """Clusters of processes on this host, which go on when the task has ended. What it knows lies in a folder for each cluster.

    Args:
        binary: the program. Default: ENGINE_BINARY, else `engine` on PATH.
        folder: where the clusters' folders are. Default: ENGINE_CLUSTERS, else engine/clusters in the user's cache. Tasks that run on
            several hosts must run on the one where the cluster is.
        head_options: more flags of `engine start --head`, such as {"num-cpus": 4}.
        worker_options: more flags of `engine start --address`.

    """

    name = "process"

    def __init__(
        self,
        binary: str | None = None,
        folder: str | None = None,
        head_options: Mapping[str, Any] | None = None,
        worker_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._binary = binary
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._folder = Path(folder or os.environ.get("ENGINE_CLUSTERS") or cache / "engine" / "clusters")
        self._head_options = dict(head_options or {})
        self._worker_options = dict(worker_options or {})

    def start(self, name: str, workers: int, timeout: float) -> Cluster:
        """Start `engine start --head` and its workers; see `ClusterDriver.start`."""
        deadline = time.monotonic() + timeout
        home = self._home(name)
        known = self._read(name)
        if known is not None and self._await_answer(known, deadline):
            return self._scale(known, workers, deadline)
        existed, before = home.is_dir(), set(filter(_alive, _nodes(home)))
        try:
            home.mkdir(parents=True, exist_ok=True)
            options = {"port": 0, "web-port": 0, "flight-port": 0, "gossip-port": 0, **self._head_options}
            said = self._run(["start", "--head", "--data-dir", str(home / "head"), "-o", "json", *_flags(options)], home / "head", deadline)
            known = Cluster(name, said["address"], said.get("web") or "", 0, self.name, {"folder": str(home), "pid": said.get("pid", 0)})
            self._write(known)
            return self._scale(known, workers, deadline)
        except BaseException:
            until = time.monotonic() + _UNWIND
            for folder in _nodes(home):
                if folder not in before:
                    self._stop_node(folder, until)
            if not existed:
                shutil.rmtree(home, ignore_errors=True)
            raise

    def scale(self, name: str, workers: int, timeout: float) -> Cluster:
        """Start or stop workers; see `ClusterDriver.scale`."""
        known = self._read(name)
        if known is None:
            raise errors.NotFoundError("there is no such cluster on this host", op="scale cluster", id=name)
        return self._scale(known, workers, time.monotonic() + timeout)

    def stop(self, name: str, timeout: float) -> None:
        """Stop the workers, and then the head; see `ClusterDriver.stop`."""
        home = self._home(name)
        if not home.is_dir():
            return
        deadline = time.monotonic() + timeout
        for folder in _nodes(home):
            self._stop_node(folder, deadline)
        shutil.rmtree(home, ignore_errors=True)

    def _scale(self, cluster: Cluster, workers: int, deadline: float) -> Cluster:
        if workers < 0:
            raise errors.InvalidArgumentError(f"{workers} workers are too few", op="scale cluster", id=cluster.name)
        home = self._home(cluster.name)
        running = {folder for folder in home.glob("worker-*") if _alive(folder)}
        wanted = [home / f"worker-{i + 1}" for i in range(workers)]
        for folder in sorted(running - set(wanted)):
            self._stop_node(folder, deadline)
            shutil.rmtree(folder, ignore_errors=True)
        options = {"flight-port": 0, **self._worker_options}
        for folder in wanted:
            if folder not in running:
                arguments = ["start", "--address", cluster.address, "--data-dir", str(folder), "-o", "json", *_flags(options)]
                self._run(arguments, folder, deadline)
        own = 0 if str(self._head_options.get("num-cpus", "")) == "0" else 1
        self._await_nodes(cluster, workers + own, deadline)
        scaled = Cluster(cluster.name, cluster.address, cluster.web, workers, self.name, cluster.details)
        self._write(scaled)
        return scaled

    def _await_nodes(self, cluster: Cluster, nodes: int, deadline: float) -> None:
        """Wait until so many nodes have joined."""
        with Client(cluster.address) as client:
            while True:
                alive = int(client.cluster()["nodes_alive"])
                if alive >= nodes:
                    return
                if time.monotonic() > deadline:
                    home = self._home(cluster.name)
                    said = "\n".join(_tail(folder / "engine.log") for folder in sorted(home.glob("worker-*")))
                    raise errors.DeadlineError(
                        f"{alive} of {nodes} nodes have joined; they said: {said}", op="start cluster", id=cluster.name
                    )
                time.sleep(_POLL)

    def _run(self, arguments: list[str], folder: Path, deadline: float) -> dict[str, Any]:
        """Run the program, and return what it prints in JSON."""
        op = "start cluster" if arguments[0] == "start" else "stop cluster"
        spared = _pid(folder) if arguments[0] == "start" and _alive(folder) else 0  # It ran before.
        program = [self._program(), *arguments]
        processes: list[subprocess.Popen[str]] = []

        def spawn() -> None:
            processes.append(
                subprocess.Popen(
                    program,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # What kills the task must not take the cluster with it.
                )
            )

        try:
            # A signal's handler raises in the main thread. There it could come when the process exists, and nobody knows of it yet.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(int).result()  # From here on the thread is one that the pool waits for.
                pool.submit(spawn).result()
            [process] = processes
            out, said = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            out, said = _end(process)
            self._kill_node(folder, spared)
            told = _tail(folder / "engine.log") or said.strip() or "nothing"
            raise errors.DeadlineError(f"it was not ready in time; it said: {told}", op=op, id=str(folder)) from None
        except BaseException:
            for begun in processes:
                _end(begun)
            self._kill_node(folder, spared)
            raise
        if process.returncode != 0:
            told = said.strip() or _tail(folder / "engine.log") or f"exit code {process.returncode}"
            raise errors.UnavailableError(f"it could not be started: {told}", op=op, id=str(folder))
        try:
            parsed = json.loads(out) if out.strip() else {}
        except ValueError:
            raise errors.InternalError(f"it printed {out[:200]!r}", op=op, id=str(folder)) from None
        return dict(parsed) if isinstance(parsed, dict) else {}

    def _stop_node(self, folder: Path, deadline: float) -> None:
        if not _alive(folder):
            return
        grace = max(1, int(deadline - time.monotonic()) - 6)
        try:
            self._run(["stop", "--data-dir", str(folder), "--grace", f"{grace}s"], folder, deadline)
        except errors.EngineError:
            self._kill_node(folder)

    def _kill_node(self, folder: Path, spared: int = 0) -> None:
        """Kill a node that neither became ready nor stopped, unless its process is the one that is spared, and wait for its end."""
        pid = _pid(folder)
        if not pid or pid == spared or not _alive(folder):
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        until = time.monotonic() + _UNWIND / 2
        while _pid(folder) == pid and _alive(folder) and time.monotonic() < until:
            time.sleep(_POLL / 10)

    def _program(self) -> str:
        given = self._binary or os.environ.get("ENGINE_BINARY") or "engine"
        found = shutil.which(given)
        if found is None:
            hint = "put the program engine on PATH, or its path into ENGINE_BINARY"
            raise errors.NotFoundError("there is no such program", op="start cluster", id=given, hint=hint)
        return found

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name or ""):
            raise errors.InvalidArgumentError(f"{name!r} is no name: use 1 to 100 letters, digits, and ._-", op="name cluster", id="name")
        return self._folder / name

    def _read(self, name: str) -> Cluster | None:
        try:
            return Cluster(**json.loads((self._home(name) / "cluster.json").read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise errors.CorruptError("its cluster.json cannot be read", op="find cluster", id=name) from None

    def _write(self, cluster: Cluster) -> None:
        path = self._home(cluster.name) / "cluster.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(cluster.to_dict()))
        temporary.replace(path)

    def _await_answer(self, cluster: Cluster, deadline: float) -> bool:
        """Wait until a cluster answers. Return whether it does; False if its head does not run, so that it must be started."""
        while _alive(self._home(cluster.name) / "head"):
            try:
                with Client(cluster.address, timeout=5.0) as client:
                    client.cluster()
                return True
            except errors.EngineError as error:
                if time.monotonic() > deadline:
                    raise errors.DeadlineError(
                        f"its head runs, and does not answer: {error}", op="start cluster", id=cluster.name
                    ) from None
            time.sleep(_POLL)
        return False


DRIVERS: dict[str, type[ClusterDriver]] = {ProcessDriver.name: ProcessDriver}
"""The drivers by name. One of your own is added here, or given by its class's dotted path."""


def make_driver(driver: str, options: Mapping[str, Any] | None = None) -> ClusterDriver:
    """Return a driver by its name or its class's dotted path, made with options.

    Raises:
        InvalidArgumentError: if there is none, or it does not take the options.

    """
    made: Any = DRIVERS.get(driver)
    if made is None and "." in driver:
        from importlib import import_module

        module, _, attribute = driver.rpartition(".")
        try:
            made = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise errors.InvalidArgumentError(str(error), op="find driver", id=driver) from None
    if not isinstance(made, type) or not issubclass(made, ClusterDriver):
        raise errors.InvalidArgumentError(
            f"there is no such driver of clusters; there are {', '.join(DRIVERS)}", op="find driver", id=driver
        )
    try:
        return made(**(options or {}))
    except TypeError as error:
        raise errors.InvalidArgumentError(str(error), op="make driver", id=driver) from None


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags = []
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, (dict, list)) else str(value).lower() if isinstance(value, bool) else str(value)
        flags.append(f"--{key.replace('_', '-')}={text}")
    return flags


def _nodes(home: Path) -> list[Path]:
    """Return the folders of a cluster's nodes, in the order in which they are stopped: the head last."""
    return [*sorted(home.glob("worker-*"), reverse=True), home / "head"]


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End the program, and return what it has said. If it starts a node, it ends that, too."""
    process.terminate()
    try:
        return process.communicate(timeout=_UNWIND / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def _pid(folder: Path) -> int:
    """Return the id of the process that a node's folder belongs to; 0 if there is none."""
    try:
        match = re.search(r"\d+", (folder / "engine.pid").read_text())
    except OSError:
        return 0
    return int(match[0]) if match else 0


def _alive(folder: Path) -> bool:
    """Tell whether a node's process runs, and is an engine."""
    pid = _pid(folder)
    if not pid:
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return str(folder).encode() in command or b"engine" in command.split(b"\0")[0]


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL:])
    except OSError:
        return ""
