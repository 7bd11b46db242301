package tasks

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// setState moves a task to another state, and counts that.
func (c *Core) setState(t *task, to state) {
	if t.state == to {
		return
	}
	c.countState(t, -1)
	t.state = to
	c.countState(t, 1)
}

// countState adds a task to the counts of its queue and its name.
func (c *Core) countState(t *task, n int64) {
	t.template.summary.states[t.seen()] += n
	if t.state < stateHeld {
		t.template.queue.pending += n
	}
}

// seen is the state as people see it.
func (t *task) seen() enginev1.TaskState {
	switch t.state {
	case stateArguments:
		return enginev1.TaskState_TASK_STATE_PENDING_ARGUMENTS
	case stateDelayed, stateWaiting:
		return enginev1.TaskState_TASK_STATE_PENDING
	case stateHeld:
		return enginev1.TaskState_TASK_STATE_RUNNING
	case stateEnded:
		if state := t.outcome.GetState(); state == enginev1.TaskState_TASK_STATE_SUCCEEDED || state == enginev1.TaskState_TASK_STATE_CANCELLED {
			return state
		}
	}
	return enginev1.TaskState_TASK_STATE_FAILED
}

// finish ends a task, which is in no queue and no place any more. The outcome is kept by a node, or by nobody if that is nil.
func (c *Core) finish(now time.Time, t *task, outcome *enginev1.TaskOutcome, n *node) {
	if t.rerunning {
		c.finishRerun(now, t, outcome, n)
		return
	}
	c.countState(t, -1)
	t.state, t.outcome, t.node = stateEnded, outcome, n
	c.countState(t, 1)
	c.bytes -= int64(t.bytes)
	c.leaveClass(t)
	s := t.session
	if !t.unread {
		t.unread = true
		s.ends.pushBack(t)
		if s.cursor == nil {
			s.cursor = t
		}
		s.unreadBytes += valueBytes(outcome)
		s.full = s.full || s.isFull(&c.config)
		c.wakeSession(s)
	}
	if t.template.wire.GetRecompute() && outcome.GetState() == enginev1.TaskState_TASK_STATE_SUCCEEDED && len(outcome.GetOutputs()) > 0 {
		c.keepLineage(t)
	} else {
		t.submission = nil
	}
	if t.more != nil {
		t.more.devices, t.more.hanging = nil, false
		c.endChild(t)
	}
	c.tell(now, t)
}

// leaveClass ends a task's membership.
func (c *Core) leaveClass(t *task) {
	if t.class != nil {
		c.unref(t.class)
		t.class = nil
	}
}

// acknowledge says that the client has taken an outcome in: it and the task that it belongs to go.
func (c *Core) acknowledge(t *task) {
	s := t.session
	if s.cursor == t {
		s.cursor = t.ends.next
	}
	s.ends.remove(t)
	t.unread = false
	s.unreadBytes -= valueBytes(t.outcome)
	if s.full && !s.isFull(&c.config) {
		s.full = false
		c.touchSession(s)
	}
	if !t.rerunning {
		c.release(t.node, t.id)
	}
	t.outcome = withoutValues(t.outcome)
	c.retain(t)
	c.settle(t)
}

// withoutValues is an outcome whose outputs must be got from the store. Who has the other one may be sending it.
func withoutValues(outcome *enginev1.TaskOutcome) *enginev1.TaskOutcome {
	if valueBytes(outcome) == 0 {
		return outcome
	}
	bare := &enginev1.TaskOutcome{
		TaskId: outcome.GetTaskId(), State: outcome.GetState(), Error: outcome.GetError(), NodeId: outcome.GetNodeId(), Attempts: outcome.GetAttempts(),
		RunNanos: outcome.GetRunNanos(), StartUnixNanos: outcome.GetStartUnixNanos(), Outputs: make([]*enginev1.TaskOutput, len(outcome.GetOutputs())),
	}
	for i, o := range outcome.GetOutputs() {
		bare.Outputs[i] = &enginev1.TaskOutput{SizeBytes: o.GetSizeBytes(), Rows: o.GetRows(), Checkpoint: o.GetCheckpoint()}
	}
	return bare
}

// maxRetainedTemplate is how large the template of a task may be that is kept for people: a task keeps its template.
const maxRetainedTemplate = 8 << 10

// retain keeps a task for people, in the place of the one that was kept longest. One with a large template is not worth its memory.
func (c *Core) retain(t *task) {
	if t.retained || c.config.Retained <= 0 || len(t.template.key) > maxRetainedTemplate {
		return
	}
	t.retained = true
	if len(c.retained) < c.config.Retained {
		c.retained = append(c.retained, t)
		return
	}
	old := c.retained[c.retainedNext]
	c.retained[c.retainedNext] = t
	c.retainedNext = (c.retainedNext + 1) % len(c.retained)
	old.retained = false
	c.settle(old)
}

// settle puts a task into the list that it belongs to, or forgets it if there is none.
func (c *Core) settle(t *task) {
	var home *list
	switch {
	case t.unread || t.state != stateEnded && !t.rerunning:
		home = &t.session.tasks
	case t.lineage || t.rerunning:
		home = &t.session.kept
	case t.retained:
		home = &c.past
	}
	if home == t.home {
		return
	}
	if t.home != nil {
		t.home.remove(t)
	}
	if t.home = home; home != nil {
		home.pushBack(t)
		return
	}
	delete(c.tasks, t.id)
	c.dropTemplate(t.template)
}

// family is what is known of the descendants of a task, as long as one has not ended.
type family struct {
	parent   engine.TaskUID
	children map[engine.TaskUID]struct{}
}

// addChild makes a task known as a child of its parent.
func (c *Core) addChild(t *task) {
	f := c.families[t.more.parent]
	if f == nil {
		f = &family{children: map[engine.TaskUID]struct{}{}}
		if p := c.tasks[t.more.parent]; p != nil && p.more != nil {
			f.parent = p.more.parent
		}
		c.families[t.more.parent] = f
	}
	f.children[t.id] = struct{}{}
	if own := c.families[t.id]; own != nil { // Its children came before it.
		own.parent = t.more.parent
	}
}

// endChild forgets a task as a child, unless it has descendants that have not ended.
func (c *Core) endChild(t *task) {
	child, parent := t.id, t.more.parent
	for !parent.IsZero() {
		f := c.families[parent]
		if f == nil || c.families[child] != nil {
			return
		}
		delete(f.children, child)
		if len(f.children) > 0 {
			return
		}
		delete(c.families, parent)
		if p := c.tasks[parent]; p != nil && p.state != stateEnded && !p.rerunning {
			return
		}
		child, parent = parent, f.parent
	}
}

// descendants returns the ids of all tasks that a task has submitted, and those that they have. Not all of them are still known.
func (c *Core) descendants(id engine.TaskUID) (found []engine.TaskUID) {
	seen := map[engine.TaskUID]struct{}{id: {}}
	next := []engine.TaskUID{id}
	for len(next) > 0 {
		f := c.families[next[len(next)-1]]
		next = next[:len(next)-1]
		if f == nil {
			continue
		}
		for child := range f.children {
			if _, again := seen[child]; !again {
				seen[child] = struct{}{}
				found = append(found, child)
				next = append(next, child)
			}
		}
	}
	return found
}
