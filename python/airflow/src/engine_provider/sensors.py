"""The sensor that waits for a job that somebody else has submitted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from engine import errors, jobs

from engine_provider import faults
from engine_provider.follow import from_dict, to_dict
from engine_provider.hooks import DEFAULT_CONN_ID, EngineHook
from engine_provider.links import EngineJobLink, job_url
from engine_provider.operators.job import address_of
from engine_provider.triggers import EngineJobTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk.definitions.context import Context


class EngineJobSensor(BaseSensorOperator):
    """Waits until a job has succeeded. It never stops the job, and does not count as following it.

    A job that failed or was stopped fails the sensor, without a retry if the fault is the user's.

    Args:
        job_id: the job's id or submission id, such as the job_id of the XCom "engine_job" of the task that submits it.
        engine_conn_id: the Airflow connection.
        address: where the head is, instead: "host:port", or what `EngineStartClusterOperator` returns.
        must_exist: whether a job that the head does not know is an error. Default: it is waited for.
        deferrable: whether the triggerer waits. Default: Airflow's default_deferrable.

    Returns: how the job ended, as `EngineSubmitJobOperator` does.

    """

    template_fields: Sequence[str] = ("job_id", "engine_conn_id", "address", "must_exist")
    operator_extra_links = (EngineJobLink(),)
    ui_color = "#dcebe6"

    def __init__(
        self,
        *,
        job_id: str,
        engine_conn_id: str = DEFAULT_CONN_ID,
        address: str | Mapping[str, Any] | None = None,
        must_exist: bool = False,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.engine_conn_id = engine_conn_id
        self.address = address
        self.must_exist = must_exist
        self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        self._linked = False

    def execute(self, context: Context) -> Any:
        """Wait, here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        done = self.poke(context)
        if isinstance(done, PokeReturnValue) and done.is_done:
            return done.xcom_value
        return self.defer(
            trigger=EngineJobTrigger(
                engine_conn_id=self.engine_conn_id,
                address=address_of(self.address),
                job_id=self.job_id,
                lines=False,
                stop_on_kill=False,
                resume_orphans=False,
                await_submission=not self.must_exist,
                deadline=time.time() + self.timeout,
                progress_every=0,
                poll_interval=self.poke_interval,
            ),
            method_name="execute_complete",
        )

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look at the job once."""
        if not str(self.job_id or "").strip():
            raise AirflowFailException("the sensor's job_id renders to nothing")
        hook = EngineHook(self.engine_conn_id, address_of(self.address))
        with faults.translated(), hook.get_conn() as client:
            try:
                status = client.job(self.job_id).status()
            except errors.NotFoundError:
                if self.must_exist:
                    raise
                self.log.info(f"there is no job {self.job_id} yet")
                return False
            if not self._linked:
                web = hook.settings.web or client.cluster()["web"]
                link = job_url(web, hook.settings.address, status.job_id)
                if link:
                    context["ti"].xcom_push(key=EngineJobLink().xcom_key, value=link)
                self._linked = True
            if not status.ended:
                return False
            result = client.job(status.job_id).wait()
        return PokeReturnValue(is_done=True, xcom_value=self._finish(result))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take the trigger's event for the end of the job."""
        if event.get("timeout"):
            text = f"job {self.job_id} did not end within the sensor's timeout of {self.timeout:g} s"
            raise AirflowSkipException(text) if self.soft_fail else AirflowSensorTimeout(text)
        error = faults.from_dict(event.get("error"))
        if error is not None:
            raise faults.failure(error, f"job {self.job_id}")
        return self._finish(from_dict(event["result"]))

    def _finish(self, result: jobs.JobResult) -> dict[str, Any]:
        if result.state == jobs.STOPPED:
            raise AirflowFailException(f"job {result.job_id} was stopped{f': {faults.describe(result.error)}' if result.error else ''}")
        if result.state != jobs.SUCCEEDED:
            error = result.error or errors.InternalError(f"it ended {result.state}", op="run job", id=result.job_id)
            raise faults.failure(error, f"job {result.job_id} failed")
        counts = to_dict(result)
        counts.pop("error")
        return counts
