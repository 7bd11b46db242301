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
	"github.com/f708428e/engine/scheduler"
)

// ProtocolVersion is the version of the worker protocol that this program speaks. It changes with every change that an older peer
// would misunderstand.
const ProtocolVersion = 1

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

// Job is what the core needs to know of a job to run it.
type Job struct {
	ID   engine.JobID
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
	// grantedIn is the sequence of the answer that carried the grant on the worker's present session; 0 if it is not sent yet.
	grantedIn uint64
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
	config    Config
	jobs      map[engine.JobID]*job
	workers   map[engine.NodeID]*worker
	sessions  uint64
	orders    int64 // Counts arrivals and placements.
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
	Finished []engine.JobID
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
	Job engine.JobID
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
		c.events.Finished = append(c.events.Finished, j.ID)
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
	c.settle(j.tasks[id.Index].worker, id, epoch)
	c.release(j, id.Index)
	j.tasks[id.Index].state = taskDone
	if j.done++; j.done == len(j.tasks) && !j.ended {
		j.ended = true
		c.events.Finished = append(c.events.Finished, j.ID)
	}
	c.schedule(now)
}

// CommitFailed says that the log refused a result. The worker goes on repeating it.
func (c *Core) CommitFailed(now time.Time, id engine.TaskID, epoch engine.Epoch) {
	j, ok := c.jobs[id.Job]
	if !ok || j.tasks[id.Index].state != taskCommitting || j.tasks[id.Index].epoch != epoch {
		return
	}
	c.release(j, id.Index)
	c.enqueue(j, id.Index, now.Add(commitRetry))
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
	c.schedule(now)
}

// bury takes everything back from a worker. What one gives back gracefully costs no attempt, and it still hears that it was heard.
func (c *Core) bury(now time.Time, w *worker, why string, graceful bool) {
	w.dead = true
	for _, id := range slices.SortedFunc(maps.Keys(w.leases), compareTasks) {
		if j, ok := c.jobs[id.Job]; ok && j.tasks[id.Index].state == taskLeased {
			if graceful {
				j.tasks[id.Index].attempts-- // It did not fail.
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
		c.events.Failed = append(c.events.Failed, Failure{Job: j.ID, Err: err})
	}
}

// enqueue makes a released task wait again.
func (c *Core) enqueue(j *job, index int, notBefore time.Time) {
	t := &j.tasks[index]
	t.state, t.notBefore = taskWaiting, notBefore
	if notBefore.After(j.delayedUntil) {
		j.delayedUntil = notBefore
	}
	if at, found := slices.BinarySearch(j.queue, index); !found {
		j.queue = slices.Insert(j.queue, at, index)
	}
}

// dequeue takes a waiting task out, which has found a worker.
func (j *job) dequeue(index int) {
	if at, found := slices.BinarySearch(j.queue, index); found {
		j.queue = slices.Delete(j.queue, at, at+1)
	}
}

// release takes the lease from its holder, if there is one. The task's state is the caller's to set.
func (c *Core) release(j *job, index int) {
	t := &j.tasks[index]
	if t.worker == nil {
		return
	}
	id := engine.TaskID{Job: j.ID, Index: index}
	delete(t.worker.leases, id)
	t.worker.grants = slices.DeleteFunc(t.worker.grants, func(other engine.TaskID) bool { return other == id })
	t.worker, t.counts, t.devices, t.grantedIn = nil, nil, nil, 0
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

// schedule grants what can be granted now.
func (c *Core) schedule(now time.Time) {
	var snapshot scheduler.Snapshot
	for _, w := range c.workers {
		if w.dead || w.session == 0 {
			continue
		}
		node := scheduler.Node{ID: w.id, Total: w.total, Labels: w.hello.GetLabels(), Unschedulable: w.draining}
		node.Used, node.GPUs = c.used(w), c.gpus(w)
		snapshot.Nodes = append(snapshot.Nodes, node)
	}
	for id, j := range c.jobs {
		ready := c.ready(j, now)
		if ready == 0 || j.running > 0 {
			j.idleSince = time.Time{}
		} else if j.idleSince.IsZero() {
			j.idleSince = now
		}
		if ready == 0 {
			continue
		}
		snapshot.Classes = append(snapshot.Classes, scheduler.Class{
			ID: string(id), Request: j.Request, Pending: ready, Running: j.running, LastPlaced: j.lastPlaced, Order: j.order,
			Overdue: !j.idleSince.IsZero() && now.Sub(j.idleSince) > overdueAfter,
		})
	}
	if len(snapshot.Classes) == 0 {
		return
	}
	plan := scheduler.Decide(snapshot)
	for _, placement := range plan.Placements {
		j, w := c.jobs[engine.JobID(placement.Class)], c.workers[placement.Node]
		c.orders++
		j.lastPlaced = c.orders
		for i := range placement.Count {
			index := j.pop(now)
			if i < len(placement.Devices) {
				for _, device := range placement.Devices[i] {
					j.tasks[index].devices = append(j.tasks[index].devices, int32(device)) //nolint:gosec // A node has few.
				}
			}
			c.grant(j, index, w)
		}
	}
	for _, waiting := range plan.Waiting {
		j := c.jobs[engine.JobID(waiting.Class)]
		if j.running == 0 {
			j.reason = waiting.Reason // Of a job that runs it is no news that some of its tasks wait.
		}
		if waiting.Infeasible && c.config.FailInfeasible && len(snapshot.Nodes) > 0 {
			c.fail(j, engine.Errorf(engine.KindInvalidArgument, "schedule job", string(j.ID), "%s", waiting.Reason).
				WithHint("ask for less in resources:, or run the job on a cluster that has it"))
		}
	}
}

// used sums what the leases on a worker hold. Results that wait for their commit hold nothing any more.
func (c *Core) used(w *worker) engine.Resources {
	var sum engine.Resources
	for id := range w.leases {
		if j := c.jobs[id.Job]; j != nil && j.tasks[id.Index].state == taskLeased {
			sum = AddResources(sum, j.Request)
		}
	}
	return sum
}

// gpus says what each device of a worker has free.
func (c *Core) gpus(w *worker) []scheduler.GPU {
	devices := int(w.total.GPU)
	if devices == 0 {
		return nil
	}
	free := make([]scheduler.GPU, devices)
	for i := range free {
		free[i] = scheduler.GPU{Free: 1, FreeMemoryBytes: w.total.GPUMemoryBytes / int64(devices)}
	}
	for id := range w.leases {
		j := c.jobs[id.Job]
		if j == nil || j.tasks[id.Index].state != taskLeased {
			continue
		}
		held := j.tasks[id.Index].devices
		for _, device := range held {
			if device >= 0 && int(device) < devices {
				// A task has parts of one device, or all of several.
				free[device].Free -= j.Request.GPU / float64(len(held))
				free[device].FreeMemoryBytes -= j.Request.GPUMemoryBytes / int64(len(held))
			}
		}
	}
	return free
}

// AddResources returns the sum of a and b.
func AddResources(a, b engine.Resources) engine.Resources {
	sum := engine.Resources{
		CPU: a.CPU + b.CPU, GPU: a.GPU + b.GPU,
		MemoryBytes: a.MemoryBytes + b.MemoryBytes, GPUMemoryBytes: a.GPUMemoryBytes + b.GPUMemoryBytes,
	}
	if len(a.Custom)+len(b.Custom) > 0 {
		sum.Custom = maps.Clone(a.Custom)
		if sum.Custom == nil {
			sum.Custom = map[string]float64{}
		}
		for name, v := range b.Custom {
			sum.Custom[name] += v
		}
	}
	return sum
}

// ready counts the tasks of a job that may be granted now.
func (c *Core) ready(j *job, now time.Time) int {
	if j.ended || now.Before(j.AssignAfter) {
		return 0
	}
	if !now.Before(j.delayedUntil) {
		return len(j.queue)
	}
	ready := 0
	for _, index := range j.queue {
		if !now.Before(j.tasks[index].notBefore) {
			ready++
		}
	}
	return ready
}

// pop takes the first task that may be granted now; ready has counted it.
func (j *job) pop(now time.Time) int {
	at := 0
	for now.Before(j.tasks[j.queue[at]].notBefore) {
		at++
	}
	index := j.queue[at]
	if at == 0 {
		j.queue = j.queue[1:]
	} else {
		j.queue = slices.Delete(j.queue, at, at+1)
	}
	return index
}

// grant leases a task, which is in no queue, to a worker.
func (c *Core) grant(j *job, index int, w *worker) {
	c.lastEpoch++
	t := &j.tasks[index]
	t.attempts++
	t.epoch = c.lastEpoch
	c.hold(j, index, w)
	w.grants = append(w.grants, engine.TaskID{Job: j.ID, Index: index})
	w.dirty = true
}

// hold records that a worker has the task's lease.
func (c *Core) hold(j *job, index int, w *worker) {
	t := &j.tasks[index]
	t.state, t.worker, t.grantedIn = taskLeased, w, 0
	w.leases[engine.TaskID{Job: j.ID, Index: index}] = struct{}{}
	j.running++
	j.reason = ""
	if !j.started {
		j.started = true
		c.events.Started = append(c.events.Started, j.ID)
	}
}

// LeaseTimeOrDefault is how long leases of this configuration last.
func (c Config) LeaseTimeOrDefault() time.Duration { return c.withDefaults().LeaseTime }
