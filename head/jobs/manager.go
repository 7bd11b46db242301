// Package jobs drives each job from its acceptance to its end: plan, prepare the output, run the tasks, complete the output. What
// must not be lost goes through the durable state; what the tasks do, the dispatcher decides.
package jobs

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config bounds what the manager keeps and does at a time.
type Config struct {
	// TargetSplitBytes is how large a split of the input should be. Zero means the planner's default.
	TargetSplitBytes int64
	// MaxActive is how many jobs may be neither ended nor stopped; more are refused. Zero means 10,000.
	MaxActive int
	// KeepEnded is how many ended jobs are remembered; the oldest are forgotten. Zero means 1,000.
	KeepEnded int
	// KeepEndedMax is how long an ended job is remembered at most. Zero means 30 days.
	KeepEndedMax time.Duration
	// AssignDelay is how long tasks of jobs that an earlier head had begun wait for the workers that may still hold them.
	AssignDelay time.Duration
	// Planners is how many jobs are planned and prepared at a time, and how many are completed. Zero means 4.
	Planners int
	// KeepEndedFor is how long an ended job is remembered in any case. Zero means 10 minutes.
	KeepEndedFor time.Duration
	// Objects is the cluster's directory of objects. Nil means that there is none: jobs that read or write objects are refused.
	Objects Objects
	// Ephemeral says that the cluster's object stores end with its jobs, so that only outputs with a checkpoint are of use.
	Ephemeral bool
	// OpenStores opens the object stores, and returns when Objects knows of them. It is called before every use of objects. Nil means
	// that they open by themselves.
	OpenStores func(context.Context) error
	// Storage has the buckets that jobs read from. Nil means that there are none: jobs that read from one are refused.
	Storage jobplan.Storage
}

func (c Config) withDefaults() Config {
	if c.MaxActive == 0 {
		c.MaxActive = 10_000
	}
	if c.KeepEnded == 0 {
		c.KeepEnded = 1_000
	}
	if c.Planners == 0 {
		c.Planners = 4
	}
	if c.KeepEndedFor == 0 {
		c.KeepEndedFor = 10 * time.Minute
	}
	if c.KeepEndedMax == 0 {
		c.KeepEndedMax = 30 * 24 * time.Hour
	}
	if c.Objects != nil && c.OpenStores != nil {
		c.Objects = opening{c.Objects, c.OpenStores}
	}
	return c
}

// Manager drives all jobs of a head. It is safe for concurrent use.
type Manager struct {
	config     Config
	store      *state.Store
	dispatcher *dispatch.Dispatcher
	logs       *joblog.Book
	lines      *lines
	logger     *slog.Logger
	group      *lifecycle.Group
	// planning and completing have a place for each job that may do so now: a job that is done need not wait for others' beginning.
	planning, completing chan struct{}
	forgetting           sync.Mutex // Held by the one that forgets old jobs.
	remakes              *remakes

	mu     sync.Mutex
	closed bool // No job is accepted or resumed any more.
	active map[engine.JobID]*active
	// writing finds the active job of an output, submitting that of a submission id.
	writing, submitting map[string]*active
	// changes has a channel for each job that somebody watches.
	changes map[engine.JobID]chan struct{}
}

// active is a job that is being driven.
type active struct {
	id engine.JobID
	// ctx ends when the job must: cancel says why.
	ctx    context.Context //nolint:containedctx // It is the job's own lifetime, which begins before its goroutine does.
	cancel context.CancelCauseFunc
	// outcome receives once: nil when all tasks are committed, or why they cannot be.
	outcome chan error
	// output is the place that the job writes, submission its submission id or empty.
	output, submission string
	// run is the number of this run.
	run int32
	// settled is closed when the job's acceptance or resumption is durable or refused, gone when the job is not active any more.
	settled, gone chan struct{}
	// phase is what happens outside of tasks, in words; guarded by the manager's lock.
	phase string
}

// The causes for which a job's context ends early.
var (
	errStop     = engine.Errorf(engine.KindStopped, "stop job", "", "a user stopped it")
	errShutdown = engine.Errorf(engine.KindUnavailable, "run job", "", "the head is stopping")
)

// New makes a manager. Attach must be called before anything else.
func New(config Config, store *state.Store, logs *joblog.Book, group *lifecycle.Group, logger *slog.Logger) *Manager {
	config = config.withDefaults()
	m := &Manager{
		config: config, store: store, logs: logs, lines: newLines(logs, logger), group: group, logger: logger,
		planning: make(chan struct{}, config.Planners), completing: make(chan struct{}, config.Planners),
		active: map[engine.JobID]*active{}, writing: map[string]*active{}, submitting: map[string]*active{}, changes: map[engine.JobID]chan struct{}{},
		remakes: newRemakes(),
	}
	group.Go("lines", m.lines.run)
	return m
}

// Hooks are what a dispatcher must call so that the manager's jobs proceed.
func (m *Manager) Hooks() dispatch.Hooks {
	return dispatch.Hooks{
		Commit: m.commit,
		Started: func(id engine.JobID) {
			if job := m.job(id); job == nil || job.State() == engine.JobRunning {
				return // It runs since before an earlier head ended.
			}
			m.propose(&enginev1.LogEntry{Fact: &enginev1.LogEntry_JobStarted{JobStarted: &enginev1.JobStarted{JobId: string(id)}}}, func(err error) {
				if err != nil {
					m.logger.Warn("start of a job was not recorded", "job", id, "error", err)
				}
				m.changed(id)
			})
		},
		Rerun:    m.rerunEnded,
		Finished: func(run dispatch.Run) { m.conclude(run, nil) },
		Failed:   func(failure dispatch.Failure) { m.conclude(failure.Run, failure.Err) },
		Line: func(line dispatch.Line) {
			m.log(line.Job, line.Level, line.Message, line.Attributes)
		},
	}
}

// Attach gives the manager its dispatcher and takes up the jobs that an earlier head left unfinished.
func (m *Manager) Attach(dispatcher *dispatch.Dispatcher) {
	m.dispatcher = dispatcher
	var unfinished []*state.Job
	m.store.View(func(s *state.State) {
		for _, job := range s.Jobs() {
			if job.Ended == nil {
				copied := *job
				unfinished = append(unfinished, &copied)
			}
		}
	})
	for _, job := range unfinished {
		a := m.activate(job)
		close(a.settled)
		failpoint.Hit(failpoint.HeadTakenUp)
		if job.Plan != nil {
			// Before the first worker reports what it holds, so that its leases find their tasks.
			if err := m.run(job, a, time.Now().Add(m.config.AssignDelay)); err != nil {
				m.logger.Warn("job could not be taken up at once", "job", job.ID, "error", err)
			}
			m.log(job.ID, "INFO", "job taken up again after a restart of the head", map[string]string{
				"tasks_done": strconv.Itoa(job.CommittedCount), "tasks": strconv.Itoa(len(job.Committed)),
			})
		}
		m.drive(job.ID, a)
	}
	m.group.Go("forget", m.forgetInTime)
}

func (m *Manager) propose(entry *enginev1.LogEntry, done func(error)) {
	m.store.ProposeAsync(context.Background(), done, entry)
}

func (m *Manager) commit(commit dispatch.Commit) {
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_TaskCommitted{TaskCommitted: commit.Committed}}
	failpoint.Hit(failpoint.HeadCommitting)
	m.propose(entry, func(err error) {
		failpoint.Hit(failpoint.HeadCommitted)
		if err != nil {
			m.logger.Error("result was not recorded; its worker repeats it", "task", commit.Task, "error", err)
			m.dispatcher.CommitFailed(commit)
			return
		}
		m.dispatcher.Committed(commit)
	})
}

// conclude hands the outcome of a run to the goroutine that drives it.
func (m *Manager) conclude(run dispatch.Run, err error) {
	m.mu.Lock()
	a := m.active[run.Job]
	m.mu.Unlock()
	if a == nil || a.run != run.Number {
		return
	}
	select {
	case a.outcome <- err:
	default: // It has one already.
	}
}

// Submit accepts a job, or finds the one that the submission id names. When it returns, the job is durable.
func (m *Manager) Submit(ctx context.Context, spec *enginev1.JobSpec, submissionID string) (id engine.JobID, attached bool, err error) {
	return m.SubmitAs(ctx, "", spec, submissionID)
}

// SubmitAs is Submit of a job that is to have the id wanted, unless that is empty. A job that has it already is what an earlier try of the
// same call has made, if it has the same spec and submission id, and is not attached to; otherwise it is a conflict.
func (m *Manager) SubmitAs(ctx context.Context, wanted engine.JobID, spec *enginev1.JobSpec, submissionID string) (id engine.JobID, attached bool, err error) {
	if wanted != "" {
		if err := engine.CheckJobID(wanted); err != nil {
			return "", false, engine.WrapError("submit job", "", err)
		}
	}
	if submissionID != "" {
		if err := engine.CheckSubmissionID(submissionID); err != nil {
			return "", false, engine.WrapError("submit job", "", err)
		}
	}
	for {
		if id, err := m.attach(wanted, spec, submissionID); id != "" || err != nil {
			return id, id != wanted, err
		}
		id, wait, err := m.accept(ctx, wanted, spec, submissionID)
		if wait == nil {
			return id, false, err
		}
		// Another call submits under this id at this moment: attach to what becomes of it. Or a job that wrote this output is tidied up.
		select {
		case <-wait:
		case <-ctx.Done():
			return "", false, engine.WrapError("submit job", submissionID, context.Cause(ctx))
		}
	}
}

// accept makes a new job durable and begins to drive it. If the submission id is in another call's hands, or the output will be free in
// a moment, it returns a channel to wait for.
func (m *Manager) accept(ctx context.Context, wanted engine.JobID, spec *enginev1.JobSpec, submissionID string) (id engine.JobID, wait <-chan struct{}, err error) {
	if err := jobplan.Validate(spec); err != nil {
		return "", nil, err
	}
	if id = wanted; id == "" {
		id = engine.NewJobID(time.Now())
	}
	output, err := m.output(spec, id)
	if err != nil {
		return "", nil, err
	}
	a, wait, err := m.reserve("submit job", id, output.place(), submissionID)
	if err != nil || wait != nil {
		return "", wait, err
	}
	if err := output.Check(ctx); err != nil {
		m.remove(a)
		return "", nil, err
	}
	ctx, end := telemetry.Begin(ctx, "submit job", attribute.String("engine.job", string(id)), attribute.String("engine.job.name", spec.GetName()))
	defer func() { end(err) }()
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{
		JobId: string(id), SubmissionId: submissionID, Spec: spec, TraceParent: telemetry.Parent(ctx),
	}}}
	failpoint.Hit(failpoint.HeadChecked)
	// The caller may go away meanwhile: what becomes durable is driven all the same.
	err = m.store.ProposeIf(context.WithoutCancel(ctx), func(s *state.State) error {
		if other := s.BySubmission(submissionID); other != nil {
			return engine.Errorf(engine.KindConflict, "submit job", submissionID, "another submission of this id came first: job %s", other.ID)
		}
		return nil
	}, entry)
	if err != nil {
		m.remove(a)
		return "", nil, err
	}
	failpoint.Hit(failpoint.HeadAccepted)
	m.log(id, "INFO", "job accepted", map[string]string{"name": spec.GetName()})
	close(a.settled)
	m.drive(id, a)
	return id, nil, nil
}

// attach finds the job of a submission id, or the job wanted. A job with another spec is a conflict.
func (m *Manager) attach(wanted engine.JobID, spec *enginev1.JobSpec, submissionID string) (id engine.JobID, err error) {
	m.store.View(func(s *state.State) {
		known := s.BySubmission(submissionID)
		if job := s.Job(string(wanted)); known == nil && job != nil && job.ID == wanted {
			if job.SubmissionID != submissionID || !state.SameSpec(job.Spec, spec) {
				err = engine.Errorf(engine.KindConflict, "submit job", string(wanted), "this id belongs to another job")
				return
			}
			known = job
		}
		switch {
		case known == nil:
		case !state.SameSpec(known.Spec, spec):
			err = engine.Errorf(engine.KindConflict, "submit job", submissionID, "this submission id belongs to job %s, which has another spec", known.ID).
				WithHint("use another submission id; `engine job show %s` prints what that job does", known.ID)
		default:
			id = known.ID
		}
	})
	return id, err
}

// reserve makes place for a job whose output no other active job writes. If the same submission is on its way, or the end of the job's
// earlier run or of another job that wrote the output is being tidied up, it returns a channel to wait for instead.
func (m *Manager) reserve(operation string, id engine.JobID, output, submissionID string) (*active, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, engine.Errorf(engine.KindUnavailable, operation, "", "the head is stopping")
	}
	if other := m.active[id]; other != nil {
		if m.hasEnded(other) {
			return nil, other.gone, nil
		}
		return nil, other.settled, nil // A submission finds it then, and a resumption has nothing to do.
	}
	if other := m.submitting[submissionID]; other != nil && submissionID != "" {
		return nil, other.settled, nil
	}
	if other := m.writing[output]; other != nil {
		if m.hasEnded(other) {
			return nil, other.gone, nil
		}
		return nil, nil, engine.Errorf(engine.KindConflict, operation, output, "job %s is writing this output", other.id).
			WithHint("wait for it with `engine job wait %s`, or stop it", other.id)
	}
	if len(m.active) >= m.config.MaxActive {
		return nil, nil, engine.Errorf(engine.KindExhausted, operation, "", "%d jobs are waiting or running, which is the limit", len(m.active)).
			WithHint("submit again when some have ended")
	}
	return m.addLocked(id, output, submissionID), nil, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hasEnded tells whether the end of an active job is durable, so that it only has to be tidied up.
func (m *Manager) hasEnded(a *active) (ended bool) {
	if !isClosed(a.settled) {
		return false // It is about to begin, perhaps again.
	}
	m.store.View(func(s *state.State) {
		job := s.Job(string(a.id))
		ended = job != nil && job.Ended != nil
	})
	return ended
}

// addLocked makes a job active.
func (m *Manager) addLocked(id engine.JobID, output, submission string) *active {
	a := &active{
		id: id, outcome: make(chan error, 1), output: output, submission: submission, phase: "waiting to be planned",
		settled: make(chan struct{}), gone: make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	m.active[id], m.writing[output] = a, a
	if submission != "" {
		m.submitting[submission] = a
	}
	return a
}

// activate is reserve for a job that was accepted long ago.
func (m *Manager) activate(job *state.Job) *active {
	place := job.Plan.GetOutput().GetFolder()
	if output, err := m.output(job.Spec, job.ID); err == nil {
		place = output.place()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.addLocked(job.ID, place, job.SubmissionID)
	a.run = job.Resumptions
	return a
}

// remove ends a job's being active.
func (m *Manager) remove(a *active) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active[a.id] != a {
		return
	}
	delete(m.active, a.id)
	if m.writing[a.output] == a {
		delete(m.writing, a.output)
	}
	if m.submitting[a.submission] == a {
		delete(m.submitting, a.submission)
	}
	if c, ok := m.changes[a.id]; ok {
		close(c)
		delete(m.changes, a.id)
	}
	a.cancel(nil)
	select {
	case <-a.settled:
	default:
		close(a.settled)
	}
	close(a.gone)
}

// Close refuses further jobs and resumptions. What is active goes on until the manager's group is stopped.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

// Stop stops a job and returns when that is durable. A job that has ended stays as it is.
func (m *Manager) Stop(ctx context.Context, id engine.JobID) error {
	m.mu.Lock()
	a := m.active[id]
	m.mu.Unlock()
	if a == nil {
		return nil
	}
	a.cancel(errStop)
	for {
		changed := m.Changed(id)
		if m.isEnded(id) {
			return nil
		}
		select {
		case <-changed:
		case <-a.gone: // It has ended, or could not be accepted.
			return nil
		case <-ctx.Done():
			return engine.WrapError("stop job", string(id), context.Cause(ctx))
		}
	}
}

func (m *Manager) isEnded(id engine.JobID) (ended bool) {
	m.store.View(func(s *state.State) {
		job := s.Job(string(id))
		ended = job == nil || job.Ended != nil
	})
	return ended
}

// Resume makes a failed or stopped job run again. One that is active is left alone; one that succeeded is a conflict.
func (m *Manager) Resume(ctx context.Context, id engine.JobID) error {
	job := m.job(id)
	switch {
	case job == nil:
		return engine.Errorf(engine.KindNotFound, "resume job", string(id), "no such job")
	case job.Ended == nil:
		return nil
	case job.State() == engine.JobSucceeded:
		return engine.Errorf(engine.KindConflict, "resume job", string(id), "it has succeeded: nothing is left to do")
	}
	if job.Plan != nil {
		if err := errors.Join(jobplan.CheckInputs(ctx, job.Plan), jobplan.CheckModels(ctx, job.Spec, job.Plan)); err != nil {
			return engine.Errorf(engine.KindConflict, "resume job", string(id), "what it works on has changed since it was planned: %w", err).
				WithHint("submit the job again as a new one")
		}
	}
	output, err := m.output(job.Spec, id)
	if err != nil {
		return err
	}
	if err := output.checkResume(ctx, job); err != nil {
		return engine.Errorf(engine.KindConflict, "resume job", string(id), "what it has done is gone: %w", err).WithHint("submit the job again as a new one")
	}
	a, wait, err := m.reserve("resume job", id, output.place(), job.SubmissionID)
	for ; wait != nil; a, wait, err = m.reserve("resume job", id, output.place(), job.SubmissionID) {
		select {
		case <-wait: // The end of its last run is being tidied up, or somebody else resumes it.
		case <-ctx.Done():
			return engine.WrapError("resume job", string(id), context.Cause(ctx))
		}
		if !m.isEnded(id) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	a.run = job.Resumptions + 1
	failpoint.Hit(failpoint.HeadResuming)
	// The caller may go away meanwhile: what becomes durable is driven all the same.
	err = m.store.ProposeIf(context.WithoutCancel(ctx), func(s *state.State) error {
		if now := s.Job(string(id)); now == nil || now.Ended == nil || now.Resumptions != job.Resumptions {
			return engine.Errorf(engine.KindConflict, "resume job", string(id), "somebody else has resumed it")
		}
		return nil
	}, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobResumed{JobResumed: &enginev1.JobResumed{JobId: string(id)}}})
	if err != nil {
		m.remove(a)
		return err
	}
	failpoint.Hit(failpoint.HeadResumed)
	m.log(id, "INFO", "job resumed", map[string]string{"tasks_done": strconv.Itoa(job.CommittedCount)})
	close(a.settled)
	m.drive(id, a)
	m.changed(id)
	return nil
}

// Phase says what happens to an active job outside of its tasks; empty if nothing does.
func (m *Manager) Phase(id engine.JobID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.active[id]; a != nil {
		return a.phase
	}
	return ""
}

func (m *Manager) setPhase(a *active, phase string) {
	m.mu.Lock()
	a.phase = phase
	m.mu.Unlock()
	m.changed(a.id)
}

// Changed returns a channel that is closed when a job changes other than by progress in its tasks.
func (m *Manager) Changed(id engine.JobID) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.changes[id]
	if !ok && m.active[id] == nil {
		return closed // What is not active changes no more.
	}
	if !ok {
		c = make(chan struct{})
		m.changes[id] = c
	}
	return c
}

// closed is the channel of what does not change any more.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (m *Manager) changed(id engine.JobID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.changes[id]; ok {
		close(c)
		delete(m.changes, id)
	}
}

// Dispatcher returns the dispatcher that runs the jobs' tasks.
func (m *Manager) Dispatcher() *dispatch.Dispatcher { return m.dispatcher }

// ReadLog calls emit with the lines of a job's log; see joblog.Book.Read.
func (m *Manager) ReadLog(ctx context.Context, id engine.JobID, after uint64, follow <-chan struct{}, emit func([]*enginev1.LogLine) error) error {
	m.lines.flush(id)
	return m.logs.Read(ctx, id, after, follow, emit)
}

// log adds a line of the head to a job's log, which is written soon.
func (m *Manager) log(id engine.JobID, level, message string, attributes map[string]string) {
	for name, text := range attributes {
		attributes[name] = rpc.Text(text)
	}
	line := &enginev1.LogLine{Time: timestamppb.Now(), Level: level, Origin: "head", Message: message, Attributes: attributes}
	m.lines.add(id, line)
}

// isShutdown tells a job that ends because the head does from one that ends by itself.
func isShutdown(err error) bool { return errors.Is(err, errShutdown) }
