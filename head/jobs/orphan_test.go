package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/state"
)

func TestJobThatNobodyFollowsIsStopped(t *testing.T) {
	r := newRig(t, jobs.Config{})
	submit := func(id engine.JobID, out string) {
		t.Helper()
		spec := r.spec("in.csv", out)
		spec.OrphanTtl = "20ms"
		if _, _, err := r.manager.Submit(context.Background(), jobs.Submission{ID: id, Spec: spec, SubmissionID: out, GrantedQueues: allQueues}); err != nil {
			t.Fatal(err)
		}
	}
	isOrphan := func(job *state.Job) {
		t.Helper()
		if job.State() != engine.JobStopped || job.Ended.GetError().GetKind() != engine.KindStopped.String() {
			t.Fatalf("it ended %s with %v", job.State(), job.Ended.GetError())
		}
	}
	followed, alone := engine.NewJobID(time.Now()), engine.NewJobID(time.Now())
	first, second := r.manager.Follow(followed), r.manager.Follow(followed)
	submit(followed, "followed")
	submit(alone, "alone")
	r.await(alone, "stopped", ended)
	isOrphan(r.job(string(alone)))

	first()
	first() // Once more does nothing: the second one still follows.
	if err := r.manager.Resume(context.Background(), alone, nil); err != nil {
		t.Fatal(err)
	}
	r.await(alone, "stopped again", ended)
	if ended(r.job(string(followed))) {
		t.Fatal("a job was stopped that somebody follows")
	}
	second()
	r.await(followed, "stopped", ended)
	isOrphan(r.job(string(followed)))

	held := r.manager.Follow(alone)
	defer held()
	if err := r.manager.Resume(context.Background(), alone, nil); err != nil {
		t.Fatal(err)
	}
	other := engine.NewJobID(time.Now())
	submit(other, "other")
	r.await(other, "stopped", ended)
	if ended(r.job(string(alone))) {
		t.Fatal("a resumed job was stopped that somebody has followed since its earlier run")
	}
}

func TestOrphanTTLMustBeADuration(t *testing.T) {
	r := newRig(t, jobs.Config{})
	for _, text := range []string{"5", "-1s", "0s", "soon"} {
		spec := r.spec("in.csv", "out")
		spec.OrphanTtl = text
		_, _, err := r.manager.Submit(context.Background(), jobs.Submission{Spec: spec, GrantedQueues: allQueues})
		if engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v", text, err)
		}
	}
}
