"""Job files and dicts: what is refused is named, and what is taken is what the engine's own reader takes."""

from __future__ import annotations

import subprocess

import pytest

import engine
from engine import _jobfile


def fails(text, *, name="job.yaml"):
    with pytest.raises(engine.InvalidArgumentError) as raised:
        _jobfile.parse(name, text, "/base")
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: {csv: {paths: [a]}}\nsnik: {csv: {path: o}}", 'job.yaml:2:1: unknown field "snik" in the job (did you mean "sink"?)'),
        ("source:\n  csv:\n    pahts: [a]", 'job.yaml:3:5: unknown field "pahts" in source.csv (did you mean "paths"?)'),
        ("source:\n  csv: {paths: a}", 'job.yaml:2:16: source.csv.paths: expected a list, found the text "a"; write [a]'),
        ("source: {csv: {paths: [a], header: maybe}}", 'source.csv.header: expected true or false, found the text "maybe"'),
        ("batch: {rows: 1.5}", "batch.rows: expected a whole number, found 1.5"),
        ("batch: {rows: 99999999999999999999}", "batch.rows: expected a whole number"),
        ("batch: {bytes: lots}", 'batch.bytes: "lots" is not a size'),
        ("priority: 3000000000", "priority: expected a whole number of 32 bits"),
        ("source: {csv: {paths: [a]}, json: {paths: [b]}}", 'source has both "csv" and "json"'),
        ("steps: [{}]", "steps.0: no kind is set; set one of infer,"),
        ("name: a\nname: b", 'job.yaml:2:1: duplicate field "name"'),
        ("name: ${env:NOT_SET_ANYWHERE}", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("name: a\nlabels: {a: '${secret:env:X}'}", "job.yaml:2:13: labels.a: a secret can stand in credential fields alone"),
        ("source: {postgres: {url: u, password: hunter2}}", "source.postgres.password: a secret is named and never written out"),
        ("source: {postgres: {url: u, password: '${env:PW}'}}", "write ${secret:env:PW}"),
        ("source: {postgres: {url: u, password: 'x${secret:a}'}}", "never written out"),
        ("source: {postgres: {url: u, password: '${secret:a}x'}}", "and nothing around it"),
        ("source: {postgres: {url: u, password: '${secret:vault:a}'}}", "write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}"),
        ("name: ${what}", "unknown reference ${what}"),
        ("name: ${env:X", "has no closing brace"),
        ("name: [a", "job.yaml:"),
        ("- a", "the job: expected a mapping"),
        ("", "the file is empty"),
        ("sink: {csv: {path: ~/out}}", "~ is not expanded"),
        ("source: {csv: {paths: ['file://host/x']}}", "three slashes"),
        ("steps: [{map: {operator: a, params: 3}}]", "steps.0.map.params: expected a mapping"),
        ("a: &a [*a]", "unknown field"),
    ],
)
def test_refused(text, said):
    assert said in fails(text)


def test_several_errors_are_told_at_once():
    text = fails("snik: 1\nbatch: {rows: x}\n")
    assert "2 errors:" in text
    assert "job.yaml:1:1: unknown field" in text
    assert "job.yaml:2:15: batch.rows" in text
    many = fails("\n".join(f"x{i}: 1" for i in range(20)))
    assert "the first 10 errors:" in many


def test_a_bomb_is_refused():
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(engine.InvalidArgumentError):
        _jobfile.parse("bomb.yaml", "steps: [{map: {operator: m, params: {p: *h}}}]\n" + text, ".")
    with pytest.raises(engine.InvalidArgumentError):
        _jobfile.parse("bomb.yaml", text + "steps: [{map: {operator: m, params: {p: *h}}}]\n", ".")


def test_dicts_are_named_by_their_path():
    with pytest.raises(engine.InvalidArgumentError) as raised:
        _jobfile.from_dict({"source": {"csv": {"path": ["a"]}}})
    assert 'unknown field "path" in source.csv (did you mean "paths"?)' in str(raised.value)
    with pytest.raises(engine.InvalidArgumentError, match="a set cannot stand in a job"):
        _jobfile.from_dict({"labels": {"a": {1}}})
    with pytest.raises(engine.InvalidArgumentError, match="name 3 is no text"):
        _jobfile.from_dict({3: 1})


def test_values_of_python(tmp_path, monkeypatch):
    numpy = pytest.importorskip("numpy")
    monkeypatch.setenv("OUT", "there")
    spec = _jobfile.from_dict(
        {
            "source": {"csv": {"paths": (tmp_path / "a.csv", "b*.csv"), "header": False, "quote": ""}},
            "sink": {"parquet": {"path": "${env:OUT}/$${x}", "files": numpy.int64(3)}},
            "batch": {"bytes": 1 << 20},
            "resources": {"cpu": 0, "custom": {"license": 1}},
            "timeout": None,
        },
        tmp_path,
    )
    assert list(spec.source.csv.paths) == [str(tmp_path / "a.csv"), str(tmp_path / "b*.csv")]
    assert spec.source.csv.HasField("header")
    assert spec.source.csv.HasField("quote")
    assert spec.sink.parquet.path == f"{tmp_path}/there/${{x}}"
    assert (spec.sink.parquet.files, spec.batch.bytes) == (3, "1048576")
    assert spec.resources.HasField("cpu")
    # What is written reads back as the same job.
    assert _jobfile.from_dict(_jobfile.to_dict(spec), "/elsewhere") == spec
    assert _jobfile.parse("x.yaml", _jobfile.to_yaml({"name": "x", **_jobfile.to_dict(spec)}), "/elsewhere").sink == spec.sink


JOBS = {
    "anchors": """
source: {csv: &files {paths: [in.csv], columns: [{name: a, type: int64}]}}
sinks: {x: {csv: {path: o1, header: false}}, y: {json: {path: ./o2/../o2}}}
steps: [{split: {parts: {x: 1, y: 0.5}, by: [a], seed: 1e3}}]
batch: {rows: 1_000, bytes: 67108864}
labels: {on: yes, no: 0x10, at: 2026-11-27, null: ~}
""",
    "texts": """
name: 0123
source: {json: {paths: ["in*.json", 's3://b/k?region=x', "file:///data/a%20b.json"], unknown_keys: ignore}}
steps:
  - filter: {where: a > 1 and b = 'x'}
  - with: {columns: {c: a + 1, d: "'$${x}'"}}
  - scale: {columns: [{name: c, mean: 1, std: 2.5e-1}, {name: e}], fitted: before}
  - one_hot: {columns: [{name: b, categories: [x, 1, true]}]}
  - index: {columns: [{name: e}]}
  - cast: {columns: {c: float32}}
  - rename: {columns: {c: cc}}
  - select: {columns: [cc, d]}
sink: {arrow: {path: /abs/./out, format: stream, partition_by: [d]}}
on_bad_row: {action: dead_letter, path: bad, limit: 10, share: 0.5}
resources: {cpu: 1.5, memory: 1GiB, custom: {license: 2}}
retry: {max_attempts: 2}
placement: {node_labels: {zone: a}}
isolation: none
timeout: 90s
cache: 1d
queue: default
priority: -3
""",
}


@pytest.mark.parametrize("name", JOBS)
def test_reads_as_the_engine_does(binary, client, tmp_path, name):
    """The head has got the same JobSpec by `engine submit` as it gets by this client."""
    for file in ("in.csv", "in1.json"):
        (tmp_path / file).write_text("")
    path = tmp_path / f"{name}.yaml"
    path.write_text(JOBS[name])
    done = subprocess.run(
        [binary, "submit", str(path), "--address", client.address, "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = client.job(done.stdout.strip()).status().spec
    ours = _jobfile.to_dict(_jobfile.load(path))
    assert ours == theirs


def test_names_of_models_are_asked_for(binary, tmp_path):
    job = {"source": {"csv": {"paths": ["a"]}}, "sink": {"csv": {"path": "o"}}}
    with pytest.raises(engine.InvalidArgumentError, match=r"no imported model, of that name.*engine model import"):
        engine.Pipeline(job | {"steps": [{"infer": {"model": "surely-no-such-model"}}]}).to_spec()
    (tmp_path / "folder").mkdir()
    spec = engine.Pipeline(job | {"steps": [{"infer": {"model": "folder"}}]}).to_spec(tmp_path)
    assert spec.steps[0].infer.model == str(tmp_path / "folder")
