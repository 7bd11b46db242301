package jobs

import (
	"context"
	"strconv"

	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// claimNew makes a job that leaves out what earlier jobs have read the only one that writes its output, and returns what those have read.
// The order matters: what another job records after that cannot be.
func (m *Manager) claimNew(ctx context.Context, job *state.Job) (jobplan.Known, error) {
	secrets, err := m.secretsOf(job)
	if err != nil {
		return nil, err
	}
	folders, err := jobplan.Folders(job.Spec, job.ID, m.storageOf(secrets))
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		if f.Name == jobplan.RejectsName {
			continue // Several jobs may add to it.
		}
		ledger, err := jobplan.LedgerOf(f)
		if err != nil {
			return nil, err
		}
		if err := ledger.Claim(ctx); err != nil {
			return nil, err
		}
	}
	return m.stillNew(ctx, job, folders)
}

// stillNew returns what earlier jobs have read, and refuses a planned job of whose inputs another one has read some.
func (m *Manager) stillNew(ctx context.Context, job *state.Job, folders []jobplan.Folder) (jobplan.Known, error) {
	known, err := jobplan.Earlier(ctx, folders, job.ID)
	if err != nil || job.Plan == nil {
		return known, err
	}
	return known, jobplan.StillNew(job.Plan, known)
}

// checkNew refuses a job that leaves out what earlier jobs have read if its output holds rows of which nobody knows what they are made of, or
// if another job has read its inputs since it was planned, or has claimed the output. It is asked before the job begins or is resumed, so
// that it is refused then.
func (m *Manager) checkNew(ctx context.Context, job *state.Job, secrets *secret.Set) error {
	if !job.OnlyNew {
		return nil
	}
	folders, err := jobplan.Folders(job.Spec, job.ID, m.storageOf(secrets))
	if err != nil {
		return err
	}
	// Of two heads that race for a place, the claim at the job's beginning decides; who comes later is told at once.
	for _, f := range folders {
		if f.Name == jobplan.RejectsName {
			continue // Several jobs may add to it.
		}
		ledger, err := jobplan.LedgerOf(f)
		if err == nil {
			err = ledger.CheckClaim(ctx)
		}
		if err != nil {
			return err
		}
	}
	_, err = m.stillNew(ctx, job, folders)
	return err
}

// checkStillNew is asked before a job ends well: a task of another job may have come late, after that job had failed and given its claim back.
// Its own claim may be gone by now: a head may have died between completing the output and recording the end.
func (m *Manager) checkStillNew(ctx context.Context, job *state.Job, secrets *secret.Set) error {
	if !job.OnlyNew {
		return nil
	}
	folders, err := jobplan.Folders(job.Spec, job.ID, m.storageOf(secrets))
	if err != nil {
		return err
	}
	_, err = m.stillNew(ctx, job, folders)
	return err
}

// planNothing records a plan without tasks, for which no output has to be there.
func (m *Manager) planNothing(ctx context.Context, job *state.Job, plan *enginev1.Plan) error {
	if job.Plan != nil {
		return nil
	}
	return m.recordPlan(ctx, job.ID, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: string(job.ID), Plan: plan}}})
}

// endWithoutWork ends a job for which no input is left. Its output stays as it is, also in what _SUCCESS says.
func (m *Manager) endWithoutWork(a *active, job *state.Job) {
	m.abandon(a, job)
	m.log(job.ID, "INFO", "nothing is new: earlier jobs have read all inputs", map[string]string{"inputs": strconv.FormatInt(job.Plan.GetInputsKnown(), 10)})
}
