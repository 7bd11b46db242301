package expression

import (
	"math/bits"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
)

// bitmap has a bit for each row, the first in the lowest bit of the first word. Bits behind the last row may be anything.
type bitmap []uint64

func words(rows int) int { return (rows + 63) / 64 }

func (b bitmap) has(row int) bool { return b[row/64]>>(row%64)&1 != 0 }

func (b bitmap) set(row int) { b[row/64] |= 1 << (row % 64) }

// count counts the bits of the first rows.
func (b bitmap) count(rows int) int {
	n := 0
	for _, w := range b[:rows/64] {
		n += bits.OnesCount64(w)
	}
	if tail := rows % 64; tail > 0 {
		n += bits.OnesCount64(b[rows/64] & (1<<tail - 1))
	}
	return n
}

// each calls f with every row whose bit is set, in order, until it returns false.
func (b bitmap) each(rows int, f func(row int) bool) {
	for i := range words(rows) {
		w := b[i]
		if left := rows - i*64; left < 64 {
			w &= 1<<left - 1
		}
		for ; w != 0; w &= w - 1 {
			if !f(i*64 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}

// resize returns a bitmap for rows, whose content is not defined.
func (b bitmap) resize(rows int) bitmap { return grow(b, words(rows)) }

// grow returns a slice of length n, whose content is not defined.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// vector is a column in the making. Which of its fields counts says the node's kind. What the rows that are null hold is not defined.
type vector struct {
	// valid has the rows that are not null; nil if none is.
	valid  bitmap
	ints   []int64 // integers; dates in days, timestamps in microseconds, since 1970
	floats []float64
	bools  bitmap
	// Text i lies in data from offsets[i] to offsets[i+1].
	offsets []int32
	data    []byte
	// single says that all rows have the text of the first.
	single bool

	// own says that the slices are the vector's own, and that it goes back to the evaluator after use. The spares are kept for that.
	own        bool
	spareValid bitmap
}

func (v *vector) text(row int) []byte {
	if v.single {
		row = 0
	}
	return v.data[v.offsets[row]:v.offsets[row+1]]
}

func (v *vector) isValid(row int) bool { return v.valid == nil || v.valid.has(row) }

// needValid makes room for the rows that are not null.
func (v *vector) needValid(rows int) bitmap {
	v.spareValid = v.spareValid.resize(rows)
	v.valid = v.spareValid
	return v.valid
}

// validBoth makes rows valid that are so in both.
func (v *vector) validBoth(rows int, a, b *vector) {
	switch {
	case a.valid == nil && b.valid == nil:
		v.valid = nil
	case a.valid == nil:
		copy(v.needValid(rows), b.valid)
	case b.valid == nil:
		copy(v.needValid(rows), a.valid)
	default:
		out, x, y := v.needValid(rows), a.valid, b.valid
		for i := range out {
			out[i] = x[i] & y[i]
		}
	}
}

// validAlso takes rows away that are not valid in a further one.
func (v *vector) validAlso(rows int, a *vector) {
	switch {
	case a.valid == nil:
	case v.valid == nil:
		v.validAs(rows, a)
	default:
		for i := range v.valid {
			v.valid[i] &= a.valid[i]
		}
	}
}

// validAs makes rows valid that are so in a.
func (v *vector) validAs(rows int, a *vector) {
	if v.valid = nil; a.valid != nil {
		copy(v.needValid(rows), a.valid)
	}
}

// load fills a vector with a column of the table, sharing its memory where the column is as the kernels want it. It returns a row whose
// value does not fit, or -1.
func (v *vector) load(column arrow.Array) int {
	rows := column.Len()
	v.valid = nil
	if column.NullN() > 0 {
		copyBits(v.needValid(rows), column.NullBitmapBytes(), column.Data().Offset(), rows)
	}
	switch c := column.(type) {
	case *array.Int64:
		v.ints = c.Int64Values()
	case *array.Float64:
		v.floats = c.Float64Values()
	case *array.Float32:
		v.floats = grow(v.floats, rows)
		for i, x := range c.Float32Values() {
			v.floats[i] = float64(x)
		}
	case *array.Int8:
		v.ints = widen(v.ints, c.Int8Values())
	case *array.Int16:
		v.ints = widen(v.ints, c.Int16Values())
	case *array.Int32:
		v.ints = widen(v.ints, c.Int32Values())
	case *array.Uint8:
		v.ints = widen(v.ints, c.Uint8Values())
	case *array.Uint16:
		v.ints = widen(v.ints, c.Uint16Values())
	case *array.Uint32:
		v.ints = widen(v.ints, c.Uint32Values())
	case *array.Uint64:
		v.ints = widen(v.ints, c.Uint64Values())
		return v.firstBad(func(i int) bool { return v.ints[i] < 0 }, nil)
	case *array.Date32:
		v.ints = widen(v.ints, c.Date32Values())
	case *array.Timestamp:
		return v.loadTimestamps(c)
	case *array.Boolean:
		v.bools = v.bools.resize(rows)
		if rows > 0 {
			copyBits(v.bools, c.Data().Buffers()[1].Bytes(), c.Data().Offset(), rows)
		}
	case *array.String:
		v.offsets, v.data = c.ValueOffsets(), nil
		if buffer := c.Data().Buffers()[2]; buffer != nil {
			v.data = buffer.Bytes()
		}
	}
	return -1
}

func (v *vector) loadTimestamps(c *array.Timestamp) int {
	values := c.TimestampValues()
	v.ints = widen(v.ints, values)
	factor := int64(1)
	switch c.DataType().(*arrow.TimestampType).Unit {
	case arrow.Microsecond:
		return -1
	case arrow.Nanosecond:
		for i := range v.ints {
			v.ints[i] /= 1_000
		}
		return v.firstBad(func(i int) bool { return int64(values[i])%1_000 != 0 }, nil)
	case arrow.Millisecond:
		factor = 1_000
	case arrow.Second:
		factor = 1_000_000
	}
	for i := range v.ints {
		v.ints[i] *= factor
	}
	return v.firstBad(func(i int) bool { return v.ints[i]/factor != int64(values[i]) }, nil)
}

// firstBad returns the first row that is bad, not null, and active, or -1.
func (v *vector) firstBad(bad func(row int) bool, active bitmap) int {
	for i := range v.ints {
		if bad(i) && v.isValid(i) && (active == nil || active.has(i)) {
			return i
		}
	}
	return -1
}

func widen[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](dst []int64, src []T) []int64 {
	dst = grow(dst, len(src))
	for i, x := range src {
		dst[i] = int64(x) //nolint:gosec // Of uint64 what does not fit is found afterwards.
	}
	return dst
}

// copyBits copies a bitmap of Arrow's.
func copyBits(dst bitmap, src []byte, offset, rows int) {
	bitutil.CopyBitmap(src, offset, rows, arrow.Uint64Traits.CastToBytes(dst), 0)
}
