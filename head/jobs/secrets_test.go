package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const canary = "the-canary-of-secrets"

// guarded is a job that reads a file and writes a table behind a password, on a server that is not there.
func (r *rig) guarded(password string) *enginev1.JobSpec {
	spec := r.spec("in.csv", "unused")
	spec.Sink = &enginev1.Sink{Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{
		Url: "postgres://u@127.0.0.1:1/d?sslmode=disable&connect_timeout=2", Table: "t", Password: password,
	}}}
	return spec
}

func newVault(t *testing.T, dir string) *secret.Vault {
	t.Helper()
	vault, err := secret.NewVault(filepath.Join(dir, "secrets.key"), false)
	if err != nil {
		t.Fatal(err)
	}
	return vault
}

// written tells whether a text stands in a file below a folder.
func written(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// named is a job that names a secret, and fails because nobody here reaches buckets.
func (r *rig) named(in, out, reference string) *enginev1.JobSpec {
	spec := r.spec(in, out)
	spec.Source.S3 = &enginev1.S3Credentials{AccessKeyId: "AKIA", SecretAccessKey: reference}
	csv := spec.GetSource().GetCsv()
	csv.Paths = append(csv.Paths, "s3://bucket/none.csv")
	return spec
}

func TestSubmissionsWithSecretsAreChecked(t *testing.T) {
	r := newRig(t, jobs.Config{Vault: newVault(t, t.TempDir())})
	for _, c := range []struct {
		spec  *enginev1.JobSpec
		given secret.Values
		kind  engine.Kind
		says  string
	}{
		{r.guarded("${secret:pg}"), secret.Values{"pgs": []byte(canary)}, engine.KindInvalidArgument, `sink.postgres.password: the secret "pg" does not come with the job (nearest: "pgs")`},
		{r.guarded(canary), nil, engine.KindInvalidArgument, "sink.postgres.password: a secret is named and never written out"},
		{r.guarded("${secret:env:HOME}"), nil, engine.KindPermission, "${secret:env:HOME}: it did not come with the job, and this process may not read it"},
		{r.guarded("${secret:file:pw}"), nil, engine.KindInvalidArgument, "no absolute path"},
		{r.guarded("${secret:pg}"), secret.Values{"pg": []byte(canary)}, engine.KindUnavailable, "postgres://127.0.0.1:1/d"},
		{r.named("in.csv", "out", "${secret:pg}"), secret.Values{"pg": []byte(canary)}, 0, ""},
	} {
		id, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: c.spec, Secrets: c.given})
		if c.says == "" {
			if err != nil {
				t.Error(err)
				continue
			}
			// There is no storage here that has keys.
			r.await(id, "ended", ended)
			if message := r.job(string(id)).Ended.GetError().GetMessage(); !strings.Contains(message, "keys of jobs") && !strings.Contains(message, "reads no buckets") {
				t.Errorf("it ended with %s", message)
			}
			continue
		}
		if text := fmt.Sprint(err); engine.KindOf(err) != c.kind || !strings.Contains(text, c.says) || strings.Contains(text, canary) {
			t.Errorf("%v: %v; want kind %v and %s", c.given, err, c.kind, c.says)
		}
	}
	without := newRig(t, jobs.Config{})
	if _, _, err := without.manager.Submit(t.Context(), jobs.Submission{Spec: without.named("in.csv", "out", "${secret:pg}"), Secrets: secret.Values{"pg": []byte(canary)}}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("a head without a vault: %v", err)
	}
}

// TestSecretsAreKeptSealed: a job that failed keeps its secrets, under a key that is not in the log; replaced ones count from a resumption on, and
// what the job does not refer to is dropped.
func TestSecretsAreKeptSealed(t *testing.T) {
	keys := t.TempDir()
	r := newRig(t, jobs.Config{Vault: newVault(t, keys)})
	given := secret.Values{"pg": []byte(canary), "more": []byte(canary + "-unused")}
	id, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.named("in.csv", "out", "${secret:pg}"), Secrets: given})
	if err != nil {
		t.Fatal(err)
	}
	r.await(id, "ended", ended)
	sealed := r.job(string(id)).Secrets
	opened, err := newVault(t, keys).Open(id, sealed)
	if err != nil || len(opened) != 1 || string(opened["pg"]) != canary {
		t.Fatalf("opened %v, %v", opened, err)
	}
	if got := r.manager.HandOut(t.Context(), id+"-fit1"); len(got) != 1 || string(got["pg"]) != canary {
		t.Errorf("handed out %d", len(got))
	}
	if err := r.manager.Resume(t.Context(), id, secret.Values{"pg": []byte(canary + "-new"), "more": nil}); err != nil {
		t.Fatal(err)
	}
	r.await(id, "ended", func(job *state.Job) bool { return job.Resumptions == 1 && job.Ended != nil })
	if got := r.manager.HandOut(t.Context(), id); len(got) != 1 || string(got["pg"]) != canary+"-new" {
		t.Errorf("handed out %d after the resumption", len(got))
	}
	if written(t, r.dir, canary) || !written(t, r.dir, sealed.GetKeyId()) {
		t.Error("the log holds a secret in the clear, or none sealed")
	}
	if err := r.manager.Forget(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if r.manager.HandOut(t.Context(), id) != nil {
		t.Error("a forgotten job has secrets")
	}
}

// TestKeyOfSecretsIsGone: the job whose secrets cannot be opened fails by name, and can go on with new ones; others do not notice.
func TestKeyOfSecretsIsGone(t *testing.T) {
	r := newRig(t, jobs.Config{Vault: newVault(t, t.TempDir())})
	spec := r.named("in.csv", "out", "${secret:pg}")
	old, err := newVault(t, t.TempDir()).Seal("20261127-000000-abcdefgh", secret.Values{"pg": []byte(canary)})
	if err != nil {
		t.Fatal(err)
	}
	// As a head finds it that starts.
	if err := r.store.Propose(context.Background(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{
		JobId: "20261127-000000-abcdefgh", Spec: spec, Secrets: old,
	}}}); err != nil {
		t.Fatal(err)
	}
	r.manager.Attach(r.manager.Dispatcher())
	r.await("20261127-000000-abcdefgh", "ended", ended)
	wrong := r.job("20261127-000000-abcdefgh").Ended.GetError()
	if wrong.GetKind() != "not_found" || wrong.GetId() != "20261127-000000-abcdefgh" || !strings.Contains(wrong.GetMessage(), old.GetKeyId()) {
		t.Errorf("it failed with %v", wrong)
	}
	if err := r.manager.Resume(t.Context(), "20261127-000000-abcdefgh", nil); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("resumed without the key: %v", err)
	}
	if err := r.manager.Resume(t.Context(), "20261127-000000-abcdefgh", secret.Values{"pg": []byte(canary)}); err != nil {
		t.Errorf("resumed with all secrets: %v", err)
	}
	other, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.named("in.csv", "other", "${secret:pg}"), Secrets: secret.Values{"pg": []byte(canary)}})
	if err != nil {
		t.Fatal(err)
	}
	r.await(other, "ended", ended)
	if got := r.manager.HandOut(t.Context(), other); string(got["pg"]) != canary {
		t.Error("another job has no secrets")
	}
}
