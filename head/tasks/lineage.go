package tasks

import (
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The bounds of computing again what is lost, for jobs' outputs, too.
const (
	// MaxReruns is how often one task is run again.
	MaxReruns = 3
	// MaxDepth is how many tasks may be run again one for another.
	MaxDepth = 100
)

// keepLineage keeps a task that has succeeded to be run again when its outputs are lost. Those that are kept longest go when there are
// too many.
func (c *Core) keepLineage(t *task) {
	t.lineage = true
	c.lineage = append(c.lineage, t)
	c.countLineage(t, 1)
	for range len(c.lineage) {
		if c.lineageCount <= c.config.MaxLineage && c.lineageBytes <= c.config.MaxLineageBytes {
			break
		}
		oldest := c.lineage[0]
		c.lineage[0] = nil
		c.lineage = c.lineage[1:]
		switch {
		case !oldest.lineage:
		case oldest.state == stateEnded:
			c.dropLineage(oldest)
		default:
			c.lineage = append(c.lineage, oldest)
		}
	}
	// What was dropped out of turn is passed over now and then, so that the list stays as short as what it is for.
	if len(c.lineage) > 2*c.lineageCount+1_000 {
		kept := c.lineage[:0]
		for _, other := range c.lineage {
			if other.lineage {
				kept = append(kept, other)
			}
		}
		clear(c.lineage[len(kept):])
		c.lineage = kept
	}
}

// countLineage adds to what is kept to be run again. A template counts once, however many tasks share it.
func (c *Core) countLineage(t *task, n int) {
	c.lineageCount += n
	c.lineageBytes += int64(n) * int64(t.bytes)
	before := t.template.lineage
	t.template.lineage += n
	switch {
	case before == 0:
		c.lineageBytes += t.template.size()
	case t.template.lineage == 0:
		c.lineageBytes -= t.template.size()
	}
}

// dropLineage says that a task is not run again.
func (c *Core) dropLineage(t *task) {
	if !t.lineage {
		return
	}
	t.lineage = false
	c.countLineage(t, -1)
	if !t.rerunning {
		t.submission = nil
	}
	c.settle(t)
}

// ObjectFreed says that nobody owns an object any more. A task without an output that somebody owns is never run again.
func (c *Core) ObjectFreed(id engine.ObjectID) {
	delete(c.known, id)
	producer, n, ok := id.Producer()
	if !ok {
		return
	}
	t := c.tasks[producer]
	if t == nil || !t.lineage || t.state != stateEnded {
		return
	}
	m := t.rare()
	if m.freed == nil {
		m.freed = map[int]struct{}{}
	}
	m.freed[n] = struct{}{}
	owned := 0
	for i, o := range t.outcome.GetOutputs() {
		if _, freed := m.freed[i]; !freed && o.GetSizeBytes() > 0 {
			owned++
		}
	}
	if owned == 0 {
		c.dropLineage(t)
	}
}

// ObjectLost says that every copy of an object is gone. It reports whether the object is made again: Events.Given names those of which
// nothing came of that.
func (c *Core) ObjectLost(now time.Time, id engine.ObjectID) (again bool) {
	again = c.lose(now, id)
	c.refill(now)
	return again
}

// ObjectNever says why an object cannot be had any more: those that wait for it fail.
func (c *Core) ObjectNever(now time.Time, id engine.ObjectID, cause error) {
	delete(c.known, id)
	if o := c.objects[id]; o != nil {
		c.never(now, o, cause)
	}
	c.refill(now)
}

// lose runs the task again that has made an object, or fails those that wait for it.
func (c *Core) lose(now time.Time, id engine.ObjectID) (again bool) {
	delete(c.known, id)
	depth := 0
	o := c.objects[id]
	if o != nil {
		o.deadline, o.unknown = time.Time{}, false
		for w := o.waiters; w != nil; w = w.next {
			if w.task.rerunning {
				depth = max(depth, w.task.more.depth+1)
			}
		}
	}
	fail := func(err error) bool {
		if o != nil {
			c.never(now, o, err)
		}
		return false
	}
	producer, _, ok := id.Producer()
	t := c.tasks[producer]
	switch {
	case !ok || t == nil:
		return fail(engine.Errorf(engine.KindUnavailable, "", "", "every copy of it is lost"))
	case t.state != stateEnded:
		return true // It is made at this moment.
	case !t.lineage && t.outcome.GetState() == enginev1.TaskState_TASK_STATE_SUCCEEDED:
		return fail(engine.Errorf(engine.KindUnavailable, "", "", "every copy of this output of task %s (%s) is lost, and the task is not kept to be run again",
			t.template.name, t.id))
	case !t.lineage:
		return fail(t.failure())
	case t.rare().reruns >= MaxReruns:
		return fail(c.abandon(t, engine.Errorf(engine.KindUnavailable, "", "",
			"every copy of this output of task %s (%s) is lost, although it was made again %d times", t.template.name, t.id, MaxReruns)))
	case depth > MaxDepth:
		return fail(engine.Errorf(engine.KindUnavailable, "", "",
			"every copy of this output of task %s (%s) is lost, and so are the arguments of %d tasks that would make it again", t.template.name, t.id, MaxDepth))
	}
	c.rerun(now, t, depth)
	return true
}

// rerun runs a task again whose outputs are lost. The client does not hear of it.
func (c *Core) rerun(now time.Time, t *task, depth int) {
	t.more.reruns++
	t.more.depth = depth
	t.more.suspect, t.more.gone = false, nil
	c.release(t.node, t.id) // The outcome is here.
	t.node = nil
	c.countState(t, -1)
	t.state, t.rerunning, t.attempts, t.sent, t.recalled, t.cancelling = stateArguments, true, 0, false, recallNot, false
	c.countState(t, 1)
	c.bytes += int64(t.bytes)
	t.class = c.classFor(now, t.template, t.session, "")
	c.expectFrom(t)
	c.prepare(now, t, true)
}

// finishRerun takes in how a task ended that was run again.
func (c *Core) finishRerun(now time.Time, t *task, outcome *enginev1.TaskOutcome, n *node) {
	c.countState(t, -1)
	t.state, t.rerunning = stateEnded, false
	c.countState(t, 1)
	c.bytes -= int64(t.bytes)
	c.leaveClass(t)
	t.more.devices, t.more.hanging = nil, false
	c.release(n, t.id)
	if outcome.GetState() == enginev1.TaskState_TASK_STATE_SUCCEEDED {
		t.node = n
	} else {
		err := rpc.FromProto(outcome.GetError())
		if err == nil {
			err = engine.Errorf(engine.KindInternal, "", "", "it failed")
		}
		kind := err.Kind
		if outcome.GetState() == enginev1.TaskState_TASK_STATE_CANCELLED {
			kind = engine.KindCanceled
		}
		_ = c.abandon(t, engine.Errorf(kind, "", "", "the outputs of task %s (%s) are lost, and it could not make them again: %s",
			t.template.name, t.id, Shorten(err.Error())))
		for i := range t.outcome.GetOutputs() {
			c.events.Given = append(c.events.Given, t.id.Output(i))
		}
	}
	c.settle(t)
	c.tell(now, t)
}

// abandon says why the outputs of a task cannot be had any more.
func (c *Core) abandon(t *task, cause error) error {
	t.rare().gone = cause
	if t.lineage {
		t.lineage = false
		c.countLineage(t, -1)
		t.submission = nil
		c.settle(t)
	}
	return cause
}
