"""Hands tables from task to task: pandas to a job, the job's output as Arrow, Arrow to polars.

It needs the XCom backend of the provider, which keeps tables in the engine's object store and in checkpoints:

    AIRFLOW__CORE__XCOM_BACKEND=engine_provider.xcom.EngineXComBackend
    AIRFLOW__ENGINE__XCOM_CHECKPOINT=s3://bucket/airflow-xcom       # or the absolute path of a folder that all machines share

The tasks may run on different machines. If one is retried after the cluster is gone, it reads the checkpoint.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag, task

import engine
from engine_provider.hooks import EngineHook
from engine_provider.xcom import TableReference
from engine_provider.xcom_cleanup import EngineXComCleanupOperator

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

WINE = Path(__file__).resolve().parents[1] / "wine"


@dag(
    schedule=None,
    tags=["engine"],
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "rows": Param(5_000, type="integer", minimum=1),
        "model": Param(str(WINE / "model"), description="an MLflow model folder, an .onnx file, or the name of an imported model"),
    },
    doc_md=__doc__,
)
def tables_by_xcom() -> None:
    """Declare the tasks."""

    @task
    def measure(params: dict | None = None) -> pandas.DataFrame:
        """Return the measurements of wines."""
        import pandas

        sys.path.append(str(WINE))
        import train as wine

        return pandas.DataFrame(wine.floats(wine.rows(seed=2, count=params["rows"])), columns=wine.COLUMNS)

    @task.engine
    def score(params: dict | None = None, ti=None) -> engine.Pipeline:
        """Return a job that reads the table where it lies; it never comes into this process."""
        table = TableReference.pull(ti, "measure")
        return engine.read_objects(table.checkpoint).infer(params["model"], output="prediction").write_objects()

    @task
    def scored(result: dict) -> pyarrow.Table:
        """Return the job's output."""
        import pyarrow

        with EngineHook().get_conn() as client:
            return pyarrow.concat_tables(client.get(ref) for ref in result["outputs"])

    @task
    def by_quality(table: pyarrow.Table) -> polars.DataFrame:
        """Return how good the predictions are for each quality."""
        import polars

        error = (polars.col("prediction") - polars.col("quality")).abs()
        frame = polars.from_arrow(table)
        return frame.group_by("quality").agg(polars.len().alias("wines"), error.mean().alias("error")).sort("quality")

    @task
    def report(table: pandas.DataFrame, errors: polars.DataFrame) -> int:
        """Print it, and return how many wines there were."""
        print(errors)
        if errors["wines"].sum() != len(table):
            raise ValueError(f"{errors['wines'].sum()} wines were scored of {len(table)}")
        return len(table)

    measured = measure()
    result = score()
    measured >> result
    # What a run hands over is deleted once it has succeeded; that of others goes with a clean-up by age in a DAG of its own.
    report(measured, by_quality(scored(result))) >> EngineXComCleanupOperator(task_id="clean_up")


tables_by_xcom()
