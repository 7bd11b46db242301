package scheduler

import (
	"cmp"
	"math"
	"slices"
)

// kept is a node that takes nothing of others.
type kept struct {
	by     *claim
	member int
}

// id names a class or group.
func (c *claim) id() string {
	if c.group != nil {
		return c.group.ID
	}
	return c.ID
}

// serveOverdue gives the first overdue class or group of each queue what the turns might never leave it. One that fits comes before all
// others; for one that does not, a node is kept, which counts as held by its queue, so that in the end the others wait for no more than
// they would if it ran. Both only while the queue is below its share, and never before somebody of a higher priority.
func (p *pass) serveOverdue() {
	var queues []*share
	for _, q := range p.queue {
		if q.overdue > 0 && q.priority == p.queue[0].priority {
			queues = append(queues, q)
		}
	}
	if queues == nil {
		return
	}
	slices.SortFunc(queues, func(a, b *share) int { return order(a.before(b)) })
	for _, q := range queues {
		var c *claim
		for _, d := range q.claims {
			if d.priority == q.claims[0].priority && d.keepable() && (c == nil || d.before(c)) && q.lacks(&d.shape.need) < 0 && p.feasible(d) {
				c = d
			}
		}
		if c == nil || p.budget <= 0 {
			continue
		}
		switch alone := q.fair > 1-slack; {
		case q.share > q.fair+slack && !alone:
		case !p.fits(c):
			p.keep(c)
		case q.share < q.fair-slack || alone:
			if p.serve(q, c) {
				c.settle()
			}
			q.claims.build()
		}
	}
	p.queue.build()
}

// fits reports whether the next task of a class, or a group, has room now.
func (p *pass) fits(c *claim) bool {
	if c.group == nil {
		return p.choose(c) >= 0
	}
	t := p.trialOf(c.group)
	ok := t.run()
	t.giveBack()
	return ok
}

// order makes a three-way comparison of a strict order of different things.
func order(before bool) int {
	if before {
		return -1
	}
	return 1
}

// sortDue sorts claims as the pass serves them, if each got one.
func sortDue(list []*claim) {
	slices.SortFunc(list, func(a, b *claim) int {
		if a.shape.queue != b.shape.queue {
			return order(a.shape.queue.before(b.shape.queue))
		}
		if a == b {
			return 0
		}
		return order(a.before(b))
	})
}

// maxKeeps bounds how many nodes are kept in one pass: what is kept works less.
func (p *pass) maxKeeps() int { return min(16, max(1, p.open/10)) }

// keep closes the node that lacks least for an overdue class that holds nothing and fits nowhere. Because nothing else goes
// there, the lack shrinks from pass to pass.
func (p *pass) keep(c *claim) {
	if len(p.keeps) >= p.maxKeeps() || c.kept >= 0 || c.shape.inBundle {
		return
	}
	if c.group != nil {
		p.keepForGroup(c)
		return
	}
	best, lack := -1, math.Inf(1)
	for _, pl := range c.shape.where.pools {
		for _, i32 := range pl.members {
			i := int(i32)
			if p.members[i].closed || !p.fitsIdle(i, c.shape) {
				continue
			}
			n := c.shape.needOn(&p.members[i])
			free, idle, most := p.freeOf(i), p.idleOf(i), 0.0
			for _, a := range n.amounts {
				if missing := a.value - free[a.dim]; missing > 0 {
					most = max(most, float64(missing)/float64(idle[a.dim]))
				}
			}
			if most < lack {
				best, lack = i, most
			}
		}
	}
	if best >= 0 {
		p.close(c, best)
	}
}

// close keeps a node for c.
func (p *pass) close(c *claim, node int) {
	m := &p.members[node]
	m.closed = true
	m.version++
	if c.kept < 0 {
		c.kept = node
		q := c.shape.queue
		q.reserved += c.shape.share
		q.order = (q.share + q.reserved) / q.weight
	}
	p.keeps = append(p.keeps, kept{c, node})
}

// candidates lists the open nodes of a place as a group tries them: those without GPU first if it needs none, then as single tasks do.
func (p *pass) candidates(w *where, gpu bool) []int32 {
	var list []int32
	for g, pl := range w.pools {
		if gpu && g == groupPlain {
			continue
		}
		for _, i := range pl.members {
			if !p.members[i].closed {
				list = append(list, i)
			}
		}
	}
	slices.SortFunc(list, func(a, b int32) int {
		x, y := &p.members[a], &p.members[b]
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.treeScore(), y.treeScore()), cmp.Compare(a, b))
	})
	return list
}
