package dispatch

import (
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/timeline"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Connect begins a session with a worker; an earlier one of the same worker ends. The session's number goes with its reports.
func (c *Core) Connect(now time.Time, hello *enginev1.WorkerHello) (uint64, error) {
	if v := hello.GetProtocolVersion(); v != rpc.WorkerProtocolVersion {
		return 0, engine.Errorf(engine.KindVersion, "join cluster", hello.GetNodeId(),
			"the worker (engine %s) speaks protocol version %d, this head version %d", hello.GetVersion(), v, rpc.WorkerProtocolVersion).
			WithHint("run the same version of engine on every node")
	}
	if hello.GetNodeId() == "" {
		return 0, engine.Errorf(engine.KindInvalidArgument, "join cluster", "", "the worker has no node id")
	}
	total, err := rpc.ResourcesFromProto(hello.GetTotal())
	if err != nil {
		return 0, engine.WrapError("join cluster", hello.GetNodeId(), err)
	}
	id := engine.NodeID(hello.GetNodeId())
	w, ok := c.workers[id]
	if !ok {
		w = &worker{id: id, joined: now, leases: map[engine.TaskID]struct{}{}, models: map[string]int{}}
		c.workers[id] = w
	}
	if w.session != 0 {
		c.tasks.Disconnect(id)
	}
	c.sessions++
	w.hello, w.total, w.session = hello, total, c.sessions
	w.reported, w.dead, w.draining, w.suspect = now, false, false, false
	w.welcomed, w.sequence, w.acknowledged, w.logSequence = false, 0, 0, 0
	w.knows = map[engine.JobID]struct{}{}
	w.grants, w.revocations, w.settled, w.endedJobs = nil, nil, nil, nil
	return w.session, nil
}

// Disconnect ends a session. The worker keeps its leases until they end.
func (c *Core) Disconnect(id engine.NodeID, session uint64) {
	if w := c.workers[id]; w != nil && w.session == session {
		w.session = 0
		c.tasks.Disconnect(id)
	}
}

// Report takes in what a worker says that it holds. A report of a session that has ended is refused with kind
// engine.KindFenced.
func (c *Core) Report(now time.Time, id engine.NodeID, session uint64, report *enginev1.SyncRequest) error {
	w := c.workers[id]
	if w == nil || w.session != session {
		return engine.Errorf(engine.KindFenced, "report", string(id), "this stream was replaced or its worker's lease has ended")
	}
	first := w.acknowledged == 0
	c.clock = now
	w.reported, w.acknowledged = now, report.GetSequence()
	if report.GetResidentBytes() > 0 {
		w.residentBytes = report.GetResidentBytes()
	}
	c.touch(w)
	c.setSuspect(w, false)
	foreign := report.GetHello() != nil && report.GetHello().GetClusterId() != "" && report.GetHello().GetClusterId() != c.config.ClusterID
	var claimed map[engine.TaskID]struct{}
	if len(w.leases)+len(report.GetHeld())+len(report.GetResults()) > 0 {
		claimed = make(map[engine.TaskID]struct{}, len(w.leases))
	}
	for _, held := range report.GetHeld() {
		task := taskOf(held.GetLease())
		if foreign || !c.renew(now, w, task, held) {
			c.counts.LeasesFenced++
			c.revoke(w, task, engine.Epoch(held.GetLease().GetEpoch()))
			continue
		}
		claimed[task] = struct{}{}
	}
	for _, result := range report.GetResults() {
		task := taskOf(result.GetLease())
		claimed[task] = struct{}{}
		if foreign || !c.takeResult(now, w, task, result) {
			c.settle(w, task, engine.Epoch(result.GetLease().GetEpoch()))
		}
	}
	var missing []engine.TaskID
	for task := range w.leases {
		t := &c.jobs[task.Job].tasks[task.Index]
		// A grant that the worker has not seen yet, it cannot report. What a new session does not begin with, it will never have.
		if _, ok := claimed[task]; !ok && t.state == taskLeased && (first || t.sent && t.lease.grantedIn <= report.GetAcknowledgedSequence()) {
			missing = append(missing, task)
		}
	}
	slices.SortFunc(missing, compareTasks)
	for _, task := range missing {
		c.attemptLost(now, c.jobs[task.Job], task.Index, w, engine.Errorf(engine.KindUnavailable, "run task", task.String(), "the worker does not hold it any more"))
	}
	if was := w.draining; was != report.GetDraining() {
		w.draining = !was
		c.cordon(w)
	}
	c.hearTasks(now, w, report, first, foreign)
	c.hearLeaving(w, report, first)
	c.hearDrain(w, report)
	if report.GetGoodbye() {
		c.bury(now, w, "the worker stopped", true)
	}
	if c.stale || first || c.tasks.Stale() {
		c.schedule(now)
	}
	return nil
}

func taskOf(lease *enginev1.LeaseRef) engine.TaskID {
	return engine.TaskID{Job: engine.JobID(lease.GetJobId()), Index: int(lease.GetTask())}
}

// renew keeps a lease that a worker holds, adopts one that nobody else was granted since, and reports false for one that the
// worker must drop.
func (c *Core) renew(now time.Time, w *worker, id engine.TaskID, held *enginev1.HeldLease) bool {
	j, t := c.find(id)
	epoch := engine.Epoch(held.GetLease().GetEpoch())
	if t == nil || j.ended {
		return false
	}
	switch {
	case t.state == taskLeased && t.worker == w && t.epoch == epoch:
		if !slices.Equal(t.lease.devices, held.GetGpuDevices()) {
			w.used.Add(&j.class.need, t.lease.devices, -1)
			w.used.Add(&j.class.need, held.GetGpuDevices(), 1)
			t.lease.devices = held.GetGpuDevices()
		}
	case t.state == taskWaiting && epoch >= t.epoch:
		c.dequeue(j, id.Index)
		t.epoch = epoch
		t.attempts = max(t.attempts, 1)
		c.hold(j, id.Index, w, held.GetGpuDevices())
	case t.state == taskLeased && epoch > t.epoch && !held.GetLapsed(): // Else the one that has it now may publish at any moment.
		c.revoke(t.worker, id, t.epoch)
		c.release(j, id.Index)
		t.epoch = epoch
		c.hold(j, id.Index, w, held.GetGpuDevices())
	default:
		return false
	}
	if counts := held.GetCounts(); counts != nil {
		if !sameCounts(counts, t.lease.counts) {
			t.lease.progressed = now
		}
		t.lease.counts = counts
	}
	t.sent, t.lease.grantedIn = true, 0
	w.knows[id.Job] = struct{}{} // It has the job from an earlier session.
	return true
}

func (c *Core) find(id engine.TaskID) (*job, *task) {
	j := c.jobs[id.Job]
	if j == nil || id.Index < 0 || id.Index >= len(j.tasks) {
		return nil, nil
	}
	return j, &j.tasks[id.Index]
}

// takeResult acts on how an attempt ended. It reports false if the worker may forget the result at once.
func (c *Core) takeResult(now time.Time, w *worker, id engine.TaskID, result *enginev1.TaskResult) bool {
	j, t := c.find(id)
	epoch := engine.Epoch(result.GetLease().GetEpoch())
	if t == nil || j.ended || t.state == taskDone {
		return false
	}
	if t.state == taskCommitting {
		return t.epoch == epoch // Repeated until it is durable.
	}
	if epoch < t.epoch || t.state == taskLeased && t.worker != w && epoch == t.epoch {
		c.counts.LeasesFenced++
		c.line(j.ID, "WARN", "late result refused: the task's lease had passed on", map[string]string{
			"task": strconv.Itoa(id.Index), "worker": string(w.id),
		})
		return false
	}
	granted := now.Add(-result.GetElapsed().AsDuration())
	if t.state == taskLeased {
		if t.worker == w {
			granted = t.lease.granted
		}
		if t.worker != w && result.GetError() != nil {
			return false // The one that has it now goes on.
		}
		if t.worker != w {
			c.revoke(t.worker, id, t.epoch)
		}
		c.release(j, id.Index)
	} else {
		c.dequeue(j, id.Index)
	}
	t.epoch = epoch
	c.remember(now, w, j, id, result)
	if failure := result.GetError(); failure != nil {
		c.takeFailure(now, w, j, id.Index, rpc.FromProto(failure))
		return false
	}
	if t.again {
		c.line(j.ID, "INFO", "task made its lost output again", map[string]string{"task": strconv.Itoa(id.Index), "worker": string(w.id)})
		c.endRerun(j, id.Index, Rerun{Counts: result.GetCounts()})
		return false // It is committed since long.
	}
	t.state, t.worker, t.lease = taskCommitting, w, &taskLease{counts: result.GetCounts(), result: result, granted: granted, ended: now}
	w.leases[id] = struct{}{}
	c.events.Commits = append(c.events.Commits, Commit{Task: id, Epoch: epoch, Fit: result.GetFit(), Committed: &enginev1.TaskCommitted{
		JobId: string(id.Job), Task: int32(id.Index), Counts: result.GetCounts(), PartSizeBytes: result.GetPartSizeBytes(), //nolint:gosec // A plan has fewer tasks.
		Checkpoint: result.GetCheckpoint(), Parts: result.GetParts(),
	}})
	return true
}

// remember adds an attempt that has ended to the timeline. The worker's clock is not asked.
func (c *Core) remember(now time.Time, w *worker, j *job, id engine.TaskID, result *enginev1.TaskResult) {
	took := result.GetElapsed().AsDuration()
	state := engine.TaskSucceeded
	if result.GetError() != nil {
		state = engine.TaskFailed
	}
	c.config.Tasks.Timeline.Add(timeline.Event{
		Name: jobName(j), Node: w.id, Job: j.ID, Index: id.Index, State: state, Attempt: int(j.tasks[id.Index].attempts), Begin: now.Add(-took), Took: took,
	})
}

// takeFailure retries what may succeed elsewhere and fails the job for what cannot. The task has been released.
func (c *Core) takeFailure(now time.Time, w *worker, j *job, index int, failure *engine.Error) {
	if failure.Kind.Retryable() {
		c.attemptLost(now, j, index, w, failure)
		return
	}
	c.line(j.ID, "ERROR", "task failed", map[string]string{
		"task": strconv.Itoa(index), "worker": string(w.id), "error": failure.Error(),
	})
	if j.tasks[index].again {
		c.endRerun(j, index, Rerun{Err: failure})
		return
	}
	c.enqueue(j, index, time.Time{})
	c.fail(j, failure)
}

// AcknowledgeLogs says up to which line a worker's log lines are kept.
func (c *Core) AcknowledgeLogs(id engine.NodeID, session, sequence uint64) {
	if w := c.workers[id]; w != nil && w.session == session && sequence > w.logSequence {
		w.logSequence = sequence
		c.touch(w)
	}
}

// Answer returns what a worker should hold, as far as its session has not heard it, or nil if the session has ended.
func (c *Core) Answer(now time.Time, id engine.NodeID, session uint64) *enginev1.SyncResponse {
	w := c.workers[id]
	if w == nil || w.session != session {
		return nil
	}
	w.sequence++
	answer := &enginev1.SyncResponse{
		Sequence: w.sequence, AcknowledgedSequence: w.acknowledged, AcknowledgedLogSequence: w.logSequence,
		Revocations: w.revocations, Settled: w.settled, EndedJobs: w.endedJobs, Drain: c.drains[id].order(now, w),
	}
	if !w.welcomed {
		w.welcomed = true
		answer.Welcome = &enginev1.HeadWelcome{
			ProtocolVersion: rpc.WorkerProtocolVersion, ClusterId: c.config.ClusterID, Term: c.config.Term,
			LeaseTime: durationpb.New(c.config.LeaseTime), ReportInterval: durationpb.New(c.config.ReportInterval),
		}
	}
	if wait := c.config.AssignAfter.Sub(now); answer.Welcome != nil && wait > 0 {
		answer.Welcome.AdoptionWait = durationpb.New(wait)
	}
	for _, granted := range w.grants {
		j := c.jobs[granted.Job]
		t := &j.tasks[granted.Index]
		t.sent, t.lease.grantedIn = true, w.sequence
		if _, knows := w.knows[j.ID]; !knows {
			w.knows[j.ID] = struct{}{}
			answer.Jobs = append(answer.Jobs, assignment(j))
		}
		grant := &enginev1.LeaseGrant{
			Lease: leaseRef(granted, t.epoch), Task: j.Plan.GetTasks()[granted.Index], Attempt: t.attempts, GpuDevices: t.lease.devices,
		}
		for _, split := range grant.GetTask().GetSplits() {
			grant.Inputs = append(grant.Inputs, j.Plan.GetInputs()[split.GetInput()])
		}
		answer.Grants = append(answer.Grants, grant)
	}
	for i := range w.leaving {
		if l := &w.leaving[i]; l.revokedIn == 0 {
			l.revokedIn = w.sequence
		}
	}
	w.grants, w.revocations, w.settled, w.endedJobs = nil, nil, nil, nil
	c.tasks.Fill(id, answer)
	return answer
}

// assignment is a job's plan without its tasks and their inputs, which come with their grants: there may be a million.
func assignment(j *job) *enginev1.JobAssignment {
	plan := &enginev1.Plan{}
	proto.Merge(plan, &enginev1.Plan{
		Inputs: j.Plan.GetInputs()[:min(1, len(j.Plan.GetInputs()))], SourceSchema: j.Plan.GetSourceSchema(), OutputColumns: j.Plan.GetOutputColumns(),
		Models: j.Plan.GetModels(), Output: j.Plan.GetOutput(),
	})
	return &enginev1.JobAssignment{JobId: string(j.ID), Spec: j.Spec, Plan: plan, TraceParent: j.TraceParent, Fit: j.Fit}
}
