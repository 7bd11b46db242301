package scheduler

// choose returns the node for the next task of a class, or -1.
func (p *pass) choose(c *claim) int {
	s := c.shape
	for len(c.wishes) > 0 {
		if i := int(c.wishes[0]); p.fitsNow(i, s) {
			return i
		}
		c.wishes = c.wishes[1:]
	}
	switch {
	case c.spread:
		return p.spreadOut(c)
	case s.inBundle:
		return p.nextBundle(s)
	case s.model != nil:
		return p.chooseLoaded(s)
	}
	if i := s.current; i >= 0 {
		// Nodes before this one had no room and have none now, so as long as it is being packed it stays the first.
		if m := &p.members[i]; m.score < packBelow && p.fitsNow(i, s) {
			return i
		}
	}
	s.current = p.chooseFrom(s, &s.where.pools, &s.need)
	return s.current
}

func (p *pass) chooseFrom(s *shape, pools *[groups]*pool, n *need) int {
	for g := range groups {
		if s.exhausted[g] || n.devices > 0 && g == groupPlain {
			continue
		}
		if i := p.best(pools[g], n); i >= 0 {
			return i
		}
		// Where some nodes have loaded a model, the others alone say nothing yet.
		s.exhausted[g] = s.model == nil
	}
	return -1
}

// chooseLoaded prefers the nodes that have the model.
func (p *pass) chooseLoaded(s *shape) int {
	if i := p.chooseFrom(s, p.loadedOf(s.where, s.model), &s.need); i >= 0 {
		return i
	}
	return p.chooseFrom(s, &s.where.pools, s.first)
}

// nextBundle returns the first bundle with room: those before the current one had none.
func (p *pass) nextBundle(s *shape) int {
	members := s.where.pools[groupPlain].members
	for s.current = max(s.current, 0); s.current < len(members); s.current++ {
		if i := int(members[s.current]); p.fitsNow(i, s) {
			return i
		}
	}
	return -1
}

// needOn returns what the next task of a shape takes on a member: more where it is the first that uses its model.
func (s *shape) needOn(m *member) *need {
	if s.model == nil || s.model.on[m.host] {
		return &s.need
	}
	return s.first
}

func (p *pass) fitsNow(i int, s *shape) bool {
	return !p.members[i].closed && p.roomOn(i, s)
}

// roomOn reports whether a member has room, whomever it is kept for.
func (p *pass) roomOn(i int, s *shape) bool {
	m := &p.members[i]
	n := s.needOn(m)
	if s.inBundle && s.model != nil && !s.model.on[m.host] && p.freeOf(m.host)[dimMemory] < s.model.bytes {
		return false
	}
	return covers(p.freeOf(i), n) && hasDevices(m.devices, n)
}

// fitsIdle reports whether member i could run a task of s if it ran nothing else.
func (p *pass) fitsIdle(i int, s *shape) bool {
	n := &s.need
	if s.first != nil {
		n = s.first
	}
	return covers(p.idleOf(i), n)
}

func covers(free []int64, n *need) bool {
	for _, a := range n.amounts {
		if free[a.dim] < a.value {
			return false
		}
	}
	return true
}

// place gives one task of c to a member that fits.
func (p *pass) place(c *claim, node int) {
	s, m := c.shape, &p.members[node]
	n := s.needOn(m)
	devices := m.take(n, p.freeOf(node))
	if s.model != nil && n == s.first {
		if s.inBundle {
			p.freeOf(m.host)[dimMemory] -= s.model.bytes
			p.members[m.host].version++
		}
		p.load(s.model, m.host)
	}
	if pl := p.foundIn; pl != nil && m.score >= packBelow && int(pl.members[p.foundAt]) == node {
		p.refresh(pl, p.foundAt) // The next search begins there otherwise, in vain.
	}
	p.foundIn = nil
	c.pending--
	c.held++
	c.share = float64(c.held) * s.share
	p.budget--
	p.latest++
	c.last, s.queue.last = p.latest, p.latest
	if !s.inBundle {
		p.hold(s.queue, s.holds, 1)
	}
	if c.spread && len(c.spreading) > 0 && int(c.spreading[0].member) == node {
		c.spreading[0].count++
		c.spreading[0].score = m.score
		c.spreading.down(0)
	}
	at := c.granted - 1
	if at >= 0 && p.granted[at].member == int32(node) {
		p.granted[at].count++
	} else {
		at = len(p.granted)
		p.granted = append(p.granted, grant{claim: int32(c.place), member: int32(node), count: 1})
		c.granted = at + 1
	}
	if devices != nil {
		if p.devices == nil {
			p.devices = map[int][][]int{}
		}
		p.devices[at] = append(p.devices[at], devices)
	}
}

// dealAll spreads the tasks that request nothing evenly over the nodes that may take them. They hold no share, so they need not take
// turns with the others; but where the number of placements is bounded, they leave half of it to those. It returns the classes that must wait for what is left
// then.
func (p *pass) dealAll() (aside []*claim) {
	var free []*claim
	others := false
	for _, q := range p.queue {
		for _, c := range q.claims {
			if c.group == nil && c.shape.nothing() && c.shape.model == nil {
				free = append(free, c)
			} else {
				others = true
			}
		}
	}
	if free == nil {
		return nil
	}
	sortDue(free)
	kept := 0
	if others {
		kept = p.budget / 2
	}
	p.budget -= kept
	for _, c := range free {
		if p.deal(c); c.pending > 0 && p.budget == 0 {
			c.pending, c.aside = 0, c.pending
			aside = append(aside, c)
		}
	}
	p.budget += kept
	for _, q := range p.queue {
		q.claims.build()
	}
	p.queue.build()
	return aside
}

// deal spreads the tasks of one class over its wishes or, if there are none, the first of its groups of nodes that has one open.
func (p *pass) deal(c *claim) {
	var open []int32
	consider := func(list []int32) {
		for _, i := range list {
			if !p.members[i].closed {
				open = append(open, i)
			}
		}
	}
	consider(c.wishes)
	for _, pl := range c.shape.where.pools {
		if len(open) == 0 && pl != nil {
			consider(pl.members)
		}
	}
	count := min(c.pending, p.budget)
	if len(open) == 0 || count == 0 {
		return
	}
	p.budget -= count
	c.pending -= count
	c.held += count
	p.latest++
	c.last, c.shape.queue.last = p.latest, p.latest
	each, more := count/len(open), count%len(open)
	for i, node := range open {
		n := each
		if i < more {
			n++
		}
		if n == 0 {
			break
		}
		p.granted = append(p.granted, grant{claim: int32(c.place), member: node, count: n})
	}
}
