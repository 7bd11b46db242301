"""The DAGs of the live tests. What differs between runs comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta

import engine
from airflow.sdk import DAG, AssetAlias, task

from engine_provider.operators import (
    EngineScaleClusterOperator,
    EngineStartClusterOperator,
    EngineStopClusterOperator,
    EngineSubmitJobOperator,
    EngineTaskOperator,
)
from engine_provider.sensors import EngineJobSensor

JOB = {
    "source": {"csv": {"paths": ["{{ dag_run.conf['input'] }}"], "columns": [{"name": "b", "type": "int64"}]}},
    "steps": [{"filter": {"where": "a >= 0"}}],
    "sink": {"parquet": {"path": "{{ dag_run.conf['out'] }}", "mode": "overwrite"}},
    # A job runs where a worker has the label that its run asks for: so a test opens the gate when it likes.
    "placement": {"node_labels": {"gate": "{{ dag_run.conf.get('gate', 'open') }}"}},
}
SMALL = {"object-store-memory": "64MiB"}
COMMON = {
    "job": JOB,
    "orphan_ttl": "{{ dag_run.conf.get('orphan_ttl', '10m') }}",
    "retry_delay": timedelta(seconds=1),
    "progress_every": 1,
}

with DAG("sync", schedule=None):
    EngineSubmitJobOperator(task_id="run", deferrable=False, retries=2, outlets=[AssetAlias("live")], **COMMON)

with DAG("once", schedule=None):
    EngineSubmitJobOperator(task_id="run", deferrable=False, **COMMON)

with DAG("deferred", schedule=None):
    EngineSubmitJobOperator(task_id="run", deferrable=True, retries=2, **COMMON)

with DAG("file", schedule=None):
    EngineSubmitJobOperator(task_id="run", job="jobs/live.yaml")

for name, connection in (("secret", "vault"), ("no_secret", "nothing")):
    with DAG(name, schedule=None):
        EngineSubmitJobOperator(
            task_id="run",
            job={
                "source": {"postgres": {"url": "postgres://u@127.0.0.1:1/d", "table": "t", "password": "${secret:key}"}},
                "sink": {"parquet": {"path": "{{ dag_run.conf['out'] }}"}},
            },
            secrets={"key": f"connection:{connection}.password"},
        )

with DAG("sensor", schedule=None):
    EngineJobSensor(task_id="wait", job_id="{{ dag_run.conf['job'] }}", deferrable=True, poke_interval=1, timeout=300)

with DAG("decorated", schedule=None):

    @task.engine(cpu=1, memory="64MiB", deferrable=False)
    def score(number: int, dag_run=None):
        conf = dag_run.conf
        return engine.read_csv(conf["input"]).filter(f"a < {number}").write_parquet(conf["out"] + f"/{number}", mode="overwrite")

    score.expand(number=[10, 20])

with DAG("cluster", schedule=None):
    start = EngineStartClusterOperator(
        task_id="start",
        cluster="{{ dag_run.conf['cluster'] }}",
        driver_options={
            "head_options": {"num-cpus": 1, "object-store-memory": "64MiB"},
            "worker_options": {"object-store-memory": "64MiB"},
        },
    )
    scale = EngineScaleClusterOperator(task_id="scale", cluster=start.output, workers=1, driver_options={"worker_options": SMALL})
    run = EngineSubmitJobOperator(
        task_id="run",
        job={**JOB, "placement": {}},
        address=start.output,
        deferrable=True,
    )
    echo = EngineTaskOperator(task_id="echo", operator="echo", args=["{{ dag_run.conf['ref'] }}"])
    stop = EngineStopClusterOperator(task_id="stop", cluster=start.output).as_teardown(setups=start)
    start >> scale >> run >> stop
    echo >> run
