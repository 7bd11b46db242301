"""The engine's own program, found on PATH or by ENGINE_BINARY: it runs jobs in a process of its own, and knows the imported models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from engine import errors

_OP = "run the engine's binary"


def find(path: str | os.PathLike[str] | None = None) -> str:
    """Return the program's path: the one given, else that of ENGINE_BINARY, else `engine` on PATH.

    Raises:
        NotFoundError: if there is none.

    """
    given = os.fspath(path) if path is not None else os.environ.get("ENGINE_BINARY", "")
    found = shutil.which(given or "engine")
    if found is None:
        raise errors.NotFoundError(
            "there is no such program" if given else "it is not on PATH",
            op=_OP,
            id=given or "engine",
            hint="put the program engine on PATH, or its path into ENGINE_BINARY",
        )
    return found


def model(name: str) -> str:
    """Return the folder or file of an imported model, or of one of a hub, which is fetched unless it is there.

    Raises:
        NotFoundError: if there is no such model.

    """
    program = find()
    if name.startswith("hf://"):
        imported = _json([program, "model", "import", name, "-o", "json"])
        return str(imported["path"])
    listed = _json([program, "model", "list", "-o", "json"])
    for one in listed:
        if one["name"] == name:
            return str(one["path"])
    names = ", ".join(one["name"] for one in listed[:10])
    hint = f"imported are {names}" if names else "`engine model import` gives a model a name"
    raise errors.NotFoundError(
        "there is no file or folder, and no imported model, of that name",
        op="find model",
        id=name,
        hint=f"{hint}; a path is relative to the job file",
    )


def _json(command: list[str]) -> Any:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise errors.InvalidArgumentError(_said(done.stderr) or f"exit code {done.returncode}", op=_OP, id=" ".join(command[1:4]))
    return json.loads(done.stdout)


def run(job: str, *, binary: str | os.PathLike[str] | None, arguments: list[str], progress: bool) -> dict[str, Any]:
    """Run a job file's text, and return what the program says of it in JSON.

    Raises:
        EngineError: of the kind and with the words of the program, if it refused the job. A job that failed is in the result.

    """
    command = [find(binary), "run", "-", "-o", "json", *arguments]
    if not progress:
        command.append("--quiet")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if progress else subprocess.PIPE, text=True
    ) as process:
        try:
            out, said = process.communicate(job)
        except BaseException:
            process.terminate()  # It stops the job.
            raise
    try:
        result = json.loads(out)
    except ValueError:
        text = _said(said or "") or f"it ended with exit code {process.returncode}"
        raise errors.InternalError(text, op=_OP, id="engine run") from None
    if not isinstance(result, dict):
        raise errors.InternalError(f"it printed {out[:100]!r}", op=_OP, id="engine run")
    if not result.get("state"):
        failure = result.get("error") or {}
        raise errors.make(
            failure.get("kind", ""),
            failure.get("message", "") or _said(said or ""),
            op=failure.get("operation", ""),
            id=failure.get("id", ""),
            hint=failure.get("hint", ""),
        )
    return result


def _said(stderr: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return "\n".join(lines[-10:]).removeprefix("Error: ").removeprefix("error: ")
