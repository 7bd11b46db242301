package tasks

import (
	"bytes"
	"slices"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Cancel cancels tasks of any session and returns how many had not ended.
func (c *Core) Cancel(now time.Time, cancellations []*enginev1.TaskCancellation) int64 {
	n := c.cancelAll(now, c.sortedSessions(), cancellations)
	c.refill(now)
	return n
}

// cancelAll cancels tasks of any session, and those that were refused of the given ones.
func (c *Core) cancelAll(now time.Time, refusing []*session, cancellations []*enginev1.TaskCancellation) (open int64) {
	refusing = slices.DeleteFunc(refusing, func(s *session) bool { return len(s.refused) == 0 })
	for _, wire := range cancellations {
		id, err := taskID(wire.GetTaskId())
		if err != nil {
			continue
		}
		ids := []engine.TaskUID{id}
		if wire.GetChildren() {
			ids = append(ids, c.descendants(id)...)
			slices.SortFunc(ids[1:], func(a, b engine.TaskUID) int { return bytes.Compare(a[:], b[:]) })
		}
		for _, id := range ids {
			t := c.tasks[id]
			if t != nil && c.cancel(now, t, wire.GetForce()) || t == nil && c.cancelRefused(now, refusing, id) {
				open++
			}
		}
	}
	return open
}

// cancelRefused ends the waits for the outputs of a task that was refused and will not come again. It reports false if none has the id.
func (c *Core) cancelRefused(now time.Time, sessions []*session, id engine.TaskUID) (found bool) {
	for _, s := range sessions {
		if _, refused := s.refused[id]; refused {
			found = true
			delete(s.refused, id)
		}
	}
	if found {
		for _, o := range slices.Clone(c.producers[id]) {
			c.never(now, o, engine.Errorf(engine.KindCanceled, "", "", "task %s was cancelled before it was accepted", id))
		}
	}
	return found
}

var errCancelled = engine.Errorf(engine.KindCanceled, opRun, "", "it was cancelled")

// cancel cancels a task. It reports false if it had ended.
func (c *Core) cancel(now time.Time, t *task, force bool) bool {
	switch {
	case t.state == stateEnded || t.rerunning:
		return false
	case t.state == stateHeld && t.sent && !force:
		if !t.cancelling {
			t.cancelling = true
			c.revoke(t.node, &enginev1.TaskRevocation{TaskId: t.id[:], Epoch: t.epoch})
		}
	default:
		c.withdraw(now, t)
		c.finish(now, t, cancelled(t, errCancelled), nil)
	}
	return true
}

// withdraw takes a task out of wherever it is. A worker that has it forgets it.
func (c *Core) withdraw(now time.Time, t *task) {
	switch t.state {
	case stateArguments:
		c.stopWaiting(t)
	case stateWaiting:
		c.dequeue(t)
	case stateHeld:
		if !t.sent {
			c.ungrant(now, t)
			return
		}
		n := t.node
		c.unhold(now, t)
		c.fence++
		c.revoke(n, &enginev1.TaskRevocation{TaskId: t.id[:], Epoch: t.epoch, Forget: true})
	case stateDelayed, stateEnded:
	}
}
