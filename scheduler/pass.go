package scheduler

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// pass is the working state of one decision. What is free only shrinks during a pass and scores only grow, so what did
// not fit once need not be tried again.
type pass struct {
	layout
	// members are the nodes, one group after the other, each in order of id.
	members []member
	// first is the index of each group's first member.
	first [groups]int
	trees [groups]*tree
	// idle has width amounts for each member: what it would have free if it ran nothing.
	idle []int64
	// open counts the nodes that take work at all; least is, for each dimension, the smallest idle amount among them.
	open  int
	least []int64
	// claims are all classes in the order of the plan; queue holds those that may still get something.
	claims []claim
	queue  queue
	// granted lists placements as they are made; devices has the GPUs of each grant that takes some, by index in granted.
	granted []grant
	devices map[int][][]int
	// latest is larger than each claim's last.
	latest int64
	// keeps are the classes that have a node kept for them.
	keeps []*claim
}

// grant is a number of tasks of one class that went to one node in a row.
type grant struct {
	claim, member int32
	count         int
}

// joins reports whether both belong into one placement.
func (g grant) joins(h grant) bool { return g.claim == h.claim && g.member == h.member }

func newPass(s Snapshot) *pass {
	p := &pass{layout: newLayout(s.Classes), devices: map[int][][]int{}}
	p.addNodes(s.Nodes)
	p.addClasses(s.Classes)
	return p
}

func (p *pass) addNodes(nodes []Node) {
	sorted := make([]*Node, len(nodes))
	for i := range nodes {
		sorted[i] = &nodes[i]
	}
	byID := func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(sorted, byID) {
		slices.SortFunc(sorted, byID)
	}
	p.members = make([]member, 0, len(sorted))
	p.idle = make([]int64, len(sorted)*p.width)
	for g := range groups {
		p.first[g] = len(p.members)
		for rank, n := range sorted {
			if (n.gpus() > 0) == (g == groupGPU) {
				p.members = append(p.members, member{Node: n, rank: rank, leaf: len(p.members) - p.first[g], group: g, closed: n.Unschedulable})
			}
		}
		t := newTree(len(p.members)-p.first[g], p.width)
		for i := p.first[g]; i < len(p.members); i++ {
			m := &p.members[i]
			m.init(p.layout, p.idleOf(i), t.leaf(m.leaf))
			t.least[t.size+m.leaf] = m.treeScore()
			if m.closed {
				continue
			}
			if p.open++; p.least == nil {
				p.least = slices.Clone(p.idleOf(i))
			}
			for d, v := range p.idleOf(i) {
				p.least[d] = min(p.least[d], v)
			}
		}
		t.build()
		p.trees[g] = t
	}
}

func (p *pass) addClasses(classes []Class) {
	p.claims = make([]claim, len(classes))
	for i := range classes {
		p.claims[i].Class = &classes[i]
	}
	slices.SortFunc(p.claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), strings.Compare(a.ID, b.ID))
	})
	cluster := p.cluster()
	shapes := map[shapeKey]*shape{}
	p.queue = make(queue, 0, len(classes))
	for i := range p.claims {
		c := &p.claims[i]
		key := keyOf(&c.Request)
		s := shapes[key]
		if s == nil {
			s = newShape(c.Request, p.layout)
			s.share = cluster.share(s, p.layout)
			shapes[key] = s
		}
		c.shape, c.place, c.kept = s, i, -1
		c.pending, c.held = max(0, c.Pending), max(0, c.Running)
		c.share = float64(c.held) * s.share
		c.last = c.LastPlaced
		p.latest = max(p.latest, c.last)
		if c.pending > 0 && s.bad == "" {
			p.queue = append(p.queue, c)
		}
	}
	p.queue.build()
}

// idleOf returns what member i would have free if it ran nothing.
func (p *pass) idleOf(i int) []int64 { return p.idle[i*p.width : (i+1)*p.width : (i+1)*p.width] }

// freeOf returns what it has free now.
func (p *pass) freeOf(i int) []int64 {
	m := &p.members[i]
	return p.trees[m.group].leaf(m.leaf)
}

// sums is what the whole cluster offers, draining nodes included, since what they run counts as held.
type sums struct {
	plain          []float64
	gpu, gpuMemory float64
}

func (p *pass) cluster() sums {
	c := sums{plain: make([]float64, p.width)}
	for i := range p.members {
		m := &p.members[i]
		for d, v := range p.idleOf(i) {
			c.plain[d] += float64(v)
		}
		c.gpu += float64(m.gpu)
		c.gpuMemory += float64(m.gpuMemory)
	}
	return c
}

// share returns the dominant share of one task.
func (c sums) share(s *shape, l layout) float64 {
	var most float64
	add := func(amount int64, total float64) {
		if total > 0 {
			most = max(most, float64(amount)/total)
		}
	}
	for _, a := range s.amounts {
		if a.dim < dimsPlain || a.dim >= l.firstCustom {
			add(a.value, c.plain[a.dim])
		}
	}
	add(int64(s.devices)*s.part, c.gpu)
	add(int64(s.devices)*s.deviceMemory, c.gpuMemory)
	return most
}

// deal spreads the tasks that request nothing evenly over the open nodes, those without GPU if there are any. They hold no
// share, so they need not take turns with the others.
func (p *pass) deal() {
	rest := p.queue[:0]
	var open []int
	for _, c := range p.queue {
		if !c.shape.free() || p.open == 0 {
			rest = append(rest, c)
			continue
		}
		if open == nil {
			open = p.dealTo()
		}
		each, more := c.pending/len(open), c.pending%len(open)
		for i, node := range open {
			count := each
			if i < more {
				count++
			}
			if count == 0 {
				break
			}
			p.granted = append(p.granted, grant{claim: int32(c.place), member: int32(node), count: count})
		}
		c.pending = 0
	}
	if len(rest) < len(p.queue) {
		p.queue = rest
		p.queue.build()
	}
}

func (p *pass) dealTo() []int {
	var open []int
	for g := range groups {
		for i := p.first[g]; i < len(p.members) && p.members[i].group == g; i++ {
			if !p.members[i].closed {
				open = append(open, i)
			}
		}
		if len(open) > 0 {
			break
		}
	}
	return open
}

// choose returns the node for the next task of a shape, or -1.
func (p *pass) choose(s *shape) int {
	if i := s.current; i >= 0 {
		// Nodes before this one had no room and have none now, so as long as it is being packed it stays the first.
		if m := &p.members[i]; !m.closed && m.score < packBelow && p.fitsNow(i, s) {
			return i
		}
	}
	for g := range groups {
		if s.exhausted[g] || s.devices > 0 && g == groupPlain {
			continue
		}
		walk := search{tree: p.trees[g], amounts: s.amounts}
		if s.devices > 0 {
			walk.fits = func(leaf int) bool { return p.members[p.first[g]+leaf].fits(s) }
		}
		if leaf, _ := walk.best(never); leaf >= 0 {
			s.current = p.first[g] + leaf
			return s.current
		}
		s.exhausted[g] = true
	}
	return -1
}

func (p *pass) fitsNow(i int, s *shape) bool {
	return covers(p.freeOf(i), s) && (s.devices == 0 || p.members[i].fits(s))
}

// fitsIdle reports whether member i could run a task of s if it ran nothing else.
func (p *pass) fitsIdle(i int, s *shape) bool {
	return (s.devices == 0 || p.members[i].group == groupGPU) && covers(p.idleOf(i), s)
}

func covers(free []int64, s *shape) bool {
	for _, a := range s.amounts {
		if free[a.dim] < a.value {
			return false
		}
	}
	return true
}

// place gives one task of c to a node that fits.
func (p *pass) place(c *claim, node int) {
	m := &p.members[node]
	devices := m.take(c.shape, p.freeOf(node))
	p.trees[m.group].update(m.leaf, m.treeScore())
	c.pending--
	c.held++
	c.share = float64(c.held) * c.shape.share
	p.latest++
	c.last = p.latest
	n := c.granted - 1
	if n >= 0 && p.granted[n].member == int32(node) {
		p.granted[n].count++
	} else {
		n = len(p.granted)
		p.granted = append(p.granted, grant{claim: int32(c.place), member: int32(node), count: 1})
		c.granted = n + 1
	}
	if devices != nil {
		p.devices[n] = append(p.devices[n], devices)
	}
}

// maxKeeps bounds how many nodes are kept in one pass: what is kept works less.
func (p *pass) maxKeeps() int { return min(16, max(1, p.open/10)) }

// keep closes the node that lacks least for an overdue class that holds nothing and fits nowhere. Because nothing else goes
// there, the lack shrinks from pass to pass, and the class, whose share is the smallest, gets its turn in the end.
func (p *pass) keep(c *claim) {
	if !c.Overdue || c.held > 0 || len(p.keeps) >= p.maxKeeps() {
		return
	}
	best, lack := -1, math.Inf(1)
	for i := range p.members {
		if p.members[i].closed || !p.fitsIdle(i, c.shape) {
			continue
		}
		free, idle, most := p.freeOf(i), p.idleOf(i), 0.0
		for _, a := range c.shape.amounts {
			if missing := a.value - free[a.dim]; missing > 0 {
				most = max(most, float64(missing)/float64(idle[a.dim]))
			}
		}
		if most < lack {
			best, lack = i, most
		}
	}
	if best < 0 {
		return
	}
	m := &p.members[best]
	m.closed = true
	p.trees[m.group].update(m.leaf, never)
	c.kept = best
	p.keeps = append(p.keeps, c)
}

// plan puts the grants in order, joins those of the same class and node, and explains the rest.
func (p *pass) plan() Plan {
	order := p.order()
	pairs := 0
	for n, i := range order {
		if n == 0 || !p.granted[i].joins(p.granted[order[n-1]]) {
			pairs++
		}
	}
	var plan Plan
	if pairs > 0 {
		plan.Placements = make([]Placement, 0, pairs)
	}
	for n, i := range order {
		g := p.granted[i]
		if n == 0 || !g.joins(p.granted[order[n-1]]) {
			plan.Placements = append(plan.Placements, Placement{Class: p.claims[g.claim].ID, Node: p.members[g.member].ID})
		}
		last := &plan.Placements[len(plan.Placements)-1]
		last.Count += g.count
		last.Devices = append(last.Devices, p.devices[int(i)]...)
	}
	for i := range p.claims {
		if c := &p.claims[i]; c.pending > 0 {
			plan.Waiting = append(plan.Waiting, p.explain(c))
		}
	}
	return plan
}

// order returns the indexes of the grants by class, then by node, then as they were made: two stable counting sorts, since
// there may be a million of them.
func (p *pass) order() []int32 {
	byNode := make([]int32, len(p.granted))
	byClass := make([]int32, len(p.granted))
	starts := make([]int32, max(len(p.members), len(p.claims))+1)
	for _, g := range p.granted {
		starts[p.members[g.member].rank+1]++
	}
	accumulate(starts)
	for i, g := range p.granted {
		next := &starts[p.members[g.member].rank]
		byNode[*next] = int32(i)
		*next++
	}
	clear(starts)
	for _, g := range p.granted {
		starts[g.claim+1]++
	}
	accumulate(starts)
	for _, i := range byNode {
		next := &starts[p.granted[i].claim]
		byClass[*next] = i
		*next++
	}
	return byClass
}

func accumulate(counts []int32) {
	for i := 1; i < len(counts); i++ {
		counts[i] += counts[i-1]
	}
}
