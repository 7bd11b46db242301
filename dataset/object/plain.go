package object

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/compute"
	"github.com/apache/arrow/go/v15/arrow/memory"
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
	values, err := compute.TakeArrayOpts(compute.WithAllocator(ctx, allocator), dictionary.Dictionary(), dictionary.Indices(), compute.TakeOptions{BoundsCheck: false})
	if err != nil {
		return nil, err
	}
	defer values.Release()
	return Plain(ctx, values, allocator)
}
