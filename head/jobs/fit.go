package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// A job with steps that are to be fitted to its data has passes before its tasks. To the dispatcher and the workers a pass is a job of its
// own, so leases and results of one are never taken for those of another. What its tasks have seen is merged here, in memory: a head that
// ends before a pass does has it begin again. What a pass has found is durable, and no later head or run looks for it again.

// fitMark parts a job's id and the number of a pass in the pass's id; no job's id holds it.
const fitMark = "-fit"

// Of returns the job that a pass belongs to; of any other id, the id itself.
func Of(id engine.JobID) engine.JobID {
	job, _, _ := strings.Cut(string(id), fitMark)
	return engine.JobID(job)
}

// fitPass is a pass over the data of an active job.
type fitPass struct {
	// id is the dispatcher's, number counts the job's passes from 1, tasks is how many it has.
	id     engine.JobID
	number int
	tasks  int

	mu   sync.Mutex
	pass *fit.Pass
	done map[int]bool
	rows int64
}

// take merges what a task has seen.
func (p *fitPass) take(commit dispatch.Commit) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done[commit.Task.Index] {
		return nil
	}
	if err := p.pass.Merge(commit.Fit); err != nil {
		return err
	}
	p.done[commit.Task.Index] = true
	p.rows += commit.Committed.GetCounts().GetRowsRead()
	return nil
}

// describe says how far the pass is, in words.
func (p *fitPass) describe(view dispatch.JobView) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("fitting steps to the data, pass %d: %d of %d tasks, %d rows", p.number, len(p.done), p.tasks, p.rows+view.Live.GetRowsRead())
	if view.Reason != "" {
		text += "; " + view.Reason
	}
	return text
}

// stage is what the dispatcher calls the part of a job that runs now.
func (m *Manager) stage(a *active) engine.JobID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return a.stageLocked()
}

func (a *active) stageLocked() engine.JobID {
	if a.fit != nil {
		return a.fit.id
	}
	return a.id
}

// resolved is a job's spec with all that its steps were fitted to.
func resolved(job *state.Job) *enginev1.JobSpec { return jobplan.Resolve(job.Spec, fittedOf(job)...) }

func fittedOf(job *state.Job) []*enginev1.FittedColumn {
	return append(job.Plan.GetFitted()[:len(job.Plan.GetFitted()):len(job.Plan.GetFitted())], job.Fitted.GetColumns()...)
}

// runFit gives the next pass of a job to the dispatcher. spec is resolved, and not fitted.
func (m *Manager) runFit(ctx context.Context, job *state.Job, a *active, spec *enginev1.JobSpec, request engine.Resources, assignAfter time.Time) error {
	next, err := jobplan.NextPass(ctx, spec, job.Plan, m.config.Operators)
	if err != nil {
		return err
	}
	number := int(job.Fitted.GetPasses()) + 1
	pass := &fitPass{
		id: job.ID + engine.JobID(fitMark+strconv.Itoa(number)), number: number, tasks: len(next.Plan.GetTasks()),
		pass: fit.NewPass(next.Targets), done: map[int]bool{},
	}
	if name := next.Spec.GetName(); name != "" {
		next.Spec.Name = name + " (fit)"
	}
	m.mu.Lock()
	a.fit = pass
	m.mu.Unlock()
	m.log(job.ID, "INFO", "fitting steps to the data", map[string]string{"pass": strconv.Itoa(number), "columns": nameTargets(next.Targets)})
	m.dispatcher.AddJob(dispatch.Job{
		ID: pass.id, Run: a.run, TraceParent: job.TraceParent, Spec: next.Spec, Plan: next.Plan, Fit: true, Request: request,
		MaxAttempts: jobplan.MaxAttempts(job.Spec), AssignAfter: assignAfter, Holders: m.holders(job.Plan),
	})
	return nil
}

// maxNamed bounds the columns that a line of the log names.
const maxNamed = 20

func nameTargets(targets []fit.Target) string {
	var names []string
	for i, target := range targets {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(targets)-maxNamed))
			break
		}
		names = append(names, strconv.Quote(target.Column))
	}
	return strings.Join(names, ", ")
}

// commitFit takes in what a task of a pass has seen. It need not be durable: the next head begins the pass again.
func (m *Manager) commitFit(commit dispatch.Commit) {
	m.mu.Lock()
	a := m.active[Of(commit.Task.Job)]
	var pass *fitPass
	run := dispatch.Run{Job: commit.Task.Job}
	if a != nil && a.stageLocked() == commit.Task.Job {
		pass, run.Number = a.fit, a.run
	}
	m.mu.Unlock()
	if pass != nil {
		if err := pass.take(commit); err != nil {
			m.conclude(run, err)
		}
	}
	m.dispatcher.Committed(commit)
}

// endFit makes durable what a pass has found, whose tasks have all ended, and begins what comes next.
func (m *Manager) endFit(ctx context.Context, a *active) error {
	m.mu.Lock()
	pass := a.fit
	m.mu.Unlock()
	columns, err := pass.pass.Results() // Nobody merges any more.
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.HeadFitEnded)
	job := m.job(a.id)
	found := &enginev1.JobFitted{JobId: string(a.id), Columns: columns}
	all := append(fittedOf(job), columns...)
	if spec := jobplan.Resolve(job.Spec, all...); jobplan.IsFitted(spec) {
		if found.OutputColumns, err = m.outputColumns(ctx, job, spec); err != nil {
			return err
		}
		// Before it is recorded: a job that is fitted has its file, too.
		if err := m.keepFitted(ctx, job, all); err != nil {
			return err
		}
		failpoint.Hit(failpoint.HeadFitKept)
	}
	if err := m.recordFit(ctx, a.id, pass.number, found); err != nil {
		return err
	}
	failpoint.Hit(failpoint.HeadFitRecorded)
	m.logFitted(a.id, pass, columns)
	m.dispatcher.RemoveJob(pass.id)
	m.mu.Lock()
	a.fit = nil
	m.mu.Unlock()
	return m.run(m.job(a.id), a, time.Time{})
}

// outputColumns returns the columns of a job's output, once its steps are fitted: spec has all values.
func (m *Manager) outputColumns(ctx context.Context, job *state.Job, spec *enginev1.JobSpec) ([]*enginev1.ColumnInfo, error) {
	secrets, err := m.secretsOf(job)
	if err != nil {
		return nil, err
	}
	return jobplan.Fitted(ctx, job.ID, spec, job.Plan, m.planningOptions(nil, secrets))
}

// recordFit makes what a pass has found durable; see recordPlan.
func (m *Manager) recordFit(ctx context.Context, id engine.JobID, number int, found *enginev1.JobFitted) error {
	recorded := func(job *state.Job) bool { return int(job.Fitted.GetPasses()) >= number }
	return m.recordOnce(ctx, id, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobFitted{JobFitted: found}}, recorded)
}

func (m *Manager) logFitted(id engine.JobID, pass *fitPass, columns []*enginev1.FittedColumn) {
	attributes := map[string]string{"pass": strconv.Itoa(pass.number), "rows": strconv.FormatInt(pass.rows, 10)}
	for i, c := range columns {
		if i == maxNamed {
			break
		}
		key := c.GetColumn()
		if attributes[key] != "" {
			continue
		}
		switch {
		case c.Mean != nil:
			attributes[key] = fmt.Sprintf("mean %v, std %v", c.GetMean(), c.GetStd())
		case c.Min != nil:
			attributes[key] = fmt.Sprintf("min %v, max %v", c.GetMin(), c.GetMax())
		default:
			attributes[key] = fmt.Sprintf("%d categories", len(c.GetCategories()))
		}
	}
	m.log(id, "INFO", "steps fitted", attributes)
}

// keepFitted puts what a job was fitted to beside its output, in every folder that gets its rows.
func (m *Manager) keepFitted(ctx context.Context, job *state.Job, columns []*enginev1.FittedColumn) error {
	content, err := jobplan.FittedFile(job.ID, job.Spec, columns)
	if err != nil {
		return err
	}
	output, err := m.outputOf(job)
	if err != nil {
		return err
	}
	folders, ok := output.(foldersOutput)
	if !ok {
		m.log(job.ID, "WARN", "what steps were fitted to is not kept for other jobs: the output is no folder", nil)
		return nil
	}
	name := folder.RecordName(fit.RecordKind, job.ID, -1)
	for _, f := range folders.folders {
		if f.Name == jobplan.RejectsName {
			continue
		}
		won, err := f.Place.PutRecord(ctx, name, "head", content)
		if err != nil {
			return err
		}
		if won {
			continue
		}
		// A head that ended before it could record that has kept the same.
		kept, err := f.Place.Record(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if string(kept) != string(content) {
			return engine.Errorf(engine.KindConflict, "keep fitted values", f.Place.Target(), "%s/%s holds other values than the data gives", folder.NotesName, name).
				WithHint("somebody changed the file, or the data; submit the job again as a new one")
		}
	}
	return nil
}
