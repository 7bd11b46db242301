// Package state is what a head must never forget: a deterministic state machine over a durable log.
//
// State is the machine: entries in, state out, without a clock or I/O. Store is the shell around it: it makes entries durable in
// groups, applies them in order, and lets others look.
package state

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// State is the head's durable state. It is changed by Apply alone and is not safe for concurrent use; Store guards it.
type State struct {
	// Term counts the starts of the head.
	Term uint64
	// ClusterID is made in the first term.
	ClusterID string

	jobs         map[engine.JobID]*Job
	order        []engine.JobID
	bySubmission map[string]engine.JobID
	queues       map[string]*enginev1.Queue
	draining     map[string]*enginev1.NodeDraining
	// tokens are by their ids, which tokenOrder has in the order of their creation.
	tokens     map[string]*enginev1.TokenCreated
	tokenOrder []string
	// trust is nil in a cluster without an authority of its own.
	trust *enginev1.Trust
	// owner marks the jobs that are this state's alone; the others are shared with a clone, and are copied before they change.
	owner *owner
}

// owner is a mark; it is not empty because all empty ones may be the same.
type owner struct{ _ byte }

// Job is what is durable of one job. Messages in it are never changed once they are set, so readers may keep them.
type Job struct {
	// ID, Spec, and SubmitTime are always set.
	ID         engine.JobID
	Spec       *enginev1.JobSpec
	SubmitTime time.Time
	// SubmissionID may be empty.
	SubmissionID string
	// OnlyNew says that the job leaves out inputs that earlier jobs have read.
	OnlyNew bool
	// SubmittedBy is who has submitted it, and GrantedQueues are the queues whose objects it may read, as access.Identity has them; none
	// means all, as in logs of before there were identities.
	SubmittedBy   string
	GrantedQueues []string
	// Secrets are what the references of Spec stand for, sealed; nil if there are none, or if nobody needs them any more.
	Secrets *enginev1.SealedSecrets
	// TraceParent is the span of its submission as a W3C traceparent. It may be empty.
	TraceParent string
	// Plan is nil until the job is planned.
	Plan *enginev1.Plan
	// StartTime is zero until the first task is leased, and again from a resumption to the first lease after it.
	StartTime time.Time
	// Committed holds the committed tasks by index; nil where none is. Its length is the number of tasks once planned.
	Committed []*enginev1.TaskCommitted
	// CommittedCount counts them.
	CommittedCount int
	// Fitted is what passes over the data have found, in the order in which it was found; nil if there was no such pass.
	Fitted *enginev1.JobFitted
	// Ended is nil unless the job is in a terminal state.
	Ended *enginev1.JobEnded
	// EndTime is set with Ended.
	EndTime time.Time
	// Resumptions counts how often the job was resumed, ResumeTime is when it last was.
	Resumptions int32
	ResumeTime  time.Time

	owner *owner
}

// needsSecrets tells whether a job that has ended may need its secrets again. One that failed or was stopped can be resumed, and objects that
// are lost are made again as long as the job is known; a job that has written files or a table is over once it has succeeded.
func (j *Job) needsSecrets() bool {
	return j.State() != engine.JobSucceeded || j.Spec.GetSink().GetObject() != nil
}

// State returns where the job stands.
func (j *Job) State() engine.JobState {
	switch {
	case j.Ended != nil:
		return rpc.JobStateFromProto(j.Ended.GetState())
	case !j.StartTime.IsZero():
		return engine.JobRunning
	default:
		return engine.JobPending
	}
}

// Queue is the queue of the job, and the security domain of what it makes.
func (j *Job) Queue() string { return cmp.Or(j.Spec.GetQueue(), access.DefaultQueue) }

// MayRead reports whether the job may read objects of a security domain.
func (j *Job) MayRead(domain string) bool {
	return len(j.GrantedQueues) == 0 || access.GrantsQueue(j.GrantedQueues, domain)
}

// New returns an empty state.
func New() *State {
	return &State{
		jobs: map[engine.JobID]*Job{}, bySubmission: map[string]engine.JobID{},
		queues: map[string]*enginev1.Queue{}, draining: map[string]*enginev1.NodeDraining{},
		tokens: map[string]*enginev1.TokenCreated{}, owner: new(owner),
	}
}

// Job returns a job by its id or its submission id, or nil.
func (s *State) Job(id string) *Job {
	if job, ok := s.jobs[engine.JobID(id)]; ok {
		return job
	}
	if byName, ok := s.bySubmission[id]; ok {
		return s.jobs[byName]
	}
	return nil
}

// BySubmission returns the job of a submission id, or nil.
func (s *State) BySubmission(submissionID string) *Job {
	if id, ok := s.bySubmission[submissionID]; ok && submissionID != "" {
		return s.jobs[id]
	}
	return nil
}

// Jobs returns all jobs in order of acceptance.
func (s *State) Jobs() []*Job {
	jobs := make([]*Job, 0, len(s.order))
	for _, id := range s.order {
		jobs = append(jobs, s.jobs[id])
	}
	return jobs
}

// JobCount returns how many jobs there are.
func (s *State) JobCount() int { return len(s.order) }

// Queue returns a queue that somebody set, or nil.
func (s *State) Queue(name string) *enginev1.Queue { return s.queues[name] }

// Queues returns the queues that somebody set, in order of their names. They may be kept, and must not be changed.
func (s *State) Queues() []*enginev1.Queue {
	queues := make([]*enginev1.Queue, 0, len(s.queues))
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		queues = append(queues, s.queues[name])
	}
	return queues
}

// Draining returns the nodes that are to drain, in order of their ids. They may be kept, and must not be changed.
func (s *State) Draining() []*enginev1.NodeDraining {
	nodes := make([]*enginev1.NodeDraining, 0, len(s.draining))
	for _, id := range slices.Sorted(maps.Keys(s.draining)) {
		nodes = append(nodes, s.draining[id])
	}
	return nodes
}

// Trust is what the heads agree on about certificates; nil in a cluster without an authority of its own. It may be kept, and must not be
// changed.
func (s *State) Trust() *enginev1.Trust { return s.trust }

// Apply takes in one entry. An entry that contradicts the state, or whose kind is unknown, is an error of kind engine.KindCorrupt
// and changes nothing.
func (s *State) Apply(entry *enginev1.LogEntry) error {
	at := entry.GetTime().AsTime()
	switch fact := entry.GetFact().(type) {
	case *enginev1.LogEntry_HeadStarted:
		if t := fact.HeadStarted.GetTerm(); t <= s.Term {
			return contradiction("head started in term %d after term %d", t, s.Term)
		}
		s.Term = fact.HeadStarted.GetTerm()
		if id := fact.HeadStarted.GetClusterId(); id != "" {
			s.ClusterID = id
		}
		return nil
	case *enginev1.LogEntry_JobAccepted:
		return s.accept(fact.JobAccepted, at)
	case *enginev1.LogEntry_JobPlanned:
		return s.change(fact.JobPlanned.GetJobId(), func(job *Job) error {
			if job.Plan != nil {
				return contradiction("job %s is planned twice", job.ID)
			}
			job.setPlan(fact.JobPlanned.GetPlan())
			return nil
		})
	case *enginev1.LogEntry_JobFitted:
		return s.change(fact.JobFitted.GetJobId(), func(job *Job) error { return job.fit(fact.JobFitted) })
	case *enginev1.LogEntry_JobStarted:
		return s.change(fact.JobStarted.GetJobId(), func(job *Job) error {
			job.StartTime = at
			return nil
		})
	case *enginev1.LogEntry_TaskCommitted:
		return s.change(fact.TaskCommitted.GetJobId(), func(job *Job) error { return job.commit(fact.TaskCommitted) })
	case *enginev1.LogEntry_JobEnded:
		return s.change(fact.JobEnded.GetJobId(), func(job *Job) error {
			if job.Ended != nil {
				return contradiction("job %s ends twice", job.ID)
			}
			job.Ended, job.EndTime = fact.JobEnded, at
			if !job.needsSecrets() {
				job.Secrets = nil
			}
			return nil
		})
	case *enginev1.LogEntry_JobResumed:
		return s.change(fact.JobResumed.GetJobId(), func(job *Job) error {
			if job.Ended == nil || job.Ended.GetState() == enginev1.JobState_JOB_STATE_SUCCEEDED {
				return contradiction("job %s is resumed while %s", job.ID, job.State())
			}
			job.Ended, job.StartTime, job.EndTime, job.ResumeTime = nil, time.Time{}, time.Time{}, at
			job.Resumptions++
			if sealed := fact.JobResumed.GetSecrets(); sealed != nil {
				job.Secrets = sealed
			}
			return nil
		})
	case *enginev1.LogEntry_JobForgotten:
		return s.forget(engine.JobID(fact.JobForgotten.GetJobId()))
	case *enginev1.LogEntry_QueueSet:
		return s.setQueue(fact.QueueSet.GetQueue())
	case *enginev1.LogEntry_QueueDeleted:
		name := fact.QueueDeleted.GetName()
		if s.queues[name] == nil {
			return contradiction("queue %q is deleted but does not exist", name)
		}
		delete(s.queues, name)
		return nil
	case *enginev1.LogEntry_NodeDraining:
		return s.drain(fact.NodeDraining)
	case *enginev1.LogEntry_NodeDrained:
		id := fact.NodeDrained.GetNodeId()
		if s.draining[id] == nil {
			return contradiction("node %q has drained but was not to", id)
		}
		delete(s.draining, id)
		return nil
	case *enginev1.LogEntry_TokenCreated:
		return s.createToken(fact.TokenCreated, at)
	case *enginev1.LogEntry_TokenRevoked:
		return s.revokeToken(fact.TokenRevoked.GetTokenId(), at)
	case *enginev1.LogEntry_Trust:
		s.trust = fact.Trust
		return nil
	case *enginev1.LogEntry_Snapshot:
		fresh := New()
		if err := fresh.add(fact.Snapshot); err != nil {
			return err
		}
		*s = *fresh
		return nil
	default:
		return contradiction("entry of an unknown kind %T: was this log written by a newer version?", fact)
	}
}

func contradiction(format string, args ...any) error {
	return engine.Errorf(engine.KindCorrupt, "apply log entry", "", format, args...)
}

func (s *State) change(id string, change func(*Job) error) error {
	job, ok := s.jobs[engine.JobID(id)]
	if !ok {
		return contradiction("job %s does not exist", id)
	}
	if job.owner != s.owner {
		copied := *job
		copied.Committed, copied.owner = slices.Clone(job.Committed), s.owner
		job = &copied
		s.jobs[job.ID] = job
	}
	return change(job)
}

func (s *State) setQueue(queue *enginev1.Queue) error {
	if queue.GetName() == "" {
		return contradiction("a queue without a name")
	}
	s.queues[queue.GetName()] = queue
	return nil
}

func (s *State) drain(node *enginev1.NodeDraining) error {
	if node.GetNodeId() == "" {
		return contradiction("a drain without a node")
	}
	s.draining[node.GetNodeId()] = node
	return nil
}

func (s *State) accept(accepted *enginev1.JobAccepted, at time.Time) error {
	id := engine.JobID(accepted.GetJobId())
	if _, ok := s.jobs[id]; ok || id == "" {
		return contradiction("job %q is accepted twice", id)
	}
	if name := accepted.GetSubmissionId(); name != "" {
		if other, ok := s.bySubmission[name]; ok {
			return contradiction("submission id %q of job %s belongs to job %s", name, id, other)
		}
		s.bySubmission[name] = id
	}
	s.jobs[id] = &Job{ID: id, SubmissionID: accepted.GetSubmissionId(), TraceParent: accepted.GetTraceParent(), Spec: accepted.GetSpec(), SubmitTime: at,
		SubmittedBy: accepted.GetSubmittedBy(), GrantedQueues: accepted.GetGrantedQueues(), OnlyNew: accepted.GetOnlyNew(), Secrets: accepted.GetSecrets(), owner: s.owner}
	s.order = append(s.order, id)
	return nil
}

func (s *State) forget(id engine.JobID) error {
	job, ok := s.jobs[id]
	if !ok || job.Ended == nil {
		return contradiction("job %s is forgotten but has not ended", id)
	}
	delete(s.jobs, id)
	if job.SubmissionID != "" {
		delete(s.bySubmission, job.SubmissionID)
	}
	s.order = slices.DeleteFunc(s.order, func(other engine.JobID) bool { return other == id })
	return nil
}

func (j *Job) setPlan(plan *enginev1.Plan) {
	j.Plan = plan
	j.Committed = make([]*enginev1.TaskCommitted, len(plan.GetTasks()))
	j.CommittedCount = 0
}

// fit adds what a pass over the data has found.
func (j *Job) fit(found *enginev1.JobFitted) error {
	if j.Plan == nil || len(found.GetColumns()) == 0 {
		return contradiction("job %s is fitted before it is planned, or to nothing", j.ID)
	}
	type place struct {
		step   int32
		column string
	}
	seen := map[place]bool{}
	all := append(slices.Clone(j.Fitted.GetColumns()), found.GetColumns()...)
	for _, c := range all {
		at := place{c.GetStep(), c.GetColumn()}
		if int(at.step) >= len(j.Spec.GetSteps()) || seen[at] {
			return contradiction("job %s is fitted to column %q in step %d, which it does not have or was fitted already", j.ID, at.column, at.step)
		}
		seen[at] = true
	}
	j.Fitted = &enginev1.JobFitted{
		JobId: found.GetJobId(), Columns: all, OutputColumns: found.GetOutputColumns(),
		Passes: j.Fitted.GetPasses() + 1,
	}
	return nil
}

// OutputColumns are the columns of the output; nil before they are known.
func (j *Job) OutputColumns() []*enginev1.ColumnInfo {
	if columns := j.Fitted.GetOutputColumns(); len(columns) > 0 {
		return columns
	}
	return j.Plan.GetOutputColumns()
}

// commit records a task once: the first record counts.
func (j *Job) commit(committed *enginev1.TaskCommitted) error {
	task := int(committed.GetTask())
	if task < 0 || task >= len(j.Committed) {
		return contradiction("job %s has no task %d", j.ID, task)
	}
	if j.Committed[task] == nil {
		j.Committed[task] = committed
		j.CommittedCount++
	}
	return nil
}

// SameSpec reports whether two submissions ask for the same job.
func SameSpec(a, b *enginev1.JobSpec) bool { return proto.Equal(a, b) }
