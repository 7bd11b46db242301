package objects

import (
	"slices"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// leaving is what a store that is about to leave still has to part with: copies of objects without a checkpoint that no other store has.
//
//	          a store takes it            the copy here is given up
//	waiting ──────────────────> under way ─────────────────────────> gone
//	   ^  │                         │
//	   │  └─> stuck: none can       │ it failed
//	   └────────────────────────────┘
type leaving struct {
	moves map[engine.ObjectID]*move
	// queue are the objects that wait, in the order in which they came.
	queue []engine.ObjectID
	// stuck counts the moves that no store can take, and their bytes; reason is that of the last one.
	stuck      int
	stuckBytes int64
	reason     error
	// told says that the present stream has carried that there is nothing more to wait for.
	told bool
}

type move struct {
	state moveState
	tried []engine.NodeID
	// sizeBytes is the object's.
	sizeBytes int64
	// err is why the last try failed.
	err error
}

type moveState uint8

const (
	moveWaiting moveState = iota
	moveUnderWay
	moveStuck
)

const (
	// maxMoves is how many stores are asked to take an object.
	maxMoves = 3
	// maxMovesAtOnce bounds the moves that one store is ordered to make at a time, so that other orders do not wait for long behind them.
	maxMovesAtOnce = 32
)

// leave begins to move what a store has to other stores. The store has told of everything.
func (c *Core) leave(s *store) {
	if s.leaving == nil {
		s.leaving = &leaving{moves: map[engine.ObjectID]*move{}}
		c.leavers[s.id] = s
	}
	s.leaving.told = false
	c.unstick(s.leaving)
	for _, id := range sortedIDs(s.copies) {
		if o := s.copies[id]; o.mustMove() != nil {
			c.move(o)
		}
	}
}

// mustMove returns the copy of an object that a leaving store must not take along before another store has it: the primary one, or a cache
// that alone can be reached. Nil if there is none.
func (o *object) mustMove() *replica {
	if o.checkpoint != "" || len(o.owners) == 0 {
		return nil
	}
	best := o.primary()
	if best == nil || best.standing() == away {
		for _, r := range o.replicas {
			if best == nil || r.standing() > best.standing() {
				best = r
			}
		}
	}
	if best == nil || best.standing() != goes {
		return nil
	}
	return best
}

// partWithOthers takes an object off the lists of the leaving stores that may take their copies along.
func (o *object) partWithOthers() {
	for _, r := range o.replicas {
		if r.store.leaving == nil {
			continue
		}
		// A second primary copy is waited for until it is given up: its owners are.
		if r != o.mustMove() && (!r.primary || o.checkpoint != "") {
			r.store.part(o.id)
		}
	}
}

// move makes an object wait for a store that takes it, unless it does already or is under way.
func (c *Core) move(o *object) {
	l := o.mustMove().store.leaving
	m := l.moves[o.id]
	switch {
	case m == nil:
		m = &move{sizeBytes: o.sizeBytes}
		l.moves[o.id] = m
	case m.state != moveUnderWay || o.promoting != 0:
		return
	}
	m.state = moveWaiting
	l.queue = append(l.queue, o.id)
	l.told = false
}

// moveAll gives orders for what waits, as far as stores can take it now, and wakes the stores whose evacuation has come to its end.
func (c *Core) moveAll() {
	for _, s := range c.leavers {
		l := s.leaving
		for len(l.queue) > 0 {
			id := l.queue[0]
			o, m := c.objects[id], l.moves[id]
			if o == nil || m == nil || m.state != moveWaiting || o.mustMove() == nil {
				l.queue = l.queue[1:]
				continue
			}
			target, busy := c.refuge(o, m)
			if target == nil && busy {
				break // The end of one of their orders leads here again.
			}
			l.queue = l.queue[1:]
			if target == nil {
				m.state = moveStuck
				l.stuck++
				l.stuckBytes += m.sizeBytes
				if l.reason = m.err; m.err == nil {
					l.reason = errNoRefuge(o, len(m.tried) > 0)
				}
				continue
			}
			m.state, m.tried = moveUnderWay, append(m.tried, target.id)
			if o.promoting == 0 {
				order := promoteOrder(o.id, c.allLasting(o), "")
				order.wire.GetPromote().Fetch, order.sizeBytes = true, o.sizeBytes
				target.moves++
				target.coming += o.sizeBytes
				o.promoting = c.give(target, order)
			}
		}
		if s.session != 0 && !l.told && l.isOver() {
			c.wake(s)
		}
	}
}

// allLasting returns the owners of all copies, but for those whose end their stores have not heard of.
func (c *Core) allLasting(o *object) []engine.ObjectOwner {
	owners := slices.Clone(o.kept)
	for _, r := range o.replicas {
		if r.primary {
			owners = append(owners, c.lasting(o.id, r)...)
		}
	}
	return normalize(owners)
}

func errNoRefuge(o *object, tried bool) error {
	if tried {
		return engine.Errorf(engine.KindUnavailable, "move object", o.id.String(), "no other node could take it")
	}
	return engine.Errorf(engine.KindUnavailable, "move object", o.id.String(), "no other node has an object store for its %s", engine.FormatSize(o.sizeBytes))
}

// refuge returns the store that is to take an object: one that has a copy if may be, else the one with the most room. busy says that there
// is one, which has enough to do for now.
func (c *Core) refuge(o *object, m *move) (best *store, busy bool) {
	if len(m.tried) >= maxMoves {
		return nil, false
	}
	bestHas := false
	for _, s := range c.stores {
		if s.session == 0 || !s.complete || s.leaving != nil || slices.Contains(m.tried, s.id) || s.usage.GetCapacityBytes() < o.sizeBytes {
			continue
		}
		if s.moves >= maxMovesAtOnce {
			busy = true
			continue
		}
		has := o.replica(s) != nil
		if best == nil || has && !bestHas || has == bestHas && (s.free() > best.free() || s.free() == best.free() && s.id < best.id) {
			best, bestHas = s, has
		}
	}
	return best, busy
}

// moved follows the end of an order to take an object of a leaving store.
func (c *Core) moved(s *store, o *order, err error) {
	if !o.wire.GetPromote().GetFetch() {
		return
	}
	s.moves--
	s.coming -= o.sizeBytes
	if err == nil {
		return
	}
	for _, id := range o.ids {
		if object := c.objects[id]; object != nil {
			if r := object.mustMove(); r != nil && r.store.leaving.moves[id] != nil {
				r.store.leaving.moves[id].err = err
			}
		}
	}
}

// part notes that a store has no copy of an object any more, or need not move it.
func (s *store) part(id engine.ObjectID) {
	if s.leaving == nil {
		return
	}
	m := s.leaving.moves[id]
	if m == nil {
		return
	}
	if m.state == moveStuck {
		s.leaving.stuck--
		s.leaving.stuckBytes -= m.sizeBytes
	}
	delete(s.leaving.moves, id)
}

// unstick tries again what no store could take: there may be another one by now.
func (c *Core) unstick(l *leaving) {
	if l.stuck == 0 {
		return
	}
	l.stuck, l.stuckBytes, l.reason, l.told = 0, 0, nil, false
	for _, id := range sortedIDs(l.moves) {
		if m := l.moves[id]; m.state == moveStuck {
			m.state, m.tried, m.err = moveWaiting, nil, nil
			l.queue = append(l.queue, id)
		}
	}
}

// isOver reports whether nothing can be moved any more.
func (l *leaving) isOver() bool { return len(l.moves) == l.stuck }

// evacuation returns what an answer is to carry of it, nil if there is nothing new.
func (s *store) evacuation() *enginev1.Evacuation {
	l := s.leaving
	if l == nil || l.told || !l.isOver() {
		return nil
	}
	l.told = true
	e := &enginev1.Evacuation{LeftObjects: int64(l.stuck), LeftBytes: l.stuckBytes}
	if l.stuck > 0 && l.reason != nil {
		e.Reason = l.reason.Error()
	}
	return e
}

// stay ends a store's leaving: its stream has, and the next one says whether it still leaves.
func (c *Core) stay(s *store) {
	s.leaving = nil
	delete(c.leavers, s.id)
}
