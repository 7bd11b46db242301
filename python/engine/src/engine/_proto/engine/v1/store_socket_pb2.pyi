import datetime

from engine._proto.engine.v1 import error_pb2 as _error_pb2
from engine._proto.engine.v1 import object_pb2 as _object_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoreHello(_message.Message):
    __slots__ = ("protocol_version", "client", "session_id", "domain")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    client: str
    session_id: str
    domain: str
    def __init__(self, protocol_version: _Optional[int] = ..., client: _Optional[str] = ..., session_id: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class StoreWelcome(_message.Message):
    __slots__ = ("protocol_version", "node_id", "cluster_id", "pid", "error", "capacity_bytes")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    node_id: str
    cluster_id: str
    pid: int
    error: _error_pb2.Error
    capacity_bytes: int
    def __init__(self, protocol_version: _Optional[int] = ..., node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., pid: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., capacity_bytes: _Optional[int] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("number", "timeout", "put_inline", "put_from", "create", "arena_mapped", "seal", "abort", "get", "release", "delete", "wait", "cancel")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PUT_INLINE_FIELD_NUMBER: _ClassVar[int]
    PUT_FROM_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    ARENA_MAPPED_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    number: int
    timeout: _duration_pb2.Duration
    put_inline: StorePutInline
    put_from: StorePutFrom
    create: StoreCreate
    arena_mapped: StoreArenaMapped
    seal: StoreSeal
    abort: StoreAbort
    get: StoreGet
    release: StoreRelease
    delete: StoreDelete
    wait: StoreWait
    cancel: StoreCancel
    def __init__(self, number: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., put_inline: _Optional[_Union[StorePutInline, _Mapping]] = ..., put_from: _Optional[_Union[StorePutFrom, _Mapping]] = ..., create: _Optional[_Union[StoreCreate, _Mapping]] = ..., arena_mapped: _Optional[_Union[StoreArenaMapped, _Mapping]] = ..., seal: _Optional[_Union[StoreSeal, _Mapping]] = ..., abort: _Optional[_Union[StoreAbort, _Mapping]] = ..., get: _Optional[_Union[StoreGet, _Mapping]] = ..., release: _Optional[_Union[StoreRelease, _Mapping]] = ..., delete: _Optional[_Union[StoreDelete, _Mapping]] = ..., wait: _Optional[_Union[StoreWait, _Mapping]] = ..., cancel: _Optional[_Union[StoreCancel, _Mapping]] = ...) -> None: ...

class StorePutInline(_message.Message):
    __slots__ = ("object_id", "data")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    data: bytes
    def __init__(self, object_id: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class StorePutFrom(_message.Message):
    __slots__ = ("object_id", "addresses", "lengths", "descriptor")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    addresses: _containers.RepeatedScalarFieldContainer[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    descriptor: bool
    def __init__(self, object_id: _Optional[bytes] = ..., addresses: _Optional[_Iterable[int]] = ..., lengths: _Optional[_Iterable[int]] = ..., descriptor: bool = ...) -> None: ...

class StoreCreate(_message.Message):
    __slots__ = ("object_id", "size_bytes")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    size_bytes: int
    def __init__(self, object_id: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class StoreArenaMapped(_message.Message):
    __slots__ = ("arena",)
    ARENA_FIELD_NUMBER: _ClassVar[int]
    arena: int
    def __init__(self, arena: _Optional[int] = ...) -> None: ...

class StoreSeal(_message.Message):
    __slots__ = ("object_id", "rows", "batches")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    rows: int
    batches: int
    def __init__(self, object_id: _Optional[bytes] = ..., rows: _Optional[int] = ..., batches: _Optional[int] = ...) -> None: ...

class StoreAbort(_message.Message):
    __slots__ = ("object_id",)
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    def __init__(self, object_id: _Optional[bytes] = ...) -> None: ...

class StoreGet(_message.Message):
    __slots__ = ("object_id", "wait", "fetch")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    wait: bool
    fetch: bool
    def __init__(self, object_id: _Optional[bytes] = ..., wait: bool = ..., fetch: bool = ...) -> None: ...

class StoreRelease(_message.Message):
    __slots__ = ("pins",)
    PINS_FIELD_NUMBER: _ClassVar[int]
    pins: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pins: _Optional[_Iterable[int]] = ...) -> None: ...

class StoreCancel(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class StoreDelete(_message.Message):
    __slots__ = ("object_ids",)
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, object_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StoreWait(_message.Message):
    __slots__ = ("object_ids", "count")
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    count: int
    def __init__(self, object_ids: _Optional[_Iterable[bytes]] = ..., count: _Optional[int] = ...) -> None: ...

class StoreResponse(_message.Message):
    __slots__ = ("number", "error", "place", "data", "object", "ready", "retired")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    number: int
    error: _error_pb2.Error
    place: StorePlace
    data: bytes
    object: _object_pb2.ObjectCopy
    ready: _containers.RepeatedScalarFieldContainer[bytes]
    retired: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., place: _Optional[_Union[StorePlace, _Mapping]] = ..., data: _Optional[bytes] = ..., object: _Optional[_Union[_object_pb2.ObjectCopy, _Mapping]] = ..., ready: _Optional[_Iterable[bytes]] = ..., retired: _Optional[_Iterable[int]] = ...) -> None: ...

class StorePlace(_message.Message):
    __slots__ = ("arena", "arena_bytes", "descriptor", "offset_bytes", "size_bytes", "pin", "writable")
    ARENA_FIELD_NUMBER: _ClassVar[int]
    ARENA_BYTES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    arena: int
    arena_bytes: int
    descriptor: bool
    offset_bytes: int
    size_bytes: int
    pin: int
    writable: bool
    def __init__(self, arena: _Optional[int] = ..., arena_bytes: _Optional[int] = ..., descriptor: bool = ..., offset_bytes: _Optional[int] = ..., size_bytes: _Optional[int] = ..., pin: _Optional[int] = ..., writable: bool = ...) -> None: ...
