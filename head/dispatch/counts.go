package dispatch

import (
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/head/timeline"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Counts are what a dispatcher has done since it was made, and what it holds now.
type Counts struct {
	// Passes are decisions of the scheduler, Placements the tasks that they placed, Preemptions the places that they took back.
	Passes, Placements, Preemptions uint64
	// LeasesGranted, LeasesLost, and LeasesFenced are those of jobs' tasks: given, ended otherwise than by a result, and results and renewals
	// refused because the lease had passed on.
	LeasesGranted, LeasesLost, LeasesFenced uint64
	// Pass is how long the steps with a decision took.
	Pass telemetry.Durations
	// Jobs have tasks to run, WaitingJobs no running one among them. JobBytes is about the memory that these all take, WaitingJobBytes that
	// of those that wait.
	Jobs, WaitingJobs         int64
	JobBytes, WaitingJobBytes int64
	// Tasks is what holds for those of clients.
	Tasks tasks.Counts
	// States counts the tasks of jobs and of clients by state since the start, those that run and wait included.
	States map[enginev1.TaskState]int64
	// WorkerStreams and ClientStreams are open.
	WorkerStreams, ClientStreams int64
}

// jobOverhead is about what a job takes in the dispatcher beside its plan and its tasks.
const jobOverhead = 1024

// memoryBytes is about what a job takes.
func (j *job) memoryBytes() int64 {
	return int64(proto.Size(j.Plan)+proto.Size(j.Spec)) + int64(len(j.tasks))*int64(unsafe.Sizeof(task{})) + jobOverhead
}

// trace tells of a job's task that is committed, if it belongs to a trace.
func (c *Core) trace(now time.Time, j *job, index int) {
	if j.TraceParent == "" {
		return
	}
	t := &j.tasks[index]
	c.events.Attempts = append(c.events.Attempts, tasks.Attempt{
		Parent: j.TraceParent, Name: jobName(j), Job: j.ID, Index: index, Node: t.worker.id, Number: int(t.attempts),
		Queued: j.added, Granted: t.lease.granted, Ended: t.lease.ended, Committed: now,
	})
}

// Counts returns what the core knows; the shell adds what it does.
func (c *Core) Counts() Counts {
	counts := c.counts
	counts.Tasks = c.tasks.Counts()
	counts.States = map[enginev1.TaskState]int64{}
	for state, n := range counts.Tasks.States {
		if enginev1.TaskState(state) == enginev1.TaskState_TASK_STATE_UNSPECIFIED { //nolint:gosec // There are few states.
			continue // The array has room for it, and no task is in it.
		}
		counts.States[enginev1.TaskState(state)] += n //nolint:gosec // There are few states.
	}
	for _, t := range c.tallies {
		counts.States[enginev1.TaskState_TASK_STATE_SUCCEEDED] += t.succeeded
		counts.States[enginev1.TaskState_TASK_STATE_FAILED] += t.failed
		counts.States[enginev1.TaskState_TASK_STATE_CANCELLED] += t.cancelled
	}
	for _, j := range c.jobs {
		counts.Jobs++
		counts.JobBytes += j.bytes
		waiting := int64(len(j.queue) + j.delayed)
		if j.running == 0 && waiting > 0 {
			counts.WaitingJobs++
			counts.WaitingJobBytes += j.bytes
		}
		counts.States[enginev1.TaskState_TASK_STATE_PENDING] += waiting
		counts.States[enginev1.TaskState_TASK_STATE_RUNNING] += int64(len(j.tasks)-j.done) - waiting // Those included whose results are to become durable.
	}
	return counts
}

// Counts returns what the dispatcher has done and holds.
func (d *Dispatcher) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := d.core.Counts()
	counts.Pass = d.passes
	counts.WorkerStreams, counts.ClientStreams = int64(len(d.wakes)), int64(len(d.streams))
	return counts
}

// Timeline returns the latest attempts that have ended, of a job, or of everything if it is empty.
func (d *Dispatcher) Timeline(job engine.JobID) []timeline.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.config.Tasks.Timeline.Events(job)
}
