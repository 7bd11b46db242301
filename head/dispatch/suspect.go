package dispatch

import (
	"time"

	"github.com/f708428e/engine"
)

// Suspect takes in a hint: that a node seems to be gone, or that it is there after all. One that seems to be gone is granted nothing new
// until it reports, or the hint is taken back. What it has stays with it until its lease ends, which is looked at now. Hints about nodes
// that are not there, or are dead, mean nothing.
func (c *Core) Suspect(now time.Time, node engine.NodeID, suspected bool) {
	w := c.workers[node]
	if w == nil || w.dead || w.suspect == suspected {
		return
	}
	c.setSuspect(w, suspected)
	c.Tick(now)
}

// setSuspect sets whether a node is suspected. A pass is due in both cases: there is room, or what waits has another reason to.
func (c *Core) setSuspect(w *worker, suspected bool) {
	if w.suspect != suspected {
		w.suspect = suspected
		c.cordon(w)
		c.stale = true
	}
}

// takesNothing reports whether a node is to be granted nothing new.
func (c *Core) takesNothing(w *worker) bool { return w.draining || w.suspect || c.drains[w.id] != nil }

// Suspect takes in a hint that a node seems to be gone, or is there after all; see Core.Suspect.
func (d *Dispatcher) Suspect(node engine.NodeID, suspected bool) {
	d.do(func(core *Core, now time.Time) { core.Suspect(now, node, suspected) })
}
