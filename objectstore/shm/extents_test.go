package shm_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/f708428e/engine/objectstore/shm"
)

// TestExtents compares the allocator with a bitmap of its units.
func TestExtents(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runExtents(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func runExtents(t *testing.T, random *rand.Rand) {
	const unit = shm.Alignment
	units := 1 + random.Int64N(200)
	size := units*unit + random.Int64N(unit)
	e := shm.NewExtents(size)
	used := make([]bool, units)
	type extent struct{ offset, n int64 }
	var held []extent

	// fits finds the shortest run of free units for n bytes outside of avoid, and of those the first, as the documentation says.
	fits := func(n int64, avoid shm.Range) (offset int64, ok bool) {
		best := int64(-1)
		for from := int64(0); from < units; {
			end := from
			for end < units && !used[end] && !(end*unit < avoid.End && avoid.Offset < (end+1)*unit) {
				end++
			}
			if free := (end - from) * unit; free >= n && (best < 0 || free < best) {
				best, offset = free, from*unit
			}
			from = end + 1
		}
		return offset, best >= 0
	}
	for range 500 {
		if random.IntN(2) == 0 || len(held) == 0 {
			n := 1 + random.Int64N(1+units*unit/4)
			var avoid shm.Range
			if random.IntN(3) == 0 {
				avoid.Offset = random.Int64N(units) * unit
				avoid.End = min(avoid.Offset+random.Int64N(units*unit), units*unit)
			}
			want, wantOK := fits(n, avoid)
			offset, ok := e.Alloc(n, avoid)
			if ok != wantOK || ok && offset != want {
				t.Fatalf("Alloc(%d, %v) = %d, %v, want %d, %v", n, avoid, offset, ok, want, wantOK)
			}
			if ok {
				held = append(held, extent{offset, n})
				mark(used, offset, n, true)
			}
		} else {
			i := random.IntN(len(held))
			x := held[i]
			held = append(held[:i], held[i+1:]...)
			e.Free(x.offset, x.n)
			mark(used, x.offset, x.n, false)
		}
		sum := int64(0)
		for _, u := range used {
			if u {
				sum += unit
			}
		}
		if e.UsedBytes() != sum {
			t.Fatalf("UsedBytes() = %d, want %d", e.UsedBytes(), sum)
		}
		ranges := e.FreeRanges()
		for i, r := range ranges {
			if r.Len() <= 0 || i > 0 && r.Offset <= ranges[i-1].End {
				t.Fatalf("the free ranges are not apart: %v", ranges)
			}
		}
	}
}

func mark(used []bool, offset, n int64, value bool) {
	for u := offset / shm.Alignment; u < shm.AlignUp(offset+n)/shm.Alignment; u++ {
		used[u] = value
	}
}

func TestExtentsRefuse(t *testing.T) {
	e := shm.NewExtents(1000)
	for _, n := range []int64{0, -1, 961, 1 << 62} {
		if _, ok := e.Alloc(n, shm.Range{}); ok {
			t.Errorf("Alloc(%d) of %d bytes succeeded", n, e.SizeBytes())
		}
	}
	offset, _ := e.Alloc(100, shm.Range{})
	e.Free(offset, 100)
	for _, free := range []struct{ offset, n int64 }{{0, 100}, {-64, 64}, {960, 64}, {0, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Free(%d, %d) of free memory did not panic", free.offset, free.n)
				}
			}()
			e.Free(free.offset, free.n)
		}()
	}
}
