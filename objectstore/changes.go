package objectstore

import (
	"slices"

	"github.com/f708428e/engine"
)

// maxTombstones bounds how many objects that are gone are remembered for Changes.
const maxTombstones = 1 << 16

// changes is the order in which objects changed last: each object is in it once, so that it is never longer than there are objects
// and tombstones.
type changes struct {
	sequence uint64
	live     list
	// gone has the deleted objects, by when they were; goneByID finds the last of an id.
	gone     list
	goneByID map[engine.ObjectID]*object
	// forgotten is the number of the latest tombstone that was dropped; an older cursor has to be told everything.
	forgotten uint64
	// more is closed at the next change; nil while nobody waits.
	more chan struct{}
}

func newChanges() changes {
	byChange := func(o *object) *links { return &o.changeLinks }
	return changes{live: list{links: byChange}, gone: list{links: byChange}, goneByID: map[engine.ObjectID]*object{}}
}

// changed notes a change of a sealed object.
func (c *changes) changed(o *object) {
	if o.change != 0 {
		c.live.remove(o)
	} else if tombstone := c.goneByID[o.id]; tombstone != nil {
		// The object is back: whoever has not heard of its end need not.
		c.gone.remove(tombstone)
		delete(c.goneByID, o.id)
	}
	c.number(o)
	c.live.pushBack(o)
}

// deleted notes that a sealed object is gone.
func (c *changes) deleted(o *object) {
	c.live.remove(o)
	c.number(o)
	c.gone.pushBack(o)
	c.goneByID[o.id] = o
	if c.gone.length > maxTombstones {
		oldest := c.gone.first
		c.forgotten = oldest.change
		c.gone.remove(oldest)
		delete(c.goneByID, oldest.id)
	}
}

func (c *changes) number(o *object) {
	c.sequence++
	o.change = c.sequence
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

// Changes returns the sealed objects that changed and the ids of those that are gone since the given cursor, each at most once with its present
// state, and the next cursor. With full, changed is everything that the store has, gone is empty, and what is not in it does not exist: for a
// cursor of zero, of another store, or one that is older than the store remembers. The channel is closed when there is more. Pins are
// reported with a delay of about a second, and those of inline objects not at all by themselves.
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
		for o := c.gone.last; o != nil && o.change >= cursor; o = o.changeLinks.prev {
			gone = append(gone, o.id)
		}
		slices.Reverse(gone)
	}
	if c.more == nil {
		c.more = make(chan struct{})
	}
	return changed, gone, full, c.sequence + 1, c.more
}
