"""Secrets of jobs, from Airflow's connections and variables, and so from its secrets backends.

A job names them, ${secret:NAME}; a task says where they are. Only the process that submits reads them, and hands them to the head in the
submission's own field: they are in no rendered template, XCom, log, or history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Variable
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from airflow.sdk.log import mask_secret
from engine import errors, jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine import JobSpec

_OP = "read secret"
_FIELDS = ("password", "login", "host", "schema")


def resolve(spec: JobSpec, sources: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, bytes]:
    """Return the values of the secrets that a job names.

    Args:
        spec: the job.
        sources: where the value of ${secret:NAME} is, by name: "connection:ID.password" (or .login, .host, .schema, .extra.KEY), or
            "variable:KEY".
        defaults: values of those that are not in sources, by name: those of the engine's own connection.

    Raises:
        InvalidArgumentError: for a source that cannot be, a name that nothing is said of, and an empty value.
        NotFoundError: for a connection, field, or variable that is not there.

    """
    named = jobs.secret_names(spec)
    values = {
        name: _mask(read(name, sources[name]) if name in sources else defaults[name]) for name in named if name in {**sources, **defaults}
    }
    unused = sorted(set(sources) - set(named))
    if unused:
        known = f"it names {', '.join(named)}" if named else "it names none"
        raise errors.InvalidArgumentError(f"the job has no ${{secret:{unused[0]}}}: {known}", op=_OP, id=f"secrets.{unused[0]}")
    return jobs.secrets_of(spec, values)


def read(name: str, source: str) -> str:
    """Return the value at one source, see `resolve`."""
    kind, _, place = source.partition(":")
    thing = f"secrets.{name}"
    if kind == "variable" and place:
        value = _variable(place)
        if value is None:
            raise errors.NotFoundError(f"there is no Airflow variable {place!r}", op=_OP, id=thing)
    elif kind == "connection" and "." in place:
        value = _of_connection(place, thing)
    else:
        hint = "write connection:ID.password, connection:ID.extra.KEY, or variable:KEY"
        raise errors.InvalidArgumentError("it does not say where the value is", op=_OP, id=thing, hint=hint)
    if not value:
        raise errors.InvalidArgumentError(f"{kind} {place!r} is empty", op=_OP, id=thing)
    return value


def _variable(key: str) -> str | None:
    value: Any = Variable.get(key, default=None)
    return None if value is None else str(value)


def _of_connection(place: str, thing: str) -> str:
    for field in _FIELDS:
        if place.endswith(f".{field}"):
            conn_id, key = place.removesuffix(f".{field}"), ""
            break
    else:
        conn_id, dot, key = place.partition(".extra.")
        field = "extra"
        if not dot or not key:
            raise errors.InvalidArgumentError(
                f"{place!r} names no field of a connection: there are {', '.join(_FIELDS)}, and extra.KEY", op=_OP, id=thing
            )
    try:
        connection = BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError):
        raise errors.NotFoundError(f"there is no Airflow connection {conn_id!r}", op=_OP, id=thing) from None
    value: Any = connection.extra_dejson.get(key) if field == "extra" else getattr(connection, field)
    if value is None or (field == "extra" and not isinstance(value, str)):
        raise errors.NotFoundError(f"Airflow connection {conn_id!r} has no text {field + ('.' + key if key else '')}", op=_OP, id=thing)
    return str(value)


def _mask(value: str) -> str:
    """Keep a value out of the task's log, whatever writes it there."""
    mask_secret(value)
    return value
