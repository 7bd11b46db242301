package parquet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
)

func TestRoundTrip(t *testing.T) {
	for _, compression := range []string{"", "snappy", "zstd", "gzip", "lz4", "brotli", "none"} {
		for _, nulls := range []bool{false, true} {
			for name, columns := range map[string][]column{"flat": flatColumns(), "nested": nestedColumns(), "outputs": outputColumns()} {
				if name == "outputs" && compression != "" {
					continue // many columns, of the same codecs
				}
				t.Run(fmt.Sprintf("%s/%s/nulls=%v", name, compression, nulls), func(t *testing.T) {
					var records []arrow.Record
					for i, rows := range []int{1000, 1, 0, 2345} {
						records = append(records, newRecord(columns, rows, int64(i), nulls, memory.DefaultAllocator))
					}
					// A slice has an offset in every column.
					records = append(records, records[0].NewSlice(13, 700))
					pairs := map[string]string{"engine.job": "j", "engine.rows": "4033"}
					f := writeFile(t, tempPath(t), records[0].Schema(), records, compression, pairs)
					layout := plan(t, dataset.PlanOptions{}, f)
					if !layout.Schema.Equal(records[0].Schema()) {
						t.Errorf("schema %s, want %s", layout.Schema, records[0].Schema())
					}
					got, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 512})
					if err != nil {
						t.Fatal(err)
					}
					mustEqual(t, concat(t, got), concat(t, records))
				})
			}
		}
	}
}

// TestOutputTypes writes and reads a row and none for each type of list by itself, and among columns that arrow writes.
func TestOutputTypes(t *testing.T) {
	for _, c := range outputColumns() {
		for _, columns := range [][]column{{c}, append(nestedColumns(), c)} {
			for _, rows := range []int{0, 1} {
				for _, nulls := range []bool{false, true} {
					want := newRecord(columns, rows, 1, nulls, memory.DefaultAllocator)
					f := writeFile(t, tempPath(t), want.Schema(), []arrow.Record{want}, "", nil)
					layout := plan(t, dataset.PlanOptions{}, f)
					got, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema})
					if err != nil {
						t.Fatalf("%s: %v", c.field, err)
					}
					last := len(columns) - 1
					// Beside columns that arrow writes, the file has elements that may be null.
					if rows > 0 && !array.Equal(ofType(got[0].Column(last), c.field.Type), want.Column(last)) {
						t.Errorf("%s: got %v, want %v", c.field, got[0].Column(last), want.Column(last))
					}
				}
			}
		}
	}
}

// TestFilesDisagreeOnNulls joins a file whose lists have no nulls and one whose lists do.
func TestFilesDisagreeOnNulls(t *testing.T) {
	for i, none := range outputColumns() {
		if i%6 != 0 {
			continue
		}
		some := outputColumns()[i+3]
		some.field.Name = none.field.Name
		var files []dataset.File
		var records []arrow.Record
		for i, c := range []column{none, some} {
			record := newRecord([]column{c}, 100, 1, true, memory.DefaultAllocator)
			records = append(records, newRecord([]column{{some.field, c.add}}, 100, 1, false, memory.DefaultAllocator))
			if i == 1 {
				records[i] = record
			}
			files = append(files, writeFile(t, tempPath(t), record.Schema(), []arrow.Record{record}, "", nil))
		}
		layout := plan(t, dataset.PlanOptions{}, files...)
		if !layout.Schema.Equal(records[1].Schema()) {
			t.Errorf("schema %s, want %s", layout.Schema, records[1].Schema())
		}
		for i, split := range layout.Splits {
			got, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema})
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, concat(t, got), records[i])
		}
	}
}

// TestRowGroups writes more rows than a row group holds.
func TestRowGroups(t *testing.T) {
	columns := flatColumns()[:1]
	var records []arrow.Record
	for i := range 7 {
		records = append(records, newRecord(columns, 100_000, int64(i), false, memory.DefaultAllocator))
	}
	f := writeFile(t, tempPath(t), records[0].Schema(), records, "none", nil)
	whole := plan(t, dataset.PlanOptions{}, f)
	if len(whole.Splits) != 1 || whole.Splits[0].RowGroups != 3 {
		t.Fatalf("splits %+v, want one of 3 row groups", whole.Splits)
	}
	layout := plan(t, dataset.PlanOptions{TargetSplitBytes: 1}, f)
	if len(layout.Splits) != 3 {
		t.Fatalf("splits %+v, want 3", layout.Splits)
	}
	var got []arrow.Record
	for i, split := range layout.Splits {
		if split.FirstRowGroup != i || split.RowGroups != 1 {
			t.Errorf("split %d is %+v", i, split)
		}
		part, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
	}
	mustEqual(t, concat(t, got), concat(t, records))
	// A batch goes over the border of row groups: 262,144 is no multiple of 30,000.
	got, err := readSplit(t, whole.Splits[0], dataset.ReadOptions{Schema: whole.Schema, BatchRows: 30_000})
	if err != nil {
		t.Fatal(err)
	}
	for i, record := range got {
		if want := min(30_000, 700_000-int64(i)*30_000); record.NumRows() != want {
			t.Errorf("batch %d has %d rows, want %d", i, record.NumRows(), want)
		}
	}
	mustEqual(t, concat(t, got), concat(t, records))
}

// TestBatches cuts the same file by rows and bytes and compares with a plain computation of the cuts.
func TestBatches(t *testing.T) {
	columns := flatColumns()
	want := newRecord(columns, 600, 7, true, memory.DefaultAllocator)
	f := writeFile(t, tempPath(t), want.Schema(), []arrow.Record{want}, "snappy", nil)
	layout := plan(t, dataset.PlanOptions{}, f)
	total := dataset.BatchSizeBytes(want)
	for _, rows := range []int64{1, 7, 100, 599, 600, 1 << 40} {
		for _, bytes := range []int64{1, 300, 5000, total / 3, total, 1 << 40} {
			got, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: rows, BatchBytes: bytes})
			if err != nil {
				t.Fatal(err)
			}
			at := int64(0)
			for i, batch := range got {
				if expect := dataset.BatchRowsWithin(want, at, rows, bytes); batch.NumRows() != expect {
					t.Fatalf("rows %d bytes %d: batch %d at row %d has %d rows, want %d", rows, bytes, i, at, batch.NumRows(), expect)
				}
				at += batch.NumRows()
			}
			mustEqual(t, concat(t, got), want)
		}
	}
}

func TestColumnsWhereAndBytesRead(t *testing.T) {
	record := newRecord(flatColumns(), 3000, 1, true, memory.DefaultAllocator)
	f := writeFile(t, tempPath(t), record.Schema(), []arrow.Record{record}, "none", nil)
	layout := plan(t, dataset.PlanOptions{}, f)
	got, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, Columns: []int{2, 6}})
	if err != nil {
		t.Fatal(err)
	}
	if names := got[0].Schema().Fields(); len(names) != 2 || names[0].Name != "int32" || names[1].Name != "string" {
		t.Errorf("columns %v", names)
	}
	none, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, Columns: []int{}})
	if err != nil {
		t.Fatal(err)
	}
	if len(none) != 1 || none[0].NumRows() != 3000 || none[0].NumCols() != 0 {
		t.Errorf("without columns: %v", none)
	}

	options := dataset.ReadOptions{Schema: layout.Schema, Columns: []int{2}, BatchRows: 1000, BatchBytes: 1 << 30, Allocator: memory.DefaultAllocator}
	r, err := parquet.NewSource().Open(t.Context(), layout.Splits[0], options)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		record, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record.Release()
	}
	if got, want := r.Where(5), f.Path+" row 1006"; got != want {
		t.Errorf("Where: %q, want %q", got, want)
	}
	if n := r.BytesRead(); n == 0 || n > f.SizeBytes/2 {
		t.Errorf("BytesRead: %d of %d for one column of %d", n, f.SizeBytes, len(flatColumns()))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); err == nil {
		t.Error("Read after Close succeeds")
	}
}

func TestFilesWithoutRows(t *testing.T) {
	schema := newRecord(flatColumns(), 0, 0, false, memory.DefaultAllocator).Schema()
	f := writeFile(t, tempPath(t), schema, nil, "", nil)
	layout := plan(t, dataset.PlanOptions{}, f)
	if len(layout.Splits) != 1 || layout.Splits[0].RowGroups != 0 || !layout.Schema.Equal(schema) {
		t.Errorf("layout %+v", layout)
	}
	got, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema})
	if err != nil || len(got) != 0 {
		t.Errorf("read %v, %v", got, err)
	}
}

func TestColumnsOfFiles(t *testing.T) {
	columns := flatColumns()
	write := func(name string, columns ...column) dataset.File {
		record := newRecord(columns, 10, 1, false, memory.DefaultAllocator)
		return writeFile(t, filepath.Join(t.TempDir(), name), record.Schema(), []arrow.Record{record}, "", nil)
	}
	a := write("a.parquet", columns[1], columns[2], columns[6])
	turned := write("turned.parquet", columns[6], columns[2], columns[1])
	layout := plan(t, dataset.PlanOptions{}, a, turned)
	first, err := readSplit(t, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema})
	if err != nil {
		t.Fatal(err)
	}
	second, err := readSplit(t, layout.Splits[1], dataset.ReadOptions{Schema: layout.Schema})
	if err != nil {
		t.Fatal(err)
	}
	if !first[0].Schema().Equal(second[0].Schema()) {
		t.Errorf("schemas %s and %s", first[0].Schema(), second[0].Schema())
	}

	other := columns[2]
	other.field.Type, other.add = columns[3].field.Type, columns[3].add
	b := write("b.parquet", other, columns[4], columns[6])
	_, err = parquet.NewSource().Plan(t.Context(), []dataset.File{a, b}, dataset.PlanOptions{})
	if engine.KindOf(err) != engine.KindData {
		t.Errorf("kind %v of %v", engine.KindOf(err), err)
	}
	for _, part := range []string{"b.parquet", "a.parquet", `column "bool" (bool) is missing`, `column "int32" is int64 instead of int32`, `column "float32" (float32) is extra`} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%v: lacks %q", err, part)
		}
	}
}

func TestMetadata(t *testing.T) {
	record := newRecord(flatColumns(), 77, 1, false, memory.DefaultAllocator)
	for name, columns := range map[string][]column{"flat": flatColumns(), "nested": nestedColumns()} {
		record := newRecord(columns, 77, 1, false, memory.DefaultAllocator)
		pairs := map[string]string{"engine.job": "20261123-1", "engine.attempt": "2", "empty": ""}
		f := writeFile(t, filepath.Join(t.TempDir(), "m.parquet"), record.Schema(), []arrow.Record{record}, "", pairs)
		sink, err := parquet.NewSink(parquet.SinkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := sink.Metadata(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		pairs["engine.rows"] = "77"
		if !maps.Equal(got, pairs) {
			t.Errorf("%s: got %v, want %v", name, got, pairs)
		}
	}
	f := writeFile(t, tempPath(t), record.Schema(), []arrow.Record{record}, "", map[string]string{"engine.rows": "given"})
	sink, _ := parquet.NewSink(parquet.SinkOptions{})
	if got, err := sink.Metadata(f.Path); err != nil || got["engine.rows"] != "given" {
		t.Errorf("got %v, %v", got, err)
	}
	if sink.Extension() != ".parquet" {
		t.Error(sink.Extension())
	}
}

func TestRefusals(t *testing.T) {
	if _, err := parquet.NewSink(parquet.SinkOptions{Compression: "lzma"}); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "brotli") {
		t.Errorf("lzma: %v", err)
	}
	record := newRecord(flatColumns(), 100, 1, false, memory.DefaultAllocator)
	f := writeFile(t, tempPath(t), record.Schema(), []arrow.Record{record}, "", nil)
	layout := plan(t, dataset.PlanOptions{}, f)
	options := dataset.ReadOptions{Schema: layout.Schema}

	changed := layout.Splits[0]
	changed.File.ModifiedUnixNanos++
	if _, err := readSplit(t, changed, options); engine.KindOf(err) != engine.KindData || !strings.Contains(fmt.Sprint(err), "changed") {
		t.Errorf("changed time: %v", err)
	}
	changed = layout.Splits[0]
	changed.File.SizeBytes++
	if _, err := readSplit(t, changed, options); engine.KindOf(err) != engine.KindData {
		t.Errorf("changed size: %v", err)
	}
	missing := dataset.File{Path: filepath.Join(t.TempDir(), "missing.parquet")}
	if _, err := parquet.NewSource().Plan(t.Context(), []dataset.File{missing}, dataset.PlanOptions{}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("missing: %v", err)
	}
	if _, err := parquet.NewSource().Plan(t.Context(), nil, dataset.PlanOptions{}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no files: %v", err)
	}
}

// failingWriter is a disk that gets full.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	return len(p), nil
}

// TestWriteErrors fails the underlying writer at every size: the error must reach the caller, at the latest in Finish.
func TestWriteErrors(t *testing.T) {
	for name, columns := range map[string][]column{"flat": flatColumns(), "nested": nestedColumns()} {
		record := newRecord(columns, 1000, 1, true, memory.DefaultAllocator)
		size := int(writeFile(t, filepath.Join(t.TempDir(), "x"), record.Schema(), []arrow.Record{record}, "", nil).SizeBytes)
		for left := 0; left < size; left += 1 + size/97 {
			allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
			sink, err := parquet.NewSink(parquet.SinkOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w, err := sink.Create(&failingWriter{left: left}, record.Schema(), allocator)
			if err == nil {
				err = w.Write(t.Context(), record)
				if finish := w.Finish(nil); err == nil {
					err = finish
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s: after %d bytes: %v", name, left, err)
			}
			allocator.AssertSize(t, 0)
		}
	}
}

// TestUnwritableType writes what arrow refuses only as it encodes it: a retry cannot help.
func TestUnwritableType(t *testing.T) {
	dictionaryType := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	words := array.NewStringBuilder(memory.DefaultAllocator)
	words.AppendValues([]string{"a", ""}, []bool{true, false})
	places := array.NewInt32Builder(memory.DefaultAllocator)
	places.AppendValues([]int32{0, 1}, nil)
	column := array.NewDictionaryArray(dictionaryType, places.NewArray(), words.NewArray())
	schema := arrow.NewSchema([]arrow.Field{{Name: "word", Type: dictionaryType, Nullable: true}}, nil)
	sink, err := parquet.NewSink(parquet.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Create(io.Discard, schema, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Write(t.Context(), array.NewRecord(schema, []arrow.Array{column}, 2))
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), `column "word"`) {
		t.Errorf("got %v of kind %s", err, engine.KindOf(err))
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestNullInRequiredElements refuses a record that breaks its own type's word.
func TestNullInRequiredElements(t *testing.T) {
	none, some := outputColumns()[0], outputColumns()[2]
	record := newRecord([]column{{none.field, some.add}}, 100, 1, false, memory.DefaultAllocator)
	sink, err := parquet.NewSink(parquet.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Create(io.Discard, record.Schema(), memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), record); engine.KindOf(err) != engine.KindInternal || !strings.Contains(fmt.Sprint(err), `column "output float32": a list has a null`) {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWriteRefusesOtherRecords(t *testing.T) {
	columns := flatColumns()
	record := newRecord(columns, 10, 1, true, memory.DefaultAllocator)
	for name, other := range map[string]arrow.Record{
		"fewer columns": newRecord(columns[1:], 10, 1, false, memory.DefaultAllocator),
		"other order":   newRecord(append(append([]column{}, columns[1:]...), columns[0]), 10, 1, false, memory.DefaultAllocator),
	} {
		sink, err := parquet.NewSink(parquet.SinkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := sink.Create(io.Discard, record.Schema(), memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(t.Context(), other); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := w.Finish(nil); err == nil {
			t.Errorf("%s: finished", name)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPoisonedPool looks for uses of freed memory and of memory that is expected to be clear.
func TestPoisonedPool(t *testing.T) {
	for _, columns := range [][]column{flatColumns(), nestedColumns()} {
		var records []arrow.Record
		for i := range 15 { // more than a page of numbers
			records = append(records, newRecord(columns, 9_000, int64(i), i%2 == 0, memory.DefaultAllocator))
		}
		var want []byte
		t.Cleanup(func() { parquet.PoisonPools(false) })
		for _, poison := range []bool{false, true} {
			parquet.PoisonPools(poison)
			path := tempPath(t)
			writeFile(t, path, records[0].Schema(), records, "snappy", nil)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// Arrow lists a column's encodings in any order.
			got = got[:len(got)-8-int(binary.LittleEndian.Uint32(got[len(got)-8:]))]
			if want != nil && !bytes.Equal(got, want) {
				t.Errorf("poisoned memory changes the file: %d and %d bytes", len(got), len(want))
			}
			want = got
		}
	}
}

// peakAllocator remembers how much memory was held at most.
type peakAllocator struct {
	memory.Allocator
	held, peak int
}

func (a *peakAllocator) Allocate(size int) []byte {
	a.held += size
	a.peak = max(a.peak, a.held)
	return a.Allocator.Allocate(size)
}

func (a *peakAllocator) Free(b []byte) {
	a.held -= len(b)
	a.Allocator.Free(b)
}

// TestWriterMemory writes many small batches: they share row groups, and no more than one of those is in memory.
func TestWriterMemory(t *testing.T) {
	var columns []column
	for i := range 4 {
		c := flatColumns()[3]
		c.field.Name = fmt.Sprint(i)
		columns = append(columns, c)
	}
	record := newRecord(columns, 10_000, 1, false, memory.DefaultAllocator)
	allocator := &peakAllocator{Allocator: memory.NewGoAllocator()}
	sink, err := parquet.NewSink(parquet.SinkOptions{Compression: "none"})
	if err != nil {
		t.Fatal(err)
	}
	path := tempPath(t)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Create(f, record.Schema(), allocator)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := w.Write(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(nil), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	layout := plan(t, dataset.PlanOptions{}, statFile(t, path))
	if groups := layout.Splits[0].RowGroups; groups != 4 {
		t.Errorf("%d row groups for 1,000,000 rows", groups)
	}
	// A column chunk lies in a buffer that doubles as it grows, beside the old one.
	if group := 4 * 8 << 18; allocator.peak > 5*group || allocator.held != 0 {
		t.Errorf("%d bytes held at most for a row group of %d, %d in the end", allocator.peak, group, allocator.held)
	}
	t.Logf("peak %d", allocator.peak)
}
