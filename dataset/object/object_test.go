package object_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/objectstore/table"
)

// shelf has objects in memory and counts those that are open.
type shelf struct {
	bytes  map[engine.ObjectID][]byte
	opened int
}

func (s *shelf) open(_ context.Context, id engine.ObjectID) (*table.Table, error) {
	data, ok := s.bytes[id]
	if !ok {
		return nil, engine.Errorf(engine.KindNotFound, "get object", id.String(), "no such object")
	}
	opened, err := table.Open(data, table.Options{Trusted: true, Release: func() { s.opened-- }})
	if err == nil {
		s.opened++
	}
	return opened, err
}

// add keeps records as an object.
func (s *shelf) add(t *testing.T, schema *arrow.Schema, records ...arrow.Record) object.Description {
	t.Helper()
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	if s.bytes == nil {
		s.bytes = map[engine.ObjectID][]byte{}
	}
	id := engine.NewObjectID()
	s.bytes[id] = data
	return object.Description{ID: id, Schema: schema, Rows: encoding.Rows(), Batches: encoding.Batches(), SizeBytes: encoding.SizeBytes()}
}

func field(name string, t arrow.DataType, nullable bool) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: nullable}
}

var testSchema = arrow.NewSchema([]arrow.Field{
	field("n", arrow.PrimitiveTypes.Int64, false), field("text", arrow.BinaryTypes.String, true), field("x", arrow.PrimitiveTypes.Float64, true),
}, nil)

// batch makes rows of testSchema numbered from first.
func batch(alloc memory.Allocator, first, rows int) arrow.Record {
	b := array.NewRecordBuilder(alloc, testSchema)
	defer b.Release()
	for i := first; i < first+rows; i++ {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%5 == 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(strings.Repeat("x", i%17))
		}
		b.Field(2).(*array.Float64Builder).Append(float64(i) / 3)
	}
	return b.NewRecord()
}

func TestParseName(t *testing.T) {
	id := engine.NewObjectID()
	for _, test := range []struct {
		text string
		want object.Name
	}{
		{id.String(), object.Name{Ref: engine.ObjectRef{ID: id}}},
		{id.String() + "@20261123-142330-7f3k2m9q", object.Name{Ref: engine.ObjectRef{ID: id, Cluster: "20261123-142330-7f3k2m9q"}}},
		{"nightly/0", object.Name{Pin: "nightly/0"}},
		{"features@v2", object.Name{Pin: "features@v2"}},
		{id.String()[1:], object.Name{Pin: id.String()[1:]}},
		{"s3://bucket/prefix/x.arrows", object.Name{Checkpoint: "s3://bucket/prefix/x.arrows"}},
		{"s3://bucket/x.arrows?region=eu", object.Name{Checkpoint: "s3://bucket/x.arrows?region=eu"}},
		{"/kept/my file.arrows", object.Name{Checkpoint: "/kept/my file.arrows"}},
		{"kept/x.arrows", object.Name{Pin: "kept/x.arrows"}},
	} {
		name, err := object.ParseName(test.text)
		if err != nil || name != test.want || name.String() != test.text {
			t.Errorf("%q: %+v, %v", test.text, name, err)
		}
	}
	for _, text := range []string{"", "two words", "naïve", strings.Repeat("a", 201), id.String() + "@"} {
		if name, err := object.ParseName(text); engine.KindOf(err) != engine.KindInvalidArgument || err == nil {
			t.Errorf("%q: %+v, %v", text, name, err)
		}
	}
}

func TestPlanCutsBetweenBatches(t *testing.T) {
	described := object.Description{ID: engine.NewObjectID(), Schema: testSchema, Rows: 1000, Batches: 10, SizeBytes: 1000}
	empty := object.Description{ID: engine.NewObjectID(), Schema: testSchema, SizeBytes: 300}
	source := object.NewSource([]object.Description{described, empty}, nil)
	for _, test := range []struct {
		target int64
		want   string
	}{
		{0, "0+10"}, {1000, "0+10"}, {1 << 40, "0+10"}, {999, "0+10"}, {900, "0+9 9+1"}, {500, "0+5 5+5"}, {301, "0+4 4+4 8+2"}, {300, "0+3 3+3 6+3 9+1"},
		{100, "0+1 1+1 2+1 3+1 4+1 5+1 6+1 7+1 8+1 9+1"}, {1, "0+1 1+1 2+1 3+1 4+1 5+1 6+1 7+1 8+1 9+1"},
	} {
		layout, err := source.Plan(t.Context(), object.Files([]object.Description{described}), dataset.PlanOptions{TargetSplitBytes: test.target})
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, s := range layout.Splits {
			found = append(found, fmt.Sprintf("%d+%d", s.FirstRowGroup, s.RowGroups))
		}
		if got := strings.Join(found, " "); got != test.want {
			t.Errorf("target %d: %s, expected %s", test.target, got, test.want)
		}
	}
	layout, err := source.Plan(t.Context(), object.Files([]object.Description{described, empty}), dataset.PlanOptions{TargetSplitBytes: 10_000})
	if err != nil || len(layout.Splits) != 2 || layout.Splits[1].RowGroups != 0 || layout.Splits[1].File.Path != empty.ID.String() {
		t.Errorf("a split spans objects, or an empty one has none: %+v, %v", layout, err)
	}
}

func TestPlanMergesColumns(t *testing.T) {
	first := arrow.NewSchema([]arrow.Field{field("a", arrow.PrimitiveTypes.Int64, false), field("b", arrow.BinaryTypes.String, false)}, nil)
	metadata := arrow.NewMetadata([]string{"k"}, []string{"v"})
	for _, test := range []struct {
		name   string
		second []arrow.Field
		want   string // of the schema, or of the error
	}{
		{"another order", []arrow.Field{field("b", arrow.BinaryTypes.String, true), field("a", arrow.PrimitiveTypes.Int64, false)}, ""},
		{"another type", []arrow.Field{field("a", arrow.PrimitiveTypes.Int32, false), field("b", arrow.BinaryTypes.String, false)}, `column "a" is int32 instead of int64`},
		{"a column less", []arrow.Field{field("a", arrow.PrimitiveTypes.Int64, false)}, `column "b" (string) is missing`},
		{"a column more", []arrow.Field{
			field("a", arrow.PrimitiveTypes.Int64, false), field("b", arrow.BinaryTypes.String, false), field("c", arrow.FixedWidthTypes.Boolean, false),
		}, `column "c" (bool) is extra`},
		{"one name twice", []arrow.Field{field("a", arrow.PrimitiveTypes.Int64, false), field("a", arrow.BinaryTypes.String, false)}, `two columns are named "a"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			described := []object.Description{
				{ID: engine.NewObjectID(), Schema: first, Rows: 1, Batches: 1, SizeBytes: 10},
				{ID: engine.NewObjectID(), Schema: arrow.NewSchema(test.second, &metadata), Rows: 1, Batches: 1, SizeBytes: 10},
			}
			layout, err := object.NewSource(described, nil).Plan(t.Context(), object.Files(described), dataset.PlanOptions{})
			if test.want == "" {
				want := arrow.NewSchema([]arrow.Field{field("a", arrow.PrimitiveTypes.Int64, false), field("b", arrow.BinaryTypes.String, true)}, nil)
				if err != nil || !layout.Schema.Equal(want) || layout.Schema.HasMetadata() {
					t.Fatalf("%v, %v", layout, err)
				}
				return
			}
			if engine.KindOf(err) != engine.KindData || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), described[1].ID.String()) {
				t.Fatalf("%v, expected %s", err, test.want)
			}
		})
	}
}

// Any cut of an object into splits and batches gives its rows in order, over its memory, and gives the memory back.
func TestReadProperty(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	for range 200 {
		shelf := &shelf{}
		var records []arrow.Record
		rows := 0
		for range random.IntN(6) {
			n := random.IntN(40)
			records = append(records, batch(alloc, rows, n))
			rows += n
		}
		described := []object.Description{shelf.add(t, testSchema, records...)}
		for _, r := range records {
			r.Release()
		}
		source := object.NewSource(described, shelf.open)
		layout, err := source.Plan(t.Context(), object.Files(described), dataset.PlanOptions{TargetSplitBytes: 1 + random.Int64N(3000)})
		if err != nil {
			t.Fatal(err)
		}
		options := dataset.ReadOptions{Schema: layout.Schema, BatchRows: 1 + random.Int64N(50), BatchBytes: 1 + random.Int64N(600), Allocator: alloc}
		if random.IntN(2) == 0 {
			options.Columns = []int{0, 2}
		}
		var next, bytesRead int64
		var kept []arrow.Record
		for _, split := range layout.Splits {
			reader, err := source.Open(t.Context(), split, options)
			if err != nil {
				t.Fatal(err)
			}
			for {
				record, err := reader.Read(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				checkRecord(t, record, next, options, shelf.bytes[described[0].ID])
				if where, want := reader.Where(0), fmt.Sprintf("object %s row %d", described[0].ID, next+1); where != want {
					t.Fatalf("%s, expected %s", where, want)
				}
				next += record.NumRows()
				kept = append(kept, record)
			}
			bytesRead += reader.BytesRead()
			if err := errors.Join(reader.Close(), reader.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Read(t.Context()); err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("a closed reader reads: %v", err)
			}
		}
		if next != int64(rows) || bytesRead != described[0].SizeBytes {
			t.Fatalf("%d rows of %d, %d bytes of %d", next, rows, bytesRead, described[0].SizeBytes)
		}
		if len(kept) > 0 && shelf.opened == 0 {
			t.Fatal("the object was given back while a record of it is held")
		}
		for _, record := range kept {
			record.Release()
		}
		if shelf.opened != 0 {
			t.Fatalf("%d openings are left", shelf.opened)
		}
	}
}

func checkRecord(t *testing.T, record arrow.Record, first int64, options dataset.ReadOptions, memory []byte) {
	t.Helper()
	if record.NumRows() < 1 || record.NumRows() > options.BatchRows || record.NumRows() > 1 && dataset.BatchSizeBytes(record) > options.BatchBytes {
		t.Fatalf("a record of %d rows and %d bytes", record.NumRows(), dataset.BatchSizeBytes(record))
	}
	want := 3
	if options.Columns != nil {
		want = len(options.Columns)
	}
	if int(record.NumCols()) != want {
		t.Fatalf("%d columns", record.NumCols())
	}
	for i, n := range record.Column(0).(*array.Int64).Int64Values() {
		if n != first+int64(i) {
			t.Fatalf("row %d is %d", first+int64(i), n)
		}
	}
	for _, column := range record.Columns() {
		for _, buffer := range column.Data().Buffers() {
			if buffer != nil && buffer.Len() > 0 && !within(buffer.Bytes(), memory) {
				t.Fatalf("column %s was copied", column.DataType())
			}
		}
	}
}

func within(part, whole []byte) bool {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	return at >= from && at+uintptr(len(part)) <= from+uintptr(len(whole))
}

func TestOpenRefuses(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	shelf := &shelf{}
	record := batch(alloc, 0, 3)
	defer record.Release()
	d := shelf.add(t, testSchema, record)
	other := arrow.NewSchema([]arrow.Field{field("n", arrow.PrimitiveTypes.Int32, false)}, nil)
	for _, test := range []struct {
		name   string
		open   object.Opener
		split  dataset.Split
		schema *arrow.Schema
		kind   engine.Kind
		want   string
	}{
		{"no store", nil, dataset.Split{File: dataset.File{Path: d.ID.String()}, RowGroups: 1}, testSchema, engine.KindInternal, "no object store"},
		{"unknown", shelf.open, dataset.Split{File: dataset.File{Path: engine.ObjectID{1}.String()}, RowGroups: 1}, testSchema, engine.KindNotFound, engine.ObjectID{1}.String()},
		{"a file", shelf.open, dataset.Split{File: dataset.File{Path: "/data/a.csv"}, RowGroups: 1}, testSchema, engine.KindInvalidArgument, "/data/a.csv"},
		{"batches", shelf.open, dataset.Split{File: dataset.File{Path: d.ID.String()}, RowGroups: 2}, testSchema, engine.KindCorrupt, "1 record batches, planned were those from 0 to 2"},
		{"columns", shelf.open, dataset.Split{File: dataset.File{Path: d.ID.String()}, RowGroups: 1}, other, engine.KindCorrupt, `"n"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			options := dataset.ReadOptions{Schema: test.schema, BatchRows: 10, BatchBytes: 1000, Allocator: alloc}
			_, err := object.NewSource(nil, test.open).Open(t.Context(), test.split, options)
			if engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: %v", engine.KindOf(err), err)
			}
		})
	}
	if shelf.opened != 0 {
		t.Errorf("%d openings are left", shelf.opened)
	}
}

func TestWriter(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	first, second := batch(alloc, 0, 10), batch(alloc, 10, 5)
	defer first.Release()
	defer second.Release()
	w := object.NewWriter(testSchema, 1<<20)
	for _, record := range []arrow.Record{first, second} {
		if err := w.Write(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	encoding, err := w.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	w.Close()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	encoding.Release()
	opened, err := table.Open(data, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Release()
	if got := opened.Records(); len(got) != 2 || !array.RecordEqual(got[0], first) || !array.RecordEqual(got[1], second) {
		t.Errorf("%v", got)
	}

	small := object.NewWriter(testSchema, 100)
	defer small.Close()
	err = small.Write(t.Context(), first)
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "the object store of this node 100B") {
		t.Errorf("%v", err)
	}
}

func TestCheckSchema(t *testing.T) {
	if err := object.CheckSchema(testSchema); err != nil {
		t.Error(err)
	}
}
