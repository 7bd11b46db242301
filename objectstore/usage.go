package objectstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// Usage returns what the store holds.
func (s *Store) Usage() Usage {
	s.lock()
	defer s.unlock()
	u := Usage{
		CapacityBytes: s.config.CapacityBytes, ArenaBytes: s.arenaBytes, ObjectBytes: s.inMemory, PinnedBytes: s.pinned,
		SpilledBytes: s.spilledOnly, Objects: len(s.objects), Spills: s.spills, Restores: s.restores, Evictions: s.evictions,
	}
	for w := range s.queue.all() {
		u.Waiting++
		u.WaitingBytes += w.object.size
		if w.object.sealed {
			continue
		}
		u.Objects--
	}
	return u
}

// holding is what an owner has in memory.
type holding struct {
	owner         string
	bytes, pinned int64
	objects       int
}

// errFull is the error of a creation that found no room until its deadline.
func (s *Store) errFull(w *waiter) error {
	var holdings []holding
	caches := holding{owner: "caches of other stores' objects"}
	add := func(h *holding, o *object) {
		h.objects++
		h.bytes += o.size
		if o.pins+o.uses > 0 {
			h.pinned += o.size
		}
	}
	for key, objects := range s.owners.held {
		h := holding{owner: engine.ObjectOwner{Kind: key.kind, ID: key.id}.String()}
		for o := range objects {
			if o.memory.data != nil {
				add(&h, o)
			}
		}
		holdings = append(holdings, h)
	}
	for _, o := range s.objects {
		if !o.primary && o.memory.data != nil {
			add(&caches, o)
		}
	}
	holdings = slices.DeleteFunc(append(holdings, caches), func(h holding) bool { return h.objects == 0 })
	slices.SortFunc(holdings, func(a, b holding) int { return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.owner, b.owner)) })
	var text strings.Builder
	for _, h := range holdings[:min(len(holdings), 3)] {
		fmt.Fprintf(&text, "; %s holds %s in %d objects", h.owner, sizeText(h.bytes), h.objects)
		if h.pinned > 0 {
			fmt.Fprintf(&text, ", %s of it in use", sizeText(h.pinned))
		}
	}
	err := engine.Errorf(engine.KindExhausted, w.op, w.object.id.String(), "no room for %s in time: objects take %s of %s, %s of it in use%s",
		sizeText(w.object.size), sizeText(s.inMemory), sizeText(s.config.CapacityBytes), sizeText(s.pinned), text.String())
	if s.spiller.err != nil {
		return err.WithHint("the last attempt to spill failed: %v", s.spiller.err)
	}
	return err
}

// sizeText writes a size for people.
func sizeText(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1000 && unit < len(units)-1 {
		value /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.3g %ciB", value, units[unit])
}
