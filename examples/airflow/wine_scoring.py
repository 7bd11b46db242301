"""Scores the wines that have arrived, and checks the predictions: the nightly batch job.

The job is deferrable: while it runs, Airflow's triggerer follows it, and its log is in the task's own. A retry attaches to the job, and
killing the task stops it. `report` reads what the job has written and fails if the model has become worse.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, dag, task

import engine
from engine_provider.operators import EngineSubmitJobOperator

WINE = Path(__file__).resolve().parents[1] / "wine"
WORK = Path(tempfile.gettempdir()) / "engine-examples" / "wine"


@dag(
    schedule=None,
    tags=["engine"],
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "work": Param(str(WORK), description="a folder that the machines of Airflow and of the engine share, or s3://bucket/prefix"),
        "model": Param(str(WINE / "model"), description="an MLflow model folder, an .onnx file, or the name of an imported model"),
        "rows": Param(20_000, type="integer", minimum=1),
        "worst_error": Param(0.7, type="number", description="the mean absolute error above which the DAG fails"),
    },
    doc_md=__doc__,
)
def wine_scoring() -> None:
    """Declare the tasks."""

    @task
    def arrive(params: dict | None = None, run_id: str | None = None) -> str:
        """Write the night's rows, as some other system would."""
        sys.path.append(str(WINE))
        import train as wine

        folder = Path(params["work"]) / "arrived" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        wine.write_csv(wine.rows(seed=2, count=params["rows"]), folder / "wines.csv")
        return str(folder)

    score = EngineSubmitJobOperator(
        task_id="score",
        # Every text is a template; the paths of this run are known when it runs.
        job=engine.read_csv("{{ ti.xcom_pull(task_ids='arrive') }}/*.csv", delimiter=";")
        .infer("{{ params.model }}", output="prediction")
        .write_parquet("{{ params.work }}/scored/{{ run_id }}", mode="overwrite"),
        memory="512MiB",
        deferrable=True,
    )

    @task
    def report(result: dict, params: dict | None = None) -> float:
        """Return the mean absolute error."""
        import pandas

        scored = pandas.concat(pandas.read_parquet(path) for path in result["outputs"])
        error = float((scored["prediction"] - scored["quality"]).abs().mean())
        print(f"{len(scored):,} wines, mean absolute error {error:.3f}")
        if not error <= params["worst_error"]:
            raise ValueError(f"the mean absolute error is {error:.3f}, above {params['worst_error']}")
        return error

    arrive() >> score
    report(score.output)


wine_scoring()
