package dispatch

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
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
	Run int32
	// TraceParent is the span under which those of its tasks go; it may be empty.
	TraceParent string
	// Spec is the job with what its steps were fitted to.
	Spec *enginev1.JobSpec
	Plan *enginev1.Plan
	// Fit says that this is a pass over the data of a job, to which its steps are fitted: its tasks write nothing, and what they have seen
	// comes with Commit. To the core it is a job like others.
	Fit bool
	// Request is what one task needs.
	Request engine.Resources
	// MaxAttempts bounds the attempts at one task.
	MaxAttempts int
	// Done reports which tasks are committed already. Nil means none.
	Done func(task int) bool
	// AssignAfter is the time before which no task is granted, because a worker may still hold it under a lease of an earlier term.
	// Workers that do are adopted at once.
	AssignAfter time.Time
	// Holders are the nodes that hold the object which a task reads, most of it first. It is asked once for each task while the job is
	// added. Nil means that it is all the same where tasks run.
	Holders func(task int) []engine.NodeID
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
	// delayed says that a waiting task is not in its job's queue: notBefore has to come first.
	delayed bool
	// again says that the task was committed, and runs again because its output is lost.
	again bool
	// sent says that the worker knows of the lease: it was told, or has reported it.
	sent bool
	// attempts counts leases that were granted.
	attempts int32
	// epoch is that of the last lease granted or adopted; 0 if none was in this term.
	epoch engine.Epoch
	// worker holds the lease; set only while leased or committing.
	worker *worker
	// lease is what goes with a lease; nil while nobody holds one, since most tasks of most jobs wait or are done.
	lease *taskLease
	// notBefore is when the next attempt may begin.
	notBefore time.Time
}

// taskLease is what goes with a task that is leased or committing.
type taskLease struct {
	// devices are the GPUs of the lease.
	devices []int32
	// counts is what the attempt has done, progressed when that changed last; zero while it has done nothing.
	counts     *enginev1.TaskCounts
	progressed time.Time
	// granted is when the lease was given or adopted, ended when its result came.
	granted, ended time.Time
	// grantedIn is the sequence of the answer that carried the grant; 0 once the worker has reported the lease.
	grantedIn uint64
	// result is what waits for its commit; set only while committing.
	result *enginev1.TaskResult
}

// job is a job while it has tasks to run.
type job struct {
	Job
	order int64
	// added is when it came.
	added time.Time
	tasks []task
	// class is what the scheduler sees of it, together with other jobs.
	class *class
	// queue holds the waiting tasks that may begin, in order of their index; delayed counts those whose pause has not ended.
	queue   []int32
	delayed int
	// near has, for each task, the node that holds most of the object which it reads, and byNode the tasks of each such node that have not
	// been granted; both are nil if there are none.
	near   []engine.NodeID
	byNode map[engine.NodeID][]int32
	// counted is how many of its tasks the class counts as pending; place is its place in the class's heap, -1 if it is not there.
	counted int
	place   int
	running int
	done    int
	// bytes is about the memory that the job takes.
	bytes int64
	// lost counts attempts; failed is 1 once a task has failed for good.
	lost, failed int64
	// held says that AssignAfter has not come yet.
	held    bool
	started bool
	ended   bool
	// finished says that its tasks were all committed once. again counts those that run again; reruns says that the job is here for such
	// tasks alone.
	finished, reruns bool
	again            int
	// lastPlaced orders jobs by their last grant, or their arrival.
	lastPlaced int64
}

func (j *job) runID() Run { return Run{Job: j.ID, Number: j.Run} }

// ready counts the tasks that may be granted now.
func (j *job) ready() int {
	if j.ended || j.held {
		return 0
	}
	return len(j.queue)
}
