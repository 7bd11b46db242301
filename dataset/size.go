package dataset

import (
	"sort"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// BatchRowsWithin returns how many rows of record, from row start on, make a record batch of at most maxRows rows and maxBytes
// bytes: at least 1 if any is left, however large it is.
func BatchRowsWithin(record arrow.Record, start, maxRows, maxBytes int64) int64 {
	left := min(record.NumRows()-start, maxRows)
	if left <= 1 {
		return left
	}
	fits := func(rows int64) bool {
		var bits int64
		for _, column := range record.Columns() {
			bits += arrayBits(column, int(start), int(start+rows))
		}
		return (bits+7)/8 <= maxBytes
	}
	if fits(left) {
		return left
	}
	// The size grows with the rows, so the first number of rows that does not fit can be searched for.
	tooMany := sort.Search(int(left), func(i int) bool { return !fits(int64(i) + 1) })
	return max(1, int64(tooMany))
}

// arrayBits counts the bits that the values and offsets of rows [from, to) take.
func arrayBits(values arrow.Array, from, to int) int64 {
	rows := int64(to - from)
	if rows <= 0 {
		return 0
	}
	switch a := values.(type) {
	case *array.Binary:
		// Unlike String, Binary has no ValueOffset of its end.
		offsets := a.ValueOffsets()
		return 8*int64(offsets[to]-offsets[from]) + 32*rows
	case *array.String:
		return 8*int64(a.ValueOffset(to)-a.ValueOffset(from)) + 32*rows
	case *array.LargeBinary:
		offsets := a.ValueOffsets()
		return 8*(offsets[to]-offsets[from]) + 64*rows
	case *array.LargeString:
		return 8*(a.ValueOffset(to)-a.ValueOffset(from)) + 64*rows
	case array.ListLike:
		first, _ := a.ValueOffsets(from)
		_, last := a.ValueOffsets(to - 1)
		offsets := int64(32)
		switch a.DataType().ID() {
		case arrow.LARGE_LIST:
			offsets = 64
		case arrow.FIXED_SIZE_LIST:
			offsets = 0
		}
		return arrayBits(a.ListValues(), int(first), int(last)) + offsets*rows
	case *array.Struct:
		var bits int64
		for i := range a.NumField() {
			bits += arrayBits(a.Field(i), from, to)
		}
		return bits
	case *array.Dictionary:
		return arrayBits(a.Indices(), from, to)
	case array.ExtensionArray:
		return arrayBits(a.Storage(), from, to)
	default:
		if fixed, ok := values.DataType().(arrow.FixedWidthDataType); ok {
			return int64(fixed.BitWidth()) * rows
		}
		return 0
	}
}
