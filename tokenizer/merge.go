package tokenizer

import "math/bits"

// pairTable maps pairs of symbols to the rank of their merge and what it makes. Open addressing, half full.
type pairTable struct {
	entries []pairEntry
	shift   uint8
}

type pairEntry struct {
	pair     uint64 // left<<32 | right, plus one; 0 marks a free place
	rank, to int32
}

func newPairTable(n int) *pairTable {
	logSize := max(bits.Len(uint(2*n)), 4)
	return &pairTable{entries: make([]pairEntry, 1<<logSize), shift: uint8(64 - logSize)}
}

func (t *pairTable) find(a, b int32) *pairEntry {
	pair := (uint64(uint32(a))<<32 | uint64(uint32(b))) + 1
	for i := (pair * 0x9e3779b97f4a7c15) >> t.shift; ; i++ {
		e := &t.entries[i&uint64(len(t.entries)-1)]
		if e.pair == pair || e.pair == 0 {
			return e
		}
	}
}

func (t *pairTable) put(a, b, rank, to int32) {
	*t.find(a, b) = pairEntry{(uint64(uint32(a))<<32 | uint64(uint32(b))) + 1, rank, to}
}

// rank returns the rank of the merge of a and b and its result; noRank if there is none.
func (t *pairTable) rank(a, b int32) (rank, to int32) {
	if e := t.find(a, b); e.pair != 0 {
		return e.rank, e.to
	}
	return noRank, 0
}

// bpeScratch is what merging needs. It is of one Encoder.
type bpeScratch struct {
	ranks      []int32
	results    []int32
	prev, next []int32
	heap       []uint64 // rank<<32 | place
}

func (s *bpeScratch) shrink() {
	if cap(s.heap) > keepBytes/8 || cap(s.ranks) > keepBytes/4 {
		*s = bpeScratch{}
	}
}

// mergeScan is the number of symbols up to which scanning for the lowest rank beats a heap.
const mergeScan = 64

// merge merges symbols in place and returns how many are left.
func (m *bpe) merge(s *bpeScratch, symbols []int32) int {
	n := len(symbols)
	if n < 2 {
		return n
	}
	s.ranks, s.results = resize(s.ranks, n), resize(s.results, n)
	for i := range n - 1 {
		s.ranks[i], s.results[i] = m.merges.rank(symbols[i], symbols[i+1])
	}
	if n > mergeScan {
		return m.mergeHeap(s, symbols)
	}
	ranks, results := s.ranks[:n-1], s.results[:n-1]
	for len(ranks) > 0 {
		best := 0
		for i, r := range ranks {
			if r < ranks[best] {
				best = i
			}
		}
		if ranks[best] == noRank {
			break
		}
		symbols[best] = results[best]
		copy(symbols[best+1:], symbols[best+2:])
		copy(ranks[best:], ranks[best+1:])
		copy(results[best:], results[best+1:])
		symbols, ranks, results = symbols[:len(symbols)-1], ranks[:len(ranks)-1], results[:len(results)-1]
		if best < len(ranks) {
			ranks[best], results[best] = m.merges.rank(symbols[best], symbols[best+1])
		}
		if best > 0 {
			ranks[best-1], results[best-1] = m.merges.rank(symbols[best-1], symbols[best])
		}
	}
	return len(symbols)
}

// mergeHeap is merge for long pieces, in n log n. ranks[i] is the rank of the pair that begins at i; an entry of the heap
// whose rank is another is out of date.
func (m *bpe) mergeHeap(s *bpeScratch, symbols []int32) int {
	n := int32(len(symbols))
	s.prev, s.next = resize(s.prev, int(n)), resize(s.next, int(n))
	s.heap = s.heap[:0]
	for i := range n {
		s.prev[i], s.next[i] = i-1, i+1
	}
	s.ranks[n-1] = noRank
	for i, r := range s.ranks[:n] {
		if r != noRank {
			s.heap = append(s.heap, uint64(r)<<32|uint64(i))
		}
	}
	for i := len(s.heap)/2 - 1; i >= 0; i-- {
		siftDown(s.heap, i)
	}
	update := func(i int32) {
		s.ranks[i] = noRank
		if j := s.next[i]; j < n {
			if s.ranks[i], s.results[i] = m.merges.rank(symbols[i], symbols[j]); s.ranks[i] != noRank {
				s.heap = append(s.heap, uint64(s.ranks[i])<<32|uint64(i))
				siftUp(s.heap)
			}
		}
	}
	for len(s.heap) > 0 {
		top := s.heap[0]
		last := len(s.heap) - 1
		s.heap[0], s.heap = s.heap[last], s.heap[:last]
		siftDown(s.heap, 0)
		i := int32(uint32(top))
		if s.ranks[i] != int32(top>>32) {
			continue
		}
		j := s.next[i]
		symbols[i] = s.results[i]
		s.ranks[j] = noRank
		s.next[i] = s.next[j]
		if s.next[j] < n {
			s.prev[s.next[j]] = i
		}
		update(i)
		if s.prev[i] >= 0 {
			update(s.prev[i])
		}
	}
	k := 0
	for i := int32(0); i < n; i = s.next[i] {
		symbols[k] = symbols[i]
		k++
	}
	return k
}

func siftDown(h []uint64, i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if h[i] <= h[c] {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

func siftUp(h []uint64) {
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if h[p] <= h[i] {
			return
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
}

// resize returns s with length n, its contents of no meaning.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
