"""Secrets: a job names them, and their values go beside it."""

from __future__ import annotations

import os

import pytest

import engine
from engine import _jobfile, _secrets
from engine._proto.engine.v1 import job_pb2

JOB = """
source:
  postgres: {url: postgres://h/d, table: t, password: "${secret:pg}"}
sink:
  csv: {path: s3://b/out}
  s3: {access_key_id: AKIA, secret_access_key: "${secret:file:keys/s3}", session_token: "${secret:env:S3_TOKEN}"}
"""


def test_credential_fields_are_those_that_the_proto_marks():
    marked = {fd.full_name for m in (job_pb2.S3Credentials, job_pb2.PostgresSource, job_pb2.PostgresSink) for fd in m.DESCRIPTOR.fields
              if _secrets.is_credential(fd)}  # fmt: skip
    credentials = {f"engine.v1.S3Credentials.{n}" for n in ("access_key_id", "secret_access_key", "session_token")}
    assert marked == credentials | {"engine.v1.PostgresSource.password", "engine.v1.PostgresSink.password"}


def test_references_stay_in_the_job_and_files_become_absolute():
    spec = _jobfile.parse("job.yaml", JOB, "/base")
    assert [(path, text) for path, _, text in _secrets.credentials(spec)] == [
        ("source.postgres.password", "${secret:pg}"),
        ("sink.s3.access_key_id", "AKIA"),
        ("sink.s3.secret_access_key", "${secret:file:/base/keys/s3}"),
        ("sink.s3.session_token", "${secret:env:S3_TOKEN}"),
    ]
    again = _jobfile.from_dict(_jobfile.to_dict(spec), "/elsewhere")
    again.name = spec.name
    assert again == spec


def test_values_come_from_what_is_given_and_from_here(tmp_path, monkeypatch):
    monkeypatch.setenv("S3_TOKEN", "from the environment")
    (tmp_path / "keys").mkdir()
    file = tmp_path / "keys" / "s3"
    file.write_text("from a file\n")
    file.chmod(0o600)
    spec = _jobfile.parse("job.yaml", JOB, tmp_path)
    given = {"pg": "given", "unused": b"dropped"}
    assert _secrets.collect(spec, given, local=True) == {
        "pg": b"given", f"file:{file}": b"from a file", "env:S3_TOKEN": b"from the environment",
    }  # fmt: skip
    assert _secrets.collect(spec, given, local=False) == {"pg": b"given"}
    file.unlink()
    monkeypatch.delenv("S3_TOKEN")
    assert _secrets.collect(spec, given, local=True) == {"pg": b"given"}


def test_what_is_wrong_is_named_and_no_value_shown(tmp_path):
    spec = _jobfile.parse("job.yaml", JOB, tmp_path)
    with pytest.raises(
        engine.InvalidArgumentError, match=r'source.postgres.password.*"pg" is not given \(did you mean "pgs"\?\)'
    ) as raised:
        _secrets.collect(spec, {"pgs": "canary"}, local=True)
    assert "canary" not in str(raised.value)
    (tmp_path / "keys").mkdir()
    file = tmp_path / "keys" / "s3"
    file.write_text("canary")
    file.chmod(0o644)
    with pytest.raises(engine.PermissionError, match="0644 lets others read") as raised:
        _secrets.collect(spec, {"pg": "x"}, local=True)
    assert "canary" not in str(raised.value)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(engine.InvalidArgumentError, match="no file"):
        _secrets.collect(spec, {"pg": "x"}, local=True)


def test_a_pipeline_names_secrets():
    pipeline = (
        engine.read_csv("s3://in/a.csv").s3_keys("AKIA", "${secret:in}")
        .write_postgres("postgres://h/d", "t", password="${secret:pg}")
    )  # fmt: skip
    spec = _jobfile.from_dict(pipeline.to_dict())
    assert spec.source.s3.secret_access_key == "${secret:in}"
    assert spec.sink.postgres.password == "${secret:pg}"
    assert _jobfile.parse("-", pipeline.to_yaml(), ".").sink == spec.sink


def reaching(numbers, tmp_path, password="${secret:pg}"):
    """A job whose sink is behind a password, on a server that is not there; and one that is accepted, and fails for want of a bucket."""
    source = {"csv": {"paths": [str(numbers), "s3://bucket/none.csv?endpoint=http://127.0.0.1:1&region=us-east-1&attempts=1"]}}
    return {
        "source": {**source, "s3": {"access_key_id": "AKIA", "secret_access_key": password}},
        "sink": {"csv": {"path": str(tmp_path / "o")}},
    }


def test_the_head_shows_no_secret(client, numbers, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRETS_TEST", "canary-of-the-environment")
    handle = client.submit(reaching(numbers, tmp_path), secrets={"pg": "canary-of-python", "more": "unused"})
    result = handle.wait(timeout=60)
    assert result.state == "FAILED"
    handle.resume(secrets={"pg": b"canary-resumed"})
    assert handle.wait(timeout=60).state == "FAILED"
    status = handle.status()
    assert status.spec["source"]["s3"]["secret_access_key"] == "${secret:pg}"
    text = repr((result, status, list(handle.logs())))
    assert "canary" not in text
    again = client.submit(reaching(numbers, tmp_path, "${secret:env:SECRETS_TEST}"))
    assert again.wait(timeout=60).state == "FAILED"
    assert "canary" not in repr((again.status(), list(again.logs())))
    for one in (handle, again):
        one.forget()


def test_a_secret_that_the_head_lacks(client, numbers, tmp_path):
    spec = _jobfile.from_dict(reaching(numbers, tmp_path))
    with pytest.raises(engine.InvalidArgumentError, match=r'source.s3.secret_access_key: the secret "pg" is not given'):
        client.submit(spec)
