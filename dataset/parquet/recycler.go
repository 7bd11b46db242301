package parquet

import (
	"math/bits"
	"sync"

	"github.com/apache/arrow/go/v15/arrow/memory"
)

// recycler is the memory of one reader's batches. It gives out again what has been freed, which spares clearing it, and the garbage
// collector. What is freed after it is closed goes back to the underlying allocator. Blocks come with whatever they held before. It is
// safe for concurrent use: batches may outlive the reader, anywhere.
type recycler struct {
	from memory.Allocator

	mu sync.Mutex
	// free holds blocks by their size, freeBytes in all.
	free      map[int][][]byte
	freeBytes int
	closed    bool
}

const (
	// Smaller blocks are not worth it, larger ones would be held too long.
	leastRecycled, mostRecycled = 4 << 10, 8 << 20
	// maxFreeBytes bounds what is held for later.
	maxFreeBytes = 32 << 20
)

func newRecycler(from memory.Allocator) *recycler {
	return &recycler{from: from, free: map[int][][]byte{}}
}

// recycledSize rounds up to one of eight sizes between powers of two.
func recycledSize(size int) int {
	step := 1 << max(0, bits.Len(uint(size-1))-4)
	return (size + step - 1) &^ (step - 1)
}

// Allocate returns memory with any content.
func (r *recycler) Allocate(size int) []byte {
	if size < leastRecycled || size > mostRecycled {
		return r.from.Allocate(size)
	}
	size, whole := recycledSize(size), size
	r.mu.Lock()
	if n := len(r.free[size]); n > 0 {
		block := r.free[size][n-1]
		r.free[size] = r.free[size][:n-1]
		r.freeBytes -= size
		r.mu.Unlock()
		return block[:whole]
	}
	r.mu.Unlock()
	return r.from.Allocate(size)[:whole]
}

// Reallocate returns memory that begins with the content of b, which is freed unless it is the same.
func (r *recycler) Reallocate(size int, b []byte) []byte {
	if size > 0 && size <= cap(b) {
		return b[:size]
	}
	larger := r.Allocate(size)
	copy(larger, b)
	r.Free(b)
	return larger
}

// Free takes a block back.
func (r *recycler) Free(b []byte) {
	b = b[:cap(b)]
	if len(b) >= leastRecycled && len(b) <= mostRecycled && r.keep(b) {
		return
	}
	r.from.Free(b)
}

func (r *recycler) keep(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.freeBytes+len(b) > maxFreeBytes {
		return false
	}
	if poisonPools {
		memory.Set(b, 0xab)
	}
	r.free[len(b)] = append(r.free[len(b)], b)
	r.freeBytes += len(b)
	return true
}

// close gives back what is free.
func (r *recycler) close() {
	r.mu.Lock()
	free := r.free
	r.free, r.freeBytes, r.closed = nil, 0, true
	r.mu.Unlock()
	for _, blocks := range free {
		for _, b := range blocks {
			r.from.Free(b)
		}
	}
}
