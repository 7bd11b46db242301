"""The hook of connections of type `engine`: where a head is, and with what it is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engine
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from engine import aio, errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

DEFAULT_CONN_ID = "engine_default"
"""The connection that is taken where none is named."""
DEFAULT_PORT = 10001
"""The port of a connection that names none."""
DEFAULT_NAMESPACE = "airflow"
"""What begins the submission ids of a connection that names no namespace."""
CALL_TIMEOUT = 30.0
"""Seconds that a call of the hook's clients has that does not wait for a job."""

_WITH_PORT = re.compile(r"^(\[[^\]]+\]|[^:\[\]]+):\d+$")


@dataclass(frozen=True)
class Settings:
    """What a connection says.

    Attributes:
        address: "host:port" of a head, or of several, separated by commas.
        token: who the client is; None if the cluster asks nobody.
        tls: how the connection is encrypted; None means not at all.
        web: the base URL of the head's pages, without a slash at its end; empty means as the head says.
        namespace: begins submission ids.
        secrets: values of ${secret:NAME} in jobs, by name.

    """

    address: str
    token: str | None = field(default=None, repr=False)
    tls: engine.TLS | None = field(default=None, repr=False)
    web: str = ""
    namespace: str = DEFAULT_NAMESPACE
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class EngineHook(BaseHook):
    """Connects to a cluster of the engine.

    Args:
        engine_conn_id: an Airflow connection of type `engine`: host (or several with ports, "a:10001,b:10001"), port (default 10001),
            password (the token), and in its extra: web, namespace, tls, ca, cert, key, server_name, secrets.
        address: where the head is, instead of the connection's host, such as the address that `EngineStartClusterOperator` returns.
            The connection need not exist then, if it is the default one.

    Attributes:
        conn_name_attr: the argument that names the connection, for Airflow.
        default_conn_name: the connection's default id.
        conn_type: the type of its connections.
        hook_name: the type's name in forms.

    """

    conn_name_attr = "engine_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "engine"
    hook_name = "Engine"

    def __init__(self, engine_conn_id: str = DEFAULT_CONN_ID, address: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine_conn_id = engine_conn_id
        self.address = address or None

    @cached_property
    def settings(self) -> Settings:
        """What the connection says.

        Raises:
            AirflowFailException: if there is no such connection, it has no host, or what it says cannot be.

        """
        connection: Connection | None = None
        try:
            connection = self.get_connection(self.engine_conn_id)
        except AirflowNotFoundException:
            self._check_needed()
        return self._read(connection)

    async def asettings(self) -> Settings:
        """Return `settings`, from a coroutine."""
        if "settings" not in self.__dict__:
            connection: Connection | None = None
            try:
                connection = await self.aget_connection(self.engine_conn_id)
            except AirflowNotFoundException:
                self._check_needed()
            self.__dict__["settings"] = self._read(connection)
        return self.settings

    def _check_needed(self) -> None:
        """Raise the error of a connection that is missing, unless an address stands in for it."""
        if self.address is None or self.engine_conn_id != DEFAULT_CONN_ID:
            raise AirflowFailException(
                f"there is no Airflow connection {self.engine_conn_id!r}: make one of type engine with the head's host, "
                f"or give the task an address"
            ) from None

    def _read(self, connection: Connection | None) -> Settings:
        try:
            return read_settings(connection, self.engine_conn_id, self.address)
        except errors.EngineError as error:
            raise AirflowFailException(str(error)) from None

    def get_conn(self) -> engine.Client:
        """Return a client of the cluster, for one task. Close it, or use it in a with statement."""
        settings = self.settings
        try:
            return engine.Client(settings.address, token=settings.token, tls=settings.tls, timeout=CALL_TIMEOUT)
        except errors.EngineError as error:
            raise AirflowFailException(f"Airflow connection {self.engine_conn_id!r}: {error}") from None

    async def get_async_conn(self) -> aio.Client:
        """Return a client for coroutines. Close it, or use it in an async with statement."""
        settings = await self.asettings()
        try:
            return aio.Client(settings.address, token=settings.token, tls=settings.tls, timeout=CALL_TIMEOUT)
        except errors.EngineError as error:
            raise AirflowFailException(f"Airflow connection {self.engine_conn_id!r}: {error}") from None

    def test_connection(self) -> tuple[bool, str]:
        """Ask the head who it is. Return whether it answered, and what it said."""
        try:
            with self.get_conn() as client:
                cluster = client.cluster()
        except (errors.EngineError, AirflowFailException) as error:
            return False, str(error)
        return True, f"engine {cluster['version']}, cluster {cluster['cluster_id']}, {cluster['nodes_alive']} nodes"


def read_settings(connection: Connection | None, conn_id: str, address: str | None = None) -> Settings:
    """Return what a connection says; its host is not needed where an address stands in for it.

    Raises:
        InvalidArgumentError: for what cannot be, which it names with the connection.

    """
    op, thing = "read Airflow connection", conn_id
    extra = _extra(connection, op, thing)
    if address is None:
        host = (connection.host or "").strip() if connection is not None else ""
        if not host:
            raise errors.InvalidArgumentError("it has no host", op=op, id=thing, hint="its host is that of the engine's head")
        address = _address(host, connection.port if connection is not None else None)
    secrets = extra.get("secrets") or {}
    if not isinstance(secrets, dict) or not all(isinstance(v, str) for v in secrets.values()):
        raise errors.InvalidArgumentError("secrets in its extra must be an object of texts", op=op, id=thing)
    return Settings(
        address=address,
        token=(connection.password or None) if connection is not None else None,
        tls=_tls(extra, op, thing),
        web=str(extra.get("web") or "").rstrip("/"),
        namespace=str(extra.get("namespace") or DEFAULT_NAMESPACE),
        secrets=secrets,
    )


def _extra(connection: Connection | None, op: str, thing: str) -> dict[str, Any]:
    if connection is None or not connection.extra:
        return {}
    try:
        return dict(connection.extra_dejson)
    except (ValueError, TypeError):
        raise errors.InvalidArgumentError("its extra is no JSON object", op=op, id=thing) from None


def _address(host: str, port: int | None) -> str:
    parts = [part.strip() for part in host.split(",") if part.strip()]
    return ",".join(part if _WITH_PORT.match(part) else f"{_bracketed(part)}:{port or DEFAULT_PORT}" for part in parts)


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _tls(extra: Mapping[str, Any], op: str, thing: str) -> engine.TLS | None:
    pem = {name: _pem(extra.get(name), name, op, thing) for name in ("ca", "cert", "key")}
    server_name = extra.get("server_name") or None
    if not (extra.get("tls") or server_name or any(pem.values())):
        return None
    return engine.TLS(**pem, server_name=server_name)


def _pem(text: Any, name: str, op: str, thing: str) -> bytes | None:
    """Return a PEM that stands in the connection, or in a file that it names."""
    if not text:
        return None
    if "-----BEGIN" in str(text):
        return str(text).encode()
    try:
        return Path(str(text)).read_bytes()
    except OSError as error:
        raise errors.InvalidArgumentError(f"{name}: {text}: {error.strerror or error}", op=op, id=thing) from None
