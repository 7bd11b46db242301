package table

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
)

// valid says whether value i is not null.
func (a *loading) valid(i int) bool { return len(a.validity) == 0 || bitutil.BitIsSet(a.validity, i) }

// checkOffsets checks offsets into limit values, and returns the first and the last. Of trusted bytes it looks at these two alone.
func (a *loading) checkOffsets(bytes []byte, limit int) (first, last int, err error) {
	ascending := true
	if a.n.width == 4 {
		offsets := arrow.GetData[int32](bytes)
		first, last = int(offsets[0]), int(offsets[len(offsets)-1])
		if !a.trusted {
			ascending = ascend(offsets)
		}
	} else {
		offsets := arrow.GetData[int64](bytes)
		first, last = int(offsets[0]), int(offsets[len(offsets)-1])
		if !a.trusted {
			ascending = ascend(offsets)
		}
	}
	if first < 0 || last < first || last > limit || !ascending {
		return 0, 0, fmt.Errorf("offsets from %d to %d of %d values, expected none less than the one before", first, last, limit)
	}
	return first, last, nil
}

// ascend reports whether offsets are not negative and none is less than the one before. It looks at all of them, since a loop
// without an exit is several times as fast.
func ascend[T int32 | int64](offsets []T) bool {
	var sign T
	last := offsets[0]
	for _, offset := range offsets {
		// As long as no offset is negative, no difference overflows.
		sign |= offset | (offset - last)
		last = offset
	}
	return sign >= 0
}

// checkText checks that each text is UTF-8, as code in Go takes for granted.
func (a *loading) checkText(offsets, values []byte, first, last int) error {
	all := values[first:last]
	if ascii(all) {
		return nil
	}
	at := func(i int) int {
		if a.n.width == 4 {
			return int(int32(binary.LittleEndian.Uint32(offsets[4*i:])))
		}
		return int(binary.LittleEndian.Uint64(offsets[8*i:]))
	}
	if utf8.Valid(all) {
		// Then each text is as well, if none begins within a character.
		within := false
		for i := range a.length {
			if start := at(i); start < last && !utf8.RuneStart(values[start]) {
				within = true
				break
			}
		}
		if !within {
			return nil
		}
	}
	// What is behind a null value is nobody's text.
	for i := range a.length {
		if a.valid(i) && !utf8.Valid(values[at(i):at(i+1)]) {
			return fmt.Errorf("text %d is not utf-8", i)
		}
	}
	return nil
}

// ascii reports whether all bytes are less than 128.
func ascii(bytes []byte) bool {
	const high = 0x8080808080808080
	for len(bytes) >= 32 {
		word := binary.LittleEndian.Uint64(bytes) | binary.LittleEndian.Uint64(bytes[8:]) |
			binary.LittleEndian.Uint64(bytes[16:]) | binary.LittleEndian.Uint64(bytes[24:])
		if word&high != 0 {
			return false
		}
		bytes = bytes[32:]
	}
	var last byte
	for _, b := range bytes {
		last |= b
	}
	return last < utf8.RuneSelf
}

// checkViews checks that views are within their buffers, begin as the values do, and are UTF-8 if they are texts.
func (a *loading) checkViews(views []byte, buffers [][]byte) error {
	for i := range a.length {
		if !a.valid(i) {
			continue
		}
		view := views[i*arrow.ViewHeaderSizeBytes : (i+1)*arrow.ViewHeaderSizeBytes]
		size := int(int32(binary.LittleEndian.Uint32(view)))
		var value []byte
		switch {
		case size < 0:
			return fmt.Errorf("view %d of %d bytes", i, size)
		case size <= viewInline:
			value = view[4 : 4+size]
		default:
			number, start := int(int32(binary.LittleEndian.Uint32(view[8:]))), int(int32(binary.LittleEndian.Uint32(view[12:])))
			if number < 0 || number >= len(buffers) || start < 0 || start > len(buffers[number])-size {
				return fmt.Errorf("view %d of %d bytes at %d of buffer %d, out of range", i, size, start, number)
			}
			value = buffers[number][start : start+size]
			if string(value[:4]) != string(view[4:8]) {
				return fmt.Errorf("view %d begins with %q, and its value with %q", i, view[4:8], value[:4])
			}
		}
		if a.n.text && !utf8.Valid(value) {
			return fmt.Errorf("text %d is not utf-8", i)
		}
	}
	return nil
}

// checkListViews checks that views are within limit values.
func checkListViews[T int32 | int64](offsets, sizes []byte, limit int) error {
	counts := arrow.GetData[T](sizes)
	for i, offset := range arrow.GetData[T](offsets) {
		if offset < 0 || counts[i] < 0 || int(offset) > limit || int(counts[i]) > limit-int(offset) {
			return fmt.Errorf("list %d of %d values from %d on, of %d", i, counts[i], offset, limit)
		}
	}
	return nil
}

// checkUnion checks type codes, and the offsets of a dense union.
func (a *loading) checkUnion(codes, offsets []byte) error {
	// limits are, by type code, one more than how long its child is; zero for a code that the type does not have.
	var limits [256]int
	for child, code := range a.n.storage.(arrow.UnionType).TypeCodes() {
		limits[uint8(code)] = a.children[child].Len() + 1
	}
	if offsets == nil {
		for i, code := range codes {
			if limits[code] == 0 {
				return fmt.Errorf("value %d has type code %d, which the type does not have", i, int8(code))
			}
		}
		return nil
	}
	for i, code := range codes {
		offset := int(int32(binary.LittleEndian.Uint32(offsets[4*i:])))
		if offset < 0 || offset+1 >= limits[code] {
			return fmt.Errorf("value %d with type code %d is value %d of %d", i, int8(code), offset, limits[code]-1)
		}
	}
	return nil
}

// checkRunEnds checks that run ends ascend and reach the array's length; of trusted bytes, the last alone.
func checkRunEnds[T int16 | int32 | int64](bytes []byte, length int, trusted bool) error {
	ends := arrow.GetData[T](bytes)
	if length > 0 && (len(ends) == 0 || int(ends[len(ends)-1]) < length) {
		return fmt.Errorf("%d runs that end before value %d", len(ends), length)
	}
	if trusted {
		return nil
	}
	var last T
	for i, end := range ends {
		if end <= last {
			return fmt.Errorf("run %d ends at %d, and the one before at %d", i, end, last)
		}
		last = end
	}
	return nil
}

// checkIndices checks that the indices of values that are not null are less than limit.
func (a *loading) checkIndices(bytes []byte, limit int) error {
	index := a.n.storage.(*arrow.DictionaryType).IndexType.ID()
	switch index {
	case arrow.INT8:
		return checkIndices(a, arrow.GetData[int8](bytes), limit)
	case arrow.INT16:
		return checkIndices(a, arrow.GetData[int16](bytes), limit)
	case arrow.INT32:
		return checkIndices(a, arrow.GetData[int32](bytes), limit)
	case arrow.INT64:
		return checkIndices(a, arrow.GetData[int64](bytes), limit)
	case arrow.UINT8:
		return checkIndices(a, arrow.GetData[uint8](bytes), limit)
	case arrow.UINT16:
		return checkIndices(a, arrow.GetData[uint16](bytes), limit)
	case arrow.UINT32:
		return checkIndices(a, arrow.GetData[uint32](bytes), limit)
	default:
		return checkIndices(a, arrow.GetData[uint64](bytes), limit)
	}
}

func checkIndices[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64](a *loading, indices []T, limit int) error {
	// As unsigned numbers, those that are negative are too large.
	var highest uint64
	for _, index := range indices {
		highest = max(highest, uint64(index))
	}
	if highest < uint64(limit) {
		return nil
	}
	for i, index := range indices {
		if uint64(index) >= uint64(limit) && a.valid(i) {
			return fmt.Errorf("value %d is number %d of a dictionary of %d", i, index, limit)
		}
	}
	return nil
}
