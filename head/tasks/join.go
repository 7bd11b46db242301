package tasks

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// orphan is a task that a worker has and that nobody has submitted to this head: its client will, after a restart of the head, or has
// got the outcome already.
type orphan struct {
	id      engine.TaskUID
	node    *node
	session string
	// outcome is set if it has ended, held if not.
	outcome *enginev1.TaskOutcome
	held    *enginev1.HeldTask
	// need is what it holds of the node, if it counts.
	need    usage.Amounts
	counted bool
}

// Join takes in the first report of a worker's stream: what the worker has and which outcomes it keeps. What it is to forget, Fill says.
func (c *Core) Join(now time.Time, id engine.NodeID, operators []string, report *enginev1.SyncRequest) {
	n := c.nodes[id]
	if n == nil {
		n = &node{id: id, places: map[placeKey]*place{}}
		c.nodes[id] = n
	}
	c.setOperators(n, operators)
	n.connected, n.woken = true, false
	n.revocations, n.released, n.retired, n.knows = nil, nil, nil, map[uint32]struct{}{}
	for _, o := range c.orphansOf(func(o *orphan) bool { return o.node == n }) {
		c.dropOrphan(o) // The report says again what there is.
	}
	c.loseGrants(now, n, report)
	for i, outcome := range report.GetOutcomes() {
		if len(outcome.GetTaskId()) != len(engine.TaskUID{}) {
			continue
		}
		task := engine.TaskUID(outcome.GetTaskId())
		session := ""
		if i < len(report.GetOutcomeSessions()) {
			session = report.GetOutcomeSessions()[i]
		}
		if c.tasks[task] != nil || !c.keepOrphan(now, &orphan{id: task, node: n, session: session, outcome: outcome}) {
			c.takeOutcome(now, n, outcome)
		}
	}
	for _, held := range report.GetHeldTasks() {
		if len(held.GetTaskId()) == len(engine.TaskUID{}) {
			c.takeHeld(now, n, held)
		}
	}
	if len(n.outbox) > 0 {
		c.wakeNode(n)
	}
	c.stale = true
	c.refill(now)
}

// loseGrants takes back the grants that were lost with a worker's last stream: those of which its first report on the next one does not
// speak. What the report says of the same task under an earlier lease is none of them, and is refused afterwards.
func (c *Core) loseGrants(now time.Time, n *node, report *enginev1.SyncRequest) {
	type lease struct {
		task  string
		epoch uint64
	}
	has := make(map[lease]struct{}, len(report.GetOutcomes())+len(report.GetHeldTasks()))
	for _, outcome := range report.GetOutcomes() {
		has[lease{string(outcome.GetTaskId()), outcome.GetEpoch()}] = struct{}{}
	}
	for _, held := range report.GetHeldTasks() {
		has[lease{string(held.GetTaskId()), held.GetEpoch()}] = struct{}{}
	}
	for _, t := range slices.Backward(n.held()) { // So that each goes in front of the one before.
		if _, ok := has[lease{string(t.id[:]), t.epoch}]; ok || !t.sent {
			continue
		}
		c.unhold(now, t)
		c.fence++
		t.attempts--
		t.node, t.sent = nil, false
		if t.cancelling {
			c.finish(now, t, cancelled(t, errCancelled), nil)
		} else {
			c.requeue(now, t)
		}
	}
}

func (c *Core) setOperators(n *node, operators []string) {
	for _, name := range n.operators {
		if c.operators[name]--; c.operators[name] == 0 {
			delete(c.operators, name)
		}
	}
	n.operators = operators
	for _, name := range operators {
		c.operators[name]++
	}
}

// held returns the tasks of a node in the order in which they were submitted.
func (n *node) held() (found []*task) {
	for _, p := range n.places {
		for t := p.tasks.head; t != nil; t = t.queue.next {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *task) int { return cmp.Compare(a.number, b.number) })
	return found
}

func (n *node) sortedPlaces() []*place {
	return slices.SortedFunc(maps.Values(n.places), func(a, b *place) int {
		return cmp.Or(cmp.Compare(a.class.Order, b.class.Order), cmp.Compare(a.bundleIndex(), b.bundleIndex()))
	})
}

// takeHeld matches a task that a worker has with what is known of it.
func (c *Core) takeHeld(now time.Time, n *node, held *enginev1.HeldTask) {
	id := engine.TaskUID(held.GetTaskId())
	t := c.tasks[id]
	switch {
	case t == nil:
		if c.keepOrphan(now, &orphan{id: id, node: n, session: held.GetSessionId(), held: held}) {
			return
		}
	case t.state == stateHeld && t.node == n:
		switch {
		case t.epoch == held.GetEpoch():
			t.sent = true
			c.takeProgress(now, t, held)
			c.repeatRevocation(n, t)
			return
		case !t.sent: // The grant that is on its way renews what it has.
			return
		}
	case t.state < stateHeld && held.GetEpoch() >= t.epoch:
		c.adoptHeld(now, t, n, held)
		return
	}
	c.revoke(n, &enginev1.TaskRevocation{TaskId: held.GetTaskId(), Epoch: held.GetEpoch(), Forget: true})
}

// repeatRevocation says again what may have been lost with the last stream.
func (c *Core) repeatRevocation(n *node, t *task) {
	switch {
	case t.cancelling || t.recalled == recallFirm:
		c.revoke(n, &enginev1.TaskRevocation{TaskId: t.id[:], Epoch: t.epoch})
	case t.recalled == recallIdle:
		t.recalled = recallNot
	}
}

// bundleOn returns the bundle in which a task may be that runs on a node; nil if there is none. One whose group is not placed, as after a
// restart, runs on beside it.
func (c *Core) bundleOn(t *task, n *node) *bundle {
	if g := c.groups[t.template.group]; g != nil {
		for _, b := range g.placed {
			if b.node == n && (t.template.bundle < 0 || t.template.bundle == b.index) {
				return b
			}
		}
	}
	return nil
}

// adoptHeld makes the worker's lease of a task that waits the present one.
func (c *Core) adoptHeld(now time.Time, t *task, n *node, held *enginev1.HeldTask) {
	c.withdraw(now, t)
	k := t.class
	p := c.placeOf(k, n, c.bundleOn(t, n))
	c.setState(t, stateHeld)
	t.epoch = held.GetEpoch()
	t.attempts = max(t.attempts, 1)
	t.sent, t.recalled, t.cancelling = true, recallNot, false
	if k.devices {
		t.rare().devices = held.GetGpuDevices()
	}
	c.hold(now, p, t)
	if k.devices || held.GetRunNanos() > 0 {
		c.addSlots(p, held.GetGpuDevices(), 1)
	}
	c.takeProgress(now, t, held)
}

// keepOrphan keeps what a worker has until its client submits it again, if this head has begun a short while ago.
func (c *Core) keepOrphan(now time.Time, o *orphan) bool {
	if c.config.Term <= 1 || o.session == "" || !now.Before(c.config.Started.Add(orphansFor)) {
		return false
	}
	if old := c.orphans[o.id]; old != nil {
		if old.outcome != nil || o.outcome == nil && old.held.GetEpoch() >= o.held.GetEpoch() {
			return false
		}
		c.dropOrphan(old)
		c.endOrphan(old)
	}
	if o.held.GetRunNanos() > 0 {
		request, err := rpc.ResourcesFromProto(o.held.GetTemplate().GetResources())
		if err == nil {
			if wire := o.held.GetTemplate().GetResources(); wire == nil || wire.Cpu == nil {
				request.CPU = 1
			}
			o.need, o.counted = usage.Of(request), true
			o.node.used.Add(&o.need, o.held.GetGpuDevices(), 1)
		}
	}
	c.orphans[o.id] = o
	return true
}

// dropOrphan forgets an orphan here.
func (c *Core) dropOrphan(o *orphan) {
	delete(c.orphans, o.id)
	c.uncount(o)
}

func (c *Core) uncount(o *orphan) {
	if o.counted {
		o.counted = false
		o.node.used.Add(&o.need, o.held.GetGpuDevices(), -1)
		c.stale = true
	}
}

// orphanEnded takes in the outcome of an orphan that was held.
func (c *Core) orphanEnded(o *orphan, outcome *enginev1.TaskOutcome) {
	c.uncount(o)
	o.held, o.outcome = nil, outcome
}

// adopt gives a task that was submitted what a worker has of it. It reports false if none has anything.
func (c *Core) adopt(now time.Time, t *task) bool {
	o := c.orphans[t.id]
	if o == nil {
		return false
	}
	c.dropOrphan(o)
	if o.session != t.session.id {
		c.endOrphan(o)
		return false
	}
	if o.held != nil {
		c.adoptHeld(now, t, o.node, o.held)
		return true
	}
	t.epoch = o.outcome.GetEpoch()
	t.attempts = uint16(max(1, min(maxAttempts, o.outcome.GetAttempts()))) //nolint:gosec // Bounded.
	c.attemptEnded(now, t, o.outcome, o.node)
	return true
}

// endOrphan makes the worker forget an orphan.
func (c *Core) endOrphan(o *orphan) {
	if o.outcome != nil {
		c.release(o.node, o.id)
		return
	}
	c.revoke(o.node, &enginev1.TaskRevocation{TaskId: o.id[:], Epoch: o.held.GetEpoch(), Forget: true})
}

func (c *Core) orphansOf(matches func(*orphan) bool) (found []*orphan) {
	for _, o := range c.orphans {
		if matches(o) {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b *orphan) int { return bytes.Compare(a.id[:], b.id[:]) })
	return found
}

func (c *Core) endOrphansOf(session string) {
	for _, o := range c.orphansOf(func(o *orphan) bool { return o.session == session }) {
		c.dropOrphan(o)
		c.endOrphan(o)
	}
}

// endOrphans ends those that nobody has come back for.
func (c *Core) endOrphans() {
	for _, o := range c.orphansOf(func(*orphan) bool { return true }) {
		c.dropOrphan(o)
		c.endOrphan(o)
	}
}
