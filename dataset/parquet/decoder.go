package parquet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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

// decoder decodes one column of one row group from its beginning to its end.
type decoder interface {
	// read returns the next rows, which the caller releases.
	read(rows int64) (arrow.Array, error)
	close()
}

// newDecoder chooses a decoder. Columns without nesting whose values lie in Arrow as they do in Parquet, and texts, are decoded
// straight into the allocator's memory, numbers into recycled memory; everything else goes through pqarrow.
func newDecoder(in *input, group, field int, t arrow.DataType, allocator memory.Allocator, recycled *recycler) (decoder, error) {
	top := &in.manifest.Fields[field]
	if len(top.Children) == 0 && top.ColIndex >= 0 {
		if d, err := newNumberDecoder(in, group, top.ColIndex, t, recycled); d != nil || err != nil {
			return d, err
		}
		chunk, err := in.parquet.RowGroup(group).Column(top.ColIndex)
		if err != nil {
			return nil, err
		}
		if chunk.Descriptor().MaxRepetitionLevel() == 0 && chunk.Descriptor().MaxDefinitionLevel() <= 1 {
			base := flat{chunk: chunk, dataType: t, allocator: allocator, nullable: chunk.Descriptor().MaxDefinitionLevel() == 1}
			switch c := chunk.(type) {
			case *file.Int32ColumnChunkReader:
				if oneOf(t, arrow.INT32, arrow.DATE32) {
					return &fixedDecoder[int32]{flat: base, values: c}, nil
				}
			case *file.Int64ColumnChunkReader:
				if oneOf(t, arrow.INT64, arrow.TIMESTAMP) {
					return &fixedDecoder[int64]{flat: base, values: c}, nil
				}
			case *file.Float32ColumnChunkReader:
				if oneOf(t, arrow.FLOAT32) {
					return &fixedDecoder[float32]{flat: base, values: c}, nil
				}
			case *file.Float64ColumnChunkReader:
				if oneOf(t, arrow.FLOAT64) {
					return &fixedDecoder[float64]{flat: base, values: c}, nil
				}
			case *file.ByteArrayColumnChunkReader:
				if oneOf(t, arrow.STRING, arrow.BINARY) {
					return &binaryDecoder{flat: base, values: c}, nil
				}
			}
		}
	}
	if d, err := newListDecoder(in, group, top, t, allocator); d != nil || err != nil {
		return d, err
	}
	return newAnyDecoder(in, group, field, t, allocator)
}

func oneOf(t arrow.DataType, ids ...arrow.Type) bool {
	for _, id := range ids {
		if t.ID() == id {
			return true
		}
	}
	return false
}

// flat is what the decoders of columns without nesting share.
type flat struct {
	chunk     file.ColumnChunkReader
	dataType  arrow.DataType
	allocator memory.Allocator
	nullable  bool
	levels    []int16
}

func (d *flat) close() {}

// definitionLevels is the buffer for the levels of a read, nil for a column that cannot have nulls.
func (d *flat) definitionLevels(rows int64) []int16 {
	if !d.nullable {
		return nil
	}
	if int64(cap(d.levels)) < rows {
		d.levels = make([]int16, rows)
	}
	return d.levels[:rows]
}

// check verifies that a read gave all rows and as many values as its levels say.
func (d *flat) check(rows, got int64, values int, err error) error {
	switch {
	case err != nil:
		return err
	case d.chunk.Err() != nil:
		return d.chunk.Err()
	case got != rows:
		return fmt.Errorf("%d rows are missing", rows-got)
	case values > int(rows), !d.nullable && values != int(rows):
		return fmt.Errorf("%d values for %d rows", values, rows)
	}
	if d.nullable {
		present := 0
		for _, level := range d.levels[:rows] {
			present += int(level)
		}
		if present != values {
			return fmt.Errorf("%d values where %d are not null", values, present)
		}
	}
	return nil
}

// validity returns the bitmap of levels, or nil if all values are there.
func (d *flat) validity(rows int64, values int) *memory.Buffer {
	if int64(values) == rows {
		return nil
	}
	bitmap := memory.NewResizableBuffer(d.allocator)
	bitmap.Resize(int(bitutil.BytesForBits(rows)))
	bits := bitmap.Bytes()
	memory.Set(bits, 0)
	for i, level := range d.levels[:rows] {
		bits[i>>3] |= byte(level) << (i & 7)
	}
	return bitmap
}

// finish makes the array and gives the buffers to it.
func (d *flat) finish(rows int64, values int, buffers ...*memory.Buffer) arrow.Array {
	data := array.NewData(d.dataType, int(rows), buffers, nil, int(rows)-values, 0)
	defer data.Release()
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	return array.MakeFromData(data)
}

// fixedDecoder decodes values of fixed width.
type fixedDecoder[T int32 | int64 | float32 | float64] struct {
	flat
	values interface {
		ReadBatch(rows int64, values []T, definition, repetition []int16) (total int64, read int, err error)
	}
}

func (d *fixedDecoder[T]) read(rows int64) (_ arrow.Array, err error) {
	buffer := memory.NewResizableBuffer(d.allocator)
	done := false
	defer func() {
		if !done { // also if arrow panics
			buffer.Release()
		}
	}()
	var zero T
	buffer.Resize(int(rows) * int(unsafe.Sizeof(zero)))
	values := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(buffer.Bytes()))), rows)
	got, read, err := d.values.ReadBatch(rows, values, d.definitionLevels(rows), nil)
	if err := d.check(rows, got, read, err); err != nil {
		return nil, err
	}
	if int64(read) < rows {
		spread(values, d.levels[:rows], read)
	}
	done = true
	return d.finish(rows, read, d.validity(rows, read), buffer), nil
}

// spread moves the first values to the places that have a level, and zeroes the others.
func spread[T any](values []T, levels []int16, read int) {
	var zero T
	for i := len(values) - 1; i >= 0; i-- {
		if levels[i] == 0 {
			values[i] = zero
			continue
		}
		read--
		values[i] = values[read]
	}
}

// binaryDecoder decodes texts and bytes.
type binaryDecoder struct {
	flat
	values *file.ByteArrayColumnChunkReader
	views  []pq.ByteArray
}

func (d *binaryDecoder) read(rows int64) (arrow.Array, error) {
	if int64(cap(d.views)) < rows {
		d.views = make([]pq.ByteArray, rows)
	}
	views := d.views[:rows]
	defer clear(views) // they hold the pages
	got, read, err := d.values.ReadBatch(rows, views, d.definitionLevels(rows), nil)
	if err := d.check(rows, got, read, err); err != nil {
		return nil, err
	}
	var size int64
	for _, v := range views[:read] {
		size += int64(len(v))
	}
	if size > math.MaxInt32 {
		return nil, engine.Errorf(engine.KindExhausted, opRead, "", "%d rows have %d bytes of text, more than a column of a batch can hold", rows, size).
			WithHint("set a lower batch.rows")
	}
	offsetsBuffer := memory.NewResizableBuffer(d.allocator)
	offsetsBuffer.Resize(int(rows+1) * arrow.Int32SizeBytes)
	dataBuffer := memory.NewResizableBuffer(d.allocator)
	dataBuffer.Resize(int(size))
	offsets, data := arrow.Int32Traits.CastFromBytes(offsetsBuffer.Bytes()), dataBuffer.Bytes()
	end, next := 0, 0
	for i := range int(rows) {
		offsets[i] = int32(end)
		if !d.nullable || d.levels[i] != 0 {
			end += copy(data[end:], views[next])
			next++
		}
	}
	offsets[rows] = int32(end)
	return d.finish(rows, read, d.validity(rows, read), offsetsBuffer, dataBuffer), nil
}

// anyDecoder decodes with pqarrow. Its readers leak on errors and use page buffers after releasing them, so they work on Go's
// memory, and the results are copied.
type anyDecoder struct {
	reader    *pqarrow.ColumnReader
	dataType  arrow.DataType
	allocator memory.Allocator
}

func newAnyDecoder(in *input, group, field int, t arrow.DataType, allocator memory.Allocator) (decoder, error) {
	wanted := map[int]bool{}
	for _, leaf := range in.leaves(field) {
		wanted[leaf] = true
		if hasStruct(t) {
			// Pqarrow decodes the fields of a struct in goroutines of its own, where a panic ends the process. What panics does so
			// here first.
			if err := rehearse(in, group, leaf); err != nil {
				return nil, err
			}
		}
	}
	files, err := pqarrow.NewFileReader(in.parquet, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	files.Manifest = in.manifest
	// Pqarrow takes a list of fixed size that is null for one that is too short, so such lists are read as ordinary ones.
	if fixed, ok := in.manifest.Fields[field].Field.Type.(*arrow.FixedSizeListType); ok {
		manifest, top := *in.manifest, *in.manifest.Fields[field].Field
		top.Type = arrow.ListOfField(fixed.ElemField())
		manifest.Fields = slices.Clone(manifest.Fields)
		manifest.Fields[field].Field = &top
		files.Manifest = &manifest
	}
	reader, err := files.GetFieldReader(context.Background(), field, wanted, []int{group})
	if err != nil {
		return nil, err
	}
	if reader == nil {
		return nil, errors.New("arrow cannot read this type")
	}
	return &anyDecoder{reader: reader, dataType: t, allocator: allocator}, nil
}

func (d *anyDecoder) close() { d.reader.Release() }

func (d *anyDecoder) read(rows int64) (arrow.Array, error) {
	chunked, err := d.reader.NextBatch(rows)
	if err != nil {
		return nil, err
	}
	defer chunked.Release()
	if n := int64(chunked.Len()); n != rows {
		return nil, fmt.Errorf("%d rows are missing", rows-n)
	}
	whole := chunked.Chunk(0)
	if len(chunked.Chunks()) > 1 {
		if whole, err = array.Concatenate(chunked.Chunks(), memory.DefaultAllocator); err != nil {
			return nil, err
		}
		defer whole.Release()
	}
	if err := validate(whole.Data()); err != nil {
		return nil, err
	}
	if fixed, ok := d.dataType.(*arrow.FixedSizeListType); ok {
		if whole, err = asFixed(whole, fixed); err != nil {
			return nil, err
		}
		defer whole.Release()
	}
	data := retype(whole.Data(), d.dataType, func(b *memory.Buffer) *memory.Buffer {
		buffer := memory.NewResizableBuffer(d.allocator)
		buffer.Resize(b.Len())
		copy(buffer.Bytes(), b.Bytes())
		return buffer
	})
	defer data.Release()
	return array.MakeFromData(data), nil
}

// asFixed returns lists as ones of fixed size, which have elements for a null too.
func asFixed(values arrow.Array, t *arrow.FixedSizeListType) (arrow.Array, error) {
	lists, ok := values.(*array.List)
	if !ok {
		return nil, fmt.Errorf("arrow made %s of it", values.DataType())
	}
	builder := array.NewBuilder(memory.DefaultAllocator, lists.ListValues().DataType())
	defer builder.Release()
	builder.AppendEmptyValues(int(t.Len()))
	empty := builder.NewArray()
	defer empty.Release()
	validity := bitmap{}
	var parts []arrow.Array
	defer func() { releaseArrays(parts) }()
	last := int64(-1) // where the elements of the last part end, if it is of elements
	first := int64(0)
	for i := range lists.Len() {
		validity.add(lists.IsValid(i))
		if lists.IsNull(i) {
			empty.Retain()
			parts, last = append(parts, empty), -1
			continue
		}
		from, to := lists.ValueOffsets(i)
		if to-from != int64(t.Len()) {
			return nil, fmt.Errorf("a list has %d elements instead of %d", to-from, t.Len())
		}
		if from == last {
			parts[len(parts)-1].Release()
			parts = parts[:len(parts)-1]
		} else {
			first = from
		}
		parts, last = append(parts, array.NewSlice(lists.ListValues(), first, to)), to
	}
	elements := empty
	if len(parts) > 0 {
		joined, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		defer joined.Release()
		elements = joined
	}
	bits := validity.buffer(memory.DefaultAllocator)
	if bits != nil {
		defer bits.Release()
	}
	data := array.NewData(t, lists.Len(), []*memory.Buffer{bits}, []arrow.ArrayData{elements.Data()}, validity.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// rehearse decodes a column chunk and throws the values away.
func rehearse(in *input, group, leaf int) error {
	chunk, err := in.parquet.RowGroup(group).Column(leaf)
	if err != nil {
		return err
	}
	const rows = 4096
	definition, repetition := make([]int16, rows), make([]int16, rows)
	var read func() (int64, int, error)
	switch c := chunk.(type) {
	case *file.BooleanColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.Int32ColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.Int64ColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.Int96ColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.Float32ColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.Float64ColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.ByteArrayColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	case *file.FixedLenByteArrayColumnChunkReader:
		read = rehearsal(c.ReadBatch, definition, repetition)
	default:
		return fmt.Errorf("unknown physical type %s", chunk.Type())
	}
	for chunk.HasNext() {
		if n, _, err := read(); err != nil || n == 0 {
			return errors.Join(err, chunk.Err())
		}
	}
	return chunk.Err()
}

func rehearsal[T any](readBatch func(int64, []T, []int16, []int16) (int64, int, error), definition, repetition []int16) func() (int64, int, error) {
	values := make([]T, len(definition))
	return func() (int64, int, error) {
		return readBatch(int64(len(values)), values, definition, repetition)
	}
}

func hasStruct(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.StructType, *arrow.MapType:
		return true
	case arrow.NestedType:
		for _, f := range t.Fields() {
			if hasStruct(f.Type) {
				return true
			}
		}
	}
	return false
}

// leaves are the Parquet columns that a field consists of.
func (in *input) leaves(field int) []int {
	var out []int
	var walk func(f *pqarrow.SchemaField)
	walk = func(f *pqarrow.SchemaField) {
		if len(f.Children) == 0 {
			out = append(out, f.ColIndex)
		}
		for i := range f.Children {
			walk(&f.Children[i])
		}
	}
	walk(&in.manifest.Fields[field])
	return out
}

// columnError names the column.
func columnError(column string, err error) error {
	return fmt.Errorf("column %q: %w", column, err)
}
