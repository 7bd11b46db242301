"""How the client is told to encrypt its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import engine

if TYPE_CHECKING:
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
