package dispatch

import (
	"cmp"
	"maps"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// ListTasks returns at most limit tasks that match, of the queues for which granted is true, those of clients first, the newest first, then those of jobs, of the newest job
// first and in order of their index, and how many there are. A job's tasks are there while the job has tasks to run.
func (c *Core) ListTasks(filter *enginev1.ListTasksRequest, granted func(queue string) bool, limit int) (found []*enginev1.Task, total int64) {
	if filter.GetJobId() == "" {
		found, total = c.tasks.List(filter, granted, limit)
	}
	jobs := slices.SortedFunc(maps.Values(c.jobs), func(a, b *job) int { return cmp.Compare(b.order, a.order) })
	for _, j := range jobs {
		name := jobName(j)
		if !granted(j.class.Queue) {
			continue
		}
		if filter.GetJobId() != "" && filter.GetJobId() != string(j.ID) || filter.GetName() != "" && filter.GetName() != name {
			continue
		}
		reason := c.reason(j)
		for i := range j.tasks {
			t := &j.tasks[i]
			state := stateOf(t)
			if len(filter.GetStates()) > 0 && !slices.Contains(filter.GetStates(), state) ||
				filter.GetNodeId() != "" && (t.worker == nil || filter.GetNodeId() != string(t.worker.id)) {
				continue
			}
			if total++; len(found) >= limit {
				continue
			}
			wire := &enginev1.Task{
				Name: name, State: state, Queue: j.class.Queue, Resources: rpc.ResourcesToProto(j.Request), Attempts: t.attempts, JobId: string(j.ID),
				Index: int32(i), Hanging: c.quiet(t) > 0, //nolint:gosec // A plan has fewer tasks.
			}
			if t.worker != nil {
				wire.NodeId = string(t.worker.id)
			}
			if state == enginev1.TaskState_TASK_STATE_PENDING {
				wire.Reason = reason
			}
			found = append(found, wire)
		}
	}
	return found, total
}

func stateOf(t *task) enginev1.TaskState {
	switch t.state {
	case taskLeased, taskCommitting:
		return enginev1.TaskState_TASK_STATE_RUNNING
	case taskDone:
		return enginev1.TaskState_TASK_STATE_SUCCEEDED
	case taskWaiting:
		fallthrough
	default:
		return enginev1.TaskState_TASK_STATE_PENDING
	}
}

// jobName is how a job is called: by its name if it has one.
func jobName(j *job) string { return cmp.Or(j.Spec.GetName(), string(j.ID)) }

// tally counts the tasks of jobs of one name that have ended.
type tally struct {
	succeeded, failed, cancelled, lost int64
	// nanos sums the time of those that succeeded.
	nanos int64
}

// maxTallies bounds the names that are counted; further ones are counted together.
const maxTallies = 1_000

// tallyOf returns the counts for a job's name.
func (c *Core) tallyOf(j *job) *tally {
	name := jobName(j)
	t := c.tallies[name]
	if t == nil && len(c.tallies) >= maxTallies {
		name = "others"
		t = c.tallies[name]
	}
	if t == nil {
		t = &tally{}
		c.tallies[name] = t
	}
	return t
}

// Summaries counts the tasks of clients and of jobs by name, in order of the names.
func (c *Core) Summaries() []*enginev1.TaskSummary {
	byName := map[string]*enginev1.TaskSummary{}
	summary := func(name string) *enginev1.TaskSummary {
		s := byName[name]
		if s == nil {
			s = &enginev1.TaskSummary{Name: name, States: map[string]int64{}}
			byName[name] = s
		}
		return s
	}
	add := func(s *enginev1.TaskSummary, state engine.TaskState, n int64) {
		if n > 0 {
			s.States[string(state)] += n
		}
	}
	for name, t := range c.tallies {
		s := summary(name)
		add(s, engine.TaskSucceeded, t.succeeded)
		add(s, engine.TaskFailed, t.failed)
		add(s, engine.TaskCancelled, t.cancelled)
		s.AttemptsLost = t.lost
		if t.succeeded > 0 {
			s.MeanRunNanos = t.nanos / t.succeeded
		}
	}
	for _, j := range c.jobs {
		s := summary(jobName(j))
		add(s, engine.TaskPending, int64(len(j.queue)+j.delayed))
		add(s, engine.TaskRunning, int64(len(j.tasks)-j.done-len(j.queue)-j.delayed))
		if reason := c.reason(j); reason != "" {
			s.Reason = reason
		}
	}
	found := append(c.tasks.Summaries(), slices.Collect(maps.Values(byName))...)
	slices.SortStableFunc(found, func(a, b *enginev1.TaskSummary) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return found
}
