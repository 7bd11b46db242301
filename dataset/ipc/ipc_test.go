package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	arrowipc "github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/ipc"
	"github.com/f708428e/engine/internal/testenv"
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "bool", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "float", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
	{Name: "vector", Type: arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32)},
	{Name: "when", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
}, nil)

// newRecord makes rows of random values; id counts from first.
func newRecord(rows, first int, seed uint64) arrow.Record {
	random := rand.New(rand.NewPCG(seed, 1))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	null := func() bool { return random.IntN(7) == 0 }
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(first + i))
		for _, field := range b.Fields()[1:] {
			if _, isVector := field.(*array.FixedSizeListBuilder); !isVector && null() {
				field.AppendNull()
				continue
			}
			switch f := field.(type) {
			case *array.BooleanBuilder:
				f.Append(random.IntN(2) == 0)
			case *array.Float64Builder:
				f.Append(random.NormFloat64())
			case *array.StringBuilder:
				f.Append(strings.Repeat("é", random.IntN(9)))
			case *array.ListBuilder:
				f.Append(true)
				for range random.IntN(4) {
					f.ValueBuilder().(*array.Float64Builder).Append(random.Float64())
				}
			case *array.FixedSizeListBuilder:
				f.Append(true)
				for range 3 {
					f.ValueBuilder().(*array.Float32Builder).Append(random.Float32())
				}
			case *array.TimestampBuilder:
				f.Append(arrow.Timestamp(random.Int64N(1e15)))
			}
		}
	}
	return b.NewRecord()
}

// write writes slices of records with our sink.
func write(t testing.TB, path string, options ipc.SinkOptions, records ...arrow.Record) dataset.File {
	t.Helper()
	sink, err := ipc.NewSink(options)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := sink.Create(&out, schema, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for from := int64(0); from < r.NumRows(); from += 300 {
			piece := r.NewSlice(from, min(from+300, r.NumRows()))
			if err := w.Write(context.Background(), piece); err != nil {
				t.Fatal(err)
			}
			piece.Release()
		}
	}
	if err := errors.Join(w.Finish(nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	return put(t, path, out.Bytes())
}

func put(t testing.TB, path string, content []byte) dataset.File {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return stat(t, path)
}

func stat(t testing.TB, path string) dataset.File {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}

// read returns all rows of files, each as text, and how many splits there were.
func read(t testing.TB, target int64, options dataset.ReadOptions, files ...dataset.File) (rows []string, splits int, err error) {
	t.Helper()
	source := ipc.NewSource()
	layout, err := source.Plan(context.Background(), files, dataset.PlanOptions{TargetSplitBytes: target})
	if err != nil {
		return nil, 0, err
	}
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options.Schema, options.Allocator = layout.Schema, allocator
	if options.BatchBytes == 0 {
		options.BatchBytes = 1 << 30
	}
	for _, split := range layout.Splits {
		if err := readSplit(t, source, split, options, &rows); err != nil {
			return rows, 0, err
		}
	}
	return rows, len(layout.Splits), nil
}

func readSplit(t testing.TB, source *ipc.Source, split dataset.Split, options dataset.ReadOptions, rows *[]string) (err error) {
	r, err := source.Open(context.Background(), split, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		record, err := r.Read(context.Background())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if record.NumRows() > options.BatchRows {
			t.Errorf("a record batch of %d rows", record.NumRows())
		}
		*rows = append(*rows, texts(record)...)
		record.Release()
	}
}

func texts(record arrow.Record) []string {
	rows := make([]string, record.NumRows())
	for i := range rows {
		var values []string
		for j, c := range record.Columns() {
			values = append(values, record.ColumnName(j)+"="+valueText(c, i))
		}
		rows[i] = strings.Join(values, " ")
	}
	return rows
}

// valueText is a value as text. Of a list that holds a NaN, for which arrow panics, it is what arrow says.
func valueText(values arrow.Array, row int) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	return values.ValueStr(row)
}

func wantRows(t testing.TB, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("row %d is %s, want %s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
}

func TestRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	record := newRecord(2000, 0, seed)
	want := texts(record)
	for _, options := range []ipc.SinkOptions{{}, {Stream: true}, {Compression: "lz4"}, {Compression: "zstd", Stream: true}, {Compression: "none"}} {
		path := filepath.Join(t.TempDir(), "a.arrow")
		file := write(t, path, options, record)
		for _, target := range []int64{0, 1, 30_000} {
			got, splits, err := read(t, target, dataset.ReadOptions{BatchRows: 170}, file)
			if err != nil {
				t.Fatal(err)
			}
			wantRows(t, got, want)
			if wantSplits := map[int64]int{0: 1, 1: 7}[target]; wantSplits > 0 && splits != wantSplits {
				t.Errorf("%+v: %d splits, want %d", options, splits, wantSplits)
			}
		}
		got, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 10_000, Columns: []int{0, 3}}, file)
		if err != nil || !strings.HasPrefix(got[7], "id=7 text=") || strings.Contains(got[7], "float") {
			t.Errorf("%v, %v", got[7], err)
		}
		empty := write(t, path, options)
		if got, splits, err := read(t, 0, dataset.ReadOptions{BatchRows: 1}, empty); err != nil || len(got) != 0 || splits != 1 {
			t.Errorf("%+v, no rows: %d rows in %d splits, %v", options, len(got), splits, err)
		}
	}
}

// TestPyArrow lets pyarrow read our files, and write the same table in all the ways that others write it.
func TestPyArrow(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import sys
import pyarrow as pa, pyarrow.ipc as ipc, pyarrow.feather as feather
folder, = sys.argv[1:]
tables = []
for name in ("file", "file-lz4", "file-zstd"):
    tables.append(feather.read_table(f"{folder}/{name}.arrow", memory_map=False))
for name in ("stream", "stream-lz4", "stream-zstd"):
    tables.append(ipc.open_stream(f"{folder}/{name}.arrow").read_all())
for found in tables:
    found.validate(full=True)
    assert found.num_rows == 1000 and found.equals(tables[0]), found
t = tables[0]
text = t.schema.get_field_index("text")
dictionary = t.set_column(text, "text", t.column("text").dictionary_encode())
large = t.set_column(text, "text", t.column("text").cast(pa.large_string()))
variants = {"plain": t, "dictionary": dictionary, "large": large,
    "reversed": t.select(list(reversed(t.column_names))).replace_schema_metadata({"pandas": "{}"})}
if hasattr(pa, "string_view"):
    variants["view"] = t.set_column(text, "text", t.column("text").cast(pa.string_view()))
for name, table in variants.items():
    for codec in (None, "lz4", "zstd"):
        o = ipc.IpcWriteOptions(compression=codec, emit_dictionary_deltas=True)
        with ipc.new_stream(f"{folder}/theirs-{name}-{codec}.arrows", table.schema, options=o) as w:
            w.write_table(table, max_chunksize=111)
        with ipc.new_file(f"{folder}/theirs-{name}-{codec}.feather", table.schema, options=ipc.IpcWriteOptions(compression=codec)) as w:
            w.write_table(table.unify_dictionaries(), max_chunksize=222)
`
	record := newRecord(1000, 0, 7)
	dir := t.TempDir()
	for _, stream := range []bool{false, true} {
		for _, compression := range []string{"", "lz4", "zstd"} {
			name := map[bool]string{false: "file", true: "stream"}[stream]
			if compression != "" {
				name += "-" + compression
			}
			write(t, filepath.Join(dir, name+".arrow"), ipc.SinkOptions{Stream: stream, Compression: compression}, record)
		}
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs, err := filepath.Glob(filepath.Join(dir, "theirs-*"))
	if err != nil || len(theirs) < 24 {
		t.Fatalf("%d files, %v", len(theirs), err)
	}
	ours := stat(t, filepath.Join(dir, "file.arrow"))
	want := texts(record)
	for _, path := range theirs {
		got, _, err := read(t, 1, dataset.ReadOptions{BatchRows: 99}, ours, stat(t, path))
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
			continue
		}
		wantRows(t, got[len(want):], want)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(write(t, filepath.Join(dir, "a.arrow"), ipc.SinkOptions{}, newRecord(100, 0, 1)).Path)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := os.ReadFile(write(t, filepath.Join(dir, "a.arrows"), ipc.SinkOptions{Stream: true}, newRecord(100, 0, 1)).Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		content []byte
		kind    engine.Kind
		want    string
	}{
		{"empty", nil, engine.KindData, "file is empty"},
		{"text", []byte("a,b\n1,2\n"), engine.KindData, `is not Arrow IPC: it begins with "a,b\n1,2\n"`},
		{"parquet", []byte("PAR1\x15\x04"), engine.KindData, "is a Parquet file"},
		{"feather 1", []byte("FEA1\x00\x00"), engine.KindData, "is a Feather file of version 1"},
		{"cut off file", whole[:len(whole)-20], engine.KindCorrupt, "is cut off: its footer is missing"},
		{"short file", whole[:9], engine.KindCorrupt, "is cut off: its footer is missing"},
		{"cut off stream", stream[:len(stream)-8], engine.KindCorrupt, "is cut off: the end of the stream is missing"},
		{"stream cut in a body", stream[:len(stream)-300], engine.KindCorrupt, "are left"},
		{"more behind a stream", append(bytes.Clone(stream), "more"...), engine.KindCorrupt, "4 bytes after the end of the stream"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 10}, put(t, filepath.Join(t.TempDir(), "x.arrow"), test.content))
			if engine.KindOf(err) != test.kind || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), "x.arrow") {
				t.Errorf("got %v (%v), want %s", err, engine.KindOf(err), test.want)
			}
		})
	}
	t.Run("other columns", func(t *testing.T) {
		other := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, {Name: "more", Type: arrow.PrimitiveTypes.Int8}}, nil)
		var out bytes.Buffer
		w := arrowipc.NewWriter(&out, arrowipc.WithSchema(other))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 10}, stat(t, filepath.Join(dir, "a.arrow")), put(t, filepath.Join(dir, "b.arrow"), out.Bytes()))
		for _, want := range []string{"b.arrow: its columns are not those of ", "a.arrow", `column "id" is string instead of int64`, `column "bool" (bool) is missing`, "differences"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
}

// TestCorrupt flips bits of files: reading ends with an error or with rows, and never in a panic.
func TestCorrupt(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	for _, options := range []ipc.SinkOptions{{}, {Stream: true, Compression: "lz4"}, {Compression: "zstd"}} {
		path := filepath.Join(dir, "a.arrow")
		whole, err := os.ReadFile(write(t, path, options, newRecord(50, 0, 1)).Path)
		if err != nil {
			t.Fatal(err)
		}
		for range 150 {
			broken := bytes.Clone(whole)
			for range 1 + random.IntN(3) {
				broken[random.IntN(len(broken))] ^= 1 << random.IntN(8)
			}
			_, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 10}, put(t, path, broken))
			if kind := engine.KindOf(err); err != nil && kind != engine.KindCorrupt && kind != engine.KindData {
				t.Fatalf("kind %v of %v", kind, err)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	for _, options := range []ipc.SinkOptions{{}, {Stream: true}, {Compression: "lz4"}} {
		content, err := os.ReadFile(write(f, filepath.Join(dir, "a.arrow"), options, newRecord(3, 0, 1)).Path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 10}, put(t, filepath.Join(t.TempDir(), "a.arrow"), content))
		if kind := engine.KindOf(err); err != nil && kind != engine.KindCorrupt && kind != engine.KindData {
			t.Fatalf("kind %v of %v", kind, err)
		}
	})
}

// BenchmarkRead compares with arrow's own reader.
func BenchmarkRead(b *testing.B) {
	record := newRecord(200_000, 0, 1)
	defer record.Release()
	file := write(b, filepath.Join(b.TempDir(), "a.arrow"), ipc.SinkOptions{}, record)
	source := ipc.NewSource()
	layout, err := source.Plan(b.Context(), []dataset.File{file}, dataset.PlanOptions{TargetSplitBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("engine", func(b *testing.B) {
		b.SetBytes(file.SizeBytes)
		for b.Loop() {
			r, err := source.Open(b.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 64 << 20, Allocator: memory.DefaultAllocator})
			if err != nil {
				b.Fatal(err)
			}
			for {
				record, err := r.Read(b.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				record.Release()
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("arrow", func(b *testing.B) {
		b.SetBytes(file.SizeBytes)
		for b.Loop() {
			f, err := os.Open(file.Path)
			if err != nil {
				b.Fatal(err)
			}
			r, err := arrowipc.NewFileReader(f, arrowipc.WithAllocator(memory.DefaultAllocator))
			if err != nil {
				b.Fatal(err)
			}
			for i := range r.NumRecords() {
				if _, err := r.Record(i); err != nil {
					b.Fatal(err)
				}
			}
			if err := errors.Join(r.Close(), f.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
