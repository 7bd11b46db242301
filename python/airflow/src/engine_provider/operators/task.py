"""The operator that runs one task of the engine, such as an operator that the cluster's own program has."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from engine import ObjectRef, errors

from engine_provider import faults, ids
from engine_provider.hooks import DEFAULT_CONN_ID, EngineHook
from engine_provider.operators.job import address_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import engine
    from airflow.sdk.definitions.context import Context

RESULTS = ("ref", "table")

_THERE_WITHIN = 10.0  # Seconds in which an object that is there says so; the stores may be about to join a new head.


class EngineTaskOperator(BaseOperator):
    """Runs one task on the cluster, and returns what it makes.

    Its outputs outlive the task under names, which a retry finds: what one try of a generation has made (see `engine_provider.ids`),
    another one does not make again. A task belongs to the process that runs it, so it ends with Airflow's.

    Args:
        operator: the name of an operator that the workers have, such as "embed", "infer", or one of your own.
        args: its arguments in order: references as texts ("id@cluster"), or tables of pyarrow, pandas, or polars, such as other tasks
            return.
        task_params: the operator's parameters.
        cpu: cores while it runs. Default: 1.
        gpu: devices.
        memory: memory, a size such as "2GiB".
        task_resources: all of that and more, as in a job file.
        outputs: how many objects it makes.
        task_name: for people. Default: the operator's name.
        task_queue: whose share of the cluster it uses.
        max_attempts: in all; only failures of the infrastructure are tried again. Default (0): 4.
        task_timeout: seconds of one attempt. None means no limit.
        result: "ref" (default) returns the outputs' references as texts, "table" the first output as a table of pyarrow, for which
            Airflow needs an XCom backend that takes tables.
        ttl: seconds that the outputs live. None means until somebody unpins them.
        engine_conn_id: the Airflow connection.
        address: where the head is, instead: "host:port", or what `EngineStartClusterOperator` returns.

    Returns: with "ref", the reference as a text, or a list of them if there are several outputs.

    """

    template_fields: Sequence[str] = (
        "operator",
        "args",
        "task_params",
        "cpu",
        "gpu",
        "memory",
        "task_resources",
        "outputs",
        "task_name",
        "task_queue",
        "max_attempts",
        "task_timeout",
        "result",
        "ttl",
        "engine_conn_id",
        "address",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_params": "json", "task_resources": "json"}
    ui_color = "#dcebe6"

    def __init__(
        self,
        *,
        operator: str,
        args: Sequence[Any] = (),
        task_params: Any = None,
        cpu: float | None = None,
        gpu: float | None = None,
        memory: str | None = None,
        task_resources: Mapping[str, Any] | None = None,
        outputs: int = 1,
        task_name: str = "",
        task_queue: str = "",
        max_attempts: int = 0,
        task_timeout: float | None = None,
        result: str = "ref",
        ttl: float | None = 86_400.0,
        engine_conn_id: str = DEFAULT_CONN_ID,
        address: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operator = operator
        self.args = args
        self.task_params = task_params
        self.cpu = cpu
        self.gpu = gpu
        self.memory = memory
        self.task_resources = task_resources
        self.outputs = outputs
        self.task_name = task_name
        self.task_queue = task_queue
        self.max_attempts = max_attempts
        self.task_timeout = task_timeout
        self.result = result
        self.ttl = ttl
        self.engine_conn_id = engine_conn_id
        self.address = address
        self._task: engine.Task | None = None
        self._killed = False

    def execute(self, context: Context) -> Any:
        """Run the task, unless an earlier try has, and return its outputs."""
        if self.result not in RESULTS:
            raise AirflowFailException(f"result {self.result!r} is none of {', '.join(RESULTS)}")
        outputs = int(self.outputs)
        hook = EngineHook(self.engine_conn_id, address_of(self.address))
        ti = context["ti"]
        generation = ids.generation_of(ti, self.retries or 0)
        # A run that was deleted and is made again has the same id, but another start.
        run = hashlib.sha256(ids.run_started(context).encode()).hexdigest()[:8]
        suffix = f".{run}"
        pin = ids.submission_id_of(ti, hook.settings.namespace, generation, ids.MAX_LENGTH - len(f"{suffix}.1000000")) + suffix
        with faults.translated(f"task {self.operator}"), hook.get_conn() as client:
            refs = self._made(client, pin, outputs)
            if refs is None:
                refs = self._run(client, pin, outputs)
            else:
                self.log.info(f"an earlier try has run the task; its outputs are {', '.join(map(str, refs))}")
            if self.result == "table":
                return client.get(refs[0])
        texts = [str(ref) for ref in refs]
        return texts[0] if len(texts) == 1 else texts

    def on_kill(self) -> None:
        """Cancel the task."""
        self._killed = True
        if self._task is not None:
            with contextlib.suppress(errors.EngineError):
                self._task.cancel(children=True)

    def _made(self, client: engine.Client, pin: str, outputs: int) -> list[ObjectRef] | None:
        """Return what an earlier try has made, if that is all there still."""
        try:
            refs = [client.lookup(f"{pin}.{i}") for i in range(outputs)]
            return client.wait(refs, timeout=_THERE_WITHIN)  # The name of an object that is lost lives on.
        except (errors.NotFoundError, errors.DeadlineError):
            return None

    def _run(self, client: engine.Client, pin: str, outputs: int) -> list[ObjectRef]:
        resources = dict(self.task_resources or {})
        resources.update({k: v for k, v in {"cpu": self.cpu, "gpu": self.gpu, "memory": self.memory}.items() if v is not None})
        self._task = client.run_task(
            self.operator,
            *(ObjectRef.parse(arg) if isinstance(arg, str) else arg for arg in self.args),
            params=self.task_params,
            resources=resources or None,
            outputs=outputs,
            name=self.task_name,
            queue=self.task_queue,
            max_attempts=int(self.max_attempts or 0),
            timeout=None if self.task_timeout is None else float(self.task_timeout),
        )
        self.log.info(f"task {self._task.id} of operator {self.operator} is submitted")
        ended = self._task.wait()
        if self._killed:
            raise AirflowException(f"the task was killed, and so was the engine's task {self._task.id}")
        if ended.error is not None:
            raise ended.error
        refs = [self._task.ref(i) for i in range(outputs)]
        for i, ref in enumerate(refs):
            # The reference that the head has, which carries the cluster's id.
            client.wait([ref])
            with contextlib.suppress(errors.NotFoundError):
                client.unpin(f"{pin}.{i}")  # An earlier try's, some of whose outputs are gone.
            client.pin(ref, f"{pin}.{i}", ttl=None if self.ttl is None else float(self.ttl))
            refs[i] = client.lookup(f"{pin}.{i}")
        return refs
