package parquet

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// newListDecoder returns nil if the column is not a list of numbers. Pqarrow cannot read lists of fixed size of which some are
// null, and is slow for embeddings.
func newListDecoder(in *input, group int, f *pqarrow.SchemaField, t arrow.DataType, allocator memory.Allocator) (decoder, error) {
	if len(f.Children) != 1 || len(f.Children[0].Children) != 0 || !oneOf(t, arrow.LIST, arrow.FIXED_SIZE_LIST) {
		return nil, nil
	}
	leaf := &f.Children[0]
	chunk, err := in.parquet.RowGroup(group).Column(leaf.ColIndex)
	if err != nil {
		return nil, err
	}
	base := listBase{flat: flat{chunk: chunk, dataType: t, allocator: allocator}, element: chunk.Descriptor().MaxDefinitionLevel()}
	base.fixed = -1
	if fixed, ok := t.(*arrow.FixedSizeListType); ok {
		base.fixed = int(fixed.Len())
	}
	// The levels below an element that is there: null element, empty list, null list. What the file does not have is -1.
	base.nullElement, base.empty, base.null = -1, base.element-1, -1
	if leaf.Field.Nullable {
		base.nullElement, base.empty = base.element-1, base.element-2
	}
	if f.Field.Nullable {
		base.null = base.empty - 1
	}
	if chunk.Descriptor().MaxRepetitionLevel() != 1 || max(base.null, 0) != 0 || base.null < 0 && base.empty != 0 {
		return nil, nil
	}
	elementType := t.(arrow.ListLikeType).Elem()
	switch c := chunk.(type) {
	case *file.Int32ColumnChunkReader:
		if oneOf(elementType, arrow.INT32) {
			return &listDecoder[int32]{listBase: base, values: c}, nil
		}
	case *file.Int64ColumnChunkReader:
		if oneOf(elementType, arrow.INT64) {
			return &listDecoder[int64]{listBase: base, values: c}, nil
		}
	case *file.Float32ColumnChunkReader:
		if oneOf(elementType, arrow.FLOAT32) {
			return &listDecoder[float32]{listBase: base, values: c}, nil
		}
	case *file.Float64ColumnChunkReader:
		if oneOf(elementType, arrow.FLOAT64) {
			return &listDecoder[float64]{listBase: base, values: c}, nil
		}
	}
	return nil, nil
}

type listBase struct {
	flat
	// fixed is the length of a list of fixed size, else -1.
	fixed int
	// Definition levels; -1 is one that does not occur.
	element, nullElement, empty, null int16
}

// listDecoder decodes lists of numbers.
type listDecoder[T int32 | int64 | float32 | float64] struct {
	listBase
	values interface {
		ReadBatch(levels int64, values []T, definition, repetition []int16) (total int64, read int, err error)
	}
	// Levels and values read ahead, and where the next ones stand.
	definition, repetition []int16
	numbers                []T
	level, number          int
	// The batch in the making.
	offsets      []int32
	elements     []T
	rowValid     bitmap
	elementValid bitmap
}

// bitmap collects validity bits.
type bitmap struct {
	bits        []byte
	size, nulls int
}

func (b *bitmap) reset() { b.bits, b.size, b.nulls = b.bits[:0], 0, 0 }

func (b *bitmap) add(valid bool) {
	if b.size&7 == 0 {
		b.bits = append(b.bits, 0)
	}
	if valid {
		b.bits[b.size>>3] |= 1 << (b.size & 7)
	} else {
		b.nulls++
	}
	b.size++
}

func (d *listDecoder[T]) read(rows int64) (arrow.Array, error) {
	d.offsets, d.elements = append(d.offsets[:0], 0), d.elements[:0]
	d.rowValid.reset()
	d.elementValid.reset()
	for done := int64(-1); ; {
		if d.level == len(d.definition) {
			more, err := d.refill()
			if err != nil {
				return nil, err
			}
			if !more {
				if err := d.endRow(done); err != nil {
					return nil, err
				}
				if done++; done != rows {
					return nil, fmt.Errorf("%d rows are missing", rows-done)
				}
				break
			}
		}
		definition := d.definition[d.level]
		if d.repetition[d.level] == 0 {
			if err := d.endRow(done); err != nil {
				return nil, err
			}
			if done++; done == rows {
				break // the next row begins here
			}
			d.rowValid.add(definition != d.null)
		} else if done < 0 || definition < d.nullElement || definition == d.null || definition == d.empty {
			return nil, errors.New("its levels are damaged")
		}
		d.level++
		switch definition {
		case d.element:
			if d.number == len(d.numbers) {
				return nil, errors.New("its values are fewer than its levels say")
			}
			d.elements = append(d.elements, d.numbers[d.number])
			d.number++
			d.elementValid.add(true)
		case d.nullElement:
			d.elements = append(d.elements, 0)
			d.elementValid.add(false)
		case d.empty, d.null:
		default:
			return nil, errors.New("its levels are damaged")
		}
		if len(d.elements) > math.MaxInt32 {
			return nil, errors.New("a batch holds more elements than a column can")
		}
	}
	return d.build(int(rows)), nil
}

// endRow closes the list of the row before, if there is one.
func (d *listDecoder[T]) endRow(row int64) error {
	if row < 0 {
		return nil
	}
	size := len(d.elements) - int(d.offsets[row])
	if d.fixed >= 0 && size != d.fixed {
		if size != 0 || d.rowValid.bits[row>>3]>>(row&7)&1 == 1 {
			return fmt.Errorf("a list has %d elements instead of %d", size, d.fixed)
		}
		for range d.fixed { // a null takes the place of its elements
			d.elements = append(d.elements, 0)
			d.elementValid.add(d.nullElement < 0)
		}
	}
	d.offsets = append(d.offsets, int32(len(d.elements)))
	return nil
}

// refill reads ahead. It returns false at the end.
func (d *listDecoder[T]) refill() (bool, error) {
	const levels = 8192
	if d.definition == nil {
		d.definition, d.repetition, d.numbers = make([]int16, levels), make([]int16, levels), make([]T, levels)
	}
	d.definition, d.repetition, d.numbers = d.definition[:levels], d.repetition[:levels], d.numbers[:levels]
	total, read, err := d.values.ReadBatch(levels, d.numbers, d.definition, d.repetition)
	if err == nil {
		err = d.chunk.Err()
	}
	if err != nil {
		d.definition = d.definition[:0]
		return false, err
	}
	d.definition, d.repetition, d.numbers = d.definition[:total], d.repetition[:total], d.numbers[:read]
	d.level, d.number = 0, 0
	return total > 0, nil
}

func (d *listDecoder[T]) build(rows int) arrow.Array {
	elementType := d.dataType.(arrow.ListLikeType).Elem()
	child := array.NewData(elementType, len(d.elements), d.own(d.elementValid.buffer(d.allocator), numberBytes(d.elements)), nil, d.elementValid.nulls, 0)
	defer child.Release()
	defer releaseBuffers(child)
	var buffers []*memory.Buffer
	if d.fixed >= 0 {
		buffers = []*memory.Buffer{d.rowValid.buffer(d.allocator)}
	} else {
		buffers = d.own(d.rowValid.buffer(d.allocator), arrow.Int32Traits.CastToBytes(d.offsets))
	}
	data := array.NewData(d.dataType, rows, buffers, []arrow.ArrayData{child}, d.rowValid.nulls, 0)
	defer data.Release()
	defer releaseBuffers(data)
	return array.MakeFromData(data)
}

// own copies content into the allocator's memory, behind the validity.
func (d *listBase) own(validity *memory.Buffer, content []byte) []*memory.Buffer {
	buffer := memory.NewResizableBuffer(d.allocator)
	buffer.Resize(len(content))
	copy(buffer.Bytes(), content)
	return []*memory.Buffer{validity, buffer}
}

func (b *bitmap) buffer(allocator memory.Allocator) *memory.Buffer {
	if b.nulls == 0 {
		return nil
	}
	buffer := memory.NewResizableBuffer(allocator)
	buffer.Resize(len(b.bits))
	copy(buffer.Bytes(), b.bits)
	return buffer
}

func releaseBuffers(data *array.Data) {
	for _, b := range data.Buffers() {
		if b != nil {
			b.Release()
		}
	}
}

func numberBytes[T any](values []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(zero)))
}
