package objectstore

import "context"

// prefaultSoon has memory behind what is used of an arena made ready in the background.
func (s *Store) prefaultSoon(a *arena) {
	a.ahead = a.used
	select {
	case s.prefault <- a:
	default: // It is busy, and will be asked again with the next object.
	}
}

// prefaultStep is how much memory is made ready between two looks at how much is wanted.
const prefaultStep = 16 << 20

// runPrefault makes memory ready ahead of use.
func (s *Store) runPrefault(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-s.prefault:
			for ctx.Err() == nil && s.prefaultMore(a) {
			}
		}
	}
}

// prefaultMore makes some more of an arena ready, if it is in use and PrefaultBytes allow it over all arenas; false if there is
// no more to do.
func (s *Store) prefaultMore(a *arena) bool {
	s.lock()
	memory := a.memory.Load()
	ahead := int64(0)
	for _, other := range s.arenas {
		if m := other.memory.Load(); m != nil {
			ahead += max(m.ReadyBytes()-other.used, 0)
		}
	}
	s.unlock()
	step := min(s.config.PrefaultBytes-ahead, prefaultStep)
	if memory == nil || step <= 0 || memory.ReadyBytes() == memory.SizeBytes() {
		return false
	}
	// A lack of memory is an error of whoever needs it, and an arena that is retired meanwhile needs none.
	return memory.MakeReady(memory.ReadyBytes()+step) == nil
}
