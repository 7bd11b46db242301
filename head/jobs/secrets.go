package jobs

import (
	"context"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// secretsOf returns the secrets of a job. One that is active has one set, which knows all that was read for it; of others each call opens them.
// The error is that of secret.Vault.Open.
func (m *Manager) secretsOf(job *state.Job) (*secret.Set, error) {
	m.mu.Lock()
	a := m.active[job.ID]
	if a != nil && a.secrets != nil {
		defer m.mu.Unlock()
		return a.secrets, nil
	}
	m.mu.Unlock()
	values, err := m.openSecrets(job)
	if err != nil {
		return nil, err
	}
	set := secret.NewSet(values, m.config.AllowedSecrets)
	m.mu.Lock()
	defer m.mu.Unlock()
	if a != nil && a.secrets == nil {
		a.secrets = set
	}
	return set, nil
}

// setSecrets gives an active job its secrets.
func (m *Manager) setSecrets(a *active, secrets *secret.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.secrets = secrets
}

// errNoVault is said of secrets in a head that was made without a vault.
var errNoVault = engine.Errorf(engine.KindInvalidArgument, "submit job", "secrets", "this head keeps no secrets")

func (m *Manager) openSecrets(job *state.Job) (secret.Values, error) {
	switch {
	case job.Secrets == nil:
		return nil, nil
	case m.config.Vault == nil:
		return nil, errNoVault
	}
	values, err := m.config.Vault.Open(job.ID, job.Secrets)
	if err == nil {
		m.config.SecretsHeld()
	}
	return values, err
}

func (m *Manager) sealSecrets(job engine.JobID, values secret.Values) (*enginev1.SealedSecrets, error) {
	switch {
	case len(values) == 0:
		return nil, nil //nolint:nilnil // There is nothing to seal, which is no error.
	case m.config.Vault == nil:
		return nil, errNoVault
	}
	m.config.SecretsHeld()
	return m.config.Vault.Seal(job, values)
}

// replaceSecrets returns the secrets of a job of which some are replaced. Those that it has are not needed if the new ones are all that it
// refers to: their key may be gone.
func (m *Manager) replaceSecrets(job *state.Job, given secret.Values) (secret.Values, error) {
	values, err := m.openSecrets(job)
	if err != nil && slices.ContainsFunc(secret.References(job.Spec), func(r secret.Reference) bool { return given[r] == nil }) {
		return nil, err
	}
	all := secret.Values{}
	for _, some := range []secret.Values{values, given} {
		for r, value := range some {
			all[r] = value
		}
	}
	return secret.Select(job.Spec, all, jobplan.Suggestion)
}

// storageOf returns how a job that has these secrets reaches buckets.
func (m *Manager) storageOf(secrets *secret.Set) jobplan.Storage {
	return jobplan.ForJob(m.config.Storage, secrets)
}

// planningOptions are what a job that has these secrets is planned with, and that may read some objects.
func (m *Manager) planningOptions(objects jobplan.Objects, secrets *secret.Set) jobplan.Options {
	return jobplan.Options{
		TargetSplitBytes: m.config.TargetSplitBytes, Objects: objects, Storage: m.storageOf(secrets), Secrets: secrets,
		Operators: m.config.Operators, Places: m.config.Places,
	}
}

// outputOf returns the output of a job that was accepted.
func (m *Manager) outputOf(job *state.Job) (output, error) {
	secrets, err := m.secretsOf(job)
	if err != nil {
		return nil, err
	}
	return m.output(job.Spec, job.ID, secrets)
}

// HandOut returns the secrets of a job for a worker that is to run tasks of it, or of a pass over its data, as a message has them; nil if there
// are none.
func (m *Manager) HandOut(ctx context.Context, id engine.JobID) map[string][]byte {
	var job *state.Job
	m.store.View(func(s *state.State) {
		if found := s.Job(string(Of(id))); found != nil && found.Secrets != nil {
			job = &state.Job{ID: found.ID, Spec: found.Spec, Secrets: found.Secrets}
		}
	})
	if job == nil {
		return nil
	}
	secrets, err := m.secretsOf(job)
	if err != nil {
		// Whoever gave the tasks to the dispatcher has opened them; so the key has gone since. The tasks say which secret they lack.
		m.logger.ErrorContext(ctx, "a worker gets a job without its secrets", "job", job.ID, "error", err)
		return nil
	}
	return secrets.Values().Message()
}

// redactError frees an error of an active job's secrets.
func (m *Manager) redactError(a *active, err error) error {
	m.mu.Lock()
	secrets := a.secrets
	m.mu.Unlock()
	return secrets.RedactError(err)
}

// redact is redactError for a text.
func (m *Manager) redact(a *active, text string) string {
	m.mu.Lock()
	secrets := a.secrets
	m.mu.Unlock()
	return secrets.Redact(text)
}
