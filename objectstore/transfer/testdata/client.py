"""Puts and gets tables at a Flight service: client.py ADDRESS ID. Exits with an error at the first difference."""

import datetime
import decimal
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

address, known = sys.argv[1:]
client = flight.connect("grpc://" + address)


def read(object_id):
    return client.do_get(flight.Ticket(object_id)).read_all()


def put(table, path=(), options=None):
    """Returns the object's id."""
    descriptor = flight.FlightDescriptor.for_path(*path)
    writer, reader = client.do_put(descriptor, table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        result = reader.read()
    return result.to_pybytes().decode()


def fails(kind, action):
    try:
        action()
    except kind as e:
        return str(e)
    raise AssertionError("no %s" % kind)


day = datetime.date(2024, 2, 29)
moment = datetime.datetime(2024, 2, 29, 12, 30, 1, 250000)
values = {
    pa.null(): [None, None, None],
    pa.bool_(): [True, None, False],
    pa.int8(): [-128, None, 127],
    pa.int16(): [-32768, None, 1],
    pa.int32(): [-1, None, 1],
    pa.int64(): [-1, None, 1 << 62],
    pa.uint8(): [0, None, 255],
    pa.uint16(): [0, None, 65535],
    pa.uint32(): [0, None, 1],
    pa.uint64(): [0, None, (1 << 64) - 1],
    pa.float16(): [0.5, None, 1.5],
    pa.float32(): [0.5, None, -0.0],
    pa.float64(): [0.5, None, float("inf")],
    pa.decimal128(20, 3): [decimal.Decimal("1.234"), None, decimal.Decimal("-5.000")],
    pa.decimal256(50, 3): [decimal.Decimal("1.234"), None, decimal.Decimal("-5.000")],
    pa.date32(): [day, None, day],
    pa.date64(): [day, None, day],
    pa.time32("s"): [datetime.time(1, 2, 3), None, datetime.time(0)],
    pa.time64("us"): [datetime.time(1, 2, 3, 4), None, datetime.time(0)],
    pa.timestamp("ms"): [moment, None, moment],
    pa.timestamp("ns", "Europe/Berlin"): [moment, None, moment],
    pa.duration("us"): [datetime.timedelta(seconds=1), None, datetime.timedelta(0)],
    pa.month_day_nano_interval(): [(1, 2, 3), None, (0, 0, 0)],
    pa.string(): ["a", None, "grün"],
    pa.large_string(): ["a", None, ""],
    pa.binary(): [b"a", None, b"\x00\xff"],
    pa.large_binary(): [b"a", None, b""],
    pa.string_view(): ["a", None, "longer than a view holds"],
    pa.binary_view(): [b"a", None, b""],
    pa.list_view(pa.int16()): [[1, 2], None, []],
    pa.binary(4): [b"abcd", None, b"0000"],
    pa.list_(pa.int32()): [[1, None], None, []],
    pa.large_list(pa.string()): [["x"], None, []],
    pa.list_(pa.float32(), 2): [[1, 2], None, [3, 4]],
    pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]): [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}],
    pa.map_(pa.string(), pa.int64()): [[("k", 1)], None, []],
    pa.dictionary(pa.int8(), pa.string()): ["red", None, "red"],
    pa.dictionary(pa.int32(), pa.int64()): [7, None, 9],
    pa.run_end_encoded(pa.int32(), pa.string()): ["a", "a", None],
}
columns, fields = [], []
for i, (type_, some) in enumerate(values.items()):
    if pa.types.is_run_end_encoded(type_):
        columns.append(pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])))
    elif pa.types.is_dictionary(type_):
        columns.append(pa.array(some, type_.value_type).dictionary_encode().cast(type_))
    else:
        columns.append(pa.array(some, type_))
    fields.append(pa.field("c%d" % i, type_, metadata={"of": str(i)}))
columns.append(pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]))
fields.append(pa.field("sparse", columns[-1].type))
columns.append(pa.UnionArray.from_dense(pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["a"])]))
fields.append(pa.field("dense", columns[-1].type))
table = pa.table(columns, schema=pa.schema(fields, metadata={"made": "here"}))

# Every column alone, so that a failure names its type, and then all of them, also sliced and in several batches.
for i, field in enumerate(table.schema):
    alone = table.select([i])
    back = read(put(alone))
    assert back.schema.equals(alone.schema, check_metadata=True), (field, back.schema)
    assert back.equals(alone), (field, back)
for made in (table, table.slice(1, 2), pa.concat_tables([table, table.slice(1), table.slice(2)]), table.slice(0, 0), table.select([1, 23]).schema.empty_table()):
    back = read(put(made))
    back.validate(full=True)
    assert back.schema.equals(made.schema, check_metadata=True)
    assert back.equals(made)
assert read(put(pa.table({}))).num_columns == 0

large = pa.table({"x": pa.array(range(2_000_000)), "s": pa.array([str(i % 1000) for i in range(2_000_000)])})
for compression in (None, "lz4", "zstd"):
    options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression=compression))
    assert read(put(large, options=options)).equals(large), compression
options = flight.FlightCallOptions(headers=[(b"engine-session", b"s1")])
mine = put(large, options=options)

ours = read(known)
again = put(ours)
assert again != known

info = client.get_flight_info(flight.FlightDescriptor.for_path(mine))
assert info.total_records == 2_000_000 and info.schema.equals(large.schema), info
assert read(info.endpoints[0].ticket.ticket).equals(large)
assert client.get_schema(flight.FlightDescriptor.for_command(mine)).schema.equals(large.schema)
listed = [i.descriptor.path[0].decode() for i in client.list_flights()]
assert known in listed and mine in listed, listed
(result,) = client.do_action(flight.Action("info", mine.encode()))
described = json.loads(result.body.to_pybytes())
assert described["owners"] == [{"kind": "session", "id": "s1"}], described
assert {a.type for a in client.list_actions()} == {"info", "checksum", "delete"}
list(client.do_action(flight.Action("delete", mine.encode())))
text = fails(pa.ArrowException, lambda: read(mine))
assert mine in text, text
text = fails(pa.ArrowException, lambda: put(large, (known,)))
assert known in text and "exists" in text, text
fails(pa.ArrowException, lambda: read("nonsense"))
if hasattr(pa, "decimal32"):
    # A type that the Arrow version of the other end does not know.
    text = fails(pa.ArrowException, lambda: put(pa.table({"v": pa.array([decimal.Decimal("1.2")], pa.decimal32(3, 1))})))
    print("unknown type:", text.splitlines()[0])
print("ok")
