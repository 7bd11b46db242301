"""Jobs as lines of Python: `engine.read_csv(...).infer(...).write_parquet(...)`.

A `Pipeline` is a value: each method returns a new one, and none does anything before `run` or `submit`. It is the same job as a job file
says it: `to_yaml` gives the file. Arguments that are left out are left out of the job, so the engine's defaults hold. Sizes are texts such
as "64MiB" or numbers of bytes, durations texts such as "5m". Relative paths are relative to the working directory when the job is
submitted or run, or to the folder of the file into which `to_yaml` was written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from engine import _binary, _jobfile, errors, jobs

if TYPE_CHECKING:
    from engine._proto.engine.v1 import job_pb2
    from engine.client import Client, Job
    from engine.refs import ObjectRef

__all__ = [
    "Pipeline",
    "read_arrow",
    "read_csv",
    "read_json",
    "read_objects",
    "read_parquet",
    "read_postgres",
]

Path: TypeAlias = "str | os.PathLike[str]"
"""A file, folder, or glob, or s3://bucket/key."""
Columns: TypeAlias = "Mapping[str, str] | Sequence[str]"
"""Columns with their types by name, or names alone where types are inferred."""
Categories: TypeAlias = "str | Sequence[str] | Mapping[str, Sequence[str] | None]"
"""One column, several, or columns with their categories (None: those of the data)."""


def read_csv(
    *paths: Path,
    delimiter: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    nulls: Sequence[str] | None = None,
    columns: Columns | None = None,
    union: bool | None = None,
) -> Pipeline:
    """Read delimited text in UTF-8.

    Args:
        *paths: files, folders, and globs, in the order in which their rows are read; .gz and .zst are unpacked.
        delimiter: one ASCII character. Default: a comma.
        header: whether the first line names the columns. Default: True.
        quote: one ASCII character around fields. Default: the double quote; an empty text turns quoting off.
        nulls: unquoted texts that mean null. Default: the empty field.
        columns: types by name: bool, int32, int64, float32, float64, string, date, timestamp. Others are inferred.
        union: let files have different columns.

    """
    source = {"delimiter": delimiter, "header": header, "quote": quote, "nulls": nulls, "columns": _columns(columns), "union": union}
    return _read("csv", {"paths": _paths(paths), **source})


def read_parquet(*paths: Path, union: bool | None = None) -> Pipeline:
    """Read Parquet files, folders, and globs. `union` lets files have different columns."""
    return _read("parquet", {"paths": _paths(paths), "union": union})


def read_json(*paths: Path, columns: Columns | None = None, unknown_keys: str | None = None) -> Pipeline:
    """Read files of JSON lines.

    Args:
        *paths: files, folders, and globs; .gz and .zst are unpacked.
        columns: types by name; others are inferred.
        unknown_keys: "error" (default) refuses a key that is no column, "ignore" passes over it.

    """
    return _read("json", {"paths": _paths(paths), "columns": _columns(columns), "unknown_keys": unknown_keys})


def read_arrow(*paths: Path, union: bool | None = None) -> Pipeline:
    """Read Arrow IPC files and streams. `union` lets files have different columns."""
    return _read("arrow", {"paths": _paths(paths), "union": union})


def read_objects(*refs: ObjectRef | str) -> Pipeline:
    """Read tables of the object store: references, names of pins, or URIs of checkpoints. The job keeps the objects alive."""
    return _read("object", {"refs": [str(ref) for ref in refs]})


def read_postgres(
    url: str,
    *,
    query: str | None = None,
    table: str | None = None,
    columns: Columns | None = None,
    partition_column: str | None = None,
    splits: int | None = None,
    lower: str | float | None = None,
    upper: str | float | None = None,
    timeout: str | None = None,
    password: str | None = None,
) -> Pipeline:
    """Read a table or one SELECT of Postgres.

    Args:
        url: postgres://user@host:port/database with the options of libpq; a password has no place in it.
        query: one SELECT. Either this or `table` is required.
        table: schema.table.
        columns: types into which the server casts, by name.
        partition_column: an integer, date, or timestamp by whose ranges the rows are cut into splits.
        splits: how many ranges there are at most, 1 to 10,000; required with it.
        lower: its value at which the ranges begin; default: the smallest.
        upper: and where they end; default: the greatest.
        timeout: how long the server may give no sign of life, a duration. Default: 10m.
        password: a secret, such as ${secret:NAME}. Default: what head and workers find in their surroundings.

    """
    return _read(
        "postgres",
        {
            "url": url,
            "query": query,
            "table": table,
            "columns": _columns(columns),
            "partition_column": partition_column,
            "splits": splits,
            "lower": None if lower is None else str(lower),
            "upper": None if upper is None else str(upper),
            "timeout": timeout,
            "password": password,
        },
    )


class Pipeline:
    """A job that is being written down. Begin with one of the read functions; a job can be run once it has a sink."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        """Go on from a job as a dict, such as that of a job file."""
        self._job: dict[str, Any] = copy.deepcopy(dict(job))

    def __repr__(self) -> str:
        steps = [next(iter(step)) for step in self._job.get("steps", ())]
        return f"Pipeline({' -> '.join([*self._job.get('source', {}), *steps, *self._job.get('sink', {}), *self._job.get('sinks', {})])})"

    def __eq__(self, other: object) -> bool:
        return self._job == other._job if isinstance(other, Pipeline) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    # Steps

    def infer(
        self,
        model: Path,
        *,
        output: str | None = None,
        outputs: Mapping[str, str] | None = None,
        inputs: Sequence[str] | None = None,
        batch_rows: int | None = None,
    ) -> Pipeline:
        """Evaluate an ONNX model, and append its outputs as columns.

        Args:
            model: an .onnx file, an MLflow model folder, or the name of an imported model.
            output: the new column's name, for a model with one output.
            outputs: new columns by the model's outputs, for one with several.
            inputs: the columns that it is fed, in its own order. Default: as its signature says, else all numeric columns.
            batch_rows: how many rows it is called with at a time. Default: a record batch.

        """
        batch = None if batch_rows is None else {"rows": batch_rows}
        return self._step("infer", {"model": os.fspath(model), "output": output, "outputs": outputs, "inputs": inputs, "batch": batch})

    def embed(
        self,
        model: Path,
        text: str | Sequence[str],
        *,
        output: str | None = None,
        normalize: str | bool | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        batch_tokens: str | int | None = None,
        batch_rows: int | None = None,
        nan: str | None = None,
    ) -> Pipeline:
        """Embed texts, and append their vectors as a column of fixed_size_list<float32>[the model's length].

        Args:
            model: a folder of sentence-transformers or transformers, the name of an imported model, or hf://ORG/NAME[@REVISION].
            text: the column of text, or several, which are joined by a space.
            output: the new column's name. Default: "embedding".
            normalize: whether vectors are scaled to unit length. Default: "auto", as the model's own configuration says.
            max_tokens: how many tokens of a text count. Default: the model's own limit.
            prompt: what is put before each text: the name of one of the model's prompts, or the text itself; "none" leaves it out.
            batch_tokens: tokens of one call with padding, or "auto" (default).
            batch_rows: texts of one call at most.
            nan: "fail" (default) or "allow".

        """
        if isinstance(normalize, bool):
            normalize = "true" if normalize else "false"
        batch = _given({"tokens": batch_tokens if batch_tokens is None else str(batch_tokens), "rows": batch_rows})
        step = {"model": os.fspath(model), "text": _names(text), "output": output, "normalize": normalize}
        return self._step("embed", {**step, "max_tokens": max_tokens, "prompt": prompt, "batch": batch or None, "nan": nan})

    def select(self, *columns: str) -> Pipeline:
        """Keep these columns, in this order."""
        return self._step("select", {"columns": list(columns)})

    def rename(self, columns: Mapping[str, str]) -> Pipeline:
        """Give columns other names: new ones by old ones."""
        return self._step("rename", {"columns": dict(columns)})

    def cast(self, columns: Mapping[str, str]) -> Pipeline:
        """Give columns other types, by name; a value that the new type cannot hold exactly is an error."""
        return self._step("cast", {"columns": dict(columns)})

    def filter(self, where: str) -> Pipeline:
        """Keep the rows for which a condition is true, such as "alcohol > 9 and ph is not null"."""
        return self._step("filter", {"where": where})

    def with_columns(self, columns: Mapping[str, str]) -> Pipeline:
        """Calculate columns: expressions by name. All see the table as it is before the step."""
        return self._step("with", {"columns": dict(columns)})

    def one_hot(self, columns: Categories, *, unknown: str | None = None, order: str | None = None, fitted: Path | None = None) -> Pipeline:
        """Make a column of zeros and ones of each category of columns.

        Args:
            columns: one column, several, or columns with their categories.
            unknown: what becomes of other values: "error" (default) or "ignore".
            order: of categories that are found in the data: "value" (default) or "frequency".
            fitted: what an earlier job has found: its output folder, or a file _engine/fitted-*.json.

        """
        return self._step("one_hot", {"columns": _categories(columns, unknown, order), "fitted": _path(fitted)})

    def index(self, columns: Categories, *, unknown: str | None = None, order: str | None = None, fitted: Path | None = None) -> Pipeline:
        """Replace the categories of columns by their places in the list of categories, from 0. Arguments as in `one_hot`."""
        return self._step("index", {"columns": _categories(columns, unknown, order), "fitted": _path(fitted)})

    def scale(
        self,
        columns: str | Sequence[str] | Mapping[str, Mapping[str, float] | None],
        *,
        method: str | None = None,
        fitted: Path | None = None,
    ) -> Pipeline:
        """Shift and stretch columns of numbers.

        Args:
            columns: one column, several, or columns with their mean and std, or min and max (None: those of the data).
            method: what is found in the data: "standard" (default), mean and std; or "min_max".
            fitted: as in `one_hot`.

        """
        if isinstance(columns, Mapping):
            scaled = [_given({"name": name, **(numbers or {}), "method": method}) for name, numbers in columns.items()]
        else:
            scaled = [_given({"name": name, "method": method}) for name in _names(columns)]
        return self._step("scale", {"columns": scaled, "fitted": _path(fitted)})

    def map(self, operator: str, params: Mapping[str, Any] | None = None) -> Pipeline:
        """Apply an operator that the cluster's program has registered, with parameters as its documentation says."""
        return self._step("map", {"operator": operator, "params": params})

    def split(self, parts: Mapping[str, float], *, by: str | Sequence[str] | None = None, seed: int | None = None) -> Pipeline:
        """Divide the rows among several sinks by a hash: the last step. Write each part with `to=` its name.

        Args:
            parts: the share of each part, by its name.
            by: the columns whose values are hashed. Default: all.
            seed: another one makes another division.

        """
        return self._step("split", {"parts": dict(parts), "by": None if by is None else _names(by), "seed": seed})

    # Sinks. `to` is the part of a split that is written; None means all rows.

    def write_parquet(
        self,
        path: Path,
        *,
        mode: str | None = None,
        compression: str | None = None,
        files: int | None = None,
        file_size: str | None = None,
        partition_by: str | Sequence[str] | None = None,
        to: str | None = None,
    ) -> Pipeline:
        """Write a folder of Parquet files.

        Args:
            path: the folder, or s3://bucket/prefix.
            mode: if it holds data: "error" (default), "overwrite", or "append".
            compression: snappy (default), zstd, gzip, lz4, brotli, or none.
            files: how many files, at most one for each split of the input (default).
            file_size: how large a file is to be instead, such as "256MB".
            partition_by: columns whose values become folders.
            to: the part of a `split` that is written.

        """
        sink = {"path": os.fspath(path), "mode": mode, "compression": compression, "files": files, "file_size": file_size}
        return self._sink("parquet", {**sink, "partition_by": _optional_names(partition_by)}, to)

    def write_csv(
        self,
        path: Path,
        *,
        mode: str | None = None,
        files: int | None = None,
        file_size: str | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
        compression: str | None = None,
        partition_by: str | Sequence[str] | None = None,
        to: str | None = None,
    ) -> Pipeline:
        """Write a folder of delimited text files.

        Args:
            path: as in `write_parquet`, and so are mode, files, file_size, partition_by, and to.
            mode: see there.
            files: see there.
            file_size: see there.
            delimiter: as in `read_csv`, and so is header.
            header: see there.
            compression: none (default), gzip, or zstd; a file that has one is read by one task.
            partition_by: see `write_parquet`.
            to: see there.

        """
        sink = {"path": os.fspath(path), "mode": mode, "files": files, "file_size": file_size, "delimiter": delimiter, "header": header}
        return self._sink("csv", {**sink, "compression": compression, "partition_by": _optional_names(partition_by)}, to)

    def write_json(
        self,
        path: Path,
        *,
        mode: str | None = None,
        files: int | None = None,
        file_size: str | None = None,
        compression: str | None = None,
        partition_by: str | Sequence[str] | None = None,
        to: str | None = None,
    ) -> Pipeline:
        """Write a folder of files of JSON lines. Arguments as in `write_parquet`, and `compression` as in `write_csv`."""
        sink = {"path": os.fspath(path), "mode": mode, "files": files, "file_size": file_size, "compression": compression}
        return self._sink("json", {**sink, "partition_by": _optional_names(partition_by)}, to)

    def write_arrow(
        self,
        path: Path,
        *,
        mode: str | None = None,
        files: int | None = None,
        file_size: str | None = None,
        format: str | None = None,
        compression: str | None = None,
        partition_by: str | Sequence[str] | None = None,
        to: str | None = None,
    ) -> Pipeline:
        """Write a folder of Arrow IPC files.

        Args:
            path: as in `write_parquet`, and so are mode, files, partition_by, and to.
            mode: see there.
            files: see there.
            file_size: see there.
            format: "file" (default) or "stream".
            compression: none (default), lz4, or zstd.
            partition_by: see there.
            to: see there.

        """
        sink = {"path": os.fspath(path), "mode": mode, "files": files, "file_size": file_size, "format": format, "compression": compression}
        return self._sink("arrow", {**sink, "partition_by": _optional_names(partition_by)}, to)

    def write_objects(self, *, name: str | None = None, checkpoint: Path | None = None, ttl: str | None = None) -> Pipeline:
        """Keep the rows in the object store, one object for each split of the input; the result's `outputs` are their references.

        Args:
            name: pins the outputs under "<name>/<sequence>" when the job succeeds.
            checkpoint: a folder, or s3://bucket/prefix, where each output is written durably.
            ttl: how long they live after the job has succeeded, a duration. Default: until the job is forgotten.

        """
        return self._sink("object", {"name": name, "checkpoint": _path(checkpoint), "ttl": ttl}, None)

    def s3_keys(self, access_key_id: str, secret_access_key: str, session_token: str | None = None) -> Pipeline:
        """Reach the bucket of what stands before with keys: of the source, or of the sink that was written last.

        Args:
            access_key_id: a text, or a secret such as ${secret:NAME}.
            secret_access_key: a secret.
            session_token: a secret, of keys that end.

        """
        keys = {"s3": _given({"access_key_id": access_key_id, "secret_access_key": secret_access_key, "session_token": session_token})}
        if self._job.get("sinks"):
            name = list(self._job["sinks"])[-1]
            return Pipeline({**self._job, "sinks": {**self._job["sinks"], name: {**self._job["sinks"][name], **keys}}})
        place = "sink" if self._job.get("sink") else "source"
        return Pipeline({**self._job, place: {**self._job.get(place, {}), **keys}})

    def write_postgres(
        self,
        url: str,
        table: str,
        *,
        mode: str | None = None,
        create: bool | None = None,
        timeout: str | None = None,
        password: str | None = None,
        to: str | None = None,
    ) -> Pipeline:
        """Write a table of Postgres.

        Args:
            url: as in `read_postgres`.
            table: schema.table.
            mode: if it has rows: "error" (default), "append", or "overwrite".
            create: whether a table that is not there is made. Default: True.
            timeout: as in `read_postgres`.
            password: as in `read_postgres`.
            to: the part of a `split` that is written.

        """
        return self._sink(
            "postgres", {"url": url, "table": table, "mode": mode, "create": create, "timeout": timeout, "password": password}, to
        )

    # Settings

    def options(
        self,
        *,
        name: str | None = None,
        batch_rows: int | None = None,
        batch_bytes: str | int | None = None,
        resources: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        timeout: str | None = None,
        orphan_ttl: str | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        node_labels: Mapping[str, str] | None = None,
        isolation: str | None = None,
        on_bad_row: str | Mapping[str, Any] | None = None,
        cache: str | None = None,
    ) -> Pipeline:
        """Set what holds for the job as a whole. What is left out stays as it is.

        Args:
            name: a name for people.
            batch_rows: rows of a record batch. Default: 10,000.
            batch_bytes: its size at most. Default: 64MiB.
            resources: of one task: cpu (default 1), gpu, memory, gpu_memory, custom.
            max_attempts: at a task; only failures of the infrastructure are tried again. Default: 3.
            timeout: a duration after which the job fails.
            orphan_ttl: a duration for which it goes on while no client waits for it or follows its log. Default: no limit.
            labels: free pairs by which people find their jobs.
            queue: whose share of the cluster the job uses.
            priority: among the waiting jobs of one queue the larger one comes first.
            node_labels: labels that a node must have.
            isolation: where models run: "process" or "none".
            on_bad_row: "fail" (default), "skip", or a mapping with action, path, limit, share.
            cache: how old an output may be that an earlier job has made of the same, a duration.

        """
        if isinstance(on_bad_row, str):
            on_bad_row = {"action": on_bad_row}
        batch = _given({"rows": batch_rows, "bytes": batch_bytes if batch_bytes is None else str(batch_bytes)})
        new = {
            "name": name,
            "batch": batch and {**self._job.get("batch", {}), **batch},
            "resources": resources,
            "retry": None if max_attempts is None else {"max_attempts": max_attempts},
            "timeout": timeout,
            "orphan_ttl": orphan_ttl,
            "labels": labels,
            "queue": queue,
            "priority": priority,
            "placement": None if node_labels is None else {"node_labels": dict(node_labels)},
            "isolation": isolation,
            "on_bad_row": on_bad_row,
            "cache": cache,
        }
        return Pipeline({**self._job, **{k: v for k, v in new.items() if v not in (None, {})}})

    # What to do with it

    def to_dict(self) -> dict[str, Any]:
        """Return the job as a dict of the form of a job file."""
        first = {"name": None, "source": None, "batch": None, "steps": None, "sink": None, "sinks": None}
        return copy.deepcopy({k: v for k, v in {**first, **self._job}.items() if v is not None})

    def to_yaml(self) -> str:
        """Return the job file: what `engine run` and `engine submit` take."""
        return _jobfile.to_yaml(self.to_dict())

    def to_spec(self, base: Path = ".") -> job_pb2.JobSpec:
        """Return the JobSpec as it would be submitted, with absolute paths.

        Raises:
            InvalidArgumentError: for what no job can have.
            NotFoundError: for the name of a model that is not imported.

        """
        return _jobfile.from_dict(self._job, base, _binary.model)

    def submit(
        self,
        client: Client | None = None,
        *,
        submission_id: str | None = None,
        only_new: bool = False,
        secrets: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Submit the job to a cluster: see `Client.submit`.

        Args:
            client: whose. Default: a new client of ENGINE_ADDRESS, which ends with the process.
            submission_id: see there.
            only_new: see there.
            secrets: see there.
            timeout: see there.

        """
        from engine.client import default_client

        return (client or default_client()).submit(self, submission_id=submission_id, only_new=only_new, secrets=secrets, timeout=timeout)

    def run(
        self,
        *,
        submission_id: str | None = None,
        only_new: bool = False,
        binary: Path | None = None,
        data_dir: Path | None = None,
        progress: bool = True,
        check: bool = True,
    ) -> jobs.JobResult:
        """Run the job in a process of its own, without a cluster, and wait for its end. An interrupt stops it.

        Args:
            submission_id: under which the run can be repeated and resumed.
            only_new: leave out the inputs that earlier jobs with the same output folders have read.
            binary: the engine's program. Default: ENGINE_BINARY, else `engine` on PATH.
            data_dir: the folder that keeps the job's record. Default: one in the user's cache.
            progress: show progress and warnings on standard error.
            check: raise the error of a job that did not succeed, instead of returning its result.

        Raises:
            NotFoundError: if there is no program.
            EngineError: if the job is refused, or, with `check`, has failed.

        """
        arguments = []
        if submission_id is not None:
            arguments += ["--submission-id", submission_id]
        if only_new:
            arguments.append("--only-new")
        if data_dir is not None:
            arguments += ["--data-dir", os.fspath(data_dir)]
        result = jobs.result_of_json(_binary.run(self.to_yaml(), binary=binary, arguments=arguments, progress=progress))
        return result.raise_for_state() if check else result

    def _step(self, kind: str, fields: Mapping[str, Any]) -> Pipeline:
        if self._job.get("sink") or self._job.get("sinks"):
            raise errors.InvalidArgumentError(f"a step {kind} after the sink", op="build job", hint="steps come before write_…")
        return Pipeline({**self._job, "steps": [*self._job.get("steps", ()), {kind: _given(fields)}]})

    def _sink(self, kind: str, fields: Mapping[str, Any], to: str | None) -> Pipeline:
        sink = {kind: _given(fields)}
        if to is None:
            if self._job.get("sink") or self._job.get("sinks"):
                raise errors.InvalidArgumentError("the job has a sink", op="build job", hint="split rows, and write each part with to=")
            return Pipeline({**self._job, "sink": sink})
        if self._job.get("sink"):
            raise errors.InvalidArgumentError("the job has a sink for all rows", op="build job")
        if to in self._job.get("sinks", {}):
            raise errors.InvalidArgumentError(f"the part {to!r} has a sink", op="build job")
        return Pipeline({**self._job, "sinks": {**self._job.get("sinks", {}), to: sink}})


def _read(kind: str, fields: Mapping[str, Any]) -> Pipeline:
    return Pipeline({"source": {kind: _given(fields)}})


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items() if v is not None}


def _names(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _optional_names(names: str | Sequence[str] | None) -> list[str] | None:
    return None if names is None else _names(names)


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def _paths(paths: Sequence[Any]) -> list[str]:
    """Return the paths; a list of them may stand in the place of several."""
    flat: list[str] = []
    for path in paths:
        flat += _paths(path) if isinstance(path, (list, tuple)) else [os.fspath(path)]
    return flat


def _columns(columns: Columns | None) -> list[dict[str, str]] | None:
    if columns is None:
        return None
    if isinstance(columns, Mapping):
        return [{"name": name, "type": kind} for name, kind in columns.items()]
    return [{"name": name} for name in columns]


def _categories(columns: Categories, unknown: str | None, order: str | None) -> list[dict[str, Any]]:
    named: Mapping[str, Sequence[str] | None] = columns if isinstance(columns, Mapping) else dict.fromkeys(_names(columns))
    return [
        _given({"name": name, "categories": None if c is None else list(c), "unknown": unknown, "order": order})
        for name, c in named.items()
    ]
