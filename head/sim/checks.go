package sim

import (
	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// checks are the promises.
type checks struct {
	world *world
	// committed has the rows of each task that is durable.
	seen      int
	committed map[engine.TaskID]int64
}

func newChecks(w *world) *checks {
	return &checks{world: w, committed: map[engine.TaskID]int64{}}
}

// always holds after each event.
func (c *checks) always() {
	w := c.world
	for ; c.seen < len(w.disk.log); c.seen++ {
		committed := w.disk.log[c.seen].GetTaskCommitted()
		if committed == nil {
			continue
		}
		id := engine.TaskID{Job: engine.JobID(committed.GetJobId()), Index: int(committed.GetTask())}
		there := w.disk.parts[id]
		switch before, again := c.committed[id]; {
		case there == nil:
			w.fail("%s is committed, and its part is not there", id)
		case there.rows != committed.GetCounts().GetRowsWritten() && !again:
			w.fail("%s is committed with %d rows, and its part has %d", id, committed.GetCounts().GetRowsWritten(), there.rows)
		case again && before != committed.GetCounts().GetRowsWritten():
			w.fail("%s is committed with %d rows, and before with %d", id, committed.GetCounts().GetRowsWritten(), before)
		}
		c.committed[id] = committed.GetCounts().GetRowsWritten()
	}
	for id, rows := range c.committed {
		if w.disk.parts[id].rows != rows {
			w.fail("the part of %s was committed with %d rows and has %d now", id, rows, w.disk.parts[id].rows)
		}
	}
	if w.jobs == nil {
		return
	}
	for _, job := range w.jobs.jobs {
		// While faults come, an acknowledgement that is given too early may still come true.
		if job.accepted && w.disk.state.Job(string(job.id)) == nil && w.leader() != nil && (w.calm || !w.broken(AcknowledgeEarly)) {
			w.fail("%s was accepted, and is lost", job.id)
		}
	}
}

// rounding is what sums of cores may be off by.
const rounding = 1e-9

// started checks that what a worker runs fits.
func (c *checks) started(v *worker) {
	if v.running > v.cpu+rounding {
		c.world.fail("%s runs %v cores of work on %v", v.id, v.running, v.cpu)
	}
}

// publishes checks that nobody else may publish the same part at this moment.
func (c *checks) publishes(v *worker, l *lease) {
	for _, other := range c.world.workers {
		if other == v || !other.alive {
			continue
		}
		held := other.leases[l.task]
		if held != nil && other.validUntil-other.clock() > other.leaseTime/5 && other.clock() >= held.notBefore {
			c.world.fail("%s publishes %s under %x while %s holds it under %x: two valid leases", v.id, l.task, l.epoch, other.id, held.epoch)
		}
	}
}

// finally holds when all is done.
func (c *checks) finally() {
	w := c.world
	for _, job := range w.jobs.jobs {
		known := w.disk.state.Job(string(job.id))
		switch {
		case known == nil:
			w.fail("%s was accepted, and is lost", job.id)
		case known.Ended.GetState() != enginev1.JobState_JOB_STATE_SUCCEEDED:
			w.fail("%s has ended %s", job.id, known.Ended.GetState())
		case known.CommittedCount != job.tasks:
			w.fail("%s has succeeded with %d of %d tasks", job.id, known.CommittedCount, job.tasks)
		}
		w.stats.Jobs++
	}
	for id := range w.disk.parts {
		if _, ok := c.committed[id]; !ok {
			w.fail("the part of %s is there and was never committed, though its job has succeeded", id)
		}
	}
	for _, client := range w.clients {
		client.finally()
	}
}
