"""The operator that runs a job: one job for one generation of a task, whatever becomes of Airflow's processes."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import Asset, AssetAlias, BaseOperator, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from airflow.sdk.lineage import get_hook_lineage_collector
from engine import errors, jobs

from engine_provider import faults, ids, lineage, secrets, specs
from engine_provider.follow import Cursor, follow, from_dict, is_orphan, run_here, to_dict
from engine_provider.hooks import DEFAULT_CONN_ID, EngineHook
from engine_provider.links import EngineJobLink, job_url
from engine_provider.triggers import EngineJobTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import engine
    from airflow.sdk.definitions.context import Context
    from airflow.sdk.definitions.retry_policy import RetryPolicy
    from engine import JobSpec, Pipeline

RETRY_POLICIES = ("attach", "resume", "restart")
MAX_SUPERSEDED = 20
"""How many earlier generations are looked at for jobs that still run."""

_ENDS_WITHIN = 60.0  # Seconds that a job has to end after it was stopped.


class EngineSubmitJobOperator(BaseOperator):
    """Submits a job, follows it to its end with its log in the task's own, and fails with the engine's error.

    The submission's id is a function of DAG, task, run, map index, and generation (see `engine_provider.ids`). So whatever runs the
    task again, a retry, a restarted scheduler, a new triggerer, finds the job: one that is pending or runs is attached to, and one that has
    succeeded is the task's success. What becomes of one that failed or was stopped, `retry_policy` says. Clearing a task that has ended,
    or is deferred, begins a new generation with a new job; a job of an older generation that still runs is stopped before. So does a DAG
    run that was deleted and is made again under the same id. All this needs a token of role operate. A job of a run that goes on at the
    same time under the same id, which is another Airflow's, is left alone, and the task fails.

    Killing, marking, or clearing the task stops the job, also while the task is deferred. If Airflow's processes die, the job goes on for
    `orphan_ttl`, and is stopped then unless somebody follows it again.

    A user's fault (a bad job, data that does not fit, a missing file) fails the task without a retry; that of the infrastructure with one.

    Args:
        job: a dict of the form of a job file, the path of a job file, or a pipeline (`engine.read_csv(...)...`). Texts in it are templates,
            and so is the text of a file. A relative path of a file is looked for in the DAG's folder and template_searchpath.
        engine_conn_id: the Airflow connection.
        address: where the head is, instead of the connection's host: "host:port", or what `EngineStartClusterOperator` returns.
        base: the folder to which relative paths in a dict or pipeline are relative. Default: the DAG's folder.
        submission_id: the id instead of the task's own. The task then attaches to whatever job has it.
        retry_policy: what a try does that finds a job of an earlier try which failed or was stopped: "resume" (default) lets it go on
            where it stood, "attach" takes its failure for the task's, and with "restart" each try has a job of its own, and what the one
            before it has written is removed. A `RetryPolicy` of Airflow's is passed on to Airflow. A job that is stopped by hand
            (`engine job stop`) ends a try, and the next one goes on as the policy says; only with "attach" it fails the task for good.
        orphan_ttl: a duration for which the job goes on when nobody follows it; None means without limit.
        only_new: leave out the inputs that earlier jobs with the same output folders have read.
        secrets: where the values of the job's ${secret:NAME} are, by name: "connection:ID.password", "connection:ID.extra.KEY", or
            "variable:KEY". Those that are not said here are looked for under "secrets" in the extra of the engine's own connection.
        cpu: cores of one task of the job, instead of what the job says.
        gpu: devices of one task.
        memory: memory of one task, a size such as "2GiB".
        lineage: whether the task's inlets and outlets get the job's inputs and outputs, as far as they are known when the DAG is read.
            Those that are templates are known when the task runs: an `AssetAlias` among the outlets stands for them.
        deferrable: whether the triggerer follows the job, so that waiting takes no worker's slot. Default: Airflow's default_deferrable.
        progress_every: seconds between two lines that tell of progress; 0 means none.
        patience: seconds for which a head that is away is waited for before the try fails.

    Returns: job_id, submission_id, address, state, the counts of `engine.JobResult`, seconds, outputs (at most 1,000), and outputs_total.
    The XCom "engine_job", with job_id, submission_id, and address, is there as soon as the job is submitted.

    """

    template_fields: Sequence[str] = (
        "job",
        "engine_conn_id",
        "address",
        "base",
        "submission_id",
        "job_retry_policy",
        "orphan_ttl",
        "only_new",
        "secrets",
        "cpu",
        "gpu",
        "memory",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"job": "json", "secrets": "json"}
    operator_extra_links = (EngineJobLink(),)
    ui_color = "#dcebe6"

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | str | os.PathLike[str] | Pipeline,
        engine_conn_id: str = DEFAULT_CONN_ID,
        address: str | Mapping[str, Any] | None = None,
        base: str | None = None,
        submission_id: str | None = None,
        retry_policy: str | RetryPolicy = "resume",
        orphan_ttl: str | None = "10m",
        only_new: bool = False,
        secrets: Mapping[str, str] | None = None,
        cpu: float | None = None,
        gpu: float | None = None,
        memory: str | None = None,
        lineage: bool = True,
        deferrable: bool | None = None,
        progress_every: float = 10.0,
        patience: float = 600.0,
        **kwargs: Any,
    ) -> None:
        # Airflow has an argument of this name of its own, for when there is a retry; this one is for what it does.
        own: dict[str, Any] = {} if isinstance(retry_policy, str) else {"retry_policy": retry_policy}
        super().__init__(**own, **kwargs)
        self.job = specs.plain(job)
        self.engine_conn_id = engine_conn_id
        self.address = address
        self.base = base
        self.submission_id = submission_id
        self.job_retry_policy = retry_policy if isinstance(retry_policy, str) else "resume"
        self.orphan_ttl = orphan_ttl
        self.only_new = only_new
        self.secrets = secrets
        self.cpu = cpu
        self.gpu = gpu
        self.memory = memory
        self.lineage = lineage
        self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        self.progress_every = progress_every
        self.patience = patience
        self._template = self.job
        self._killed = False
        self._job_id = ""
        self._made: EngineHook | None = None
        if lineage and isinstance(self.job, dict):
            inlets, outlets = _assets(self.job, base)
            self.inlets = [*self.inlets, *(asset for asset in inlets if asset not in self.inlets)]
            self.outlets = [*self.outlets, *(asset for asset in outlets if asset not in self.outlets)]

    # What Airflow calls

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, or attach to it, and follow it to its end, here or in the triggerer."""
        with faults.translated():
            specs.check_rendered(self._template, self.job)
            if self.job_retry_policy not in RETRY_POLICIES:
                raise errors.InvalidArgumentError(
                    f"{self.job_retry_policy!r} is none of {', '.join(RETRY_POLICIES)}", op="submit job", id="retry_policy"
                )
            spec = self._load(context)
            hook = self._hook()
            values = secrets.resolve(spec, self.secrets or {}, hook.settings.secrets)
            with hook.get_conn() as client:
                status = self._begin(context, client, spec, values)
                self._job_id = status.job_id
                if self._killed:
                    status = client.job(status.job_id).stop()
                self._tell(context, client, status)
        cursor = Cursor()
        if self.deferrable and not status.ended:
            self._defer(context, cursor)
        try:
            result = run_here(self._follow(status.job_id, cursor))
        except errors.EngineError as error:
            raise faults.failure(error, f"job {status.job_id}") from None
        return self._finish(context, result)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take the trigger's event for the end of the job."""
        self._job_id = str(event.get("job_id", ""))
        if event.get("timeout"):
            raise AirflowTaskTimeout(f"job {self._job_id} did not end within the task's execution_timeout, and was stopped")
        error = faults.from_dict(event.get("error"))
        if error is not None:
            raise _lost(error, self._job_id)
        return self._finish(context, from_dict(event["result"]))

    def on_kill(self) -> None:
        """Stop the job. If the head cannot be reached, the job is stopped after its orphan_ttl."""
        self._killed = True
        if not self._job_id:
            return
        try:
            with self._hook().get_conn() as client:
                client.job(self._job_id).stop()
        except (errors.EngineError, AirflowFailException) as error:
            self.log.error(f"the job {self._job_id} could not be stopped, and goes on until its orphan_ttl: {error}")
        else:
            self.log.info(f"the job {self._job_id} was stopped")

    # How

    def _hook(self) -> EngineHook:
        """Return the hook, of which there is one: a signal's handler must not ask Airflow for the connection."""
        if self._made is None:
            self._made = EngineHook(self.engine_conn_id, address_of(self.address))
        return self._made

    def _load(self, context: Context) -> JobSpec:
        """Make the JobSpec of the rendered job."""
        folders = search_path(context)
        spec = specs.load(self.job, self.base or folders[0], folders, lambda text: str(self.render_template(text, context)))
        ti = context["ti"]
        labels = {"airflow_dag": ti.dag_id, "airflow_task": ti.task_id, "airflow_run": ti.run_id}
        if ti.map_index is not None and ti.map_index >= 0:
            labels["airflow_map_index"] = str(ti.map_index)
        started = ids.run_started(context)
        if started:
            labels[ids.RUN_STARTED] = started
        specs.complete(
            spec,
            name=f"{ti.dag_id}.{ti.task_id}",
            labels=labels,
            orphan_ttl=self.orphan_ttl,
            cpu=_number(self.cpu, "cpu"),
            gpu=_number(self.gpu, "gpu"),
            memory=self.memory,
        )
        return spec

    def _begin(self, context: Context, client: engine.Client, spec: JobSpec, values: Mapping[str, bytes]) -> jobs.JobStatus:
        """Submit the job of this generation, or find it, and do with one that did not succeed what the policy says."""
        ti, namespace = context["ti"], self._hook().settings.namespace
        generation = ids.generation_of(ti, self.retries or 0)
        now = generation if self.job_retry_policy != "restart" else max(generation, ti.try_number - 1)
        submission_id = self.submission_id or ids.submission_id_of(ti, namespace, now)
        if not self.submission_id:
            for earlier in range(max(0, now - MAX_SUPERSEDED), now):
                earlier_id = ids.submission_id_of(ti, namespace, earlier)
                found = self._find(client, earlier_id, spec)
                if found is not None:
                    self._supersede(client, found)
                # A try of this generation whose process died before it could say that its job succeeded; also while it was to be stopped.
                succeeded = _success(client, earlier_id, spec) if earlier >= generation else None
                if succeeded is not None:
                    self.log.info(f"job {succeeded.job_id} of an earlier try, {earlier_id}, has succeeded")
                    return succeeded
            self._take_over(client, submission_id, spec)
        only_new = self.only_new in (True, "true", "True", "1")
        self._job_id = submission_id  # Before it is submitted: a task that is killed meanwhile stops it.
        try:
            handle = client.submit(spec, submission_id=submission_id, only_new=only_new, secrets=values)
        except errors.ConflictError:
            succeeded = _success(client, submission_id, spec)
            if succeeded is None:
                raise
            self.log.info(f"job {succeeded.job_id} of submission {submission_id} has succeeded; its inputs have changed since")
            return succeeded
        status = handle.status()
        if not handle.attached:
            self.log.info(f"job {status.job_id} is submitted as {submission_id}")
            return status
        self.log.info(f"job {status.job_id} of submission {submission_id} is attached to, {status.state}")
        if status.state not in (jobs.FAILED, jobs.STOPPED):
            return status
        why = f": {faults.describe(status.error)}" if status.error else ""
        if self.job_retry_policy == "restart":
            self.log.info(f"the job is given up, and what it has written is removed{why}")
            self._forget(client, status, discard=True)
            return client.submit(spec, submission_id=submission_id, only_new=only_new, secrets=values).status()
        if self.job_retry_policy == "resume" or is_orphan(status):
            self.log.info(f"the job is resumed where it stood{why}")
            return handle.resume(secrets=values)
        return status

    def _find(self, client: engine.Client, submission_id: str, spec: JobSpec) -> jobs.JobStatus | None:
        """Return the job of a submission of this task, of this DAG run or of one before, if there is one.

        Raises:
            ConflictError: if it is of a DAG run that goes on beside this one, and so another Airflow's, which is to keep it.

        """
        try:
            status = client.job(submission_id).status()
        except errors.NotFoundError:
            return None
        started = spec.labels.get(ids.RUN_STARTED, "")
        if ids.is_same_run(status.labels, started) or ids.is_run_before(status.labels, status.submit_time, started):
            return status
        raise errors.ConflictError(
            f"job {status.job_id} is that of another DAG run of this id, started {status.labels[ids.RUN_STARTED]} while this one was "
            f"started {started}, and was submitted {status.submit_time}: it is left alone",
            op="submit job",
            id=submission_id,
            hint=f"another Airflow uses the namespace {self._hook().settings.namespace!r} too: give each one a namespace of its own in the "
            f"extra of connection {self.engine_conn_id!r}; if there is no other, compare the clocks of Airflow and the engine's head",
        )

    def _supersede(self, client: engine.Client, status: jobs.JobStatus) -> bool:
        """Stop an earlier job, and forget it with what it has written, unless it succeeded. Return whether it did."""
        # By its own id: whoever has the submission's id meanwhile is not meant.
        job = client.job(status.job_id)
        try:
            if not job.stop().ended:
                job.wait(_ENDS_WITHIN)
            if job.status().state == jobs.SUCCEEDED:
                return True
            self._forget(client, status, discard=True)
        except errors.NotFoundError:
            return False
        self.log.info(
            f"the earlier job {status.job_id}, of submission {status.submission_id}, is given up, and what it has written is removed"
        )
        return False

    def _take_over(self, client: engine.Client, submission_id: str, spec: JobSpec) -> None:
        """Make an id free that the job of a DAG run has which was deleted, and then made again under the same run id."""
        status = self._find(client, submission_id, spec)
        if status is None:
            return
        told, started = status.labels.get(ids.RUN_STARTED), spec.labels.get(ids.RUN_STARTED, "")
        if not ids.is_same_run(status.labels, started):
            if self._supersede(client, status):
                self._forget(client, status, discard=False)  # Its output stays.
                self.log.info(f"job {status.job_id} of submission {submission_id} was of a DAG run before: the task runs again")
        elif told is None:
            spec.labels.pop(ids.RUN_STARTED, None)  # Or the two were different jobs to the engine.
        else:
            spec.labels[ids.RUN_STARTED] = told

    def _forget(self, client: engine.Client, status: jobs.JobStatus, *, discard: bool) -> None:
        """Forget a job that has ended, with what it has written if `discard` says so."""
        try:
            client.job(status.job_id).forget(discard=discard)
        except errors.NotFoundError:
            return
        except errors.PermissionError as error:
            raise errors.PermissionError(
                error.message,
                op=error.op,
                id=error.id,
                hint=f"the token of connection {self.engine_conn_id!r} needs role operate, since a task that is run anew forgets the job "
                f"that it had: engine token create NAME --role operate",
            ) from None

    def _tell(self, context: Context, client: engine.Client, status: jobs.JobStatus) -> None:
        """Let Airflow know of the job while it runs: its ids, its page, and what it reads and writes."""
        ti, settings = context["ti"], self._hook().settings
        ti.xcom_push(key="engine_job", value={"job_id": status.job_id, "submission_id": status.submission_id, "address": settings.address})
        web = settings.web
        if not web:
            with contextlib.suppress(errors.EngineError):
                web = client.cluster()["web"]
        link = job_url(web, settings.address, status.job_id)
        if link:
            ti.xcom_push(key=EngineJobLink().xcom_key, value=link)
            self.log.info(f"its page is {link}")
        if self.lineage:
            inputs, outputs = lineage.assets_of(status.spec)
            collector = get_hook_lineage_collector()
            for asset in inputs:
                collector.add_input_asset(context=self._hook(), uri=asset.uri)
            for asset in outputs:
                collector.add_output_asset(context=self._hook(), uri=asset.uri)

    def _tell_of_assets(self, context: Context, result: jobs.JobResult) -> None:
        """Say in the events of the task's outlets which job made them; aliases among them stand for what it has written."""
        events: Any = context.get("outlet_events")
        outlets = [outlet for outlet in self.outlets if isinstance(outlet, (Asset, AssetAlias))]
        if not self.lineage or not outlets or events is None:
            return
        extra = {"engine_job": result.job_id, "rows_written": result.rows_written}
        aliases = [outlet for outlet in outlets if isinstance(outlet, AssetAlias)]
        written: list[Asset] = []
        if aliases:
            with contextlib.suppress(errors.EngineError), self._hook().get_conn() as client:
                written = lineage.assets_of(client.job(result.job_id).status().spec)[1]
        for alias in aliases:
            for asset in written:
                events[alias].add(asset, extra=extra)
        for outlet in outlets:
            if isinstance(outlet, Asset):
                events[outlet].extra.update(extra)

    def _defer(self, context: Context, cursor: Cursor) -> NoReturn:
        start = context["ti"].start_date
        deadline = None
        if self.execution_timeout is not None:
            deadline = (start.timestamp() if start is not None else time.time()) + self.execution_timeout.total_seconds()
        self.defer(
            trigger=EngineJobTrigger(
                engine_conn_id=self.engine_conn_id,
                address=address_of(self.address),
                job_id=self._job_id,
                cursor=asdict(cursor),
                deadline=deadline,
                progress_every=self.progress_every,
                patience=self.patience,
            ),
            method_name="execute_complete",
        )

    async def _follow(self, job_id: str, cursor: Cursor) -> jobs.JobResult:
        async with await self._hook().get_async_conn() as client:
            return await follow(client, job_id, self.log, cursor, progress_every=self.progress_every, patience=self.patience)

    def _finish(self, context: Context, result: jobs.JobResult) -> dict[str, Any]:
        """Return what the task returns, or fail as the job did."""
        if self._killed:
            raise AirflowException(f"the task was killed, and its job {result.job_id} was stopped")
        if result.state == jobs.STOPPED:
            # Perhaps by the process of an older try, which was killed after this one had attached to the job.
            kind = AirflowFailException if self.job_retry_policy == "attach" else AirflowException
            raise kind(f"job {result.job_id} was stopped on the engine by somebody else than this task")
        if result.state != jobs.SUCCEEDED:
            error = result.error or errors.InternalError(f"it ended {result.state}", op="run job", id=result.job_id)
            raise faults.failure(error, f"job {result.job_id} failed")
        rejected = f", {result.rows_rejected:,} rejected" if result.rows_rejected else ""
        filtered = f", {result.rows_filtered:,} filtered" if result.rows_filtered else ""
        counted = f"{result.rows_read:,} rows read, {result.rows_written:,} written{rejected}{filtered}"
        self.log.info(f"job {result.job_id} succeeded: {counted}, {result.seconds:.1f} s")
        self._tell_of_assets(context, result)
        told = context["ti"].xcom_pull(key="engine_job", map_indexes=context["ti"].map_index, task_ids=context["ti"].task_id) or {}
        counts = to_dict(result)
        counts.pop("error")
        return {**counts, "submission_id": told.get("submission_id", ""), "address": told.get("address", "")}


def address_of(address: str | Mapping[str, Any] | None) -> str | None:
    """Return the address that a task was given: as it is, or that of the cluster that `EngineStartClusterOperator` has returned."""
    if isinstance(address, dict):
        return str(address["address"]) if address.get("address") else None
    return str(address) if address else None


def search_path(context: Context) -> list[str]:
    """Return the folders in which the files of a running task are looked for: the DAG's, and its template_searchpath."""
    dag: Any = context.get("dag")
    folders = [str(dag.folder)] if dag is not None and dag.fileloc else []
    more: Any = dag.template_searchpath if dag is not None else None
    folders += [more] if isinstance(more, str) else list(more or ())
    return folders or [os.getcwd()]


def _success(client: engine.Client, submission_id: str, spec: JobSpec) -> jobs.JobStatus | None:
    """Return the job of a submission id if it is the same job, and has succeeded."""
    try:
        status = client.job(submission_id).status()
    except errors.NotFoundError:
        return None  # It is an output that is in conflict with another job.
    same = status.state == jobs.SUCCEEDED and specs.load(status.spec, "/", [], str) == spec
    return status if same else None


def _lost(error: errors.EngineError, job_id: str) -> AirflowException:
    """Return the failure of a task whose job could not be followed. What is gone may be made again by a retry."""
    if isinstance(error, errors.NotFoundError):
        return AirflowException(f"job {job_id}: {faults.describe(error)}")
    return faults.failure(error, f"job {job_id}")


def _number(value: Any, name: str) -> float | None:
    """Return a number that may have been a template."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise errors.InvalidArgumentError(f"{value!r} is no number", op="submit job", id=name) from None


def _assets(job: Mapping[str, Any], base: str | None) -> tuple[list[Any], list[Any]]:
    """Return the assets of a job as the DAG's author wrote it; what cannot be one is left to the run, which says what is wrong."""
    try:
        return lineage.assets_of(job, base)
    except (TypeError, ValueError, AttributeError):
        return [], []
