// Package dispatch decides which worker holds which task. Core is a state machine: reports and ticks go in with the time, answers
// and events come out; it has no clock, no goroutine, and does no I/O. Dispatcher is the thin shell around it.
package dispatch

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config holds what does not change while a head runs.
type Config struct {
	// ClusterID and Term identify this head's run; both come from the durable state. Required.
	ClusterID string
	Term      uint64
	// LeaseTime is how long a lease lasts after the report that renews it. Zero means 5 s.
	LeaseTime time.Duration
	// ReportInterval is how often workers report at least. Zero means a tenth of LeaseTime.
	ReportInterval time.Duration
	// RetryBackoff is the pause before the second attempt at a task; it doubles up to 30 s. Zero means 200 ms.
	RetryBackoff time.Duration
	// FailInfeasible makes a job fail whose request no node could ever meet, for a head whose nodes are all there.
	FailInfeasible bool
	// Full reports whether objects wait for room in a node's object store: it then gets no tasks whose output is objects. It must not call
	// the dispatcher. Nil means that no store is full.
	Full func(engine.NodeID) bool
}

func (c Config) withDefaults() Config {
	if c.LeaseTime == 0 {
		c.LeaseTime = 5 * time.Second
	}
	if c.ReportInterval == 0 {
		c.ReportInterval = c.LeaseTime / 10
	}
	if c.RetryBackoff == 0 {
		c.RetryBackoff = 200 * time.Millisecond
	}
	return c
}

const (
	maxBackoff = 30 * time.Second
	// deadNodeMemory is how long a node that is gone is still listed.
	deadNodeMemory = time.Hour
	// overdueAfter is how long a job may have waiting tasks and none running before the scheduler keeps room for it.
	overdueAfter = 30 * time.Second
	// commitRetry is the pause after the durable log refused a result.
	commitRetry = 5 * time.Second
)

// Run is one run of a job: it has another one after each resumption.
type Run struct {
	Job engine.JobID
	// Number counts the runs; events carry it, so that a late one is not taken for one of the next run.
	Number int32
}

// Job is what the core needs to know of a job to run it.
type Job struct {
	ID engine.JobID
	// Run is the number that events of this run carry.
	Run  int32
	Spec *enginev1.JobSpec
	Plan *enginev1.Plan
	// Request is what one task needs.
	Request engine.Resources
	// MaxAttempts bounds the attempts at one task.
	MaxAttempts int
	// Done reports which tasks are committed already. Nil means none.
	Done func(task int) bool
	// AssignAfter is the time before which no task is granted, because a worker may still hold it under a lease of an earlier term.
	// Workers that do are adopted at once.
	AssignAfter time.Time
}

type taskState uint8

// waiting → leased → committing → done
//
//	^─────────┴──────────┘
const (
	taskWaiting taskState = iota
	taskLeased
	taskCommitting
	taskDone
)

// task is one task of an active job.
type task struct {
	state taskState
	// epoch is that of the last lease granted or adopted; 0 if none was in this term.
	epoch engine.Epoch
	// worker holds the lease; set only while leased or committing.
	worker *worker
	// attempts counts leases that were granted.
	attempts int32
	// notBefore is when the next attempt may begin.
	notBefore time.Time
	// devices are the GPUs of the lease; set only while leased.
	devices []int32
	// counts is what the attempt has done; set only while leased or committing.
	counts *enginev1.TaskCounts
	// sent says that the worker knows of the lease: it was told, or has reported it.
	sent bool
	// grantedIn is the sequence of the answer that carried the grant; 0 once the worker has reported the lease.
	grantedIn uint64
	// result is what waits for its commit; set only while committing.
	result *enginev1.TaskResult
}

// job is a job while it has tasks to run.
type job struct {
	Job
	order int64
	tasks []task
	// queue holds the waiting tasks in order of their index.
	queue []int
	// delayedUntil is when the last of them may begin.
	delayedUntil time.Time
	running      int
	done         int
	lost         int64
	started      bool
	ended        bool
	reason       string
	// lastPlaced orders jobs by their last grant, or their arrival.
	lastPlaced int64
	// idleSince is since when tasks have waited and none has run; zero while that is not so.
	idleSince time.Time
}

func (j *job) runID() Run { return Run{Job: j.ID, Number: j.Run} }

// worker is a node that has joined in this term.
type worker struct {
	id       engine.NodeID
	hello    *enginev1.WorkerHello
	total    engine.Resources
	joined   time.Time
	reported time.Time
	// session counts the streams of this worker; 0 while none is open.
	session  uint64
	dead     bool
	draining bool
	leases   map[engine.TaskID]struct{}

	// What the next answer carries, and what this session has heard already.
	welcomed     bool
	sequence     uint64
	acknowledged uint64
	logSequence  uint64
	knows        map[engine.JobID]struct{}
	grants       []engine.TaskID
	revocations  []*enginev1.LeaseRef
	settled      []*enginev1.LeaseRef
	endedJobs    []string
	dirty        bool
}

// Core is the state machine. It is not safe for concurrent use.
type Core struct {
	config   Config
	jobs     map[engine.JobID]*job
	workers  map[engine.NodeID]*worker
	sessions uint64
	orders   int64 // Counts arrivals and placements.
	stalled  []stalledCommit
	// stale says that a pass of the scheduler might grant something. nextPass is the time before which none is made, because
	// many jobs make it dear; lookAt is when one is due even if nothing happens: a pause ends, or reasons should be renewed.
	stale     bool
	nextPass  time.Time
	lookAt    time.Time
	lastEpoch engine.Epoch
	events    Events
}

// Events is what the shell must act on.
type Events struct {
	// Commits are results to make durable; Core.Committed or Core.CommitFailed answers each.
	Commits []Commit
	// Started are jobs whose first task was just leased.
	Started []engine.JobID
	// Finished are jobs whose tasks are all committed.
	Finished []Run
	// Failed are jobs that cannot go on. The core runs nothing more of them and waits for RemoveJob.
	Failed []Failure
	// Lines are for the jobs' logs.
	Lines []Line
	// Wake are the workers for which there is an answer.
	Wake []engine.NodeID
}

// Commit is a result that must become durable.
type Commit struct {
	Task      engine.TaskID
	Epoch     engine.Epoch
	Committed *enginev1.TaskCommitted
}

// Failure is why a job ends.
type Failure struct {
	Run Run
	Err error
}

// Line is something that people who follow a job should know.
type Line struct {
	Job        engine.JobID
	Level      string
	Message    string
	Attributes map[string]string
}

// NewCore makes a core without jobs and workers.
func NewCore(config Config) *Core {
	config = config.withDefaults()
	return &Core{
		config:    config,
		jobs:      map[engine.JobID]*job{},
		workers:   map[engine.NodeID]*worker{},
		lastEpoch: engine.Epoch(config.Term << 32),
	}
}

// Take returns the events since the last call.
func (c *Core) Take() Events {
	for _, id := range slices.Sorted(maps.Keys(c.workers)) {
		if w := c.workers[id]; w.dirty && w.session != 0 {
			w.dirty = false
			c.events.Wake = append(c.events.Wake, id)
		}
	}
	events := c.events
	c.events = Events{}
	return events
}

// AddJob makes the job's tasks run. A job that is there already is left as it is.
func (c *Core) AddJob(now time.Time, added Job) {
	if _, ok := c.jobs[added.ID]; ok {
		return
	}
	c.orders++
	defer func() { c.lastEpoch++ }()
	j := &job{Job: added, order: c.orders, lastPlaced: c.orders, tasks: make([]task, len(added.Plan.GetTasks()))}
	for i := range j.tasks {
		if added.AssignAfter.IsZero() {
			// Nobody can hold a lease of this run of the job yet: one from before it was stopped is not adopted.
			j.tasks[i].epoch = c.lastEpoch + 1
		}
		if added.Done != nil && added.Done(i) {
			j.tasks[i].state = taskDone
			j.done++
		} else {
			j.queue = append(j.queue, i)
		}
	}
	c.jobs[j.ID] = j
	if j.done == len(j.tasks) {
		j.ended = true
		c.events.Finished = append(c.events.Finished, j.runID())
		return
	}
	c.schedule(now)
}

// RemoveJob ends a job: its leases are revoked and its workers told to forget it.
func (c *Core) RemoveJob(now time.Time, id engine.JobID) {
	j, ok := c.jobs[id]
	if !ok {
		return
	}
	delete(c.jobs, id)
	for i := range j.tasks {
		if t := &j.tasks[i]; t.worker != nil {
			c.revoke(t.worker, engine.TaskID{Job: id, Index: i}, t.epoch)
			c.release(j, i)
		}
	}
	for _, w := range c.workers {
		if _, knows := w.knows[id]; knows {
			delete(w.knows, id)
			w.endedJobs = append(w.endedJobs, string(id))
			w.dirty = true
		}
	}
	c.schedule(now)
}

// Committed says that a result is durable.
func (c *Core) Committed(now time.Time, id engine.TaskID, epoch engine.Epoch) {
	j, ok := c.jobs[id.Job]
	if !ok || j.tasks[id.Index].state != taskCommitting || j.tasks[id.Index].epoch != epoch {
		return
	}
	t := &j.tasks[id.Index]
	c.line(j.ID, "INFO", "task finished", map[string]string{
		"task": strconv.Itoa(id.Index), "worker": string(t.worker.id),
		"rows":    strconv.FormatInt(t.result.GetCounts().GetRowsWritten(), 10),
		"seconds": strconv.FormatFloat(t.result.GetElapsed().AsDuration().Seconds(), 'f', 3, 64),
	})
	c.settle(t.worker, id, epoch)
	c.release(j, id.Index)
	j.tasks[id.Index].state = taskDone
	if j.done++; j.done == len(j.tasks) && !j.ended {
		j.ended = true
		c.events.Finished = append(c.events.Finished, j.runID())
	}
	c.schedule(now)
}

// CommitFailed says that the log refused a result. It is offered again after a pause, and until then nothing new is granted: the
// results of more work could not be recorded either.
func (c *Core) CommitFailed(now time.Time, commit Commit) {
	c.stalled = append(c.stalled, stalledCommit{at: now.Add(commitRetry), commit: commit})
}

// stalledCommit is a result that the log refused.
type stalledCommit struct {
	at     time.Time
	commit Commit
}

// offerAgain repeats the commits whose pause is over.
func (c *Core) offerAgain(now time.Time) {
	waiting := c.stalled[:0]
	for _, stalled := range c.stalled {
		if now.Before(stalled.at) {
			waiting = append(waiting, stalled)
			continue
		}
		id := stalled.commit.Task
		if _, t := c.find(id); t != nil && t.state == taskCommitting && t.epoch == stalled.commit.Epoch {
			c.events.Commits = append(c.events.Commits, stalled.commit)
		}
		c.stale = true
	}
	c.stalled = waiting
}

// Tick lets time pass: leases that have ended are taken back, pauses that are over end.
func (c *Core) Tick(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(c.workers)) {
		w := c.workers[id]
		switch silence := now.Sub(w.reported); {
		case !w.dead && silence > c.config.LeaseTime:
			w.session = 0 // What it still says on its stream is refused; it has to come back.
			c.bury(now, w, "worker lost: no report within its lease time", false)
		case w.dead && silence > deadNodeMemory:
			delete(c.workers, id)
		}
	}
	c.offerAgain(now)
	if c.stale || !now.Before(c.lookAt) {
		c.schedule(now)
	}
}

// bury takes everything back from a worker. What one gives back gracefully costs no attempt, and it still hears that it was heard.
func (c *Core) bury(now time.Time, w *worker, why string, graceful bool) {
	w.dead = true
	for _, id := range slices.SortedFunc(maps.Keys(w.leases), compareTasks) {
		if j, ok := c.jobs[id.Job]; ok && j.tasks[id.Index].state == taskLeased {
			if t := &j.tasks[id.Index]; graceful && t.sent {
				t.attempts-- // It did not fail.
			}
			c.attemptLost(now, j, id.Index, w, engine.Errorf(engine.KindUnavailable, "run task", id.String(), "%s", why))
		}
	}
}

func compareTasks(a, b engine.TaskID) int {
	if a.Job != b.Job {
		if a.Job < b.Job {
			return -1
		}
		return 1
	}
	return a.Index - b.Index
}

// attemptLost ends an attempt that failed for a reason outside the job; the task waits for the next one, or the job fails.
func (c *Core) attemptLost(now time.Time, j *job, index int, w *worker, cause error) {
	t := &j.tasks[index]
	if !t.sent && t.worker != nil {
		// No worker has heard of the attempt: it was none.
		t.attempts--
		c.release(j, index)
		c.enqueue(j, index, time.Time{})
		return
	}
	c.release(j, index)
	j.lost++
	attributes := map[string]string{"task": strconv.Itoa(index), "attempt": strconv.Itoa(int(t.attempts)), "worker": string(w.id), "error": cause.Error()}
	if int(t.attempts) >= j.MaxAttempts {
		c.line(j.ID, "ERROR", "task failed in its last attempt", attributes)
		c.enqueue(j, index, time.Time{})
		c.fail(j, engine.WrapError("run task "+strconv.Itoa(index), "attempt "+strconv.Itoa(int(t.attempts))+" of "+strconv.Itoa(j.MaxAttempts), cause))
		return
	}
	c.line(j.ID, "WARN", "attempt lost; the task will be tried again", attributes)
	pause := min(maxBackoff, c.config.RetryBackoff<<min(16, max(0, t.attempts-1)))
	c.enqueue(j, index, now.Add(pause))
}

// fail ends a job once; the first failure counts.
func (c *Core) fail(j *job, err error) {
	if !j.ended {
		j.ended = true
		c.events.Failed = append(c.events.Failed, Failure{Run: j.runID(), Err: err})
	}
}

// release takes the lease from its holder, if there is one. The task's state is the caller's to set.
func (c *Core) release(j *job, index int) {
	t := &j.tasks[index]
	if t.worker == nil {
		return
	}
	id := engine.TaskID{Job: j.ID, Index: index}
	c.stale = true
	delete(t.worker.leases, id)
	t.worker.grants = slices.DeleteFunc(t.worker.grants, func(other engine.TaskID) bool { return other == id })
	t.worker, t.counts, t.devices, t.result, t.sent, t.grantedIn = nil, nil, nil, nil, false, 0
	if t.state == taskLeased {
		j.running--
	}
}

func (c *Core) line(id engine.JobID, level, message string, attributes map[string]string) {
	c.events.Lines = append(c.events.Lines, Line{Job: id, Level: level, Message: message, Attributes: attributes})
}

func (c *Core) revoke(w *worker, id engine.TaskID, epoch engine.Epoch) {
	w.revocations = append(w.revocations, leaseRef(id, epoch))
	w.dirty = true
}

func (c *Core) settle(w *worker, id engine.TaskID, epoch engine.Epoch) {
	if w != nil {
		w.settled = append(w.settled, leaseRef(id, epoch))
		w.dirty = true
	}
}

func leaseRef(id engine.TaskID, epoch engine.Epoch) *enginev1.LeaseRef {
	return &enginev1.LeaseRef{JobId: string(id.Job), Task: int32(id.Index), Epoch: uint64(epoch)} //nolint:gosec // A plan has fewer tasks.
}

// LeaseTimeOrDefault is how long leases of this configuration last.
func (c Config) LeaseTimeOrDefault() time.Duration { return c.withDefaults().LeaseTime }
