package scheduler

import (
	"slices"
	"time"
)

const (
	// preemptAfter is how long a class waits before tasks of others are taken back for it: most end by themselves sooner.
	preemptAfter = 2 * time.Second // Where its caller says since when.
	// maxPreemptions bounds the tasks that one decision takes back, preemptLooks the nodes and victims that it looks at in vain.
	maxPreemptions = 64
	preemptLooks   = 200_000
)

// preemption looks for running tasks to take back. It works on copies: what becomes free so is placed by a later decision.
type preemption struct {
	*pass
	// rooms has what will be free on the nodes where tasks leave or may be taken back, in order of the members.
	rooms []*room
	byAt  map[int]*room
	// promised is what of a queue's holdings is room that was found in this decision, and may yet go to others.
	promised map[*share][]int64
	// taken counts what was taken back by class, node, and who gets its place.
	taken []Preemption
	count int
	// looks counts the nodes and victims looked at for nothing.
	looks int
	// shared is set when some tasks request device memory alone, so that a whole device may not be one task's.
	shared bool
}

// room is a node with what will be free there.
type room struct {
	at      int
	free    []int64
	devices []device
	// most is what would be free if all victims left.
	most    []int64
	victims []victim
}

// victim is a class with tasks on a node that may be taken back.
type victim struct {
	*claim
	count int
}

// preempt takes tasks back for classes that wait and are due their place. What the queues hold is then no longer true.
func (p *pass) preempt() []Preemption {
	if !p.preemptible {
		return nil
	}
	var due []*claim
	for i := range p.claims {
		if c := &p.claims[i]; p.mayPreempt(c) {
			due = append(due, c)
		}
	}
	if due == nil {
		return nil
	}
	sortDue(due)
	x := preemption{pass: p, byAt: map[int]*room{}, promised: map[*share][]int64{}}
	x.addRooms()
	failed := map[*shape]bool{} // What was not found for one is not found for one of its shape that comes later, unless it has a node kept.
	for _, c := range due {
		if failed[c.shape] && c.kept < 0 {
			continue
		}
		before := x.looks
		if x.serve(c) {
			x.looks = before
		} else {
			failed[c.shape] = true
		}
		if x.count >= maxPreemptions || x.looks >= preemptLooks {
			break
		}
	}
	return x.taken
}

// mayPreempt reports whether tasks may be taken back for a class, as far as it depends on that class.
func (p *pass) mayPreempt(c *claim) bool {
	s := c.shape
	if c.pending == 0 || s.inBundle || s.nothing() || !s.dead && p.more || !p.feasible(c) || s.queue.lacks(&s.need) >= 0 {
		return false
	}
	return c.Since.IsZero() || p.now.IsZero() || p.now.Sub(c.Since) >= preemptAfter
}

// addRooms collects the victims, the youngest class first, and what leaves already.
func (x *preemption) addRooms() {
	young := make([]*claim, 0, len(x.claims))
	for i := range x.claims {
		young = append(young, &x.claims[i])
	}
	slices.SortFunc(young, func(a, b *claim) int {
		if a.LastPlaced != b.LastPlaced {
			return order(a.LastPlaced > b.LastPlaced)
		}
		return b.place - a.place
	})
	for _, c := range young {
		x.shared = x.shared || c.shape.devices > 0 && c.shape.part == 0
	}
	for _, c := range young {
		if c.shape.inBundle || c.shape.bad != "" {
			continue
		}
		for id, count := range c.Leaving {
			if r := x.roomOf(x.locate(id)); r != nil && count > 0 {
				x.giveUp(r, c, count)
			}
		}
		for id, count := range c.RunningOn {
			if !c.Preemptible || count <= 0 {
				continue
			}
			if r := x.roomOf(x.locate(id)); r != nil {
				r.victims = append(r.victims, victim{c, count})
			}
		}
	}
	slices.SortFunc(x.rooms, func(a, b *room) int { return a.at - b.at })
	for _, r := range x.rooms {
		r.most = slices.Clone(r.free)
		for _, v := range r.victims {
			for _, a := range v.shape.amounts {
				if plain(x.layout, a.dim) {
					r.most[a.dim] += a.value * int64(v.count)
				}
			}
		}
	}
}

// plain reports whether a dimension is an amount of the node, rather than a bound of its devices.
func plain(l layout, dim int) bool { return dim < dimsPlain || dim >= l.firstCustom }

func (x *preemption) roomOf(at int) *room {
	if at < 0 {
		return nil
	}
	r := x.byAt[at]
	if r == nil {
		r = &room{at: at, free: slices.Clone(x.freeOf(at)), devices: slices.Clone(x.members[at].devices)}
		x.byAt[at] = r
		x.rooms = append(x.rooms, r)
	}
	return r
}

// give adds what tasks of a shape free, or takes that away again if the count is negative. Which devices they have is not known, but
// each frees at least a part of that size.
func (r *room) give(l layout, s *shape, memory int64, count int) {
	for _, a := range s.amounts {
		if plain(l, a.dim) {
			r.free[a.dim] += a.value * int64(count)
		}
	}
	for range -count * s.devices {
		for i, d := range slices.Backward(r.devices) {
			if d == (device{s.part, memory}) {
				r.devices = slices.Delete(r.devices, i, i+1)
				break
			}
		}
	}
	for range count * s.devices {
		r.devices = append(r.devices, device{s.part, memory})
	}
}

func (r *room) fits(l layout, n *need) bool {
	return coversPlain(l, r.free, n) && hasDevices(r.devices, n)
}

// reserve takes what one task needs, so that its room is not given away twice.
func (r *room) reserve(l layout, n *need) {
	for _, a := range n.amounts {
		if plain(l, a.dim) {
			r.free[a.dim] -= a.value
		}
	}
	for _, i := range pick(r.devices, n) {
		r.devices[i].part -= n.part
		r.devices[i].memory -= n.deviceMemory
	}
}

// serve makes room for the tasks of c that are due, one after the other, and reports whether it found some for any.
func (x *preemption) serve(c *claim) (found bool) {
	for left := c.pending; left > 0 && x.count < maxPreemptions && c.shape.queue.lacks(&c.shape.need) < 0; left-- {
		r, steps := x.find(c)
		if r == nil {
			return found
		}
		found = true
		for _, s := range steps {
			x.take(r, s, c)
		}
		r.reserve(x.layout, c.shape.needOn(&x.members[r.at]))
		x.promise(c.shape)
	}
	return found
}

// promise counts one task as held by its queue.
func (x *preemption) promise(s *shape) {
	p := x.promised[s.queue]
	if p == nil {
		p = make([]int64, x.holds())
		x.promised[s.queue] = p
	}
	for _, a := range s.holds {
		p[a.dim] += a.value
	}
	x.hold(s.queue, s.holds, 1)
}

// without returns the share of what the queue of a shape really holds, less one task of the shape.
func (x *preemption) without(s *shape) (most float64) {
	p := x.promised[s.queue]
	for d, v := range s.queue.held {
		if p != nil {
			v -= p[d]
		}
		for _, a := range s.holds {
			if a.dim == d {
				v -= a.value
			}
		}
		most = max(most, float64(v)*x.perTotal[d])
	}
	return most
}

// find returns the node where room for one task of c costs least: none of the tasks there, if enough leave already, or the fewest.
func (x *preemption) find(c *claim) (best *room, steps []int) {
	fewest := maxPreemptions - x.count + 1
	for _, r := range x.rooms {
		x.looks++
		m := &x.members[r.at]
		if m.closed && c.kept != r.at || !x.allows(c.shape.where, r.at) {
			continue
		}
		n := c.shape.needOn(m)
		if r.fits(x.layout, n) {
			return r, nil
		}
		if !coversPlain(x.layout, r.most, n) {
			continue
		}
		if s, ok := x.try(r, c, n); ok && len(s) < fewest {
			if best, steps, fewest = r, s, len(s); fewest == 1 {
				return best, steps
			}
		}
	}
	return best, steps
}

// coversPlain is covers but for the devices.
func coversPlain(l layout, free []int64, n *need) bool {
	for _, a := range n.amounts {
		if plain(l, a.dim) && free[a.dim] < a.value {
			return false
		}
	}
	return true
}

// try finds the victims on a node whose end lets a task of c start, the youngest first, by their position; one of which several tasks
// are needed comes several times. It changes nothing.
func (x *preemption) try(r *room, c *claim, n *need) (steps []int, ok bool) {
	x.looks += len(r.victims)
	for i := range r.victims {
		v := &r.victims[i]
		for left := v.count; left > 0 && !r.fits(x.layout, n) && r.helps(x.layout, v.shape, n) && x.mayTake(v.claim, c); left-- {
			x.giveUp(r, v.claim, 1)
			steps = append(steps, i)
		}
	}
	if ok = r.fits(x.layout, n); ok {
		steps = x.spare(r, c, n, steps)
	}
	for _, i := range slices.Backward(steps) {
		x.giveUp(r, r.victims[i].claim, -1)
	}
	return steps, ok
}

// spare gives back what turns out not to be needed, the oldest first, and returns the steps that are. The last one is.
func (x *preemption) spare(r *room, c *claim, n *need, steps []int) (needed []int) {
	for k := len(steps) - 2; k >= 0; k-- {
		v := r.victims[steps[k]].claim
		x.giveUp(r, v, -1)
		if r.fits(x.layout, n) && (v.shape.queue != c.shape.queue || x.isNext(c.shape.queue)) {
			steps = slices.Delete(steps, k, k+1)
		} else {
			x.giveUp(r, v, 1)
		}
	}
	return steps
}

// giveUp counts tasks of v as gone from a node, or as back.
func (x *preemption) giveUp(r *room, v *claim, count int) {
	s := v.shape
	memory := s.deviceMemory
	if s.part == unit && !x.shared {
		memory = max(memory, x.members[r.at].gpuMemory/int64(max(1, len(x.members[r.at].devices))))
	}
	r.give(x.layout, s, memory, count)
	x.hold(s.queue, s.holds, -int64(count))
}

// helps reports whether a task of a shape holds something that n lacks on the node.
func (r *room) helps(l layout, s *shape, n *need) bool {
	for _, a := range n.amounts {
		if plain(l, a.dim) && r.free[a.dim] < a.value && slices.ContainsFunc(s.amounts, func(b amount) bool { return b.dim == a.dim }) {
			return true
		}
	}
	return s.devices > 0 && s.part >= n.part && !hasDevices(r.devices, n)
}

// nextIs reports whether the queue of a shape is the next to be served if one task of the shape ends.
func (x *preemption) nextIs(s *shape) bool {
	x.hold(s.queue, s.holds, -1)
	next := x.isNext(s.queue)
	x.hold(s.queue, s.holds, 1)
	return next
}

func (x *preemption) isNext(q *share) bool {
	return !slices.ContainsFunc(x.shares, func(other *share) bool { return other != q && other.waits && other.before(q) })
}

// mayTake reports whether a running task of v may end for a waiting one of c: within a queue for a higher priority alone; from another
// queue while that keeps its own share, for one of a higher priority or one that stays within its share with the task.
func (x *preemption) mayTake(v, c *claim) bool {
	from, to := v.shape.queue, c.shape.queue
	if from == to {
		return v.priority < c.priority && x.nextIs(v.shape)
	}
	if to.priority < from.priority {
		return false
	}
	keeps := x.without(v.shape) >= from.fair-slack
	if !keeps || to.priority > from.priority {
		return keeps
	}
	x.hold(to, c.shape.holds, 1)
	within := to.share <= to.fair+slack
	x.hold(to, c.shape.holds, -1)
	return within
}

// take lists one more task to take back.
func (x *preemption) take(r *room, i int, c *claim) {
	v := &r.victims[i]
	v.count--
	x.giveUp(r, v.claim, 1)
	x.count++
	node := x.members[r.at].ID
	for k := range x.taken {
		if t := &x.taken[k]; t.Class == v.ID && t.Node == node && t.For == c.ID {
			t.Count++
			return
		}
	}
	x.taken = append(x.taken, Preemption{Class: v.ID, Node: node, For: c.ID, Count: 1})
}
