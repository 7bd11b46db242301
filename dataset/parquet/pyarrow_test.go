package parquet_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/testenv"
)

// readBack checks a file of ours, and writes the same table again as pyarrow and others do.
const readBack = `
import sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
ours, theirs = sys.argv[1:]
f = pq.ParquetFile(ours)
t = f.read()
t.validate(full=True)
assert t.num_rows == 2000, t.num_rows
assert t.schema.field("timestamp").type == pa.timestamp("us"), t.schema
assert t.schema.field("zoned").type == pa.timestamp("ns", "Europe/Zurich"), t.schema
assert t.schema.field("embedding").type == pa.list_(pa.float32(), 4), t.schema
assert t.schema.field("string").type == pa.string(), t.schema
assert t.schema.metadata is None or set(t.schema.metadata) == {b"engine.job"}, t.schema.metadata
assert f.metadata.metadata[b"engine.job"] == b"j"
assert f.metadata.created_by.startswith("engine"), f.metadata.created_by
group = f.metadata.row_group(0)
for i in range(group.num_columns):
    c = group.column(i)
    name = c.path_in_schema.split(".")[0]
    values = t.column(name).slice(0, group.num_rows)
    if name in ("embedding", "numbers"):
        continue
    s = c.statistics
    assert s is not None, name
    assert s.null_count == values.null_count, (name, s)
    assert not s.has_distinct_count or s.distinct_count == len(pc.unique(values.drop_null())), (name, s)
    if name in ("id", "int32", "int64", "float32", "string", "bool"):
        m = pc.min_max(values).as_py()
        assert s.has_min_max and s.min == m["min"] and s.max == m["max"], (name, s, m)
    assert name in ("string", "float64", "id", "date") or "RLE_DICTIONARY" not in c.encodings, (name, c.encodings)
# What other writers leave: dictionaries, large types, other order, a pandas index, pages of version 2, several row groups.
t = t.select(list(reversed(t.column_names)))
i = t.schema.get_field_index("string")
t = t.set_column(i, "string", t.column("string").dictionary_encode())
i = t.schema.get_field_index("binary")
t = t.set_column(i, "binary", t.column("binary").cast(pa.large_binary()))
i = t.schema.get_field_index("numbers")
t = t.set_column(i, "numbers", t.column("numbers").cast(pa.large_list(pa.float64())))
t = t.replace_schema_metadata({"pandas": "{}", "more": "x"})
pq.write_table(t, theirs, row_group_size=700, data_page_version="2.0", compression="zstd", data_page_size=1000)
`

func TestPyArrow(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	for _, compression := range []string{"snappy", "zstd", "gzip", "lz4", "brotli", "none"} {
		t.Run(compression, func(t *testing.T) {
			ours, theirs := tempPath(t), filepath.Join(t.TempDir(), "theirs.parquet")
			record := newRecord(flatColumns(), 2000, 5, true, memory.DefaultAllocator)
			f := writeFile(t, ours, record.Schema(), []arrow.Record{record.NewSlice(0, 900), record.NewSlice(900, 2000)}, compression, map[string]string{"engine.job": "j"})
			if out, err := exec.CommandContext(t.Context(), python, "-c", readBack, ours, theirs).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			layout := plan(t, dataset.PlanOptions{TargetSplitBytes: 1}, f, statFile(t, theirs))
			if len(layout.Splits) != 4 {
				t.Fatalf("%d splits, want 1 and 3", len(layout.Splits))
			}
			var got []arrow.Record
			for _, split := range layout.Splits[1:] {
				part, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 333})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, part...)
			}
			mustEqual(t, concat(t, got), concat(t, []arrow.Record{record}))
		})
	}
}

// TestPyArrowOutputs lets pyarrow read what models put out, and write it again.
func TestPyArrowOutputs(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import json, sys
import pyarrow as pa, pyarrow.parquet as pq
f = pq.ParquetFile(sys.argv[1])
t = f.read()
t.validate(full=True)
types = {"utf8": pa.string()}
for i, field in enumerate(t.schema):
    what, name = field.name.split(" ")
    element = types.get(name) or pa.type_for_alias(name)
    if what in ("any", "open"):
        assert pa.types.is_list(field.type), field
    else:
        assert pa.types.is_fixed_size_list(field.type) and field.type.list_size == 3, field
    assert field.type.value_type == element, field
    assert field.nullable == (what not in ("output", "items")), field
    column = f.schema.column(i)
    assert column.max_repetition_level == 1, column
    assert column.max_definition_level == 1 + field.nullable + (what in ("items", "both", "any")), column
    assert field.type.value_field.nullable == (what in ("items", "both", "any")), field
def exact(v):
    if isinstance(v, list):
        return [exact(e) for e in v]
    return str(v) if type(v) is int else v
json.dump({n: exact(t.column(n).to_pylist()) for n in t.column_names}, open(sys.argv[3], "w"))
pq.write_table(t, sys.argv[2], row_group_size=100, store_schema=True)
`
	record := newRecord(outputColumns(), 500, 5, true, memory.DefaultAllocator)
	ours, theirs, values := tempPath(t), filepath.Join(t.TempDir(), "theirs.parquet"), filepath.Join(t.TempDir(), "values.json")
	f := writeFile(t, ours, record.Schema(), []arrow.Record{record}, "snappy", nil)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, ours, theirs, values).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	var lists map[string]json.RawMessage
	if err := json.Unmarshal(text, &lists); err != nil {
		t.Fatal(err)
	}
	for i, field := range record.Schema().Fields() {
		builder := array.NewBuilder(memory.DefaultAllocator, field.Type)
		if err := builder.UnmarshalJSON(lists[field.Name]); err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		if got := ofType(builder.NewArray(), field.Type); !array.Equal(got, record.Column(i)) {
			t.Errorf("%s: pyarrow reads %v, want %v", field, got, record.Column(i))
		}
	}
	layout := plan(t, dataset.PlanOptions{TargetSplitBytes: 1}, f, statFile(t, theirs))
	if !layout.Schema.Equal(record.Schema()) {
		t.Errorf("schema %s, want %s", layout.Schema, record.Schema())
	}
	var got []arrow.Record
	for _, split := range layout.Splits[1:] {
		part, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 77})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
	}
	mustEqual(t, concat(t, got), record)
}

// TestPyArrowNested lets pyarrow read the types that pass through.
func TestPyArrowNested(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import sys
import pyarrow as pa, pyarrow.parquet as pq
t = pq.read_table(sys.argv[1])
t.validate(full=True)
assert t.schema.field("when").type == pa.timestamp("us"), t.schema
pq.write_table(t, sys.argv[2], row_group_size=100)
`
	columns := append(nestedColumns(), flatColumns()[13])
	when := flatColumns()[9]
	when.field.Name = "when"
	columns = append(columns, when)
	record := newRecord(columns, 500, 5, true, memory.DefaultAllocator)
	ours, theirs := tempPath(t), filepath.Join(t.TempDir(), "theirs.parquet")
	f := writeFile(t, ours, record.Schema(), []arrow.Record{record}, "snappy", nil)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, ours, theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	layout := plan(t, dataset.PlanOptions{}, f, statFile(t, theirs))
	for _, split := range layout.Splits {
		got, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 77})
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, concat(t, got), concat(t, []arrow.Record{record}))
	}
}
