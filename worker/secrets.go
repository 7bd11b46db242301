package worker

import (
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// secretsOf takes the secrets out of an assignment. They live in memory alone, as long as the worker knows the job.
func (w *Worker) secretsOf(assignment *enginev1.JobAssignment) *secret.Set {
	values, err := secret.ValuesOf(assignment.GetSecrets())
	if err != nil {
		w.config.Logger.Error("a job came with secrets that are none", "job", assignment.GetJobId(), "error", err)
	}
	assignment.Secrets = nil
	if len(secret.References(assignment.GetSpec())) > 0 {
		w.config.SecretsHeld()
	}
	return secret.NewSet(values, w.config.AllowedSecrets)
}

// storage is how the tasks of a job reach buckets.
func (w *Worker) storage(j *jobEntry) jobplan.Storage {
	return jobplan.ForJob(w.config.Storage, j.secrets)
}
