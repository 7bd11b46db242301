package objects

import (
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The requests of this file return the numbers of what they ask stores for; an event tells the result of each.

// errNoStore is returned when no store can take an object.
func errNoStore(operation string, id engine.ObjectID) error {
	return engine.Errorf(engine.KindUnavailable, operation, id.String(), "no node with an object store is connected").
		WithHint("`engine start` starts a worker; it has one unless it says otherwise")
}

// find returns a known object, or an error that tells the unknown from the lost.
func (c *Core) find(id engine.ObjectID) (*object, error) {
	o := c.objects[id]
	switch {
	case o == nil:
		return nil, c.unknown(id)
	case o.state() == engine.ObjectLost:
		return nil, lostError(o)
	}
	return o, nil
}

// Unknown returns those of the ids and names of which nothing is known, not even that they were deleted.
func (c *Core) Unknown(ids []engine.ObjectID, names []string) (unknownIDs []engine.ObjectID, unknownNames []string) {
	for _, id := range ids {
		if c.objects[id] == nil && !c.deleted.has(id) && !c.freed.has(id) {
			unknownIDs = append(unknownIDs, id)
		}
	}
	for _, name := range names {
		if _, ok := c.pins[name]; !ok {
			unknownNames = append(unknownNames, name)
		}
	}
	return unknownIDs, unknownNames
}

// Named returns the object that has a pin of this name.
func (c *Core) Named(name string) (engine.ObjectID, bool) {
	id, ok := c.pins[name]
	return id, ok
}

// Refresh asks every store to tell what has changed. Once the results are there, what was in a store before is known.
func (c *Core) Refresh() (numbers []uint64, err error) {
	for _, s := range c.stores {
		if s.lost {
			continue
		}
		number, err := c.ask(s, &order{wire: &enginev1.ObjectOrder{}})
		if err != nil {
			return numbers, err
		}
		numbers = append(numbers, number)
	}
	return numbers, nil
}

// Put keeps a small object of a security domain in the store with the most room, apart from some.
func (c *Core) Put(now time.Time, id engine.ObjectID, data []byte, domain string, owner engine.ObjectOwner, apart []engine.NodeID) (uint64, error) {
	if len(data) > engine.MaxInlineObjectBytes {
		return 0, engine.Errorf(engine.KindInvalidArgument, "put object", id.String(), "%d bytes are too many for a message, at most %d", len(data), engine.MaxInlineObjectBytes).
			WithHint("put it through a store's socket or Flight service")
	}
	if err := c.alive(now, owner); err != nil {
		return 0, err
	}
	if c.objects[id] != nil {
		return 0, engine.Errorf(engine.KindConflict, "put object", id.String(), "there is an object with this id")
	}
	s := c.roomiest(apart)
	if s == nil {
		return 0, errNoStore("put object", id)
	}
	c.Revive(id)
	return c.ask(s, &order{ids: []engine.ObjectID{id}, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Put{
		Put: &enginev1.PutObjectOrder{ObjectId: id[:], Data: data, Owner: rpc.OwnerToProto(owner), Domain: domain},
	}}})
}

// holder returns a copy that can be read now: the primary one if may be, apart from some.
func (o *object) holder(apart []engine.NodeID) *replica {
	var found *replica
	for _, r := range o.replicas {
		if r.store.session == 0 || slices.Contains(apart, r.store.id) {
			continue
		}
		better := found == nil || r.state == engine.ObjectInMemory && found.state != engine.ObjectInMemory ||
			r.state == found.state && r.primary && !found.primary
		if better {
			found = r
		}
	}
	return found
}

// Read asks a store with a copy, apart from some, for a small object's bytes, or for the schema of any.
func (c *Core) Read(id engine.ObjectID, schema bool, apart []engine.NodeID) (uint64, error) {
	o, err := c.find(id)
	if err != nil {
		return 0, err
	}
	r := o.holder(apart)
	if r == nil {
		return 0, engine.Errorf(engine.KindUnavailable, "read object", id.String(), "no node that has a copy is connected")
	}
	wire := &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Fetch{Fetch: &enginev1.FetchObjectOrder{ObjectId: id[:]}}}
	if schema {
		wire.Order = &enginev1.ObjectOrder_Describe{Describe: &enginev1.DescribeObjectOrder{ObjectId: id[:]}}
	}
	return c.ask(r.store, &order{ids: []engine.ObjectID{id}, wire: wire})
}

// Hold makes somebody an owner of an object. Without a number, it is done already. The owner may be a pin, whose name must be free.
func (c *Core) Hold(now time.Time, id engine.ObjectID, owner engine.ObjectOwner) (uint64, error) {
	if err := c.alive(now, owner); err != nil {
		return 0, err
	}
	o, err := c.find(id)
	if err != nil {
		return 0, err
	}
	if owner.Kind == engine.OwnerPin {
		taken, ok := c.pins[owner.ID]
		if !ok {
			taken, ok = c.pinning[owner.ID]
		}
		if ok && taken != id {
			return 0, engine.Errorf(engine.KindConflict, "pin object", id.String(), "the name %q is that of object %s", owner.ID, taken).
				WithHint("unpin it first, or choose another name")
		}
	}
	if o.primary() == nil && (o.departure != nil || len(o.kept) > 0) {
		// No store has the owners now; the next one with a primary copy gets them all.
		o.kept = normalize(append(o.kept, owner))
		c.own(now, o)
		return 0, nil
	}
	given := ownOrder(id, []engine.ObjectOwner{owner}, nil)
	var target *store
	if r := o.primary(); r != nil {
		target = r.store
	} else if r := o.holder(nil); r != nil {
		// A cache whose primary copy nobody has told us of.
		target, given = r.store, promoteOrder(id, []engine.ObjectOwner{owner}, o.checkpoint)
	}
	if target == nil {
		return 0, engine.Errorf(engine.KindUnavailable, "own object", id.String(), "no node that has a copy is connected")
	}
	if owner.Kind == engine.OwnerPin {
		given.pin = owner.ID
	}
	number, err := c.ask(target, given)
	if err == nil && given.pin != "" {
		c.pinning[owner.ID] = id
	}
	return number, err
}

// Release ends a reference. It is no error if there is none. Stores that are away hear of it when they come back.
func (c *Core) Release(now time.Time, id engine.ObjectID, owner engine.ObjectOwner) (numbers []uint64) {
	o := c.objects[id]
	if o == nil {
		return nil
	}
	for _, s := range o.former {
		if c.stores[s.id] == s {
			c.give(s, ownOrder(id, nil, []engine.ObjectOwner{bare(owner)}))
		}
	}
	for _, s := range c.stores {
		r := o.replica(s)
		// An order that makes a primary copy carries the owners of the time when it was given.
		making := s.orders[o.promoting] != nil || o.restoration != nil && s.orders[o.restoration.order] != nil
		if !making && (r == nil || !r.primary) {
			continue
		}
		released := ownOrder(id, nil, []engine.ObjectOwner{bare(owner)})
		if number, err := c.ask(s, released); err == nil {
			numbers = append(numbers, number)
		} else {
			released.wanted = false
			c.give(s, released)
		}
	}
	c.dropKept(now, o, owner)
	slices.Sort(numbers)
	return numbers
}

// Delete deletes all copies of objects, whoever owns them, and those that stores may still tell of.
func (c *Core) Delete(now time.Time, ids []engine.ObjectID) (numbers []uint64) {
	at := map[*store][]engine.ObjectID{}
	for _, id := range ids {
		c.deleted.add(now, id)
		c.tellFreed(id)
		o := c.objects[id]
		if o == nil {
			c.tell(id)
			continue
		}
		for _, r := range o.replicas {
			at[r.store] = append(at[r.store], id)
		}
		c.forget(o)
	}
	for s, all := range at {
		for chunk := range slices.Chunk(all, maxIDsInAnOrder) {
			if number, err := c.ask(s, deleteOrder(chunk...)); err == nil {
				numbers = append(numbers, number)
			} else {
				c.give(s, deleteOrder(chunk...))
			}
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Checkpoint asks a store with a copy to write it into a folder.
func (c *Core) Checkpoint(id engine.ObjectID, folder string, apart []engine.NodeID) (uint64, error) {
	o, err := c.find(id)
	if err != nil {
		return 0, err
	}
	r := o.holder(apart)
	if p := o.primary(); p != nil && p.store.session != 0 && !slices.Contains(apart, p.store.id) {
		r = p // So that the primary copy knows of it.
	}
	if r == nil {
		return 0, engine.Errorf(engine.KindUnavailable, "checkpoint object", id.String(), "no node that has a copy is connected")
	}
	return c.ask(r.store, &order{ids: []engine.ObjectID{id}, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Checkpoint{
		Checkpoint: &enginev1.CheckpointObjectOrder{ObjectId: id[:], Folder: folder},
	}}})
}

// Restore asks a store to make an object of a checkpoint, in a security domain unless the object is known and has one. The id is the one
// that the checkpoint's name says, or zero.
func (c *Core) Restore(now time.Time, id engine.ObjectID, uri, domain string, owner engine.ObjectOwner, apart []engine.NodeID) (uint64, error) {
	if err := c.alive(now, owner); err != nil {
		return 0, err
	}
	s := c.roomiest(apart)
	if o := c.objects[id]; o != nil {
		domain = o.domain
		// A second primary copy would only have to be given up again.
		if r := o.primary(); r != nil && r.store.session != 0 {
			s = r.store
		}
	}
	if s == nil {
		return 0, errNoStore("restore object", id)
	}
	c.Revive(id)
	return c.ask(s, restoreOrder(id, uri, domain, []engine.ObjectOwner{owner}))
}
