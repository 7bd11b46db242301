import datetime

from engine._proto.engine.v1 import object_pb2 as _object_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ObjectInfo(_message.Message):
    __slots__ = ("object_id", "size_bytes", "rows", "batches", "state", "domain", "owners", "holders", "create_time", "access_time", "checkpoint", "crc32c")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    size_bytes: int
    rows: int
    batches: int
    state: _object_pb2.ObjectState
    domain: str
    owners: _containers.RepeatedCompositeFieldContainer[_object_pb2.ObjectOwner]
    holders: _containers.RepeatedCompositeFieldContainer[ObjectHolder]
    create_time: _timestamp_pb2.Timestamp
    access_time: _timestamp_pb2.Timestamp
    checkpoint: str
    crc32c: int
    def __init__(self, object_id: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., batches: _Optional[int] = ..., state: _Optional[_Union[_object_pb2.ObjectState, str]] = ..., domain: _Optional[str] = ..., owners: _Optional[_Iterable[_Union[_object_pb2.ObjectOwner, _Mapping]]] = ..., holders: _Optional[_Iterable[_Union[ObjectHolder, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., access_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., checkpoint: _Optional[str] = ..., crc32c: _Optional[int] = ...) -> None: ...

class ObjectHolder(_message.Message):
    __slots__ = ("store", "state", "primary", "pins", "spilled")
    STORE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    SPILLED_FIELD_NUMBER: _ClassVar[int]
    store: _object_pb2.ObjectStoreAddress
    state: _object_pb2.ObjectState
    primary: bool
    pins: int
    spilled: str
    def __init__(self, store: _Optional[_Union[_object_pb2.ObjectStoreAddress, _Mapping]] = ..., state: _Optional[_Union[_object_pb2.ObjectState, str]] = ..., primary: bool = ..., pins: _Optional[int] = ..., spilled: _Optional[str] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("session_id", "client")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    client: str
    def __init__(self, session_id: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("cluster_id", "lease_time")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_TIME_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    lease_time: _duration_pb2.Duration
    def __init__(self, cluster_id: _Optional[str] = ..., lease_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListStoresRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStoresResponse(_message.Message):
    __slots__ = ("stores", "cluster_id")
    STORES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    stores: _containers.RepeatedCompositeFieldContainer[_object_pb2.ObjectStoreAddress]
    cluster_id: str
    def __init__(self, stores: _Optional[_Iterable[_Union[_object_pb2.ObjectStoreAddress, _Mapping]]] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class PutObjectRequest(_message.Message):
    __slots__ = ("object_id", "data", "session_id", "domain")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    data: bytes
    session_id: str
    domain: str
    def __init__(self, object_id: _Optional[bytes] = ..., data: _Optional[bytes] = ..., session_id: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class PutObjectResponse(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: ObjectInfo
    def __init__(self, object: _Optional[_Union[ObjectInfo, _Mapping]] = ...) -> None: ...

class GetObjectRequest(_message.Message):
    __slots__ = ("object_id", "timeout")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    timeout: _duration_pb2.Duration
    def __init__(self, object_id: _Optional[bytes] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetObjectResponse(_message.Message):
    __slots__ = ("data", "object")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    object: ObjectInfo
    def __init__(self, data: _Optional[bytes] = ..., object: _Optional[_Union[ObjectInfo, _Mapping]] = ...) -> None: ...

class WaitObjectsRequest(_message.Message):
    __slots__ = ("object_ids", "count", "timeout")
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    count: int
    timeout: _duration_pb2.Duration
    def __init__(self, object_ids: _Optional[_Iterable[bytes]] = ..., count: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitObjectsResponse(_message.Message):
    __slots__ = ("ready",)
    READY_FIELD_NUMBER: _ClassVar[int]
    ready: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ready: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DescribeObjectsRequest(_message.Message):
    __slots__ = ("object_ids", "names")
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, object_ids: _Optional[_Iterable[bytes]] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeObjectsResponse(_message.Message):
    __slots__ = ("objects",)
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ObjectInfo]
    def __init__(self, objects: _Optional[_Iterable[_Union[ObjectInfo, _Mapping]]] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ("limit", "owner_kind", "owner_id", "node_id")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OWNER_KIND_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    limit: int
    owner_kind: str
    owner_id: str
    node_id: str
    def __init__(self, limit: _Optional[int] = ..., owner_kind: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ...) -> None: ...

class ListObjectsResponse(_message.Message):
    __slots__ = ("objects", "total", "total_bytes")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ObjectInfo]
    total: int
    total_bytes: int
    def __init__(self, objects: _Optional[_Iterable[_Union[ObjectInfo, _Mapping]]] = ..., total: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class DeleteObjectsRequest(_message.Message):
    __slots__ = ("object_ids",)
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, object_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DeleteObjectsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HoldObjectsRequest(_message.Message):
    __slots__ = ("session_id", "object_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[str] = ..., object_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HoldObjectsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseObjectsRequest(_message.Message):
    __slots__ = ("session_id", "object_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    object_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[str] = ..., object_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReleaseObjectsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PinObjectRequest(_message.Message):
    __slots__ = ("object_id", "name", "ttl")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    name: str
    ttl: _duration_pb2.Duration
    def __init__(self, object_id: _Optional[bytes] = ..., name: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PinObjectResponse(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: ObjectInfo
    def __init__(self, object: _Optional[_Union[ObjectInfo, _Mapping]] = ...) -> None: ...

class UnpinObjectRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnpinObjectResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointObjectRequest(_message.Message):
    __slots__ = ("object_id", "folder")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    object_id: bytes
    folder: str
    def __init__(self, object_id: _Optional[bytes] = ..., folder: _Optional[str] = ...) -> None: ...

class CheckpointObjectResponse(_message.Message):
    __slots__ = ("uri", "object")
    URI_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    uri: str
    object: ObjectInfo
    def __init__(self, uri: _Optional[str] = ..., object: _Optional[_Union[ObjectInfo, _Mapping]] = ...) -> None: ...

class RestoreObjectRequest(_message.Message):
    __slots__ = ("uri", "session_id", "domain")
    URI_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    uri: str
    session_id: str
    domain: str
    def __init__(self, uri: _Optional[str] = ..., session_id: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class RestoreObjectResponse(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: ObjectInfo
    def __init__(self, object: _Optional[_Union[ObjectInfo, _Mapping]] = ...) -> None: ...

class GetObjectStoreUsageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetObjectStoreUsageResponse(_message.Message):
    __slots__ = ("stores",)
    STORES_FIELD_NUMBER: _ClassVar[int]
    stores: _containers.RepeatedCompositeFieldContainer[NodeObjectStore]
    def __init__(self, stores: _Optional[_Iterable[_Union[NodeObjectStore, _Mapping]]] = ...) -> None: ...

class NodeObjectStore(_message.Message):
    __slots__ = ("store", "usage", "owners")
    STORE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    store: _object_pb2.ObjectStoreAddress
    usage: _object_pb2.ObjectStoreUsage
    owners: _containers.RepeatedCompositeFieldContainer[OwnerUsage]
    def __init__(self, store: _Optional[_Union[_object_pb2.ObjectStoreAddress, _Mapping]] = ..., usage: _Optional[_Union[_object_pb2.ObjectStoreUsage, _Mapping]] = ..., owners: _Optional[_Iterable[_Union[OwnerUsage, _Mapping]]] = ...) -> None: ...

class OwnerUsage(_message.Message):
    __slots__ = ("owner", "objects", "size_bytes")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    owner: _object_pb2.ObjectOwner
    objects: int
    size_bytes: int
    def __init__(self, owner: _Optional[_Union[_object_pb2.ObjectOwner, _Mapping]] = ..., objects: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...
