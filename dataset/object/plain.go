package object

import (
	"context"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/compute"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

// PlainType is the type as which a column is read.
func PlainType(t arrow.DataType) arrow.DataType {
	if dictionary, ok := t.(*arrow.DictionaryType); ok {
		return PlainType(dictionary.ValueType)
	}
	return t
}

// Plain returns a column as it is read: itself, or of a dictionary the values, which are copied: steps and sinks look at values.
func Plain(ctx context.Context, column arrow.Array, allocator memory.Allocator) (arrow.Array, error) {
	dictionary, ok := column.(*array.Dictionary)
	if !ok {
		column.Retain()
		return column, nil
	}
	// What is in a store was checked on its way in, indices too.
	if taken, err := takeTexts(dictionary, allocator); taken != nil || err != nil {
		return taken, err
	}
	values, err := compute.TakeArrayOpts(compute.WithAllocator(ctx, allocator), dictionary.Dictionary(), dictionary.Indices(), compute.TakeOptions{BoundsCheck: false})
	if err != nil {
		return nil, err
	}
	defer values.Release()
	return Plain(ctx, values, allocator)
}

// takeTexts returns the values of a dictionary of texts or bytes, or nil if it is one of something else. Arrow's take moves all texts for
// each that it appends.
func takeTexts(column *array.Dictionary, allocator memory.Allocator) (arrow.Array, error) {
	var at func(i int) string
	var add *array.BinaryBuilder
	built := array.NewBuilder(allocator, column.Dictionary().DataType())
	defer built.Release()
	limit := int64(math.MaxInt32)
	switch values := column.Dictionary().(type) {
	case *array.String:
		at, add = values.Value, built.(*array.StringBuilder).BinaryBuilder
	case *array.LargeString:
		at, add, limit = values.Value, built.(*array.LargeStringBuilder).BinaryBuilder, math.MaxInt64
	case *array.Binary:
		at, add = values.ValueString, built.(*array.BinaryBuilder)
	case *array.LargeBinary:
		at, add, limit = values.ValueString, built.(*array.BinaryBuilder), math.MaxInt64
	default:
		return nil, nil //nolint:nilnil // It is of something else, which is no error.
	}
	null := func(row int) bool {
		return column.IsNull(row) || column.Dictionary().IsNull(column.GetValueIndex(row))
	}
	var size int64
	for row := range column.Len() {
		if !null(row) {
			size += int64(len(at(column.GetValueIndex(row))))
		}
	}
	if size > limit {
		return nil, engine.Errorf(engine.KindData, opRead, "", "the texts of a dictionary column take %d bytes in %d rows, at most %d are possible", size, column.Len(), limit).
			WithHint("set batch.rows lower")
	}
	add.Reserve(column.Len())
	add.ReserveData(int(size))
	for row := range column.Len() {
		if null(row) {
			add.AppendNull()
		} else {
			add.AppendString(at(column.GetValueIndex(row)))
		}
	}
	return built.NewArray(), nil
}
