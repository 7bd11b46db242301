package state_test

import (
	"testing"

	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestSecretsLiveAsLongAsTheyAreNeeded: those of a job go when it has succeeded, unless its objects may have to be made again; a job that can be
// resumed keeps them, and a resumption may replace them. A snapshot has what the state has.
func TestSecretsLiveAsLongAsTheyAreNeeded(t *testing.T) {
	sealed := func(key string) *enginev1.SealedSecrets {
		return &enginev1.SealedSecrets{KeyId: key, Sealed: []byte("sealed")}
	}
	accept := func(s *state.State, id string, sink *enginev1.Sink) {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{JobId: id, Spec: &enginev1.JobSpec{Sink: sink}, Secrets: sealed("first")}}}
		if err := s.Apply(entry); err != nil {
			t.Fatal(err)
		}
	}
	apply := func(s *state.State, entries ...*enginev1.LogEntry) {
		t.Helper()
		for _, entry := range entries {
			if err := s.Apply(entry); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(s *state.State, id, key string) {
		t.Helper()
		for _, s := range []*state.State{s, state.RestoreAgain(t, s), s.Clone()} {
			if got := s.Job(id).Secrets.GetKeyId(); got != key {
				t.Errorf("job %s has secrets under key %q, not %q", id, got, key)
			}
		}
	}
	s := state.New()
	accept(s, "files", &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{}}})
	accept(s, "objects", &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}})
	want(s, "files", "first")
	apply(s, ended("files", enginev1.JobState_JOB_STATE_FAILED))
	want(s, "files", "first")
	apply(s, resumed("files"))
	want(s, "files", "first")
	apply(s, ended("files", enginev1.JobState_JOB_STATE_STOPPED))
	again := resumed("files")
	again.GetJobResumed().Secrets = sealed("second")
	apply(s, again)
	want(s, "files", "second")
	apply(s, ended("files", enginev1.JobState_JOB_STATE_SUCCEEDED), ended("objects", enginev1.JobState_JOB_STATE_SUCCEEDED))
	want(s, "files", "")
	want(s, "objects", "first")
}
