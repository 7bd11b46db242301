package parquet

import (
	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// nestedGroups writes any type that arrow can, by pqarrow.
type nestedGroups struct {
	file   *pqarrow.FileWriter
	schema *arrow.Schema
}

func (g *nestedGroups) write(record arrow.Record) error {
	columns := make([]arrow.Array, record.NumCols())
	defer releaseArrays(columns)
	for i, column := range record.Columns() {
		stored, err := storedArray(column, g.schema.Field(i).Type)
		if err != nil {
			return err
		}
		columns[i] = stored
	}
	stored := array.NewRecord(g.schema, columns, record.NumRows())
	defer stored.Release()
	return g.file.WriteBuffered(stored)
}

func (g *nestedGroups) bytes() int64   { return g.file.RowGroupTotalCompressedBytes() }
func (g *nestedGroups) unpaged() int64 { return 0 } // pqarrow does not say
func (g *nestedGroups) next() error    { g.file.NewBufferedRowGroup(); return nil }
func (g *nestedGroups) finish() error  { return g.file.Close() }
func (g *nestedGroups) addNote(key, value string) error {
	return g.file.AppendKeyValueMetadata(key, value)
}

// storedArray returns an array as the type to give to arrow.
func storedArray(column arrow.Array, t arrow.DataType) (arrow.Array, error) {
	column.Retain()
	if fixed, ok := column.(*array.FixedSizeList); ok {
		list, err := asList(fixed, t, memory.DefaultAllocator)
		column.Release()
		if err != nil {
			return nil, err
		}
		column = list
	}
	defer column.Release()
	data := retype(column.Data(), t, func(b *memory.Buffer) *memory.Buffer { b.Retain(); return b })
	defer data.Release()
	return array.MakeFromData(data), nil
}

// asList returns lists of fixed size as ordinary ones: pqarrow cannot write a null that has elements, as those have.
func asList(values *array.FixedSizeList, t arrow.DataType, allocator memory.Allocator) (arrow.Array, error) {
	offsets := make([]int32, values.Len()+1)
	var runs [][2]int64
	validity := bitmap{}
	for i := range values.Len() {
		offsets[i+1] = offsets[i]
		validity.add(values.IsValid(i))
		if values.IsValid(i) {
			from, to := values.ValueOffsets(i)
			runs = appendRun(runs, from, to)
			offsets[i+1] += int32(to - from)
		}
	}
	elements, err := gather(values.ListValues(), runs, allocator)
	if err != nil {
		return nil, err
	}
	defer elements.Release()
	data := array.NewData(t, values.Len(), []*memory.Buffer{
		memory.NewBufferBytes(validity.bits), memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets)),
	}, []arrow.ArrayData{elements.Data()}, validity.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}
