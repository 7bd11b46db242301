package parquet

import (
	"context"
	"errors"
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
	pqschema "github.com/apache/arrow/go/v15/parquet/schema"

	"github.com/f708428e/engine"
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

func (g *nestedGroups) bytes() int64  { return g.file.RowGroupTotalCompressedBytes() }
func (g *nestedGroups) next() error   { g.file.NewBufferedRowGroup(); return nil }
func (g *nestedGroups) finish() error { return g.file.Close() }
func (g *nestedGroups) addNote(key, value string) error {
	return g.file.AppendKeyValueMetadata(key, value)
}

// flatGroups writes columns without nesting and lists of values without. It computes levels itself, and gives arrow values without gaps:
// pqarrow's way of writing columns that may have nulls takes half the time again.
type flatGroups struct {
	file    *file.Writer
	columns []columnPlan
	group   file.BufferedRowGroupWriter
	scratch scratch
}

// columnPlan says how a field becomes Parquet levels.
type columnPlan struct {
	nullable bool
	// list is set for a list, whose elements are nullable if elementNullable.
	list, elementNullable bool
}

// level is the definition level of a value that is there. The levels are those of the three-level list of the Parquet format: one
// for the value or list that is not null, one for an element that is there, one for an element that is not null.
func (p columnPlan) level() int16 {
	var level int16
	for _, counts := range []bool{p.nullable, p.list, p.list && p.elementNullable} {
		if counts {
			level++
		}
	}
	return level
}

// listElements are the types whose lists flatGroups writes: all that a model's output may have.
var listElements = []arrow.Type{
	arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
	arrow.FLOAT32, arrow.FLOAT64, arrow.STRING,
}

// planColumns returns false if the schema has a column for nestedGroups.
func planColumns(schema *arrow.Schema) ([]columnPlan, bool) {
	plans := make([]columnPlan, schema.NumFields())
	for i, f := range schema.Fields() {
		plans[i].nullable = f.Nullable
		switch t := f.Type.(type) {
		case *arrow.ListType, *arrow.LargeListType, *arrow.FixedSizeListType:
			element := t.(arrow.ListLikeType).ElemField()
			if !oneOf(element.Type, listElements...) {
				return nil, false
			}
			plans[i].list, plans[i].elementNullable = true, element.Nullable
		case arrow.NestedType, arrow.ExtensionType, *arrow.NullType:
			return nil, false
		}
	}
	return plans, true
}

// flatRoot returns a file's schema with the columns as planned. Arrow v15 lets the elements of every list be null.
func flatRoot(schema *pqschema.Schema, columns []columnPlan) (*pqschema.GroupNode, error) {
	root := schema.Root()
	fields := make(pqschema.FieldList, root.NumFields())
	for i := range fields {
		fields[i] = root.Field(i)
		if !columns[i].list || columns[i].elementNullable {
			continue
		}
		list, err := withRequiredElement(fields[i])
		if err != nil {
			return nil, columnError(fields[i].Name(), err)
		}
		fields[i] = list
	}
	root, err := pqschema.NewGroupNode(root.Name(), root.RepetitionType(), fields, root.FieldID())
	if err != nil {
		return nil, err
	}
	schema = pqschema.NewSchema(root)
	if schema.NumColumns() != len(columns) {
		return nil, fmt.Errorf("%d columns, arrow made %d", len(columns), schema.NumColumns())
	}
	for i, plan := range columns {
		if have, want := schema.Column(i).MaxDefinitionLevel(), plan.level(); have != want {
			return nil, columnError(fields[i].Name(), fmt.Errorf("arrow made %d levels of it, expected %d", have, want))
		}
	}
	return root, nil
}

func withRequiredElement(list pqschema.Node) (pqschema.Node, error) {
	node := list
	for range 2 {
		group, ok := node.(*pqschema.GroupNode)
		if !ok || group.NumFields() != 1 {
			return nil, errors.New("arrow made no list of it")
		}
		node = group.Field(0)
	}
	element, ok := node.(*pqschema.PrimitiveNode)
	if !ok {
		return nil, errors.New("arrow made a nested list of it")
	}
	required, err := pqschema.NewPrimitiveNodeLogical(list.Name(), pq.Repetitions.Required, element.LogicalType(), element.PhysicalType(), element.TypeLength(), element.FieldID())
	if err != nil {
		return nil, err
	}
	return pqschema.ListOf(required, list.RepetitionType(), list.FieldID())
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

func (g *flatGroups) next() error {
	if err := g.closeGroup(); err != nil {
		return err
	}
	g.group = g.file.AppendBufferedRowGroup()
	return nil
}

func (g *flatGroups) closeGroup() error {
	if g.group == nil {
		return nil
	}
	// AppendBufferedRowGroup and the file's Close would do this and ignore the error.
	err := g.group.Close()
	g.group = nil
	return err
}

func (g *flatGroups) bytes() int64 { return g.group.TotalCompressedBytes() }

func (g *flatGroups) addNote(key, value string) error {
	return g.file.AppendKeyValueMetadata(key, value)
}

func (g *flatGroups) finish() error {
	if err := g.closeGroup(); err != nil {
		return err
	}
	return g.file.Close()
}

func (g *flatGroups) write(record arrow.Record) error {
	if record.NumRows() == 0 {
		return nil
	}
	for i, plan := range g.columns {
		column, err := g.group.Column(i)
		if err != nil {
			return err
		}
		if plan.list {
			err = g.writeList(column, record.Column(i), plan)
		} else {
			err = g.writeColumn(column, record.Column(i), plan.nullable)
		}
		if err != nil {
			return columnError(record.ColumnName(i), err)
		}
	}
	return nil
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
	flat, err := gather(elements, runs, g.file.Properties().Allocator())
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
