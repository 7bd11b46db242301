"""The builder makes the job that a job file says, and knows all of job.proto."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import engine
from engine import _jobfile
from engine._proto.engine.v1 import job_pb2

CSV = engine.read_csv("in.csv")

SOURCES = {
    "csv": engine.read_csv(
        "a.csv", ["b.csv", "c/*.csv"], delimiter=";", header=False, quote="'", nulls=["NA"], columns={"a": "int64"}, union=True
    ),
    "parquet": engine.read_parquet("a", union=True),
    "json": engine.read_json("a", columns=["x"], unknown_keys="ignore"),
    "arrow": engine.read_arrow("a", union=True),
    "object": engine.read_objects(engine.ObjectRef(b"0123456789abcdef", "c")),
    "postgres": engine.read_postgres(
        "postgres://h/d",
        query="select 1",
        table="t",
        columns={"a": "string"},
        partition_column="id",
        splits=4,
        lower=1,
        upper="2026-11-27",
        timeout="1m",
        password="${secret:a}",
    ),
}
STEPS = {
    "infer": CSV.infer("/m.onnx", output="p", outputs={"a": "b"}, inputs=["x"], batch_rows=10),
    "embed": CSV.embed("/m", "t", output="e", normalize=False, max_tokens=5, prompt="none", batch_tokens=512, batch_rows=3, nan="allow"),
    "select": CSV.select("a", "b"),
    "rename": CSV.rename({"a": "b"}),
    "cast": CSV.cast({"a": "int32"}),
    "filter": CSV.filter("a > 1"),
    "with": CSV.with_columns({"c": "a + 1"}),
    "one_hot": CSV.one_hot({"a": ["x"], "b": None}, unknown="ignore", order="frequency", fitted="before"),
    "index": CSV.index(["a"], fitted="before"),
    "scale": CSV.scale({"a": {"mean": 1, "std": 2}, "b": None}, method="standard", fitted="before"),
    "map": CSV.map("double", {"by": 2, "deep": [{"x": None}]}),
    "split": CSV.split({"x": 0.5, "y": 0.5}, by="a", seed=7),
}
SINKS = {
    "parquet": CSV.write_parquet("o", mode="append", compression="zstd", files=2, file_size="1MB", partition_by="a"),
    "csv": CSV.write_csv("o", mode="append", files=2, file_size="1MB", delimiter=";", header=False, compression="gzip", partition_by=["a"]),
    "json": CSV.write_json("o", mode="append", files=2, file_size="1MB", compression="zstd", partition_by=["a"]),
    "arrow": CSV.write_arrow("o", mode="append", files=2, file_size="1MB", format="stream", compression="lz4", partition_by=["a"]),
    "object": CSV.write_objects(name="n", checkpoint="c", ttl="1h"),
    "postgres": CSV.write_postgres("postgres://h/d", "t", mode="append", create=False, timeout="1m", password="${secret:a}"),
}


def kinds(message):
    return {f.name for f in message.DESCRIPTOR.oneofs_by_name["kind"].fields}


def test_every_kind_and_field_of_the_proto_is_there():
    assert set(SOURCES) == kinds(job_pb2.Source)
    assert set(STEPS) == kinds(job_pb2.Step)
    assert set(SINKS) == kinds(job_pb2.Sink)
    one = {"source": lambda j: j["source"], "steps": lambda j: j["steps"][0], "sink": lambda j: j["sink"]}
    for where, table, message in (("source", SOURCES, job_pb2.Source), ("steps", STEPS, job_pb2.Step), ("sink", SINKS, job_pb2.Sink)):
        for kind, pipeline in table.items():
            fields = one[where](pipeline.to_dict())[kind]
            known = message.DESCRIPTOR.fields_by_name[kind].message_type.fields_by_name
            assert set(fields) == set(known), kind
    settings = CSV.options(
        name="n",
        batch_rows=1,
        batch_bytes=5,
        resources={"cpu": 1},
        max_attempts=2,
        timeout="1m",
        labels={"a": "b"},
        queue="q",
        priority=2,
        node_labels={"z": ""},
        isolation="none",
        on_bad_row="skip",
        cache="1d",
        orphan_ttl="1m",
    )
    assert set(settings.to_dict()) | {"steps", "sink", "sinks"} == set(job_pb2.JobSpec.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("pipeline", [*SOURCES.values(), *STEPS.values(), *SINKS.values()], ids=str)
def test_is_what_its_yaml_says(pipeline):
    if "sink" not in pipeline.to_dict() and "split" not in str(pipeline):
        pipeline = pipeline.write_csv("o")
    spec = pipeline.options(name="x").to_spec("/base")
    assert _jobfile.parse("x.yaml", pipeline.options(name="x").to_yaml(), "/base") == spec
    assert _jobfile.from_dict(yaml.safe_load(pipeline.options(name="x").to_yaml()), "/base") == spec


def test_equals_the_job_file(tmp_path):
    file = tmp_path / "wine-quality.yaml"
    file.write_text("""
name: wine-quality
source:
  csv: {paths: ["data/wine/*.csv"], delimiter: ";"}
batch: {rows: 10000, bytes: 64MiB}
steps:
  - infer: {model: models/wine-elasticnet.onnx, output: prediction}
sink:
  parquet: {path: out/wine, mode: overwrite, compression: snappy}
resources: {cpu: 1, memory: 512MiB}
retry: {max_attempts: 3}
on_bad_row: {action: dead_letter, path: out/wine-rejects, limit: 1000}
labels: {team: wine}
""")
    pipeline = (
        engine.read_csv("data/wine/*.csv", delimiter=";")
        .infer("models/wine-elasticnet.onnx", output="prediction")
        .write_parquet("out/wine", mode="overwrite", compression="snappy")
        .options(
            name="wine-quality",
            batch_rows=10_000,
            batch_bytes="64MiB",
            resources={"cpu": 1, "memory": "512MiB"},
            max_attempts=3,
            on_bad_row={"action": "dead_letter", "path": "out/wine-rejects", "limit": 1000},
            labels={"team": "wine"},
        )
    )
    assert pipeline.to_spec(tmp_path) == _jobfile.load(file)


def test_pipelines_are_values():
    assert CSV.filter("a > 1") is not CSV
    assert CSV.to_dict() == {"source": {"csv": {"paths": ["in.csv"]}}}
    same = CSV.filter("a > 1")
    assert same == CSV.filter("a > 1")
    assert CSV.filter("a > 1") != CSV
    job = CSV.to_dict()
    job["source"]["csv"]["paths"].append("x")
    assert CSV.to_dict() == {"source": {"csv": {"paths": ["in.csv"]}}}
    assert str(CSV.filter("x").write_csv("o")) == "Pipeline(csv -> filter -> csv)"
    twice = CSV.options(batch_rows=5).options(batch_bytes="1MiB")
    assert twice.to_dict()["batch"] == {"rows": 5, "bytes": "1MiB"}


def test_what_has_no_place():
    done = CSV.write_csv("o")
    for wrong in (
        lambda: done.filter("a"),
        lambda: done.write_csv("p"),
        lambda: done.write_csv("p", to="x"),
        lambda: CSV.write_csv("o", to="x").write_csv("p", to="x"),
        lambda: CSV.write_csv("o", to="x").write_csv("p"),
    ):
        with pytest.raises(engine.InvalidArgumentError, match="build job"):
            wrong()


def test_run_in_a_process_of_its_own(binary, numbers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = engine.read_csv("numbers.csv").filter("a < 10").with_columns({"c": "a + b"}).write_json("out")
    result = pipeline.run(data_dir=tmp_path / "run", progress=False)
    assert (result.rows_read, result.rows_written, result.rows_filtered) == (1000, 10, 990)
    rows = [json.loads(line) for line in Path(result.outputs[0]).read_text().splitlines()]
    assert rows[-1] == {"a": 9, "b": 18, "c": 27}
    with pytest.raises(engine.ConflictError):
        pipeline.run(data_dir=tmp_path / "again", progress=False)
    failed = engine.read_csv("gone.csv").write_json("out2").run(data_dir=tmp_path / "third", progress=False, check=False)
    assert (failed.state, type(failed.error)) == ("FAILED", engine.NotFoundError)
    with pytest.raises(engine.InvalidArgumentError, match="did you mean"):
        engine.Pipeline({"sorce": {}}).run(data_dir=tmp_path / "fourth", progress=False)
    with pytest.raises(engine.NotFoundError, match="ENGINE_BINARY"):
        pipeline.run(binary="/no/such/engine")


def test_split_on_a_cluster(client, numbers, tmp_path):
    pipeline = (
        engine.read_csv(numbers)
        .split({"train": 0.8, "validation": 0.2}, by="a")
        .write_parquet(tmp_path / "train", to="train")
        .write_csv(tmp_path / "validation", to="validation")
    )
    result = pipeline.submit(client).result(timeout=30)
    assert result.rows_written == 1000
    assert (tmp_path / "train" / "_SUCCESS").exists()


def test_objects_from_job_to_job(client, numbers):
    first = engine.read_csv(numbers).write_objects().submit(client).result(timeout=30)
    assert client.get(first.outputs[0]).num_rows == 1000
    second = engine.read_objects(*first.outputs).filter("a < 5").write_objects().submit(client).result(timeout=30)
    assert client.get(second.outputs[0]).column("b").to_pylist() == [0, 2, 4, 6, 8]


def test_submit_without_a_client(head, numbers, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE_ADDRESS", head.address)
    assert engine.read_csv(numbers).write_csv(tmp_path / "o").submit().result(timeout=30).rows_written == 1000
