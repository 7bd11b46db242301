package jobs

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// opRemake is the operation of errors about outputs that are made again.
const opRemake = "make object again"

// maxRemakes bounds the lost objects that are made again at a time.
const maxRemakes = 10_000

// remakes are the lost outputs of jobs that somebody asks for, and that their tasks make again under the same ids. Nothing of it is durable:
// the jobs stay as they have ended, and after the end of a head's term, who asks the next one begins anew.
type remakes struct {
	mu      sync.Mutex
	objects map[engine.ObjectID]*remake
	// tasks hear of the ends of their running again.
	tasks map[engine.TaskID]chan dispatch.Rerun
	jobs  map[engine.JobID]*remaking
}

// remake is a lost object that is made again.
type remake struct {
	id engine.ObjectID
	// jobs own it, lost says how it was lost.
	jobs []engine.JobID
	lost error
	// depth counts the objects that are made again for which this one is needed, one for another.
	depth int
	// done is closed when err says how it has ended.
	done chan struct{}
	err  error
}

// remaking is what is kept of a job while its outputs are made again.
type remaking struct {
	users int
	// outputs are the job's, by their ids.
	outputs map[engine.ObjectID]int
	// inputs are the objects that are held.
	inputs map[engine.ObjectID]struct{}
}

func newRemakes() *remakes {
	return &remakes{
		objects: map[engine.ObjectID]*remake{}, tasks: map[engine.TaskID]chan dispatch.Rerun{}, jobs: map[engine.JobID]*remaking{},
	}
}

// Remake makes a lost object again, if a task of a job has made it, and then tells the directory of objects. It does not block.
func (m *Manager) Remake(asked objects.Asked) {
	if _, err := m.remake(asked, 0); err != nil {
		m.config.Objects.Remade(asked.ID, err)
	}
}

// remake begins to make an object again, unless somebody does.
func (m *Manager) remake(asked objects.Asked, depth int) (*remake, error) {
	if depth > tasks.MaxDepth {
		return nil, engine.Errorf(engine.KindUnavailable, opRemake, asked.ID.String(), "it is lost, and so are the inputs of %d tasks that would make it again", tasks.MaxDepth)
	}
	m.remakes.mu.Lock()
	defer m.remakes.mu.Unlock()
	if r := m.remakes.objects[asked.ID]; r != nil {
		return r, nil
	}
	if len(m.remakes.objects) >= maxRemakes {
		return nil, engine.Errorf(engine.KindExhausted, opRemake, asked.ID.String(), "%d lost objects are made again at this moment, which is the limit", maxRemakes)
	}
	r := &remake{id: asked.ID, jobs: asked.Jobs, lost: asked.Lost, depth: depth, done: make(chan struct{})}
	started := m.group.Go("remake "+asked.ID.String(), func(ctx context.Context) error {
		r.err = m.makeAgain(ctx, r)
		m.remakes.mu.Lock()
		delete(m.remakes.objects, r.id)
		m.remakes.mu.Unlock()
		m.config.Objects.Remade(r.id, r.err) // The directory hears of an object before it hears of what is made of it.
		close(r.done)
		return nil
	})
	if !started {
		return nil, engine.WrapError(opRemake, asked.ID.String(), errShutdown)
	}
	m.remakes.objects[asked.ID] = r
	return r, nil
}

// makeAgain makes an object again, also if it is lost again meanwhile. The error names the object, the job, and what stood in the way.
func (m *Manager) makeAgain(ctx context.Context, r *remake) error {
	id, made := m.makerOf(r)
	if !made {
		return r.lost
	}
	defer m.leaveJob(id.Job)
	fail := func(cause error) error {
		var hint *engine.Error
		text := cause.Error()
		if errors.As(cause, &hint) && hint.Hint != "" {
			text = strings.TrimSuffix(text, " ("+hint.Hint+")") // It follows once, behind all causes.
		}
		failure := engine.Errorf(engine.KindOf(cause), opRemake, r.id.String(), "every copy of this output of job %s (task %d) is lost, and it cannot be made again: %s",
			id.Job, id.Index, tasks.Shorten(text))
		if hint != nil && hint.Hint != "" {
			return failure.WithHint("%s", hint.Hint)
		}
		return failure
	}
	for range tasks.MaxReruns {
		err := m.rerun(ctx, id, r.depth)
		if errors.Is(err, dispatch.ErrRemoved) {
			continue
		}
		if err != nil {
			return fail(err)
		}
		if lost, err := m.config.Objects.Lost(ctx, []engine.ObjectID{r.id}); err != nil || len(lost) == 0 {
			m.endInTime(ctx, id)
			return err
		}
	}
	return fail(engine.Errorf(engine.KindUnavailable, "", "", "it was lost again each of %d times, or its job has changed", tasks.MaxReruns))
}

// endInTime gives up an output that was made again until nobody was to have it any more: the new copy knows no end.
func (m *Manager) endInTime(ctx context.Context, id engine.TaskID) {
	job := m.job(id.Job)
	if job == nil || job.Ended == nil {
		return // It has no end yet, or no owner any more.
	}
	// A spec that was accepted has a sink that can be read.
	kept, err := jobplan.NewObjectOutput(job.Spec, job.ID)
	if err == nil && kept.TTL > 0 && !time.Now().Before(job.EndTime.Add(kept.TTL)) {
		m.release(ctx, job.ID, []engine.ObjectID{kept.ID(id.Index)})
	}
}

// makerOf finds the task whose output an object is. The job is kept in mind until leaveJob.
func (m *Manager) makerOf(r *remake) (id engine.TaskID, made bool) {
	for _, job := range r.jobs {
		outputs := m.enterJob(job)
		if index, ok := outputs[r.id]; ok {
			return engine.TaskID{Job: job, Index: index}, true
		}
		m.leaveJob(job)
	}
	return engine.TaskID{}, false
}

// enterJob returns the outputs of a job by their ids.
func (m *Manager) enterJob(id engine.JobID) map[engine.ObjectID]int {
	enter := func() map[engine.ObjectID]int {
		if known := m.remakes.jobs[id]; known != nil {
			known.users++
			return known.outputs
		}
		return nil
	}
	m.remakes.mu.Lock()
	outputs := enter()
	m.remakes.mu.Unlock()
	if outputs != nil {
		return outputs
	}
	outputs = map[engine.ObjectID]int{}
	if job := m.job(id); job != nil && job.Spec.GetSink().GetObject() != nil {
		for i := range job.Committed {
			outputs[engine.OutputObjectID(engine.TaskID{Job: id, Index: i}, 0)] = i
		}
	}
	m.remakes.mu.Lock()
	defer m.remakes.mu.Unlock()
	if m.remakes.jobs[id] == nil {
		m.remakes.jobs[id] = &remaking{outputs: outputs, inputs: map[engine.ObjectID]struct{}{}}
	}
	return enter()
}

// leaveJob forgets a job when its last output has been made again, and gives up what it has read for that.
func (m *Manager) leaveJob(id engine.JobID) {
	m.remakes.mu.Lock()
	r := m.remakes.jobs[id]
	if r.users--; r.users > 0 {
		m.remakes.mu.Unlock()
		return
	}
	delete(m.remakes.jobs, id)
	m.remakes.mu.Unlock()
	if job := m.job(id); len(r.inputs) == 0 || job == nil || job.Ended == nil {
		return // A job that has not ended needs them itself, and one that is forgotten owns nothing.
	}
	inputs := make([]engine.ObjectID, 0, len(r.inputs))
	for input := range r.inputs {
		inputs = append(inputs, input)
	}
	m.release(context.Background(), id, inputs)
}

// rerun runs a task again once what it reads is there.
func (m *Manager) rerun(ctx context.Context, id engine.TaskID, depth int) error {
	job := m.job(id.Job)
	switch {
	case job == nil:
		return engine.Errorf(engine.KindNotFound, "", "", "the job is forgotten")
	case job.Ended != nil && job.State() != engine.JobSucceeded:
		return engine.Errorf(engine.KindUnavailable, "", "", "the job has %s", job.State())
	case id.Index >= len(job.Committed) || job.Committed[id.Index] == nil:
		return engine.Errorf(engine.KindUnavailable, "", "", "the job is about to run the task")
	}
	timeout, err := jobplan.Timeout(job.Spec)
	if err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, engine.Errorf(engine.KindDeadline, "", "", "it took longer than the job's timeout of %s", timeout))
		defer cancel()
	}
	read := inputsOf(job.Plan, id.Index)
	secrets, err := m.secretsOf(job)
	if err != nil {
		return err
	}
	if err := jobplan.CheckInputs(ctx, m.storageOf(secrets), job.Spec, read); err != nil {
		return err
	}
	if err := m.bringInputs(ctx, job, jobplan.InputObjects(read), depth); err != nil {
		return err
	}
	request, err := jobplan.Resources(job.Spec)
	if err != nil {
		return err
	}
	ended := make(chan dispatch.Rerun, 1)
	m.remakes.mu.Lock()
	m.remakes.tasks[id] = ended
	m.remakes.mu.Unlock()
	defer func() {
		m.remakes.mu.Lock()
		delete(m.remakes.tasks, id)
		m.remakes.mu.Unlock()
	}()
	m.log(id.Job, "INFO", "an output is lost and asked for; its task runs again", map[string]string{"task": strconv.Itoa(id.Index)})
	m.dispatcher.Rerun(dispatch.Job{
		ID: job.ID, Run: job.Resumptions, TraceParent: job.TraceParent, Spec: resolved(job), Plan: job.Plan, Request: request, MaxAttempts: jobplan.MaxAttempts(job.Spec),
	}, id.Index)
	select {
	case end := <-ended:
		m.compare(job, id.Index, end)
		return end.Err
	case <-ctx.Done():
		m.dispatcher.CancelRerun(id, context.Cause(ctx))
		return context.Cause(ctx)
	}
}

// compare warns of an output that has other rows than the lost one: the job's steps give different results for the same input.
func (m *Manager) compare(job *state.Job, index int, end dispatch.Rerun) {
	before, now := job.Committed[index].GetCounts().GetRowsWritten(), end.Counts.GetRowsWritten()
	if end.Err == nil && before != now {
		m.log(job.ID, "WARN", "an output that was made again has another number of rows than the lost one", map[string]string{
			"task": strconv.Itoa(index), "rows": strconv.FormatInt(now, 10), "rows_before": strconv.FormatInt(before, 10),
		})
	}
}

// inputsOf returns a plan that has the inputs of one task alone.
func inputsOf(plan *enginev1.Plan, task int) *enginev1.Plan {
	read := &enginev1.Plan{}
	var places []int32
	for _, split := range plan.GetTasks()[task].GetSplits() {
		places = append(places, split.GetInput())
	}
	slices.Sort(places)
	for _, place := range slices.Compact(places) {
		read.Inputs = append(read.Inputs, plan.GetInputs()[place])
	}
	return read
}

// bringInputs makes sure that objects can be read which a task of a job reads, and that they stay: those that are lost are made again first.
func (m *Manager) bringInputs(ctx context.Context, job *state.Job, inputs []engine.ObjectID, depth int) error {
	if len(inputs) == 0 {
		return nil
	}
	m.remakes.mu.Lock()
	for _, id := range inputs {
		m.remakes.jobs[job.ID].inputs[id] = struct{}{}
	}
	m.remakes.mu.Unlock()
	if err := m.recover(ctx, inputs, depth+1); err != nil {
		return err
	}
	return holdAll(ctx, m.config.Objects, inputs, jobplan.JobOwner(job.ID))
}

// recover makes those of some objects again that are lost.
func (m *Manager) recover(ctx context.Context, ids []engine.ObjectID, depth int) error {
	lost, err := m.config.Objects.Lost(ctx, ids)
	if err != nil {
		return err
	}
	var under []*remake
	for _, asked := range lost {
		if asked.ByTask { // A client's, which the directory has asked already.
			if _, err := m.config.Objects.Wait(ctx, []engine.ObjectID{asked.ID}, 1); err != nil {
				return err
			}
			continue
		}
		r, err := m.remake(asked, depth)
		if err != nil {
			return err
		}
		under = append(under, r)
	}
	for _, r := range under {
		select {
		case <-r.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// rerunEnded hands the end of a task that ran again to who has it run.
func (m *Manager) rerunEnded(end dispatch.Rerun) {
	m.remakes.mu.Lock()
	ended := m.remakes.tasks[end.Task]
	m.remakes.mu.Unlock()
	if ended == nil {
		return
	}
	select {
	case ended <- end:
	default: // It has one already.
	}
}
