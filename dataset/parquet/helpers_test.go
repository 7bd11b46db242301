package parquet_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
)

// column is a field with a function that appends a value.
type column struct {
	field arrow.Field
	add   func(b array.Builder, r *rand.Rand)
}

func nullable(name string, t arrow.DataType, add func(array.Builder, *rand.Rand)) column {
	return column{arrow.Field{Name: name, Type: t, Nullable: true}, add}
}

func word(r *rand.Rand) string {
	if r.Intn(3) == 0 {
		return fmt.Sprintf("größer %d", r.Int63())
	}
	return []string{"", "red", "white", "rosé"}[r.Intn(4)]
}

// flatColumns are all types that a job can have.
func flatColumns() []column {
	return []column{
		{arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}, func(b array.Builder, r *rand.Rand) { b.(*array.Int64Builder).Append(r.Int63()) }},
		nullable("bool", arrow.FixedWidthTypes.Boolean, func(b array.Builder, r *rand.Rand) { b.(*array.BooleanBuilder).Append(r.Intn(2) == 0) }),
		nullable("int32", arrow.PrimitiveTypes.Int32, func(b array.Builder, r *rand.Rand) { b.(*array.Int32Builder).Append(int32(r.Uint32())) }),
		nullable("int64", arrow.PrimitiveTypes.Int64, func(b array.Builder, r *rand.Rand) { b.(*array.Int64Builder).Append(int64(r.Uint64())) }),
		nullable("float32", arrow.PrimitiveTypes.Float32, func(b array.Builder, r *rand.Rand) { b.(*array.Float32Builder).Append(float32(r.NormFloat64())) }),
		nullable("float64", arrow.PrimitiveTypes.Float64, func(b array.Builder, r *rand.Rand) {
			b.(*array.Float64Builder).Append([]float64{r.NormFloat64(), math.Inf(1), math.Copysign(0, -1), math.MaxFloat64}[r.Intn(4)])
		}),
		nullable("string", arrow.BinaryTypes.String, func(b array.Builder, r *rand.Rand) { b.(*array.StringBuilder).Append(word(r)) }),
		nullable("binary", arrow.BinaryTypes.Binary, func(b array.Builder, r *rand.Rand) { b.(*array.BinaryBuilder).Append([]byte(word(r))) }),
		nullable("date", arrow.FixedWidthTypes.Date32, func(b array.Builder, r *rand.Rand) { b.(*array.Date32Builder).Append(arrow.Date32(r.Intn(40000))) }),
		nullable("timestamp", &arrow.TimestampType{Unit: arrow.Microsecond}, func(b array.Builder, r *rand.Rand) {
			b.(*array.TimestampBuilder).Append(arrow.Timestamp(r.Int63n(1 << 50)))
		}),
		nullable("zoned", &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Zurich"}, func(b array.Builder, r *rand.Rand) {
			b.(*array.TimestampBuilder).Append(arrow.Timestamp(r.Int63n(1 << 60)))
		}),
		nullable("int8", arrow.PrimitiveTypes.Int8, func(b array.Builder, r *rand.Rand) { b.(*array.Int8Builder).Append(int8(r.Intn(256) - 128)) }),
		nullable("uint32", arrow.PrimitiveTypes.Uint32, func(b array.Builder, r *rand.Rand) { b.(*array.Uint32Builder).Append(r.Uint32()) }),
		nullable("embedding", arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Float32), func(b array.Builder, r *rand.Rand) {
			l := b.(*array.FixedSizeListBuilder)
			l.Append(true)
			for range 4 {
				l.ValueBuilder().(*array.Float32Builder).Append(r.Float32())
			}
		}),
		nullable("numbers", arrow.ListOf(arrow.PrimitiveTypes.Float64), func(b array.Builder, r *rand.Rand) {
			l := b.(*array.ListBuilder)
			l.Append(true)
			for range r.Intn(4) {
				if v := l.ValueBuilder().(*array.Float64Builder); r.Intn(5) == 0 {
					v.AppendNull()
				} else {
					v.Append(r.Float64())
				}
			}
		}),
	}
}

// outputTypes are those of the elements that a model's output may have.
var outputTypes = []arrow.DataType{
	arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16,
	arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16,
	arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64, arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.String,
}

// outputColumns are lists of each type that a model's output may have: as the engine makes them, with elements that may be null, and
// of any length.
func outputColumns() []column {
	var columns []column
	for _, element := range outputTypes {
		add := func(b array.Builder, r *rand.Rand, nulls bool) {
			if nulls && r.Intn(4) == 0 {
				b.AppendNull()
			} else if err := b.AppendValueFromString(elementText(element, r)); err != nil {
				panic(err)
			}
		}
		fixed := func(nulls bool) func(array.Builder, *rand.Rand) {
			return func(b array.Builder, r *rand.Rand) {
				l := b.(*array.FixedSizeListBuilder)
				l.Append(true)
				for range 3 {
					add(l.ValueBuilder(), r, nulls)
				}
			}
		}
		open := func(nulls bool) func(array.Builder, *rand.Rand) {
			return func(b array.Builder, r *rand.Rand) {
				l := b.(*array.ListBuilder)
				l.Append(true)
				for range r.Intn(4) {
					add(l.ValueBuilder(), r, nulls)
				}
			}
		}
		columns = append(columns,
			column{arrow.Field{Name: "output " + element.Name(), Type: arrow.FixedSizeListOfNonNullable(3, element)}, fixed(false)},
			nullable("rows "+element.Name(), arrow.FixedSizeListOfNonNullable(3, element), fixed(false)),
			column{arrow.Field{Name: "items " + element.Name(), Type: arrow.FixedSizeListOf(3, element)}, fixed(true)},
			nullable("both "+element.Name(), arrow.FixedSizeListOf(3, element), fixed(true)),
			nullable("open "+element.Name(), arrow.ListOfNonNullable(element), open(false)),
			nullable("any "+element.Name(), arrow.ListOf(element), open(true)),
		)
	}
	return columns
}

// elementText is a value of a type, often the least or the greatest.
func elementText(t arrow.DataType, r *rand.Rand) string {
	switch t := t.(type) {
	case *arrow.StringType:
		return word(r)
	case *arrow.BooleanType:
		return fmt.Sprint(r.Intn(2) == 0)
	case *arrow.Float32Type, *arrow.Float64Type:
		return fmt.Sprintf("%d.5", r.Intn(1<<20))
	case arrow.FixedWidthDataType:
		bits := t.BitWidth()
		if arrow.IsUnsignedInteger(t.ID()) {
			return fmt.Sprint([]uint64{0, 1, 1<<bits - 1}[r.Intn(3)])
		}
		return fmt.Sprint([]int64{-1 << (bits - 1), 0, 1, 1<<(bits-1) - 1}[r.Intn(4)])
	}
	panic(t)
}

// nestedColumns are types that only pass through.
func nestedColumns() []column {
	return []column{
		nullable("words", arrow.ListOf(arrow.BinaryTypes.String), func(b array.Builder, r *rand.Rand) {
			l := b.(*array.ListBuilder)
			l.Append(true)
			for range r.Intn(4) {
				l.ValueBuilder().(*array.StringBuilder).Append(word(r))
			}
		}),
		nullable("pair", arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}),
			func(b array.Builder, r *rand.Rand) {
				s := b.(*array.StructBuilder)
				s.Append(true)
				s.FieldBuilder(0).(*array.Int64Builder).Append(r.Int63())
				if v := s.FieldBuilder(1).(*array.StringBuilder); r.Intn(4) == 0 {
					v.AppendNull()
				} else {
					v.Append(word(r))
				}
			}),
		{arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}, func(b array.Builder, r *rand.Rand) { b.(*array.Int64Builder).Append(r.Int63()) }},
	}
}

// newRecord makes rows of which, if nulls is set, one in four values is a null.
func newRecord(columns []column, rows int, seed int64, nulls bool, allocator memory.Allocator) arrow.Record {
	r := rand.New(rand.NewSource(seed))
	fields := make([]arrow.Field, len(columns))
	arrays := make([]arrow.Array, len(columns))
	for i, c := range columns {
		fields[i] = c.field
		b := array.NewBuilder(allocator, c.field.Type)
		for range rows {
			if nulls && c.field.Nullable && r.Intn(4) == 0 {
				b.AppendNull()
			} else {
				c.add(b, r)
			}
		}
		arrays[i] = ofType(b.NewArray(), c.field.Type)
		b.Release()
	}
	record := array.NewRecord(arrow.NewSchema(fields, nil), arrays, int64(rows))
	for _, a := range arrays {
		a.Release()
	}
	return record
}

// ofType gives an array its type: arrow's builders make lists whose elements may be null.
func ofType(a arrow.Array, t arrow.DataType) arrow.Array {
	defer a.Release()
	data := array.NewData(t, a.Len(), a.Data().Buffers(), a.Data().Children(), a.NullN(), a.Data().Offset())
	defer data.Release()
	return array.MakeFromData(data)
}

// writeFile writes records to a new file and returns what planning needs to know of it.
func writeFile(t testing.TB, path string, schema *arrow.Schema, records []arrow.Record, compression string, pairs map[string]string) dataset.File {
	t.Helper()
	sink, err := parquet.NewSink(parquet.SinkOptions{Compression: compression})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	w, err := sink.Create(f, schema, allocator)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if err := w.Write(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(pairs), w.Close(), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	allocator.AssertSize(t, 0)
	return statFile(t, path)
}

func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "a.parquet") }

func plan(t testing.TB, options dataset.PlanOptions, files ...dataset.File) *dataset.Layout {
	t.Helper()
	layout, err := parquet.NewSource().Plan(t.Context(), files, options)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

// readSplit reads all batches of a split with a checked allocator. What it returns is a copy.
func readSplit(t testing.TB, split dataset.Split, options dataset.ReadOptions) ([]arrow.Record, error) {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	options.Allocator = allocator
	if options.BatchRows == 0 {
		options.BatchRows = 10_000
	}
	if options.BatchBytes == 0 {
		options.BatchBytes = 64 << 20
	}
	r, err := parquet.NewSource().Open(t.Context(), split, options)
	if err != nil {
		return nil, err
	}
	defer allocator.AssertSize(t, 0)
	defer func() {
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}()
	var out []arrow.Record
	for {
		record, err := r.Read(t.Context())
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if record.NumRows() == 0 {
			t.Error("an empty batch")
		}
		out = append(out, concat(t, []arrow.Record{record}))
		record.Release()
	}
}

// concat copies records into one.
func concat(t testing.TB, records []arrow.Record) arrow.Record {
	t.Helper()
	if len(records) == 0 {
		t.Fatal("no records")
	}
	var rows int64
	for _, record := range records {
		rows += record.NumRows()
	}
	arrays := make([]arrow.Array, records[0].NumCols())
	for i := range arrays {
		parts := make([]arrow.Array, len(records))
		for j, record := range records {
			parts[j] = record.Column(i)
		}
		joined, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		arrays[i] = joined
	}
	return array.NewRecord(records[0].Schema(), arrays, rows)
}

func mustEqual(t testing.TB, got, want arrow.Record) {
	t.Helper()
	if got.NumRows() != want.NumRows() || got.NumCols() != want.NumCols() {
		t.Fatalf("got %d rows of %d columns, want %d of %d", got.NumRows(), got.NumCols(), want.NumRows(), want.NumCols())
	}
	for i := range want.Columns() {
		if got.ColumnName(i) != want.ColumnName(i) || !arrow.TypeEqual(got.Column(i).DataType(), want.Column(i).DataType()) {
			t.Fatalf("column %d: got %q %s, want %q %s", i, got.ColumnName(i), got.Column(i).DataType(), want.ColumnName(i), want.Column(i).DataType())
		}
		if !array.Equal(got.Column(i), want.Column(i)) {
			for row := range int(want.NumRows()) {
				if g, w := got.Column(i).ValueStr(row), want.Column(i).ValueStr(row); g != w {
					t.Fatalf("column %q row %d: got %s, want %s", got.ColumnName(i), row, g, w)
				}
			}
			t.Fatalf("column %q differs", got.ColumnName(i))
		}
	}
}
