package testcluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
)

// TestCache submits the same again and again, with something else changed each time.
func TestCache(t *testing.T) {
	for _, mode := range []string{"error", "overwrite", "append"} {
		t.Run(mode, func(t *testing.T) {
			n := newNightly(t, mode, "a", "b")
			n.spec.Cache = "1h"
			c := n.start(t)
			first := wait(t, submit(t, c, n.spec), engine.JobSucceeded)
			if first.CachedFrom != "" {
				t.Fatalf("%+v", first)
			}
			hit := func(change func(spec *enginev1.JobSpec)) {
				t.Helper()
				spec := proto.CloneOf(n.spec)
				change(spec)
				job := submit(t, c, spec)
				result := wait(t, job, engine.JobSucceeded)
				if result.CachedFrom != first.JobID || result.JobID == first.JobID || !slices.Equal(result.Outputs, first.Outputs) || result.RowsWritten != first.RowsWritten || result.RowsRead != 0 {
					t.Errorf("%+v, want the output of %+v", result, first)
				}
				if text := logOf(t, job); !strings.Contains(text, "an earlier job has made the same") || !strings.Contains(text, string(first.JobID)) {
					t.Errorf("log:\n%s", text)
				}
				if _, err := job.Resume(withTimeout(t)); engine.KindOf(err) != engine.KindConflict {
					t.Errorf("resume: %v", err)
				}
				n.wantRows(t, "a", "b")
			}
			hit(func(*enginev1.JobSpec) {})
			hit(func(spec *enginev1.JobSpec) {
				spec.Name, spec.Labels, spec.Queue, spec.Priority, spec.Timeout, spec.Cache = "other", map[string]string{"k": "v"}, "q", 7, "1h", "30d"
				spec.Retry, spec.Isolation = &enginev1.Retry{MaxAttempts: 2}, "none"
			})
			// It is found again by a head that was restarted, and by one that knows nothing of the job.
			c.StopHead()
			c.StartHead()
			hit(func(*enginev1.JobSpec) {})
			c = n.start(t)
			hit(func(*enginev1.JobSpec) {})

			miss := func(what, why string, change func(spec *enginev1.JobSpec)) {
				t.Helper()
				spec := proto.CloneOf(n.spec)
				change(spec)
				job, err := c.Client().Submit(withTimeout(t), spec)
				if mode == "error" {
					if engine.KindOf(err) != engine.KindConflict {
						t.Errorf("%s: %v, want a conflict as without a cache", what, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				result := wait(t, job, engine.JobSucceeded)
				if text := logOf(t, job); result.CachedFrom != "" || result.RowsRead == 0 || strings.Contains(text, "no earlier output is taken over: job ") != (why != "") || !strings.Contains(text, why) {
					t.Errorf("%s: %+v, want %q in the log:\n%s", what, result, why, text)
				}
			}
			miss("no cache", "", func(spec *enginev1.JobSpec) { spec.Cache = "" })
			miss("too old", "made its output 0s ago", func(spec *enginev1.JobSpec) { spec.Cache = "1ms" })
			miss("an input", "had other inputs", func(*enginev1.JobSpec) { n.add(t, "c") })
			miss("a model", "had models with another content", func(spec *enginev1.JobSpec) {
				if err := os.WriteFile(spec.GetSteps()[0].GetInfer().GetModel(), enginetest.LinearModel(engine.Float64, 1, 3), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			miss("a part", "is gone or has another length", func(*enginev1.JobSpec) {
				last, err := folder.ReadSuccess(filepath.Join(n.dir, "out"))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(n.dir, "out", last.Parts[0].Name)); err != nil {
					t.Fatal(err)
				}
			})
			miss("another spec", "", func(spec *enginev1.JobSpec) { spec.Batch.Rows = 7 })
			if mode == "append" {
				return
			}
			// Somebody has written to the folder since.
			n.spec.Batch.Rows = 7
			last, err := folder.ReadSuccess(filepath.Join(n.dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			spec := proto.CloneOf(n.spec)
			spec.GetSink().GetCsv().Mode, spec.Cache = "append", ""
			wait(t, submit(t, c, spec), engine.JobSucceeded)
			miss("another job's rows", "job "+string(last.Job)+" is not what made "+filepath.Join(n.dir, "out"), func(*enginev1.JobSpec) {})
		})
	}
}

// TestCacheIsForOutputsThatCanBeLookedAt refuses what cannot be taken over.
func TestCacheIsForOutputsThatCanBeLookedAt(t *testing.T) {
	n := newNightly(t, "append", "a")
	c := n.start(t)
	for cache, want := range map[string]string{"soon": `cache: "soon" is not a duration`, "0s": "longer than zero"} {
		n.spec.Cache = cache
		if _, err := c.Client().Submit(withTimeout(t), n.spec); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", cache, err)
		}
	}
	n.spec.Cache = "1h"
	wait(t, submit(t, c, n.spec), engine.JobSucceeded)
	// What is left out has nothing to do with what is taken over.
	if result := wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobSucceeded); result.CachedFrom != "" || result.InputsKnown != 1 {
		t.Errorf("%+v", result)
	}
	n.spec.Sink = &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}}
	if _, err := c.Client().Submit(withTimeout(t), n.spec); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "only outputs in folders") {
		t.Error(err)
	}
}

// TestTwoHeadsAndOneEmptyFolder lets two heads, which know nothing of each other, write to one folder.
func TestTwoHeadsAndOneEmptyFolder(t *testing.T) {
	n := newNightly(t, "error", "a", "b")
	gate := make(chan struct{})
	jobs := make([]*client.Job, 2)
	var all sync.WaitGroup
	for i := range jobs {
		models := newHeld(gate)
		c := testcluster.Start(t, testcluster.Options{Workers: 1, Models: func() runtime.Loader { return models }})
		all.Go(func() {
			var err error
			if jobs[i], err = c.Client().Submit(withTimeout(t), n.spec); err != nil && engine.KindOf(err) != engine.KindConflict {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// No task gets on, so that the one that is refused is so before anything is done.
	loser := -1
	for loser < 0 {
		for i, job := range jobs {
			if job == nil {
				loser = i // Refused at its submission.
				continue
			}
			status, err := job.Status(withTimeout(t))
			if err != nil {
				t.Fatal(err)
			}
			if status.GetState() == enginev1.JobState_JOB_STATE_FAILED {
				loser = i
				wantRefused(t, client.NewResult(status).Err, "writes to it, or was cut off", "engine job resume ")
			}
		}
	}
	close(gate)
	wait(t, jobs[1-loser], engine.JobSucceeded)
	n.wantRows(t, "a", "b")
}

func TestForget(t *testing.T) {
	n := newNightly(t, "error", "a", "b")
	c := n.start(t)
	done := submit(t, c, n.spec, client.WithSubmissionID("nightly"))
	wait(t, done, engine.JobSucceeded)
	n.spec.GetSink().GetCsv().Mode = "overwrite"
	n.failAfter(1)
	failed := submit(t, c, n.spec)
	wait(t, failed, engine.JobFailed)
	hidden := filepath.Join(n.dir, ".out.engine-"+string(failed.ID()))
	if _, err := os.Stat(hidden); err != nil {
		t.Fatalf("what a resumption needs is gone: %v", err)
	}
	for _, job := range []*client.Job{done, failed} {
		if forgotten, err := job.Forget(withTimeout(t), false); err != nil || forgotten.GetJobId() != string(job.ID()) {
			t.Errorf("%v, %v", forgotten, err)
		}
		if _, err := job.Status(withTimeout(t)); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("it is still known: %v", err)
		}
		if _, err := job.Forget(withTimeout(t), false); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("forget again: %v", err)
		}
	}
	if _, err := os.Stat(hidden); !os.IsNotExist(err) {
		t.Errorf("the work folder stays: %v", err)
	}
	n.wantRows(t, "a", "b")
	// The submission id is free.
	n.heal()
	again := submit(t, c, n.spec, client.WithSubmissionID("nightly"))
	if again.Attached() {
		t.Error("attached to a job that is forgotten")
	}
	wait(t, again, engine.JobSucceeded)

	gate := make(chan struct{})
	n.models.SetFaults(heldBy(gate))
	running := submit(t, c, n.spec)
	if _, err := running.Forget(withTimeout(t), false); engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "it has not ended") {
		t.Errorf("forget a job that runs: %v", err)
	}
	close(gate)
	wait(t, running, engine.JobSucceeded)
}
