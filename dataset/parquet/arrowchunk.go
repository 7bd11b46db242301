package parquet

import (
	"context"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine"
)

// arrowChunk is a column chunk that arrow encodes.
type arrowChunk struct {
	groups *flatGroups
	column file.ColumnChunkWriter
	plan   columnPlan
}

func (c *arrowChunk) bytes() int64 { return c.column.TotalCompressedBytes() }

func (c *arrowChunk) unpaged() int64 {
	encoder := c.column.CurrentEncoder()
	size := encoder.EstimatedDataEncodedSize()
	if dictionary, ok := encoder.(interface{ DictEncodedSize() int }); ok {
		size += int64(dictionary.DictEncodedSize())
	}
	return size
}

func (c *arrowChunk) close() error { return c.column.Close() }

func (c *arrowChunk) write(values arrow.Array) error {
	if c.plan.list {
		return c.groups.writeList(c.column, values, c.plan)
	}
	return c.groups.writeColumn(c.column, values, c.plan.nullable)
}

// scratch is memory that is used anew for every column.
type scratch struct {
	definition, repetition []int16
	bytes                  []pq.ByteArray
	int32s                 []int32
	int64s                 []int64
	float32s               []float32
	float64s               []float64
}

// writeColumn writes a column without nesting.
func (g *flatGroups) writeColumn(column file.ColumnChunkWriter, values arrow.Array, nullable bool) error {
	var levels []int16
	if nullable {
		levels = definitionLevels(&g.scratch.definition, values)
	}
	return g.writeValues(column, values, levels, nil, nullable)
}

// writeValues writes those of values that are not null, with levels computed before.
func (g *flatGroups) writeValues(column file.ColumnChunkWriter, values arrow.Array, definition, repetition []int16, nullable bool) error {
	var err error
	s := &g.scratch
	switch c := column.(type) {
	case *file.Float64ColumnChunkWriter:
		_, err = c.WriteBatch(dense(&s.float64s, values, values.(*array.Float64).Float64Values()), definition, repetition)
	case *file.Float32ColumnChunkWriter:
		_, err = c.WriteBatch(dense(&s.float32s, values, values.(*array.Float32).Float32Values()), definition, repetition)
	case *file.Int64ColumnChunkWriter:
		var raw []int64
		switch a := values.(type) {
		case *array.Int64:
			raw = a.Int64Values()
		case *array.Timestamp:
			if a.DataType().(*arrow.TimestampType).Unit == arrow.Second {
				return pqarrow.WriteArrowToColumn(context.Background(), column, values, definition, repetition, nullable)
			}
			if a.Len() > 0 {
				raw = arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(a.TimestampValues()))
			}
		default:
			return pqarrow.WriteArrowToColumn(context.Background(), column, values, definition, repetition, nullable)
		}
		_, err = c.WriteBatch(dense(&s.int64s, values, raw), definition, repetition)
	case *file.Int32ColumnChunkWriter:
		var raw []int32
		switch a := values.(type) {
		case *array.Int32:
			raw = a.Int32Values()
		case *array.Date32:
			raw = arrow.Int32Traits.CastFromBytes(arrow.Date32Traits.CastToBytes(a.Date32Values()))
		default:
			return pqarrow.WriteArrowToColumn(context.Background(), column, values, definition, repetition, nullable)
		}
		_, err = c.WriteBatch(dense(&s.int32s, values, raw), definition, repetition)
	case *file.ByteArrayColumnChunkWriter:
		var at func(int) []byte
		switch a := values.(type) {
		case *array.String:
			at = func(i int) []byte { return stringBytes(a.Value(i)) }
		case *array.Binary:
			at = a.Value
		default:
			return pqarrow.WriteArrowToColumn(context.Background(), column, values, definition, repetition, nullable)
		}
		views := s.bytes[:0]
		for i := range values.Len() {
			if values.IsValid(i) {
				views = append(views, at(i))
			}
		}
		s.bytes = views
		_, err = c.WriteBatch(views, definition, repetition)
		clear(views) // the record's memory is not ours to keep
	default:
		return pqarrow.WriteArrowToColumn(context.Background(), column, values, definition, repetition, nullable)
	}
	return err
}

// dense returns the values that are not null.
func dense[T any](buffer *[]T, values arrow.Array, raw []T) []T {
	if values.NullN() == 0 {
		return raw
	}
	out := (*buffer)[:0]
	for i, v := range raw {
		if values.IsValid(i) {
			out = append(out, v)
		}
	}
	*buffer = out
	return out
}

// definitionLevels returns 1 for every value and 0 for every null.
func definitionLevels(buffer *[]int16, values arrow.Array) []int16 {
	levels := grow(buffer, values.Len())
	if values.NullN() == 0 {
		fill(levels, 1)
		return levels
	}
	bitmap, offset := values.NullBitmapBytes(), values.Data().Offset()
	for i := range levels {
		levels[i] = 0
		if len(bitmap) > 0 && bitutil.BitIsSet(bitmap, offset+i) {
			levels[i] = 1
		}
	}
	return levels
}

// writeList writes a column of lists.
func (g *flatGroups) writeList(column file.ColumnChunkWriter, values arrow.Array, plan columnPlan) error {
	lists, ok := values.(array.ListLike)
	if !ok {
		return fmt.Errorf("%s is not a list", values.DataType())
	}
	elements := lists.ListValues()
	element := plan.level()
	nullElement := element - 1
	empty := nullElement
	if plan.elementNullable {
		empty--
	}
	definition, repetition := g.scratch.definition[:0], g.scratch.repetition[:0]
	// Elements are written from runs that lie side by side. A null of fixed size has elements too, which are left out.
	var runs [][2]int64
	for i := range values.Len() {
		if values.IsNull(i) {
			definition, repetition = append(definition, 0), append(repetition, 0)
			continue
		}
		from, to := lists.ValueOffsets(i)
		if from == to {
			definition, repetition = append(definition, empty), append(repetition, 0)
			continue
		}
		first := len(definition)
		for j := from; j < to; j++ {
			level := element
			if elements.IsNull(int(j)) {
				if !plan.elementNullable {
					return engine.Errorf(engine.KindInternal, "", "", "a list has a null, its elements are declared to have none")
				}
				level = nullElement
			}
			definition, repetition = append(definition, level), append(repetition, 1)
		}
		repetition[first] = 0
		runs = appendRun(runs, from, to)
	}
	g.scratch.definition, g.scratch.repetition = definition, repetition
	flat, err := gather(elements, runs, g.pool)
	if err != nil {
		return err
	}
	defer flat.Release()
	if len(definition) == 0 {
		return nil
	}
	return g.writeValues(column, flat, definition, repetition, plan.elementNullable)
}

// appendRun adds a range of elements to runs that do not lie side by side.
func appendRun(runs [][2]int64, from, to int64) [][2]int64 {
	if n := len(runs); n > 0 && runs[n-1][1] == from {
		runs[n-1][1] = to
		return runs
	}
	return append(runs, [2]int64{from, to})
}

// gather returns the elements of the runs as one array.
func gather(elements arrow.Array, runs [][2]int64, allocator memory.Allocator) (arrow.Array, error) {
	switch len(runs) {
	case 0:
		return array.NewSlice(elements, 0, 0), nil
	case 1:
		return array.NewSlice(elements, runs[0][0], runs[0][1]), nil
	}
	parts := make([]arrow.Array, len(runs))
	defer releaseArrays(parts)
	for i, run := range runs {
		parts[i] = array.NewSlice(elements, run[0], run[1])
	}
	return array.Concatenate(parts, allocator)
}

func grow(buffer *[]int16, n int) []int16 {
	if cap(*buffer) < n {
		*buffer = make([]int16, 1<<bits.Len(uint(n)))
	}
	return (*buffer)[:n]
}

func fill(levels []int16, value int16) {
	if len(levels) == 0 {
		return
	}
	levels[0] = value
	for n := 1; n < len(levels); n *= 2 {
		copy(levels[n:], levels[:n])
	}
}

// stringBytes views a text as bytes, which nobody writes to.
func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
