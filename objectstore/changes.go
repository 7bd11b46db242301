package objectstore

import (
	"slices"

	"github.com/f708428e/engine"
)

// maxTombstones is how many objects that are gone are remembered for Changes; there may be twice as many.
const maxTombstones = 1 << 15

// changes is the order in which objects changed last: each object is in it once, so that it is never longer than there are objects
// and tombstones.
type changes struct {
	sequence uint64
	live     list
	// gone are the deleted objects in order; an entry counts only if goneByID agrees, since an object may have come back.
	gone     []tombstone
	goneByID map[engine.ObjectID]uint64
	// forgotten is the number of the latest tombstone that was dropped; an older cursor has to be told everything.
	forgotten uint64
	// more is closed at the next change; nil while nobody waits.
	more chan struct{}
}

// tombstone is an object that is gone, and the number of that change.
type tombstone struct {
	id     engine.ObjectID
	change uint64
}

func newChanges() changes {
	return changes{live: list{links: func(o *object) *links { return &o.changeLinks }}, goneByID: map[engine.ObjectID]uint64{}}
}

// changed notes a change of a sealed object.
func (c *changes) changed(o *object) {
	if o.change != 0 {
		c.live.remove(o)
	} else {
		// If the object is back, whoever has not heard of its end need not.
		delete(c.goneByID, o.id)
	}
	o.change = c.next()
	c.live.pushBack(o)
}

// deleted notes that a sealed object is gone.
func (c *changes) deleted(o *object) {
	c.live.remove(o)
	number := c.next()
	c.gone = append(c.gone, tombstone{o.id, number})
	c.goneByID[o.id] = number
	if len(c.gone) < 2*maxTombstones {
		return
	}
	// Half of them at once, so that it costs little for each.
	for _, t := range c.gone[:maxTombstones] {
		if c.goneByID[t.id] == t.change {
			c.forgotten = t.change
			delete(c.goneByID, t.id)
		}
	}
	c.gone = append(c.gone[:0], c.gone[maxTombstones:]...)
}

// next numbers a change.
func (c *changes) next() uint64 {
	c.sequence++
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
	return c.sequence
}

// Changes returns the sealed objects that changed and the ids of those that are gone since the given cursor, each at most once
// with its present state, and the next cursor. With full, changed is everything that the store has, gone is empty, and what is
// not in it does not exist: for a cursor of zero, of another store, or one that is older than the store remembers. The channel is
// closed when there is more. Pins are reported with a delay of about a second, and those of inline objects not at all by
// themselves.
func (s *Store) Changes(cursor uint64) (changed []Info, gone []engine.ObjectID, full bool, next uint64, more <-chan struct{}) {
	s.lock()
	defer s.unlock()
	c := &s.changes
	full = cursor == 0 || cursor > c.sequence+1 || cursor <= c.forgotten
	// A cursor is one more than the last number that was reported, so that zero is never one.
	for o := c.live.last; o != nil && (full || o.change >= cursor); o = o.changeLinks.prev {
		changed = append(changed, o.info())
	}
	slices.Reverse(changed)
	if !full {
		for i := len(c.gone) - 1; i >= 0 && c.gone[i].change >= cursor; i-- {
			if t := c.gone[i]; c.goneByID[t.id] == t.change {
				gone = append(gone, t.id)
			}
		}
		slices.Reverse(gone)
	}
	if c.more == nil {
		c.more = make(chan struct{})
	}
	return changed, gone, full, c.sequence + 1, c.more
}
