package dispatch

import (
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
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
}

// Job returns the view of a job, or false if it has no tasks to run.
func (c *Core) Job(id engine.JobID) (JobView, bool) {
	j := c.jobs[id]
	if j == nil {
		return JobView{}, false
	}
	view := JobView{Reason: j.reason, Running: int64(j.running), Waiting: int64(len(j.queue)), Lost: j.lost, Live: &enginev1.TaskCounts{}}
	if j.running == 0 && len(j.queue) == 0 {
		return view, true
	}
	for i := range j.tasks {
		if t := &j.tasks[i]; t.state == taskLeased || t.state == taskCommitting {
			AddCounts(view.Live, t.counts)
		}
	}
	return view, true
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
}

// Nodes returns the nodes in order of their ids.
func (c *Core) Nodes() []NodeView {
	views := make([]NodeView, 0, len(c.workers))
	for _, id := range slices.Sorted(maps.Keys(c.workers)) {
		w := c.workers[id]
		view := NodeView{
			ID: id, Hello: w.hello, State: enginev1.NodeState_NODE_STATE_ALIVE, Total: w.total, Used: c.used(w),
			Running: len(w.leases), Joined: w.joined, Reported: w.reported,
		}
		switch {
		case w.dead:
			view.State = enginev1.NodeState_NODE_STATE_DEAD
		case w.draining:
			view.State = enginev1.NodeState_NODE_STATE_DRAINING
		}
		views = append(views, view)
	}
	return views
}

// Tasks returns how many tasks wait for a worker and how many workers hold.
func (c *Core) Tasks() (waiting, running int64) {
	for _, j := range c.jobs {
		waiting += int64(len(j.queue))
		running += int64(j.running)
	}
	return waiting, running
}
