"""A DAG whose tasks hand tables on."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from engine_provider.xcom_cleanup import EngineXComCleanupOperator

with DAG("tables", schedule=None, default_args={"retries": 3, "retry_delay": timedelta(seconds=1)}):

    @task
    def make(dag_run=None):
        import pandas

        rows = int(dag_run.conf["rows"])
        column = [object()] if dag_run.conf.get("broken") else [f"row {i}" for i in range(rows)]
        return {"table": pandas.DataFrame({"a": range(rows), "s": column * (rows // len(column))}), "rows": rows}

    @task
    def double(made):
        import polars

        assert len(made["table"]) == made["rows"]
        return polars.from_pandas(made["table"]).with_columns(b=polars.col("a") * 2)

    @task
    def add(table):
        return int(table["b"].sum())

    @task
    def hold(total, dag_run=None):
        assert not dag_run.conf.get("hold"), "the test wants the tables to stay"
        return total

    hold.override(retries=0)(add(double(make()))) >> EngineXComCleanupOperator(task_id="clean_up")


with DAG("mapped_tables", schedule=None):

    @task
    def part(rows: int):
        import pyarrow

        return pyarrow.table({"a": range(rows)})

    @task
    def split():
        import pyarrow

        return [pyarrow.table({"a": range(rows)}) for rows in (10, 20)]

    @task
    def size(table) -> int:
        return table.num_rows

    @task
    def total(parts, sizes) -> list[int]:
        return [*(table.num_rows for table in parts), *sizes]

    total(part.expand(rows=[1, 2, 3]), size.expand(table=split()))
