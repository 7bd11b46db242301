"""Checkpoints of tables, read, listed, and deleted where they are, without a cluster.

A checkpoint is a file <id of the object>.arrows: an Arrow IPC stream, and 64 bytes that name the object and have its checksum. Credentials
and endpoint of s3:// are those of the process: AWS's environment variables, profile, or the machine's role.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import engine
import google_crc32c
import pyarrow as pa
from pyarrow import fs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["Checkpoint", "delete", "list_folder", "object_id", "read", "remove_empty_folders"]

_FILE = re.compile(r"(?P<id>[0-9a-f]{32})\.arrows")
_TRAILER = struct.Struct("<8sII16sqqqII")


@dataclass(frozen=True)
class Checkpoint:
    """A file of a table.

    Attributes:
        uri: its address.
        modified: when it was written, in UTC; None if the storage does not say.

    """

    uri: str
    modified: datetime | None


def _open(op: str, uri: str) -> tuple[fs.FileSystem, str]:
    try:
        if uri.startswith("/"):
            return fs.LocalFileSystem(), uri
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise engine.InvalidArgumentError(str(error), op=op, id=uri) from None
    return filesystem, path


def _failed(op: str, uri: str, error: Exception) -> engine.EngineError:
    if isinstance(error, FileNotFoundError):
        return engine.NotFoundError("the file does not exist", op=op, id=uri)
    if isinstance(error, PermissionError):
        return engine.PermissionError(str(error), op=op, id=uri)
    return engine.UnavailableError(str(error).splitlines()[0], op=op, id=uri)


def read(uri: str) -> pa.Table:
    """Read a checkpoint.

    Raises:
        NotFoundError: if there is none.
        InvalidArgumentError: if the address is not that of a checkpoint.
        CorruptError: if it is no checkpoint, or damaged.
        UnavailableError: if the storage cannot be reached.

    """
    op = "read checkpoint"
    filesystem, path = _open(op, uri)
    try:
        with filesystem.open_input_file(path) as file:
            data = file.read_buffer()
    except OSError as error:
        raise _failed(op, uri, error) from None
    try:
        table = _decode(data, bytes.fromhex(object_id(uri)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise engine.CorruptError(str(error).splitlines()[0], op=op, id=uri) from None
    return table


def _decode(data: pa.Buffer, of: bytes) -> pa.Table:
    """Return the table of a checkpoint's bytes, over which it lies. The format is that of objectstore/spill/format.go.

    Raises:
        ValueError: for what is damaged, or one of Arrow's errors.

    """
    body, trailer = data[: max(data.size - _TRAILER.size, 0)], data[max(data.size - _TRAILER.size, 0) :]
    if trailer.size < _TRAILER.size:
        raise ValueError(f"it has {data.size} bytes, fewer than the end of a checkpoint")
    magic, version, _, found, size, rows, _, checksum, own_checksum = _TRAILER.unpack(trailer)
    if magic != b"ENGARROW":
        raise ValueError(f"its {data.size} bytes do not end as those of a checkpoint do")
    if own_checksum != google_crc32c.value(trailer[:-4]):
        raise ValueError("the checksum of its trailer is wrong")
    if version != 1:
        raise ValueError(f"it is of version {version}, this provider reads 1")
    if found != of:
        raise ValueError(f"it is of object {found.hex()}")
    if size != body.size:
        raise ValueError(f"it has {data.size} bytes, its trailer says {size + _TRAILER.size}")
    if checksum != google_crc32c.value(body):
        raise ValueError(f"the checksum of its {size} bytes is wrong")
    with pa.ipc.open_stream(body) as reader:
        table = reader.read_all()
    if table.num_rows != rows:
        raise ValueError(f"it has {table.num_rows} rows, its trailer says {rows}")
    # A checksum finds what was damaged, not what was made with bad intent.
    table.validate(full=True)
    return table


def object_id(uri: str) -> str:
    """Return the id of the object that a checkpoint is of, 32 hexadecimal digits.

    Raises:
        InvalidArgumentError: if the address is not that of a checkpoint.

    """
    match = _FILE.fullmatch(uri.rpartition("/")[2])
    if match is None:
        raise engine.InvalidArgumentError("this is not the address of a checkpoint", op="read address", id=uri)
    return match["id"]


def delete(uri: str) -> None:
    """Delete a checkpoint. One that does not exist is deleted.

    Raises:
        InvalidArgumentError: if the address is not that of a checkpoint.
        EngineError: if it cannot be deleted.

    """
    op = "delete checkpoint"
    object_id(uri)
    filesystem, path = _open(op, uri)
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        # Not all of S3's servers, nor pyarrow for all of them, tell a key that is not there apart.
        try:
            if filesystem.get_file_info(path).type == fs.FileType.NotFound:
                return
        except OSError:
            pass
        raise _failed(op, uri, error) from None


def list_folder(folder: str) -> list[Checkpoint]:
    """Return the checkpoints in a folder and those below it; other files are passed over. A folder that does not exist has none.

    Raises:
        EngineError: if it cannot be listed.

    """
    op = "list checkpoints"
    filesystem, path = _open(op, folder)
    try:
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise _failed(op, folder, error) from None
    scheme = "s3://" if filesystem.type_name == "s3" else "file://"
    checkpoints = []
    for info in found:
        if _FILE.fullmatch(info.base_name) and info.type == fs.FileType.File:
            path = info.path if scheme == "s3://" else quote(info.path)
            checkpoints.append(Checkpoint(scheme + path, info.mtime))
    return checkpoints


def remove_empty_folders(folder: str, files: Iterable[str] = ()) -> None:
    """Remove the folders that held files which were deleted, up to and without a folder, where they are empty. On s3:// there are none."""
    filesystem, root = _open("remove folders", folder)
    if filesystem.type_name != "local":
        return
    for uri in files:
        _, path = _open("remove folders", uri)
        parent = os.path.dirname(path)
        while parent.startswith(root + "/"):
            with contextlib.suppress(OSError):
                os.rmdir(parent)
            if os.path.isdir(parent):
                break
            parent = os.path.dirname(parent)
