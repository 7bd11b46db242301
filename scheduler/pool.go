package scheduler

// linear is up to how many nodes a look at each is cheaper than a tree.
const linear = 8

// pool is some of the nodes, in their order.
type pool struct {
	members []int32
	// tree is made once somebody searches; seen has the version of the member of which each leaf tells. What is free only shrinks and
	// scores only grow, so a leaf that is behind promises too much at most: it is read again when a search comes to it.
	tree *tree
	seen []uint32
	// model restricts the pool to nodes that have loaded it. Nil for most.
	model *model
}

// grow makes the tree.
func (p *pass) grow(pl *pool) {
	pl.tree = newTree(len(pl.members), p.width)
	pl.seen = make([]uint32, len(pl.members))
	for leaf := range pl.members {
		p.read(pl, leaf)
	}
	pl.tree.build()
}

// read brings a leaf up to date.
func (p *pass) read(pl *pool, leaf int) (score float64) {
	i := int(pl.members[leaf])
	m := &p.members[i]
	copy(pl.tree.leaf(leaf), p.freeOf(i))
	pl.seen[leaf] = m.version
	score = m.treeScore()
	if pl.model != nil && !pl.model.on[i] {
		score = never
	}
	pl.tree.least[pl.tree.size+leaf] = score
	return score
}

// refresh does the same for a leaf of a finished tree.
func (p *pass) refresh(pl *pool, leaf int) { pl.tree.update(leaf, p.read(pl, leaf)) }

// best returns the first node with the smallest score among those of the pool that have room for a need, or -1.
func (p *pass) best(pl *pool, n *need) int {
	if len(pl.members) > linear {
		if pl.tree == nil {
			p.grow(pl)
		}
		s := search{tree: pl.tree, pass: p, pool: pl, need: n}
		if leaf, _ := s.below(1, never, false); leaf >= 0 {
			p.foundIn, p.foundAt = pl, leaf
			return int(pl.members[leaf])
		}
		return -1
	}
	best, least := -1, never
	for _, i := range pl.members {
		m := &p.members[i]
		if pl.model != nil && !pl.model.on[i] {
			continue
		}
		if score := m.treeScore(); score < least && covers(p.freeOf(int(i)), n) && hasDevices(m.devices, n) {
			best, least = int(i), score
		}
	}
	return best
}

// spreading orders the nodes for a class whose tasks are spread: a heap by group, by how many of them a node has, by score, and by
// rank.
type spreading []spot

type spot struct {
	member int32
	group  int
	count  int
	score  float64
}

func (s spreading) before(i, j int) bool {
	a, b := &s[i], &s[j]
	switch {
	case a.group != b.group:
		return a.group < b.group
	case a.count != b.count:
		return a.count < b.count
	case a.score != b.score:
		return a.score < b.score
	default:
		return a.member < b.member
	}
}

func (s spreading) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(s) {
			return
		}
		if r := child + 1; r < len(s) && s.before(r, child) {
			child = r
		}
		if !s.before(child, i) {
			return
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}

// spreadOut returns the next node for a class whose tasks are spread, or -1.
func (p *pass) spreadOut(c *claim) int {
	if c.spreading == nil {
		for g, pl := range c.shape.where.pools {
			if pl == nil || g == groupPlain && c.shape.devices > 0 && !c.shape.inBundle {
				continue
			}
			for _, i := range pl.members {
				m := &p.members[i]
				at := spot{member: i, group: g, score: m.score}
				if c.group == nil && len(c.RunningOn) > 0 && m.bundle == nil {
					at.count = c.RunningOn[m.ID]
				}
				c.spreading = append(c.spreading, at)
			}
		}
		for i := len(c.spreading)/2 - 1; i >= 0; i-- {
			c.spreading.down(i)
		}
	}
	for len(c.spreading) > 0 {
		first := &c.spreading[0]
		m := &p.members[first.member]
		switch {
		case !p.fitsNow(int(first.member), c.shape):
			last := len(c.spreading) - 1
			c.spreading[0] = c.spreading[last]
			c.spreading = c.spreading[:last]
		case first.score != m.score:
			first.score = m.score
		default:
			return int(first.member)
		}
		c.spreading.down(0)
	}
	c.spreading = spreading{}
	return -1
}
