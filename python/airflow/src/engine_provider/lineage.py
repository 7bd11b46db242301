"""Lineage: what a job reads and writes, as Airflow's Assets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_GLOB = re.compile(r"[*?\[{]")
_TEMPLATE = re.compile(r"\{\{|\{%|\$\{")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def assets_of(job: Mapping[str, Any], base: str | os.PathLike[str] | None = None) -> tuple[list[Asset], list[Asset]]:
    """Return the inputs and outputs of a job that is a dict.

    Files and folders are file:// or s3:// URIs, of globs the folder above, tables postgres://host:port/database/schema/table. What is a
    template, or a relative path without a base, is left out, and so are objects, which do not outlive their cluster.

    Args:
        job: of the form of a job file.
        base: the folder to which relative paths are relative.

    """
    inputs = _unique(_uris(job.get("source"), base))
    sinks = [job.get("sink"), *(job.get("sinks") or {}).values()]
    outputs = _unique(uri for sink in sinks for uri in _uris(sink, base))
    return [Asset(uri=uri) for uri in inputs], [Asset(uri=uri) for uri in outputs]


def _uris(end: Any, base: str | os.PathLike[str] | None) -> Iterable[str]:
    """Return the URIs of a source or sink."""
    if not isinstance(end, dict):
        return
    for kind, fields in end.items():
        if not isinstance(fields, dict):
            continue
        if kind == "postgres":
            yield from _table(fields)
            continue
        paths = fields.get("paths", ())
        for path in [*([paths] if isinstance(paths, str) else paths), *([fields["path"]] if "path" in fields else [])]:
            uri = _uri(os.fspath(path), base) if isinstance(path, (str, os.PathLike)) else ""
            if uri:
                yield uri


def _uri(path: str, base: str | os.PathLike[str] | None) -> str:
    if not path.strip() or _TEMPLATE.search(path):
        return ""
    scheme, _, rest = path.partition("://") if _SCHEME.match(path) else ("file", "", path)
    glob = _GLOB.search(rest)
    if glob:
        rest = rest[: glob.start()].rpartition("/")[0]
    if scheme == "file":
        if not os.path.isabs(rest) and base is None:
            return ""
        rest = os.path.normpath(os.path.join(base or "/", rest))
    rest = rest.rstrip("/")
    return f"{scheme}://{quote(rest, safe='/:@._-=+~')}" if rest else ""


def _table(fields: Mapping[str, Any]) -> Iterable[str]:
    url, table = str(fields.get("url") or ""), str(fields.get("table") or "")
    match = re.match(r"postgres(?:ql)?://(?:[^@/]*@)?([^/?]+)/([^?]+)", url)
    if not match or not table or _TEMPLATE.search(url + table):
        return
    host, database = match[1], match[2]
    schema, _, name = table.rpartition(".")
    yield f"postgres://{host if ':' in host else host + ':5432'}/{quote(database)}/{quote(schema or 'public')}/{quote(name)}"


def _unique(uris: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(uris))
