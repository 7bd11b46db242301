package dispatch

import (
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// JobView is what the core knows of a running job beyond its durable state.
type JobView struct {
	// Reason is why tasks wait, in words; empty if none does.
	Reason string
	// Running counts leased tasks, Waiting those that no worker holds.
	Running, Waiting int64
	// Lost counts attempts that were lost.
	Lost int64
	// Live sums what the attempts that run now have done.
	Live *enginev1.TaskCounts
	// Hanging are the tasks whose attempts have done nothing for too long, in order of their index.
	Hanging []HangingTask
}

// HangingTask is a job's task that does not get on.
type HangingTask struct {
	Index int
	Node  engine.NodeID
	// Quiet is for how long.
	Quiet time.Duration
}

// Job returns the view of a job, or false if it has no tasks to run.
func (c *Core) Job(id engine.JobID) (JobView, bool) {
	j := c.jobs[id]
	if j == nil {
		return JobView{}, false
	}
	waiting := len(j.queue) + j.delayed
	view := JobView{Reason: c.reason(j), Running: int64(j.running), Waiting: int64(waiting), Lost: j.lost, Live: &enginev1.TaskCounts{}}
	if j.running == 0 && waiting == 0 {
		return view, true
	}
	for i := range j.tasks {
		t := &j.tasks[i]
		if t.lease == nil {
			continue
		}
		AddCounts(view.Live, t.lease.counts)
		if quiet := c.quiet(t); quiet > 0 {
			view.Hanging = append(view.Hanging, HangingTask{Index: i, Node: t.worker.id, Quiet: quiet})
		}
	}
	return view, true
}

// quiet is for how long a task has done nothing; zero if that is not too long.
func (c *Core) quiet(t *task) time.Duration {
	if t.state != taskLeased || t.lease.progressed.IsZero() {
		return 0
	}
	if quiet := c.clock.Sub(t.lease.progressed); quiet > c.config.HangAfter {
		return quiet
	}
	return 0
}

// reason is why the tasks of a job wait. Of a job that runs it is no news that some of its tasks wait.
func (c *Core) reason(j *job) string {
	switch {
	case j.running > 0 || j.ended:
		return ""
	case j.held:
		return "waiting for workers that may still have its tasks"
	case len(j.queue) > 0 && len(c.stalled) > 0:
		return "waiting for the head's log, which takes no results"
	case len(j.queue) > 0:
		return j.class.reason
	case j.delayed > 0:
		return "an attempt was lost; another one begins after a pause"
	default:
		return ""
	}
}

// sameCounts reports whether an attempt has done nothing between two reports.
func sameCounts(a, b *enginev1.TaskCounts) bool {
	return a.GetRowsRead() == b.GetRowsRead() && a.GetRowsWritten() == b.GetRowsWritten() && a.GetRowsRejected() == b.GetRowsRejected() &&
		a.GetBytesRead() == b.GetBytesRead() && a.GetBytesWritten() == b.GetBytesWritten() && a.GetBatches() == b.GetBatches() &&
		a.GetTextsTruncated() == b.GetTextsTruncated() && a.GetRowsFiltered() == b.GetRowsFiltered() &&
		a.GetRowsProcessed() == b.GetRowsProcessed()
}

// AddCounts adds b, which may be nil, to sum.
func AddCounts(sum, b *enginev1.TaskCounts) {
	sum.RowsRead += b.GetRowsRead()
	sum.RowsWritten += b.GetRowsWritten()
	sum.RowsRejected += b.GetRowsRejected()
	sum.BytesRead += b.GetBytesRead()
	sum.BytesWritten += b.GetBytesWritten()
	sum.Batches += b.GetBatches()
	sum.TextsTruncated += b.GetTextsTruncated()
	sum.RowsFiltered += b.GetRowsFiltered()
	sum.RowsProcessed += b.GetRowsProcessed()
}

// NodeView is what the core knows of a node.
type NodeView struct {
	ID       engine.NodeID
	Hello    *enginev1.WorkerHello
	State    enginev1.NodeState
	Total    engine.Resources
	Used     engine.Resources
	Running  int
	Joined   time.Time
	Reported time.Time
	// ResidentBytes is the memory that its process last said to hold.
	ResidentBytes int64
	// Suspect says that the node seems to be gone; see Core.Suspect.
	Suspect bool
}

// Nodes returns the nodes in order of their ids.
func (c *Core) Nodes() []NodeView {
	views := make([]NodeView, 0, len(c.workers))
	for _, id := range slices.Sorted(maps.Keys(c.workers)) {
		w := c.workers[id]
		used := scheduler.Node{ID: id, Total: w.total}
		c.occupy(w, &used)
		view := NodeView{
			ID: id, Hello: w.hello, State: enginev1.NodeState_NODE_STATE_ALIVE, Total: w.total, Used: used.Used,
			Running: len(w.leases) + c.tasks.Running(id), Joined: w.joined, Reported: w.reported, ResidentBytes: w.residentBytes,
			Suspect: w.suspect,
		}
		switch {
		case w.dead:
			view.State = enginev1.NodeState_NODE_STATE_DEAD
		case w.draining, c.drains[id] != nil:
			view.State = enginev1.NodeState_NODE_STATE_DRAINING
		}
		views = append(views, view)
	}
	return views
}

// Tasks returns how many tasks wait for a worker and how many workers hold.
func (c *Core) Tasks() (waiting, running int64) {
	for _, j := range c.jobs {
		waiting += int64(len(j.queue) + j.delayed)
		running += int64(j.running)
	}
	for _, use := range c.tasks.Queues() {
		waiting += use.Pending
		running += use.Running
	}
	return waiting, running
}
