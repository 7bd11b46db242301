package objects

import (
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// object is an object that some store has or had.
//
//	          primary's store lost              last copy lost
//	present ───────────────────────> orphaned ─────────────────> departed
//	   ^  ^        a copy promoted      │                           │
//	   │  └─────────────────────────────┘       a store came back,  │
//	   └────────────────────────────────────────or it was restored──┘
type object struct {
	id                       engine.ObjectID
	sizeBytes, rows, batches int64
	domain, checkpoint       string
	crc32c                   uint32
	checked                  bool
	// replicas are its copies, in the order in which they were heard of.
	replicas []*replica
	// kept are the owners that no primary copy carries: the last one was lost.
	kept []engine.ObjectOwner
	// owners are those of all primary copies and the kept ones, sorted; the indexes of the core agree with them.
	owners []engine.ObjectOwner
	// promoting is the order that makes a copy the primary one; 0 if there is none.
	promoting uint64
	// former are the stores that were lost with a primary copy, which they may come back with.
	former []*store
	// departure says how the last copy was lost; nil while there are copies.
	departure *departure
	// remaking says that the lost object may be made again by its task, asked that a job was asked to.
	remaking, asked bool
	// restoration is set while the object is to come back from its checkpoint.
	restoration *restoration
}

// replica is one store's copy.
type replica struct {
	store *store
	state engine.ObjectState
	// session is the stream on which it was last told of.
	session uint64
	primary bool
	// owners are a primary copy's.
	owners []engine.ObjectOwner
	// offered says that the owners of this second primary copy were given to the first.
	offered           bool
	pins              int32
	created, accessed time.Time
	spilled           string
}

// departure is how an object's last copy was lost.
type departure struct {
	node engine.NodeID
	at   time.Time
}

// restoration brings an object back from its checkpoint.
type restoration struct {
	// order is under way; 0 while no store can take it.
	order uint64
	tried []engine.NodeID
}

const maxRestores = 3

func (o *object) replica(s *store) *replica {
	for _, r := range o.replicas {
		if r.store == s {
			return r
		}
	}
	return nil
}

// primary returns the primary copy: if there are several one that can be reached, and that stays.
func (o *object) primary() *replica {
	var found *replica
	for _, r := range o.replicas {
		if r.primary && (found == nil || r.standing() > found.standing()) {
			found = r
		}
	}
	return found
}

// standing orders copies by how much can be relied on them.
type standing uint8

const (
	// away is that of a store whose stream has broken, goes of one that is about to leave.
	away standing = iota
	goes
	stays
)

func (r *replica) standing() standing {
	switch {
	case r.store.session == 0:
		return away
	case r.store.leaving != nil:
		return goes
	default:
		return stays
	}
}

// state is the best of the copies' states.
func (o *object) state() engine.ObjectState {
	if len(o.replicas) == 0 {
		if o.checkpoint != "" {
			return engine.ObjectCheckpointed
		}
		return engine.ObjectLost
	}
	for _, r := range o.replicas {
		if r.state == engine.ObjectInMemory {
			return engine.ObjectInMemory
		}
	}
	return engine.ObjectSpilled
}

// take learns of a store's copy.
func (c *Core) take(now time.Time, s *store, id engine.ObjectID, wire *enginev1.ObjectCopy, owners []engine.ObjectOwner) {
	if wire.GetPrimary() && len(owners) > 0 {
		c.freed.remove(id) // It was made again.
	}
	if c.deleted.has(id) || c.freed.has(id) {
		if !s.deletes(id) {
			c.deleteCopies(s, id)
		}
		return
	}
	o := c.objects[id]
	if o == nil {
		o = &object{id: id}
		c.objects[id] = o
	}
	r := o.replica(s)
	if r == nil {
		r = &replica{store: s}
		o.replicas = append(o.replicas, r)
		s.copies[id] = o
	}
	o.sizeBytes, o.rows, o.batches, o.domain = wire.GetSizeBytes(), wire.GetRows(), wire.GetBatches(), wire.GetDomain()
	if wire.Crc32C != nil {
		o.crc32c, o.checked = wire.GetCrc32C(), true
	}
	if wire.GetCheckpoint() != "" {
		o.checkpoint = wire.GetCheckpoint()
	}
	r.session, r.state, r.primary, r.pins, r.spilled = s.session, stateOf(wire), wire.GetPrimary(), wire.GetPins(), wire.GetSpilled()
	r.created, r.accessed = timeOf(wire.GetCreateTime()), timeOf(wire.GetAccessTime())
	r.owners = nil
	if r.primary {
		r.owners = owners
		o.former = slices.DeleteFunc(o.former, func(other *store) bool { return other == s })
		var missing []engine.ObjectOwner
		for _, owner := range o.kept {
			// What was made again belongs to its job without an end, until it hears of the one that the lost object had.
			if ends := !owner.Expires.IsZero() && slices.Contains(owners, bare(owner)); (ends || !contains(owners, owner)) && !expired(owner, now) {
				missing = append(missing, owner)
			}
		}
		if o.kept = nil; len(missing) > 0 {
			c.give(s, ownOrder(id, missing, nil))
		}
	}
	if o.departure != nil {
		o.departure, o.restoration, o.remaking, o.asked = nil, nil, false, false
		c.departed.remove(id)
	}
	c.own(now, o)
	c.settle(now, o)
	c.tell(id)
}

// own brings the owners, and the indexes by owner, up to date.
func (c *Core) own(now time.Time, o *object) {
	owners := slices.Clone(o.kept)
	for _, r := range o.replicas {
		owners = append(owners, r.owners...)
	}
	owners = normalize(owners)
	for _, owner := range o.owners {
		if !contains(owners, owner) {
			c.disown(o, owner)
		}
	}
	for _, owner := range owners {
		key := bare(owner)
		if c.owned[key] == nil {
			c.owned[key] = map[engine.ObjectID]*object{}
			if c.config.Known != nil && !c.config.Known(key) {
				c.ended.add(now, key)
			}
		}
		c.owned[key][o.id] = o
		if _, taken := c.pins[owner.ID]; owner.Kind == engine.OwnerPin && !taken {
			c.pins[owner.ID] = o.id
		}
	}
	o.owners = owners
	for _, r := range o.replicas {
		for _, owner := range r.owners {
			c.checkOwner(now, r.store, owner)
		}
	}
}

// disown takes an object from the indexes by owner.
func (c *Core) disown(o *object, owner engine.ObjectOwner) {
	key := bare(owner)
	delete(c.owned[key], o.id)
	if len(c.owned[key]) == 0 {
		delete(c.owned, key)
	}
	if owner.Kind == engine.OwnerPin && c.pins[owner.ID] == o.id {
		delete(c.pins, owner.ID)
		for id := range c.owned[key] { // Another one with the same name; there is one only after a head was away.
			c.pins[owner.ID] = id
			break
		}
	}
}

// drop takes a store's copy out. lost tells a copy that went with its store from one that the store gave up.
func (c *Core) drop(now time.Time, o *object, r *replica, lost bool) {
	o.replicas = slices.DeleteFunc(o.replicas, func(other *replica) bool { return other == r })
	delete(r.store.copies, o.id)
	r.store.part(o.id)
	switch {
	case o.primary() != nil:
	case r.primary && !lost:
		c.free(now, o)
		return
	case r.primary:
		if o.kept = normalize(append(o.kept, c.lasting(o.id, r)...)); len(o.kept) == 0 {
			c.free(now, o)
			return
		}
	}
	if r.primary && lost {
		o.former = append(o.former, r.store)
	}
	if len(o.replicas) > 0 {
		c.own(now, o)
		c.settle(now, o)
		c.tell(o.id)
		return
	}
	c.expire(now, o)
	if len(o.kept) == 0 {
		// A cache of a copy that nobody has told us of.
		c.forget(o)
		return
	}
	o.departure = &departure{node: r.store.id, at: now}
	if n := len(o.former); n > 0 {
		o.departure.node = o.former[n-1].id
	}
	c.departed.add(now, o.id)
	c.own(now, o)
	c.settle(now, o)
	if _, _, made := o.id.Producer(); made && o.checkpoint == "" {
		o.remaking = c.config.Remade
		if o.remaking || c.watches[o.id] == nil {
			c.lost(o.id)
		}
	}
	if c.awaited[o.id] != nil || c.watches[o.id] != nil {
		c.want(o)
	}
	c.tell(o.id)
}

// lasting returns the owners of a lost copy, but for those whose end its store had not heard of.
func (c *Core) lasting(id engine.ObjectID, r *replica) []engine.ObjectOwner {
	var ending []engine.ObjectOwner
	for _, number := range r.store.queues[id] {
		if own := r.store.orders[number].wire.GetOwn(); own != nil {
			removed, err := rpc.OwnersFromProto(own.GetRemove())
			if err == nil {
				ending = append(ending, removed...)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(r.owners), func(owner engine.ObjectOwner) bool {
		return contains(ending, owner) || c.ended.has(bare(owner))
	})
}

// free ends an object whose primary copy was given up, because nobody owns it: its caches go too.
func (c *Core) free(now time.Time, o *object) {
	c.freed.add(now, o.id)
	c.tellFreed(o.id)
	for _, r := range o.replicas {
		c.deleteCopies(r.store, o.id)
	}
	c.forget(o)
}

// forget takes an object out of the directory.
func (c *Core) forget(o *object) {
	for _, owner := range o.owners {
		c.disown(o, owner)
	}
	for _, r := range o.replicas {
		delete(r.store.copies, o.id)
		r.store.part(o.id)
	}
	delete(c.objects, o.id)
	delete(c.unsettled, o.id)
	c.departed.remove(o.id)
	c.tell(o.id)
}

// expire ends the kept owners whose time is over, which no store does for an object without copies.
func (c *Core) expire(now time.Time, o *object) {
	isOver := func(owner engine.ObjectOwner) bool { return expired(owner, now) }
	if slices.ContainsFunc(o.kept, isOver) {
		o.kept = slices.DeleteFunc(slices.Clone(o.kept), isOver)
		c.releaseKept(now, o)
	}
}

// releaseKept follows the end of kept owners.
func (c *Core) releaseKept(now time.Time, o *object) {
	c.own(now, o)
	if len(o.owners) == 0 && len(o.replicas) == 0 && o.departure != nil {
		c.forget(o)
	}
}

func (c *Core) forgetDeparted(id engine.ObjectID) {
	if o := c.objects[id]; o != nil && len(o.replicas) == 0 {
		c.forget(o)
	}
}

func expired(owner engine.ObjectOwner, now time.Time) bool {
	return !owner.Expires.IsZero() && !now.Before(owner.Expires)
}

// bare returns the owner without its end, as the key that it is.
func bare(owner engine.ObjectOwner) engine.ObjectOwner {
	return engine.ObjectOwner{Kind: owner.Kind, ID: owner.ID}
}

func contains(owners []engine.ObjectOwner, owner engine.ObjectOwner) bool {
	return slices.ContainsFunc(owners, func(other engine.ObjectOwner) bool { return bare(other) == bare(owner) })
}

// normalize sorts owners and leaves the longest of each.
func normalize(owners []engine.ObjectOwner) []engine.ObjectOwner {
	slices.SortStableFunc(owners, func(a, b engine.ObjectOwner) int {
		if order := compareOwners(a, b); order != 0 {
			return order
		}
		switch {
		case a.Expires.Equal(b.Expires):
			return 0
		case a.Expires.IsZero(), !b.Expires.IsZero() && a.Expires.After(b.Expires):
			return -1
		default:
			return 1
		}
	})
	return slices.CompactFunc(owners, func(a, b engine.ObjectOwner) bool { return bare(a) == bare(b) })
}
