package objectstore

import (
	"context"
	"slices"

	"github.com/f708428e/engine"
)

// sealWait is a call of Wait. The store's mutex guards it, but for the channel.
type sealWait struct {
	ids     map[engine.ObjectID]bool
	missing int
	enough  chan struct{}
}

// Wait returns when count of the objects are sealed in this store, spilled ones included, or ctx ends; a count of zero is all of
// them. It returns those that are, in the order of ids, and if they are too few the error: of the context's kind, or
// engine.KindUnavailable if the store was closed.
func (s *Store) Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	distinct := make(map[engine.ObjectID]bool, len(ids))
	for _, id := range ids {
		distinct[id] = true
	}
	if count <= 0 || count > len(distinct) {
		count = len(distinct)
	}
	s.lock()
	defer s.unlock()
	for {
		ready := slices.DeleteFunc(slices.Clone(ids), func(id engine.ObjectID) bool {
			o := s.objects[id]
			return o == nil || !o.sealed
		})
		there := map[engine.ObjectID]bool{}
		for _, id := range ready {
			there[id] = true
		}
		if len(there) >= count {
			return ready, nil
		}
		if s.closed {
			return ready, errClosed("wait for objects", "")
		}
		if err := ctx.Err(); err != nil {
			return ready, engine.WrapError("wait for objects", "", err)
		}
		// What wakes this call may be gone before it looks; then it waits once more.
		wait := &sealWait{ids: distinct, missing: count - len(there), enough: make(chan struct{})}
		for id := range distinct {
			if !there[id] {
				s.waits[id] = append(s.waits[id], wait)
			}
		}
		s.unlock()
		select {
		case <-wait.enough:
		case <-s.group.Done():
		case <-ctx.Done():
		}
		s.lock()
		for id := range distinct {
			s.forgetWait(id, wait)
		}
	}
}

func (s *Store) forgetWait(id engine.ObjectID, wait *sealWait) {
	waits := slices.DeleteFunc(s.waits[id], func(w *sealWait) bool { return w == wait })
	if len(waits) == 0 {
		delete(s.waits, id)
	} else {
		s.waits[id] = waits
	}
}

// wakeWaits tells those who wait for an object that it is sealed, or that its writer gave up, which they find out themselves.
func (s *Store) wakeWaits(id engine.ObjectID) {
	for _, wait := range s.waits[id] {
		if wait.missing--; wait.missing == 0 {
			close(wait.enough)
		}
	}
	delete(s.waits, id)
}
