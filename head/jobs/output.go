package jobs

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// output is where a job's rows go, as the head sees it. What is done can be told from where they go, so every method may be called
// again after a crash.
type output interface {
	// place is what no two active jobs may write.
	place() string
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

// output returns the output of a job.
func (m *Manager) output(spec *enginev1.JobSpec, id engine.JobID) (output, error) {
	if spec.GetSink().GetObject() != nil {
		kept, err := jobplan.NewObjectOutput(spec, id)
		again := func(ctx context.Context, ids []engine.ObjectID) error { return m.recover(ctx, ids, 0) }
		return objectOutput{ObjectOutput: kept, objects: m.config.Objects, ephemeral: m.config.Ephemeral, recover: again}, err
	}
	place, err := jobplan.Folder(spec, id)
	return folderOutput{place}, err
}

// folderOutput is a folder of files.
type folderOutput struct{ folder.Output }

func (o folderOutput) place() string { return o.Folder }

func (o folderOutput) complete(ctx context.Context, job *state.Job) error {
	success := folder.Success{Job: job.ID, Digests: jobplan.Digests(job.Spec, job.Plan)}
	for i, committed := range job.Committed {
		success.Parts = append(success.Parts, folder.Part{
			Name: job.Plan.GetTasks()[i].GetPart(), Rows: committed.GetCounts().GetRowsWritten(), SizeBytes: committed.GetPartSizeBytes(),
		})
		success.Rows += committed.GetCounts().GetRowsWritten()
	}
	return o.Complete(ctx, success)
}

// checkResume does not look: Prepare refuses a folder that is gone.
func (o folderOutput) checkResume(context.Context, *state.Job) error { return nil }
