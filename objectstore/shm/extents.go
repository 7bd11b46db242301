package shm

import (
	"slices"
	"sort"
)

// Alignment is what every extent's offset and length are multiples of: Arrow's recommended alignment of buffers.
const Alignment = 64

// AlignUp returns the smallest multiple of Alignment that is at least n.
func AlignUp(n int64) int64 { return (n + Alignment - 1) &^ (Alignment - 1) }

// Range is the bytes from Offset to End, End excluded.
type Range struct{ Offset, End int64 }

// Len is the number of bytes in the range.
func (r Range) Len() int64 { return r.End - r.Offset }

// overlaps reports whether two ranges share a byte.
func (r Range) overlaps(other Range) bool { return r.Offset < other.End && other.Offset < r.End }

// Extents decides which ranges of an arena are in use. It is a pure data structure, knows no memory, and is not safe for
// concurrent use. The smallest free range that is large enough is taken, and among equals the one at the lowest offset, so that
// memory that was used before is used again.
type Extents struct {
	size int64
	// free is sorted by offset; neighbours never touch.
	free []Range
	used int64
}

// NewExtents makes an allocator over size bytes, all of them free. What size has beyond a multiple of Alignment is not used.
func NewExtents(size int64) *Extents {
	e := &Extents{size: size &^ (Alignment - 1)}
	if e.size > 0 {
		e.free = []Range{{0, e.size}}
	}
	return e
}

// Alloc takes a range of n bytes, rounded up to Alignment, that does not overlap avoid. The zero Range avoids nothing.
func (e *Extents) Alloc(n int64, avoid Range) (offset int64, ok bool) {
	if n <= 0 || n > e.size {
		return 0, false
	}
	n = AlignUp(n)
	best, bestLen := Range{}, int64(-1)
	consider := func(r Range) {
		if r.Len() >= n && (bestLen < 0 || r.Len() < bestLen) {
			best, bestLen = r, r.Len()
		}
	}
	for _, r := range e.free {
		if !r.overlaps(avoid) {
			consider(r)
			continue
		}
		consider(Range{r.Offset, avoid.Offset})
		consider(Range{AlignUp(avoid.End), r.End})
	}
	if bestLen < 0 {
		return 0, false
	}
	e.take(Range{best.Offset, best.Offset + n})
	return best.Offset, true
}

// take removes a range that lies within a free one.
func (e *Extents) take(r Range) {
	i := sort.Search(len(e.free), func(i int) bool { return e.free[i].End > r.Offset })
	whole := e.free[i]
	left, right := Range{whole.Offset, r.Offset}, Range{r.End, whole.End}
	switch {
	case left.Len() > 0 && right.Len() > 0:
		e.free[i] = left
		e.free = slices.Insert(e.free, i+1, right)
	case left.Len() > 0:
		e.free[i] = left
	case right.Len() > 0:
		e.free[i] = right
	default:
		e.free = slices.Delete(e.free, i, i+1)
	}
	e.used += r.Len()
}

// Free gives back a range that Alloc returned for n bytes. It panics if any byte of it is free already.
func (e *Extents) Free(offset, n int64) {
	r := Range{offset, offset + AlignUp(n)}
	i := sort.Search(len(e.free), func(i int) bool { return e.free[i].End > r.Offset })
	if n <= 0 || offset < 0 || r.End > e.size || i < len(e.free) && e.free[i].overlaps(r) {
		panic("shm: an extent was freed twice, or was never allocated")
	}
	e.used -= r.Len()
	joinsLeft := i > 0 && e.free[i-1].End == r.Offset
	joinsRight := i < len(e.free) && e.free[i].Offset == r.End
	switch {
	case joinsLeft && joinsRight:
		e.free[i-1].End = e.free[i].End
		e.free = slices.Delete(e.free, i, i+1)
	case joinsLeft:
		e.free[i-1].End = r.End
	case joinsRight:
		e.free[i].Offset = r.Offset
	default:
		e.free = slices.Insert(e.free, i, r)
	}
}

// UsedBytes is the sum of the ranges in use, rounding included.
func (e *Extents) UsedBytes() int64 { return e.used }

// SizeBytes is what can be allocated in all.
func (e *Extents) SizeBytes() int64 { return e.size }

// FreeRanges returns the free ranges in order; neighbours never touch.
func (e *Extents) FreeRanges() []Range { return slices.Clone(e.free) }
