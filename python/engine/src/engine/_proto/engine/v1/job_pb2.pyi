from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobSpec(_message.Message):
    __slots__ = ("name", "source", "batch", "steps", "sink", "resources", "retry", "timeout", "labels", "queue", "priority", "placement", "isolation", "on_bad_row", "sinks", "cache", "orphan_ttl")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SinksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Sink
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Sink, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SINK_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    ON_BAD_ROW_FIELD_NUMBER: _ClassVar[int]
    SINKS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_TTL_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: Source
    batch: Batch
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    sink: Sink
    resources: Resources
    retry: Retry
    timeout: str
    labels: _containers.ScalarMap[str, str]
    queue: str
    priority: int
    placement: Placement
    isolation: str
    on_bad_row: BadRows
    sinks: _containers.MessageMap[str, Sink]
    cache: str
    orphan_ttl: str
    def __init__(self, name: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., sink: _Optional[_Union[Sink, _Mapping]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., retry: _Optional[_Union[Retry, _Mapping]] = ..., timeout: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., isolation: _Optional[str] = ..., on_bad_row: _Optional[_Union[BadRows, _Mapping]] = ..., sinks: _Optional[_Mapping[str, Sink]] = ..., cache: _Optional[str] = ..., orphan_ttl: _Optional[str] = ...) -> None: ...

class BadRows(_message.Message):
    __slots__ = ("action", "path", "limit", "share", "s3")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    S3_FIELD_NUMBER: _ClassVar[int]
    action: str
    path: str
    limit: int
    share: float
    s3: S3Credentials
    def __init__(self, action: _Optional[str] = ..., path: _Optional[str] = ..., limit: _Optional[int] = ..., share: _Optional[float] = ..., s3: _Optional[_Union[S3Credentials, _Mapping]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("node_labels",)
    class NodeLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_LABELS_FIELD_NUMBER: _ClassVar[int]
    node_labels: _containers.ScalarMap[str, str]
    def __init__(self, node_labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("csv", "parquet", "object", "json", "arrow", "postgres", "s3")
    CSV_FIELD_NUMBER: _ClassVar[int]
    PARQUET_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    POSTGRES_FIELD_NUMBER: _ClassVar[int]
    S3_FIELD_NUMBER: _ClassVar[int]
    csv: CsvSource
    parquet: ParquetSource
    object: ObjectSource
    json: JsonSource
    arrow: ArrowSource
    postgres: PostgresSource
    s3: S3Credentials
    def __init__(self, csv: _Optional[_Union[CsvSource, _Mapping]] = ..., parquet: _Optional[_Union[ParquetSource, _Mapping]] = ..., object: _Optional[_Union[ObjectSource, _Mapping]] = ..., json: _Optional[_Union[JsonSource, _Mapping]] = ..., arrow: _Optional[_Union[ArrowSource, _Mapping]] = ..., postgres: _Optional[_Union[PostgresSource, _Mapping]] = ..., s3: _Optional[_Union[S3Credentials, _Mapping]] = ...) -> None: ...

class S3Credentials(_message.Message):
    __slots__ = ("access_key_id", "secret_access_key", "session_token")
    ACCESS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_ACCESS_KEY_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    access_key_id: str
    secret_access_key: str
    session_token: str
    def __init__(self, access_key_id: _Optional[str] = ..., secret_access_key: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...

class CsvSource(_message.Message):
    __slots__ = ("paths", "delimiter", "header", "quote", "nulls", "columns", "union")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UNION_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    delimiter: str
    header: bool
    quote: str
    nulls: _containers.RepeatedScalarFieldContainer[str]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    union: bool
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., delimiter: _Optional[str] = ..., header: bool = ..., quote: _Optional[str] = ..., nulls: _Optional[_Iterable[str]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., union: bool = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class ParquetSource(_message.Message):
    __slots__ = ("paths", "union")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    UNION_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    union: bool
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., union: bool = ...) -> None: ...

class JsonSource(_message.Message):
    __slots__ = ("paths", "columns", "unknown_keys")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_KEYS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    unknown_keys: str
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., unknown_keys: _Optional[str] = ...) -> None: ...

class ArrowSource(_message.Message):
    __slots__ = ("paths", "union")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    UNION_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    union: bool
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., union: bool = ...) -> None: ...

class ObjectSource(_message.Message):
    __slots__ = ("refs",)
    REFS_FIELD_NUMBER: _ClassVar[int]
    refs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, refs: _Optional[_Iterable[str]] = ...) -> None: ...

class PostgresSource(_message.Message):
    __slots__ = ("url", "query", "table", "columns", "partition_column", "splits", "lower", "upper", "timeout", "password")
    URL_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PARTITION_COLUMN_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    url: str
    query: str
    table: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    partition_column: str
    splits: int
    lower: str
    upper: str
    timeout: str
    password: str
    def __init__(self, url: _Optional[str] = ..., query: _Optional[str] = ..., table: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., partition_column: _Optional[str] = ..., splits: _Optional[int] = ..., lower: _Optional[str] = ..., upper: _Optional[str] = ..., timeout: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("rows", "bytes")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    bytes: str
    def __init__(self, rows: _Optional[int] = ..., bytes: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("infer", "select", "rename", "cast", "embed", "filter", "one_hot", "index", "scale", "map", "split")
    INFER_FIELD_NUMBER: _ClassVar[int]
    SELECT_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    EMBED_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    WITH_FIELD_NUMBER: _ClassVar[int]
    ONE_HOT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    infer: InferStep
    select: SelectStep
    rename: RenameStep
    cast: CastStep
    embed: EmbedStep
    filter: FilterStep
    one_hot: OneHotStep
    index: IndexStep
    scale: ScaleStep
    map: MapStep
    split: SplitStep
    def __init__(self, infer: _Optional[_Union[InferStep, _Mapping]] = ..., select: _Optional[_Union[SelectStep, _Mapping]] = ..., rename: _Optional[_Union[RenameStep, _Mapping]] = ..., cast: _Optional[_Union[CastStep, _Mapping]] = ..., embed: _Optional[_Union[EmbedStep, _Mapping]] = ..., filter: _Optional[_Union[FilterStep, _Mapping]] = ..., one_hot: _Optional[_Union[OneHotStep, _Mapping]] = ..., index: _Optional[_Union[IndexStep, _Mapping]] = ..., scale: _Optional[_Union[ScaleStep, _Mapping]] = ..., map: _Optional[_Union[MapStep, _Mapping]] = ..., split: _Optional[_Union[SplitStep, _Mapping]] = ..., **kwargs) -> None: ...

class SplitStep(_message.Message):
    __slots__ = ("parts", "by", "seed")
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PARTS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.ScalarMap[str, float]
    by: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    def __init__(self, parts: _Optional[_Mapping[str, float]] = ..., by: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ...) -> None: ...

class FilterStep(_message.Message):
    __slots__ = ("where",)
    WHERE_FIELD_NUMBER: _ClassVar[int]
    where: str
    def __init__(self, where: _Optional[str] = ...) -> None: ...

class WithStep(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.ScalarMap[str, str]
    def __init__(self, columns: _Optional[_Mapping[str, str]] = ...) -> None: ...

class OneHotStep(_message.Message):
    __slots__ = ("columns", "fitted")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FITTED_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[CategoryColumn]
    fitted: str
    def __init__(self, columns: _Optional[_Iterable[_Union[CategoryColumn, _Mapping]]] = ..., fitted: _Optional[str] = ...) -> None: ...

class IndexStep(_message.Message):
    __slots__ = ("columns", "fitted")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FITTED_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[CategoryColumn]
    fitted: str
    def __init__(self, columns: _Optional[_Iterable[_Union[CategoryColumn, _Mapping]]] = ..., fitted: _Optional[str] = ...) -> None: ...

class CategoryColumn(_message.Message):
    __slots__ = ("name", "categories", "unknown", "order")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    unknown: str
    order: str
    def __init__(self, name: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., unknown: _Optional[str] = ..., order: _Optional[str] = ...) -> None: ...

class ScaleStep(_message.Message):
    __slots__ = ("columns", "fitted")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FITTED_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[ScaledColumn]
    fitted: str
    def __init__(self, columns: _Optional[_Iterable[_Union[ScaledColumn, _Mapping]]] = ..., fitted: _Optional[str] = ...) -> None: ...

class ScaledColumn(_message.Message):
    __slots__ = ("name", "mean", "std", "min", "max", "method")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    name: str
    mean: float
    std: float
    min: float
    max: float
    method: str
    def __init__(self, name: _Optional[str] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., method: _Optional[str] = ...) -> None: ...

class MapStep(_message.Message):
    __slots__ = ("operator", "params")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    operator: str
    params: _struct_pb2.Struct
    def __init__(self, operator: _Optional[str] = ..., params: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class InferStep(_message.Message):
    __slots__ = ("model", "output", "outputs", "inputs", "batch")
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    model: str
    output: str
    outputs: _containers.ScalarMap[str, str]
    inputs: _containers.RepeatedScalarFieldContainer[str]
    batch: ModelBatch
    def __init__(self, model: _Optional[str] = ..., output: _Optional[str] = ..., outputs: _Optional[_Mapping[str, str]] = ..., inputs: _Optional[_Iterable[str]] = ..., batch: _Optional[_Union[ModelBatch, _Mapping]] = ...) -> None: ...

class ModelBatch(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    def __init__(self, rows: _Optional[int] = ...) -> None: ...

class EmbedStep(_message.Message):
    __slots__ = ("model", "text", "output", "normalize", "max_tokens", "prompt", "batch", "nan")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    NAN_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: _containers.RepeatedScalarFieldContainer[str]
    output: str
    normalize: str
    max_tokens: int
    prompt: str
    batch: EmbedBatch
    nan: str
    def __init__(self, model: _Optional[str] = ..., text: _Optional[_Iterable[str]] = ..., output: _Optional[str] = ..., normalize: _Optional[str] = ..., max_tokens: _Optional[int] = ..., prompt: _Optional[str] = ..., batch: _Optional[_Union[EmbedBatch, _Mapping]] = ..., nan: _Optional[str] = ...) -> None: ...

class EmbedBatch(_message.Message):
    __slots__ = ("tokens", "rows")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    tokens: str
    rows: int
    def __init__(self, tokens: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class SelectStep(_message.Message):
    __slots__ = ("columns",)
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, columns: _Optional[_Iterable[str]] = ...) -> None: ...

class RenameStep(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.ScalarMap[str, str]
    def __init__(self, columns: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CastStep(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.ScalarMap[str, str]
    def __init__(self, columns: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Sink(_message.Message):
    __slots__ = ("parquet", "object", "csv", "json", "arrow", "postgres", "s3")
    PARQUET_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CSV_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    POSTGRES_FIELD_NUMBER: _ClassVar[int]
    S3_FIELD_NUMBER: _ClassVar[int]
    parquet: ParquetSink
    object: ObjectSink
    csv: CsvSink
    json: JsonSink
    arrow: ArrowSink
    postgres: PostgresSink
    s3: S3Credentials
    def __init__(self, parquet: _Optional[_Union[ParquetSink, _Mapping]] = ..., object: _Optional[_Union[ObjectSink, _Mapping]] = ..., csv: _Optional[_Union[CsvSink, _Mapping]] = ..., json: _Optional[_Union[JsonSink, _Mapping]] = ..., arrow: _Optional[_Union[ArrowSink, _Mapping]] = ..., postgres: _Optional[_Union[PostgresSink, _Mapping]] = ..., s3: _Optional[_Union[S3Credentials, _Mapping]] = ...) -> None: ...

class ObjectSink(_message.Message):
    __slots__ = ("name", "checkpoint", "ttl")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    name: str
    checkpoint: str
    ttl: str
    def __init__(self, name: _Optional[str] = ..., checkpoint: _Optional[str] = ..., ttl: _Optional[str] = ...) -> None: ...

class ParquetSink(_message.Message):
    __slots__ = ("path", "mode", "compression", "files", "partition_by", "file_size")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    FILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    path: str
    mode: str
    compression: str
    files: int
    partition_by: _containers.RepeatedScalarFieldContainer[str]
    file_size: str
    def __init__(self, path: _Optional[str] = ..., mode: _Optional[str] = ..., compression: _Optional[str] = ..., files: _Optional[int] = ..., partition_by: _Optional[_Iterable[str]] = ..., file_size: _Optional[str] = ...) -> None: ...

class CsvSink(_message.Message):
    __slots__ = ("path", "mode", "files", "delimiter", "header", "partition_by", "file_size", "compression")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    FILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    path: str
    mode: str
    files: int
    delimiter: str
    header: bool
    partition_by: _containers.RepeatedScalarFieldContainer[str]
    file_size: str
    compression: str
    def __init__(self, path: _Optional[str] = ..., mode: _Optional[str] = ..., files: _Optional[int] = ..., delimiter: _Optional[str] = ..., header: bool = ..., partition_by: _Optional[_Iterable[str]] = ..., file_size: _Optional[str] = ..., compression: _Optional[str] = ...) -> None: ...

class JsonSink(_message.Message):
    __slots__ = ("path", "mode", "files", "partition_by", "file_size", "compression")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    FILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    path: str
    mode: str
    files: int
    partition_by: _containers.RepeatedScalarFieldContainer[str]
    file_size: str
    compression: str
    def __init__(self, path: _Optional[str] = ..., mode: _Optional[str] = ..., files: _Optional[int] = ..., partition_by: _Optional[_Iterable[str]] = ..., file_size: _Optional[str] = ..., compression: _Optional[str] = ...) -> None: ...

class ArrowSink(_message.Message):
    __slots__ = ("path", "mode", "files", "format", "compression", "partition_by", "file_size")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    FILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    path: str
    mode: str
    files: int
    format: str
    compression: str
    partition_by: _containers.RepeatedScalarFieldContainer[str]
    file_size: str
    def __init__(self, path: _Optional[str] = ..., mode: _Optional[str] = ..., files: _Optional[int] = ..., format: _Optional[str] = ..., compression: _Optional[str] = ..., partition_by: _Optional[_Iterable[str]] = ..., file_size: _Optional[str] = ...) -> None: ...

class PostgresSink(_message.Message):
    __slots__ = ("url", "table", "mode", "create", "timeout", "password")
    URL_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    url: str
    table: str
    mode: str
    create: bool
    timeout: str
    password: str
    def __init__(self, url: _Optional[str] = ..., table: _Optional[str] = ..., mode: _Optional[str] = ..., create: bool = ..., timeout: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpu", "gpu", "memory", "gpu_memory", "custom")
    class CustomEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CPU_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    gpu: float
    memory: str
    gpu_memory: str
    custom: _containers.ScalarMap[str, float]
    def __init__(self, cpu: _Optional[float] = ..., gpu: _Optional[float] = ..., memory: _Optional[str] = ..., gpu_memory: _Optional[str] = ..., custom: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Retry(_message.Message):
    __slots__ = ("max_attempts",)
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    def __init__(self, max_attempts: _Optional[int] = ...) -> None: ...

class ColumnInfo(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...
