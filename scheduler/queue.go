package scheduler

// claim is a class during a pass, or a placement group.
type claim struct {
	*Class
	shape *shape
	// group is nil for a class.
	group *placing
	// place is the class's position in the order of the plan; groups come before all classes.
	place int
	// pending is what is left to place; held is what runs or was placed in this pass; share is what held amounts to.
	pending, held int
	// aside is what of pending waits until the others have had their turns.
	aside int
	share float64
	// priority is as in Class, last is LastPlaced, or later than all of them once the class got something in this pass.
	priority int
	last     int64
	// wishes are the nodes to try first.
	wishes []int32
	// spread is set when its tasks are to be spread, spreading once they are.
	spread    bool
	spreading spreading
	// granted is one more than the index of the last grant in pass.granted; zero is none.
	granted int
	// kept is the node that is kept for the class, or -1; awaited is set while the queue counts it as overdue.
	kept    int
	awaited bool
}

// settle ends that the queue counts c as overdue.
func (c *claim) settle() {
	if c.awaited {
		c.awaited = false
		c.shape.queue.overdue--
	}
}

// before reports whether the next placement of their queue belongs to c rather than d. It is a strict order.
func (c *claim) before(d *claim) bool {
	if c.priority != d.priority {
		return c.priority > d.priority
	}
	if c.share != d.share {
		return c.share < d.share
	}
	if c.last != d.last {
		return c.last < d.last
	}
	return c.place < d.place
}

// keepable reports whether a node may be kept for c.
func (c *claim) keepable() bool {
	if c.group != nil {
		return c.group.Overdue
	}
	return c.Overdue && c.held == 0
}

// heap is a binary heap; the first is next.
type heap[T interface{ before(other T) bool }] []T

// claims are the classes of one queue that may still get something, shares the queues that have such classes.
type (
	claims = heap[*claim]
	shares = heap[*share]
)

func (q heap[T]) build() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

// drop removes the first.
func (q *heap[T]) drop() {
	old := *q
	last := len(old) - 1
	old[0] = old[last]
	clear(old[last:])
	*q = old[:last]
	q.down(0)
}

// down restores the order after what is at i fell behind.
func (q heap[T]) down(i int) {
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
