package objects

import "github.com/f708428e/engine"

// Kept counts what a core remembers, so that tests see that it forgets.
func (c *Core) Kept() map[string]int {
	kept := map[string]int{
		"objects": len(c.objects), "owned": len(c.owned), "pins": len(c.pins), "pinning": len(c.pinning), "unsettled": len(c.unsettled),
		"sessions": len(c.sessions), "waiters": len(c.waiters), "awaited": len(c.awaited), "waiting ids": c.waiting, "departed": len(c.departed.at),
		"deleted": len(c.deleted.at), "freed": len(c.freed.at), "ended": len(c.ended.at),
		"leavers":  len(c.leavers),
		"memories": len(c.departed.order) + len(c.deleted.order) + len(c.freed.order) + len(c.ended.order),
	}
	for _, s := range c.stores {
		if s.lost {
			kept["orders for lost stores"] += len(s.orders)
			continue
		}
		kept["copies"] += len(s.copies)
		kept["orders"] += len(s.orders)
		kept["waiting"] += len(s.waiting)
		kept["queues"] += len(s.queues)
		kept["ending"] += len(s.ending)
		kept["requests"] += s.requests
		kept["moves"] += s.moves + int(s.coming)
	}
	return kept
}

// Forgotten reports whether nothing is remembered of an id.
func (c *Core) Forgotten(id engine.ObjectID) bool {
	return c.objects[id] == nil && !c.deleted.has(id) && !c.freed.has(id)
}
