"""The XCom backend against a real head: tables there and back, in the store and out of it."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import engine
import pandas
import polars
import pyarrow as pa
import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from engine_provider import xcom, xcom_storage
from engine_provider.xcom import EngineXComBackend, TableReference
from engine_provider.xcom_cleanup import EngineXComCleanupOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

WHERE = {"key": "return_value", "dag_id": "dag", "run_id": "manual__2026-11-27T00:00:00+00:00", "task_id": "make", "map_index": -1}
TABLES = {
    "pyarrow": pa.table({"n": [1, 2, None], "s": ["a", "ä", None], "v": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))}),
    "pandas": pandas.DataFrame({"n": [1.5, 2.5], "c": pandas.Categorical(["x", "y"])}, index=pandas.Index(["p", "q"], name="i")),
    "polars": polars.DataFrame({"n": [1, 2], "s": ["a", None], "l": [[1], []], "d": [datetime.date(2026, 11, 27), None]}),
}


@pytest.fixture
def folder(head, tmp_path, monkeypatch) -> Path:
    """The folder of checkpoints, with the connection and the configuration that lead to it."""
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE_DEFAULT", f"engine://{head.address}")
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_CHECKPOINT", str(tmp_path / "kept"))
    return tmp_path / "kept"


def stored(value: object, **where: object) -> SimpleNamespace:
    """What Airflow's database holds of a value, as it gives it back."""
    return SimpleNamespace(value=EngineXComBackend.serialize_value(value, **{**WHERE, **where}))


def reference(row: SimpleNamespace) -> TableReference:
    found = TableReference.of(BaseXCom.deserialize_value(row))
    assert found is not None
    return found


def same(found: object, table: object) -> bool:
    return type(found) is type(table) and bool(found.equals(table))


@pytest.mark.parametrize("library", TABLES)
def test_there_and_back(folder, library):
    row = stored(TABLES[library])
    assert same(EngineXComBackend.deserialize_value(row), TABLES[library])
    kept = reference(row)
    assert (kept.library, kept.rows) == (library, len(TABLES[library]))
    # The checkpoint is in the run's folder, and any reader of Arrow reads it.
    path = Path(kept.checkpoint.removeprefix("file://"))
    assert path.is_relative_to(folder / "dag")
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        assert reader.read_all().num_rows == kept.rows


def test_within_containers(folder):
    table = TABLES["pyarrow"]
    value = {"a": [table, 1], "b": (table, {"c": table}), "d": "text"}
    found = EngineXComBackend.deserialize_value(stored(value))
    assert same(found["a"][0], table)
    assert same(found["b"][1]["c"], table)
    assert (found["a"][1], found["d"], type(found["b"])) == (1, "text", tuple)
    assert same(EngineXComBackend.deserialize_value(stored(table.to_batches()[0])), table)


def test_everything_else_is_the_standard_backends(monkeypatch):
    monkeypatch.setattr(xcom, "_client", lambda settings: pytest.fail("it asked the cluster"))
    for value in (None, 1, "a", [1, {"b": (2, 3)}], {"x": datetime.datetime(2026, 11, 27, tzinfo=datetime.timezone.utc)}):
        row = stored(value)
        assert row.value == BaseXCom.serialize_value(value)
        assert EngineXComBackend.deserialize_value(row) == value
        EngineXComBackend.purge(row)

    class Frame(pandas.DataFrame):
        """It would come back as another type."""

    with pytest.raises(TypeError, match="Frame"):
        stored(Frame({"n": [1]}))


def test_all_types_come_back(folder):
    many = polars.DataFrame(
        {
            "enum": polars.Series(["b", "a", None], dtype=polars.Enum(["a", "b"])),
            "categorical": polars.Series(["x", "y", None], dtype=polars.Categorical),
            "array": polars.Series([[1, 2], [3, 4], None], dtype=polars.Array(polars.Int16, 2)),
            "struct": [{"p": 1, "q": ["r"]}, {"p": None, "q": []}, None],
            "binary": [b"\0", b"", None],
            "duration": [datetime.timedelta(milliseconds=5), None, None],
            "zoned": polars.Series([datetime.datetime(2026, 11, 27), None, None]).dt.replace_time_zone("Europe/Berlin"),
            "decimal": polars.Series([decimal.Decimal("1.25"), None, None], dtype=polars.Decimal(10, 2)),
            "bool": [True, False, None],
            "small": polars.Series([1, 2, None], dtype=polars.UInt8),
            "float": polars.Series([1.5, float("nan"), None], dtype=polars.Float32),
            "null": [None, None, None],
        }
    )
    assert same(EngineXComBackend.deserialize_value(stored(many)), many)
    assert EngineXComBackend.deserialize_value(stored(many)).schema == many.schema
    frame = pandas.DataFrame(
        {1: [1, 2], ("a", 2): ["x", None]}, index=pandas.MultiIndex.from_tuples([("k", 1), ("l", 2)], names=["m", "n"])
    )
    pandas.testing.assert_frame_equal(EngineXComBackend.deserialize_value(stored(frame.iloc[:, :1])), frame.iloc[:, :1])
    times = pandas.DataFrame(
        {"t": pandas.date_range("2026-11-27", periods=2, tz="Europe/Berlin"), "i": pandas.array([1, None], dtype="Int64")}
    )
    pandas.testing.assert_frame_equal(EngineXComBackend.deserialize_value(stored(times)), times)
    for empty in (pandas.DataFrame(), polars.DataFrame(), pa.table({}), many.clear()):
        assert same(EngineXComBackend.deserialize_value(stored(empty)), empty)


def test_zero_copy_on_one_machine_and_flight_from_another(folder, monkeypatch):
    table = pa.table({"x": range(200_000)})
    row = stored(table)
    found = EngineXComBackend.deserialize_value(row)
    assert not found.column("x").chunk(0).buffers()[1].is_mutable
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine._objects.host_id", lambda: "another machine")
        patch.setattr(xcom_storage, "read", lambda uri: pytest.fail("it read the checkpoint"))
        patch.setattr(engine.Client, "restore", lambda *args, **more: pytest.fail("it restored the checkpoint"))
        assert same(EngineXComBackend.deserialize_value(row), table)
        other = stored(table)
    assert same(EngineXComBackend.deserialize_value(other), table)


def test_a_process_that_shares_no_memory_with_the_store(folder, tmp_path):
    """In a mount namespace of its own, and without the checkpoint, a process has the table only by way of the network."""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("missing: the right to make namespaces (unshare --user --mount)")
    row = stored(pa.table({"x": range(200_000)}))
    Path(reference(row).checkpoint.removeprefix("file://")).unlink()
    (tmp_path / "row.json").write_text(json.dumps(row.value))
    script = """
import json, sys, types
from engine_provider.xcom import EngineXComBackend
table = EngineXComBackend.deserialize_value(types.SimpleNamespace(value=json.load(open(sys.argv[1]))))
assert table["x"].to_pylist() == list(range(200_000))
"""
    subprocess.run([*apart, sys.executable, "-c", script, str(tmp_path / "row.json")], check=True, timeout=300)


def test_expired_object(folder, head, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_TTL", "86400")
    row = stored(TABLES["pyarrow"])
    kept = reference(row)
    with engine.Client(head.address) as client:
        client.delete(engine.ObjectRef.parse(kept.ref))
        with pytest.raises(engine.NotFoundError):
            client.get(kept.ref)
    assert same(EngineXComBackend.deserialize_value(row), TABLES["pyarrow"])
    with engine.Client(head.address) as client:
        client.delete(engine.ObjectRef.parse(kept.ref))
    xcom_storage.delete(kept.checkpoint)
    with pytest.raises(AirflowFailException, match=r"deleted.*does not exist.*clear the task"):
        EngineXComBackend.deserialize_value(row)


def test_the_pin_keeps_the_object_and_ends(folder, head, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_TTL", "0.5")
    row = stored(TABLES["pyarrow"])
    with engine.Client(head.address) as client:

        def there() -> bool:
            try:
                client.get(reference(row).ref)
            except engine.NotFoundError:
                return False
            return True

        end = datetime.datetime.now() + datetime.timedelta(minutes=1)
        while there():
            assert datetime.datetime.now() < end
    assert same(EngineXComBackend.deserialize_value(row), TABLES["pyarrow"])


def test_cluster_is_gone(folder, start_head, monkeypatch):
    first = start_head("first")
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE_DEFAULT", f"engine://{first.address}")
    row = stored(TABLES["pandas"])
    first.stop()
    began = datetime.datetime.now()
    assert same(EngineXComBackend.deserialize_value(row), TABLES["pandas"])
    print("read without a cluster after", datetime.datetime.now() - began)
    # Another cluster at the same connection restores it, also where Airflow cannot read the checkpoint.
    second = start_head("second")
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE_DEFAULT", f"engine://{second.address}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xcom_storage, "read", lambda uri: pytest.fail("it read the checkpoint itself"))
        assert same(EngineXComBackend.deserialize_value(row), TABLES["pandas"])
    xcom_storage.delete(reference(row).checkpoint)
    with pytest.raises(AirflowFailException, match=r"belongs to cluster.*does not exist"):
        EngineXComBackend.deserialize_value(row)
    second.stop()
    # Nobody knows whether the cluster comes back, so this may be tried again.
    with pytest.raises(AirflowException, match=r"connect.*does not exist") as caught:
        EngineXComBackend.deserialize_value(row)
    assert not isinstance(caught.value, AirflowFailException)


def test_purge(folder, head):
    row = stored({"a": TABLES["pyarrow"], "b": [TABLES["polars"]]})
    refs = [TableReference.of(one) for one in (BaseXCom.deserialize_value(row)["a"], *BaseXCom.deserialize_value(row)["b"])]
    assert len(list(folder.rglob("*.arrows"))) == 2
    EngineXComBackend.purge(row)
    assert not list(folder.rglob("*.arrows"))
    with engine.Client(head.address) as client:
        for one in refs:
            with pytest.raises(engine.NotFoundError):
                client.get(one.ref)
    EngineXComBackend.purge(row)  # What is gone is gone.


def test_purge_deletes_nothing_elsewhere(folder, monkeypatch, tmp_path):
    row = stored(TABLES["pyarrow"])
    path = Path(reference(row).checkpoint.removeprefix("file://"))
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_CHECKPOINT", str(tmp_path / "kept" / "dag" / "other"))
    EngineXComBackend.purge(row)
    forged = f"file://{tmp_path}/kept/dag/other/../{path.relative_to(folder / 'dag')}"
    assert xcom.delete_tables([forged, str(path), "s3://bucket/x"]) == 0
    assert path.exists()
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_CHECKPOINT", str(folder))
    assert xcom.delete_tables([reference(row).checkpoint]) == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "address", ["{}?endpoint_override=evil", "{}#x", "gs://bucket/{}", "file://host{}", "s3:///{}", "file://[{}", "x{}"]
)
def test_addresses_that_lead_elsewhere(folder, monkeypatch, address):
    kept = reference(stored(TABLES["pyarrow"]))
    path = kept.checkpoint.removeprefix("file://")
    uri = address.format(path)
    monkeypatch.setattr(xcom, "_client", lambda settings: pytest.fail("it asked the cluster"))
    with pytest.raises(AirflowFailException, match="not the address of a checkpoint"):
        EngineXComBackend.deserialize_value(SimpleNamespace(value={**kept.to_dict(), "checkpoint": uri}))
    assert xcom.delete_tables([uri]) == 0
    assert Path(path).exists()


def test_one_that_is_malformed_keeps_no_other_from_being_deleted(folder):
    row = stored([TABLES["pyarrow"], TABLES["polars"]])
    first, second = BaseXCom.deserialize_value(row)
    bad = [{**first, "checkpoint": f"{folder}/dag/x.txt"}, {**first, "checkpoint": 7}, {**first, "__engine_table__": 99}]
    EngineXComBackend.purge(SimpleNamespace(value=[bad[0], first, *bad[1:], second]))
    assert not list(folder.rglob("*.arrows"))


def test_clearing_a_task_deletes_what_it_has_kept_alone(folder, monkeypatch):
    other, mapped = stored(TABLES["pyarrow"], task_id="other"), stored(TABLES["pyarrow"], map_index=3)
    kept = BaseXCom.deserialize_value(stored(TABLES["polars"]))
    values = {"mine": [kept, BaseXCom.deserialize_value(other), BaseXCom.deserialize_value(mapped)]}
    asked: list[object] = []
    monkeypatch.setattr(BaseXCom, "_get_xcom_db_ref", lambda **where: SimpleNamespace(value=values[where["key"]]))
    comms = SimpleNamespace(send=asked.append)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms, raising=False)
    EngineXComBackend.delete(**{**WHERE, "key": "mine"})
    assert {path.parent.name for path in folder.rglob("*.arrows")} == {"other", "3"}
    EngineXComBackend.delete(**{**WHERE, "key": "mine", "map_index": 3})
    assert {path.parent.name for path in folder.rglob("*.arrows")} == {"other"}
    assert len(asked) == 2
    assert same(EngineXComBackend.deserialize_value(other), TABLES["pyarrow"])


def test_a_folder_with_odd_characters(folder, monkeypatch, tmp_path):
    odd = tmp_path / "it's 100% odd ä+b #1?"
    for option in (str(odd), odd.as_uri()):
        monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_CHECKPOINT", option)
        row = stored(TABLES["pandas"])
        assert same(EngineXComBackend.deserialize_value(row), TABLES["pandas"])
        assert xcom_storage.read(reference(row).checkpoint).num_rows == 2
        assert len(list(odd.rglob("*.arrows"))) == 1
        EngineXComBackend.purge(row)
        assert not list(odd.rglob("*.arrows"))


def test_purge_never_fails(folder, monkeypatch):
    row = stored(TABLES["pyarrow"])
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE_DEFAULT", "engine://127.0.0.1:1")
    monkeypatch.setattr("engine_provider.xcom_storage.delete", lambda uri: (_ for _ in ()).throw(engine.PermissionError("no")))
    EngineXComBackend.purge(row)
    monkeypatch.delenv("AIRFLOW_CONN_ENGINE_DEFAULT")
    EngineXComBackend.purge(row)
    EngineXComBackend.purge(SimpleNamespace(value={"__engine_table__": 99}))
    EngineXComBackend.purge(SimpleNamespace(value=None))


def run(operator: EngineXComCleanupOperator, run_id: str = WHERE["run_id"]) -> int:
    return operator.execute({"dag": SimpleNamespace(dag_id="dag"), "run_id": run_id})


def test_clean_up_of_a_run(folder, head):
    mine, mapped, other = stored(TABLES["pyarrow"]), stored(TABLES["pyarrow"], map_index=3), stored(TABLES["polars"], run_id="other")
    assert run(EngineXComCleanupOperator(task_id="cleanup")) == 2
    for row in (mine, mapped):
        with pytest.raises(AirflowFailException):
            EngineXComBackend.deserialize_value(row)
    assert [path.name for path in (folder / "dag").iterdir()] == ["other"]
    assert same(EngineXComBackend.deserialize_value(other), TABLES["polars"])
    assert run(EngineXComCleanupOperator(task_id="cleanup"), "other") == 1
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert run(EngineXComCleanupOperator(task_id="cleanup"), "never") == 0


def test_clean_up_of_what_is_old(folder):
    old, new = stored(TABLES["pyarrow"], run_id="old"), stored(TABLES["pyarrow"], run_id="new")
    long_ago = datetime.datetime.now().timestamp() - 10 * 86400
    os.utime(reference(old).checkpoint.removeprefix("file://"), (long_ago, long_ago))
    keep = folder / "dag" / "old" / "notes.txt"
    keep.write_text("not ours")
    assert run(EngineXComCleanupOperator(task_id="cleanup", older_than=datetime.timedelta(days=9))) == 1
    assert same(EngineXComBackend.deserialize_value(new), TABLES["pyarrow"])
    assert keep.exists()
    with pytest.raises(ValueError, match="positive"):
        EngineXComCleanupOperator(task_id="cleanup", older_than=datetime.timedelta(0))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (pandas.DataFrame({"good": [1, 2], "bad": [1, "a"]}), "bad"),
        (pandas.DataFrame({"good": [1], "bad": [object()]}), "bad"),
        (polars.DataFrame({"good": [1], "bad": polars.Series([object()], dtype=polars.Object)}), "bad"),
        (pa.table({"good": [1], "bad": pa.array([1], pa.decimal32(5, 1))}), "bad"),
    ],
)
def test_a_type_that_cannot_be_held_names_the_column(folder, table, column):
    with pytest.raises(AirflowFailException, match=column):
        stored(table)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("XCOM_CHECKPOINT", "", "xcom_checkpoint: it is not set"),
        ("XCOM_CHECKPOINT", "relative/folder", "neither s3"),
        ("XCOM_CHECKPOINT", "gs://bucket/x", "neither s3"),
        ("XCOM_CHECKPOINT", "s3://", "neither s3"),
        ("XCOM_CHECKPOINT", "s3://bucket/x?region=eu-west-1", "AWS_REGION"),
        ("XCOM_TTL", "-1", "xcom_ttl: -1 seconds"),
    ],
)
def test_wrong_settings(folder, monkeypatch, option, value, said):
    monkeypatch.setenv(f"AIRFLOW__ENGINE__{option}", value)
    with pytest.raises(AirflowFailException, match=said):
        stored(TABLES["pyarrow"])


def test_checkpoint_cannot_be_written(folder, head):
    folder.write_text("a file where the folder should be")
    with pytest.raises(AirflowException, match="kept"):
        stored(TABLES["pyarrow"])


def test_all_tables_of_a_value_or_none(folder, head):
    with pytest.raises(AirflowFailException, match="column 'bad'"):
        stored([TABLES["pyarrow"], pandas.DataFrame({"bad": [object()]})])
    assert not list(folder.rglob("*.arrows"))


@pytest.mark.parametrize("change", [{"ref": 7}, {"checkpoint": None}, {"rows": "3"}, {"library": ...}, {"ref": "nonsense"}])
def test_references_that_are_none(folder, change):
    whole = {"__engine_table__": 1, "ref": "0" * 31 + "1", "checkpoint": f"{folder}/x", "library": "pandas", "rows": 1, "size_bytes": 1}
    value = {name: one for name, one in {**whole, **change}.items() if one is not ...}
    with pytest.raises(AirflowFailException):
        EngineXComBackend.deserialize_value(SimpleNamespace(value=value))
    EngineXComBackend.purge(SimpleNamespace(value=value))


def test_reference_of_a_newer_version():
    with pytest.raises(AirflowFailException, match="version 2"):
        EngineXComBackend.deserialize_value(SimpleNamespace(value={"__engine_table__": 2}))


def test_folders_of_different_names_differ(folder):
    settings = xcom.Settings.read()
    names = ["a", "a:b", "a_b", "a b", "..", ".", "x" * 200, "x" * 201, "a/b", "ä"]
    folders = {settings.folder(name) for name in names}
    assert len(folders) == len(names)
    for one in folders:
        assert Path(one).parent == folder
        assert len(Path(one).name) <= 150
    assert settings.folder("d", "r", "t", 7).endswith("/d/r/t/7")


def test_damaged_checkpoints(folder, tmp_path):
    kept = reference(stored(TABLES["pyarrow"]))
    path = Path(kept.checkpoint.removeprefix("file://"))
    good = path.read_bytes()
    assert xcom_storage.read(kept.checkpoint).equals(TABLES["pyarrow"])
    for bad in (b"", good[:-1], good[:100], good[100:], b"x" * 200, good[:-64] + b"x" + good[-64:]):
        path.write_bytes(bad)
        with pytest.raises(engine.CorruptError, match=path.name):
            xcom_storage.read(kept.checkpoint)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(200):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad if chance.random() < 0.7 else good[: chance.randrange(len(good))])
        with pytest.raises(engine.CorruptError):
            xcom_storage.read(kept.checkpoint)
    path.write_bytes(good)
    assert xcom_storage.read(kept.checkpoint).equals(TABLES["pyarrow"])
    other = path.with_name(f"{7:032x}.arrows")
    other.write_bytes(good)
    with pytest.raises(engine.CorruptError, match=path.stem):
        xcom_storage.read(other.as_uri())
    for uri in ("file:///etc/hostname", "s3://bucket", str(tmp_path)):
        with pytest.raises(engine.InvalidArgumentError):
            xcom_storage.delete(uri)


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Iterator[str]:
    """A bucket of a real S3 server, with the environment that leads to it."""
    server = os.environ.get("ENGINE_VERSITYGW") or str(Path(__file__).parents[4] / ".tools" / "versitygw")
    if not os.access(server, os.X_OK):
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing: {server}, an S3 server (`make .tools/versitygw`)")
        pytest.skip(f"missing: {server}, an S3 server (`make .tools/versitygw`)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "s3" / "tables").mkdir(parents=True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    command = [
        server,
        "--access",
        "key",
        "--secret",
        "secret-of-the-test",
        "--port",
        f"127.0.0.1:{port}",
        "--quiet",
        "posix",
        str(tmp_path / "s3"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < end, "the S3 server does not answer"
        yield "s3://tables/xcom"
        process.terminate()


def test_checkpoints_on_s3(bucket, start_head, monkeypatch):
    head = start_head("head")
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE_DEFAULT", f"engine://{head.address}")
    monkeypatch.setenv("AIRFLOW__ENGINE__XCOM_CHECKPOINT", bucket)
    row, other = stored(TABLES["polars"]), stored(TABLES["pyarrow"], run_id="other")
    kept = reference(row)
    assert kept.checkpoint.startswith(f"{bucket}/dag/manual__2026-11-27")
    head.stop()
    assert same(EngineXComBackend.deserialize_value(row), TABLES["polars"])
    assert [one.uri for one in xcom_storage.list_folder(bucket + "/dag/other")] == [reference(other).checkpoint]
    assert run(EngineXComCleanupOperator(task_id="cleanup"), "other") == 1
    EngineXComBackend.purge(row)
    assert not xcom_storage.list_folder(bucket)
    for again in (kept.checkpoint, reference(other).checkpoint):
        xcom_storage.delete(again)  # What is gone is gone.
        with pytest.raises(engine.NotFoundError):
            xcom_storage.read(again)
    assert xcom_storage.list_folder("s3://nowhere/x") == []


def test_pull_a_reference(folder, monkeypatch):
    row = stored(TABLES["pyarrow"])
    ti = SimpleNamespace(dag_id="dag", run_id="run")
    monkeypatch.setattr(BaseXCom, "get_one", lambda **more: BaseXCom.deserialize_value(row) if more["task_id"] == "make" else 7)
    assert TableReference.pull(ti, "make") == reference(row)
    with pytest.raises(AirflowFailException, match="return_value of task other"):
        TableReference.pull(ti, "other")
