package scheduler

// claim is a class during a pass.
type claim struct {
	*Class
	shape *shape
	// place is the class's position in the order of the plan.
	place int
	// pending is what is left to place; held is what runs or was placed in this pass; share is what held amounts to.
	pending, held int
	share         float64
	// last is LastPlaced, or later than all of them once the class got something in this pass.
	last int64
	// granted is one more than the index of the last grant in pass.granted; zero is none.
	granted int
	// kept is the node that is kept for the class, or -1.
	kept int
}

// before reports whether the next placement belongs to c rather than d. It is a strict order.
func (c *claim) before(d *claim) bool {
	if c.share != d.share {
		return c.share < d.share
	}
	if c.last != d.last {
		return c.last < d.last
	}
	return c.place < d.place
}

// queue is a binary heap of the classes that may still get something; the first is next.
type queue []*claim

func (q queue) build() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

// fix restores the order after the first one's share grew.
func (q queue) fix() { q.down(0) }

// drop removes the first.
func (q *queue) drop() {
	old := *q
	last := len(old) - 1
	old[0] = old[last]
	old[last] = nil
	*q = old[:last]
	q.fix()
}

func (q queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if r := child + 1; r < len(q) && q[r].before(q[child]) {
			child = r
		}
		if !q[child].before(q[i]) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}
