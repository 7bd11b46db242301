package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/f708428e/engine"
)

// TestSearchFindsTheBest compares the tree, whose leaves are read late, with a look at every node, while nodes fill up, are kept, and
// load a model.
func TestSearchFindsTheBest(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		var s Snapshot
		for i := range linear + 1 + r.IntN(40) {
			s.Nodes = append(s.Nodes, Node{
				ID:    engine.NodeID(fmt.Sprintf("n%02d", i)),
				Total: engine.Resources{CPU: float64(1 + r.IntN(8)), MemoryBytes: int64(r.IntN(8)), Custom: map[string]float64{"x": float64(r.IntN(3))}},
			})
		}
		s.Classes = []Class{{ID: "a", Request: engine.Resources{Custom: map[string]float64{"x": 1}}, Weights: Weights{Digest: "m"}}}
		p := newPass(&s)
		all := p.everywhere.pools[groupPlain]
		model := p.models[0]
		withModel := p.loadedOf(&p.everywhere, model)[groupPlain]
		for step := range 80 {
			n := p.needOf(&engine.Resources{CPU: float64(r.IntN(3)), MemoryBytes: int64(r.IntN(3)), Custom: map[string]float64{"x": float64(r.IntN(2))}}, Weights{})
			pl := all
			if r.IntN(2) == 0 {
				pl = withModel
			}
			want, least := -1, never
			for i := range p.members {
				score := p.members[i].treeScore()
				if score < least && covers(p.freeOf(i), &n) && (pl.model == nil || model.on[i]) {
					want, least = i, score
				}
			}
			got := p.best(pl, &n)
			if got != want {
				t.Fatalf("seed %d, step %d: found node %d, want %d", seed, step, got, want)
			}
			if got >= 0 && r.IntN(3) > 0 {
				p.members[got].take(&n, p.freeOf(got))
			}
			switch i := r.IntN(p.nodes); r.IntN(6) {
			case 0:
				p.load(model, i)
			case 1:
				if r.IntN(4) == 0 {
					p.members[i].closed = true
					p.members[i].version++
				}
			}
		}
	}
}
