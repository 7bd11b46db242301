package dispatch

import (
	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// leaving is a lease that was taken back. Its request counts until its worker has heard of that and does not hold it any more, so that
// nothing else is granted the room before it is free; and its task is granted to nobody else, so that no two workers have a valid lease of
// one task.
type leaving struct {
	class   *class
	task    engine.TaskID
	epoch   engine.Epoch
	devices []int32
	// revokedIn is the sequence of the answer that said so; 0 if none has yet.
	revokedIn uint64
}

// takeBack takes a task from the worker that has it. The task's state is the caller's to set.
func (c *Core) takeBack(j *job, index int) {
	t := &j.tasks[index]
	w, id, k := t.worker, engine.TaskID{Job: j.ID, Index: index}, j.class
	c.revoke(w, id, t.epoch)
	if t.state == taskLeased && t.sent && !w.dead {
		devices := t.lease.devices
		w.leaving = append(w.leaving, leaving{class: k, task: id, epoch: t.epoch, devices: devices})
		w.used.Add(&k.need, devices, 1)
		w.load(k, 1)
		c.departing[id]++
		k.Running++
		if k.Leaving == nil {
			k.Leaving = map[engine.NodeID]int{}
		}
		k.Leaving[w.id]++
	}
	c.release(j, index)
}

// hearLeaving frees the room of those that have left.
func (c *Core) hearLeaving(w *worker, report *enginev1.SyncRequest, first bool) {
	if len(w.leaving) == 0 {
		return
	}
	still := w.leaving[:0]
	for _, l := range w.leaving {
		if first {
			l.revokedIn = 0 // The worker is told again if it still has it.
		}
		if l.held(report) || !first && (l.revokedIn == 0 || l.revokedIn > report.GetAcknowledgedSequence()) {
			still = append(still, l)
			continue
		}
		c.hasLeft(w, l)
	}
	clear(w.leaving[len(still):])
	w.leaving = still
}

func (l leaving) held(report *enginev1.SyncRequest) bool {
	for _, held := range report.GetHeld() {
		if taskOf(held.GetLease()) == l.task && held.GetLease().GetEpoch() == uint64(l.epoch) {
			return true
		}
	}
	return false
}

func (c *Core) hasLeft(w *worker, l leaving) {
	k := l.class
	w.used.Add(&k.need, l.devices, -1)
	w.load(k, -1)
	k.Running--
	if k.Leaving[w.id]--; k.Leaving[w.id] == 0 {
		delete(k.Leaving, w.id)
	}
	c.stale = true
	c.departed(l.task)
}

// allHaveLeft frees the room of all that were leaving a worker that is gone.
func (c *Core) allHaveLeft(w *worker) {
	for _, l := range w.leaving {
		c.hasLeft(w, l)
	}
	w.leaving = nil
}
