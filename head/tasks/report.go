package tasks

import (
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/timeline"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The pause before a task is tried again doubles from the first to the last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Report takes in a later report of a worker's stream. Its outcomes belong to the core from then on.
func (c *Core) Report(now time.Time, id engine.NodeID, report *enginev1.SyncRequest) {
	n := c.nodes[id]
	if n == nil {
		return
	}
	for _, outcome := range report.GetOutcomes() {
		c.takeOutcome(now, n, outcome)
	}
	for _, held := range report.GetHeldTasks() {
		if t := c.taskOf(held.GetTaskId()); t != nil && t.state == stateHeld && t.node == n && t.epoch == held.GetEpoch() {
			c.takeProgress(now, t, held)
		}
	}
	c.refill(now)
}

// taskOf returns the task of a wire id; nil if there is none.
func (c *Core) taskOf(wire []byte) *task {
	if len(wire) != len(engine.TaskUID{}) {
		return nil
	}
	return c.tasks[engine.TaskUID(wire)]
}

// takeProgress takes in what a task says of itself.
func (c *Core) takeProgress(now time.Time, t *task, held *enginev1.HeldTask) {
	m := t.rare()
	if run := held.GetRunNanos(); run > 0 {
		m.began = now.Add(-time.Duration(run))
	}
	m.quiet, m.done, m.total = time.Duration(held.GetQuietNanos()), held.GetDone(), held.GetTotal()
	m.progress = m.progress || held.GetQuietNanos() > 0
	hung := m.progress && m.quiet >= t.template.hangAfter
	if hung && !m.hanging {
		c.events.Hanging = append(c.events.Hanging, t.id)
	}
	m.hanging = hung
}

// takeOutcome takes in how an attempt ended. One under another lease than the present one is refused: the worker forgets it.
func (c *Core) takeOutcome(now time.Time, n *node, outcome *enginev1.TaskOutcome) {
	if len(outcome.GetTaskId()) != len(engine.TaskUID{}) {
		return
	}
	id := engine.TaskUID(outcome.GetTaskId())
	t := c.tasks[id]
	epoch := outcome.GetEpoch()
	switch {
	case t == nil:
		if o := c.orphans[id]; o != nil && o.node == n {
			c.orphanEnded(o, outcome)
			return
		}
		c.release(n, id)
	case t.state == stateHeld && t.node == n:
		switch {
		case t.epoch == epoch:
			c.unhold(now, t)
			c.attemptEnded(now, t, outcome, n)
		case epoch < t.epoch && !t.sent && isSuccess(outcome): // The grant has not gone out, and need not.
			c.ungrant(now, t)
			t.epoch = epoch
			c.attemptEnded(now, t, outcome, n)
		}
	case t.state < stateHeld && epoch >= t.epoch && (isSuccess(outcome) || t.epoch == 0):
		// Its lease was taken back, or is of the head before, and nobody else has got one since.
		c.withdraw(now, t)
		t.epoch = epoch
		c.attemptEnded(now, t, outcome, n)
	case t.state == stateEnded && t.epoch == epoch && (t.node == n || t.node == nil || t.node.id == n.id) && t.unread:
		t.node = n // It is kept there until the client has acknowledged it.
	default:
		c.release(n, id)
	}
}

func isSuccess(outcome *enginev1.TaskOutcome) bool {
	return outcome.GetState() == enginev1.TaskState_TASK_STATE_SUCCEEDED
}

// attemptEnded takes in how an attempt ended under the task's present lease. The task is in no queue and no place any more.
func (c *Core) attemptEnded(now time.Time, t *task, outcome *enginev1.TaskOutcome, n *node) {
	outcome.Epoch, outcome.Attempts = 0, int32(t.attempts)
	c.trace(now, t, outcome, n)
	if run := outcome.GetRunNanos(); run > 0 {
		t.template.took(float64(run), isSuccess(outcome))
	}
	if begin := outcome.GetStartUnixNanos(); begin > 0 {
		c.config.Timeline.Add(timeline.Event{
			Name: t.template.name, Node: n.id, ID: t.id, State: rpc.TaskStateFromProto(outcome.GetState()), Attempt: int(t.attempts),
			Begin: time.Unix(0, begin), Took: time.Duration(outcome.GetRunNanos()),
		})
	}
	switch outcome.GetState() {
	case enginev1.TaskState_TASK_STATE_SUCCEEDED:
		c.finish(now, t, outcome, n)
	case enginev1.TaskState_TASK_STATE_CANCELLED:
		switch {
		case t.cancelling:
			c.finish(now, t, outcome, n)
		case t.recalled != recallNot:
			t.attempts--
			c.fence++
			c.release(n, t.id)
			c.requeue(now, t)
		default:
			c.release(n, t.id)
			c.attemptLost(now, t, engine.Errorf(engine.KindUnavailable, opRun, t.id.String(), "node %s gave it back", n.id), n, false)
		}
	default:
		c.attemptFailed(now, t, outcome, n)
	}
}

// took adds to the mean.
func (t *template) took(nanos float64, success bool) {
	if t.mean == 0 {
		t.mean = nanos
	} else {
		t.mean += (nanos - t.mean) / meanWeight
	}
	if success {
		t.summary.succeeded++
		t.summary.runNanos += nanos
	}
}

// attemptFailed tries again what may succeed then, and ends the task otherwise.
func (c *Core) attemptFailed(now time.Time, t *task, outcome *enginev1.TaskOutcome, n *node) {
	err := rpc.FromProto(outcome.GetError())
	if err == nil {
		err = engine.Errorf(engine.KindInternal, opRun, t.id.String(), "node %s says that it failed, and not why", n.id)
		outcome.Error = rpc.ToProto(err)
	}
	outcome.State = enginev1.TaskState_TASK_STATE_FAILED
	timedOut := err.Kind == engine.KindDeadline && t.template.timeout > 0 && outcome.GetRunNanos() >= int64(t.template.timeout)
	if !err.Kind.Retryable() || timedOut || t.cancelling {
		c.finish(now, t, outcome, n)
		return
	}
	if err.Op == rpc.OpGetArgument && err.Kind == engine.KindUnavailable {
		c.suspect(err.ID)
	}
	c.release(n, t.id)
	c.attemptLost(now, t, err, n, n.cordoned && err.Kind == engine.KindUnavailable)
}

// suspect says that an object could not be had, wherever it is said to be.
func (c *Core) suspect(text string) {
	id, err := engine.ParseObjectID(text)
	if err != nil {
		return
	}
	delete(c.known, id)
	if producer, _, ok := id.Producer(); ok {
		if p := c.tasks[producer]; p != nil {
			p.rare().suspect = true
		}
	}
}

// attemptLost lets a task wait for its next attempt, or fails it after the last one. One that is free costs no attempt.
func (c *Core) attemptLost(now time.Time, t *task, cause error, n *node, free bool) {
	c.fence++
	t.template.summary.lost++
	attempts := int(t.attempts)
	if free && attempts > 0 {
		t.attempts--
	}
	t.node, t.sent, t.recalled = nil, false, recallNot
	switch {
	case t.cancelling:
		c.finish(now, t, cancelled(t, errCancelled), nil)
	case int(t.attempts) >= t.template.maxAttempts:
		err := cause
		if t.template.maxAttempts > 1 {
			err = engine.WrapError(opRun, t.id.String(), engine.WrapError("", "", engine.Errorf(engine.KindOf(cause), "", "", "attempt %d of %d: %w",
				t.attempts, t.template.maxAttempts, cause)))
		}
		outcome := failed(t.id, t.id[:], err)
		outcome.NodeId, outcome.Attempts = string(n.id), int32(t.attempts)
		c.finish(now, t, outcome, nil)
	case t.epoch>>32 < c.config.Term && now.Before(c.settled):
		c.delay(t, c.settled) // Another worker may have it under a later lease of the head before.
	case free:
		c.prepare(now, t, true)
	default:
		c.delay(t, now.Add(min(lastPause, firstPause<<min(16, max(0, attempts-1)))))
	}
}

// Leave takes everything back from a worker that is lost or has stopped. What one gives back gracefully costs no attempt.
func (c *Core) Leave(now time.Time, id engine.NodeID, graceful bool) {
	n := c.nodes[id]
	if n == nil {
		return
	}
	c.Disconnect(id)
	n.gone = true
	delete(c.nodes, id)
	c.setOperators(n, nil)
	for _, o := range c.orphansOf(func(o *orphan) bool { return o.node == n }) {
		delete(c.orphans, o.id)
	}
	why := "the worker was lost: no report within its lease time"
	if graceful {
		why = "the worker stopped"
	}
	for _, t := range slices.Backward(n.held()) { // So that each goes in front of the one before.
		sent := t.sent
		c.unhold(now, t)
		if sent {
			c.attemptLost(now, t, engine.Errorf(engine.KindUnavailable, opRun, t.id.String(), "node %s: %s", n.id, why), n, graceful)
			continue
		}
		t.attempts--
		c.fence++
		c.requeue(now, t)
	}
	c.refill(now)
	for _, p := range n.sortedPlaces() {
		c.addSlots(p, nil, -p.slots)
		c.dropPlace(p)
	}
	c.unplaceGroups(now, n)
	c.refill(now)
}
