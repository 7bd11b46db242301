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

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
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
	// Places says which places of this machine jobs may name. Nil allows all.
	Places jobplan.Places
	// Operators are those of the program that steps map may name. Nil means that there are none.
	Operators jobplan.Operators
	// Storage has the buckets that jobs read from and write to. Nil means that there are none: jobs that use one are refused.
	Storage jobplan.Storage
	// Vault seals the secrets that come with jobs. Nil means that none may come.
	Vault *secret.Vault
	// AllowedSecrets are the variables and files of this process that jobs may use as secrets.
	AllowedSecrets secret.Allowed
	// SecretsHeld is called before this process holds a secret in the clear. It may be called often, and must not block. Nil means that nobody wants
	// to know.
	SecretsHeld func()
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
	if c.SecretsHeld == nil {
		c.SecretsHeld = func() {}
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
	// followers counts those who follow a job, whether it is active or not.
	followers map[engine.JobID]int
}

// active is a job that is being driven.
type active struct {
	id engine.JobID
	// ctx ends when the job must: cancel says why.
	ctx    context.Context //nolint:containedctx // It is the job's own lifetime, which begins before its goroutine does.
	cancel context.CancelCauseFunc
	// outcome receives once: nil when all tasks are committed, or why they cannot be.
	outcome chan error
	// outputs are the places that the job writes.
	outputs []string
	// submission is its submission id, or empty.
	submission string
	// run is the number of this run.
	run int32
	// settled is closed when the job's acceptance or resumption is durable or refused, gone when the job is not active any more.
	settled, gone chan struct{}
	// fit is the pass over the data that runs now; nil while the job's own tasks do. Guarded by the manager's lock.
	fit *fitPass
	// phase is what happens outside of tasks, in words; guarded by the manager's lock.
	phase string
	// secrets are the job's; nil until somebody has asked for them. Guarded by the manager's lock.
	secrets *secret.Set
	// leash stops the job when nobody follows it.
	leash leash
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
		followers: map[engine.JobID]int{}, remakes: newRemakes(),
	}
	group.Go("lines", m.lines.run)
	return m
}

// Hooks are what a dispatcher must call so that the manager's jobs proceed.
func (m *Manager) Hooks() dispatch.Hooks {
	return dispatch.Hooks{
		Commit: m.commit,
		Started: func(id engine.JobID) {
			id = Of(id)
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
			if job := Of(line.Job); job != line.Job {
				line.Job, line.Message = job, "fit: "+line.Message
			}
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
	if Of(commit.Task.Job) != commit.Task.Job {
		m.commitFit(commit)
		return
	}
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
		m.checkRejected(commit.Task.Job, commit.Committed)
	})
}

// conclude hands the outcome of a run to the goroutine that drives it.
func (m *Manager) conclude(run dispatch.Run, err error) {
	m.mu.Lock()
	a := m.active[Of(run.Job)]
	late := a == nil || a.run != run.Number || a.stageLocked() != run.Job
	m.mu.Unlock()
	if late {
		return
	}
	select {
	case a.outcome <- err:
	default: // It has one already.
	}
}

// reserve makes place for a job whose output no other active job writes. If the same submission is on its way, or the end of the job's
// earlier run or of another job that wrote the output is being tidied up, it returns a channel to wait for instead.
func (m *Manager) reserve(operation string, id engine.JobID, outputs []string, submissionID string) (*active, <-chan struct{}, error) {
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
	for _, output := range outputs {
		other := m.writing[output]
		if other == nil {
			continue
		}
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
	return m.addLocked(id, outputs, submissionID), nil, nil
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
func (m *Manager) addLocked(id engine.JobID, outputs []string, submission string) *active {
	a := &active{
		id: id, outcome: make(chan error, 1), outputs: outputs, submission: submission, phase: "waiting to be planned",
		settled: make(chan struct{}), gone: make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	m.active[id] = a
	for _, output := range outputs {
		m.writing[output] = a
	}
	if submission != "" {
		m.submitting[submission] = a
	}
	return a
}

// activate is reserve for a job that was accepted long ago.
func (m *Manager) activate(job *state.Job) *active {
	places := []string{job.Plan.GetOutput().GetFolder()}
	if output, err := m.output(job.Spec, job.ID, nil); err == nil {
		places = output.places()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.addLocked(job.ID, places, job.SubmissionID)
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
	for _, output := range a.outputs {
		if m.writing[output] == a {
			delete(m.writing, output)
		}
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

// Phase says what happens to an active job outside of its tasks; empty if nothing does.
func (m *Manager) Phase(id engine.JobID) string {
	phase, pass := "", (*fitPass)(nil)
	m.mu.Lock()
	if a := m.active[id]; a != nil {
		phase, pass = a.phase, a.fit
	}
	m.mu.Unlock()
	if phase == "" && pass != nil {
		view, _ := m.dispatcher.Job(pass.id)
		return pass.describe(view)
	}
	return phase
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
