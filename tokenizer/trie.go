package tokenizer

import "slices"

// trie maps byte strings to values in a double array with XOR transitions (J. Aoe, 1989; the XOR form as in darts-clone):
// the child of node s under byte b is node base[s]^b, if its check is s. Immutable once built.
type trie struct {
	nodes []trieNode
}

type trieNode struct {
	base  int32
	check int32 // the parent; -1 for a free place and for the root
	value int32 // -1 for none
}

const trieRoot int32 = 0

// child returns the node below s under b, or -1.
func (t *trie) child(s int32, b byte) int32 {
	n := t.nodes[s].base ^ int32(b)
	if uint(n) < uint(len(t.nodes)) && t.nodes[n].check == s {
		return n
	}
	return -1
}

// walk returns the node that key leads to from s, or -1.
func (t *trie) walk(s int32, key []byte) int32 {
	for _, b := range key {
		if s = t.child(s, b); s < 0 {
			return -1
		}
	}
	return s
}

// get returns the value of key.
func (t *trie) get(key []byte) (int32, bool) {
	n := t.walk(trieRoot, key)
	if n < 0 || t.nodes[n].value < 0 {
		return 0, false
	}
	return t.nodes[n].value, true
}

// longest returns the length and value of the longest key that text begins with, from node s; length 0 means none. A key
// that ends at s itself does not count.
func (t *trie) longest(s int32, text []byte) (length int, value int32) {
	for i, b := range text {
		if s = t.child(s, b); s < 0 {
			break
		}
		if v := t.nodes[s].value; v >= 0 {
			length, value = i+1, v
		}
	}
	return length, value
}

// trieKey is one entry; values are not negative.
type trieKey struct {
	key   string
	value int32
}

// newTrie builds a trie. Of equal keys the last one counts. It sorts keys.
func newTrie(keys []trieKey) *trie {
	slices.SortStableFunc(keys, func(a, b trieKey) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	b := trieBuilder{}
	b.grow()
	b.take(trieRoot)
	b.nodes[trieRoot].check = -1

	// Breadth first over ranges of the sorted keys that share a prefix of length depth.
	type span struct {
		node   int32
		lo, hi int
		depth  int
	}
	queue := []span{{trieRoot, 0, len(keys), 0}}
	var labels []byte
	var starts []int
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		lo := s.lo
		for lo < s.hi && len(keys[lo].key) == s.depth {
			b.nodes[s.node].value = keys[lo].value
			lo++
		}
		labels, starts = labels[:0], starts[:0]
		for i := lo; i < s.hi; i++ {
			if c := keys[i].key[s.depth]; len(labels) == 0 || labels[len(labels)-1] != c {
				labels, starts = append(labels, c), append(starts, i)
			}
		}
		if len(labels) == 0 {
			continue
		}
		base := b.place(labels)
		b.nodes[s.node].base = base
		for i, c := range labels {
			n := base ^ int32(c)
			b.take(n)
			b.nodes[n].check = s.node
			end := s.hi
			if i+1 < len(starts) {
				end = starts[i+1]
			}
			queue = append(queue, span{n, starts[i], end, s.depth + 1})
		}
	}
	return &trie{nodes: slices.Clip(b.nodes)}
}

// trieBuilder keeps the free places in a ring, so that the search for a place starts where there is room.
type trieBuilder struct {
	nodes      []trieNode
	prev, next []int32
	taken      []bool
	first      int32 // a free place, or -1
}

// grow adds 256 free places at the end.
func (b *trieBuilder) grow() {
	n := int32(len(b.nodes))
	if n == 0 {
		b.first = -1
	}
	for i := n; i < n+256; i++ {
		b.nodes = append(b.nodes, trieNode{check: -1, value: -1})
		b.taken = append(b.taken, false)
		b.prev, b.next = append(b.prev, i), append(b.next, i)
		if b.first < 0 {
			b.first = i
			continue
		}
		last := b.prev[b.first]
		b.prev[i], b.next[i] = last, b.first
		b.next[last], b.prev[b.first] = i, i
	}
}

func (b *trieBuilder) take(n int32) {
	b.taken[n] = true
	if b.next[n] == n {
		b.first = -1
	} else {
		b.next[b.prev[n]], b.prev[b.next[n]] = b.next[n], b.prev[n]
		if b.first == n {
			b.first = b.next[n]
		}
	}
}

// maxTries bounds the search for a place, so that building takes linear time; a full search would save little memory.
const maxTries = 32

// place finds a base under which the places of all labels are free.
func (b *trieBuilder) place(labels []byte) int32 {
	f := b.first
	for range maxTries {
		if f < 0 {
			break
		}
		base := f ^ int32(labels[0])
		free := true
		for _, c := range labels[1:] {
			if b.taken[base^int32(c)] {
				free = false
				break
			}
		}
		if free {
			return base
		}
		if f = b.next[f]; f == b.first {
			break
		}
	}
	// Move on in the ring: the places just tried are crowded.
	if f >= 0 {
		b.first = f
	}
	n := int32(len(b.nodes))
	b.grow()
	return n
}
