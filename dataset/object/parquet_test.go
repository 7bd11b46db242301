package object_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/decimal128"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/dataset/parquet"
)

// wide has a column of every kind of layout that Parquet can hold.
var wide = arrow.NewSchema([]arrow.Field{
	field("bool", arrow.FixedWidthTypes.Boolean, true), field("text", arrow.BinaryTypes.String, true), field("large", arrow.BinaryTypes.LargeString, true),
	field("bytes", arrow.BinaryTypes.Binary, true), field("fixed", &arrow.FixedSizeBinaryType{ByteWidth: 3}, true),
	field("dictionary", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}, true),
	field("list", arrow.ListOf(arrow.PrimitiveTypes.Int32), true), field("vector", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), false),
	field("pair", arrow.StructOf(field("l", arrow.PrimitiveTypes.Int64, true), field("r", arrow.BinaryTypes.String, true)), true),
	field("money", &arrow.Decimal128Type{Precision: 12, Scale: 2}, true), field("day", arrow.FixedWidthTypes.Date32, true),
	field("moment", &arrow.TimestampType{Unit: arrow.Microsecond}, true),
}, nil)

func wideBatch(alloc memory.Allocator, first, rows int) arrow.Record {
	b := array.NewRecordBuilder(alloc, wide)
	defer b.Release()
	for i := first; i < first+rows; i++ {
		vector := b.Field(7).(*array.FixedSizeListBuilder)
		vector.Append(true)
		vector.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(i), float32(-i)}, nil)
		for c := range wide.NumFields() {
			if c != 7 && (i+c)%4 == 0 {
				b.Field(c).AppendNull()
				continue
			}
			switch f := b.Field(c).(type) {
			case *array.BooleanBuilder:
				f.Append(i%3 == 0)
			case *array.StringBuilder:
				f.Append(fmt.Sprint("text ", i))
			case *array.LargeStringBuilder:
				f.Append(fmt.Sprint("large ", i))
			case *array.BinaryBuilder:
				f.Append([]byte{byte(i), 0})
			case *array.FixedSizeBinaryBuilder:
				f.Append([]byte{1, 2, byte(i)})
			case *array.BinaryDictionaryBuilder:
				if err := f.AppendString(fmt.Sprint("kind ", i%3)); err != nil {
					panic(err)
				}
			case *array.ListBuilder:
				f.Append(true)
				for v := range i % 5 {
					f.ValueBuilder().(*array.Int32Builder).Append(int32(v))
				}
			case *array.FixedSizeListBuilder: // above
			case *array.StructBuilder:
				f.Append(true)
				f.FieldBuilder(0).(*array.Int64Builder).Append(int64(i))
				f.FieldBuilder(1).(*array.StringBuilder).Append(fmt.Sprint("r", i))
			case *array.Decimal128Builder:
				f.Append(decimal128.FromI64(int64(i) * 100))
			case *array.Date32Builder:
				f.Append(arrow.Date32(i))
			case *array.TimestampBuilder:
				f.Append(arrow.Timestamp(i))
			default:
				panic(fmt.Sprintf("%T", f))
			}
		}
	}
	return b.NewRecord()
}

// The slices that a Reader returns are written by the Parquet sink as the rows that they show.
func TestObjectToParquet(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	shelf := &shelf{}
	var want []string
	var records []arrow.Record
	for first := 0; first < 90; first += 30 {
		record := wideBatch(alloc, first, 30)
		want = append(want, texts(record)...)
		records = append(records, record)
	}
	described := []object.Description{shelf.add(t, wide, records...)}
	for _, record := range records {
		record.Release()
	}
	source := object.NewSource(described, shelf.open)
	layout, err := source.Plan(t.Context(), object.Files(described), dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int64{1, 7, 13, 30, 100} {
		path := filepath.Join(t.TempDir(), "a.parquet")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := parquet.NewSink(parquet.SinkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		writer, err := sink.Create(out, layout.Schema, alloc)
		if err != nil {
			t.Fatal(err)
		}
		copyAll(t, source, layout, rows, alloc, func(record arrow.Record) {
			if err := writer.Write(t.Context(), record); err != nil {
				t.Fatal(err)
			}
		})
		if err := errors.Join(writer.Finish(nil), writer.Close(), out.Close()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		files := []dataset.File{{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}}
		read, err := parquet.NewSource().Plan(t.Context(), files, dataset.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		copyAll(t, parquet.NewSource(), read, 1000, alloc, func(record arrow.Record) { got = append(got, texts(record)...) })
		if len(got) != len(want) {
			t.Fatalf("%d rows a batch: %d rows, expected %d", rows, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%d rows a batch: row %d is\n%s, expected\n%s", rows, i, got[i], want[i])
			}
		}
	}
	if shelf.opened != 0 {
		t.Errorf("%d openings are left", shelf.opened)
	}
}

func copyAll(t *testing.T, source dataset.Source, layout *dataset.Layout, rows int64, alloc memory.Allocator, see func(arrow.Record)) {
	t.Helper()
	for _, split := range layout.Splits {
		reader, err := source.Open(t.Context(), split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: rows, BatchBytes: 1 << 30, Allocator: alloc})
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
			see(record)
			record.Release()
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func texts(record arrow.Record) (rows []string) {
	for row := range int(record.NumRows()) {
		text := ""
		for c, column := range record.Columns() {
			text += fmt.Sprintf("%s=%s ", record.ColumnName(c), column.ValueStr(row))
		}
		rows = append(rows, text)
	}
	return rows
}
