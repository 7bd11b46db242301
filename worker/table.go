package worker

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// errRevoked is why an attempt ends whose lease the worker no longer holds.
var errRevoked = engine.Errorf(engine.KindFenced, "run task", "", "its lease was revoked")

// lease is the right to run one attempt.
type lease struct {
	task    engine.TaskID
	epoch   engine.Epoch
	attempt int32
	plan    *enginev1.TaskPlan
	inputs  []*enginev1.InputFile
	devices []int32
	job     *jobEntry
	counts  counts
	// lapsed says that the lease had ended when this stream to the head began, and that this stream has not been answered. notBefore is when
	// the part may be published at the earliest, since another worker may have been granted the task meanwhile. The table guards both.
	lapsed    bool
	notBefore time.Time
	// revoked ends when the worker must stop the attempt.
	revoked context.Context //nolint:containedctx // It is the lease's own lifetime, which several goroutines wait for.
	revoke  context.CancelCauseFunc
}

// newLease begins a lease's lifetime.
func newLease(task engine.TaskID, grant *enginev1.LeaseGrant, job *jobEntry) *lease {
	l := &lease{
		task: task, epoch: engine.Epoch(grant.GetLease().GetEpoch()), attempt: grant.GetAttempt(),
		plan: grant.GetTask(), inputs: grant.GetInputs(), devices: grant.GetGpuDevices(), job: job,
	}
	l.revoked, l.revoke = context.WithCancelCause(context.Background())
	return l
}

// counts is an attempt's work so far; it is read while the attempt runs.
type counts struct {
	rowsRead, rowsWritten, rowsRejected, bytesRead, bytesWritten, batches, textsTruncated, rowsFiltered, rowsProcessed atomic.Int64
}

func (c *counts) toProto() *enginev1.TaskCounts {
	return &enginev1.TaskCounts{
		RowsRead: c.rowsRead.Load(), RowsWritten: c.rowsWritten.Load(), RowsRejected: c.rowsRejected.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(), Batches: c.batches.Load(),
		TextsTruncated: c.textsTruncated.Load(), RowsFiltered: c.rowsFiltered.Load(), RowsProcessed: c.rowsProcessed.Load(),
	}
}

// check refuses counts of an attempt that has ended which do not add up: rows were lost, or came twice.
func (c *counts) check() error {
	read, written, rejected, filtered := c.rowsRead.Load(), c.rowsWritten.Load(), c.rowsRejected.Load(), c.rowsFiltered.Load()
	if read != written+rejected+filtered {
		return engine.Errorf(engine.KindInternal, "run task", "", "%d rows were read, but %d written, %d rejected, and %d filtered", read, written, rejected, filtered)
	}
	return nil
}

// table is all that a worker holds: leases, results that are not settled, lines that are not acknowledged. Everything that the head
// should hear of signals wake.
type table struct {
	wake chan struct{}

	mu          sync.Mutex
	clusterID   string
	leaseTime   time.Duration
	leases      map[engine.TaskID]*lease
	results     map[engine.TaskID]*enginev1.TaskResult
	jobs        map[engine.JobID]*jobEntry
	lines       []*enginev1.WorkerLogLine
	lineCount   uint64
	draining    bool
	leaving     bool // takes no grants
	gone        bool // and its attempts have ended
	saidGoodbye chan struct{}
	// validUntil is when all leases end unless they are renewed; renewed is closed, and another one made, when that changes.
	validUntil time.Time
	renewed    chan struct{}
	// sentAt tells for each report of this stream that is not acknowledged when it was sent.
	sentAt map[uint64]time.Time
	// changed is closed, and another one made, when leases or results become fewer.
	changed chan struct{}
	// secrets takes those of a job out of its assignment. It must not block.
	secrets func(*enginev1.JobAssignment) *secret.Set
}

// maxLines bounds the lines that wait for the head; the oldest are dropped above it.
const maxLines = 10_000

func newTable() *table {
	return &table{
		wake: make(chan struct{}, 1), leases: map[engine.TaskID]*lease{}, results: map[engine.TaskID]*enginev1.TaskResult{},
		jobs: map[engine.JobID]*jobEntry{}, saidGoodbye: make(chan struct{}), renewed: make(chan struct{}),
		sentAt: map[uint64]time.Time{}, changed: make(chan struct{}),
		secrets: func(*enginev1.JobAssignment) *secret.Set { return nil },
	}
}

func (t *table) signal() {
	select {
	case t.wake <- struct{}{}:
	default: // A report is due already.
	}
}

// report says what the worker holds. A stream's first report forgets the times of an earlier stream's.
func (t *table) report(sequence, acknowledged uint64, now time.Time) *enginev1.SyncRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sequence == 1 {
		clear(t.sentAt)
		// The head tells a new session of the end of those jobs alone that it learns of from it.
		held := map[engine.JobID]bool{}
		for id := range t.leases {
			held[id.Job] = true
		}
		for id := range t.jobs {
			if !held[id] {
				delete(t.jobs, id)
			}
		}
	}
	t.sentAt[sequence] = now
	report := &enginev1.SyncRequest{
		Sequence: sequence, AcknowledgedSequence: acknowledged, Draining: t.draining, Goodbye: t.gone, Logs: t.lines,
	}
	for _, l := range t.leases {
		if sequence == 1 {
			l.lapsed = !now.Before(t.validUntil) || l.notBefore.After(now)
		}
		report.Held = append(report.Held, &enginev1.HeldLease{Lease: l.ref(), Counts: l.counts.toProto(), GpuDevices: l.devices, Lapsed: l.lapsed})
	}
	for _, result := range t.results {
		report.Results = append(report.Results, result)
	}
	return report
}

func (l *lease) ref() *enginev1.LeaseRef {
	return &enginev1.LeaseRef{JobId: string(l.task.Job), Task: int32(l.task.Index), Epoch: uint64(l.epoch)} //nolint:gosec // A plan has fewer tasks.
}

// take acts on an answer and returns the leases that are new.
func (t *table) take(answer *enginev1.SyncResponse) []*lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	if welcome := answer.GetWelcome(); welcome != nil {
		if t.clusterID != "" && t.clusterID != welcome.GetClusterId() {
			t.dropLocked(maps.Clone(t.leases))
			clear(t.results)
			clear(t.jobs)
			t.lines = nil
		}
		t.clusterID, t.leaseTime = welcome.GetClusterId(), welcome.GetLeaseTime().AsDuration()
		t.adoptLocked(time.Now().Add(welcome.GetAdoptionWait().AsDuration()))
	}
	t.renewLocked(answer.GetAcknowledgedSequence())
	if n := answer.GetAcknowledgedLogSequence(); n > 0 {
		kept := 0
		for kept < len(t.lines) && t.lines[kept].GetWorkerSequence() <= n {
			kept++
		}
		t.lines = t.lines[kept:]
	}
	for _, ref := range answer.GetRevocations() {
		id := engine.TaskID{Job: engine.JobID(ref.GetJobId()), Index: int(ref.GetTask())}
		if l, ok := t.leases[id]; ok && uint64(l.epoch) == ref.GetEpoch() {
			t.dropLocked(map[engine.TaskID]*lease{id: l})
		}
		if result, ok := t.results[id]; ok && result.GetLease().GetEpoch() == ref.GetEpoch() {
			delete(t.results, id)
		}
	}
	for _, ref := range answer.GetSettled() {
		id := engine.TaskID{Job: engine.JobID(ref.GetJobId()), Index: int(ref.GetTask())}
		if result, ok := t.results[id]; ok && result.GetLease().GetEpoch() == ref.GetEpoch() {
			delete(t.results, id)
		}
	}
	for _, id := range answer.GetEndedJobs() {
		delete(t.jobs, engine.JobID(id))
	}
	for _, assignment := range answer.GetJobs() {
		if id := engine.JobID(assignment.GetJobId()); t.jobs[id] == nil {
			t.jobs[id] = &jobEntry{secrets: t.secrets(assignment), assignment: assignment}
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return t.grantLocked(answer.GetGrants())
}

// adoptLocked keeps what had lapsed from being published before other workers' leases of it have ended.
func (t *table) adoptLocked(notBefore time.Time) {
	for _, l := range t.leases {
		if l.lapsed && notBefore.After(l.notBefore) {
			l.notBefore = notBefore
		}
		l.lapsed = false
	}
}

// renewLocked moves the end of all leases: they last from when the acknowledged report was sent.
func (t *table) renewLocked(acknowledged uint64) {
	sent, ok := t.sentAt[acknowledged]
	if !ok {
		return
	}
	for sequence := range t.sentAt {
		if sequence <= acknowledged {
			delete(t.sentAt, sequence)
		}
	}
	if until := sent.Add(t.leaseTime); until.After(t.validUntil) {
		t.validUntil = until
		close(t.renewed)
		t.renewed = make(chan struct{})
	}
}

func (t *table) grantLocked(grants []*enginev1.LeaseGrant) []*lease {
	var fresh []*lease
	for _, grant := range grants {
		id := engine.TaskID{Job: engine.JobID(grant.GetLease().GetJobId()), Index: int(grant.GetLease().GetTask())}
		epoch := engine.Epoch(grant.GetLease().GetEpoch())
		job := t.jobs[id.Job]
		if held := t.leases[id]; job == nil || t.leaving || held != nil && held.epoch >= epoch {
			continue // The next report says that it is not held.
		} else if held != nil {
			t.dropLocked(map[engine.TaskID]*lease{id: held})
		}
		l := newLease(id, grant, job)
		t.leases[id] = l
		fresh = append(fresh, l)
	}
	return fresh
}

func (t *table) dropLocked(leases map[engine.TaskID]*lease) {
	for id, l := range leases {
		l.revoke(errRevoked)
		delete(t.leases, id)
	}
}

// finish replaces a lease by its result. A lease that was revoked has none.
func (t *table) finish(l *lease, result *enginev1.TaskResult) {
	t.mu.Lock()
	if t.leases[l.task] == l {
		delete(t.leases, l.task)
		t.results[l.task] = result
	}
	t.mu.Unlock()
	l.revoke(nil)
	t.signal()
}

// awaitRight waits until the lease may publish: its end is at least margin away. It returns an error if the lease is revoked.
func (t *table) awaitRight(ctx context.Context, l *lease) error {
	for {
		t.mu.Lock()
		left, renewed, leaseTime, adopted := time.Until(t.validUntil), t.renewed, t.leaseTime, time.Until(l.notBefore)
		t.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if left > leaseTime/5 && adopted <= 0 {
			return nil
		}
		var timer <-chan time.Time
		if adopted > 0 {
			timer = time.After(adopted)
		}
		select {
		case <-renewed:
		case <-timer:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// addLine keeps a line for the head.
func (t *table) addLine(job engine.JobID, line *enginev1.LogLine) {
	t.mu.Lock()
	t.lineCount++
	t.lines = append(t.lines, &enginev1.WorkerLogLine{WorkerSequence: t.lineCount, JobId: string(job), Line: proto.CloneOf(line)})
	if len(t.lines) > maxLines {
		t.lines = t.lines[len(t.lines)-maxLines:]
	}
	t.mu.Unlock()
	t.signal()
}

func (t *table) drain() {
	t.mu.Lock()
	t.draining = true
	t.mu.Unlock()
	t.signal()
}

// idle reports whether nothing is held, and a channel that is closed when that may have changed.
func (t *table) idle() (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leases) == 0 && len(t.results) == 0, t.changed
}

// dropAll revokes all leases and takes no new ones.
func (t *table) dropAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining, t.leaving = true, true
	t.dropLocked(maps.Clone(t.leases))
}

// giveBack revokes all leases: the next report does not list them, and the head grants them to others.
func (t *table) giveBack() {
	t.mu.Lock()
	t.dropLocked(maps.Clone(t.leases))
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
	t.signal()
}

// sayGoodbye makes the next report the last one: no attempt runs any more. The channel is closed when the head has acknowledged it.
func (t *table) sayGoodbye() <-chan struct{} {
	t.mu.Lock()
	t.gone = true
	t.mu.Unlock()
	t.signal()
	return t.saidGoodbye
}

// cluster returns the id of the cluster that the worker belongs to, or "".
func (t *table) cluster() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clusterID
}
