package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// drive starts the goroutine that brings an accepted job to its end.
func (m *Manager) drive(id engine.JobID, a *active) {
	m.group.Go("job "+string(id), func(groupCtx context.Context) error {
		stop := context.AfterFunc(groupCtx, func() { a.cancel(errShutdown) })
		defer stop()
		err := m.bring(a.ctx, id, a)
		if isShutdown(err) || errors.Is(context.Cause(a.ctx), errShutdown) {
			return nil // The next head takes the job up again.
		}
		view := m.dispatcher.RemoveJob(id)
		m.end(groupCtx, a, err, view)
		return nil
	})
}

// bring does all that a job needs: plan, prepare, tasks, completion. It returns why the job did not succeed.
func (m *Manager) bring(ctx context.Context, id engine.JobID, a *active) error {
	job := m.job(id)
	timeout, err := jobplan.Timeout(job.Spec)
	if err != nil {
		return err
	}
	if timeout > 0 {
		began := job.SubmitTime
		if job.ResumeTime.After(began) {
			began = job.ResumeTime
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, began.Add(timeout),
			engine.Errorf(engine.KindDeadline, "run job", string(id), "it ran longer than its timeout of %s", timeout))
		defer cancel()
	}
	if _, running := m.dispatcher.Job(id); !running {
		if err := m.begin(ctx, job, a); err != nil {
			return causeOf(ctx, err)
		}
	}
	m.setPhase(a, "")
	select {
	case err := <-a.outcome:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return causeOf(ctx, ctx.Err())
	}
	m.setPhase(a, "completing the output")
	return causeOf(ctx, m.complete(ctx, id))
}

// causeOf prefers the reason for which a job's context ended over what that made fail.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// job returns a copy of what is durable of a job.
func (m *Manager) job(id engine.JobID) *state.Job {
	var job state.Job
	m.store.View(func(s *state.State) { job = *s.Job(string(id)) })
	return &job
}

// begin plans a job if it is not, prepares its output, and gives its tasks to the dispatcher.
func (m *Manager) begin(ctx context.Context, job *state.Job, a *active) error {
	select {
	case m.storage <- struct{}{}:
		defer func() { <-m.storage }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m.setPhase(a, "planning")
	plan := job.Plan
	if plan == nil {
		var err error
		if plan, err = jobplan.Build(ctx, job.ID, job.Spec, jobplan.Options{TargetSplitBytes: m.config.TargetSplitBytes}); err != nil {
			return err
		}
	}
	output, err := jobplan.Output(job.Spec, job.ID)
	if err != nil {
		return err
	}
	if err := output.Check(ctx); err != nil {
		return err
	}
	// Before the plan is recorded: a job that has a plan has its output folder too.
	if err := output.Prepare(ctx); err != nil {
		return err
	}
	if job.Plan == nil {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: string(job.ID), Plan: plan}}}
		if err := m.store.Propose(ctx, entry); err != nil {
			return err
		}
		m.logPlan(job.ID, plan)
	}
	return m.run(m.job(job.ID), a, time.Time{})
}

func (m *Manager) logPlan(id engine.JobID, plan *enginev1.Plan) {
	var bytes int64
	for _, input := range plan.GetInputs() {
		bytes += input.GetSizeBytes()
	}
	splits := 0
	for _, task := range plan.GetTasks() {
		splits += len(task.GetSplits())
	}
	m.log(id, "INFO", "job planned", map[string]string{
		"inputs": strconv.Itoa(len(plan.GetInputs())), "bytes": strconv.FormatInt(bytes, 10),
		"splits": strconv.Itoa(splits), "tasks": strconv.Itoa(len(plan.GetTasks())),
	})
}

// run gives a planned job's tasks to the dispatcher.
func (m *Manager) run(job *state.Job, a *active, assignAfter time.Time) error {
	request, err := jobplan.Resources(job.Spec)
	if err != nil {
		return err
	}
	m.setPhase(a, "")
	committed := job.Committed
	m.dispatcher.AddJob(dispatch.Job{
		ID: job.ID, Spec: job.Spec, Plan: job.Plan, Request: request, MaxAttempts: jobplan.MaxAttempts(job.Spec),
		Done:        func(task int) bool { return committed[task] != nil },
		AssignAfter: assignAfter,
	})
	return nil
}

// complete puts the output of a job whose tasks are all committed in its final place.
func (m *Manager) complete(ctx context.Context, id engine.JobID) error {
	select {
	case m.storage <- struct{}{}:
		defer func() { <-m.storage }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	job := m.job(id)
	output, err := jobplan.Output(job.Spec, id)
	if err != nil {
		return err
	}
	success := folder.Success{Job: id, Digests: jobplan.Digests(job.Spec, job.Plan)}
	for i, committed := range job.Committed {
		success.Parts = append(success.Parts, folder.Part{
			Name: job.Plan.GetTasks()[i].GetPart(), Rows: committed.GetCounts().GetRowsWritten(), SizeBytes: committed.GetPartSizeBytes(),
		})
		success.Rows += committed.GetCounts().GetRowsWritten()
	}
	return output.Complete(ctx, success)
}

// end records how a job ended. It is tried until the log takes it or the head stops: without the record the job would run again.
func (m *Manager) end(ctx context.Context, a *active, err error, last dispatch.JobView) {
	id := a.id
	ended := &enginev1.JobEnded{JobId: string(id), State: enginev1.JobState_JOB_STATE_SUCCEEDED, AttemptsLost: last.Lost}
	level, message, attributes := "INFO", "job succeeded", map[string]string{}
	switch {
	case errors.Is(err, errStop):
		ended.State, message = enginev1.JobState_JOB_STATE_STOPPED, "job stopped"
	case err != nil:
		ended.State, ended.Error = enginev1.JobState_JOB_STATE_FAILED, rpc.ToProto(err)
		level, message, attributes = "ERROR", "job failed", map[string]string{"error": err.Error()}
	}
	if err != nil {
		m.abandon(id)
	}
	m.log(id, level, message, attributes)
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobEnded{JobEnded: ended}}
	for {
		proposeErr := m.store.Propose(context.WithoutCancel(ctx), entry)
		if proposeErr == nil {
			break
		}
		m.logger.ErrorContext(ctx, "end of a job was not recorded; trying again", "job", id, "state", ended.GetState(), "error", proposeErr)
		m.setPhase(a, "waiting for the head's log: "+proposeErr.Error())
		timer := time.NewTimer(endRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return // The next head finds the job unfinished and brings it to the same end.
		}
	}
	m.remove(id)
	m.changed(id)
	m.forgetOld()
}

// endRetry is the pause before the end of a job is recorded again, after the log has refused it.
const endRetry = time.Second

// abandon removes the staging files of a job that did not succeed. What it published stays for a resumption.
func (m *Manager) abandon(id engine.JobID) {
	output, err := jobplan.Output(m.job(id).Spec, id)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = output.Abandon(ctx)
	}
	if err != nil {
		m.logger.Warn("staging files stay behind", "job", id, "error", err)
	}
}

// forgetOld drops the oldest ended jobs above the number that is kept.
func (m *Manager) forgetOld() {
	var forget []engine.JobID
	m.store.View(func(s *state.State) {
		ended := 0
		jobs := s.Jobs()
		for _, job := range jobs {
			if job.Ended != nil {
				ended++
			}
		}
		for _, job := range jobs {
			if ended <= m.config.KeepEnded {
				break
			}
			if job.Ended != nil {
				forget = append(forget, job.ID)
				ended--
			}
		}
	})
	for _, id := range forget {
		err := m.store.Propose(context.Background(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobForgotten{JobForgotten: &enginev1.JobForgotten{JobId: string(id)}}})
		if err == nil {
			err = m.logs.Remove(id)
		}
		if err != nil {
			m.logger.Warn("ended job is still remembered", "job", id, "error", fmt.Errorf("%w", err))
		}
	}
}
