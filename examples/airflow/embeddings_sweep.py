"""Embeds every partition of a data set with every setting, one job each, and keeps the best setting: dynamic task mapping as a sweep.

What `tune.grid_search` is to users of Ray Tune, `expand` is here: the partitions times the settings. Each job is a task instance of its
own, with its own log, retries, and resumption, and the engine runs as many of their tasks at a time as the cluster has cores.
"""

from __future__ import annotations

import csv
import tempfile
from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, dag, task

import engine

TICKETS = Path(__file__).resolve().parents[1] / "embed" / "tickets.csv"
WORK = Path(tempfile.gettempdir()) / "engine-examples" / "embeddings"
MODEL = Path.home() / ".cache" / "engine" / "models" / "all-minilm-l6-v2"


@dag(
    schedule=None,
    tags=["engine"],
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "work": Param(str(WORK), description="a folder that the machines of Airflow and of the engine share"),
        "model": Param(
            str(MODEL), description="a sentence-transformers folder, such as scripts/fetch-minilm.sh prints, or an imported model"
        ),
        "partitions": Param(3, type="integer", minimum=1, description="files into which the messages are cut"),
        "max_tokens": Param(
            [4, 64], type="array", items={"type": "integer"}, description="settings of the sweep: tokens of a text that count"
        ),
    },
    doc_md=__doc__,
)
def embeddings_sweep() -> None:
    """Declare the tasks."""

    @task
    def partitions(params: dict | None = None, run_id: str | None = None) -> list[str]:
        """Cut the messages into files, as a data set comes in partitions."""
        folder = Path(params["work"]) / run_id / "partitions"
        folder.mkdir(parents=True, exist_ok=True)
        with TICKETS.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        paths = [folder / f"part-{number}.csv" for number in range(params["partitions"])]
        for number, path in enumerate(paths):
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *rows[number :: len(paths)]])
        return [str(path) for path in paths]

    @task
    def settings(params: dict | None = None) -> list[int]:
        """Return the settings of the sweep."""
        return params["max_tokens"]

    @task.engine(cpu=1)
    def embed(partition: str, max_tokens: int, params: dict | None = None) -> engine.Pipeline:
        """Return the job of one partition and one setting."""
        run = Path(partition).parents[1]
        return (
            engine.read_csv(partition)
            .filter("subject is not null or body is not null")  # One of them says nothing, and would have no vector.
            .embed(params["model"], ["subject", "body"], max_tokens=max_tokens)
            .write_parquet(f"{run}/vectors/max_tokens={max_tokens}/{Path(partition).stem}", mode="overwrite")
        )

    @task
    def best(results: list[dict], params: dict | None = None, run_id: str | None = None) -> dict:
        """Return the setting with which most messages have a nearest neighbour of their own topic."""
        import numpy as np
        import pandas

        scores = {}
        for max_tokens in params["max_tokens"]:
            parts = (Path(params["work"]) / run_id / "vectors" / f"max_tokens={max_tokens}").glob("*/*.parquet")
            tickets = pandas.concat(pandas.read_parquet(path) for path in sorted(parts))
            vectors = np.stack(tickets["embedding"].to_list())
            cosine = vectors @ vectors.T
            np.fill_diagonal(cosine, -1)
            topics = tickets["topic"].to_numpy()
            scores[max_tokens] = float((topics == topics[cosine.argmax(axis=1)]).mean())
            print(f"max_tokens {max_tokens}: {scores[max_tokens]:.0%} of {len(tickets)} messages are nearest to one of their topic")
        winner = max(scores, key=scores.get)
        return {"max_tokens": winner, "score": scores[winner], "jobs": len(list(results))}

    best(embed.expand(partition=partitions(), max_tokens=settings()))


embeddings_sweep()
