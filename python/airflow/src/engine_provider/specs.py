"""Jobs as tasks give them: dicts, paths of job files, and pipelines, rendered and made into what is submitted."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import JobSpec, Pipeline, errors, jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_LABEL_BYTES = 256
"""How many bytes of a label's value are kept; ids of Airflow may be longer."""

_OP = "render job"


def plain(job: Any) -> Any:
    """Return a job as what templates can be rendered in: a pipeline as its dict, everything else as it is."""
    return job.to_dict() if isinstance(job, Pipeline) else job


def check_rendered(template: Any, rendered: Any, place: str = "job") -> None:
    """Refuse a text that a template has rendered to nothing, anywhere in a value.

    Args:
        template: the value before it was rendered.
        rendered: the value after.
        place: its name.

    Raises:
        InvalidArgumentError: with the place and the template.

    """
    if isinstance(template, str):
        if "{" in template and template.strip() and (rendered is None or (isinstance(rendered, str) and not rendered.strip())):
            raise errors.InvalidArgumentError(f"the template {template!r} renders to nothing", op=_OP, id=place)
    elif isinstance(template, Mapping) and isinstance(rendered, Mapping):
        for key in template:
            check_rendered(template[key], rendered.get(key), f"{place}.{key}")
    elif isinstance(template, Sequence) and isinstance(rendered, Sequence) and len(template) == len(rendered):
        for i, (before, after) in enumerate(zip(template, rendered, strict=True)):
            check_rendered(before, after, f"{place}.{i}")


def load(job: Any, base: str | os.PathLike[str], folders: Iterable[str], render: Callable[[str], str]) -> JobSpec:
    """Make the JobSpec of a job.

    Args:
        job: a dict, a pipeline, a JobSpec, or the path of a job file, whose text is rendered.
        base: the folder to which relative paths in a dict or pipeline are relative; those in a file are relative to its folder.
        folders: where a job file is looked for whose path is relative, in order.
        render: renders a text.

    Raises:
        InvalidArgumentError: for what no job can have.
        NotFoundError: for a job file that is not there, and the name of a model that is not imported.

    """
    if isinstance(job, JobSpec):
        return copy.deepcopy(job)
    if isinstance(job, Pipeline):
        return job.to_spec(base)
    if isinstance(job, Mapping):
        if not job:
            raise errors.InvalidArgumentError("it is empty", op=_OP, id="job")
        return Pipeline(job).to_spec(base)
    if isinstance(job, (str, os.PathLike)):
        path = find(os.fspath(job), folders)
        text = render(path.read_text(encoding="utf-8"))
        if not text.strip():
            raise errors.InvalidArgumentError("the file renders to nothing", op=_OP, id=str(path))
        return jobs.parse(text, name=str(path), base=path.parent)
    hint = "give a dict, the path of a job file, or a pipeline"
    raise errors.InvalidArgumentError(f"a {type(job).__name__} is no job", op=_OP, id="job", hint=hint)


def find(path: str, folders: Iterable[str]) -> Path:
    """Return the job file of a path, which is looked for in folders if it is relative.

    Raises:
        InvalidArgumentError: for an empty path.
        NotFoundError: if there is no such file; it says where it was looked for.

    """
    if not path.strip():
        raise errors.InvalidArgumentError("the path of the job file is empty", op=_OP, id="job")
    tried = [Path(path)] if os.path.isabs(path) else [Path(folder) / path for folder in dict.fromkeys(folders)]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    where = ", ".join(str(candidate.parent) for candidate in tried)
    raise errors.NotFoundError(f"there is no such job file in {where}", op=_OP, id=path)


def complete(
    spec: JobSpec,
    *,
    name: str,
    labels: Mapping[str, str],
    orphan_ttl: str | None,
    cpu: float | None = None,
    gpu: float | None = None,
    memory: str | None = None,
) -> None:
    """Add to a job what Airflow knows. What the job says itself stays, but for resources that are given here.

    Args:
        spec: the job, which is changed.
        name: its name, if it has none of its own.
        labels: by which people find it.
        orphan_ttl: how long it goes on while nobody follows it; None or empty means without limit.
        cpu: cores of one task.
        gpu: devices of one task.
        memory: memory of one task, a size.

    """
    spec.name = spec.name or name[:200]
    for key, value in labels.items():
        if key not in spec.labels:
            spec.labels[key] = value.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")
    if orphan_ttl and not spec.orphan_ttl:
        spec.orphan_ttl = orphan_ttl
    if cpu is not None:
        spec.resources.cpu = cpu
    if gpu is not None:
        spec.resources.gpu = gpu
    if memory:
        spec.resources.memory = memory
