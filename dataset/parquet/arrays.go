package parquet

import (
	"errors"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// validate checks that an array's offsets and lengths lie within its buffers and children. Pqarrow makes arrays of damaged levels
// of which they do not.
func validate(data arrow.ArrayData) error {
	damaged := errors.New("its levels are damaged")
	end := data.Offset() + data.Len()
	buffers, children := data.Buffers(), data.Children()
	if len(buffers) > 0 && buffers[0] != nil && buffers[0].Len() > 0 && buffers[0].Len() < int(bitutil.BytesForBits(int64(end))) {
		return damaged
	}
	last := -1 // the end of the range that offsets point to, if there are any
	switch t := data.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.ListType, *arrow.MapType:
		if data.Len() == 0 {
			break
		}
		if buffers[1] == nil || buffers[1].Len() < (end+1)*arrow.Int32SizeBytes {
			return damaged
		}
		offsets := arrow.Int32Traits.CastFromBytes(buffers[1].Bytes())[data.Offset() : end+1]
		if offsets[0] < 0 {
			return damaged
		}
		for i := 1; i < len(offsets); i++ {
			if offsets[i] < offsets[i-1] {
				return damaged
			}
		}
		last = int(offsets[len(offsets)-1])
	case *arrow.StructType:
		for _, child := range children {
			if child.Len() < end {
				return damaged
			}
		}
	case *arrow.FixedSizeListType:
		last = end * int(t.Len())
	case arrow.FixedWidthDataType:
		if data.Len() > 0 && (buffers[1] == nil || int64(buffers[1].Len())*8 < int64(end)*int64(t.BitWidth())) {
			return damaged
		}
	}
	if last >= 0 {
		switch {
		case len(children) == 1:
			if children[0].Len() < last {
				return damaged
			}
		case last > 0 && (len(buffers) < 3 || buffers[2] == nil || buffers[2].Len() < last):
			return damaged
		}
	}
	for _, child := range children {
		if err := validate(child); err != nil {
			return err
		}
	}
	return nil
}

// retype returns an array's data with the type t, which may differ in zones, names, and notes, and its buffers as handled by
// take, which returns a reference for the new data.
func retype(from arrow.ArrayData, t arrow.DataType, take func(*memory.Buffer) *memory.Buffer) arrow.ArrayData {
	buffers := make([]*memory.Buffer, len(from.Buffers()))
	for i, b := range from.Buffers() {
		if b != nil && (b.Len() > 0 || i > 0) {
			buffers[i] = take(b)
		}
	}
	var children []arrow.ArrayData
	nested, _ := t.(arrow.NestedType)
	for i, child := range from.Children() {
		childType := child.DataType()
		if nested != nil && i < len(nested.Fields()) {
			childType = nested.Fields()[i].Type
		}
		children = append(children, retype(child, childType, take))
	}
	data := array.NewData(t, from.Len(), buffers, children, from.NullN(), from.Offset())
	if dictionary := from.Dictionary(); t.ID() == arrow.DICTIONARY && dictionary != nil {
		if d, ok := dictionary.(*array.Data); ok {
			data.SetDictionary(d)
		}
	}
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	return data
}

// releaseArrays releases those that are there.
func releaseArrays(arrays []arrow.Array) {
	for _, a := range arrays {
		if a != nil {
			a.Release()
		}
	}
}

// join copies the rows of a from offset on and all of b into one record.
func join(a arrow.Record, offset int64, b arrow.Record, allocator memory.Allocator) (arrow.Record, error) {
	columns := make([]arrow.Array, a.NumCols())
	defer releaseArrays(columns)
	for i := range columns {
		tail := array.NewSlice(a.Column(i), offset, a.NumRows())
		joined, err := array.Concatenate([]arrow.Array{tail, b.Column(i)}, allocator)
		tail.Release()
		if err != nil {
			return nil, err
		}
		columns[i] = joined
	}
	return array.NewRecord(a.Schema(), columns, a.NumRows()-offset+b.NumRows()), nil
}
