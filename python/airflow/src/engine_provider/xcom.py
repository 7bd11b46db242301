"""Tables between tasks: an XCom backend that hands them over in the engine's object store.

    [core]
    xcom_backend = engine_provider.xcom.EngineXComBackend

    [engine]
    xcom_checkpoint = s3://bucket/airflow-xcom

A task then returns a table of pyarrow, pandas, or polars, alone or within dicts, lists, and tuples, and another one takes it as its
argument. Airflow's database holds a `TableReference`; the table lies in the object store, where a task on the same machine reads it
without a copy and one on another machine over the network, and in a checkpoint below `xcom_checkpoint`. What comes back is a table of
the library that it was of. Everything else goes to Airflow's standard backend.

The object is kept for `xcom_ttl` seconds. The checkpoint is kept until the XCom is deleted, which is when its task is cleared or tried
again, or until the run is cleaned up by `engine_provider.xcom_cleanup.EngineXComCleanupOperator`. So a table can be read for as long as the
checkpoint exists: after the object has expired, after the cluster is gone, and from another cluster.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import engine
import structlog
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.configuration import conf
from engine.refs import to_arrow

from engine_provider import faults, xcom_storage
from engine_provider.hooks import EngineHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

__all__ = ["EngineXComBackend", "Settings", "TableReference", "delete_tables"]

log = structlog.get_logger(logger_name="task")

SECTION = "engine"
"""The section of Airflow's configuration that has the settings."""

_MARK = "__engine_table__"
_VERSION = 1
_CONTAINERS = (dict, list, tuple)
_TABLES = {"pyarrow": ("Table", "RecordBatch"), "pandas": ("DataFrame",), "polars": ("DataFrame",)}
_WAIT_FOR_ROOM = 300.0  # Seconds; a store that is full makes room as others let go of what they read.
_CLEARED: ContextVar[tuple[str, str, str, int | None] | None] = ContextVar("_CLEARED", default=None)
"""The DAG, run, task, and map index whose XCom is being deleted."""
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Settings:
    """What Airflow's configuration says of the backend.

    Attributes:
        checkpoint: where checkpoints are written, s3://bucket/prefix or an absolute path that the engine's workers and those of Airflow
            share. Option xcom_checkpoint; required once a task returns a table.
        conn_id: the Airflow connection of the cluster. Option xcom_conn_id; default: engine_default.
        ttl: seconds for which an object stays in the store; afterwards its table is read from the checkpoint. Option xcom_ttl; default:
            one day.

    """

    checkpoint: str
    conn_id: str
    ttl: float

    @classmethod
    def read(cls) -> Settings:
        """Read the configuration.

        Raises:
            InvalidArgumentError: for a checkpoint that is no folder, and a ttl that is not positive.

        """
        checkpoint = (conf.get(SECTION, "xcom_checkpoint", fallback="") or "").rstrip("/")
        conn_id = conf.get(SECTION, "xcom_conn_id", fallback="") or "engine_default"
        ttl = conf.getfloat(SECTION, "xcom_ttl", fallback=86400.0)
        parts = urlsplit(checkpoint)
        where = f"[{SECTION}] xcom_checkpoint"
        if not checkpoint:
            raise engine.InvalidArgumentError(
                "it is not set",
                op="read configuration",
                id=where,
                hint="set it to s3://bucket/prefix, or to a folder that all machines share",
            )
        if not (checkpoint.startswith("/") or (parts.scheme == "file" and not parts.netloc) or (parts.scheme == "s3" and parts.netloc)):
            raise engine.InvalidArgumentError(
                f"{checkpoint!r} is neither s3://bucket/prefix nor an absolute path", op="read configuration", id=where
            )
        if parts.scheme == "s3" and parts.query:
            raise engine.InvalidArgumentError(
                f"{checkpoint!r} has settings behind the question mark",
                op="read configuration",
                id=where,
                hint="set AWS_REGION and AWS_ENDPOINT_URL in the environment of the engine's workers and of Airflow's",
            )
        if ttl <= 0:
            raise engine.InvalidArgumentError(f"{ttl:g} seconds are not positive", op="read configuration", id=f"[{SECTION}] xcom_ttl")
        return cls(checkpoint, conn_id, ttl)

    def holds(self, uri: str) -> bool:
        """Return whether the URI of a checkpoint is one below the folder."""
        if "?" in uri or "#" in uri:
            return False  # Behind these are settings of who reads it, such as another endpoint.
        place = _place(uri)
        return place.startswith(_place(self.checkpoint) + "/") and ".." not in place.split("/")

    def folder(self, dag_id: str | None = None, run_id: str | None = None, task_id: str | None = None, map_index: int | None = None) -> str:
        """Return the folder of a DAG, run, task, or mapped task: of as many as are given."""
        parts = [_name(part) for part in (dag_id, run_id, task_id) if part]
        if task_id and map_index is not None and map_index >= 0:
            parts.append(str(map_index))
        return "/".join([self.checkpoint, *parts])


def _check_address(uri: str) -> None:
    """Refuse what no checkpoint has as its address: whoever reads it would follow it elsewhere.

    Raises:
        InvalidArgumentError: if it is neither s3://bucket/… nor file:///… nor a path, or has settings.

    """
    try:
        parts = urlsplit(uri)
        known = uri.startswith("/") or (parts.scheme == "file" and not parts.netloc) or (parts.scheme == "s3" and bool(parts.netloc))
    except ValueError:
        known = False
    if not known or "?" in uri or "#" in uri:
        raise engine.InvalidArgumentError("this is not the address of a checkpoint", op="read table of XCom", id=uri)


def _place(uri: str) -> str:
    """Return an address such that the same place has the same one: a path for a local file, however its URI is escaped."""
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def _name(text: str) -> str:
    """Make the name of a folder. What is not plain gets a checksum, so that different texts have different names."""
    if _PLAIN.fullmatch(text) and len(text) <= 150:
        return text
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', text)[:130]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class TableReference:
    """What Airflow keeps of a table.

    Attributes:
        ref: the object's reference, as `engine.ObjectRef.parse` reads it.
        checkpoint: the URI of its checkpoint, an Arrow IPC stream that any reader of Arrow reads.
        library: "pyarrow", "pandas", or "polars": whose table it was and becomes again.
        rows: how many it has.
        size_bytes: how large it is in memory.

    """

    ref: str
    checkpoint: str
    library: str
    rows: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON object that is in Airflow's database."""
        return {_MARK: _VERSION, **asdict(self)}

    @classmethod
    def of(cls, value: Any) -> TableReference | None:
        """Return the reference that a value out of Airflow's database is, or None if it is none.

        Raises:
            VersionError: for a reference that a newer version of this provider has written.
            CorruptError: for one that lacks something.

        """
        if not isinstance(value, dict) or _MARK not in value:
            return None
        if value[_MARK] != _VERSION:
            raise engine.VersionError(f"the reference has version {value[_MARK]!r}, this provider reads {_VERSION}", op="read XCom")
        found = {field.name: value.get(field.name) for field in fields(cls)}
        for name, one in found.items():
            wanted = int if name in ("rows", "size_bytes") else str
            if not isinstance(one, wanted):
                raise engine.CorruptError(f"{name} of the reference is {one!r}", op="read XCom")
        return cls(**found)  # type: ignore[arg-type]

    @classmethod
    def pull(
        cls, ti: RuntimeTaskInstanceProtocol, task_id: str, *, key: str = "return_value", map_index: int | None = None
    ) -> TableReference:
        """Return the reference of the table that another task of this run has handed over, without reading the table.

        A job reads it where it is: `engine.read_objects(TableReference.pull(ti, "make").checkpoint)`.

        Args:
            ti: the running task, as its context has it.
            task_id: the other one.
            key: of the XCom.
            map_index: of the other one, if it is mapped.

        Raises:
            AirflowFailException: if it has handed over no table under the key.

        """
        value = BaseXCom.get_one(key=key, dag_id=ti.dag_id, task_id=task_id, run_id=ti.run_id, map_index=map_index)
        with faults.translated():
            reference = cls.of(value)
            if reference is None:
                raise engine.NotFoundError("it is no table of the object store", op="read XCom", id=f"{key} of task {task_id}")
        return reference


class EngineXComBackend(BaseXCom):
    """Airflow's XCom backend for tables; see this module. It is safe for concurrent use, and keeps nothing."""

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> str:
        """Put the tables in a value into the object store and into checkpoints, and return it with references in their places.

        It blocks until the checkpoints are durable.

        Raises:
            AirflowFailException: for a column that Arrow cannot hold, which it names, and for settings that are missing or wrong.
            AirflowException: if the cluster cannot be reached or the checkpoint not be written, which a retry may change.

        """
        if _has_tables(value):
            with faults.translated("an XCom's table cannot be kept"):
                value = _keep(value, Settings.read(), dag_id, run_id, task_id, map_index)
        return BaseXCom.serialize_value(value, key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Return the value, with tables in the places of references; they are read-only where they lie in shared memory.

        Raises:
            AirflowFailException: for a table whose object has expired and whose checkpoint is gone; it says both.
            AirflowException: if neither can be read, which a retry may change.

        """
        with faults.translated():
            return _replace(BaseXCom.deserialize_value(result), lambda reference: _get(TableReference.of(reference)), TableReference.of)

    @classmethod
    def delete(cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None) -> None:
        """Delete an XCom, and of its tables those that this task has kept. Those that its value only refers to are another one's."""
        cleared = _CLEARED.set((dag_id, run_id, task_id, map_index))
        try:
            super().delete(key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index)
        finally:
            _CLEARED.reset(cleared)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        """Delete the objects and checkpoints of a value. What cannot be deleted is said in the log, and is no error."""
        checkpoints: list[str] = []

        def reference(value: Any) -> TableReference | None:
            try:
                return TableReference.of(value)
            except engine.EngineError as error:
                log.warning("a reference cannot be read, so its table is not deleted", error=str(error))
                return None

        def collect(value: Any) -> None:
            found = reference(value)
            if found is not None:
                checkpoints.append(found.checkpoint)

        try:
            _replace(BaseXCom.deserialize_value(xcom), collect, reference)
            cleared = _CLEARED.get()
            if cleared is not None and checkpoints:
                own = _place(Settings.read().folder(*cleared))
                checkpoints = [uri for uri in checkpoints if _place(uri).rpartition("/")[0] == own]
        except Exception:
            log.exception("an XCom cannot be read, so no table of it is deleted")
            return
        if checkpoints:
            delete_tables(checkpoints)


def delete_tables(checkpoints: Sequence[str]) -> int:
    """Delete checkpoints and the objects that they are of, and return how many checkpoints are gone.

    What cannot be deleted is said in the log: an object that stays ends with its time.

    Args:
        checkpoints: their URIs. What is not below the folder of the configuration is left alone, whatever a reference says.

    """
    try:
        settings = Settings.read()
    except engine.EngineError as error:
        log.warning("no table is deleted", error=str(error))
        return 0
    found: dict[str, engine.ObjectRef] = {}
    for uri in filter(settings.holds, checkpoints):
        try:
            found[uri] = engine.ObjectRef.parse(xcom_storage.object_id(uri))
        except engine.EngineError as error:
            log.warning("a table is not deleted", error=str(error))
    if not found:
        return 0
    try:
        with _client(settings) as client:
            client.delete(*found.values())  # The ids are random, so another cluster has none of them.
    except Exception as error:  # Also what Airflow raises for a connection that is gone.
        log.warning("objects of tables are left to expire", tables=len(found), error=str(error))
    gone = 0
    for uri in found:
        try:
            xcom_storage.delete(uri)
            gone += 1
        except engine.EngineError as error:
            log.warning("a checkpoint of a table cannot be deleted", error=str(error))
    return gone


@contextmanager
def _client(settings: Settings) -> Iterator[engine.Client]:
    with EngineHook(settings.conn_id).get_conn() as client:
        yield client


def _library(value: Any) -> str | None:
    """Return whose table a value is, or None if it is none. It imports none of the libraries.

    A subclass is none: it would not come back as what it was.
    """
    cls = type(value)
    library = cls.__module__.partition(".")[0]
    return library if cls.__name__ in _TABLES.get(library, ()) else None


def _has_tables(value: Any) -> bool:
    if type(value) in _CONTAINERS:
        return any(_has_tables(item) for item in (value.values() if isinstance(value, dict) else value))
    return _library(value) is not None


def _replace(value: Any, make: Callable[[Any], Any], is_one: Callable[[Any], Any]) -> Any:
    """Return a value with others in the places of those that are one, at any depth of plain dicts, lists, and tuples."""
    if is_one(value) is not None:
        return make(value)
    if type(value) is dict:
        return {name: _replace(item, make, is_one) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replace(item, make, is_one) for item in value)
    return value


def _keep(value: Any, settings: Settings, *where: Any) -> Any:
    """Put all tables of a value, or none: what was kept before one that cannot be is deleted."""
    kept: list[str] = []

    def keep(table: Any) -> dict[str, Any]:
        reference = _put(client, table, settings.folder(*where), settings.ttl)
        kept.append(reference.checkpoint)
        return reference.to_dict()

    try:
        with _client(settings) as client:
            return _replace(value, keep, _library)
    except BaseException:
        if kept:
            delete_tables(kept)
        raise


def _put(client: engine.Client, value: Any, folder: str, ttl: float) -> TableReference:
    library = _library(value)
    table = to_arrow(value)
    ref = client.put(table, timeout=_WAIT_FOR_ROOM)
    # The checkpoint comes first: an object without one would be lost with the cluster, one without a pin only with this process.
    checkpoint = client.checkpoint(ref, folder)
    client.pin(ref, ttl=ttl)
    return TableReference(str(ref), checkpoint, library or "pyarrow", table.num_rows, table.nbytes)


def _get(reference: TableReference | None) -> Any:
    assert reference is not None
    table = _table(reference)
    if reference.library == "pandas":
        return table.to_pandas()
    if reference.library == "polars":
        import polars

        return polars.from_arrow(table)
    return table


def _table(reference: TableReference) -> pa.Table:
    """Read a table from the object store, else from its checkpoint: by the cluster that there is now, else directly."""
    _check_address(reference.checkpoint)
    said: list[Exception] = []
    try:
        with _client(Settings.read()) as client:
            try:
                return client.get(reference.ref, timeout=engine.aio.STORAGE_TIMEOUT)
            except engine.EngineError as error:
                said.append(error)
            try:
                return client.get(client.restore(reference.checkpoint), timeout=engine.aio.STORAGE_TIMEOUT)
            except engine.EngineError as error:
                said.append(error)
    except Exception as error:  # Also what Airflow raises for a connection that is gone.
        said.append(error)
    try:
        return xcom_storage.read(reference.checkpoint)
    except engine.EngineError as error:
        said.append(error)
        # A cluster that cannot be reached now may have it later.
        later = any(not isinstance(one, engine.EngineError) or one.retryable for one in said)
        raise (engine.UnavailableError if later else type(error))(
            "; ".join(dict.fromkeys(str(one) for one in said)),
            op="read table of XCom",
            id=reference.ref,
            hint="" if later else "clear the task that has made it",
        ) from None
