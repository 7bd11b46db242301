package objectstore

import (
	"cmp"
	"os"
	"slices"

	"github.com/f708428e/engine/objectstore/shm"
)

// inlineShare is the part of the capacity that regular arenas leave to inline objects: one in so many.
const inlineShare = 16

// smallArenaShare is the part of a regular arena that the arenas have which take the last of the capacity: one in so many.
const smallArenaShare = 16

// pinnedCost is how much more it costs to wait until a byte in use is free than to spill one that is not.
const pinnedCost = 16

// plan is how room for the first in the queue is to be made, and so what is kept from the others. The zero plan keeps nothing.
type plan struct {
	// window is a range of an arena to be freed.
	arena  *arena
	window shm.Range
	// empty are arenas to be freed altogether, to be replaced by charge bytes.
	empty  []*arena
	charge int64
	// inline are unused inline objects to be freed.
	inline []*object
	// cost is in bytes.
	cost int64
}

// allocate gives a waiter memory, and drops what is droppable and retires empty arenas for it. keep is what it must leave alone,
// or nil.
func (s *Store) allocate(w *waiter, keep *plan) bool {
	for !s.place(w, keep) {
		if !s.dropOldest(w.object.size) {
			return false
		}
	}
	s.inMemory += w.object.size
	return true
}

// dropOldest frees about n bytes of what is droppable, caches first, and was not used for the longest time; false if there is
// nothing.
func (s *Store) dropOldest(n int64) bool {
	dropped := false
	for _, l := range []*list{&s.caches, &s.clean} {
		for n > 0 && l.first != nil {
			o := l.first
			n -= o.size
			dropped = true
			s.drop(o)
		}
	}
	return dropped
}

// place finds free memory for a waiter.
func (s *Store) place(w *waiter, keep *plan) bool {
	o := w.object
	if keep == nil {
		keep = &plan{}
	}
	room := s.config.CapacityBytes - s.arenaBytes - s.inlineBytes
	if keep.charge > 0 {
		// What the first will have once its arenas are gone is not there yet.
		then := room - keep.charge
		for _, a := range keep.empty {
			then += a.size
		}
		room = min(room, then)
	}
	if o.inline {
		replaced, room := s.emptyArenas(o.size, room, keep)
		if room < o.size {
			return false
		}
		s.remove(replaced)
		for _, a := range replaced {
			s.after = append(s.after, a.close)
		}
		s.inlineBytes += o.size
		w.memory = memory{data: w.inline}
		return true
	}
	for _, a := range s.arenas {
		if a.domain != o.domain || a.writer != w.writer || a.broken || slices.Contains(keep.empty, a) {
			continue
		}
		var avoid shm.Range
		if a == keep.arena {
			avoid = keep.window
		}
		if b, ok := a.add(o, avoid); ok {
			w.memory = memory{block: b}
			return true
		}
	}
	size, page := pages(o.size), int64(os.Getpagesize())
	replaced, room := s.emptyArenas(size, room, keep)
	if room < size {
		return false
	}
	s.remove(replaced)
	inlineReserve := max(s.config.CapacityBytes/inlineShare-s.inlineBytes, 0)
	regular := min(s.config.ArenaBytes, room-inlineReserve)
	// What is left is taken in parts of some size too: each arena costs a descriptor here and in each reader.
	regular = max(regular, min(s.config.ArenaBytes/smallArenaShare, room))
	a := s.newArena(max(size, regular/page*page), o.domain, w.writer, replaced)
	b, _ := a.add(o, shm.Range{})
	w.memory = memory{block: b}
	return true
}

// pages rounds up to whole pages.
func pages(n int64) int64 {
	page := int64(os.Getpagesize())
	return (n + page - 1) / page * page
}

// emptyArenas finds empty arenas to retire so that there is room for size bytes, and returns the room that there is then.
func (s *Store) emptyArenas(size, room int64, keep *plan) (found []*arena, roomThen int64) {
	for _, a := range s.arenas {
		if room >= size {
			break
		}
		if a.empty() && a != keep.arena && !slices.Contains(keep.empty, a) {
			found = append(found, a)
			room += a.size
		}
	}
	return found, room
}

// remove takes arenas out of the store; the caller has them closed.
func (s *Store) remove(arenas []*arena) {
	for _, a := range arenas {
		s.arenaBytes -= a.size
		s.retired(a)
	}
	if len(arenas) > 0 {
		s.arenas = slices.DeleteFunc(s.arenas, func(a *arena) bool { return slices.Contains(arenas, a) })
	}
}

// makePlan finds the cheapest way to room for a waiter: a range of an arena that it may use, or arenas to be replaced.
func (s *Store) makePlan(w *waiter) plan {
	o := w.object
	if o.inline && s.inlineBytes > s.config.CapacityBytes/inlineShare {
		// Inline objects have more than their share, so it is their turn.
		p := plan{charge: o.size}
		s.planInline(&p, o.size)
		return p
	}
	best := s.planEmpty(o)
	if o.inline {
		return best
	}
	for _, a := range s.arenas {
		if a.domain != o.domain || a.writer != w.writer || a.broken || a.extents.SizeBytes() < shm.AlignUp(o.size) {
			continue
		}
		if window, cost := a.cheapestWindow(shm.AlignUp(o.size)); cost <= best.cost {
			best = plan{arena: a, window: window, cost: cost}
		}
	}
	return best
}

// planEmpty plans to empty arenas for an object, those first that cost least for their size, and to free inline objects if that
// would not do.
func (s *Store) planEmpty(o *object) plan {
	size := o.size
	if !o.inline {
		size = pages(size)
	}
	type candidate struct {
		arena *arena
		cost  int64
	}
	var candidates []candidate
	for _, a := range s.arenas {
		cost := int64(0)
		for _, b := range a.blocks {
			cost += b.cost()
		}
		candidates = append(candidates, candidate{a, cost})
	}
	slices.SortStableFunc(candidates, func(x, y candidate) int {
		return cmp.Compare(float64(x.cost)/float64(x.arena.size), float64(y.cost)/float64(y.arena.size))
	})
	p := plan{charge: size}
	missing := size - (s.config.CapacityBytes - s.arenaBytes - s.inlineBytes)
	for _, c := range candidates {
		if missing <= 0 {
			break
		}
		p.empty = append(p.empty, c.arena)
		p.cost += c.cost
		missing -= c.arena.size
	}
	s.planInline(&p, missing)
	return p
}

// planInline plans to free inline objects, those first that were not used for the longest time.
func (s *Store) planInline(p *plan, missing int64) {
	if missing <= 0 {
		return
	}
	p.cost += missing
	missing -= s.spiller.inlineBytes
	for o := s.dirty.first; o != nil && missing > 0; o = o.lruLinks.next {
		if o.inline {
			p.inline = append(p.inline, o)
			missing -= o.size
		}
	}
	// What is still missing is in use.
	p.cost += max(missing, 0) * pinnedCost
}

// cost is what freeing a block costs, in bytes.
func (b *block) cost() int64 {
	if b.idle() {
		return b.size
	}
	return b.size * pinnedCost
}

// idle reports whether the block's object could be elsewhere: it is not in use, except by being spilled.
func (b *block) idle() bool {
	o := b.object
	return o.sealed && o.memory.block == b && o.pins == 0 && (o.uses == 0 || o.spill != nil)
}

// cheapestWindow finds the range of n bytes that costs least to be freed. A cheapest one begins where a block begins or ends.
func (a *arena) cheapestWindow(n int64) (window shm.Range, cost int64) {
	found := false
	cost = 0
	// Blocks from first to last, last excluded, overlap the window.
	first, last, sum := 0, 0, int64(0)
	try := func(offset int64) {
		if offset+n > a.extents.SizeBytes() {
			return
		}
		for last < len(a.blocks) && a.blocks[last].offset < offset+n {
			sum += a.blocks[last].cost()
			last++
		}
		for first < last && a.blocks[first].end() <= offset {
			sum -= a.blocks[first].cost()
			first++
		}
		if !found || sum < cost {
			window, cost, found = shm.Range{Offset: offset, End: offset + n}, sum, true
		}
	}
	try(0)
	for _, b := range a.blocks {
		try(b.offset)
		try(b.end())
	}
	return window, cost
}

// end is the offset behind the block, rounding included.
func (b *block) end() int64 { return b.offset + shm.AlignUp(b.size) }

// carryOut frees what the plan wants to be free and nobody uses: at once what is droppable, the rest once it has been spilled.
func (s *Store) carryOut(p plan) {
	var victims []*object
	if p.arena != nil {
		for _, b := range p.arena.blocks {
			if b.offset < p.window.End && p.window.Offset < b.end() {
				victims = append(victims, b.object)
			}
		}
	}
	for _, a := range p.empty {
		for _, b := range a.blocks {
			victims = append(victims, b.object)
		}
	}
	for _, o := range append(victims, p.inline...) {
		if o.lru == nil {
			continue
		}
		if o.droppable() {
			s.drop(o)
		} else {
			s.spillSoon(o)
		}
	}
}
