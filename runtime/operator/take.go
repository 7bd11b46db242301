package operator

import (
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
)

// Take returns a record of some rows of another: those at the places of indices, which ascend. The caller releases it.
func Take(in arrow.Record, indices []int32, allocator memory.Allocator) (arrow.Record, error) {
	return take(in, expression.NewSelection(int(in.NumRows()), indices), indices, allocator)
}

// take returns a record of the rows that are kept, whose places indices has too.
func take(in arrow.Record, kept expression.Selection, indices []int32, allocator memory.Allocator) (arrow.Record, error) {
	columns := make([]arrow.Array, in.NumCols())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	t := taker{kept: kept, indices: indices, allocator: allocator}
	for i := range columns {
		var err error
		if columns[i], err = t.take(in.Column(i)); err != nil {
			return nil, engine.WrapError(opFilter, in.ColumnName(i), err)
		}
	}
	return array.NewRecord(in.Schema(), columns, int64(len(indices))), nil
}

// taker copies the rows of columns.
type taker struct {
	kept      expression.Selection
	indices   []int32
	allocator memory.Allocator
}

func (t *taker) take(column arrow.Array) (arrow.Array, error) {
	data := column.Data()
	var buffers []*memory.Buffer
	var children []arrow.ArrayData
	switch typ := column.DataType().(type) {
	case *arrow.BooleanType:
		buffers = append(buffers, t.bits(data.Buffers()[1].Bytes(), data.Offset()))
	case *arrow.StringType, *arrow.BinaryType:
		buffers = takeBytes[int32](t, data)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		buffers = takeBytes[int64](t, data)
	case *arrow.FixedSizeListType:
		child, err := t.takeLists(column.(*array.FixedSizeList), int(typ.Len()))
		if err != nil {
			return nil, err
		}
		defer child.Release()
		children = append(children, child.Data())
	case arrow.FixedWidthDataType:
		if typ.ID() == arrow.DICTIONARY {
			return t.pieces(column, 1)
		}
		buffers = append(buffers, t.values(data, typ.Bytes()))
	default:
		return t.pieces(column, 1)
	}
	valid, nulls := t.validity(column)
	made := array.NewData(column.DataType(), len(t.indices), append([]*memory.Buffer{valid}, buffers...), children, nulls, 0)
	defer made.Release()
	for _, b := range append(buffers, valid) {
		if b != nil {
			b.Release()
		}
	}
	return array.MakeFromData(made), nil
}

func (t *taker) validity(column arrow.Array) (valid *memory.Buffer, nulls int) {
	if column.NullN() == 0 {
		return nil, 0
	}
	valid = t.bits(column.NullBitmapBytes(), column.Data().Offset())
	return valid, len(t.indices) - bitutil.CountSetBits(valid.Bytes(), 0, len(t.indices))
}

func (t *taker) bits(src []byte, offset int) *memory.Buffer {
	out := newBuffer(t.allocator, int(bitutil.BytesForBits(int64(len(t.indices)))))
	dst := out.Bytes()
	for i := range dst {
		var b byte
		for j, index := range t.indices[i*8 : min(i*8+8, len(t.indices))] {
			at := offset + int(index)
			b |= src[at/8] >> (at % 8) & 1 << j
		}
		dst[i] = b
	}
	return out
}

// values copies values of a fixed size.
func (t *taker) values(data arrow.ArrayData, size int) *memory.Buffer {
	out := newBuffer(t.allocator, len(t.indices)*size)
	if len(t.indices) == 0 {
		return out
	}
	src := data.Buffers()[1].Bytes()[data.Offset()*size:]
	dst := out.Bytes()
	switch size {
	case 8:
		gather[uint64](dst, src, t.indices)
	case 4:
		gather[uint32](dst, src, t.indices)
	default:
		at := 0
		t.kept.Runs(func(lo, hi int) { at += copy(dst[at:], src[lo*size:hi*size]) })
	}
	return out
}

func gather[T uint32 | uint64](dst, src []byte, indices []int32) {
	size := int(unsafe.Sizeof(*new(T)))
	d := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(dst))), len(indices))
	s := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(src))), len(src)/size)
	for i, index := range indices {
		d[i] = s[index]
	}
}

// takeBytes copies texts.
func takeBytes[O int32 | int64](t *taker, data arrow.ArrayData) []*memory.Buffer {
	width := int(unsafe.Sizeof(*new(O)))
	offsets := newBuffer(t.allocator, (len(t.indices)+1)*width)
	to := unsafe.Slice((*O)(unsafe.Pointer(unsafe.SliceData(offsets.Bytes()))), len(t.indices)+1)
	to[0] = 0
	if len(t.indices) == 0 {
		return []*memory.Buffer{offsets, newBuffer(t.allocator, 0)}
	}
	raw := data.Buffers()[1].Bytes()
	from := unsafe.Slice((*O)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/width)[data.Offset():]
	end := O(0)
	for i, index := range t.indices {
		end += from[index+1] - from[index]
		to[i+1] = end
	}
	values := newBuffer(t.allocator, int(end))
	if end > 0 {
		src, dst := data.Buffers()[2].Bytes(), values.Bytes()
		at := 0
		t.kept.Runs(func(lo, hi int) { at += copy(dst[at:], src[from[lo]:from[hi]]) })
	}
	return []*memory.Buffer{offsets, values}
}

// takeLists returns the elements of the lists that are kept.
func (t *taker) takeLists(column *array.FixedSizeList, length int) (arrow.Array, error) {
	elements := column.ListValues()
	first := column.Data().Offset() * length
	part := array.NewSlice(elements, int64(first), int64(first+column.Len()*length))
	defer part.Release()
	if typ, ok := elements.DataType().(arrow.FixedWidthDataType); ok && elements.NullN() == 0 && typ.ID() != arrow.BOOL && typ.ID() != arrow.DICTIONARY {
		size := typ.Bytes() * length
		out := newBuffer(t.allocator, len(t.indices)*size)
		defer out.Release()
		if len(t.indices) > 0 {
			src, dst, at := part.Data().Buffers()[1].Bytes()[part.Data().Offset()*typ.Bytes():], out.Bytes(), 0
			t.kept.Runs(func(lo, hi int) { at += copy(dst[at:], src[lo*size:hi*size]) })
		}
		data := array.NewData(typ, len(t.indices)*length, []*memory.Buffer{nil, out}, nil, 0, 0)
		defer data.Release()
		return array.MakeFromData(data), nil
	}
	return t.pieces(part, length)
}

// pieces puts slices of a column of any type together, of which each row has length elements.
func (t *taker) pieces(column arrow.Array, length int) (arrow.Array, error) {
	var parts []arrow.Array
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	t.kept.Runs(func(lo, hi int) { parts = append(parts, array.NewSlice(column, int64(lo*length), int64(hi*length))) })
	if len(parts) == 0 {
		parts = append(parts, array.NewSlice(column, 0, 0))
	}
	return array.Concatenate(parts, t.allocator)
}
