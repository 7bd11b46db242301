package objects

import (
	"slices"
	"time"

	"github.com/f708428e/engine"
)

// settle does what is to be done for an object so that it has one primary copy: gives its lost one's owners to a cache, gives a
// second one up, brings it back from its checkpoint, moves it from a store that is about to leave. What no store can do now is tried again at every tick.
func (c *Core) settle(now time.Time, o *object) {
	if c.objects[o.id] != o {
		return
	}
	o.partWithOthers()
	settled := true
	switch {
	case o.restoration != nil:
		settled = c.restore(o)
	case len(o.replicas) > 0 && o.primary() == nil && len(o.kept) > 0:
		settled = c.promote(now, o)
	case o.mustMove() != nil:
		c.move(o)
	case len(o.replicas) > 1:
		settled = c.merge(now, o)
	}
	if settled {
		delete(c.unsettled, o.id)
	} else {
		c.unsettled[o.id] = o
	}
}

func (c *Core) settleAll(now time.Time) {
	for _, id := range sortedIDs(c.unsettled) {
		if o := c.unsettled[id]; o != nil {
			c.settle(now, o)
		}
	}
}

// promote makes a cache the primary copy, with the owners of the one that was lost.
func (c *Core) promote(now time.Time, o *object) bool {
	if o.kept = slices.DeleteFunc(slices.Clone(o.kept), func(owner engine.ObjectOwner) bool { return expired(owner, now) }); len(o.kept) == 0 {
		// Nobody owns it any more, so it ends as if its primary copy had been given up.
		c.free(now, o)
		return true
	}
	if o.promoting != 0 {
		return false
	}
	best := o.replicas[0]
	for _, r := range o.replicas {
		if r.standing() > best.standing() {
			best = r
		}
	}
	if best.standing() != away {
		o.promoting = c.give(best.store, promoteOrder(o.id, o.kept, o.checkpoint))
	}
	return false
}

// merge leaves one primary copy: two exist when a store comes back that was lost, or when a task wrote its output twice. The first one
// gets all owners before another one goes.
func (c *Core) merge(now time.Time, o *object) bool {
	keeper := o.primary()
	if keeper == nil {
		return true
	}
	settled := true
	for _, r := range slices.Clone(o.replicas) {
		if !r.primary || r == keeper {
			continue
		}
		if r.store.session == 0 {
			settled = false // The keeper may be gone when it is back.
			continue
		}
		if keeper.store.session == 0 || !keeper.store.complete || len(keeper.store.queues[o.id]) > 0 || len(r.store.queues[o.id]) > 0 {
			settled = false
			continue
		}
		var extra []engine.ObjectOwner
		for _, owner := range r.owners {
			if !contains(keeper.owners, owner) && !expired(owner, now) {
				extra = append(extra, owner)
			}
		}
		if settled = false; len(extra) > 0 && !r.offered {
			r.offered = true
			c.give(keeper.store, ownOrder(o.id, extra, nil))
			continue
		}
		c.deleteCopies(r.store, o.id)
	}
	return settled
}

// bringBack begins the restoration of an object that has a checkpoint alone.
func (c *Core) bringBack(now time.Time, o *object) {
	if o.departure != nil && o.checkpoint != "" && o.restoration == nil {
		o.restoration = &restoration{}
		c.settle(now, o)
	}
}

// restore orders a store to read a checkpoint. The object stays unsettled until the copy is there.
func (c *Core) restore(o *object) bool {
	r := o.restoration
	if r.order != 0 {
		return false
	}
	s := c.roomiest(r.tried)
	if s == nil {
		s = c.roomiest(nil)
	}
	if s != nil {
		r.tried = append(r.tried, s.id)
		r.order = c.give(s, restoreOrder(o.id, o.checkpoint, o.domain, o.kept))
	}
	return false
}

// restored follows the end of an order to restore: another store may try what may succeed there.
func (c *Core) restored(o *object, err error) {
	switch {
	case o.departure == nil:
		o.restoration = nil
	case err == nil:
		err = engine.Errorf(engine.KindInternal, "restore object", o.id.String(), "node %s restored %s, and has no copy of it", o.restoration.tried[len(o.restoration.tried)-1], o.checkpoint)
		fallthrough
	default:
		if engine.KindOf(err).Retryable() && len(o.restoration.tried) < maxRestores {
			return
		}
		o.restoration = nil
		c.failWaiters(o.id, engine.WrapError("restore object", o.id.String(), err))
	}
}
