package dispatch

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// drain is an order to a node to finish what it has and leave.
type drain struct {
	// deadline is when what still runs is given back. Zero means never.
	deadline time.Time
	reason   string
	// since is when the order came, or this head heard of it.
	since time.Time
	// session and sequence are of the answer that carried it; zero if none of the present order has.
	session, sequence uint64
	known             bool
}

// Drain lets a node get nothing new and tells it to leave; one that drains already gets the new deadline. A zero deadline means none. The
// order stays until the node has left, which an event tells. A node that is not connected is told when it comes.
func (c *Core) Drain(now time.Time, node engine.NodeID, deadline time.Time, reason string) {
	c.clock = now
	c.drains[node] = &drain{deadline: deadline, reason: reason, since: now}
	if w := c.workers[node]; w != nil {
		c.touch(w)
		c.cordon(w)
	}
	c.schedule(now)
}

// order returns what an answer is to carry of a drain, nil if the stream has carried it.
func (d *drain) order(now time.Time, w *worker) *enginev1.DrainOrder {
	if d == nil || d.session == w.session {
		return nil
	}
	d.session, d.sequence = w.session, w.sequence
	order := &enginev1.DrainOrder{Reason: d.reason}
	if !d.deadline.IsZero() {
		order.WithinMillis = max(1, d.deadline.Sub(now).Milliseconds())
	}
	return order
}

// hearDrain follows what a node says of its drain.
func (c *Core) hearDrain(w *worker, report *enginev1.SyncRequest) {
	d := c.drains[w.id]
	if d == nil {
		return
	}
	if !d.known && (report.GetDraining() || d.session == w.session && report.GetAcknowledgedSequence() >= d.sequence) {
		d.known = true
		c.events.DrainsKnown = append(c.events.DrainsKnown, w.id)
	}
	if report.GetGoodbye() {
		c.drained(w.id)
	}
}

// drained ends a drain: the node has left, or is not heard of any more.
func (c *Core) drained(node engine.NodeID) {
	if d := c.drains[node]; d != nil {
		delete(c.drains, node)
		c.events.Drained = append(c.events.Drained, node)
		if !d.known {
			c.events.DrainsKnown = append(c.events.DrainsKnown, node)
		}
	}
}

// forgetDrains ends the drains of nodes that are gone for so long that they do not come back.
func (c *Core) forgetDrains(now time.Time) {
	for node, d := range c.drains {
		if c.workers[node] == nil && now.Sub(d.since) > deadNodeMemory {
			c.drained(node)
		}
	}
}
