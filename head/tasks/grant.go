package tasks

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// Stale reports whether a decision of the scheduler might place something, since there is something new or something was given back.
func (c *Core) Stale() bool { return c.stale }

// Contended ends a decision, and says whether others wait, such as tasks of jobs: the places of tasks that end are then left to the next
// decision.
func (c *Core) Contended(others bool) {
	c.contended = others
	for _, k := range c.active {
		if !k.explained {
			c.unblock(k)
			k.reason = k.held
		}
	}
}

// Classes begins a decision: it appends the classes that wait or run. What the scheduler says of them goes to Place, Preempt, and Explain
// before anything else happens, and Contended ends it.
func (c *Core) Classes(now time.Time, into []scheduler.Class) []scheduler.Class {
	c.stale = false
	return c.Holders(now, into)
}

// Holders appends the same classes for a decision in which they only count with what they hold: Stale stays as it is.
func (c *Core) Holders(now time.Time, into []scheduler.Class) []scheduler.Class {
	for i := len(c.active) - 1; i >= 0; i-- {
		if i < len(c.active) { // Failing tasks takes classes off.
			c.missOperator(now, c.active[i])
		}
	}
	for _, k := range c.active {
		k.explained = false
		switch {
		case k.waiting.count == 0 || k.Running > 0:
			k.idleSince = time.Time{}
		case k.idleSince.IsZero():
			k.idleSince = now
		}
		k.Overdue = !k.idleSince.IsZero() && now.Sub(k.idleSince) > overdueAfter
		k.Pending, k.held = c.pendingOf(k)
		k.Since = time.Time{}
		if k.waiting.head != nil {
			k.Since = time.Unix(0, k.waiting.head.submitted)
		}
		into = append(into, k.Class)
	}
	return into
}

// pendingOf counts the tasks that the scheduler may place. If it is none although some wait, the reason says why.
func (c *Core) pendingOf(k *class) (n int, reason string) {
	switch g := c.groups[k.Group]; {
	case k.waiting.count == 0:
		return 0, ""
	case k.key.session.isFull(&c.config):
		return 0, "its client has not taken in the outcomes of its other tasks"
	case !k.unknownSince.IsZero():
		return 0, fmt.Sprintf("no node has operator %q", k.Operator)
	case k.Group != "" && (g == nil || g.nodes == nil):
		reason = "its placement group is not placed"
		if g != nil && g.reason != "" {
			reason += ": " + g.reason
		}
		return 0, reason
	case k.idle:
		return max(0, min(k.waiting.count, maxIdleSlots*len(c.nodes)-k.Running)), ""
	}
	return k.waiting.count, ""
}

// Explain says why a class waits.
func (c *Core) Explain(now time.Time, w scheduler.Waiting) {
	k := c.byID[w.Class]
	if k == nil || k.waiting.count == 0 {
		return
	}
	k.explained = true
	if w.Infeasible {
		c.unblock(k) // What is given back is of no use to it: it holds nobody up.
		k.reason = w.Reason
		if !k.waitForNodes && !c.awaitsNode() && (c.config.Term <= 1 || !now.Before(c.settled)) {
			err := engine.Errorf(engine.KindInvalidArgument, "schedule task", "", "%s", w.Reason).
				WithHint("ask for less, or set WaitForNodes to wait for a node that has it")
			c.failWaiting(now, k, err)
		}
		return
	}
	k.reason, k.overShare = w.Reason, w.OverShare
	if !k.blocked {
		k.blocked = true
		c.blocked++
	}
}

// awaitsNode tells whether a node may be back at any moment: its stream has ended, and its lease has not. What only it can do is not
// impossible yet.
func (c *Core) awaitsNode() bool {
	for _, n := range c.nodes {
		if !n.connected && !n.gone {
			return true
		}
	}
	return false
}

// failWaiting fails all tasks of a class that wait for a node.
func (c *Core) failWaiting(now time.Time, k *class, err error) {
	for t := k.waiting.head; t != nil; t = k.waiting.head {
		c.dequeue(t)
		c.finish(now, t, failed(t.id, t.id[:], err), nil)
	}
}

// missOperator fails the tasks of a class whose operator no node has had for long.
func (c *Core) missOperator(now time.Time, k *class) {
	switch {
	case k.waiting.count == 0 || c.operators[k.Operator] > 0:
		k.unknownSince = time.Time{}
		return
	case !c.anyConnected():
		k.unknownSince = time.Time{} // It waits for any node at all.
		return
	case k.unknownSince.IsZero():
		k.unknownSince = now
	}
	if k.waitForNodes || now.Sub(k.unknownSince) < c.config.LeaseTime || now.Before(c.settled) {
		return
	}
	names := slices.Sorted(maps.Keys(c.operators))
	c.failWaiting(now, k, engine.Errorf(engine.KindNotFound, "schedule task", "", "no node has operator %q%s", k.Operator, jobplan.Suggestion(k.Operator, names)))
}

func (c *Core) anyConnected() bool {
	for _, n := range c.nodes {
		if n.connected {
			return true
		}
	}
	return false
}

// Place grants tasks of a class to a node.
func (c *Core) Place(now time.Time, p scheduler.Placement) {
	k, n := c.byID[p.Class], c.nodes[p.Node]
	if k == nil || n == nil {
		return
	}
	var b *bundle
	if k.Group != "" {
		if b = c.bundleOf(k.Group, p.Bundle); b == nil || b.node != n {
			return
		}
	}
	count := min(p.Count, k.waiting.count)
	if count == 0 {
		return
	}
	k.LastPlaced = c.stamp(now)
	at := c.placeOf(k, n, b)
	if !k.devices {
		c.addSlots(at, nil, count)
		for range count {
			c.grant(now, at, nil)
		}
		c.grantAhead(now, at)
		return
	}
	for i := range count {
		devices := make([]int32, 0, 1)
		if i < len(p.Devices) {
			for _, d := range p.Devices[i] {
				devices = append(devices, int32(d)) //nolint:gosec // A node has few.
			}
		}
		c.addSlots(at, devices, 1)
		c.grant(now, at, devices)
	}
}

// grant gives the first waiting task of a class to one of its places.
func (c *Core) grant(now time.Time, p *place, devices []int32) {
	k := p.class
	t := k.waiting.head
	k.waiting.remove(t)
	if k.waiting.count == 0 {
		c.unblock(k)
	}
	c.setState(t, stateHeld)
	t.epoch = c.config.Term<<32 | c.fence
	t.attempts++
	t.sent, t.recalled, t.cancelling = false, recallNot, false
	if devices != nil || t.more != nil {
		m := t.rare()
		m.devices, m.began, m.quiet, m.done, m.total, m.hanging, m.progress = devices, time.Time{}, 0, 0, 0, false, false
	}
	c.hold(now, p, t)
	p.node.outbox = append(p.node.outbox, t)
	c.wakeNode(p.node)
}

// hold records that a task is at a place.
func (c *Core) hold(now time.Time, p *place, t *task) {
	t.place, t.node = p, p.node
	t.expected = uint32(min(t.template.mean, 4e9))
	p.tasks.pushBack(t)
	p.queued += int64(t.expected)
	p.moved = now
	p.node.tasks++
}

// unhold takes a task away from its place. Its slot is free if there are now more slots than tasks; refill decides what becomes of it.
// That of a task with devices is given back at once, or to the next.
func (c *Core) unhold(now time.Time, t *task) {
	p := t.place
	p.tasks.remove(t)
	p.queued -= int64(t.expected)
	p.moved = now
	p.node.tasks--
	t.place = nil
	if devices := t.devices(); p.class.devices {
		if t.more != nil {
			t.more.devices = nil
		}
		c.passOn(now, p, devices)
	}
	c.touch(p)
}

// passOn gives the devices of a task that has ended to the next one of its class.
func (c *Core) passOn(now time.Time, p *place, devices []int32) {
	if p.class.waiting.count > 0 && c.canTake(p) && c.mayRefill(p.class) {
		c.grant(now, p, devices)
		return
	}
	c.addSlots(p, devices, -1)
}

// canTake reports whether a place may get more without being asked for.
func (c *Core) canTake(p *place) bool {
	inPlace := p.bundle == nil && p.class.Group == "" || p.bundle != nil && !p.bundle.gone
	return p.leaving == 0 && p.node.connected && !p.node.cordoned && inPlace
}

// touch makes refill look at a place, touchClass at all places of a class.
func (c *Core) touch(p *place) {
	if !p.touched {
		p.touched = true
		c.touched = append(c.touched, p)
	}
}

func (c *Core) touchClass(k *class) {
	if !k.touched && len(k.places) > 0 {
		k.touched = true
		c.touchedClasses = append(c.touchedClasses, k)
	}
}

func (c *Core) touchSession(s *session) {
	c.stale = true
	for _, k := range c.active {
		if k.key.session == s {
			c.touchClass(k)
		}
	}
}

// refill gives the free slots of the places that were touched to the next tasks of their classes, or back, and grants tasks ahead.
func (c *Core) refill(now time.Time) {
	for _, p := range c.touched { // Granting touches none.
		p.touched = false
		c.refillPlace(now, p)
		c.dropPlace(p)
	}
	clear(c.touched)
	c.touched = c.touched[:0]
	for _, k := range c.touchedClasses {
		k.touched = false
		c.refillClass(now, k)
	}
	clear(c.touchedClasses)
	c.touchedClasses = c.touchedClasses[:0]
}

func (c *Core) refillPlace(now time.Time, p *place) {
	k := p.class
	if k.waiting.count > 0 && !k.devices && c.canTake(p) && c.mayRefill(k) {
		for p.tasks.count < p.slots && k.waiting.count > 0 {
			c.grant(now, p, nil)
		}
		c.grantAhead(now, p)
	}
	if free := p.slots - p.tasks.count; free > 0 && !k.devices {
		c.addSlots(p, nil, -free)
	}
}

// refillClass grants waiting tasks ahead to the places of a class, beginning with another one each time.
func (c *Core) refillClass(now time.Time, k *class) {
	if k.devices || k.idle || !c.mayRefill(k) {
		return
	}
	for range min(len(k.places), maxTurns) {
		if k.waiting.count == 0 {
			return
		}
		k.turn++
		if p := k.places[k.turn%len(k.places)]; c.canTake(p) {
			c.grantAhead(now, p)
		}
	}
}

// maxTurns bounds the places of a class that one message looks at.
const maxTurns = 64

// grantAhead grants a place what it is expected to finish within aheadFor.
func (c *Core) grantAhead(now time.Time, p *place) {
	k := p.class
	if k.devices || k.idle {
		return
	}
	limit := int64(p.slots) * int64(aheadFor)
	most := p.slots * (1 + maxAheadSlot)
	for k.waiting.count > 0 && p.tasks.count < most && p.node.tasks < maxAheadNode {
		mean := k.waiting.head.template.mean
		if mean == 0 || p.queued+int64(mean) > limit {
			return
		}
		c.grant(now, p, nil)
	}
}

// recallAhead takes tasks back that were granted ahead to a place where nothing moves, so that they may run elsewhere.
func (c *Core) recallAhead(now time.Time, p *place) {
	if p.tasks.count <= p.slots || now.Sub(p.moved) < staleAfter || !p.node.connected {
		return
	}
	// What is there takes longer than expected: the next ones of it are not granted ahead.
	p.tasks.head.template.mean = max(p.tasks.head.template.mean, float64(now.Sub(p.moved)))
	extra := p.tasks.count - p.slots
	for t := p.tasks.tail; extra > 0 && t != nil; extra-- {
		before := t.queue.prev
		c.takeBack(now, t, recallIdle)
		t = before
	}
}

// recall says how a task was asked back.
type recall uint8

const (
	recallNot recall = iota
	// recallIdle leaves it alone if it has begun, recallFirm ends it.
	recallIdle
	recallFirm
)

// takeBack lets a task run elsewhere: at once if its worker has not heard of it, else when the worker has given it back.
func (c *Core) takeBack(now time.Time, t *task, how recall) {
	switch {
	case t.recalled >= how || t.cancelling:
	case !t.sent:
		c.ungrant(now, t)
		c.requeue(now, t)
	default:
		t.recalled = how
		c.revoke(t.node, &enginev1.TaskRevocation{TaskId: t.id[:], Epoch: t.epoch, UnlessBegun: how == recallIdle})
	}
}

// ungrant undoes a grant of which no worker has heard.
func (c *Core) ungrant(now time.Time, t *task) {
	c.unhold(now, t)
	t.attempts--
	c.fence++
}

// requeue puts a task in front of its class.
func (c *Core) requeue(now time.Time, t *task) {
	t.node = nil
	t.sent, t.recalled = false, recallNot
	c.prepare(now, t, true)
}

// Preempt takes tasks of a class back from a node. It costs them no attempt.
func (c *Core) Preempt(now time.Time, p scheduler.Preemption) {
	k, n := c.byID[p.Class], c.nodes[p.Node]
	if k == nil || n == nil {
		return
	}
	at := n.places[placeKey{k, nil}]
	if at == nil {
		return
	}
	count := min(p.Count, at.slots-at.leaving)
	if count <= 0 {
		return
	}
	c.addLeaving(at, count)
	c.takeBackSome(now, at, at.slots-at.leaving)
	c.refill(now)
}

// takeBackSome takes tasks back from a place until so many stay, those first that were granted last.
func (c *Core) takeBackSome(now time.Time, p *place, keep int) {
	staying := 0
	for t := p.tasks.head; t != nil; t = t.queue.next {
		if t.recalled < recallFirm && !t.cancelling {
			staying++
		}
	}
	for t := p.tasks.tail; t != nil && staying > keep; {
		before := t.queue.prev
		if t.recalled < recallFirm && !t.cancelling {
			staying--
			c.takeBack(now, t, recallFirm)
		}
		t = before
	}
}
