package objectstore

import (
	"context"
	"time"

	"github.com/f708428e/engine"
)

// Handle is an object that is read. Its memory stays as it is until Release. It is safe for concurrent use.
type Handle struct {
	store  *Store
	object *object
	memory memory
	info   Info
	leak   leak
	// released is guarded by the store's mutex.
	released bool
}

// Get returns a handle of an object, restored from its spill file or checkpoint if need be, for which it blocks until ctx ends.
// The handle pins the memory until it is released. The errors' kinds: engine.KindNotFound; engine.KindCorrupt if the spill file
// is damaged; engine.KindExhausted if there was no room to restore it.
func (s *Store) Get(ctx context.Context, id engine.ObjectID) (*Handle, error) {
	now := s.config.Now()
	s.lock()
	o, err := s.find("get object", id)
	if err != nil {
		s.unlock()
		return nil, err
	}
	if o.memory.data == nil {
		return s.getRestored(ctx, o)
	}
	h := s.pin(o, now)
	s.unlock()
	return h, nil
}

// Resident returns a handle of an object that is in memory now, as Get does; ok is false for any other. It never waits.
func (s *Store) Resident(id engine.ObjectID) (handle *Handle, ok bool) {
	now := s.config.Now()
	s.lock()
	defer s.unlock()
	o := s.objects[id]
	if o == nil || !o.sealed || o.memory.data == nil {
		return nil, false
	}
	return s.pin(o, now), true
}

// pin makes a handle of an object that has memory.
func (s *Store) pin(o *object, now time.Time) *Handle {
	s.unlist(o)
	if o.pins+o.uses == 0 {
		s.pinned += o.size
	}
	o.pins++
	o.accessed = now
	s.pinsChanged(o, now)
	return s.handle(o)
}

// handle makes a handle of an object whose pin is counted already.
func (s *Store) handle(o *object) *Handle {
	h := &Handle{store: s, object: o, memory: o.memory, info: o.info()}
	h.leak.begin(s, o.id)
	return h
}

// unpin takes a pin away.
func (s *Store) unpin(o *object) {
	o.pins--
	if o.pins+o.uses == 0 {
		s.pinned -= o.size
	}
	s.settle(o)
}

// Bytes is the object, read-only.
func (h *Handle) Bytes() []byte { return h.memory.data }

// Place is where another process finds the memory; ok is false for an inline object.
func (h *Handle) Place() (place Place, ok bool) {
	if h.memory.block == nil {
		return Place{}, false
	}
	return h.memory.block.place(), true
}

// Info is what was known of the object when it was got.
func (h *Handle) Info() Info { return h.info }

// Release ends the handle. Calling it again does nothing. It does not block.
func (h *Handle) Release() {
	s := h.store
	now := s.config.Now()
	s.lock()
	defer s.unlock()
	if h.released {
		return
	}
	h.released = true
	h.leak.end()
	s.pinsChanged(h.object, now)
	s.unpin(h.object)
}
