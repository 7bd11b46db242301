import datetime

from engine._proto.engine.v1 import error_pb2 as _error_pb2
from engine._proto.engine.v1 import job_pb2 as _job_pb2
from engine._proto.engine.v1 import task_pb2 as _task_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlacementStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLACEMENT_STRATEGY_UNSPECIFIED: _ClassVar[PlacementStrategy]
    PLACEMENT_STRATEGY_PACK: _ClassVar[PlacementStrategy]
    PLACEMENT_STRATEGY_SPREAD: _ClassVar[PlacementStrategy]
    PLACEMENT_STRATEGY_STRICT_PACK: _ClassVar[PlacementStrategy]
    PLACEMENT_STRATEGY_STRICT_SPREAD: _ClassVar[PlacementStrategy]
PLACEMENT_STRATEGY_UNSPECIFIED: PlacementStrategy
PLACEMENT_STRATEGY_PACK: PlacementStrategy
PLACEMENT_STRATEGY_SPREAD: PlacementStrategy
PLACEMENT_STRATEGY_STRICT_PACK: PlacementStrategy
PLACEMENT_STRATEGY_STRICT_SPREAD: PlacementStrategy

class RunTasksRequest(_message.Message):
    __slots__ = ("session_id", "templates", "tasks", "cancellations", "acknowledged", "retired_templates")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CANCELLATIONS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    RETIRED_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    templates: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskTemplate]
    tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskSubmission]
    cancellations: _containers.RepeatedCompositeFieldContainer[TaskCancellation]
    acknowledged: bytes
    retired_templates: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_id: _Optional[str] = ..., templates: _Optional[_Iterable[_Union[_task_pb2.TaskTemplate, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[_task_pb2.TaskSubmission, _Mapping]]] = ..., cancellations: _Optional[_Iterable[_Union[TaskCancellation, _Mapping]]] = ..., acknowledged: _Optional[bytes] = ..., retired_templates: _Optional[_Iterable[int]] = ...) -> None: ...

class TaskCancellation(_message.Message):
    __slots__ = ("task_id", "children", "force")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    children: bool
    force: bool
    def __init__(self, task_id: _Optional[bytes] = ..., children: bool = ..., force: bool = ...) -> None: ...

class RunTasksResponse(_message.Message):
    __slots__ = ("outcomes", "refusals", "cluster_id", "window")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskOutcome]
    refusals: _containers.RepeatedCompositeFieldContainer[TaskRefusal]
    cluster_id: str
    window: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[_task_pb2.TaskOutcome, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[TaskRefusal, _Mapping]]] = ..., cluster_id: _Optional[str] = ..., window: _Optional[int] = ...) -> None: ...

class TaskRefusal(_message.Message):
    __slots__ = ("task_id", "error", "retry_after_millis")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MILLIS_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    error: _error_pb2.Error
    retry_after_millis: int
    def __init__(self, task_id: _Optional[bytes] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., retry_after_millis: _Optional[int] = ...) -> None: ...

class CancelTasksRequest(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[TaskCancellation]
    def __init__(self, tasks: _Optional[_Iterable[_Union[TaskCancellation, _Mapping]]] = ...) -> None: ...

class CancelTasksResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: int
    def __init__(self, cancelled: _Optional[int] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    def __init__(self, task_id: _Optional[bytes] = ...) -> None: ...

class GetTaskResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: Task
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "name", "operator", "state", "reason", "queue", "resources", "node_id", "attempts", "submit_time", "start_time", "end_time", "error", "session_id", "parent_task_id", "hanging", "done", "total", "job_id", "index")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    HANGING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    task_id: bytes
    name: str
    operator: str
    state: _task_pb2.TaskState
    reason: str
    queue: str
    resources: _job_pb2.Resources
    node_id: str
    attempts: int
    submit_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    error: _error_pb2.Error
    session_id: str
    parent_task_id: bytes
    hanging: bool
    done: float
    total: float
    job_id: str
    index: int
    def __init__(self, task_id: _Optional[bytes] = ..., name: _Optional[str] = ..., operator: _Optional[str] = ..., state: _Optional[_Union[_task_pb2.TaskState, str]] = ..., reason: _Optional[str] = ..., queue: _Optional[str] = ..., resources: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., node_id: _Optional[str] = ..., attempts: _Optional[int] = ..., submit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., session_id: _Optional[str] = ..., parent_task_id: _Optional[bytes] = ..., hanging: bool = ..., done: _Optional[float] = ..., total: _Optional[float] = ..., job_id: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("states", "name", "node_id", "job_id", "limit")
    STATES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[_task_pb2.TaskState]
    name: str
    node_id: str
    job_id: str
    limit: int
    def __init__(self, states: _Optional[_Iterable[_Union[_task_pb2.TaskState, str]]] = ..., name: _Optional[str] = ..., node_id: _Optional[str] = ..., job_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks", "total")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    total: int
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class SummarizeTasksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SummarizeTasksResponse(_message.Message):
    __slots__ = ("summaries",)
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    summaries: _containers.RepeatedCompositeFieldContainer[TaskSummary]
    def __init__(self, summaries: _Optional[_Iterable[_Union[TaskSummary, _Mapping]]] = ...) -> None: ...

class TaskSummary(_message.Message):
    __slots__ = ("name", "operator", "states", "mean_run_nanos", "attempts_lost", "reason")
    class StatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    MEAN_RUN_NANOS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_LOST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    operator: str
    states: _containers.ScalarMap[str, int]
    mean_run_nanos: int
    attempts_lost: int
    reason: str
    def __init__(self, name: _Optional[str] = ..., operator: _Optional[str] = ..., states: _Optional[_Mapping[str, int]] = ..., mean_run_nanos: _Optional[int] = ..., attempts_lost: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class CreatePlacementGroupRequest(_message.Message):
    __slots__ = ("placement_group_id", "session_id", "name", "bundles", "strategy", "queue", "node_labels")
    class NodeLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PLACEMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    NODE_LABELS_FIELD_NUMBER: _ClassVar[int]
    placement_group_id: bytes
    session_id: str
    name: str
    bundles: _containers.RepeatedCompositeFieldContainer[_job_pb2.Resources]
    strategy: PlacementStrategy
    queue: str
    node_labels: _containers.ScalarMap[str, str]
    def __init__(self, placement_group_id: _Optional[bytes] = ..., session_id: _Optional[str] = ..., name: _Optional[str] = ..., bundles: _Optional[_Iterable[_Union[_job_pb2.Resources, _Mapping]]] = ..., strategy: _Optional[_Union[PlacementStrategy, str]] = ..., queue: _Optional[str] = ..., node_labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CreatePlacementGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WaitPlacementGroupRequest(_message.Message):
    __slots__ = ("placement_group_id",)
    PLACEMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    placement_group_id: bytes
    def __init__(self, placement_group_id: _Optional[bytes] = ...) -> None: ...

class WaitPlacementGroupResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: PlacementGroup
    def __init__(self, group: _Optional[_Union[PlacementGroup, _Mapping]] = ...) -> None: ...

class PlacementGroup(_message.Message):
    __slots__ = ("placement_group_id", "name", "bundles", "strategy", "nodes", "reason", "session_id", "queue")
    PLACEMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    placement_group_id: bytes
    name: str
    bundles: _containers.RepeatedCompositeFieldContainer[_job_pb2.Resources]
    strategy: PlacementStrategy
    nodes: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    session_id: str
    queue: str
    def __init__(self, placement_group_id: _Optional[bytes] = ..., name: _Optional[str] = ..., bundles: _Optional[_Iterable[_Union[_job_pb2.Resources, _Mapping]]] = ..., strategy: _Optional[_Union[PlacementStrategy, str]] = ..., nodes: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., session_id: _Optional[str] = ..., queue: _Optional[str] = ...) -> None: ...

class RemovePlacementGroupRequest(_message.Message):
    __slots__ = ("placement_group_id",)
    PLACEMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    placement_group_id: bytes
    def __init__(self, placement_group_id: _Optional[bytes] = ...) -> None: ...

class RemovePlacementGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPlacementGroupsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPlacementGroupsResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[PlacementGroup]
    def __init__(self, groups: _Optional[_Iterable[_Union[PlacementGroup, _Mapping]]] = ...) -> None: ...
