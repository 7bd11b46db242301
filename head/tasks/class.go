package tasks

import (
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	"github.com/f708428e/engine/scheduler"
)

// The bounds of running ahead.
const (
	// aheadFor is how much work a slot is granted ahead of time.
	aheadFor = 5 * time.Millisecond
	// maxAheadSlot and maxAheadNode bound the tasks beyond one a slot, for each slot and for all of a node.
	maxAheadSlot = 1_000
	maxAheadNode = 10_000
	// maxIdleSlots bounds, for each node, the tasks of a class that take nothing.
	maxIdleSlots = 10_000
	// staleAfter is how long a place may hold tasks ahead without an outcome before they are taken back, to run elsewhere.
	staleAfter = 200 * time.Millisecond
	// meanWeight is how much of the mean the latest run time is: one part in so many.
	meanWeight = 16
	// overdueAfter is how long a class may have waiting tasks and none running before the scheduler keeps room for it.
	overdueAfter = 30 * time.Second
)

// classPrefix keeps the names of classes apart from those of jobs.
const classPrefix = "tasks "

// classKey says which tasks are one class: those of a session whose templates are alike to the scheduler and that prefer the same node.
// Sessions are apart so that they share fairly, and so that one which does not read its outcomes holds up no other.
type classKey struct {
	base    string
	session *session
	prefer  engine.NodeID
}

// class is what the scheduler sees of tasks that are alike. Pending, Running, and what is counted by node are kept as they change.
type class struct {
	scheduler.Class
	key   classKey
	need  usage.Amounts
	queue *queue
	// refs counts the tasks and bindings that refer to it, active is its place among the active classes, or -1.
	refs, active int
	waiting      list
	places       []*place
	// turn is the place that is looked at first when tasks are granted ahead.
	turn int
	// devices and idle say that its tasks take GPUs, or nothing, so that none is granted ahead; touched that refill is to look at it.
	devices, idle, touched bool
	// waitForNodes says that tasks wait although no node can run them.
	waitForNodes bool
	// blocked is set when the last decision left tasks waiting, overShare when its queue held more than its share, explained while a
	// decision is under way that has.
	blocked, overShare, explained bool
	// reason is why tasks wait, held why they do although the scheduler was not asked.
	reason, held string
	// idleSince is since when tasks have waited and none has run, unknownSince since when no node has had the operator.
	idleSince, unknownSince time.Time
}

// place is what a class has on a node, or in a bundle there: slots, each of which holds the request, and tasks. There are more tasks than
// slots when some were granted ahead.
type place struct {
	class  *class
	node   *node
	bundle *bundle
	index  int
	slots  int
	// leaving counts the slots that are to be given back when tasks that were taken back have ended.
	leaving int
	tasks   list
	// queued is how long the tasks are expected to run, in nanoseconds.
	queued int64
	// moved is when it last got a task or had one end.
	moved   time.Time
	touched bool
}

// bundleIndex is the bundle's number in its group, or -1.
func (p *place) bundleIndex() int {
	if p.bundle == nil {
		return -1
	}
	return p.bundle.index
}

type placeKey struct {
	class  *class
	bundle *bundle
}

// queue is what the core knows of a queue.
type queue struct {
	name string
	// max bounds pending, which counts the tasks that wait, for whatever; 0 is the default.
	max, pending int64
	// set says that somebody has set it, limited that it has a quota; users counts the templates that name it.
	set, limited bool
	users        int
}

func (c *Core) queueOf(name string) *queue {
	q := c.queues[name]
	if q == nil {
		q = &queue{name: name}
		c.queues[name] = q
	}
	return q
}

// IsClass reports whether a class of a plan is one of the core's.
func IsClass(id string) bool { return strings.HasPrefix(id, classPrefix) }

// classFor returns the class of a template's tasks, which is made if need be, with one more reference.
func (c *Core) classFor(now time.Time, t *template, s *session, prefer engine.NodeID) *class {
	key := classKey{t.base, s, prefer}
	if k := c.classes[key]; k != nil {
		k.refs++
		return k
	}
	c.orders++
	placement := t.wire.GetPlacement()
	k := &class{key: key, need: t.need, queue: t.queue, refs: 1, active: -1, waitForNodes: t.wire.GetWaitForNodes()}
	k.waiting.field = queueLinks
	k.idle, k.devices = t.need.IsNothing(), t.request.GPU > 0 || t.request.GPUMemoryBytes > 0
	k.Class = scheduler.Class{
		ID: classPrefix + strconv.FormatInt(c.orders, 10), Request: t.request, Order: c.orders, LastPlaced: c.stamp(now), Queue: t.queue.name,
		Priority: int(t.wire.GetPriority()), Operator: t.wire.GetOperator(), Selector: placement.GetNodeLabels(),
		Node: engine.NodeID(placement.GetNodeId()), Soft: placement.GetSoft(), Spread: placement.GetSpread(), Group: t.group, Bundle: t.bundle,
		Preemptible: t.maxAttempts > 1 && t.group == "", RunningOn: map[engine.NodeID]int{}, Leaving: map[engine.NodeID]int{},
	}
	if prefer != "" {
		k.Prefer = []engine.NodeID{prefer}
	}
	c.classes[key], c.byID[k.ID] = k, k
	return k
}

// unref takes a reference away. A class without any is forgotten.
func (c *Core) unref(k *class) {
	if k.refs--; k.refs == 0 {
		delete(c.classes, k.key)
		delete(c.byID, k.ID)
	}
}

// stamp returns a number that is larger than every one before, and about the time.
func (c *Core) stamp(now time.Time) int64 {
	c.lastStamp = max(c.lastStamp+1, now.UnixNano())
	return c.lastStamp
}

// enqueue puts a task that may run into the queue of its class.
func (c *Core) enqueue(t *task, front bool) {
	k := t.class
	t.state = stateWaiting
	if front {
		k.waiting.insert(t)
	} else {
		k.waiting.pushBack(t)
	}
	c.activate(k)
	if !k.blocked {
		c.stale = true
	}
	c.touchClass(k)
}

// dequeue takes a waiting task out.
func (c *Core) dequeue(t *task) {
	k := t.class
	k.waiting.remove(t)
	if k.waiting.count == 0 {
		c.unblock(k)
	}
	c.settleClass(k)
}

func (c *Core) unblock(k *class) {
	if k.blocked {
		k.blocked = false
		c.blocked--
	}
	k.overShare, k.reason = false, ""
}

// activate lists a class that waits or runs.
func (c *Core) activate(k *class) {
	if k.active < 0 {
		k.active = len(c.active)
		c.active = append(c.active, k)
	}
}

// settleClass takes a class off the list that has nothing to do.
func (c *Core) settleClass(k *class) {
	if k.active < 0 || k.waiting.count > 0 || len(k.places) > 0 {
		return
	}
	last := len(c.active) - 1
	c.active[k.active] = c.active[last]
	c.active[k.active].active = k.active
	c.active[last] = nil
	c.active = c.active[:last]
	k.active = -1
	k.idleSince, k.unknownSince = time.Time{}, time.Time{}
}

// placeOf returns the place of a class on a node, which is made if need be.
func (c *Core) placeOf(k *class, n *node, b *bundle) *place {
	key := placeKey{k, b}
	p := n.places[key]
	if p == nil {
		p = &place{class: k, node: n, bundle: b, index: len(k.places)}
		p.tasks.field = queueLinks
		n.places[key] = p
		k.places = append(k.places, p)
		c.activate(k)
	}
	return p
}

// dropPlace forgets a place that holds nothing.
func (c *Core) dropPlace(p *place) {
	if p.slots > 0 || p.tasks.count > 0 || p.node.places[placeKey{p.class, p.bundle}] != p {
		return
	}
	k := p.class
	delete(p.node.places, placeKey{k, p.bundle})
	last := len(k.places) - 1
	k.places[p.index] = k.places[last]
	k.places[p.index].index = p.index
	k.places[last] = nil
	k.places = k.places[:last]
	c.settleClass(k)
}

// addSlots changes how many slots a place has, with the devices of these.
func (c *Core) addSlots(p *place, devices []int32, n int) {
	k := p.class
	if p.bundle != nil {
		p.bundle.used.Add(&k.need, devices, int64(n))
	} else {
		p.node.used.Add(&k.need, devices, int64(n))
	}
	p.slots += n
	k.Running += n
	count(k.RunningOn, p.node.id, n)
	if n < 0 {
		c.stale = true
		if p.leaving > 0 {
			c.addLeaving(p, -min(p.leaving, -n))
		}
	}
}

// addLeaving changes how many of the slots are to be given back.
func (c *Core) addLeaving(p *place, n int) {
	p.leaving += n
	count(p.class.RunningOn, p.node.id, -n)
	count(p.class.Leaving, p.node.id, n)
}

// count adds to a counter that is not there while it is zero.
func count(counts map[engine.NodeID]int, id engine.NodeID, n int) {
	if counts[id] += n; counts[id] == 0 {
		delete(counts, id)
	}
}

// mayRefill reports whether the places of tasks that end go to the next of the class, rather than to whom the scheduler says.
func (c *Core) mayRefill(k *class) bool {
	others := c.blocked
	if k.blocked {
		others--
	}
	return others == 0 && !c.contended && !k.overShare && !k.queue.limited && !k.key.session.isFull(&c.config)
}
