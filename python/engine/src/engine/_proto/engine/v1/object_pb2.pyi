import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ObjectState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECT_STATE_UNSPECIFIED: _ClassVar[ObjectState]
    OBJECT_STATE_PENDING: _ClassVar[ObjectState]
    OBJECT_STATE_IN_MEMORY: _ClassVar[ObjectState]
    OBJECT_STATE_SPILLED: _ClassVar[ObjectState]
    OBJECT_STATE_CHECKPOINTED: _ClassVar[ObjectState]
    OBJECT_STATE_LOST: _ClassVar[ObjectState]
OBJECT_STATE_UNSPECIFIED: ObjectState
OBJECT_STATE_PENDING: ObjectState
OBJECT_STATE_IN_MEMORY: ObjectState
OBJECT_STATE_SPILLED: ObjectState
OBJECT_STATE_CHECKPOINTED: ObjectState
OBJECT_STATE_LOST: ObjectState

class ObjectOwner(_message.Message):
    __slots__ = ("kind", "id", "expire_time")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ObjectCopy(_message.Message):
    __slots__ = ("object_id", "size_bytes", "rows", "batches", "state", "primary", "domain", "owners", "pins", "create_time", "access_time", "crc32c", "checkpoint", "spilled")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SPILLED_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    size_bytes: int
    rows: int
    batches: int
    state: ObjectState
    primary: bool
    domain: str
    owners: _containers.RepeatedCompositeFieldContainer[ObjectOwner]
    pins: int
    create_time: _timestamp_pb2.Timestamp
    access_time: _timestamp_pb2.Timestamp
    crc32c: int
    checkpoint: str
    spilled: str
    def __init__(self, object_id: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., batches: _Optional[int] = ..., state: _Optional[_Union[ObjectState, str]] = ..., primary: bool = ..., domain: _Optional[str] = ..., owners: _Optional[_Iterable[_Union[ObjectOwner, _Mapping]]] = ..., pins: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., access_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., crc32c: _Optional[int] = ..., checkpoint: _Optional[str] = ..., spilled: _Optional[str] = ...) -> None: ...

class ObjectStoreUsage(_message.Message):
    __slots__ = ("capacity_bytes", "arena_bytes", "object_bytes", "pinned_bytes", "spilled_bytes", "objects", "waiting", "waiting_bytes", "spills", "restores", "evictions")
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ARENA_BYTES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPILLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPILLS_FIELD_NUMBER: _ClassVar[int]
    RESTORES_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    capacity_bytes: int
    arena_bytes: int
    object_bytes: int
    pinned_bytes: int
    spilled_bytes: int
    objects: int
    waiting: int
    waiting_bytes: int
    spills: int
    restores: int
    evictions: int
    def __init__(self, capacity_bytes: _Optional[int] = ..., arena_bytes: _Optional[int] = ..., object_bytes: _Optional[int] = ..., pinned_bytes: _Optional[int] = ..., spilled_bytes: _Optional[int] = ..., objects: _Optional[int] = ..., waiting: _Optional[int] = ..., waiting_bytes: _Optional[int] = ..., spills: _Optional[int] = ..., restores: _Optional[int] = ..., evictions: _Optional[int] = ...) -> None: ...

class ObjectStoreAddress(_message.Message):
    __slots__ = ("node_id", "socket", "host_id", "flight")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    socket: str
    host_id: str
    flight: str
    def __init__(self, node_id: _Optional[str] = ..., socket: _Optional[str] = ..., host_id: _Optional[str] = ..., flight: _Optional[str] = ...) -> None: ...
