package jobs

import (
	"context"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
)

// postgresOutput is a table of Postgres.
type postgresOutput struct{ *postgres.Target }

func (o postgresOutput) places() []string { return []string{o.String()} }

// tableSuccess is what the job's row in engine_commits says when all is there.
type tableSuccess struct {
	Digests folder.Digests `json:"digests"`
}

func (o postgresOutput) complete(ctx context.Context, job *state.Job) error {
	success := postgres.Success{Units: len(job.Committed), Details: tableSuccess{jobplan.Digests(job.Spec, job.Plan)}}
	for _, committed := range job.Committed {
		success.Rows += committed.GetCounts().GetRowsWritten()
	}
	return o.Complete(ctx, success)
}

func (o postgresOutput) checkResume(ctx context.Context, job *state.Job) error {
	return o.CheckResume(ctx, job.CommittedCount)
}
