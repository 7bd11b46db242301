package scheduler

import "math"

// defaultQueue is the queue of classes that name none.
const defaultQueue = "default"

// share is a queue during a pass.
type share struct {
	name     string
	weight   float64
	priority int
	// limits is the quota by dimension of what is held, negative for none; nil when nothing is limited.
	limits []int64
	// held is what its classes and bundles hold, share the largest part of any resource of the cluster that this is, and reserved
	// the part for which nodes are kept. order is what decides between queues: both, by weight.
	held                   []int64
	share, reserved, order float64
	// fair is the part that its weight entitles it to, beside the queues that have work.
	fair float64
	// last is when one of its classes got something.
	last int64
	// active is set when it has work, waits when some of it is left that only lacks room.
	active, waits bool
	// claims are those that may still get something; live counts those whose shape is not dead.
	claims claims
	live   int
	// overdue counts the claims there for which a node may be kept.
	overdue int
}

// before reports whether the next placement belongs to q rather than r. It is a strict order.
func (q *share) before(r *share) bool {
	if q.priority != r.priority {
		return q.priority > r.priority
	}
	if q.order != r.order {
		return q.order < r.order
	}
	if q.last != r.last {
		return q.last < r.last
	}
	return q.name < r.name
}

// hold counts what a number of tasks take; a negative one gives back.
func (p *pass) hold(q *share, holds []amount, count int64) {
	for _, a := range holds {
		q.held[a.dim] += a.value * count
		if part := float64(q.held[a.dim]) * p.perTotal[a.dim]; count > 0 && part > q.share {
			q.share = part
		}
	}
	if count < 0 {
		q.share = 0
		for d, v := range q.held {
			q.share = max(q.share, float64(v)*p.perTotal[d])
		}
	}
	q.order = (q.share + q.reserved) / q.weight
}

// lacks returns the first dimension in which the quota has no room for a need, or -1.
func (q *share) lacks(n *need) int {
	if q.limits == nil {
		return -1
	}
	for _, a := range n.holds {
		if limit := q.limits[a.dim]; limit >= 0 && q.held[a.dim]+a.value > limit {
			return a.dim
		}
	}
	return -1
}

// addQueues makes the shares of the queues that are listed.
func (p *pass) addQueues(s *Snapshot) {
	p.shares = make([]*share, 0, len(s.Queues)+1)
	for i := range s.Queues {
		d := &s.Queues[i]
		q := p.queueOf(d.Name)
		if d.Weight > 0 && !math.IsInf(d.Weight, 1) {
			q.weight = d.Weight
		}
		q.priority = d.Priority
		limit := func(dim int, value int64) {
			if value <= 0 {
				return
			}
			if q.limits == nil {
				q.limits = make([]int64, p.holds())
				for d := range q.limits {
					q.limits[d] = -1
				}
			}
			q.limits[dim] = value
		}
		limit(holdCPU, floorUnits(d.Quota.CPU))
		limit(holdMemory, bytesOf(d.Quota.MemoryBytes))
		limit(holdGPU, floorUnits(d.Quota.GPU))
		limit(holdGPUMemory, bytesOf(d.Quota.GPUMemoryBytes))
		if len(d.Quota.Custom) > 0 {
			for i, name := range p.custom {
				limit(holdsPlain+i, floorUnits(d.Quota.Custom[name]))
			}
		}
	}
}

// queueOf returns the queue of a name, which is made if need be.
func (p *pass) queueOf(name string) *share {
	if name == "" {
		name = defaultQueue
	}
	if q := p.lastQueue; q != nil && q.name == name {
		return q
	}
	q := p.findQueue(name)
	if q == nil {
		q = &share{name: name, weight: 1, held: make([]int64, p.holds())}
		p.shares = append(p.shares, q)
		if p.byName != nil {
			p.byName[name] = q
		}
	}
	p.lastQueue = q
	return q
}

func (p *pass) findQueue(name string) *share {
	if p.byName == nil {
		for _, q := range p.shares {
			if q.name == name {
				return q
			}
		}
		if len(p.shares) < few {
			return nil
		}
		p.byName = make(map[string]*share, 4*few)
		for _, q := range p.shares {
			p.byName[q.name] = q
		}
	}
	return p.byName[name]
}

// entitle computes what each queue is entitled to, beside those that hold something or wait for what could be.
func (p *pass) entitle() {
	look := func(c *claim) {
		q := c.shape.queue
		if !q.active && (c.held > 0 || c.pending > 0 && (len(p.shares) == 1 || p.feasible(c))) {
			q.active = true
		}
	}
	for i := range p.claims {
		look(&p.claims[i])
	}
	for i := range p.placings {
		look(&p.placings[i].claim)
	}
	var weights float64
	for _, q := range p.shares {
		if q.active {
			weights += q.weight
		}
	}
	for _, q := range p.shares {
		if q.active {
			q.fair = q.weight / weights
		}
	}
}

// slack is by how much floating point may miss an equality of shares.
const slack = 1e-9
