"""The engine's Python client: submit and follow jobs, run tasks, and hand Arrow tables over in shared memory.

    import engine

    result = (
        engine.read_csv("data/*.csv", delimiter=";")
        .infer("models/wine.onnx", output="prediction")
        .write_parquet("out", mode="overwrite")
        .run()                          # in a process of its own; .submit(client) gives it to a cluster
    )

    with engine.Client("127.0.0.1:10001") as client:
        ref = client.put(table)         # of pyarrow, pandas, or polars
        table = client.get(ref)         # without a copy on the same machine

`engine.aio` is the asyncio face. Errors are of the class of their kind, see `engine.errors`.
"""

from engine import aio, errors, jobs
from engine._proto.engine.v1.job_pb2 import JobSpec
from engine._rpc import TLS
from engine._tasks import TaskResult
from engine.builder import Pipeline, read_arrow, read_csv, read_json, read_objects, read_parquet, read_postgres
from engine.client import Client, Job, Task
from engine.errors import (
    CanceledError,
    ConflictError,
    CorruptError,
    DataError,
    DeadlineError,
    EngineError,
    ExhaustedError,
    FencedError,
    InternalError,
    InvalidArgumentError,
    ModelError,
    NotFoundError,
    PermissionError,  # noqa: A004
    StoppedError,
    UnauthenticatedError,
    UnavailableError,
    VersionError,
)
from engine.jobs import JobResult, JobStatus, LogLine, Progress
from engine.refs import ObjectRef

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "CanceledError",
    "Client",
    "ConflictError",
    "CorruptError",
    "DataError",
    "DeadlineError",
    "EngineError",
    "ExhaustedError",
    "FencedError",
    "InternalError",
    "InvalidArgumentError",
    "Job",
    "JobResult",
    "JobSpec",
    "JobStatus",
    "LogLine",
    "ModelError",
    "NotFoundError",
    "ObjectRef",
    "PermissionError",
    "Pipeline",
    "Progress",
    "StoppedError",
    "Task",
    "TaskResult",
    "UnauthenticatedError",
    "UnavailableError",
    "VersionError",
    "aio",
    "errors",
    "jobs",
    "read_arrow",
    "read_csv",
    "read_json",
    "read_objects",
    "read_parquet",
    "read_postgres",
]
