import datetime

from engine._proto.engine.v1 import error_pb2 as _error_pb2
from engine._proto.engine.v1 import job_pb2 as _job_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_PENDING_ARGUMENTS: _ClassVar[TaskState]
    TASK_STATE_PENDING: _ClassVar[TaskState]
    TASK_STATE_RUNNING: _ClassVar[TaskState]
    TASK_STATE_SUCCEEDED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_PENDING_ARGUMENTS: TaskState
TASK_STATE_PENDING: TaskState
TASK_STATE_RUNNING: TaskState
TASK_STATE_SUCCEEDED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_CANCELLED: TaskState

class TaskTemplate(_message.Message):
    __slots__ = ("number", "operator", "params", "name", "resources", "queue", "priority", "max_attempts", "timeout", "hang_after", "placement", "outputs", "recompute", "wait_for_nodes", "inline_bytes", "checkpoint", "trace_parent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    HANG_AFTER_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_NODES_FIELD_NUMBER: _ClassVar[int]
    INLINE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TRACE_PARENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    operator: str
    params: bytes
    name: str
    resources: _job_pb2.Resources
    queue: str
    priority: int
    max_attempts: int
    timeout: _duration_pb2.Duration
    hang_after: _duration_pb2.Duration
    placement: TaskPlacement
    outputs: int
    recompute: bool
    wait_for_nodes: bool
    inline_bytes: int
    checkpoint: str
    trace_parent: str
    def __init__(self, number: _Optional[int] = ..., operator: _Optional[str] = ..., params: _Optional[bytes] = ..., name: _Optional[str] = ..., resources: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., max_attempts: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hang_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., placement: _Optional[_Union[TaskPlacement, _Mapping]] = ..., outputs: _Optional[int] = ..., recompute: bool = ..., wait_for_nodes: bool = ..., inline_bytes: _Optional[int] = ..., checkpoint: _Optional[str] = ..., trace_parent: _Optional[str] = ...) -> None: ...

class TaskPlacement(_message.Message):
    __slots__ = ("node_labels", "node_id", "soft", "spread", "placement_group_id", "bundle")
    class NodeLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_LABELS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SOFT_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    node_labels: _containers.ScalarMap[str, str]
    node_id: str
    soft: bool
    spread: bool
    placement_group_id: bytes
    bundle: int
    def __init__(self, node_labels: _Optional[_Mapping[str, str]] = ..., node_id: _Optional[str] = ..., soft: bool = ..., spread: bool = ..., placement_group_id: _Optional[bytes] = ..., bundle: _Optional[int] = ...) -> None: ...

class TaskSubmission(_message.Message):
    __slots__ = ("task_id", "template", "arguments", "parent_task_id", "again")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    PARENT_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    template: int
    arguments: _containers.RepeatedCompositeFieldContainer[TaskArgument]
    parent_task_id: bytes
    again: bool
    def __init__(self, task_id: _Optional[bytes] = ..., template: _Optional[int] = ..., arguments: _Optional[_Iterable[_Union[TaskArgument, _Mapping]]] = ..., parent_task_id: _Optional[bytes] = ..., again: bool = ...) -> None: ...

class TaskArgument(_message.Message):
    __slots__ = ("object_id", "value")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    value: bytes
    def __init__(self, object_id: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class TaskOutcome(_message.Message):
    __slots__ = ("task_id", "state", "error", "outputs", "node_id", "attempts", "run_nanos", "start_unix_nanos", "epoch")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RUN_NANOS_FIELD_NUMBER: _ClassVar[int]
    START_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    state: TaskState
    error: _error_pb2.Error
    outputs: _containers.RepeatedCompositeFieldContainer[TaskOutput]
    node_id: str
    attempts: int
    run_nanos: int
    start_unix_nanos: int
    epoch: int
    def __init__(self, task_id: _Optional[bytes] = ..., state: _Optional[_Union[TaskState, str]] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[TaskOutput, _Mapping]]] = ..., node_id: _Optional[str] = ..., attempts: _Optional[int] = ..., run_nanos: _Optional[int] = ..., start_unix_nanos: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class TaskOutput(_message.Message):
    __slots__ = ("size_bytes", "rows", "value", "checkpoint")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    rows: int
    value: bytes
    checkpoint: str
    def __init__(self, size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., value: _Optional[bytes] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class TaskGrant(_message.Message):
    __slots__ = ("task", "epoch", "attempt", "gpu_devices", "session_id")
    TASK_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    GPU_DEVICES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    task: TaskSubmission
    epoch: int
    attempt: int
    gpu_devices: _containers.RepeatedScalarFieldContainer[int]
    session_id: str
    def __init__(self, task: _Optional[_Union[TaskSubmission, _Mapping]] = ..., epoch: _Optional[int] = ..., attempt: _Optional[int] = ..., gpu_devices: _Optional[_Iterable[int]] = ..., session_id: _Optional[str] = ...) -> None: ...

class HeldTask(_message.Message):
    __slots__ = ("task_id", "epoch", "gpu_devices", "session_id", "template", "run_nanos", "quiet_nanos", "done", "total")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GPU_DEVICES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    RUN_NANOS_FIELD_NUMBER: _ClassVar[int]
    QUIET_NANOS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    epoch: int
    gpu_devices: _containers.RepeatedScalarFieldContainer[int]
    session_id: str
    template: TaskTemplate
    run_nanos: int
    quiet_nanos: int
    done: float
    total: float
    def __init__(self, task_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., gpu_devices: _Optional[_Iterable[int]] = ..., session_id: _Optional[str] = ..., template: _Optional[_Union[TaskTemplate, _Mapping]] = ..., run_nanos: _Optional[int] = ..., quiet_nanos: _Optional[int] = ..., done: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...
