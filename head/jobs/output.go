package jobs

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// output is where a job's rows go, as the head sees it. What is done can be told from where they go, so every method may be called
// again after a crash.
type output interface {
	// places are what no two active jobs may write.
	places() []string
	// Check refuses, before the job is accepted, what is known to be refused later.
	Check(ctx context.Context) error
	// Prepare makes the place ready for the tasks.
	Prepare(ctx context.Context) error
	// complete makes the output final. All tasks are committed.
	complete(ctx context.Context, job *state.Job) error
	// Abandon tidies up after a job that did not succeed. What its tasks have committed stays for a resumption.
	Abandon(ctx context.Context) error
	// checkResume refuses to go on with a job whose committed outputs are gone.
	checkResume(ctx context.Context, job *state.Job) error
}

// output returns the output of a job, which is reached with secrets; they may be nil where it is not to be reached.
func (m *Manager) output(spec *enginev1.JobSpec, id engine.JobID, secrets *secret.Set) (output, error) {
	folders, err := jobplan.Folders(spec, id, m.storageOf(secrets))
	if err != nil {
		return nil, err
	}
	var elsewhere output
	switch {
	case spec.GetSink().GetObject() != nil:
		kept, err := jobplan.NewObjectOutput(spec, id)
		if err != nil {
			return nil, err
		}
		again := func(ctx context.Context, ids []engine.ObjectID) error { return m.recover(ctx, ids, 0) }
		elsewhere = objectOutput{ObjectOutput: kept, objects: m.config.Objects, ephemeral: m.config.Ephemeral, recover: again}
	case spec.GetSink().GetPostgres() != nil:
		target, err := jobplan.PostgresTarget(spec, id, secrets)
		if err != nil {
			return nil, err
		}
		elsewhere = postgresOutput{target}
	default:
		return foldersOutput{job: id, folders: folders}, nil
	}
	if len(folders) > 0 {
		return besideOutput{output: elsewhere, rejects: folders[0]}, nil
	}
	return elsewhere, nil
}

// foldersOutput are folders of files.
type foldersOutput struct {
	job     engine.JobID
	folders []jobplan.Folder
}

// places leaves out the folder of rejected rows, which several jobs may add to.
func (o foldersOutput) places() []string {
	var places []string
	for _, f := range o.folders {
		if f.Name != jobplan.RejectsName {
			places = append(places, f.Place.Target())
		}
	}
	return places
}

// each does something with every folder, until an error.
func (o foldersOutput) each(do func(folder.Place) error) error {
	for _, f := range o.folders {
		if err := do(f.Place); err != nil {
			return err
		}
	}
	return nil
}

// Check implements output.
func (o foldersOutput) Check(ctx context.Context) error {
	return o.each(func(p folder.Place) error { return p.Check(ctx) })
}

// Prepare implements output. What the tasks of an earlier run have sealed is theirs, and is shown before anything is swept.
func (o foldersOutput) Prepare(ctx context.Context) error {
	if err := jobplan.RevealAll(ctx, o.folders); err != nil {
		return err
	}
	return o.each(func(p folder.Place) error { return p.Prepare(ctx) })
}

// Abandon implements output.
func (o foldersOutput) Abandon(ctx context.Context) error {
	if err := jobplan.RevealAll(ctx, o.folders); err != nil {
		return err
	}
	return o.each(func(p folder.Place) error { return p.Abandon(ctx) })
}

func (o foldersOutput) complete(ctx context.Context, job *state.Job) error {
	digests, inputs := jobplan.Digests(job.Spec, job.Plan), jobplan.Inputs(job.Plan)
	parts := make([][]folder.Part, len(o.folders))
	for i, committed := range job.Committed {
		if name := job.Plan.GetTasks()[i].GetPart(); name != "" {
			parts[0] = append(parts[0], folder.Part{Name: name, Rows: committed.GetCounts().GetRowsWritten(), SizeBytes: committed.GetPartSizeBytes()})
		}
		for _, p := range committed.GetParts() {
			at := p.GetOutput()
			parts[at] = append(parts[at], folder.Part{Name: p.GetName(), Rows: p.GetRows(), SizeBytes: p.GetSizeBytes()})
		}
	}
	for i, f := range o.folders {
		if err := f.Place.Complete(ctx, folder.Success{Job: job.ID, Digests: digests, Parts: parts[i], Inputs: inputs}); err != nil {
			return err
		}
	}
	return nil
}

// checkResume does not look: Prepare refuses a folder that is gone.
func (o foldersOutput) checkResume(context.Context, *state.Job) error { return nil }
