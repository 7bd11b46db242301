package jobs

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Submission is a job as somebody hands it in.
type Submission struct {
	// ID is the id that the job is to have. A job that has it already is what an earlier try of the same call has made, if it is the same
	// submission, and is not attached to; otherwise it is a conflict. Empty means that the manager makes one.
	ID engine.JobID
	// SubmissionID finds the job that an earlier submission has made; it may be empty.
	SubmissionID string
	// Spec is the job. Required.
	Spec *enginev1.JobSpec
	// OnlyNew leaves out the inputs that earlier jobs with the same output have read.
	OnlyNew bool
	// SubmittedBy is who has submitted it, and GrantedQueues are the queues whose objects it may read, as access.Identity has them.
	SubmittedBy   string
	GrantedQueues []string
	// Secrets are the values of what the job refers to. What it does not refer to is dropped, and so are all if the submission attaches to a job.
	Secrets secret.Values
}

// Submit accepts a job, or finds the one that the submission id names. When it returns, the job is durable.
//
// A job of that submission id which has ended is a conflict if its inputs or models are not what they were: it would not do now what it has
// done. One that is under way is attached to.
func (m *Manager) Submit(ctx context.Context, submission Submission) (id engine.JobID, attached bool, err error) {
	if submission.ID != "" {
		if err := engine.CheckJobID(submission.ID); err != nil {
			return "", false, engine.WrapError("submit job", "", err)
		}
	}
	if submission.SubmissionID != "" {
		if err := engine.CheckSubmissionID(submission.SubmissionID); err != nil {
			return "", false, engine.WrapError("submit job", "", err)
		}
	}
	for {
		id, err := m.attach(submission)
		if err != nil {
			return "", false, err
		}
		if id != "" && id != submission.ID {
			m.heard(id)
			return id, true, m.checkAttached(ctx, id, submission)
		}
		if id != "" {
			return id, false, nil
		}
		id, wait, err := m.accept(ctx, submission)
		if wait == nil {
			return id, false, err
		}
		// Another call submits under this id at this moment: attach to what becomes of it. Or a job that wrote this output is tidied up.
		select {
		case <-wait:
		case <-ctx.Done():
			return "", false, engine.WrapError("submit job", submission.SubmissionID, context.Cause(ctx))
		}
	}
}

// accept makes a new job durable and begins to drive it, unless it takes over what an earlier job has made. If the submission id is in
// another call's hands, or the output will be free in a moment, it returns a channel to wait for.
func (m *Manager) accept(ctx context.Context, submission Submission) (id engine.JobID, wait <-chan struct{}, err error) {
	spec := submission.Spec
	if err := jobplan.Validate(spec); err != nil {
		return "", nil, err
	}
	if submission.OnlyNew {
		if err := jobplan.CheckOnlyNew(spec); err != nil {
			return "", nil, err
		}
	}
	if id = submission.ID; id == "" {
		id = engine.NewJobID(time.Now())
	}
	values, err := secret.Select(spec, submission.Secrets, jobplan.Suggestion)
	if err != nil {
		return "", nil, err
	}
	secrets := secret.NewSet(values, m.config.AllowedSecrets)
	defer func() { err = secrets.RedactError(err) }()
	output, err := m.output(spec, id, secrets)
	if err != nil {
		return "", nil, err
	}
	a, wait, err := m.reserve("submit job", id, output.places(), submission.SubmissionID)
	if err != nil || wait != nil {
		return "", wait, err
	}
	m.setSecrets(a, secrets)
	var cached jobplan.Cached
	if !submission.OnlyNew {
		cached, err = jobplan.FindCached(ctx, id, spec, time.Now(), m.planningOptions(m.planningObjects(&state.Job{ID: id, Spec: spec, GrantedQueues: submission.GrantedQueues}), secrets))
	}
	if err == nil && cached.Output == nil {
		err = output.Check(ctx)
	}
	if err == nil {
		err = m.checkNew(ctx, &state.Job{ID: id, Spec: spec, OnlyNew: submission.OnlyNew}, secrets)
	}
	var sealed *enginev1.SealedSecrets
	if err == nil && cached.Output == nil {
		sealed, err = m.sealSecrets(id, values)
	}
	if err != nil {
		m.remove(a)
		return "", nil, err
	}
	ctx, end := telemetry.Begin(ctx, "submit job", attribute.String("engine.job", string(id)), attribute.String("engine.job.name", spec.GetName()))
	defer func() { end(secrets.RedactError(err)) }()
	entries := []*enginev1.LogEntry{{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{
		JobId: string(id), SubmissionId: submission.SubmissionID, Spec: spec, TraceParent: telemetry.Parent(ctx), OnlyNew: submission.OnlyNew,
		SubmittedBy: submission.SubmittedBy, GrantedQueues: submission.GrantedQueues,
		Secrets: sealed,
	}}}}
	if cached.Output != nil {
		entries = append(entries, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobEnded{JobEnded: &enginev1.JobEnded{
			JobId: string(id), State: enginev1.JobState_JOB_STATE_SUCCEEDED, Cached: cached.Output,
		}}})
	}
	failpoint.Hit(failpoint.HeadChecked)
	// The caller may go away meanwhile: what becomes durable is driven all the same.
	err = m.store.ProposeIf(context.WithoutCancel(ctx), func(s *state.State) error {
		switch other := s.BySubmission(submission.SubmissionID); {
		case other == nil:
		case !access.GrantsQueue(submission.GrantedQueues, other.Spec.GetQueue()):
			return errSubmissionTaken(submission)
		default:
			return engine.Errorf(engine.KindConflict, "submit job", submission.SubmissionID, "another submission of this id came first: job %s", other.ID)
		}
		return nil
	}, entries...)
	if err != nil {
		m.remove(a)
		return "", nil, err
	}
	failpoint.Hit(failpoint.HeadAccepted)
	m.log(id, "INFO", "job accepted", map[string]string{"name": spec.GetName()})
	if cached.Miss != "" {
		m.log(id, "INFO", "no earlier output is taken over: "+cached.Miss, map[string]string{"cache": spec.GetCache()})
	}
	if cached.Output != nil {
		m.log(id, "INFO", "an earlier job has made the same: its output is taken over", map[string]string{
			"job": cached.Output.GetJobId(), "finished": cached.Finished.UTC().Format(time.RFC3339), "files": strconv.Itoa(len(cached.Output.GetOutputs())),
		})
		m.lines.flush(id)
		m.remove(a)
		m.forgetOld()
		return id, nil, nil
	}
	close(a.settled)
	m.drive(id, a)
	return id, nil, nil
}

func errSubmissionTaken(submission Submission) error {
	return engine.Errorf(engine.KindConflict, "submit job", submission.SubmissionID, "another job has this submission id")
}

// attach finds the job of a submission id, or of the id that the submission asks for. Another job than the one submitted is a conflict.
func (m *Manager) attach(submission Submission) (id engine.JobID, err error) {
	var other *state.Job
	m.store.View(func(s *state.State) {
		known := s.BySubmission(submission.SubmissionID)
		if job := s.Job(string(submission.ID)); known == nil && job != nil && job.ID == submission.ID {
			if job.SubmissionID != submission.SubmissionID || !state.SameSpec(job.Spec, submission.Spec) || job.OnlyNew != submission.OnlyNew {
				err = engine.Errorf(engine.KindConflict, "submit job", string(submission.ID), "this id belongs to another job")
				return
			}
			known = job
		}
		switch {
		case known == nil:
		case !access.GrantsQueue(submission.GrantedQueues, known.Spec.GetQueue()):
			// What it is shows to those alone who are granted its queue.
			err = errSubmissionTaken(submission)
		case !state.SameSpec(known.Spec, submission.Spec) || known.OnlyNew != submission.OnlyNew:
			other = &state.Job{ID: known.ID, Spec: known.Spec, OnlyNew: known.OnlyNew}
		default:
			id = known.ID
		}
	})
	if other == nil {
		return id, err
	}
	// What must not stand in a job file is not to be shown either.
	if err := jobplan.Validate(submission.Spec); err != nil {
		return "", err
	}
	return "", differs(other, submission)
}

// differs says how a submission differs from the job that has its submission id.
func differs(known *state.Job, submission Submission) error {
	lines := jobplan.SpecChanges(known.Spec, submission.Spec)
	if known.OnlyNew != submission.OnlyNew {
		lines = append(lines, "only_new: "+strconv.FormatBool(known.OnlyNew)+" -> "+strconv.FormatBool(submission.OnlyNew))
	}
	return jobplan.Changed("submit job", submission.SubmissionID, "this submission id belongs to job "+string(known.ID)+", which has another spec:", lines).
		WithHint("use another submission id; `engine job show %s` prints what that job does", known.ID)
}

// checkAttached refuses to hand out a job that has ended for a submission whose inputs or models are not those of the job.
func (m *Manager) checkAttached(ctx context.Context, id engine.JobID, submission Submission) (err error) {
	job := m.job(id)
	if job == nil || job.Ended == nil || job.Plan == nil {
		return nil
	}
	// A job that has succeeded has its secrets no more.
	values, err := m.replaceSecrets(job, submission.Secrets)
	if err != nil {
		return err
	}
	secrets := secret.NewSet(values, m.config.AllowedSecrets)
	defer func() { err = secrets.RedactError(err) }()
	_, lines, err := m.differences(ctx, job, secrets)
	if err != nil {
		return err
	}
	if err := jobplan.Changed("submit job", submission.SubmissionID, "this submission id belongs to job "+string(id)+", and what that worked on has changed since:", lines); err != nil {
		return err.WithHint("use another submission id")
	}
	return nil
}
