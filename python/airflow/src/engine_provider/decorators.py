"""`@task.engine`: a function that returns a job, which runs on the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, context_merge, determine_kwargs, task_decorator_factory
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
from airflow.sdk.exceptions import AirflowFailException

from engine_provider import specs
from engine_provider.operators.job import EngineSubmitJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.sdk.bases.decorator import TaskDecorator
    from airflow.sdk.definitions.context import Context


class EngineDecoratedOperator(DecoratedOperator, EngineSubmitJobOperator):
    """Calls a function in Airflow's worker, and runs the job that it returns, as `EngineSubmitJobOperator` does."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *EngineSubmitJobOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **EngineSubmitJobOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.engine"
    """What Airflow shows as the operator."""
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, job=SET_DURING_EXECUTION, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, and run its job. Texts in the job are templates."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        job = self.python_callable(*self.op_args, **kwargs)
        if job is None:
            raise AirflowFailException(
                f"the function of @task.engine {self.task_id!r} returned nothing: return a dict, the path of a job file, or a pipeline"
            )
        self._template = specs.plain(job)
        self.job = self.render_template(self._template, context)
        result: dict[str, Any] = super().execute(context)
        return result


def engine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function that returns a job: a pipeline, a dict, or the path of a job file.

        @task.engine(cpu=2, memory="2GiB")
        def score(day: str):
            return engine.read_csv(f"/data/{day}/*.csv").infer("models/wine.onnx", output="prediction").write_parquet(f"/out/{day}")

    Args:
        python_callable: the function.
        **kwargs: arguments of `EngineSubmitJobOperator` but for job, such as cpu, gpu, and memory.

    """
    return task_decorator_factory(python_callable=python_callable, decorated_operator_class=EngineDecoratedOperator, **kwargs)
