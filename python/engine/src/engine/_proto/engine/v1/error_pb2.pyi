from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class NotLeader(_message.Message):
    __slots__ = ("head_id", "address")
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    head_id: str
    address: str
    def __init__(self, head_id: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("kind", "operation", "id", "message", "hint")
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    operation: str
    id: str
    message: str
    hint: str
    def __init__(self, kind: _Optional[str] = ..., operation: _Optional[str] = ..., id: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...
