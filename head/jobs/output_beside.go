package jobs

import (
	"cmp"
	"context"
	"errors"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
)

// besideOutput is an output that is no folder, with a folder for rejected rows beside it, to which several jobs may add.
type besideOutput struct {
	output
	rejects jobplan.Folder
}

// Check implements output.
func (o besideOutput) Check(ctx context.Context) error {
	if err := o.output.Check(ctx); err != nil {
		return err
	}
	return o.rejects.Place.Check(ctx)
}

// Prepare implements output.
func (o besideOutput) Prepare(ctx context.Context) error {
	if err := o.rejects.Place.Prepare(ctx); err != nil {
		return err
	}
	return o.output.Prepare(ctx)
}

// complete makes the rejected rows final last: who sees their _SUCCESS knows that the output is, too. It looks before whether they are all
// there, since an output that is complete stays so. If it ends in between, the output is found complete when it is called again.
func (o besideOutput) complete(ctx context.Context, job *state.Job) error {
	success := folder.Success{Job: job.ID, Digests: jobplan.Digests(job.Spec, job.Plan), Inputs: jobplan.Inputs(job.Plan)}
	for _, committed := range job.Committed {
		for _, p := range committed.GetParts() {
			success.Parts = append(success.Parts, folder.Part{Name: p.GetName(), Rows: p.GetRows(), SizeBytes: p.GetSizeBytes()})
		}
	}
	ledger, err := jobplan.LedgerOf(o.rejects)
	if err != nil {
		return err
	}
	if missing, err := ledger.Missing(ctx, success.Parts); err != nil || missing != "" {
		return cmp.Or(err, error(engine.Errorf(engine.KindCorrupt, "complete output", missing, "rejected rows were published there, and are gone or have another length").
			WithHint("somebody deleted or changed the file; run the job again under a new id")))
	}
	if err := o.output.complete(ctx, job); err != nil {
		return err
	}
	return o.rejects.Place.Complete(ctx, success)
}

// Abandon implements output.
func (o besideOutput) Abandon(ctx context.Context) error {
	return errors.Join(o.output.Abandon(ctx), o.rejects.Place.Abandon(ctx))
}
