package scheduler

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
)

// pass is the working state of one decision. What is free only shrinks during a pass and scores only grow, so what did
// not fit once need not be tried again.
type pass struct {
	layout
	now time.Time
	// budget is how many tasks may still be placed; more is set when it ran out.
	budget int
	more   bool
	// members are the nodes, one group after the other, each in order of id, and then the bundles on them; nodes counts the former.
	members []member
	nodes   int
	// first is the index of each group's first member.
	first [groups]int
	// free and idle have width amounts for each member: what it has free, and what it would have if it ran nothing.
	free, idle []int64
	// everyone lists the nodes; everywhere is their place.
	everyone   []int32
	everywhere where
	wheres     []*where
	whereByKey map[whereKey]*where
	labels     map[string]map[string][]int32
	known      known
	// operators is set when some node says which it knows.
	operators bool
	models    []*model
	// foundIn and foundAt are the leaf that the last search has found.
	foundIn *pool
	foundAt int
	// open counts the nodes that take work at all; least is, for each dimension, the smallest idle amount among them.
	open  int
	least []int64
	// total is what the cluster offers, by dimension of what is held, draining nodes included, since what they run counts as held;
	// perTotal is one by it, or 0.
	total, perTotal []float64
	// shares are the queues, of which queue holds those that may still get something.
	shares    []*share
	byName    map[string]*share
	lastQueue *share
	queue     shares
	// shapes has those of the pass, shapeByKey as well if there are many, and lastShape is what was asked for last.
	shapes     []*shape
	shapeByKey map[shapeKey]*shape
	lastShape  *shape
	lastClass  *Class
	// claims are all classes in the order of the plan, placings the groups.
	claims   []claim
	placings []placing
	// granted lists placements as they are made; devices has the GPUs of each grant that takes some, by index in granted.
	granted []grant
	devices map[int][][]int
	// latest is larger than each claim's last.
	latest int64
	// keeps are the nodes that are kept.
	keeps []kept
	// preemptible is set when some tasks may be taken back.
	preemptible bool
}

// grant is a number of tasks of one class that went to one node in a row.
type grant struct {
	claim, member int32
	count         int
}

// joins reports whether both belong into one placement.
func (g grant) joins(h grant) bool { return g.claim == h.claim && g.member == h.member }

func newPass(s *Snapshot) *pass {
	p := &pass{layout: newLayout(s), now: s.Now, budget: math.MaxInt}
	if s.MaxPlacements > 0 {
		p.budget = s.MaxPlacements
	}
	p.addNodes(s)
	p.addQueues(s)
	p.addClasses(s)
	return p
}

// run places what can be placed.
func (p *pass) run() {
	p.serveOverdue()
	aside := p.dealAll()
	p.takeTurns()
	for _, c := range aside {
		c.pending, c.aside = c.aside, 0
		if p.deal(c); c.pending > 0 {
			p.more = true
		}
	}
}

// takeTurns places one task after the other, each of the class whose turn it is.
func (p *pass) takeTurns() {
	for len(p.queue) > 0 {
		q := p.queue[0]
		c := q.claims[0]
		if c.pending == 0 {
			p.retire(q, c) // Something before the turns has placed all of it.
			continue
		}
		if p.budget <= 0 {
			p.more = true
			return
		}
		if !p.serve(q, c) {
			p.skip(q, c)
			continue
		}
		c.settle()
		if c.pending > 0 {
			q.claims.down(0)
			p.queue.down(0)
		} else {
			p.retire(q, c)
		}
	}
}

// serve places the next task of c, or the group that c stands for.
func (p *pass) serve(q *share, c *claim) bool {
	s := c.shape
	if s.dead {
		return false
	}
	if !s.inBundle && q.lacks(&s.need) >= 0 {
		s.capped = true
		p.bury(s)
		return false
	}
	if c.group != nil {
		return p.placeGroup(c)
	}
	node := p.choose(c)
	if node < 0 {
		p.bury(s)
		return false
	}
	p.place(c, node)
	return true
}

// bury marks a shape of which nothing is placed any more.
func (p *pass) bury(s *shape) {
	s.dead = true
	s.queue.live -= s.live
}

// retire takes the first claim of the first queue off, since nothing of it is left.
func (p *pass) retire(q *share, c *claim) {
	if !c.shape.dead {
		c.shape.live--
		q.live--
	}
	c.settle()
	if q.claims.drop(); len(q.claims) > 0 {
		p.queue.down(0)
	} else {
		p.queue.drop()
	}
}

// skip takes the first claim of the first queue off, since nothing of it can be placed; a node may be kept for it. The whole queue goes
// when the same is true of all that is left of it.
func (p *pass) skip(q *share, c *claim) {
	if c.group != nil && !c.shape.dead {
		p.bury(c.shape)
	}
	c.settle()
	if c.keepable() && c.kept < 0 && !c.shape.capped {
		p.keep(c)
	}
	q.claims.drop()
	if len(q.claims) == 0 || q.live == 0 && (q.overdue == 0 || len(p.keeps) >= p.maxKeeps()) {
		p.queue.drop()
	} else {
		p.queue.down(0) // What is kept counts.
	}
}

func (p *pass) addNodes(s *Snapshot) {
	nodes := s.Nodes
	sorted := true
	for i := 1; i < len(nodes) && sorted; i++ {
		sorted = nodes[i-1].ID <= nodes[i].ID
	}
	if !sorted {
		nodes = slices.Clone(nodes)
		slices.SortStableFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	}
	bundles := 0
	if p.bundles {
		for i := range nodes {
			bundles += len(nodes[i].Bundles)
		}
	}
	p.nodes = len(nodes)
	p.members = make([]member, 0, p.nodes+bundles)
	amounts := make([]int64, 2*(p.nodes+bundles)*p.width)
	p.free, p.idle = amounts[:len(amounts)/2], amounts[len(amounts)/2:]
	p.everyone = make([]int32, p.nodes)
	sums := make([]float64, 2*p.holds())
	p.total, p.perTotal = sums[:p.holds()], sums[p.holds():]
	for g := range groups {
		p.first[g] = len(p.members)
		rank := 0
		for i := range nodes {
			n := &nodes[i]
			if (n.gpus() > 0) == (g == groupGPU) {
				p.addMember(member{Node: n, host: len(p.members), rank: rank, group: g, closed: n.Unschedulable})
			}
			if rank++; bundles > 0 {
				rank += len(n.Bundles)
			}
		}
	}
	for d, v := range p.total {
		if v > 0 {
			p.perTotal[d] = 1 / v
		}
	}
	for i := range p.everyone {
		p.everyone[i] = int32(i)
	}
	for g := range groups {
		to := p.nodes
		if g == groupPlain {
			to = p.first[groupGPU]
		}
		p.everywhere.pools[g] = &pool{members: p.everyone[p.first[g]:to]}
	}
	p.everywhere.count = p.nodes
	for host := 0; host < p.nodes && bundles > 0; host++ {
		n := p.members[host].Node
		for b := range n.Bundles {
			m := member{Node: n, bundle: &n.Bundles[b], host: host, rank: p.members[host].rank + 1 + b, group: p.members[host].group, closed: n.Unschedulable}
			p.addMember(m)
		}
	}
}

func (p *pass) addMember(m member) {
	i := len(p.members)
	p.members = append(p.members, m)
	own := &p.members[i]
	p.operators = p.operators || m.Operators != nil
	own.init(&p.layout, p.idleOf(i), p.freeOf(i))
	if m.bundle != nil {
		return
	}
	for d, v := range p.idleOf(i) {
		switch {
		case d < dimsPlain:
			p.total[d] += float64(v)
		case d >= p.firstCustom:
			p.total[d-p.firstCustom+holdsPlain] += float64(v)
		}
	}
	p.total[holdGPU] += float64(own.gpu)
	p.total[holdGPUMemory] += float64(own.gpuMemory)
	if own.closed {
		return
	}
	if p.open++; p.least == nil {
		p.least = slices.Clone(p.idleOf(i))
	}
	for d, v := range p.idleOf(i) {
		p.least[d] = min(p.least[d], v)
	}
}

func (p *pass) addClasses(s *Snapshot) {
	p.claims = make([]claim, len(s.Classes))
	for i, at := range classOrder(s.Classes) {
		p.claims[i].Class = &s.Classes[at]
	}
	waiting := 0
	for i := range p.claims {
		c := &p.claims[i]
		c.place, c.kept, c.priority, c.last = i, -1, c.Priority, c.LastPlaced
		c.pending, c.held = max(0, c.Pending), max(0, c.Running)
		c.shape = p.shapeOf(c)
		q := c.shape.queue
		c.share = float64(c.held) * c.shape.share
		if c.held > 0 && !c.shape.inBundle {
			p.hold(q, c.shape.holds, int64(c.held))
		}
		q.last = max(q.last, c.last)
		p.preemptible = p.preemptible || c.Preemptible && len(c.RunningOn) > 0
		p.latest = max(p.latest, c.last)
		if c.pending > 0 && c.shape.bad == "" {
			waiting++
			c.spread = c.Spread || c.shape.nothing()
			p.wish(c)
		}
	}
	for i := range p.nodes {
		for b := range p.members[i].Bundles {
			bundle := &p.members[i].Bundles[b]
			q := p.queueOf(bundle.Queue)
			q.active = true
			p.hold(q, p.holdsOf(&bundle.Total), 1)
		}
	}
	p.addGroups(s)
	p.entitle()
	p.fillQueues(waiting)
}

// fillQueues puts what waits into its queues, and these in order.
func (p *pass) fillQueues(waiting int) {
	counts := waiting + len(p.placings)
	if counts == 0 {
		return
	}
	if len(p.shares) == 1 {
		p.shares[0].claims = make(claims, 0, counts)
	}
	enter := func(c *claim) {
		q := c.shape.queue
		q.claims = append(q.claims, c)
		q.live++
		c.shape.live++
		if c.awaited = c.keepable(); c.awaited {
			q.overdue++
		}
	}
	for i := range p.placings {
		if c := &p.placings[i].claim; c.shape.bad == "" {
			enter(c)
		}
	}
	for i := range p.claims {
		if c := &p.claims[i]; c.pending > 0 && c.shape.bad == "" {
			enter(c)
		}
	}
	for _, q := range p.shares {
		q.claims.build()
		if len(q.claims) > 0 {
			p.queue = append(p.queue, q)
		}
	}
	p.queue.build()
}

// classOrder returns the indexes of the classes in the order of the plan.
func classOrder(classes []Class) []int32 {
	type entry struct {
		order int64
		at    int32
	}
	entries := make([]int32, len(classes))
	sorted := true
	before := func(a, b int32) int {
		x, y := &classes[a], &classes[b]
		return cmp.Or(cmp.Compare(x.Order, y.Order), strings.Compare(x.ID, y.ID))
	}
	for i := range classes {
		entries[i] = int32(i)
		sorted = sorted && (i == 0 || before(int32(i-1), int32(i)) <= 0)
	}
	if sorted {
		return entries
	}
	// The keys beside the indexes, since most comparisons need no more.
	keyed := make([]entry, len(classes))
	for i := range classes {
		keyed[i] = entry{classes[i].Order, int32(i)}
	}
	slices.SortFunc(keyed, func(a, b entry) int {
		if a.order != b.order {
			return cmp.Compare(a.order, b.order)
		}
		return cmp.Or(strings.Compare(classes[a.at].ID, classes[b.at].ID), cmp.Compare(a.at, b.at))
	})
	for i := range keyed {
		entries[i] = keyed[i].at
	}
	return entries
}

// shapeOf returns the shape that a class shares with those like it.
func (p *pass) shapeOf(c *claim) *shape {
	if p.lastShape != nil && alike(p.lastClass, c.Class) {
		return p.lastShape
	}
	p.lastClass = c.Class
	q := p.queueOf(c.Queue)
	key := plainKey(q, c.Class)
	key.custom = customKey(c.Request.Custom)
	if key.weights.Digest == "" {
		key.weights = Weights{}
	}
	if len(c.Selector) > 0 {
		key.where.selector = selectorKey(c.Selector)
	}
	if p.operators {
		key.where.operator = c.Operator
	}
	if !c.Soft {
		key.where.node = c.Node
	}
	if c.Group != "" {
		key.where.group, key.where.bundle = c.Group, max(c.Bundle, -1)
	}
	s := p.findShape(key)
	if s == nil {
		s = &shape{need: p.needOf(&c.Request, Weights{}), queue: q, current: -1, inBundle: c.Group != "", key: key}
		s.hold(p)
		s.where = p.whereOf(key.where, c.Selector)
		if key.weights.Digest != "" {
			s.model = p.modelOf(key.weights)
			loads := key.weights
			if s.inBundle {
				loads.Bytes = 0 // What a bundle's tasks load lies on the node, for all of them.
			}
			first := p.needOf(&c.Request, loads)
			s.first = &first
		}
		if p.shapes = append(p.shapes, s); p.shapeByKey != nil {
			p.shapeByKey[key] = s
		}
	}
	p.lastShape = s
	return s
}

// alike reports whether two classes have one shape, as far as that is seen at a glance.
func alike(a, b *Class) bool {
	x, y := &a.Request, &b.Request
	return x.CPU == y.CPU && x.MemoryBytes == y.MemoryBytes && x.GPU == y.GPU && x.GPUMemoryBytes == y.GPUMemoryBytes &&
		len(x.Custom)+len(y.Custom)+len(a.Selector)+len(b.Selector) == 0 &&
		a.Queue == b.Queue && a.Operator == b.Operator && a.Node == b.Node && a.Soft == b.Soft &&
		a.Group == b.Group && a.Bundle == b.Bundle && a.Weights == b.Weights
}

// few is up to how many things a look at each is cheaper than a map.
const few = 8

func (p *pass) findShape(key shapeKey) *shape {
	if p.lastShape != nil && p.lastShape.key == key {
		return p.lastShape
	}
	if p.shapeByKey == nil {
		for _, s := range p.shapes {
			if s.key == key {
				return s
			}
		}
		if len(p.shapes) < few {
			return nil
		}
		p.shapeByKey = make(map[shapeKey]*shape, 4*few)
		for _, s := range p.shapes {
			p.shapeByKey[s.key] = s
		}
	}
	return p.shapeByKey[key]
}

// wish resolves the nodes that a class would like best.
func (p *pass) wish(c *claim) {
	if c.Soft && c.Node != "" {
		c.wishes = p.wishFor(c, c.Node)
	}
	for _, id := range c.Prefer {
		c.wishes = append(c.wishes, p.wishFor(c, id)...)
	}
}

func (p *pass) wishFor(c *claim, id engine.NodeID) []int32 {
	if c.shape.inBundle {
		var found []int32
		for _, i := range c.shape.where.pools[groupPlain].members {
			if p.members[i].ID == id {
				found = append(found, i)
			}
		}
		return found
	}
	if i := p.locate(id); i >= 0 && p.allows(c.shape.where, i) {
		return []int32{int32(i)}
	}
	return nil
}

// idleOf returns what member i would have free if it ran nothing, freeOf what it has free now.
func (p *pass) idleOf(i int) []int64 { return p.idle[i*p.width : (i+1)*p.width : (i+1)*p.width] }
func (p *pass) freeOf(i int) []int64 { return p.free[i*p.width : (i+1)*p.width : (i+1)*p.width] }
