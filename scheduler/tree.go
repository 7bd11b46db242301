package scheduler

import "math"

// never is the score of a node that takes nothing: it drains, or is kept for a class that does not fit yet.
var never = math.Inf(1)

// tree finds the best node for a request without looking at all of them. It is a complete binary tree over the nodes in
// their order. Every inner entry holds the smallest score and, dimension by dimension, the most that is free below it, so
// that a subtree which is too full or no better than what was found is skipped.
type tree struct {
	// size is the number of leaves, a power of two; the leaf of node i is entry size+i, the parent of entry e is e/2.
	size, width int
	// least has the smallest score of each entry.
	least []float64
	// free has width values for each entry; in a leaf it is what the node has free.
	free []int64
}

func newTree(nodes, width int) *tree {
	size := 1
	for size < nodes {
		size *= 2
	}
	t := &tree{size: size, width: width, least: make([]float64, 2*size), free: make([]int64, 2*size*width)}
	for i := range t.least {
		t.least[i] = never
	}
	return t
}

// leaf returns what node i has free, for reading and for writing before build or update.
func (t *tree) leaf(i int) []int64 { return t.entry(t.size + i) }

func (t *tree) entry(e int) []int64 { return t.free[e*t.width : (e+1)*t.width : (e+1)*t.width] }

// build computes the inner entries from the leaves.
func (t *tree) build() {
	for e := t.size - 1; e >= 1; e-- {
		t.join(e)
	}
}

// join computes entry e from its two children and reports whether it changed.
func (t *tree) join(e int) bool {
	changed := false
	if least := min(t.least[2*e], t.least[2*e+1]); least != t.least[e] {
		t.least[e], changed = least, true
	}
	own, left, right := t.entry(e), t.entry(2*e), t.entry(2*e+1)
	for d := range own {
		if most := max(left[d], right[d]); most != own[d] {
			own[d], changed = most, true
		}
	}
	return changed
}

// update gives node i a score, after its leaf was changed, and corrects the entries above.
func (t *tree) update(i int, score float64) {
	e := t.size + i
	t.least[e] = score
	for e /= 2; e >= 1 && t.join(e); e /= 2 {
	}
}

// search is one walk through the tree of a pool.
type search struct {
	*tree
	pass *pass
	pool *pool
	need *need
}

// below returns the first leaf under entry e with the smallest score among those that have room and score below limit, and that score;
// or -1. With equal set, a score of just limit is good enough as well.
func (s *search) below(e int, limit float64, equal bool) (int, float64) {
	if least := s.least[e]; least > limit || least == limit && !equal || !covers(s.entry(e), s.need) {
		return -1, limit
	}
	if e >= s.size {
		return s.look(e, limit, equal)
	}
	left, right := 2*e, 2*e+1
	if s.least[right] < s.least[left] {
		// The better half first, so that more of the other is skipped; at equal scores the left one still wins.
		found, score := s.below(right, limit, equal)
		if found >= 0 {
			equal = true
		}
		if i, better := s.below(left, score, equal); i >= 0 {
			return i, better
		}
		return found, score
	}
	found, score := s.below(left, limit, equal)
	if found >= 0 {
		equal = false
	}
	if i, better := s.below(right, score, equal); i >= 0 {
		return i, better
	}
	return found, score
}

// look is below for a leaf, which it reads again if it is behind.
func (s *search) look(e int, limit float64, equal bool) (int, float64) {
	leaf := e - s.size
	m := &s.pass.members[s.pool.members[leaf]]
	if s.pool.seen[leaf] != m.version {
		s.pass.refresh(s.pool, leaf)
		if least := s.least[e]; least > limit || least == limit && !equal || !covers(s.entry(e), s.need) {
			return -1, limit
		}
	}
	if !hasDevices(m.devices, s.need) {
		return -1, limit
	}
	return leaf, s.least[e]
}
