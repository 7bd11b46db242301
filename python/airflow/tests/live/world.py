"""A real Airflow on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import PATIENCE, free_port, until

if TYPE_CHECKING:
    from engines import Engine, Processes

SECRET = "never-to-be-seen-anywhere"
"""The password of the Airflow connection vault."""

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Airflow:
    """An Airflow with a LocalExecutor: its components are processes of their own, so that one of them can be killed."""

    def __init__(self, processes: Processes, cluster: Engine, clusters: Path) -> None:
        self._processes = processes
        self.home = processes.folder / "airflow"
        self.dags = self.home / "dags"
        shutil.copytree(Path(__file__).parent / "dags", self.dags)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        programs = str(Path(sys.executable).parent)
        settings = {
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__XCOM_BACKEND": "engine_provider.xcom.EngineXComBackend",
            "ENGINE__XCOM_CHECKPOINT": self.home / "xcom",
            "CORE__PARALLELISM": 4,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__HOST": "127.0.0.1",
            "API__PORT": self.port,
            "API__WORKERS": 1,
            "API_AUTH__JWT_SECRET": "for tests of this machine alone, and long enough for HS512 to be content",
            "LOGGING__WORKER_LOG_SERVER_PORT": free_port(),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(),
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": 2,
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 5,
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 30,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 2,
            "TRIGGERER__JOB_HEARTBEAT_SEC": 1,
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 5,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 600,
        }
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")},
            **{f"AIRFLOW__{k}": str(v) for k, v in settings.items()},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONN_VAULT": json.dumps({"conn_type": "generic", "password": SECRET}),
            "ENGINE_CLUSTERS": str(clusters),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "no_proxy": "127.0.0.1,localhost",
        }
        self.command("db", "migrate")
        self._alone = processes.folder / "airflow-alone"
        self._alone.mkdir()
        shutil.copy(self.home / "airflow.db", self._alone)
        for component in COMPONENTS:
            self.start(component)
        self._token = ""
        until(self._is_ready, "Airflow is ready", 2 * PATIENCE)
        # In Airflow's database, from where the triggerer gets it by another way than from the environment.
        self._connection = {"conn_type": "engine", "host": "127.0.0.1", "port": cluster.port}
        self.api("POST", "/connections", {"connection_id": "engine_default", **self._connection})

    def command(self, *arguments: str) -> str:
        """Run `airflow ...` to its end, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments], env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"airflow {' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def without_scheduler(self) -> dict[str, str]:
        """Return the environment of an Airflow of its own with the same DAGs, in which nothing runs."""
        return {**self.env, "AIRFLOW_HOME": str(self._alone), "AIRFLOW_CONN_ENGINE_DEFAULT": json.dumps(self._connection)}

    def start(self, component: str) -> None:
        self._processes.start(f"airflow-{component}", [sys.executable, "-m", "airflow", component], self.env)

    def kill(self, component: str) -> None:
        self._processes.kill(f"airflow-{component}")

    def _is_ready(self) -> bool:
        for component in COMPONENTS:
            assert self._processes.alive(f"airflow-{component}"), (self._processes.folder / f"airflow-{component}.log").read_text()[-5000:]
        try:
            token = json.load(urllib.request.urlopen(f"{self.url}/auth/token", timeout=5))
            self._token = token["access_token"]
            health = self.api("GET", "/monitor/health")
            known = {dag["dag_id"] for dag in self.api("GET", "/dags?limit=100")["dags"]}
        except (OSError, KeyError, AssertionError):
            return False
        alive = all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))
        return alive and {"sync", "deferred", "cluster"} <= known

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API."""
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/json")
        request.add_header("Accept", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from None
        return json.loads(text) if text else None

    def trigger(self, dag: str, id: str | None = None, **conf: Any) -> Run:
        """Begin a run of a DAG, under an id of its own if none is given."""
        named = {"dag_run_id": id} if id else {}
        made = self.api("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf, **named})
        return Run(self, dag, made["dag_run_id"])


class Run:
    """One run of a DAG, most of which have one task."""

    def __init__(self, airflow: Airflow, dag: str, id: str) -> None:
        self._airflow = airflow
        self.dag = dag
        self.id = id
        self._path = f"/dags/{dag}/dagRuns/{urllib.request.quote(id, safe='')}"

    def instance(self, task: str = "run") -> dict[str, Any]:
        return dict(self._airflow.api("GET", f"{self._path}/taskInstances/{task}"))

    def state(self, task: str = "run") -> str:
        return str(self.instance(task)["state"])

    def wait(self, *states: str, task: str = "run") -> dict[str, Any]:
        """Wait until a task is in one of the states, and return it."""
        try:
            return until(lambda: (found := self.instance(task)) and found["state"] in states and found, f"{self.dag}.{task} is {states}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.state(task)}:\n{self.text(task)}") from None

    def ended(self) -> str:
        """Wait until the run has ended, and return its state."""
        path = self._path
        return str(until(lambda: (s := self._airflow.api("GET", path)["state"]) in ("success", "failed") and s, f"{self.dag} ended"))

    def mark(self, state: str, task: str = "run") -> None:
        self._airflow.api("PATCH", f"{self._path}/taskInstances/{task}", {"new_state": state})

    def delete(self) -> None:
        self._airflow.api("DELETE", self._path)

    def clear(self, task: str = "run") -> None:
        body = {"dry_run": False, "task_ids": [task], "dag_run_id": self.id, "only_failed": False, "reset_dag_runs": True}
        self._airflow.api("POST", f"/dags/{self.dag}/clearTaskInstances", body)

    def log(self, task: str = "run", attempt: int | None = None) -> list[dict[str, Any]]:
        """Return the lines that Airflow shows of a try."""
        attempt = self.instance(task)["try_number"] if attempt is None else attempt
        answer = self._airflow.api("GET", f"{self._path}/taskInstances/{task}/logs/{attempt}?full_content=true")
        return [line for line in answer["content"] if isinstance(line, dict)]

    def text(self, task: str = "run", attempt: int | None = None) -> str:
        try:
            return "\n".join(json.dumps(line) for line in self.log(task, attempt))
        except AssertionError as error:
            return str(error)

    def xcom(self, key: str = "return_value", task: str = "run") -> Any:
        value = self._airflow.api("GET", f"{self._path}/taskInstances/{task}/xcomEntries/{key}?deserialize=false")["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def links(self, task: str = "run") -> dict[str, str]:
        return dict(self._airflow.api("GET", f"{self._path}/taskInstances/{task}/links")["extra_links"])
