package jobs

import (
	"context"
	"strconv"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// differences says how what a planned job works on differs from its plan, one line for each difference. It lists the inputs, of which it opens
// none, and reads the models. gone counts the inputs that are not needed any more and are gone.
func (m *Manager) differences(ctx context.Context, job *state.Job, secrets *secret.Set) (gone int, lines []string, err error) {
	done := func(task int) bool { return job.Committed[task] != nil }
	inputs, err := jobplan.CompareInputs(ctx, m.storageOf(secrets), m.config.Places, job.Spec, job.Plan, job.OnlyNew, done)
	if err != nil {
		return 0, nil, err
	}
	models, err := jobplan.CompareModels(ctx, job.Spec, job.Plan)
	return inputs.Done, append(inputs.Lines(), models...), err
}

// Resume makes a failed or stopped job run again. One that is active is left alone; one that succeeded is a conflict, and so is one whose
// inputs or models have changed, with an error that says which. No input is opened of which every row is committed; it may be gone. What is given replaces secrets of the job; others
// stay.
func (m *Manager) Resume(ctx context.Context, id engine.JobID, given secret.Values) (err error) {
	job := m.job(id)
	switch {
	case job == nil:
		return engine.Errorf(engine.KindNotFound, "resume job", string(id), "no such job")
	case job.Ended == nil:
		m.heard(id)
		return nil
	case job.State() == engine.JobSucceeded:
		return engine.Errorf(engine.KindConflict, "resume job", string(id), "it has succeeded: nothing is left to do")
	}
	values, err := m.replaceSecrets(job, given)
	if err != nil {
		return engine.WrapError("resume job", string(id), err)
	}
	secrets := secret.NewSet(values, m.config.AllowedSecrets)
	defer func() { err = secrets.RedactError(err) }()
	gone := 0
	if job.Plan != nil {
		var lines []string
		if gone, lines, err = m.differences(ctx, job, secrets); err != nil {
			return engine.WrapError("resume job", string(id), err)
		}
		if err := jobplan.Changed("resume job", string(id), "what it works on has changed since it was planned:", lines); err != nil {
			return err.WithHint("put the old files back, or submit the job again as a new one")
		}
	}
	if err := m.checkNew(ctx, job, secrets); err != nil {
		return engine.WrapError("resume job", string(id), err)
	}
	output, err := m.output(job.Spec, id, secrets)
	if err != nil {
		return err
	}
	if err := output.checkResume(ctx, job); err != nil {
		return engine.Errorf(engine.KindConflict, "resume job", string(id), "what it has done is gone: %w", err).WithHint("submit the job again as a new one")
	}
	a, wait, err := m.reserve("resume job", id, output.places(), job.SubmissionID)
	for ; wait != nil; a, wait, err = m.reserve("resume job", id, output.places(), job.SubmissionID) {
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
	m.setSecrets(a, secrets)
	var sealed *enginev1.SealedSecrets
	if len(given) > 0 {
		if sealed, err = m.sealSecrets(id, values); err != nil {
			m.remove(a)
			return err
		}
	}
	failpoint.Hit(failpoint.HeadResuming)
	// Its end took away what it had not written to: a job that is not ended and has a plan has its output, also for the next head.
	if err := m.prepareAgain(ctx, job, output); err != nil {
		m.abandon(a, job)
		m.remove(a)
		return engine.WrapError("resume job", string(id), err)
	}
	// The caller may go away meanwhile: what becomes durable is driven all the same.
	err = m.store.ProposeIf(context.WithoutCancel(ctx), func(s *state.State) error {
		if now := s.Job(string(id)); now == nil || now.Ended == nil || now.Resumptions != job.Resumptions {
			return engine.Errorf(engine.KindConflict, "resume job", string(id), "somebody else has resumed it")
		}
		return nil
	}, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobResumed{JobResumed: &enginev1.JobResumed{JobId: string(id), Secrets: sealed}}})
	if err != nil {
		m.remove(a) // Not its output: the resumption may have been recorded all the same.
		return err
	}
	failpoint.Hit(failpoint.HeadResumed)
	m.log(id, "INFO", "job resumed", map[string]string{"tasks_done": strconv.Itoa(job.CommittedCount), "tasks": strconv.Itoa(len(job.Committed))})
	if gone > 0 {
		m.log(id, "INFO", "inputs are gone of which every row is committed", map[string]string{"inputs": strconv.Itoa(gone)})
	}
	close(a.settled)
	m.drive(id, a)
	m.changed(id)
	return nil
}

// prepareAgain makes the output of a planned job ready that has ended, as begin does before a plan is recorded.
func (m *Manager) prepareAgain(ctx context.Context, job *state.Job, output output) error {
	if len(job.Plan.GetTasks()) == 0 {
		return nil // There is no plan yet, or nothing to do.
	}
	if job.OnlyNew {
		if _, err := m.claimNew(ctx, job); err != nil {
			return err
		}
	}
	return output.Prepare(ctx)
}
