package dispatch

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Rerun is how a task has ended that was committed and ran again because its output is lost. Nothing of it is durable: for all others the
// task stays committed.
type Rerun struct {
	Task engine.TaskID
	// Counts are those of the attempt that made the output again.
	Counts *enginev1.TaskCounts
	// Err is why it did not, or nil.
	Err error
}

// ErrRemoved is the error of a rerun whose job was taken away, or added anew: it may begin again.
var ErrRemoved = engine.Errorf(engine.KindUnavailable, "run task again", "", "its job has ended, or begun again, meanwhile")

// Rerun runs a task again that is committed. Of a job that is not here, added.Done is not asked: all its tasks count as committed, and it
// stays for as long as some run again. An event tells of the end; of a task that runs again already there is one event.
func (c *Core) Rerun(now time.Time, added Job, index int) {
	c.clock = now
	id := engine.TaskID{Job: added.ID, Index: index}
	j := c.jobs[added.ID]
	if j == nil {
		added.Done = func(int) bool { return true }
		j = c.add(now, added)
		j.ended, j.finished, j.reruns, j.started = true, true, true, true
	}
	t := &j.tasks[index]
	switch {
	case t.again:
		return
	case t.state != taskDone, j.failed > 0, j.ended && j.done+j.again < len(j.tasks):
		c.events.Reruns = append(c.events.Reruns, Rerun{Task: id, Err: engine.Errorf(engine.KindUnavailable, "run task again", id.String(),
			"it is to be run, or its job is about to end")})
		return
	}
	c.lastEpoch++
	t.again, t.attempts, t.epoch = true, 0, c.lastEpoch // No lease of an earlier attempt is adopted.
	j.done--
	j.again++
	j.ended = false
	c.enqueue(j, index, time.Time{})
	c.schedule(now)
}

// CancelRerun ends a task's running again, with an error for its event.
func (c *Core) CancelRerun(now time.Time, id engine.TaskID, err error) {
	j, t := c.find(id)
	if t == nil || !t.again {
		return
	}
	c.clock = now
	c.stopRerun(j, id.Index, err)
	c.schedule(now)
}

func (c *Core) stopRerun(j *job, index int, err error) {
	if j.tasks[index].worker != nil {
		c.takeBack(j, index)
	} else {
		c.dequeue(j, index)
	}
	c.endRerun(j, index, Rerun{Err: err})
}

// failReruns ends all reruns of a job.
func (c *Core) failReruns(j *job, err error) {
	for i := range j.tasks {
		if j.tasks[i].again {
			c.stopRerun(j, i, err)
		}
	}
}

// endRerun makes a task a committed one again, which nobody holds and which is in no queue. A job that was here for such tasks alone goes
// with the last.
func (c *Core) endRerun(j *job, index int, end Rerun) {
	end.Task = engine.TaskID{Job: j.ID, Index: index}
	c.events.Reruns = append(c.events.Reruns, end)
	t := &j.tasks[index]
	t.state, t.again = taskDone, false
	j.done++
	j.again--
	switch {
	case j.again > 0:
	case j.reruns:
		c.removeJob(j)
	case j.done == len(j.tasks) && !j.ended:
		c.finish(j)
	}
}

// Rerun runs a task again that is committed; see Core.Rerun.
func (d *Dispatcher) Rerun(job Job, index int) {
	d.do(func(core *Core, now time.Time) { core.Rerun(now, job, index) })
}

// CancelRerun ends a task's running again; see Core.CancelRerun.
func (d *Dispatcher) CancelRerun(id engine.TaskID, err error) {
	d.do(func(core *Core, now time.Time) { core.CancelRerun(now, id, err) })
}
