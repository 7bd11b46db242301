"""Secrets: which fields of a job name them, and where their values come from.

A credential field of a job holds a reference, ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}, and never the secret itself.
The values go to the head in a field of their own beside the job.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from engine import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.descriptor import FieldDescriptor

_OP = "read secret"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ENV = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
_MAX_BYTES = 64 << 10
PREFIX = "${secret:"


def is_credential(fd: FieldDescriptor) -> bool:
    """Tell whether a field of a job may name a secret."""
    return bool(fd.GetOptions().debug_redact)


def takes_text(fd: FieldDescriptor) -> bool:
    """Tell whether a credential field may also hold a text that is no secret."""
    return fd.name == "access_key_id"


def reference(text: str) -> str | None:
    """Return what a text refers to if it is one reference to a secret, without ${secret: and }."""
    if not text.startswith(PREFIX) or not text.endswith("}"):
        return None
    name = text[len(PREFIX) : -1]
    is_file = name.startswith("file:") and len(name) > len("file:") and not set("}\0") & set(name)
    return name if is_file or _NAME.fullmatch(name) or _ENV.fullmatch(name) else None


def credentials(message: Message, path: str = "") -> Iterator[tuple[str, FieldDescriptor, str]]:
    """Yield the credential fields of a job that are set, each with its path and text."""
    for fd, value in message.ListFields():
        where = f"{path}.{fd.name}" if path else fd.name
        if fd.message_type is None:
            if is_credential(fd):
                yield where, fd, value
        elif fd.message_type.GetOptions().map_entry:
            for key in value:
                if isinstance(value[key], Message):
                    yield from credentials(value[key], f"{where}.{key}")
        elif isinstance(value, Message):
            yield from credentials(value, where)
        else:
            for i, one in enumerate(value):
                yield from credentials(one, f"{where}.{i}")


def encoded(given: Mapping[str, str | bytes] | None) -> dict[str, bytes]:
    """Return secrets as they are sent."""
    return {name: value.encode() if isinstance(value, str) else bytes(value) for name, value in (given or {}).items()}


def collect(spec: Message, given: Mapping[str, str | bytes] | None, *, local: bool) -> dict[str, bytes]:
    """Return the values of what a job refers to: those given, and of variables and files of this process if `local`.

    A variable that is not set and a file that is not there are left to the head and the workers.
    """
    known = encoded(given)
    values = {}
    for path, _, text in credentials(spec):
        name = reference(text)
        if name is None:
            continue  # The head says what is wrong.
        value = known.get(name)
        if value is None and local:
            value = _look_up(path, name)
        if value is not None:
            values[name] = value
        elif ":" not in name:
            near = difflib.get_close_matches(name, known, n=1)
            said = f' (did you mean "{near[0]}"?)' if near else f" (given: {', '.join(sorted(known))})" if known else ""
            hint = "give its value in secrets={...}"
            raise errors.InvalidArgumentError(f'the secret "{name}" is not given{said}', op="submit job", id=path, hint=hint)
    return values


def _look_up(path: str, name: str) -> bytes | None:
    kind, _, rest = name.partition(":")
    if kind == "env" and rest in os.environ:
        return os.environb[os.fsencode(rest)]
    if kind != "file":
        return None
    try:
        descriptor = os.open(rest, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise errors.PermissionError(error.strerror or str(error), op=_OP, id=rest) from None
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise errors.InvalidArgumentError("it is no file", op=_OP, id=rest)
        if info.st_mode & 0o027:
            text = f"its mode {stat.S_IMODE(info.st_mode):04o} lets others read or change it"
            raise errors.PermissionError(text, op=_OP, id=rest, hint=f"chmod 600 {rest}")
        value = file.read(_MAX_BYTES + 1)
    if len(value) > _MAX_BYTES:
        raise errors.InvalidArgumentError(f"{path}: a secret has at most {_MAX_BYTES} bytes", op=_OP, id=rest)
    return value.removesuffix(b"\n").removesuffix(b"\r")
