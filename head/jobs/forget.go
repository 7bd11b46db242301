package jobs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Forget drops an ended job with its log and its objects. Of one that did not succeed, what it has written goes that nobody sees, and with
// published also what it has published. A job that has not ended is a conflict.
func (m *Manager) Forget(ctx context.Context, id engine.JobID, published bool) error {
	job := m.job(id)
	switch {
	case job == nil:
		return engine.Errorf(engine.KindNotFound, "forget job", string(id), "no such job")
	case job.Ended == nil:
		return engine.Errorf(engine.KindConflict, "forget job", string(id), "it has not ended").WithHint("`engine job stop %s` stops it", id)
	}
	if err := m.awaitTidied(ctx, id); err != nil {
		return err
	}
	if err := m.forget(ctx, id, func(job *state.Job) error { return m.discard(ctx, job, published) }); err != nil {
		return engine.WrapError("forget job", string(id), err)
	}
	m.changed(id)
	return nil
}

// awaitTidied waits until the end of a job that has ended is tidied up.
func (m *Manager) awaitTidied(ctx context.Context, id engine.JobID) error {
	m.mu.Lock()
	a := m.active[id]
	m.mu.Unlock()
	if a == nil || !m.hasEnded(a) {
		return nil
	}
	select {
	case <-a.gone:
		return nil
	case <-ctx.Done():
		return engine.WrapError("forget job", string(id), context.Cause(ctx))
	}
}

// discard deletes what a job has left in its folders that did not succeed.
func (m *Manager) discard(ctx context.Context, job *state.Job, published bool) error {
	if job.State() == engine.JobSucceeded {
		return nil
	}
	secrets, err := m.secretsOf(job)
	if err != nil {
		secrets = secret.NewSet(nil, m.config.AllowedSecrets) // Perhaps it is done without.
	}
	return secrets.RedactError(m.discardWith(ctx, job, published, secrets))
}

func (m *Manager) discardWith(ctx context.Context, job *state.Job, published bool, secrets *secret.Set) error {
	folders, err := jobplan.Folders(job.Spec, job.ID, m.storageOf(secrets))
	if job.Spec.GetSink().GetPostgres() != nil {
		target, targetErr := jobplan.PostgresTarget(job.Spec, job.ID, secrets)
		if targetErr == nil {
			targetErr = target.Discard(ctx, published)
		}
		err = errors.Join(err, targetErr)
	}
	for _, f := range folders {
		if ledger, ok := f.Place.(folder.Ledger); ok {
			err = errors.Join(err, ledger.Discard(ctx, published))
		}
	}
	return err
}

// forget drops an ended job with its log, unless it runs again, once tidy has done what is to be done before. What tidy does, no run of the
// job sees: nobody can resume it meanwhile.
func (m *Manager) forget(ctx context.Context, id engine.JobID, tidy func(*state.Job) error) error {
	a, err := m.reserveEnded(id)
	if err != nil {
		return err
	}
	defer m.remove(a)
	job := m.job(id)
	if job == nil || job.Ended == nil {
		return nil
	}
	if err := tidy(job); err != nil {
		return err
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobForgotten{JobForgotten: &enginev1.JobForgotten{JobId: string(id)}}}
	if err := m.store.ProposeIf(context.WithoutCancel(ctx), func(s *state.State) error {
		if job := s.Job(string(id)); job == nil || job.Ended == nil {
			return engine.Errorf(engine.KindConflict, "forget job", string(id), "it has not ended")
		}
		return nil
	}, entry); err != nil {
		return err
	}
	m.freeOutputs(id)
	m.lines.flush(id) // Else a line that is late would make the log again.
	return m.logs.Remove(id)
}

// reserveEnded keeps an ended job from being resumed. It writes no output, so other jobs may.
func (m *Manager) reserveEnded(id engine.JobID) (*active, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active[id] != nil {
		return nil, engine.Errorf(engine.KindConflict, "forget job", string(id), "it runs again")
	}
	return m.addLocked(id, nil, ""), nil
}

// forgetEvery is the pause between two looks for jobs that ended too long ago. Each job's end looks, too.
const forgetEvery = time.Hour

// forgetInTime drops ended jobs while no others end.
func (m *Manager) forgetInTime(ctx context.Context) error {
	m.sweepLogs()
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	for {
		m.forgetOld()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sweepLogs removes the logs of jobs that another head has forgotten, or this one just before it died.
func (m *Manager) sweepLogs() {
	ids, err := m.logs.Jobs()
	for _, id := range ids {
		if m.job(id) == nil && !m.isActive(id) {
			err = errors.Join(err, m.logs.Remove(id))
		}
	}
	if err != nil {
		m.logger.Warn("logs of forgotten jobs stay behind", "error", err)
	}
}

// forgetOld drops the ended jobs above the number that is kept, those first that ended first, and those that ended too long ago.
func (m *Manager) forgetOld() {
	if !m.forgetting.TryLock() {
		return // Another job's end sees to it.
	}
	defer m.forgetting.Unlock()
	var ended []*state.Job
	m.store.View(func(s *state.State) {
		for _, job := range s.Jobs() {
			if job.Ended != nil {
				ended = append(ended, &state.Job{ID: job.ID, EndTime: job.EndTime})
			}
		}
	})
	slices.SortFunc(ended, func(a, b *state.Job) int { return a.EndTime.Compare(b.EndTime) })
	for i, job := range ended {
		age := time.Since(job.EndTime)
		tooMany := len(ended)-i > m.config.KeepEnded
		if !tooMany && age < m.config.KeepEndedMax || age < m.config.KeepEndedFor {
			return // So it is with all that ended later. Somebody may still wait to hear how it ended.
		}
		if m.isActive(job.ID) {
			continue
		}
		// What cannot be tidied up is forgotten all the same: else the state would grow without bound.
		tidy := func(job *state.Job) error {
			ctx, cancel := context.WithTimeout(context.Background(), tidyWithin)
			defer cancel()
			if err := m.discard(ctx, job, false); err != nil {
				m.logger.Warn("files of a forgotten job stay behind", "job", job.ID, "error", err)
			}
			return nil
		}
		if err := m.forget(context.Background(), job.ID, tidy); err != nil {
			m.logger.Warn("ended job is still remembered", "job", job.ID, "error", err)
		}
	}
}

// tidyWithin is how long it may take to tidy up behind a job.
const tidyWithin = time.Minute

// isActive tells whether a job has not ended, or is still being tidied up.
func (m *Manager) isActive(id engine.JobID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active[id] != nil
}
