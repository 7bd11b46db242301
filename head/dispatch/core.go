// Package dispatch decides which worker holds which task. Core is a state machine: reports and ticks go in with the time, answers
// and events come out; it has no clock, no goroutine, and does no I/O. Dispatcher is the thin shell around it.
package dispatch

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/head/timeline"
	"github.com/f708428e/engine/head/usage"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
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
	// HangAfter is how long the attempt of a job's task may go on without a change of its counts, once it had one, before it is said to
	// hang. Zero means a minute.
	HangAfter time.Duration
	// Tasks bounds the tasks of clients; its Term, Started, LeaseTime, and Timeline are set by the core.
	Tasks tasks.Config
	// AssignAfter is the time before which workers may have valid leases that an earlier head has granted: jobs get no new ones until
	// then, unless Job.AssignAfter says even later. Zero means that there are none.
	AssignAfter time.Time
	// Started is when this head began to lead. Required where workers may have tasks of an earlier one.
	Started time.Time
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
	if c.HangAfter == 0 {
		c.HangAfter = time.Minute
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

// worker is a node that has joined in this term.
type worker struct {
	id       engine.NodeID
	hello    *enginev1.WorkerHello
	total    engine.Resources
	joined   time.Time
	reported time.Time
	// residentBytes is the memory that its process last said to hold.
	residentBytes int64
	// session counts the streams of this worker; 0 while none is open.
	session uint64
	dead    bool
	// draining is what the worker says itself, suspect what others say: that it seems to be gone.
	draining, suspect bool
	leases            map[engine.TaskID]struct{}
	// used is what its leases hold, models counts them by the weights that they use, and loaded are those.
	used   usage.Sum
	models map[string]int
	loaded []string
	// leaving are leases that were taken back and whose work may not have ended.
	leaving []leaving

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
	config Config
	// clock is the time of the last input.
	clock time.Time
	jobs  map[engine.JobID]*job
	tasks *tasks.Core
	// classes finds a job's class by its key, byClass by its id; ordered has them all.
	classes, byClass map[string]*class
	ordered          []*class
	// pauses end with time.
	pauses   pauseHeap
	workers  map[engine.NodeID]*worker
	sessions uint64
	// departing counts the leases of a task that are leaving.
	departing map[engine.TaskID]int
	// queues are the shares that somebody has set, drains the nodes that are to leave.
	queues     []scheduler.Queue
	wireQueues []*enginev1.Queue
	// tallies counts the tasks of jobs that have ended, by the jobs' names.
	tallies map[string]*tally
	drains  map[engine.NodeID]*drain
	// scratch is memory that passes use again.
	scratch struct {
		nodes   []scheduler.Node
		gpus    []scheduler.GPU
		classes []scheduler.Class
		groups  []scheduler.Group
	}
	// orders counts arrivals, lastStamp orders arrivals and placements.
	orders, lastStamp int64
	stalled           []stalledCommit
	// changed are the workers for which there may be an answer.
	changed []*worker
	// stale says that a pass of the scheduler might grant something. nextPass is the time before which none is made, because
	// many classes or nodes make it dear; lookAt is when one is due even if nothing happens, so that reasons are renewed.
	stale     bool
	nextPass  time.Time
	lookAt    time.Time
	lastEpoch engine.Epoch
	counts    Counts
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
	// Attempts are those that belong to a trace and have ended well.
	Attempts []tasks.Attempt
	// Drained are nodes that were to leave and have; DrainsKnown are those that have heard of it, or are gone.
	Drained, DrainsKnown []engine.NodeID
	// Sessions are clients' sessions for whose streams there is a response, Groups placement groups that were placed or
	// removed.
	Sessions []string
	Groups   []engine.PlacementGroupID
	// Wanted are objects of which the directory shall tell, Unwanted those of which it need not any more.
	Wanted, Unwanted []engine.ObjectID
	// Reruns are tasks that were to run again, and have ended.
	Reruns []Rerun
	// Given are lost objects that are not made again, which the directory may say to those who wait for them.
	Given []engine.ObjectID
	// Wake are the workers for which there is an answer.
	Wake []engine.NodeID
}

// Commit is a result that must become durable.
type Commit struct {
	Task      engine.TaskID
	Epoch     engine.Epoch
	Committed *enginev1.TaskCommitted
	// Fit is what a task of a pass that fits steps has seen; nil for others.
	Fit *enginev1.Fit
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
	config.Tasks.Term, config.Tasks.Started, config.Tasks.LeaseTime = config.Term, config.Started, config.LeaseTime
	config.Tasks.Timeline = timeline.NewRing(0)
	return &Core{
		config:    config,
		tasks:     tasks.New(config.Tasks),
		jobs:      map[engine.JobID]*job{},
		classes:   map[string]*class{},
		byClass:   map[string]*class{},
		workers:   map[engine.NodeID]*worker{},
		departing: map[engine.TaskID]int{},
		drains:    map[engine.NodeID]*drain{},
		tallies:   map[string]*tally{},
		lastEpoch: engine.Epoch(config.Term << 32),
	}
}

// Take returns the events since the last call.
func (c *Core) Take() Events {
	c.tell()
	for _, w := range c.changed {
		if w.dirty = false; w.session != 0 && c.workers[w.id] == w {
			c.events.Wake = append(c.events.Wake, w.id)
		}
	}
	clear(c.changed)
	c.changed = c.changed[:0]
	slices.Sort(c.events.Wake)
	events := c.events
	c.events = Events{}
	return events
}

// touch makes sure that a worker's stream looks for an answer.
func (c *Core) touch(w *worker) {
	if !w.dirty {
		w.dirty = true
		c.changed = append(c.changed, w)
	}
}

// stamp returns a number that is larger than every one before, and about the time.
func (c *Core) stamp(now time.Time) int64 {
	c.lastStamp = max(c.lastStamp+1, now.UnixNano())
	return c.lastStamp
}

// AddJob makes the job's tasks run. A job that is there already is left as it is, unless it is there for tasks that run again alone.
func (c *Core) AddJob(now time.Time, added Job) {
	if there, ok := c.jobs[added.ID]; ok {
		if !there.reruns {
			return
		}
		c.removeJob(there)
	}
	if j := c.add(now, added); j.done == len(j.tasks) {
		c.finish(j)
	}
	c.schedule(now)
}

// finish ends a job whose tasks are all committed.
func (c *Core) finish(j *job) {
	j.ended = true
	c.recount(j)
	if !j.finished {
		j.finished = true
		c.events.Finished = append(c.events.Finished, j.runID())
	}
}

// add takes a job in.
func (c *Core) add(now time.Time, added Job) *job {
	c.clock = now
	c.orders++
	defer func() { c.lastEpoch++ }()
	j := &job{Job: added, order: c.orders, added: now, lastPlaced: c.stamp(now), tasks: make([]task, len(added.Plan.GetTasks()))}
	assignAfter := added.AssignAfter
	if assignAfter.Before(c.config.AssignAfter) {
		assignAfter = c.config.AssignAfter // A worker may hold a lease of a run that was stopped.
	}
	j.held = now.Before(assignAfter)
	for i := range j.tasks {
		if added.AssignAfter.IsZero() {
			// Nobody can hold a lease of this run of the job yet: one from before it was stopped is not adopted.
			j.tasks[i].epoch = c.lastEpoch + 1
		}
		switch {
		case added.Done != nil && added.Done(i):
			j.tasks[i].state = taskDone
			j.done++
		case c.departing[engine.TaskID{Job: j.ID, Index: i}] > 0:
			j.tasks[i].delayed = true
			j.delayed++
		default:
			j.queue = append(j.queue, int32(i)) //nolint:gosec // A plan has fewer tasks.
		}
	}
	j.Done = nil // It may hold on to much.
	j.bytes = j.memoryBytes()
	j.locate()
	c.jobs[j.ID] = j
	c.join(j)
	c.recount(j)
	if j.held {
		c.pause(assignAfter, j, -1)
	}
	return j
}

// RemoveJob ends a job: its leases are revoked and its workers told to forget it.
func (c *Core) RemoveJob(now time.Time, id engine.JobID) {
	if j, ok := c.jobs[id]; ok {
		c.removeJob(j)
		c.schedule(now)
	}
}

func (c *Core) removeJob(j *job) {
	id := j.ID
	for i := range j.tasks {
		t := &j.tasks[i]
		if t.worker != nil {
			c.takeBack(j, i)
		}
		if t.again {
			c.events.Reruns = append(c.events.Reruns, Rerun{Task: engine.TaskID{Job: id, Index: i}, Err: ErrRemoved})
		}
	}
	if left := int64(len(j.tasks) - j.done - j.again); left > 0 {
		c.tallyOf(j).cancelled += left - j.failed
	}
	c.leave(j)
	delete(c.jobs, id)
	for _, w := range c.workers {
		if _, knows := w.knows[id]; knows {
			delete(w.knows, id)
			w.endedJobs = append(w.endedJobs, string(id))
			c.touch(w)
		}
	}
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
		"rows":    strconv.FormatInt(t.lease.result.GetCounts().GetRowsWritten(), 10),
		"seconds": strconv.FormatFloat(t.lease.result.GetElapsed().AsDuration().Seconds(), 'f', 3, 64),
	})
	counted := c.tallyOf(j)
	counted.succeeded++
	counted.nanos += int64(t.lease.result.GetElapsed().AsDuration())
	c.trace(now, j, id.Index)
	c.settle(t.worker, id, epoch)
	c.release(j, id.Index)
	j.tasks[id.Index].state = taskDone
	if j.done++; j.done == len(j.tasks) && !j.ended {
		c.finish(j)
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
	c.clock = now
	var silent []*worker
	for id, w := range c.workers {
		switch silence := now.Sub(w.reported); {
		case !w.dead && silence > c.config.LeaseTime:
			silent = append(silent, w)
		case w.dead && silence > deadNodeMemory:
			delete(c.workers, id)
		}
	}
	slices.SortFunc(silent, func(a, b *worker) int { return strings.Compare(string(a.id), string(b.id)) })
	c.tasks.Tick(now)
	for _, w := range silent {
		w.session = 0 // What it still says on its stream is refused; it has to come back.
		c.bury(now, w, "worker lost: no report within its lease time", false)
	}
	c.forgetDrains(now)
	c.offerAgain(now)
	if c.stale || c.tasks.Stale() || !now.Before(c.lookAt) || c.pauseEnded(now) {
		c.schedule(now)
	}
}

// bury takes everything back from a worker. What one gives back gracefully costs no attempt, and it still hears that it was heard.
func (c *Core) bury(now time.Time, w *worker, why string, graceful bool) {
	w.dead, w.suspect = true, false
	c.allHaveLeft(w)
	c.tasks.Leave(now, w.id, graceful)
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
	c.counts.LeasesLost++
	c.tallyOf(j).lost++
	attributes := map[string]string{"task": strconv.Itoa(index), "attempt": strconv.Itoa(int(t.attempts)), "worker": string(w.id), "error": cause.Error()}
	if int(t.attempts) >= j.MaxAttempts {
		c.line(j.ID, "ERROR", "task failed in its last attempt", attributes)
		err := engine.WrapError("run task "+strconv.Itoa(index), "attempt "+strconv.Itoa(int(t.attempts))+" of "+strconv.Itoa(j.MaxAttempts), cause)
		if t.again {
			c.endRerun(j, index, Rerun{Err: err})
			return
		}
		c.enqueue(j, index, time.Time{})
		c.fail(j, err)
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
		j.failed = 1
		c.tallyOf(j).failed++
		c.recount(j)
		c.events.Failed = append(c.events.Failed, Failure{Run: j.runID(), Err: err})
	}
}

// release takes the lease from its holder, if there is one. The task's state is the caller's to set.
func (c *Core) release(j *job, index int) {
	t := &j.tasks[index]
	if t.worker == nil {
		return
	}
	id, w := engine.TaskID{Job: j.ID, Index: index}, t.worker
	c.stale = true
	delete(w.leases, id)
	if !t.sent {
		w.grants = slices.DeleteFunc(w.grants, func(other engine.TaskID) bool { return other == id })
	}
	if t.state == taskLeased {
		c.count(j, w, t.lease.devices, -1)
	}
	t.worker, t.lease, t.sent = nil, nil, false
}

// count adds n leases of a job's tasks, negative to take them away, to all sums.
func (c *Core) count(j *job, w *worker, devices []int32, n int) {
	k := j.class
	j.running += n
	k.Running += n
	if k.RunningOn[w.id] += n; k.RunningOn[w.id] == 0 {
		delete(k.RunningOn, w.id)
	}
	w.used.Add(&k.need, devices, int64(n))
	w.load(k, n)
	c.recount(j)
}

func (c *Core) line(id engine.JobID, level, message string, attributes map[string]string) {
	c.events.Lines = append(c.events.Lines, Line{Job: id, Level: level, Message: message, Attributes: attributes})
}

func (c *Core) revoke(w *worker, id engine.TaskID, epoch engine.Epoch) {
	w.revocations = append(w.revocations, leaseRef(id, epoch))
	c.touch(w)
}

func (c *Core) settle(w *worker, id engine.TaskID, epoch engine.Epoch) {
	if w != nil {
		w.settled = append(w.settled, leaseRef(id, epoch))
		c.touch(w)
	}
}

func leaseRef(id engine.TaskID, epoch engine.Epoch) *enginev1.LeaseRef {
	return &enginev1.LeaseRef{JobId: string(id.Job), Task: int32(id.Index), Epoch: uint64(epoch)} //nolint:gosec // A plan has fewer tasks.
}

// LeaseTimeOrDefault is how long leases of this configuration last.
func (c Config) LeaseTimeOrDefault() time.Duration { return c.withDefaults().LeaseTime }
