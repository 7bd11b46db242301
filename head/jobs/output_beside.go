package jobs

import (
	"context"
	"errors"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
)

// besideOutput is an output that is no folder, with a folder for rejected rows beside it, to which several jobs may add.
type besideOutput struct {
	output
	rejects folder.Place
}

// Check implements output.
func (o besideOutput) Check(ctx context.Context) error {
	if err := o.output.Check(ctx); err != nil {
		return err
	}
	return o.rejects.Check(ctx)
}

// Prepare implements output.
func (o besideOutput) Prepare(ctx context.Context) error {
	if err := o.rejects.Prepare(ctx); err != nil {
		return err
	}
	return o.output.Prepare(ctx)
}

// complete makes the rejected rows final first: what cannot be repeated is done when all else is there.
func (o besideOutput) complete(ctx context.Context, job *state.Job) error {
	success := folder.Success{Job: job.ID, Digests: jobplan.Digests(job.Spec, job.Plan), Inputs: jobplan.Inputs(job.Plan)}
	for _, committed := range job.Committed {
		for _, p := range committed.GetParts() {
			success.Parts = append(success.Parts, folder.Part{Name: p.GetName(), Rows: p.GetRows(), SizeBytes: p.GetSizeBytes()})
		}
	}
	if err := o.rejects.Complete(ctx, success); err != nil {
		return err
	}
	return o.output.complete(ctx, job)
}

// Abandon implements output.
func (o besideOutput) Abandon(ctx context.Context) error {
	return errors.Join(o.output.Abandon(ctx), o.rejects.Abandon(ctx))
}
