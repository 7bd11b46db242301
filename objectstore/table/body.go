package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// noOffsets is the offsets of an array of length zero: readers look at the first.
var noOffsets [8]byte

func errChildren(found, expected int) error {
	return fmt.Errorf("an array with %d children, its type has %d", found, expected)
}

func (b *body) reset() {
	b.nodes, b.buffers, b.variadic, b.pieces, b.size = b.nodes[:0], b.buffers[:0], b.variadic[:0], b.pieces[:0], 0
}

// add puts a buffer at the next aligned place.
func (b *body) add(data []byte) {
	b.buffers = append(b.buffers, bufferPlace{offset: b.size, length: int64(len(data))})
	if len(data) == 0 {
		return
	}
	b.pieces = append(b.pieces, Piece{Data: data})
	end := b.size + int64(len(data))
	b.size = padded(end)
	if b.size > end {
		b.pieces = append(b.pieces, Piece{Zeros: int(b.size - end)})
	}
}

// array adds the values [offset, offset+length) of an array: its node, its buffers, and those of its children. The offset counts
// from the start of the array's buffers, so that it includes the array's own.
func (b *body) array(n *node, data arrow.ArrayData, offset, length int) error {
	if len(data.Children()) != len(n.children) {
		return errChildren(len(data.Children()), len(n.children))
	}
	if offset < data.Offset() || length < 0 || offset+length > data.Offset()+data.Len() {
		return fmt.Errorf("values [%d, %d) of an array that ends at %d", offset, offset+length, data.Offset()+data.Len())
	}
	at := len(b.nodes)
	b.nodes = append(b.nodes, fieldNode{length: int64(length)})
	if n.layout == layoutNull {
		b.nodes[at].nulls = int64(length)
		return nil
	}
	if n.hasValidity() {
		nulls, err := b.validity(data, offset, length)
		if err != nil {
			return err
		}
		b.nodes[at].nulls = int64(nulls)
	}
	switch n.layout {
	case layoutBits:
		values, err := bits(buffer(data, 1), offset, length)
		if err != nil {
			return err
		}
		b.add(values)
		return nil
	case layoutFixed:
		return b.window(data, 1, n.width, offset, length)
	case layoutBinary:
		start, end, err := b.offsets(n, data, offset, length)
		if err != nil {
			return err
		}
		return b.window(data, 2, 1, start, end-start)
	case layoutView:
		return b.views(data, offset, length)
	case layoutList:
		start, end, err := b.offsets(n, data, offset, length)
		if err != nil {
			return err
		}
		return b.child(n, data, 0, start, end-start)
	case layoutListView:
		return b.listViews(n, data, offset, length)
	case layoutFixedList:
		return b.child(n, data, 0, offset*n.width, length*n.width)
	case layoutStruct:
		return b.childrenAt(n, data, offset, length)
	case layoutSparse:
		if err := b.window(data, 1, 1, offset, length); err != nil {
			return err
		}
		return b.childrenAt(n, data, offset, length)
	case layoutDense:
		return b.dense(n, data, offset, length)
	case layoutRunEnds:
		return b.runEnds(n, data, offset, length)
	}
	return fmt.Errorf("an array of layout %d", n.layout)
}

// child adds values of a child, counted from its own first value.
func (b *body) child(n *node, data arrow.ArrayData, i, offset, length int) error {
	child := data.Children()[i]
	return b.array(n.children[i], child, child.Offset()+offset, length)
}

func (b *body) childrenAt(n *node, data arrow.ArrayData, offset, length int) error {
	for i := range n.children {
		if err := b.child(n, data, i, offset, length); err != nil {
			return err
		}
	}
	return nil
}

// buffer returns the bytes of an array's buffer, or none if it has none.
func buffer(data arrow.ArrayData, i int) []byte {
	buffers := data.Buffers()
	if i >= len(buffers) || buffers[i] == nil {
		return nil
	}
	return buffers[i].Bytes()
}

// cut returns length values of width bytes, from offset on.
func cut(values []byte, width, offset, length int) ([]byte, error) {
	if length == 0 || width == 0 {
		return nil, nil
	}
	if offset < 0 || length < 0 || offset+length > len(values)/width {
		return nil, fmt.Errorf("a buffer of %d bytes, too short for values [%d, %d) of %d bytes each", len(values), offset, offset+length, width)
	}
	return values[offset*width : (offset+length)*width], nil
}

// window adds values of a buffer as they are.
func (b *body) window(data arrow.ArrayData, i, width, offset, length int) error {
	values, err := cut(buffer(data, i), width, offset, length)
	if err != nil {
		return err
	}
	b.add(values)
	return nil
}

// bits returns bits of a bitmap as one that begins with a byte, which is a copy only if it did not.
func bits(bitmap []byte, offset, length int) ([]byte, error) {
	if length == 0 {
		return nil, nil
	}
	if offset+length > 8*len(bitmap) {
		return nil, fmt.Errorf("a bitmap of %d bytes, too short for bits [%d, %d)", len(bitmap), offset, offset+length)
	}
	size := int(bitutil.BytesForBits(int64(length)))
	if offset%8 == 0 {
		return bitmap[offset/8 : offset/8+size], nil
	}
	shifted := make([]byte, size)
	bitutil.CopyBitmap(bitmap, offset, length, shifted, 0)
	return shifted, nil
}

// validity adds the validity bitmap, or none if no value is null, and returns how many are.
func (b *body) validity(data arrow.ArrayData, offset, length int) (nulls int, err error) {
	bitmap := buffer(data, 0)
	nulls = data.NullN()
	if len(bitmap) == 0 || nulls == 0 || length == 0 {
		b.add(nil)
		return 0, nil
	}
	values, err := bits(bitmap, offset, length)
	if err != nil {
		return 0, err
	}
	if nulls < 0 || offset != data.Offset() || length != data.Len() {
		nulls = length - bitutil.CountSetBits(values, 0, length)
	}
	if nulls == 0 {
		values = nil
	}
	b.add(values)
	return nulls, nil
}

// offsets adds length+1 offsets that begin at zero, and returns which values they delimit.
func (b *body) offsets(n *node, data arrow.ArrayData, offset, length int) (start, end int, err error) {
	if length == 0 {
		b.add(noOffsets[:n.width])
		return 0, 0, nil
	}
	values, err := cut(buffer(data, 1), n.width, offset, length+1)
	if err != nil {
		return 0, 0, err
	}
	if n.width == 4 {
		values, start, end = rebased[int32](values)
	} else {
		values, start, end = rebased[int64](values)
	}
	if start < 0 || end < start {
		return 0, 0, fmt.Errorf("offsets that begin at %d and end at %d", start, end)
	}
	b.add(values)
	return start, end, nil
}

// rebased returns offsets less the first of them, which is a copy only if that is not zero.
func rebased[T int32 | int64](values []byte) (zeroBased []byte, start, end int) {
	offsets := arrow.GetData[T](values)
	first, last := offsets[0], offsets[len(offsets)-1]
	if first == 0 {
		return values, 0, int(last)
	}
	zeroBased = make([]byte, len(values))
	shifted := arrow.GetData[T](zeroBased)
	for i, offset := range offsets {
		shifted[i] = offset - first
	}
	return zeroBased, int(first), int(last)
}

// listViews adds offsets and sizes, and of the child what they show.
func (b *body) listViews(n *node, data arrow.ArrayData, offset, length int) error {
	offsets, err := cut(buffer(data, 1), n.width, offset, length)
	if err != nil {
		return err
	}
	sizes, err := cut(buffer(data, 2), n.width, offset, length)
	if err != nil {
		return err
	}
	var start, end int
	if n.width == 4 {
		offsets, start, end = shown[int32](offsets, sizes)
	} else {
		offsets, start, end = shown[int64](offsets, sizes)
	}
	b.add(offsets)
	b.add(sizes)
	return b.child(n, data, 0, start, end-start)
}

// shown returns which values list views show, and the views' offsets less the start of that. Views of size zero may point anywhere.
func shown[T int32 | int64](offsets, sizes []byte) (zeroBased []byte, start, end int) {
	begins, counts := arrow.GetData[T](offsets), arrow.GetData[T](sizes)
	start = math.MaxInt
	for i, begin := range begins {
		if counts[i] > 0 {
			start, end = min(start, int(begin)), max(end, int(begin)+int(counts[i]))
		}
	}
	if start > end {
		start = end
	}
	zeroBased = make([]byte, len(offsets))
	shifted := arrow.GetData[T](zeroBased)
	for i, begin := range begins {
		if counts[i] > 0 {
			shifted[i] = begin - T(start)
		}
	}
	return zeroBased, start, end
}

// viewInline is the length up to which a value stands in its view. Longer ones have, after length and first 4 bytes, the number of
// a buffer and an offset in it.
const viewInline = 12

// views adds views, and of each of their buffers what they show.
func (b *body) views(data arrow.ArrayData, offset, length int) error {
	const width = arrow.ViewHeaderSizeBytes
	views, err := cut(buffer(data, 1), width, offset, length)
	if err != nil {
		return err
	}
	var buffers []*memory.Buffer
	if len(data.Buffers()) > 2 {
		buffers = data.Buffers()[2:]
	}
	validity := buffer(data, 0)
	type span struct{ start, end int }
	spans := make([]span, len(buffers))
	for i := range spans {
		spans[i].start = math.MaxInt
	}
	longer := func(visit func(view []byte, buffer, start, size int) error) error {
		for i := range length {
			view := views[i*width : (i+1)*width]
			size := int(int32(binary.LittleEndian.Uint32(view)))
			if size <= viewInline || len(validity) > 0 && bitutil.BitIsNotSet(validity, offset+i) {
				continue
			}
			number, start := int(binary.LittleEndian.Uint32(view[8:])), int(binary.LittleEndian.Uint32(view[12:]))
			if number >= len(buffers) || buffers[number] == nil || start+size > buffers[number].Len() {
				return fmt.Errorf("a view of %d bytes at %d of buffer %d, which is shorter", size, start, number)
			}
			if err := visit(view, number, start, size); err != nil {
				return err
			}
		}
		return nil
	}
	err = longer(func(_ []byte, number, start, size int) error {
		s := &spans[number]
		s.start, s.end = min(s.start, start), max(s.end, start+size)
		return nil
	})
	if err != nil {
		return err
	}
	shift := false
	for i := range spans {
		if spans[i].start > spans[i].end {
			spans[i].start = spans[i].end
		}
		shift = shift || spans[i].start > 0
	}
	if shift {
		views = bytes.Clone(views)
		// What is changed now was found to be in range before.
		_ = longer(func(view []byte, number, start, _ int) error {
			binary.LittleEndian.PutUint32(view[12:], uint32(start-spans[number].start))
			return nil
		})
	}
	b.add(views)
	b.variadic = append(b.variadic, int64(len(buffers)))
	for i, s := range spans {
		if s.end == 0 {
			b.add(nil)
			continue
		}
		b.add(buffers[i].Bytes()[s.start:s.end])
	}
	return nil
}

// dense adds type codes and offsets, and of each child what they show.
func (b *body) dense(n *node, data arrow.ArrayData, offset, length int) error {
	codes, err := cut(buffer(data, 1), 1, offset, length)
	if err != nil {
		return err
	}
	places, err := cut(buffer(data, 2), 4, offset, length)
	if err != nil {
		return err
	}
	union := n.storage.(arrow.UnionType)
	ids := union.ChildIDs()
	offsets := arrow.GetData[int32](places)
	starts, ends := make([]int32, len(n.children)), make([]int32, len(n.children))
	for i := range starts {
		starts[i] = math.MaxInt32
	}
	for i, code := range codes {
		if int(code) >= len(ids) || ids[code] < 0 {
			return fmt.Errorf("a union value with type code %d, which its type does not have", int8(code))
		}
		child := ids[code]
		starts[child], ends[child] = min(starts[child], offsets[i]), max(ends[child], offsets[i]+1)
	}
	shift := false
	for i := range starts {
		starts[i] = min(starts[i], ends[i])
		shift = shift || starts[i] > 0
	}
	if shift {
		places = make([]byte, len(places))
		shifted := arrow.GetData[int32](places)
		for i, code := range codes {
			shifted[i] = offsets[i] - starts[ids[code]]
		}
	}
	b.add(codes)
	b.add(places)
	for i := range n.children {
		if err := b.child(n, data, i, int(starts[i]), int(ends[i]-starts[i])); err != nil {
			return err
		}
	}
	return nil
}

// runEnds adds the runs that lie in the window, the last one cut at its end.
func (b *body) runEnds(n *node, data arrow.ArrayData, offset, length int) error {
	child := data.Children()[0]
	width := n.children[0].width
	ends, err := cut(buffer(child, 1), width, child.Offset(), child.Len())
	if err != nil {
		return err
	}
	var first int
	switch width {
	case 2:
		ends, first, err = runs[int16](ends, offset, length)
	case 4:
		ends, first, err = runs[int32](ends, offset, length)
	default:
		ends, first, err = runs[int64](ends, offset, length)
	}
	if err != nil {
		return err
	}
	count := len(ends) / width
	b.nodes = append(b.nodes, fieldNode{length: int64(count)})
	b.add(nil)
	b.add(ends)
	return b.child(n, data, 1, first, count)
}

// runs returns the run ends of a window, counted from its start, and which run is the first.
func runs[T int16 | int32 | int64](values []byte, offset, length int) (ends []byte, first int, err error) {
	if length == 0 {
		return nil, 0, nil
	}
	all := arrow.GetData[T](values)
	for first < len(all) && int(all[first]) <= offset {
		first++
	}
	last := first
	for last < len(all) && int(all[last]) < offset+length {
		last++
	}
	if last == len(all) {
		return nil, 0, fmt.Errorf("%d runs that end before value %d", len(all), offset+length)
	}
	if offset == 0 && int(all[last]) == length {
		return arrow.GetBytes(all[:last+1]), first, nil
	}
	shifted := make([]T, last-first+1)
	for i := range shifted {
		shifted[i] = T(min(int(all[first+i])-offset, length))
	}
	return arrow.GetBytes(shifted), first, nil
}
