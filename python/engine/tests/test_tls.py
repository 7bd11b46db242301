"""How the client is told to encrypt its connections, and a cluster that has TLS."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from conftest import start
from pyarrow import flight

import engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("ENGINE_TLS_CA", "ENGINE_TLS_CERT", "ENGINE_TLS_KEY")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_said() -> None:
    assert engine.TLS.from_environment() is None


def test_authority_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"ca")
    monkeypatch.setenv("ENGINE_TLS_CA", str(tmp_path / "ca.pem"))
    assert engine.TLS.from_environment() == engine.TLS(ca=b"ca", server_name="head.engine.internal")


def test_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
        monkeypatch.setenv(name, str(tmp_path / name))
    found = engine.TLS.from_environment()
    assert found == engine.TLS(ca=b"ENGINE_TLS_CA", cert=b"ENGINE_TLS_CERT", key=b"ENGINE_TLS_KEY", server_name="head.engine.internal")


def test_what_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"ca")
    monkeypatch.setenv("ENGINE_TLS_CA", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("ENGINE_TLS_CERT", str(tmp_path / "ca.pem"))
    with pytest.raises(engine.InvalidArgumentError, match="go together"):
        engine.TLS.from_environment()
    monkeypatch.setenv("ENGINE_TLS_KEY", str(tmp_path / "none"))
    with pytest.raises(engine.InvalidArgumentError, match="none"):
        engine.TLS.from_environment()


def test_halves_of_a_certificate() -> None:
    with pytest.raises(engine.InvalidArgumentError, match="go together"):
        engine.Client("127.0.0.1:1", tls=engine.TLS(ca=b"ca", cert=b"cert"))


@dataclass
class Secure:
    """A cluster with an authority of its own, and a token that may submit."""

    address: str
    ca: bytes
    token: str


@pytest.fixture(scope="module")
def secure(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    (folder / "data").mkdir(mode=0o700)
    head = start(binary, folder, more=("--secure", "--require-token"))
    admin = {**os.environ, "ENGINE_TLS": str(folder / "data" / "tls")}
    make = [binary, "token", "create", "python", "--role", "submit", "--address", head.address, "--file", str(folder / "token")]
    subprocess.run(make, check=True, capture_output=True, env=admin)
    yield Secure(head.address, (folder / "data" / "tls" / "ca.pem").read_bytes(), (folder / "token").read_text().strip())
    head.stop()


@pytest.mark.parametrize("host", [None, "elsewhere"], ids=["near", "far"])
def test_jobs_tables_and_tasks_over_tls(secure: Secure, numbers: Path, tmp_path: Path, host: str | None) -> None:
    """A client on another machine hands its tables over by Flight, which has TLS and wants the token too."""
    table = pa.table({"x": np.arange(600_000)})
    with engine.Client(secure.address, tls=engine.TLS(ca=secure.ca), token=secure.token) as client:
        if host:
            client._client._objects._host = host
        result = client.submit(engine.read_csv(numbers).write_parquet(tmp_path / "out")).result(timeout=60)
        assert result.rows_written == 1000
        ref = client.put(table)
        assert client.get(ref).equals(table)
        assert bool(client._client._objects._found.stores) is not bool(host)
        assert client.run_task("echo", table).result().equals(table)


def test_locations_are_to_be_followed_by_tls(secure: Secure) -> None:
    """Any client of Arrow Flight that goes where the flight info says gets there."""
    table = pa.table({"x": np.arange(10)})
    bearer = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {secure.token}".encode())], timeout=60)
    with engine.Client(secure.address, tls=engine.TLS(ca=secure.ca), token=secure.token) as client:
        ref = client.put(table)
        first = client._run(client._client._objects._list())[0]
        with flight.FlightClient(f"grpc+tls://{first.flight}", tls_root_certs=secure.ca) as known:
            info = known.get_flight_info(flight.FlightDescriptor.for_path(ref.id.hex()), bearer)
        (end,) = info.endpoints
        assert end.locations == [flight.Location(f"grpc+tls://{first.flight}")]
        with flight.FlightClient(end.locations[0], tls_root_certs=secure.ca) as followed:
            assert followed.do_get(end.ticket, bearer).read_all().equals(table)


def test_wrong_tls_is_named(secure: Secure) -> None:
    cases = [
        (None, "does the head want TLS"),
        (engine.TLS(ca=b"no certificate"), "no PEM that can be read"),
        (engine.TLS(ca=secure.ca, server_name="other.example"), "not for other.example"),
        (engine.TLS(), "does not trust the authority"),
    ]
    for tls, said in cases:
        with engine.Client(secure.address, tls=tls) as wrong, pytest.raises(engine.UnavailableError, match=said) as raised:
            wrong.jobs()
        assert raised.value.id == secure.address
    with engine.Client(secure.address, tls=engine.TLS(ca=secure.ca)) as nobody, pytest.raises(engine.UnauthenticatedError, match="token"):
        nobody.jobs()
