"""Failures: which of the engine's errors fail a task for good, and which are worth a retry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from engine import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["describe", "failure", "from_dict", "to_dict", "translated"]


def describe(error: errors.EngineError) -> str:
    """Return an error in one line: operation, thing, cause, hint, and the kind in brackets."""
    return f"{' '.join(str(error).split())} [{error.kind}]"


def failure(error: errors.EngineError, context: str = "") -> AirflowException:
    """Return the exception by which a task fails: without a retry if the fault is the user's, with one if it is the infrastructure's.

    Args:
        error: the engine's.
        context: stands before it, such as which job it was.

    """
    text = f"{context}: {describe(error)}" if context else describe(error)
    return AirflowException(text) if error.retryable else AirflowFailException(text)


@contextmanager
def translated(context: str = "") -> Iterator[None]:
    """Turn the engine's errors into those by which a task fails. `context` stands before them."""
    try:
        yield
    except errors.EngineError as error:
        raise failure(error, context) from None


def to_dict(error: errors.EngineError | None) -> dict[str, str] | None:
    """Return an error as what JSON can hold."""
    if error is None:
        return None
    return {"kind": error.kind, "message": error.message, "op": error.op, "id": error.id, "hint": error.hint}


def from_dict(error: Mapping[str, Any] | None) -> errors.EngineError | None:
    """Return the error that `to_dict` has made."""
    if not error:
        return None
    return errors.make(error["kind"], error["message"], op=error.get("op", ""), id=error.get("id", ""), hint=error.get("hint", ""))
