package scheduler_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// reference is the policy for tasks without GPUs, groups, and models, as plainly as it can be said: after each placement everything is
// looked at again.
type reference struct {
	s      scheduler.Snapshot
	total  [2]float64
	nodes  []*refNode
	queues map[string]*refQueue
	clock  int64
}

type refNode struct {
	*scheduler.Node
	free  [2]int64
	score float64
}

type refQueue struct {
	scheduler.Queue
	held [2]int64
	last int64
}

type refClass struct {
	*scheduler.Class
	queue         *refQueue
	need          [2]int64
	pending, held int
	last          int64
	spread        map[engine.NodeID]int
	done          bool
}

func amounts(r engine.Resources) [2]int64 { return [2]int64{units(r.CPU), r.MemoryBytes} }

func decideByReference(s scheduler.Snapshot) map[string]int {
	ref := &reference{s: s, queues: map[string]*refQueue{}}
	for i := range s.Nodes {
		n := &refNode{Node: &s.Nodes[i]}
		total, used := amounts(n.Total), amounts(n.Used)
		for d := range total {
			n.free[d] = total[d] - used[d]
			ref.total[d] += float64(total[d])
		}
		ref.rate(n)
		ref.nodes = append(ref.nodes, n)
	}
	slices.SortFunc(ref.nodes, func(a, b *refNode) int {
		return cmp.Or(cmp.Compare(min(1, a.Total.GPU), min(1, b.Total.GPU)), cmp.Compare(a.ID, b.ID))
	})
	for _, q := range s.Queues {
		ref.queues[q.Name] = &refQueue{Queue: q}
	}
	var classes []*refClass
	for i := range s.Classes {
		c := &refClass{Class: &s.Classes[i], need: amounts(s.Classes[i].Request), spread: map[engine.NodeID]int{}}
		c.queue = ref.queues[cmp.Or(c.Queue, "default")]
		if c.queue == nil {
			c.queue = &refQueue{Queue: scheduler.Queue{Name: cmp.Or(c.Queue, "default")}}
			ref.queues[c.queue.Name] = c.queue
		}
		c.pending, c.held, c.last = c.Pending, c.Running, c.LastPlaced
		for d := range c.need {
			c.queue.held[d] += int64(c.held) * c.need[d]
		}
		c.queue.last, ref.clock = max(c.queue.last, c.last), max(ref.clock, c.last)
		maps.Copy(c.spread, c.RunningOn)
		classes = append(classes, c)
	}
	placed := map[string]int{}
	for {
		var next *refClass
		for _, c := range classes {
			if c.pending > 0 && !c.done && (next == nil || ref.before(c, next)) {
				next = c
			}
		}
		if next == nil {
			return placed
		}
		n := ref.choose(next)
		if n == nil {
			next.done = true
			continue
		}
		ref.clock++
		next.pending--
		next.held++
		next.last, next.queue.last = ref.clock, ref.clock
		next.spread[n.ID]++
		for d := range next.need {
			n.free[d] -= next.need[d]
			next.queue.held[d] += next.need[d]
		}
		ref.rate(n)
		placed[next.ID+" on "+string(n.ID)]++
	}
}

func (ref *reference) rate(n *refNode) {
	for d, total := range amounts(n.Total) {
		if total > 0 {
			n.score = max(n.score, float64(total-n.free[d])/float64(total))
		}
	}
}

func (ref *reference) share(held [2]int64) (most float64) {
	for d := range held {
		if ref.total[d] > 0 {
			most = max(most, float64(held[d])*(1/ref.total[d]))
		}
	}
	return most
}

func (ref *reference) before(a, b *refClass) bool {
	if a.queue != b.queue {
		weigh := func(q *refQueue) float64 { return ref.share(q.held) / cmp.Or(q.Weight, 1) }
		return cmp.Or(cmp.Compare(b.queue.Priority, a.queue.Priority), cmp.Compare(weigh(a.queue), weigh(b.queue)),
			cmp.Compare(a.queue.last, b.queue.last), strings.Compare(a.queue.Name, b.queue.Name)) < 0
	}
	share := func(c *refClass) float64 {
		most := 0.0
		for d, v := range c.need {
			if ref.total[d] > 0 {
				most = max(most, float64(v)/ref.total[d])
			}
		}
		return float64(c.held) * most
	}
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(share(a), share(b)), cmp.Compare(a.last, b.last),
		cmp.Compare(a.Order, b.Order), strings.Compare(a.ID, b.ID)) < 0
}

func (ref *reference) choose(c *refClass) *refNode {
	quota := amounts(c.queue.Quota)
	for d := range quota {
		if quota[d] > 0 && c.need[d] > 0 && c.queue.held[d]+c.need[d] > quota[d] {
			return nil
		}
	}
	wishes := c.Prefer
	if c.Soft && c.Node != "" {
		wishes = append([]engine.NodeID{c.Node}, wishes...)
	}
	for _, id := range wishes {
		for _, n := range ref.nodes {
			if n.ID == id && ref.fits(c, n) {
				return n
			}
		}
	}
	var best *refNode
	for _, n := range ref.nodes { // In the order of the plan's preference, so that the first of equals stays.
		if !ref.fits(c, n) {
			continue
		}
		score := func(n *refNode) (float64, float64) {
			switch {
			case c.Spread:
				return float64(c.spread[n.ID]), n.score
			case n.score < 0.5:
				return 0, 0
			}
			return n.score, 0
		}
		if best == nil {
			best = n
			continue
		}
		a, b := score(n)
		x, y := score(best)
		if cmp.Or(cmp.Compare(min(1, n.Total.GPU), min(1, best.Total.GPU)), cmp.Compare(a, x), cmp.Compare(b, y)) < 0 {
			best = n
		}
	}
	return best
}

func (ref *reference) fits(c *refClass, n *refNode) bool {
	for d := range c.need {
		if n.free[d] < c.need[d] {
			return false
		}
	}
	return allowed(c.Class, n.Node)
}

// allowed reports whether a class may run on a node at all.
func allowed(c *scheduler.Class, n *scheduler.Node) bool {
	if n.Unschedulable || c.Node != "" && !c.Soft && c.Node != n.ID || c.Operator != "" && n.Operators != nil && !slices.Contains(n.Operators, c.Operator) {
		return false
	}
	return selected(c.Selector, n.Labels)
}

func selected(selector, labels map[string]string) bool {
	for key, want := range selector {
		got, exists := labels[key]
		switch {
		case want == "":
			if !exists {
				return false
			}
		case want[0] == '!':
			if exists && (want == "!" || got == want[1:]) {
				return false
			}
		case !exists || got != want:
			return false
		}
	}
	return true
}

// addPolicies gives a random cluster queues, labels, operators, and classes that mind them.
func (c *cluster) addPolicies(r *rand.Rand) {
	some := func(n int) bool { return r.IntN(n) == 0 }
	for i := range 1 + r.IntN(3) {
		q := scheduler.Queue{Name: fmt.Sprintf("q%d", i), Weight: float64(r.IntN(4)), Priority: r.IntN(5) / 4}
		if some(3) {
			q.Quota.CPU = float64(1 + r.IntN(12))
		}
		if some(5) {
			q.Quota.MemoryBytes = int64(1+r.IntN(6)) << 30
		}
		c.queues = append(c.queues, q)
	}
	for _, n := range c.nodes {
		n.labels = map[string]string{"zone": fmt.Sprint(r.IntN(3))}
		if some(2) {
			n.labels["disk"] = "ssd"
		}
		if some(3) {
			n.operators = []string{"a", "b"}[r.IntN(2):]
		}
	}
	node := func() engine.NodeID { return engine.NodeID(fmt.Sprintf("n%02d", r.IntN(len(c.nodes)+1))) }
	for _, k := range c.classes {
		if !some(4) {
			k.Queue = fmt.Sprintf("q%d", r.IntN(3))
		}
		k.Priority = r.IntN(4) / 3
		k.Spread = some(4)
		if some(3) {
			k.Selector = map[string]string{"zone": []string{"0", "1", "!2", "", "5"}[r.IntN(5)]}
		}
		if some(6) {
			k.Selector = map[string]string{"disk": []string{"", "ssd", "!ssd", "!"}[r.IntN(4)]}
		}
		if some(4) {
			k.Operator = []string{"a", "b", "c"}[r.IntN(3)]
		}
		if some(6) {
			k.Node, k.Soft = node(), some(2)
		}
		for some(3) {
			k.Prefer = append(k.Prefer, node())
		}
	}
}

// TestDecideFollowsTheReference compares plans on random clusters with the reference, over rounds in which tasks come and go.
func TestDecideFollowsTheReference(t *testing.T) {
	forEachSeed(t, func(t *testing.T, r *rand.Rand) {
		c := randomCluster(r)
		c.addPolicies(r)
		for _, k := range c.classes {
			k.Request.GPU, k.Request.GPUMemoryBytes, k.Request.Custom = 0, 0, nil
			if k.Request.CPU == 0 {
				k.Request.CPU = 0.5
			}
		}
		for round := range 6 {
			s := c.snapshot()
			plan := scheduler.Decide(s)
			got := map[string]int{}
			for _, p := range plan.Placements {
				got[p.Class+" on "+string(p.Node)] += p.Count
			}
			if want := decideByReference(s); !maps.Equal(got, want) {
				t.Fatalf("round %d:\ngot  %v\nwant %v\nof %+v", round, got, want, s)
			}
			if err := c.apply(plan); err != nil {
				t.Fatal(err)
			}
			c.churn(r)
			for _, k := range c.classes {
				k.Overdue = false
			}
		}
	})
}
