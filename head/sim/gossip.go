package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
)

// gossip gives the heads hints about which workers are there. Some are true; the others may be anything, at any time, to the end: they
// must not matter but for a moment.
type gossip struct {
	world *world
	// random is its own, so that hints change nothing else that happens by chance.
	random *rand.Rand
	// suspects has, for each head, the nodes that it suspects and how much they may have at most.
	suspects map[*head]map[engine.NodeID]int
}

// hintEvery is how much time passes between two hints, at most.
const hintEvery = 2 * time.Second

func newGossip(w *world) *gossip {
	g := &gossip{world: w, random: rand.New(rand.NewPCG(w.options.Seed, 0x90551b)), suspects: map[*head]map[engine.NodeID]int{}} //nolint:gosec // A simulation must be repeatable.
	g.next()
	return g
}

func (g *gossip) next() {
	g.world.after(time.Duration(g.random.Int64N(int64(hintEvery))), func() {
		h := g.world.leader()
		if others := g.world.heads; g.random.IntN(8) == 0 {
			h = others[g.random.IntN(len(others))] // It may lead no more and not know it.
		}
		v := g.world.workers[g.random.IntN(len(g.world.workers))]
		suspected := g.random.IntN(2) == 0
		if g.random.IntN(2) == 0 {
			suspected = !v.alive || v.frozen || v.mute || v.deaf // The truth.
		}
		if h != nil {
			h.run(func() { g.hint(h, v, suspected) })
		}
		g.next()
	})
}

// hint tells a head.
func (g *gossip) hint(h *head, v *worker, suspected bool) {
	before := g.view(h, v.id)
	h.core.Suspect(g.world.now, v.id, suspected)
	if !before.Suspect && g.view(h, v.id).Suspect {
		g.world.say("%s suspects %s, which has %d tasks", h.name, v.id, before.Running)
		g.world.stats.Suspicions++
		if g.suspects[h] == nil {
			g.suspects[h] = map[engine.NodeID]int{}
		}
		g.suspects[h][v.id] = before.Running
		if h.term > 1 {
			// What the worker has of an earlier head's is adopted when its client submits it again.
			g.suspects[h][v.id] += len(v.tasks.queued) + len(v.tasks.running) + len(v.tasks.outcomes)
		}
	}
	h.act()
}

// view returns what a head knows of a node; zero if it knows none.
func (g *gossip) view(h *head, id engine.NodeID) dispatch.NodeView {
	nodes := h.core.Nodes()
	if i := slices.IndexFunc(nodes, func(n dispatch.NodeView) bool { return n.ID == id }); i >= 0 {
		return nodes[i]
	}
	return dispatch.NodeView{}
}

// check makes sure that no node was granted anything while it was suspected.
func (g *gossip) check() {
	for h, suspects := range g.suspects {
		for id, had := range suspects {
			switch node := g.view(h, id); {
			case !node.Suspect:
				delete(suspects, id)
			case node.Running > had:
				g.world.fail("%s has granted something to %s, which it suspects: it has %d tasks, expected %d at most", h.name, id, node.Running, had)
			case h.term == 1:
				suspects[id] = node.Running
			}
		}
		if len(suspects) == 0 || !h.alive {
			delete(g.suspects, h)
		}
	}
}
