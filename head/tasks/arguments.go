package tasks

import (
	"cmp"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// unknownGrace is how long an argument may be unknown to everybody before its task fails.
	unknownGrace = time.Second
	// localBytes is how much of its arguments a node must hold for a task to prefer it.
	localBytes = 1 << 20
	// maxKnown bounds the objects whose place is remembered.
	maxKnown = 10_000
	// maxWalk bounds the tasks that are looked at for a cycle.
	maxWalk = 10_000
	// maxCauseBytes bounds what an error says of its cause: chains may be long.
	maxCauseBytes = 2 << 10
)

// site is how many bytes of a task's arguments a node holds.
type site struct {
	node  engine.NodeID
	bytes int64
}

// location is where an object is that the directory has told of.
type location struct {
	sizeBytes int64
	nodes     []engine.NodeID
}

// object is an argument that does not exist yet, as long as tasks wait for it.
type object struct {
	id      engine.ObjectID
	waiters *wait
	// watched says that the directory was asked, unknown that it knows nothing.
	watched, unknown bool
	// deadline is when the tasks that wait fail, if the object is still unknown.
	deadline time.Time
}

// wait is one task's wait for one argument.
type wait struct {
	task       *task
	object     *object
	prev, next *wait
}

// prepare lets a task run as soon as its arguments exist.
func (c *Core) prepare(now time.Time, t *task, front bool) {
	err := c.checkGroup(t)
	if err == nil {
		err = c.await(now, t)
	}
	if err != nil {
		c.finish(now, t, failed(t.id, t.id[:], err), nil)
		return
	}
	if t.missing == 0 {
		c.ready(now, t, front)
	} else {
		c.setState(t, stateArguments)
	}
}

// await makes a task wait for the arguments that do not exist. The error is why it can never run.
func (c *Core) await(now time.Time, t *task) error {
	t.missing = 0
	if t.more != nil {
		t.more.sites, t.more.waits = t.more.sites[:0], t.more.waits[:0]
	}
	objects := 0
	for i, a := range t.submission.GetArguments() {
		if len(a.GetObjectId()) == 0 {
			continue
		}
		objects++
		id := engine.ObjectID(a.GetObjectId())
		sizeBytes, nodes, exists, err := c.find(t, id)
		switch {
		case err != nil:
			c.stopWaiting(t)
			return argumentError(t, i, id, err)
		case exists:
			t.addSites(sizeBytes, nodes)
		default:
			t.missing++
			if cap(t.rare().waits) == 0 {
				t.more.waits = make([]wait, 0, len(t.submission.GetArguments())) // Their addresses must stay.
			}
			t.more.waits = append(t.more.waits, wait{task: t})
			c.waitFor(now, &t.more.waits[len(t.more.waits)-1], id)
		}
	}
	if objects > 0 && len(c.producers) > 0 && c.waitsForItself(t) {
		c.stopWaiting(t)
		return refuse("it waits, through its arguments, for its own output")
	}
	return nil
}

// find says whether an argument exists, and where. The error is why it never will.
func (c *Core) find(t *task, id engine.ObjectID) (sizeBytes int64, nodes []engine.NodeID, exists bool, err error) {
	if producer, n, ok := id.Producer(); ok {
		if producer == t.id {
			return 0, nil, false, engine.Errorf(engine.KindInvalidArgument, "", "", "it is an output of the task itself")
		}
		if p := c.tasks[producer]; p != nil {
			sizeBytes, exists, err = p.output(n)
			if exists {
				return sizeBytes, []engine.NodeID{p.node.id}, true, nil
			}
			if err != nil || p.state != stateEnded {
				return 0, nil, false, err
			}
		}
	}
	if at, ok := c.known[id]; ok {
		return at.sizeBytes, at.nodes, true, nil
	}
	return 0, nil, false, nil
}

// output says whether a task's output exists for all that its outcome says. The error is why it never will.
func (t *task) output(n int) (sizeBytes int64, exists bool, err error) {
	name := t.template.name
	if n >= t.template.outputs {
		return 0, false, engine.Errorf(engine.KindNotFound, "", "", "task %s (%s) has %d outputs", name, t.id, t.template.outputs)
	}
	if t.more != nil && t.more.gone != nil {
		return 0, false, t.more.gone
	}
	if t.state != stateEnded {
		return 0, false, nil
	}
	if t.outcome.GetState() != enginev1.TaskState_TASK_STATE_SUCCEEDED {
		return 0, false, t.failure()
	}
	if n >= len(t.outcome.GetOutputs()) || t.outcome.GetOutputs()[n].GetSizeBytes() == 0 {
		return 0, false, engine.Errorf(engine.KindNotFound, "", "", "task %s (%s) has made no output %d", name, t.id, n+1)
	}
	suspect := t.more != nil && t.more.suspect
	return t.outcome.GetOutputs()[n].GetSizeBytes(), t.node != nil && !t.node.gone && !suspect, nil
}

// failure is the error of a task that has not succeeded, for those that wait for its outputs.
func (t *task) failure() error {
	cause := rpc.FromProto(t.outcome.GetError())
	if cause == nil {
		return engine.Errorf(engine.KindInternal, "", "", "task %s (%s) failed", t.template.name, t.id)
	}
	verb := "failed"
	if t.outcome.GetState() == enginev1.TaskState_TASK_STATE_CANCELLED {
		verb = "was cancelled"
	}
	return engine.Errorf(cause.Kind, "", "", "task %s (%s) %s: %s", t.template.name, t.id, verb, Shorten(cause.Err.Error()))
}

// Shorten keeps both ends of an error's long text: the nearest and the first cause.
func Shorten(text string) string {
	if len(text) <= maxCauseBytes {
		return text
	}
	return rpc.Text(text[:maxCauseBytes/2]) + " … " + rpc.Text(text[len(text)-maxCauseBytes/2:])
}

func argumentError(t *task, index int, id engine.ObjectID, cause error) error {
	return engine.Errorf(engine.KindOf(cause), opRun, t.id.String(), "argument %d (%s): %w", index+1, id, cause)
}

func (t *task) addSites(sizeBytes int64, nodes []engine.NodeID) {
	if sizeBytes == 0 {
		return
	}
	m := t.rare()
	for _, n := range nodes {
		if i := slices.IndexFunc(m.sites, func(s site) bool { return s.node == n }); i >= 0 {
			m.sites[i].bytes += sizeBytes
		} else {
			m.sites = append(m.sites, site{n, sizeBytes})
		}
	}
}

// waitFor puts a wait into the list of an object, and asks the directory if no task here makes it.
func (c *Core) waitFor(now time.Time, w *wait, id engine.ObjectID) {
	o := c.objects[id]
	if o == nil {
		o = &object{id: id}
		c.objects[id] = o
		producer, _, ok := id.Producer()
		if ok {
			c.producers[producer] = append(c.producers[producer], o)
		}
		if p := c.tasks[producer]; ok && p != nil && p.state != stateEnded {
			p.awaited = true
		} else {
			c.ask(o)
		}
	}
	w.object, w.prev, w.next = o, nil, o.waiters
	if o.waiters != nil {
		o.waiters.prev = w
	}
	o.waiters = w
}

// ask asks the directory for an object.
func (c *Core) ask(o *object) {
	if !o.watched {
		o.watched, o.unknown = true, false
		c.events.Wanted = append(c.events.Wanted, o.id)
	}
}

// stopWaiting ends all waits of a task.
func (c *Core) stopWaiting(t *task) {
	if t.more == nil {
		return
	}
	for i := range t.more.waits {
		w := &t.more.waits[i]
		o := w.object
		if o == nil {
			continue
		}
		if w.prev == nil {
			o.waiters = w.next
		} else {
			w.prev.next = w.next
		}
		if w.next != nil {
			w.next.prev = w.prev
		}
		*w = wait{}
		if o.waiters == nil {
			c.dropObject(o)
		}
	}
	t.more.waits = t.more.waits[:0]
	t.missing = 0
}

// dropObject forgets an object that nobody waits for.
func (c *Core) dropObject(o *object) {
	delete(c.objects, o.id)
	if producer, _, ok := o.id.Producer(); ok {
		others := slices.DeleteFunc(c.producers[producer], func(other *object) bool { return other == o })
		if len(others) == 0 {
			delete(c.producers, producer)
		} else {
			c.producers[producer] = others
		}
	}
	if o.watched {
		c.events.Unwanted = append(c.events.Unwanted, o.id)
	}
}

// takeWaits ends the waits for an object and returns the tasks that have waited, each as often as it has.
func (c *Core) takeWaits(o *object) (waited []*task) {
	for w := o.waiters; w != nil; {
		next := w.next
		waited = append(waited, w.task)
		*w = wait{}
		w = next
	}
	o.waiters = nil
	c.dropObject(o)
	slices.Reverse(waited) // The last one stood first.
	return waited
}

// exists lets those run that have waited for an object.
func (c *Core) exists(now time.Time, o *object, sizeBytes int64, nodes []engine.NodeID) {
	for _, t := range c.takeWaits(o) {
		t.addSites(sizeBytes, nodes)
		if t.missing--; t.missing == 0 {
			c.ready(now, t, false)
		}
	}
}

// never fails those that have waited for an object.
func (c *Core) never(now time.Time, o *object, cause error) {
	for _, t := range c.takeWaits(o) {
		if t.state != stateArguments { // It has waited for it twice.
			continue
		}
		index := slices.IndexFunc(t.submission.GetArguments(), func(a *enginev1.TaskArgument) bool { return string(a.GetObjectId()) == string(o.id[:]) })
		c.stopWaiting(t)
		c.finish(now, t, failed(t.id, t.id[:], argumentError(t, index, o.id, cause)), nil)
	}
}

// ready lets a task wait for a node: one that holds much of its arguments, if there is one.
func (c *Core) ready(now time.Time, t *task, front bool) {
	var prefer engine.NodeID
	if t.more != nil && len(t.more.sites) > 0 {
		most := slices.MaxFunc(t.more.sites, func(a, b site) int {
			return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(b.node, a.node))
		})
		if n := c.nodes[most.node]; most.bytes >= localBytes && n != nil && t.template.group == "" {
			prefer = most.node
		}
		t.more.sites = t.more.sites[:0]
	}
	if t.class.key.prefer != prefer {
		old := t.class
		t.class = c.classFor(now, t.template, t.session, prefer)
		c.unref(old)
	}
	c.setState(t, stateWaiting)
	c.enqueue(t, front)
}

// expectFrom says that a task is known now whose outputs others wait for: no directory knows more.
func (c *Core) expectFrom(t *task) {
	objects := c.producers[t.id]
	if len(objects) == 0 {
		return
	}
	t.awaited = true
	for _, o := range objects {
		if o.watched {
			o.watched = false
			c.events.Unwanted = append(c.events.Unwanted, o.id)
		}
		o.deadline, o.unknown = time.Time{}, false
	}
}

// tell says to those that wait for the outputs of a task that it has ended. Chains may be long, so it goes on in a loop.
func (c *Core) tell(now time.Time, t *task) {
	if !t.awaited {
		return
	}
	t.awaited = false
	c.toTell = append(c.toTell, t)
	if c.telling {
		return
	}
	c.telling = true
	for len(c.toTell) > 0 {
		t := c.toTell[len(c.toTell)-1]
		c.toTell = c.toTell[:len(c.toTell)-1]
		for _, o := range slices.Clone(c.producers[t.id]) {
			_, n, _ := o.id.Producer()
			switch sizeBytes, exists, err := t.output(n); {
			case err != nil:
				c.never(now, o, err)
			case exists:
				c.exists(now, o, sizeBytes, []engine.NodeID{t.node.id})
			default:
				c.ask(o)
			}
		}
	}
	c.telling = false
}

// waitsForItself reports whether a task waits for a task that waits for one of its outputs.
func (c *Core) waitsForItself(t *task) bool {
	if len(c.producers[t.id]) == 0 {
		return false
	}
	seen := map[*task]struct{}{}
	next := []*task{t}
	for len(next) > 0 && len(seen) < maxWalk {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		if at.more == nil {
			continue
		}
		for i := range at.more.waits {
			o := at.more.waits[i].object
			if o == nil {
				continue
			}
			producer, _, _ := o.id.Producer()
			if producer == t.id {
				return true
			}
			if p := c.tasks[producer]; p != nil {
				if _, again := seen[p]; !again {
					seen[p] = struct{}{}
					next = append(next, p)
				}
			}
		}
	}
	return false
}

// ObjectKnown says where an object is that was wanted.
func (c *Core) ObjectKnown(now time.Time, id engine.ObjectID, sizeBytes int64, nodes []engine.NodeID) {
	c.remember(id, location{sizeBytes, nodes})
	if producer, _, ok := id.Producer(); ok {
		if p := c.tasks[producer]; p != nil && p.more != nil {
			p.more.depth = 0
		}
	}
	if o := c.objects[id]; o != nil {
		o.watched = false // The directory has said what it says once.
		c.exists(now, o, sizeBytes, nodes)
		c.refill(now)
	}
}

// remember keeps where an object is. What was remembered longest ago goes.
func (c *Core) remember(id engine.ObjectID, at location) {
	if _, again := c.known[id]; !again {
		if len(c.knownOrder) < maxKnown {
			c.knownOrder = append(c.knownOrder, id)
		} else {
			delete(c.known, c.knownOrder[c.knownNext])
			c.knownOrder[c.knownNext] = id
			c.knownNext = (c.knownNext + 1) % maxKnown
		}
	}
	c.known[id] = at
}

// ObjectUnknown says that the directory does not know an object that was wanted. It may still come.
func (c *Core) ObjectUnknown(now time.Time, id engine.ObjectID) {
	o := c.objects[id]
	if o == nil || !o.watched || o.unknown {
		return
	}
	o.unknown = true
	if producer, _, ok := id.Producer(); ok && c.isRefused(o, producer) {
		return // Its client sends it again.
	}
	o.deadline = now.Add(unknownGrace)
	c.at(o.deadline, timer{object: o})
}

// isRefused reports whether an object's task was refused and will be submitted again.
func (c *Core) isRefused(o *object, producer engine.TaskUID) bool {
	for w := o.waiters; w != nil; w = w.next {
		if _, refused := w.task.session.refused[producer]; refused {
			return true
		}
	}
	return false
}

// giveUp fails those that wait for an object that nobody knows.
func (c *Core) giveUp(now time.Time, o *object) {
	if c.objects[o.id] != o || !o.unknown || o.deadline.IsZero() || now.Before(o.deadline) {
		return
	}
	if producer, _, ok := o.id.Producer(); ok {
		if p := c.tasks[producer]; p != nil {
			c.lose(now, o.id)
			return
		}
		if c.isRefused(o, producer) {
			return
		}
	}
	c.never(now, o, engine.Errorf(engine.KindNotFound, "", "", "there is no such object, and no task that makes it"))
}
