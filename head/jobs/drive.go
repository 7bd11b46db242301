package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// drive starts the goroutine that brings an accepted job to its end.
func (m *Manager) drive(id engine.JobID, a *active) {
	started := m.group.Go("job "+string(id), func(groupCtx context.Context) error {
		stop := context.AfterFunc(groupCtx, func() { a.cancel(errShutdown) })
		defer stop()
		err := m.bring(a.ctx, id, a)
		if isShutdown(err) || errors.Is(context.Cause(a.ctx), errShutdown) {
			return nil // The next head takes the job up again.
		}
		view := m.dispatcher.RemoveJob(m.stage(a))
		m.end(groupCtx, a, err, view)
		return nil
	})
	if !started {
		m.logger.Warn("job was accepted while the head stops; the next head takes it up", "job", id)
	}
}

// bring does all that a job needs: plan, prepare, tasks, completion. It returns why the job did not succeed.
//
// A panic, which an input that nobody foresaw may cause, ends the job and not the head: the next head would meet the same input.
func (m *Manager) bring(ctx context.Context, id engine.JobID, a *active) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.logger.ErrorContext(ctx, "driving a job panicked", "job", id, "panic", m.redact(a, fmt.Sprint(p)), "stack", m.redact(a, string(debug.Stack())))
			err = engine.Errorf(engine.KindInternal, "run job", string(id), "panic: %v", p)
		}
	}()
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
	orphanTTL, err := jobplan.OrphanTTL(job.Spec)
	if err != nil {
		return err
	}
	if orphanTTL > 0 {
		defer m.leashed(a, orphanTTL)()
	}
	for passes := true; passes; {
		stage := m.stage(a)
		if _, running := m.dispatcher.Job(stage); !running {
			if err := m.begin(ctx, m.job(id), a); err != nil {
				return causeOf(ctx, err)
			}
			stage = m.stage(a)
		}
		if job := m.job(id); len(job.Plan.GetTasks()) == 0 {
			m.endWithoutWork(a, job)
			return nil
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
		if passes = stage != id; passes {
			m.setPhase(a, "recording what steps were fitted to")
			if err := m.endFit(ctx, a); err != nil {
				return causeOf(ctx, err)
			}
		}
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

// job returns a copy of what is durable of a job, or nil if it is not known.
func (m *Manager) job(id engine.JobID) *state.Job {
	var job *state.Job
	m.store.View(func(s *state.State) {
		if found := s.Job(string(id)); found != nil {
			copied := *found
			copied.Committed = slices.Clone(found.Committed)
			job = &copied
		}
	})
	return job
}

// begin plans a job if it is not, prepares its output, and gives its tasks to the dispatcher.
func (m *Manager) begin(ctx context.Context, job *state.Job, a *active) error {
	select {
	case m.planning <- struct{}{}:
		defer func() { <-m.planning }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m.setPhase(a, "planning")
	plan := job.Plan
	secrets, err := m.secretsOf(job)
	if err != nil {
		return err
	}
	options := m.planningOptions(m.planningObjects(job), secrets)
	if job.OnlyNew {
		if options.Known, err = m.claimNew(ctx, job); err != nil {
			return err
		}
	}
	if plan == nil {
		if plan, err = jobplan.Build(ctx, job.ID, job.Spec, options); err != nil {
			return err
		}
	}
	if len(plan.GetTasks()) == 0 {
		return m.planNothing(ctx, job, plan)
	}
	failpoint.Hit(failpoint.HeadPlanned)
	if err := m.holdInputs(ctx, job, plan); err != nil {
		return err
	}
	output, err := m.output(job.Spec, job.ID, secrets)
	if err != nil {
		return err
	}
	// Before the plan is recorded: a job that has a plan has its output folder too.
	if err := output.Prepare(ctx); err != nil {
		return err
	}
	failpoint.Hit(failpoint.HeadPrepared)
	if fitted := plan.GetFitted(); job.Plan == nil && len(fitted) > 0 && jobplan.IsFitted(jobplan.Resolve(job.Spec, fitted...)) {
		// No pass will do so.
		if err := m.keepFitted(ctx, job, fitted); err != nil {
			return err
		}
	}
	if job.Plan == nil {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: string(job.ID), Plan: plan}}}
		if err := m.recordPlan(ctx, job.ID, entry); err != nil {
			return err
		}
		failpoint.Hit(failpoint.HeadPlanRecorded)
		m.logPlan(job.ID, plan)
	} else {
		m.reviveOutputs(job)
	}
	return m.run(m.job(job.ID), a, time.Time{})
}

// planRetry is the pause after which a plan is recorded again that could not be because the head had lost its lead, perhaps for a moment.
const planRetry = 200 * time.Millisecond

// recordPlan makes a plan durable.
func (m *Manager) recordPlan(ctx context.Context, id engine.JobID, entry *enginev1.LogEntry) error {
	return m.recordOnce(ctx, id, entry, func(job *state.Job) bool { return job.Plan != nil })
}

// recordOnce makes an entry about a job durable, which recorded finds in the state then. That the head does not lead is no fault of the
// job: either it leads again soon, or the job's context ends with the head's term.
func (m *Manager) recordOnce(ctx context.Context, id engine.JobID, entry *enginev1.LogEntry, recorded func(*state.Job) bool) error {
	for {
		err := m.store.Propose(ctx, entry)
		if engine.KindOf(err) != engine.KindUnavailable || err == nil {
			return err
		}
		if job := m.job(id); job != nil && recorded(job) {
			return nil // It was recorded all the same.
		}
		timer := time.NewTimer(planRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
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
		"columns": rpc.ListColumns(plan.GetSourceColumns()),
	})
	for _, output := range append([]*enginev1.OutputPlan{plan.GetOutput()}, plan.GetFurtherOutputs()...) {
		if notice := jobplan.Notice(output); notice != "" {
			m.log(id, "WARN", notice, map[string]string{"output": output.GetFolder()})
		}
	}
}

// run gives a planned job's tasks to the dispatcher, or those of the next pass to which its steps are fitted.
func (m *Manager) run(job *state.Job, a *active, assignAfter time.Time) error {
	if len(job.Plan.GetTasks()) == 0 {
		return nil
	}
	if _, err := m.secretsOf(job); err != nil {
		return err // Its tasks would not get them.
	}
	request, err := jobplan.Resources(job.Spec)
	if err != nil {
		return err
	}
	spec := resolved(job)
	if !jobplan.IsFitted(spec) {
		return m.runFit(a.ctx, job, a, spec, request, assignAfter)
	}
	committed := job.Committed
	m.dispatcher.AddJob(dispatch.Job{
		ID: job.ID, Run: a.run, TraceParent: job.TraceParent, Spec: spec, Plan: job.Plan, Request: request, MaxAttempts: jobplan.MaxAttempts(job.Spec),
		Done:        func(task int) bool { return committed[task] != nil },
		AssignAfter: assignAfter, Holders: m.holders(job.Plan),
	})
	return nil
}

// complete puts the output of a job whose tasks are all committed in its final place.
func (m *Manager) complete(ctx context.Context, id engine.JobID) error {
	select {
	case m.completing <- struct{}{}:
		defer func() { <-m.completing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	job := m.job(id)
	secrets, err := m.secretsOf(job)
	if err != nil {
		return err
	}
	output, err := m.output(job.Spec, id, secrets)
	if err != nil {
		return err
	}
	if err := m.checkStillNew(ctx, job, secrets); err != nil {
		return err
	}
	if err := checkShare(job); err != nil {
		return err
	}
	failpoint.Hit(failpoint.HeadCompleting)
	err = output.complete(ctx, job)
	failpoint.Hit(failpoint.HeadCompleted)
	return err
}

// end records how a job ended. It is tried until the log takes it or the head stops: without the record the job would run again.
func (m *Manager) end(ctx context.Context, a *active, err error, last dispatch.JobView) {
	id := a.id
	job := m.job(id) // It is known until its end is recorded.
	err = m.redactError(a, err)
	ended := &enginev1.JobEnded{JobId: string(id), State: enginev1.JobState_JOB_STATE_SUCCEEDED, AttemptsLost: last.Lost}
	level, message, attributes := "INFO", "job succeeded", map[string]string{}
	switch {
	case errors.Is(err, errStop):
		ended.State, message = enginev1.JobState_JOB_STATE_STOPPED, "job stopped"
	case errors.Is(err, errOrphan):
		ended.State, ended.Error = enginev1.JobState_JOB_STATE_STOPPED, rpc.ToProto(err)
		level, message, attributes = "WARN", "job stopped", map[string]string{"error": err.Error()}
	case err != nil:
		ended.State, ended.Error = enginev1.JobState_JOB_STATE_FAILED, rpc.ToProto(err)
		level, message, attributes = "ERROR", "job failed", map[string]string{"error": err.Error()}
	}
	m.log(id, level, message, attributes)
	m.lines.flush(id) // Who follows the log reads to its end once the job has ended.
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
	failpoint.Hit(failpoint.HeadEndRecorded)
	if err != nil {
		// Only now: a job whose end is not recorded is taken up again by the next head and needs its folder.
		m.abandon(a, job)
	}
	m.freeInputs(context.WithoutCancel(ctx), id, job.Plan)
	m.remove(a)
	m.forgetOld()
}

// endRetry is the pause before the end of a job is recorded again, after the log has refused it.
const endRetry = time.Second

// abandon removes the staging files of a job that did not succeed. What it published stays for a resumption.
func (m *Manager) abandon(a *active, job *state.Job) {
	failpoint.Hit(failpoint.HeadAbandoning)
	output, err := m.outputOf(job)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = output.Abandon(ctx)
	}
	if err != nil {
		m.logger.Warn("staging files stay behind", "job", job.ID, "error", m.redactError(a, err))
	}
}
