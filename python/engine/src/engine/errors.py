"""The errors of the engine: one class for each kind of failure.

Every call of this package raises an `EngineError` of the class of its kind, and of no other type, but for misuse of Python itself
(`TypeError`, `ValueError`). `str(error)` is one line: operation, thing, cause, and the hint in parentheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from engine._proto.engine.v1 import error_pb2

__all__ = [
    "CanceledError",
    "ConflictError",
    "CorruptError",
    "DataError",
    "DeadlineError",
    "EngineError",
    "ExhaustedError",
    "FencedError",
    "InternalError",
    "InvalidArgumentError",
    "ModelError",
    "NotFoundError",
    "PermissionError",
    "StoppedError",
    "UnauthenticatedError",
    "UnavailableError",
    "VersionError",
]


class EngineError(Exception):
    """A failure as the engine describes it. Catch one of its subclasses, or look at `kind`.

    Attributes:
        kind: the kind's name on the wire and in JSON, such as "invalid_argument"; constant of each class.
        message: the cause in words.
        op: the operation that failed, such as "read csv"; may be empty.
        id: the thing concerned: a file with its line, a job, a column; may be empty.
        hint: what you can do about it, one sentence; may be empty.
        retryable: whether the same work may succeed elsewhere or later. A user's fault never does.

    """

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, op: str = "", id: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.op = op
        self.id = id
        self.hint = hint

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.op, self.id, self.message or self.kind) if part)
        return f"{text} ({self.hint})" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # By name of the kind, so that an error travels between processes as a whole.
        return _restore, (self.kind, self.message, self.op, self.id, self.hint)


class InternalError(EngineError):
    """A broken invariant of the engine, or an error that nobody classified."""


class InvalidArgumentError(EngineError):
    """A request that can never work as written: a bad job, a bad option."""

    kind, retryable = "invalid_argument", False


class NotFoundError(EngineError):
    """A named thing that does not exist: a job, a file, a model, a column, an object that has expired."""

    kind, retryable = "not_found", False


class ConflictError(EngineError):
    """A request that contradicts what exists: an output folder with data, a submission id with another job."""

    kind, retryable = "conflict", False


class PermissionError(EngineError):  # noqa: A001 - named like its kind; it is engine.PermissionError
    """An action that the caller may not do."""

    kind, retryable = "permission", False


class UnauthenticatedError(EngineError):
    """A caller that did not prove who it is: a wrong token or certificate."""

    kind, retryable = "unauthenticated", False


class ExhaustedError(EngineError):
    """A limit that was reached: queue length, quota, memory, a full disk."""

    kind, retryable = "exhausted", True


class UnavailableError(EngineError):
    """A peer or device that cannot be reached or went away; the same request may work later."""

    kind, retryable = "unavailable", True


class DeadlineError(EngineError, TimeoutError):
    """Work that did not finish in its time."""

    kind, retryable = "deadline", True


class CanceledError(EngineError):
    """Work that its owner gave up, or a client that was closed."""

    kind, retryable = "canceled", False


class DataError(EngineError):
    """Input data that does not fit: a broken row, a value of the wrong type, a schema that lacks a column."""

    kind, retryable = "data", False


class CorruptError(EngineError):
    """A file or object whose bytes are damaged: truncated, wrong checksum."""

    kind, retryable = "corrupt", False


class ModelError(EngineError):
    """A model that cannot be used: not ONNX, an unknown operator, inputs that it cannot be fed."""

    kind, retryable = "model", False


class VersionError(EngineError):
    """A peer or file of another version than this program understands."""

    kind, retryable = "version", False


class FencedError(EngineError):
    """A report or publication under a lease that has ended; a session that the head has given up."""

    kind, retryable = "fenced", True


class StoppedError(EngineError):
    """A job that a user stopped."""

    kind, retryable = "stopped", False


_CLASSES: dict[str, type[EngineError]] = {
    cls.kind: cls
    for cls in (
        InternalError,
        InvalidArgumentError,
        NotFoundError,
        ConflictError,
        PermissionError,
        UnauthenticatedError,
        ExhaustedError,
        UnavailableError,
        DeadlineError,
        CanceledError,
        DataError,
        CorruptError,
        ModelError,
        VersionError,
        FencedError,
        StoppedError,
    )
}


def make(kind: str, message: str, *, op: str = "", id: str = "", hint: str = "") -> EngineError:
    """Make the error of a kind. An unknown kind, which a newer peer may send, is an `InternalError`."""
    return _CLASSES.get(kind, InternalError)(message, op=op, id=id, hint=hint)


def from_proto(wire: error_pb2.Error) -> EngineError:
    """Make the error that a message carries."""
    return make(wire.kind, wire.message, op=wire.operation, id=wire.id, hint=wire.hint)


def _restore(kind: str, message: str, op: str, id: str, hint: str) -> EngineError:
    return make(kind, message, op=op, id=id, hint=hint)
