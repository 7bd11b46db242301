import datetime

from engine._proto.engine.v1 import job_pb2 as _job_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_ALIVE: _ClassVar[NodeState]
    NODE_STATE_DRAINING: _ClassVar[NodeState]
    NODE_STATE_DEAD: _ClassVar[NodeState]

class HeadState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAD_STATE_UNSPECIFIED: _ClassVar[HeadState]
    HEAD_STATE_LEADS: _ClassVar[HeadState]
    HEAD_STATE_FOLLOWS: _ClassVar[HeadState]
    HEAD_STATE_SILENT: _ClassVar[HeadState]
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_ALIVE: NodeState
NODE_STATE_DRAINING: NodeState
NODE_STATE_DEAD: NodeState
HEAD_STATE_UNSPECIFIED: HeadState
HEAD_STATE_LEADS: HeadState
HEAD_STATE_FOLLOWS: HeadState
HEAD_STATE_SILENT: HeadState

class GetClusterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetClusterResponse(_message.Message):
    __slots__ = ("cluster_id", "version", "start_time", "total", "used", "nodes_alive", "jobs", "tasks_pending", "tasks_running", "web", "event_log")
    class JobsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    NODES_ALIVE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    TASKS_PENDING_FIELD_NUMBER: _ClassVar[int]
    TASKS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    WEB_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    version: str
    start_time: _timestamp_pb2.Timestamp
    total: _job_pb2.Resources
    used: _job_pb2.Resources
    nodes_alive: int
    jobs: _containers.ScalarMap[str, int]
    tasks_pending: int
    tasks_running: int
    web: str
    event_log: str
    def __init__(self, cluster_id: _Optional[str] = ..., version: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., total: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., used: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., nodes_alive: _Optional[int] = ..., jobs: _Optional[_Mapping[str, int]] = ..., tasks_pending: _Optional[int] = ..., tasks_running: _Optional[int] = ..., web: _Optional[str] = ..., event_log: _Optional[str] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node_id", "host", "pid", "state", "total", "used", "tasks_running", "labels", "version", "join_time", "report_time", "suspect")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    TASKS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOIN_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORT_TIME_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    host: str
    pid: int
    state: NodeState
    total: _job_pb2.Resources
    used: _job_pb2.Resources
    tasks_running: int
    labels: _containers.ScalarMap[str, str]
    version: str
    join_time: _timestamp_pb2.Timestamp
    report_time: _timestamp_pb2.Timestamp
    suspect: bool
    def __init__(self, node_id: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., state: _Optional[_Union[NodeState, str]] = ..., total: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., used: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., tasks_running: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., version: _Optional[str] = ..., join_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., report_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., suspect: bool = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("node_id", "within", "reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    within: str
    reason: str
    def __init__(self, node_id: _Optional[str] = ..., within: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DrainNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("name", "weight", "quota", "priority", "max_pending")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    quota: _job_pb2.Resources
    priority: int
    max_pending: int
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., quota: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., priority: _Optional[int] = ..., max_pending: _Optional[int] = ...) -> None: ...

class SetQueueRequest(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class SetQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteQueueRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[QueueStatus]
    def __init__(self, queues: _Optional[_Iterable[_Union[QueueStatus, _Mapping]]] = ...) -> None: ...

class QueueStatus(_message.Message):
    __slots__ = ("queue", "used", "tasks_pending", "tasks_running", "jobs", "share", "fair_share")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    TASKS_PENDING_FIELD_NUMBER: _ClassVar[int]
    TASKS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    FAIR_SHARE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    used: _job_pb2.Resources
    tasks_pending: int
    tasks_running: int
    jobs: int
    share: float
    fair_share: float
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ..., used: _Optional[_Union[_job_pb2.Resources, _Mapping]] = ..., tasks_pending: _Optional[int] = ..., tasks_running: _Optional[int] = ..., jobs: _Optional[int] = ..., share: _Optional[float] = ..., fair_share: _Optional[float] = ...) -> None: ...

class ListHeadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHeadsResponse(_message.Message):
    __slots__ = ("heads", "head_id", "cluster_id")
    HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[HeadInfo]
    head_id: str
    cluster_id: str
    def __init__(self, heads: _Optional[_Iterable[_Union[HeadInfo, _Mapping]]] = ..., head_id: _Optional[str] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class HeadInfo(_message.Message):
    __slots__ = ("head_id", "address", "leader", "voter", "state")
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    head_id: str
    address: str
    leader: bool
    voter: bool
    state: HeadState
    def __init__(self, head_id: _Optional[str] = ..., address: _Optional[str] = ..., leader: bool = ..., voter: bool = ..., state: _Optional[_Union[HeadState, str]] = ...) -> None: ...

class AddHeadRequest(_message.Message):
    __slots__ = ("head_id", "address", "version", "cluster_id")
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    head_id: str
    address: str
    version: str
    cluster_id: str
    def __init__(self, head_id: _Optional[str] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class AddHeadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemoveHeadRequest(_message.Message):
    __slots__ = ("head_id",)
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    head_id: str
    def __init__(self, head_id: _Optional[str] = ...) -> None: ...

class RemoveHeadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTimelineRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetTimelineResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, events: _Optional[_Iterable[str]] = ...) -> None: ...
