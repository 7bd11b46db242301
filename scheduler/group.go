package scheduler

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/f708428e/engine"
)

// placing is a placement group during a pass.
type placing struct {
	*Group
	claim claim
	needs []need
	// byShare are the bundles, the largest first; gpu is set when all of them need devices.
	byShare []int
	gpu     bool
	// nodes and devices are where each bundle goes; nil until they are placed.
	nodes   []int32
	devices [][]int
}

// groupKey is equal for groups that are alike but for their ids: what is found out of one is true of all.
type groupKey struct {
	queue    *share
	where    *where
	strategy engine.PlacementStrategy
	bundles  string
}

// addGroups makes a claim of each group. Groups come first in their queue, in the order of the snapshot.
func (p *pass) addGroups(s *Snapshot) {
	p.placings = make([]placing, len(s.Groups))
	first := make(map[groupKey]*placing, len(s.Groups))
	for i := range s.Groups {
		g := &p.placings[i]
		g.Group = &s.Groups[i]
		key := groupKey{
			queue: p.queueOf(g.Queue), where: p.whereOf(whereKey{selector: selectorKey(g.Selector)}, g.Selector),
			strategy: g.Strategy, bundles: bundlesKey(g.Bundles),
		}
		like := first[key]
		if like == nil {
			first[key] = g
			p.measure(g, key)
			like = g
		}
		g.needs, g.byShare, g.gpu = like.needs, like.byShare, like.gpu
		g.claim = claim{shape: like.claim.shape, group: g, place: i - len(s.Groups), pending: 1, kept: -1, last: -1 << 63}
	}
}

// measure makes the needs and the shape of a group.
func (p *pass) measure(g *placing, key groupKey) {
	sh := &shape{queue: key.queue, where: key.where, current: -1}
	g.needs = make([]need, len(g.Bundles))
	g.gpu = len(g.Bundles) > 0
	for b := range g.Bundles {
		n := p.needOf(&g.Bundles[b], Weights{})
		n.hold(p)
		g.needs[b] = n
		if n.bad != "" && sh.bad == "" {
			sh.bad = n.bad
		}
		g.gpu = g.gpu && n.devices > 0
		g.byShare = append(g.byShare, b)
		sh.sum(n.holds)
	}
	slices.SortStableFunc(g.byShare, func(a, b int) int { return cmp.Compare(g.needs[b].share, g.needs[a].share) })
	for _, h := range sh.holds {
		sh.share = max(sh.share, float64(h.value)*p.perTotal[h.dim])
	}
	g.claim.shape = sh
}

// bundlesKey is equal for equal requests in the same order.
func bundlesKey(bundles []engine.Resources) string {
	var text []byte
	for i := range bundles {
		r := &bundles[i]
		for _, bits := range [...]uint64{math.Float64bits(r.CPU), math.Float64bits(r.GPU), uint64(r.MemoryBytes), uint64(r.GPUMemoryBytes)} {
			text = binary.LittleEndian.AppendUint64(text, bits)
		}
		text = strconv.AppendQuote(text, customKey(r.Custom))
	}
	return string(text)
}

// sum adds amounts to what the shape holds.
func (s *shape) sum(holds []amount) {
	for _, a := range holds {
		at := slices.IndexFunc(s.holds, func(h amount) bool { return h.dim == a.dim })
		if at < 0 {
			s.holds = append(s.holds, a)
		} else {
			s.holds[at].value += a.value
		}
	}
}

// placeGroup reserves all bundles of a group, or none.
func (p *pass) placeGroup(c *claim) bool {
	g := c.group
	t := p.trialOf(g)
	if !t.run() {
		return false
	}
	g.nodes, g.devices = t.nodes, t.devices
	c.pending = 0
	p.budget--
	p.latest++
	c.shape.queue.last = p.latest
	p.hold(c.shape.queue, c.shape.holds, 1)
	return true
}

// keepForGroup closes the nodes where an overdue group would fit if they were idle.
func (p *pass) keepForGroup(c *claim) {
	t := p.trialOf(c.group)
	slices.SortStableFunc(t.candidates, func(a, b int32) int {
		x, y := &p.members[a], &p.members[b]
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.score, y.score))
	})
	if !t.runIdle() {
		return
	}
	nodes := slices.Clone(t.nodes)
	slices.Sort(nodes)
	for _, i := range slices.Compact(nodes) {
		p.close(c, int(i))
	}
}

// trial lays out the bundles of a group. Until it has succeeded, everything that it took is given back.
type trial struct {
	*pass
	*placing
	candidates []int32
	nodes      []int32
	devices    [][]int
	// saved is what the members were before, by member.
	saved map[int32]savedMember
}

func (p *pass) trialOf(g *placing) trial {
	return trial{pass: p, placing: g, candidates: p.candidates(g.claim.shape.where, g.gpu)}
}

type savedMember struct {
	member  member
	free    []int64
	devices []device
}

func (t *trial) run() bool {
	t.nodes, t.devices = make([]int32, len(t.needs)), make([][]int, len(t.needs))
	t.saved = map[int32]savedMember{}
	var ok bool
	switch t.Strategy {
	case engine.PlaceStrictPack:
		ok = t.together()
	case engine.PlaceStrictSpread:
		ok = t.apart()
	case engine.PlaceSpread:
		ok = t.spread()
	default:
		ok = t.together() || t.pack()
	}
	if !ok {
		t.giveBack()
	}
	return ok
}

// runIdle runs as if the candidates were idle and takes nothing.
func (t *trial) runIdle() bool {
	before := map[int32]savedMember{}
	for _, i := range t.candidates {
		m := &t.members[i]
		before[i] = t.copyOf(i)
		copy(t.freeOf(int(i)), t.idleOf(int(i)))
		for d := range m.devices {
			m.devices[d] = device{unit, m.gpuMemory / int64(len(m.devices))}
		}
	}
	ok := t.run()
	for i, s := range before {
		t.restore(i, s)
	}
	return ok
}

func (t *trial) copyOf(i int32) savedMember {
	m := &t.members[i]
	return savedMember{*m, slices.Clone(t.freeOf(int(i))), slices.Clone(m.devices)}
}

func (t *trial) restore(i int32, s savedMember) {
	copy(s.member.devices, s.devices)
	t.members[i] = s.member
	copy(t.freeOf(int(i)), s.free)
}

func (t *trial) giveBack() {
	for i := range t.saved {
		t.giveBackOn(i)
	}
}

func (t *trial) giveBackOn(i int32) {
	if s, ok := t.saved[i]; ok {
		t.restore(i, s)
		delete(t.saved, i)
	}
}

func (t *trial) fits(b int, i int32) bool {
	return covers(t.freeOf(int(i)), &t.needs[b]) && hasDevices(t.members[i].devices, &t.needs[b])
}

func (t *trial) take(b int, i int32) {
	if _, ok := t.saved[i]; !ok {
		t.saved[i] = t.copyOf(i)
	}
	t.nodes[b] = i
	t.devices[b] = t.members[i].take(&t.needs[b], t.freeOf(int(i)))
}

// together puts all bundles on the first node that has room for them.
func (t *trial) together() bool {
	for _, i := range t.candidates {
		if t.fill(i, t.byShare) == len(t.byShare) {
			return true
		}
		t.giveBackOn(i)
	}
	return len(t.byShare) == 0
}

// fill puts as many bundles as possible on a node, the largest first, and returns how many.
func (t *trial) fill(i int32, bundles []int) (count int) {
	for _, b := range bundles {
		if t.fits(b, i) {
			t.take(b, i)
			count++
		}
	}
	return count
}

// packLooks bounds the work of pack on a large cluster: beyond it the first node that takes anything is good enough.
const packLooks = 200_000

// pack takes the node that has room for most of the bundles, again and again. The first one wins among equals.
func (t *trial) pack() bool {
	left := slices.Clone(t.byShare)
	for looks := 0; len(left) > 0; {
		best, most := int32(-1), 0
		for _, i := range t.candidates {
			if _, used := t.saved[i]; used || most > 0 && looks > packLooks {
				continue
			}
			count := t.fill(i, left)
			t.giveBackOn(i)
			looks += len(left)
			if count > most {
				best, most = i, count
			}
		}
		if best < 0 {
			return false
		}
		rest := left[:0]
		for _, b := range left {
			if t.fits(b, best) {
				t.take(b, best)
			} else {
				rest = append(rest, b)
			}
		}
		left = rest
	}
	return true
}

// spread puts each bundle on the node that has fewest of them.
func (t *trial) spread() bool {
	counts := make([]int, len(t.candidates))
	for _, b := range t.byShare {
		best := -1
		for k, i := range t.candidates {
			if (best < 0 || counts[k] < counts[best]) && t.fits(b, i) {
				if best = k; counts[k] == 0 {
					break
				}
			}
		}
		if best < 0 {
			return false
		}
		counts[best]++
		t.take(b, t.candidates[best])
	}
	return true
}

// apart finds a node of its own for each bundle: a bipartite matching by augmenting paths, so that it finds one if there is one.
func (t *trial) apart() bool {
	holder := make([]int, len(t.candidates))
	for k := range holder {
		holder[k] = -1
	}
	if len(t.byShare) > len(t.candidates) {
		return false
	}
	seen := make([]int, len(t.candidates))
	var seat func(b, round int) bool
	seat = func(b, round int) bool {
		for k, i := range t.candidates {
			if holder[k] < 0 && t.fits(b, i) {
				holder[k] = b
				return true
			}
		}
		for k, i := range t.candidates {
			if holder[k] < 0 || seen[k] == round || !t.fits(b, i) {
				continue
			}
			seen[k] = round
			if seat(holder[k], round) {
				holder[k] = b
				return true
			}
		}
		return false
	}
	for n, b := range t.byShare {
		if !seat(b, n+1) {
			return false
		}
	}
	for k, b := range holder {
		if b >= 0 {
			t.take(b, t.candidates[k])
		}
	}
	return true
}

// judgeGroup finds out whether a group could ever be placed on the nodes that there are.
func (p *pass) judgeGroup(g *placing) verdict {
	s := g.claim.shape
	switch {
	case s.bad != "":
		return verdict{infeasible: true, reason: s.bad}
	case p.nodes == 0:
		return verdict{reason: "no node is connected"}
	case s.where.count == 0:
		return p.judgeWhere(s.where)
	}
	if p.wouldFit(g, false) {
		return verdict{}
	}
	if p.wouldFit(g, true) {
		var closed closedNodes
		for i := range s.where.members() {
			if p.members[i].Unschedulable {
				closed.add(p.members[i].Node)
			}
		}
		return verdict{reason: "all nodes" + s.where.with() + " that are large enough are " + closed.state()}
	}
	for _, b := range g.byShare {
		alone := claim{Class: &Class{Request: g.Bundles[b]}, shape: &shape{need: g.needs[b], where: s.where, queue: s.queue}}
		if v := p.judge(&alone); v.reason != "" {
			return v
		}
	}
	switch g.Strategy {
	case engine.PlaceStrictPack:
		return verdict{true, fmt.Sprintf("no node%s has room for all %d bundles together", s.where.with(), len(g.Bundles))}
	case engine.PlaceStrictSpread:
		return verdict{true, fmt.Sprintf("there are not %d nodes%s with room for a bundle each", len(g.Bundles), s.where.with())}
	default:
		return verdict{true, fmt.Sprintf("the nodes%s together have no room for all %d bundles", s.where.with(), len(g.Bundles))}
	}
}

// wouldFit lays a group out on idle nodes, on draining ones too if they are to count, and takes nothing.
func (p *pass) wouldFit(g *placing, draining bool) bool {
	t := trial{pass: p, placing: g}
	for i := range g.claim.shape.where.members() {
		if draining || !p.members[i].Unschedulable {
			t.candidates = append(t.candidates, int32(i))
		}
	}
	return t.runIdle()
}

// explainGroup says why a group waits.
func (p *pass) explainGroup(g *placing) Waiting {
	c := &g.claim
	w := Waiting{Class: g.ID, Count: len(g.Bundles)}
	if v := p.judged(c); v.reason != "" {
		w.Infeasible, w.Reason = v.infeasible, v.reason
		return w
	}
	w.Reason, w.OverShare = p.whyBusyGroup(c)
	if c.kept < 0 {
		return w
	}
	w.KeptNode = p.members[c.kept].ID
	count := 0
	for _, k := range p.keeps {
		if k.by == c {
			count++
		}
	}
	if count == 1 {
		w.Reason += "; node " + string(w.KeptNode) + " is kept for it"
	} else {
		w.Reason += fmt.Sprintf("; node %s and %d more are kept for it", w.KeptNode, count-1)
	}
	return w
}

func (p *pass) whyBusyGroup(c *claim) (reason string, overShare bool) {
	q := c.shape.queue
	if dim := q.lacks(&c.shape.need); dim >= 0 {
		return "queue " + q.name + " has a quota of " + p.writeHold(dim, q.limits[dim]) + ", which the bundles do not fit in", false
	}
	overShare, first := p.contended(q)
	reason = "the nodes" + c.shape.where.with() + " that have room for its bundles are busy"
	if !c.shape.dead && p.more {
		reason = "this decision has placed as many tasks as it may, the next one goes on"
	}
	if first != "" {
		reason = first + "; " + reason
	}
	return reason, overShare
}
