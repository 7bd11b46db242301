package scheduler_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the property tests from this seed alone; 0 is many seeds")
	seeds    = flag.Int("seeds", 40, "how many seeds the property tests try")
)

// forEachSeed runs f from fixed seeds, so that a failure comes again, and some new ones, so that more is seen over time. Each
// failing test names its seed.
func forEachSeed(t *testing.T, f func(t *testing.T, r *rand.Rand)) { forSeeds(t, *seeds, f) }

// forFewSeeds is for tests of which each seed takes long.
func forFewSeeds(t *testing.T, f func(t *testing.T, r *rand.Rand)) { forSeeds(t, (*seeds+3)/4, f) }

func forSeeds(t *testing.T, count int, f func(t *testing.T, r *rand.Rand)) {
	run := func(seed uint64) bool {
		return t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			f(t, rand.New(rand.NewPCG(seed, 1)))
			if t.Failed() {
				t.Logf("again with: go test ./scheduler -run '%s' -seed %d", t.Name(), seed)
			}
		})
	}
	if *seedFlag != 0 {
		run(*seedFlag)
		return
	}
	for i := range count {
		seed := uint64(i + 1)
		if i%4 == 3 {
			seed = rand.Uint64()
		}
		if !run(seed) {
			return
		}
	}
}

// randomCluster makes up to 12 nodes and 10 classes with amounts that collide often.
func randomCluster(r *rand.Rand) *cluster {
	c := &cluster{}
	pick := func(values ...float64) float64 { return values[r.IntN(len(values))] }
	for i := range 1 + r.IntN(12) {
		n := &simNode{id: engine.NodeID(fmt.Sprintf("n%02d", i)), drain: r.IntN(8) == 0}
		n.total = engine.Resources{CPU: pick(1, 2, 4, 7.5, 16), MemoryBytes: int64(pick(1, 2, 8)) << 30}
		if r.IntN(3) == 0 {
			n.total.GPU = pick(1, 2, 4)
			n.total.GPUMemoryBytes = int64(n.total.GPU) * 24 << 30
		}
		if r.IntN(4) == 0 {
			n.total.Custom = map[string]float64{"license": pick(1, 3)}
		}
		c.nodes = append(c.nodes, n)
	}
	for i := range 1 + r.IntN(10) {
		k := &scheduler.Class{ID: fmt.Sprintf("c%02d", i), Pending: r.IntN(40), Order: int64(r.IntN(3))}
		k.Request = engine.Resources{CPU: pick(0, 0.1, 0.3, 1, 1, 1, 2, 4, 20), MemoryBytes: int64(pick(0, 0, 100, 512, 1000, 3000)) << 20}
		if r.IntN(4) == 0 {
			k.Request.GPU = pick(0, 0.1, 0.3, 0.6, 0.7, 1, 2, 1.5)
			k.Request.GPUMemoryBytes = int64(pick(0, 4, 13, 30)) << 30
		}
		if r.IntN(6) == 0 {
			k.Request.Custom = map[string]float64{"license": pick(0.1, 1, 2)}
		}
		c.classes = append(c.classes, k)
	}
	return c
}

// churn ends tasks at random and makes others pending.
func (c *cluster) churn(r *rand.Rand) {
	for _, n := range c.nodes {
		for _, k := range c.classes {
			c.finish(k.ID, n.id, r.IntN(6))
		}
	}
	for _, k := range c.classes {
		k.Pending += r.IntN(10)
		k.Overdue = k.Pending > 0 && k.Running == 0 && r.IntN(3) == 0
	}
}

// addGroups makes groups wait, and classes use them and models.
func (c *cluster) addGroups(r *rand.Rand) {
	for i := range r.IntN(4) {
		g := scheduler.Group{ID: fmt.Sprintf("g%d", i), Queue: fmt.Sprintf("q%d", r.IntN(3)), Overdue: r.IntN(3) == 0}
		g.Strategy = []engine.PlacementStrategy{"", engine.PlacePack, engine.PlaceSpread, engine.PlaceStrictPack, engine.PlaceStrictSpread}[r.IntN(5)]
		if r.IntN(4) == 0 {
			g.Selector = map[string]string{"zone": "1"}
		}
		for range 1 + r.IntN(5) {
			b := engine.Resources{CPU: float64(1+r.IntN(4)) / 2, MemoryBytes: int64(r.IntN(3)) << 28}
			if r.IntN(8) == 0 {
				b.GPU = []float64{0.5, 1, 2}[r.IntN(3)]
			}
			g.Bundles = append(g.Bundles, b)
		}
		c.groups = append(c.groups, g)
	}
	for _, k := range c.classes {
		switch r.IntN(5) {
		case 0:
			k.Group, k.Bundle = fmt.Sprintf("g%d", r.IntN(3)), r.IntN(4)-1
			k.Request = engine.Resources{CPU: 0.5, GPU: k.Request.GPU}
		case 1:
			k.Weights = scheduler.Weights{Digest: fmt.Sprintf("m%d", r.IntN(2))}
			k.Weights.Bytes = map[string]int64{"m0": 300 << 20, "m1": 1 << 30}[k.Weights.Digest]
		}
		k.Preemptible = r.IntN(2) == 0
	}
}

// removeGroups gives up placed groups at random, with what runs in them.
func (c *cluster) removeGroups(r *rand.Rand) {
	gone := map[string]bool{}
	for i := range 3 {
		gone[fmt.Sprintf("g%d", i)] = r.IntN(3) == 0
	}
	for _, n := range c.nodes {
		n.leases = slices.DeleteFunc(n.leases, func(l lease) bool {
			end := l.bundle != nil && gone[l.bundle.group]
			if end {
				c.class(l.class).Running--
			}
			return end
		})
		n.bundles = slices.DeleteFunc(n.bundles, func(b *simBundle) bool { return gone[b.group] })
	}
}

// TestPlansAreSound plays several rounds on a random cluster. No plan oversubscribes anything, leaves a class or group waiting that fits
// on nodes which are not kept, calls a request infeasible that is not, or depends on the order of its input.
func TestPlansAreSound(t *testing.T) {
	forEachSeed(t, func(t *testing.T, r *rand.Rand) {
		c := randomCluster(r)
		if r.IntN(3) > 0 {
			c.addPolicies(r)
			c.addGroups(r)
		}
		if r.IntN(4) == 0 {
			c.placements = 1 + r.IntN(20)
		}
		for round := range 8 {
			s := c.snapshot()
			plan := scheduler.Decide(s)
			r.Shuffle(len(s.Nodes), func(i, j int) { s.Nodes[i], s.Nodes[j] = s.Nodes[j], s.Nodes[i] })
			r.Shuffle(len(s.Classes), func(i, j int) { s.Classes[i], s.Classes[j] = s.Classes[j], s.Classes[i] })
			r.Shuffle(len(s.Queues), func(i, j int) { s.Queues[i], s.Queues[j] = s.Queues[j], s.Queues[i] })
			if again := scheduler.Decide(s); !reflect.DeepEqual(plan, again) {
				t.Fatalf("round %d: the order of the input changes the plan:\n%+v\n%+v", round, plan, again)
			}
			if err := c.apply(plan); err != nil {
				t.Fatalf("round %d: %v\nplan %+v", round, err, plan)
			}
			if !plan.More {
				c.checkWaiting(t, plan)
				c.checkGroups(t, plan)
			}
			c.leave()
			c.churn(r)
			c.removeGroups(r)
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
	})
}

// checkGroups looks for groups without GPUs that wait though they fit.
func (c *cluster) checkGroups(t *testing.T, plan scheduler.Plan) {
	t.Helper()
	kept := c.keptForGroups(plan)
	for _, w := range plan.Waiting {
		kept[w.KeptNode] = true
	}
	for _, w := range plan.GroupsWaiting {
		g := c.groups[slices.IndexFunc(c.groups, func(g scheduler.Group) bool { return g.ID == w.Class })]
		if w.Count != len(g.Bundles) || w.Reason == "" {
			t.Errorf("group %s waits with %+v", g.ID, w)
		}
		if g.Overdue && w.KeptNode != "" || c.groupOverQuota(&g) || slices.ContainsFunc(g.Bundles, func(b engine.Resources) bool { return b.GPU > 0 }) {
			continue
		}
		var open []*simNode
		for _, n := range c.nodes {
			if !n.drain && !kept[n.id] && selected(g.Selector, n.labels) {
				open = append(open, &simNode{id: n.id, total: n.total, leases: n.leases, models: n.models, bundles: slices.Clone(n.bundles)})
			}
		}
		single := g.Strategy == engine.PlaceStrictPack || len(g.Bundles) == 1
		if single && slices.ContainsFunc(open, func(n *simNode) bool { return couldLie(g.Bundles, []*simNode{n}, false) }) ||
			g.Strategy == engine.PlaceStrictSpread && couldLie(g.Bundles, open, true) {
			t.Errorf("group %s (%s) of %v waits (%s), yet fits", g.ID, g.Strategy, g.Bundles, w.Reason)
		}
		if w.Infeasible && couldLie(g.Bundles, open, g.Strategy == engine.PlaceStrictSpread) && !strings.HasPrefix(string(g.Strategy), "STRICT") {
			t.Errorf("group %s is infeasible (%s), yet fits", g.ID, w.Reason)
		}
	}
}

// couldLie tries all ways to lay bundles on nodes.
func couldLie(bundles []engine.Resources, nodes []*simNode, apart bool) bool {
	if len(bundles) == 0 {
		return true
	}
	for i, n := range nodes {
		n.bundles = append(n.bundles, &simBundle{total: bundles[0]})
		rest := nodes
		if apart {
			rest = slices.Delete(slices.Clone(nodes), i, i+1)
		}
		ok := n.check() == nil && couldLie(bundles[1:], rest, apart)
		if n.bundles = n.bundles[:len(n.bundles)-1]; ok {
			return true
		}
	}
	return false
}

func (c *cluster) groupOverQuota(g *scheduler.Group) bool {
	all := scheduler.Class{Queue: g.Queue}
	for _, b := range g.Bundles {
		all.Request = sum(all.Request, b)
	}
	return c.overQuota(&all)
}

func (c *cluster) checkWaiting(t *testing.T, plan scheduler.Plan) {
	t.Helper()
	kept := c.keptForGroups(plan)
	for _, w := range plan.Waiting {
		if w.KeptNode == "" {
			continue
		}
		if kept[w.KeptNode] && len(plan.GroupsWaiting) == 0 {
			t.Errorf("%s is kept twice", w.KeptNode)
		}
		kept[w.KeptNode] = true
		if k := c.class(w.Class); k.Running > 0 || !k.Overdue {
			t.Errorf("%s is kept for %s, which has %d running and overdue %t", w.KeptNode, w.Class, k.Running, k.Overdue)
		}
	}
	for _, w := range plan.Waiting {
		feasible := false
		k := c.class(w.Class)
		if slices.ContainsFunc(plan.Groups, func(g scheduler.GroupPlacement) bool { return g.Group == k.Group }) {
			continue // Its bundles are there from the next decision on.
		}
		for _, n := range c.nodes {
			feasible = feasible || n.fits(k, true)
			if !n.drain && !kept[n.id] && !c.overQuota(k) && n.fits(k, false) {
				t.Errorf("%s waits (%s), yet fits on %s", w.Class, w.Reason, n.id)
			}
		}
		if k.Group != "" && !c.placed(k) {
			if w.Infeasible && (k.Request.GPU <= 1 || k.Request.GPU == math.Floor(k.Request.GPU)) {
				t.Errorf("%s is infeasible (%s), though its group may be placed yet", w.Class, w.Reason)
			}
			continue
		}
		if feasible == w.Infeasible {
			t.Errorf("%s: infeasible is %t (%s)", w.Class, w.Infeasible, w.Reason)
		}
		if w.Reason == "" {
			t.Errorf("%s waits without a reason", w.Class)
		}
	}
}

// placed reports whether the bundle of a class is placed.
func (c *cluster) placed(k *scheduler.Class) bool {
	return slices.ContainsFunc(c.nodes, func(n *simNode) bool {
		return slices.ContainsFunc(n.bundles, func(b *simBundle) bool { return b.group == k.Group && (k.Bundle < 0 || b.index == k.Bundle) })
	})
}

// keptForGroups returns all nodes if some group has several, since the plan names one of them.
func (c *cluster) keptForGroups(plan scheduler.Plan) map[engine.NodeID]bool {
	kept := map[engine.NodeID]bool{}
	for _, w := range plan.GroupsWaiting {
		for _, n := range c.nodes {
			if w.KeptNode == n.id || w.KeptNode != "" && w.Count > 1 {
				kept[n.id] = true
			}
		}
	}
	return kept
}

// TestFairness checks the bound of max-min fairness: where all requests are alike, no class that got something in a pass holds
// more than one task more than a class that is left waiting.
func TestFairness(t *testing.T) {
	forEachSeed(t, func(t *testing.T, r *rand.Rand) {
		c := randomCluster(r)
		for _, k := range c.classes {
			k.Request = engine.Resources{CPU: 0.5, MemoryBytes: 100 << 20}
			k.Pending = r.IntN(200)
		}
		for range 8 {
			plan := scheduler.Decide(c.snapshot())
			if err := c.apply(plan); err != nil {
				t.Fatal(err)
			}
			for _, p := range plan.Placements {
				for _, w := range plan.Waiting {
					if got, waits := c.class(p.Class), c.class(w.Class); got.Running-1 > waits.Running {
						t.Errorf("%s got tasks and holds %d, while %s waits with %d", got.ID, got.Running, waits.ID, waits.Running)
					}
				}
			}
			c.churn(r)
		}
	})
}

// TestNobodyStarves lets tasks of random lengths come and go for long. A class that some node could run is overdue after 10
// rounds without a task; from then on it gets one before every other class had its turn twice.
func TestNobodyStarves(t *testing.T) {
	const longest, patience = 5, 10
	forFewSeeds(t, func(t *testing.T, r *rand.Rand) {
		c := randomCluster(r)
		waited := map[string]int{}
		for round := range 150 {
			for _, n := range c.nodes {
				n.leases = slices.DeleteFunc(n.leases, func(l lease) bool {
					if l.ends == 0 || l.ends > round {
						return false
					}
					c.class(l.class).Running--
					return true
				})
			}
			for _, k := range c.classes {
				k.Pending = 1000
				k.Overdue = waited[k.ID] >= patience
			}
			plan := scheduler.Decide(c.snapshot())
			if err := c.apply(plan); err != nil {
				t.Fatal(err)
			}
			for _, n := range c.nodes {
				for i := range n.leases {
					if l := &n.leases[i]; l.ends == 0 {
						l.ends = round + 1 + r.IntN(longest)
					}
				}
			}
			limit := patience + 2*len(c.classes)*(longest+1)
			for _, w := range plan.Waiting {
				k := c.class(w.Class)
				waited[k.ID]++
				if w.Infeasible || k.Running > 0 || !slices.ContainsFunc(c.nodes, func(n *simNode) bool { return !n.drain && n.fits(k, true) }) {
					waited[k.ID] = 0
				}
				if waited[k.ID] > limit {
					t.Fatalf("round %d: %s (%s) got nothing for %d rounds: %s", round, k.ID, k.Request, limit, w.Reason)
				}
			}
		}
	})
}

// TestWildAmounts feeds what no caller should send. Any plan will do, as long as there is one.
func TestWildAmounts(t *testing.T) {
	forEachSeed(t, func(_ *testing.T, r *rand.Rand) {
		wild := func() float64 {
			values := []float64{0, 1, -1, 0.5, 1e300, -1e300, 1e-300, math.NaN(), math.Inf(1), math.Inf(-1), 2.5, 9999999}
			return values[r.IntN(len(values))]
		}
		wildBytes := func() int64 {
			values := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 50, 1 << 30}
			return values[r.IntN(len(values))]
		}
		resources := func() engine.Resources {
			return engine.Resources{
				CPU: wild(), GPU: min(wild(), 64), MemoryBytes: wildBytes(), GPUMemoryBytes: wildBytes(),
				Custom: map[string]float64{"": wild(), "x": wild()},
			}
		}
		var s scheduler.Snapshot
		for i := range r.IntN(5) {
			n := scheduler.Node{ID: engine.NodeID(fmt.Sprint(i % 3)), Total: resources(), Used: resources()}
			for range r.IntN(4) {
				n.GPUs = append(n.GPUs, scheduler.GPU{Free: wild(), FreeMemoryBytes: wildBytes()})
			}
			s.Nodes = append(s.Nodes, n)
		}
		for i := range r.IntN(5) {
			s.Classes = append(s.Classes, scheduler.Class{
				ID: fmt.Sprint(i % 3), Request: resources(), Pending: r.IntN(50) - 5, Running: r.IntN(50) - 5,
				LastPlaced: wildBytes(), Order: wildBytes(), Overdue: r.IntN(2) == 0,
			})
		}
		for i := range r.IntN(3) {
			s.Queues = append(s.Queues, scheduler.Queue{Name: fmt.Sprint(i % 2), Weight: wild(), Quota: resources(), Priority: r.IntN(2)})
			s.Groups = append(s.Groups, scheduler.Group{ID: fmt.Sprint(i % 2), Bundles: []engine.Resources{resources(), resources()}, Overdue: true})
		}
		for i := range s.Nodes {
			s.Nodes[i].Bundles = []scheduler.Bundle{{Group: "0", Index: int(wildBytes() % 3), Total: resources(), Used: resources(), Devices: []int{0, 1}, GPUs: s.Nodes[i].GPUs}}
		}
		for i := range s.Classes {
			c := &s.Classes[i]
			c.Queue, c.Weights = fmt.Sprint(i%3), scheduler.Weights{Digest: fmt.Sprint(i % 2), Bytes: wildBytes(), GPUBytes: wildBytes()}
			c.Group, c.Bundle = []string{"", "0", "1"}[r.IntN(3)], r.IntN(3)-1
			c.Preemptible, c.RunningOn = r.IntN(2) == 0, map[engine.NodeID]int{"0": r.IntN(20) - 5, "1": 3, "?": 1}
			c.Leaving = map[engine.NodeID]int{"1": r.IntN(5) - 2}
			c.Prefer, c.Spread = []engine.NodeID{"1", "?"}, r.IntN(2) == 0
		}
		scheduler.Decide(s)
	})
}
