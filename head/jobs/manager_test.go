package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// rig is a manager on a store of its own, without workers.
type rig struct {
	t       *testing.T
	dir     string
	data    string
	store   *state.Store
	manager *jobs.Manager
	group   *lifecycle.Group
}

func newRig(t *testing.T, config jobs.Config) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), data: t.TempDir()}
	var err error
	if r.store, err = state.Open(state.Config{Dir: r.dir, NewClusterID: "c"}); err != nil {
		t.Fatal(err)
	}
	<-r.store.Terms()
	r.group = lifecycle.NewGroup(context.Background(), "jobs")
	r.manager = jobs.New(config, r.store, joblog.New(filepath.Join(r.dir, "logs")), r.group, slog.New(slog.DiscardHandler))
	dispatcher := dispatch.NewDispatcher(dispatch.Config{ClusterID: "c", Term: 1}, r.manager.Hooks(), nil)
	r.manager.Attach(dispatcher)
	r.group.Go("tick", dispatcher.Run) // A worker may leave with a grant that it was sent: the task is tried again after a pause.
	if err := os.WriteFile(filepath.Join(r.data, "in.csv"), []byte("a,b\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := errors.Join(r.group.Stop(ctx), r.store.Close()); err != nil {
		r.t.Error(err)
	}
}

// allQueues are those of somebody who is granted each.
var allQueues = []string{access.Everything}

// spec is a job from in to out; "missing.csv" makes it fail at once, "in.csv" makes it wait for a worker.
func (r *rig) spec(in, out string) *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Name:   "t",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(r.data, in)}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(r.data, out)}}},
	}
}

func (r *rig) submit(in, out, submission string) engine.JobID {
	r.t.Helper()
	id, _, err := r.manager.Submit(context.Background(), jobs.Submission{Spec: r.spec(in, out), SubmissionID: submission, GrantedQueues: allQueues})
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// job returns a copy of what is durable of a job, or nil.
func (r *rig) job(id string) (job *state.Job) {
	r.store.View(func(s *state.State) {
		if found := s.Job(id); found != nil {
			copied := *found
			job = &copied
		}
	})
	return job
}

// await waits until a job is as wanted.
func (r *rig) await(id engine.JobID, what string, wanted func(*state.Job) bool) {
	r.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		changed := r.manager.Changed(id)
		if wanted(r.job(string(id))) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			r.t.Fatalf("job %s: not %s; phase %q", id, what, r.manager.Phase(id))
		}
	}
}

func ended(job *state.Job) bool { return job == nil || job.Ended != nil }

// stall keeps the store's writer busy until release is called.
func (r *rig) stall() (release func()) {
	gate, busy, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		refused := errors.New("refused")
		if err := r.store.ProposeIf(context.Background(), func(*state.State) error {
			close(busy)
			<-gate
			return refused
		}); !errors.Is(err, refused) {
			r.t.Error(err)
		}
	}()
	<-busy
	return func() {
		close(gate)
		<-done
	}
}

func TestOldJobsAreForgottenOnceAndTheLogStaysReadable(t *testing.T) {
	r := newRig(t, jobs.Config{KeepEnded: 1, KeepEndedFor: time.Nanosecond, Planners: 16})
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() { r.await(r.submit("missing.csv", fmt.Sprint("out", i), ""), "ended", ended) })
	}
	all.Wait()
	r.close()
	again, err := state.Open(state.Config{Dir: r.dir, NewClusterID: "c"})
	if err != nil {
		t.Fatalf("the next head cannot start: %v", err)
	}
	<-again.Terms()
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJobThatEndedLastIsRemembered(t *testing.T) {
	r := newRig(t, jobs.Config{KeepEnded: 2, KeepEndedFor: time.Nanosecond})
	long := r.submit("in.csv", "long", "nightly")
	for i := range 3 {
		r.await(r.submit("missing.csv", fmt.Sprint("o", i), ""), "ended", ended)
	}
	if err := r.manager.Stop(context.Background(), long); err != nil {
		t.Fatal(err)
	}
	r.await(r.submit("missing.csv", "last", ""), "ended", ended)
	if r.job(string(long)) == nil {
		t.Fatal("the job that was accepted first and ended last is forgotten, although newer ones are kept")
	}
}

func TestJobsThatEndedLongAgoAreForgotten(t *testing.T) {
	r := newRig(t, jobs.Config{KeepEndedMax: time.Nanosecond, KeepEndedFor: time.Nanosecond})
	first := r.submit("missing.csv", "first", "")
	r.await(first, "ended", ended)
	for i := 0; r.job(string(first)) != nil; i++ {
		if i == 100 {
			t.Fatal("it is still remembered")
		}
		r.await(r.submit("missing.csv", fmt.Sprint("o", i), ""), "ended", ended) // Each end looks for old ones.
	}
}

func TestSubmitWhoseCallerGoesAwayIsDriven(t *testing.T) {
	r := newRig(t, jobs.Config{})
	release := r.stall()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		_, _, err := r.manager.Submit(ctx, jobs.Submission{Spec: r.spec("in.csv", "out"), SubmissionID: "nightly", GrantedQueues: allQueues})
		result <- err
	}()
	cancel()
	release()
	if err := <-result; err != nil && engine.KindOf(err) != engine.KindCanceled {
		t.Fatal(err)
	}
	id := r.submit("in.csv", "out", "nightly")
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	if err := r.manager.Stop(context.Background(), id); err != nil || !ended(r.job(string(id))) {
		t.Fatalf("stop: %v, job %+v", err, r.job(string(id)))
	}
}

func TestSameSubmissionAtTheSameTimeAttaches(t *testing.T) {
	r := newRig(t, jobs.Config{})
	release := r.stall()
	ids := make(chan engine.JobID, 8)
	var all sync.WaitGroup
	for range cap(ids) {
		all.Go(func() {
			id, _, err := r.manager.Submit(context.Background(), jobs.Submission{Spec: r.spec("in.csv", "out"), SubmissionID: "nightly", GrantedQueues: allQueues})
			if err != nil {
				t.Error(err)
			}
			ids <- id
		})
	}
	release()
	all.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Fatalf("one submission made the jobs %s and %s", first, id)
		}
	}
}

func TestErrorThatIsNotUTF8IsRecorded(t *testing.T) {
	r := newRig(t, jobs.Config{})
	// An empty file is an error that names it.
	if err := os.MkdirAll(filepath.Join(r.data, "in"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.data, "in")+"/r\xe9sultat.csv", nil, 0o600); err != nil {
		t.Skipf("the file system takes UTF-8 names alone: %v", err)
	}
	id := r.submit("in", "out", "")
	r.await(id, "ended", ended)
	if job := r.job(string(id)); job.State() != engine.JobFailed {
		t.Fatalf("state %s", job.State())
	}
}

func TestStopAndResumeInTheInstantOfTheEnd(t *testing.T) {
	r := newRig(t, jobs.Config{Planners: 8})
	for i := range 100 {
		id := r.submit("missing.csv", fmt.Sprint("s", i), "")
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		if err := r.manager.Stop(ctx, id); err != nil {
			t.Fatalf("stop: %v", err)
		}
		for !ended(r.job(string(id))) {
			runtime.Gosched() // The instant in which the end becomes visible is meant.
		}
		if err := r.manager.Resume(ctx, id, nil); err != nil {
			t.Fatalf("resume: %v", err)
		}
		cancel()
	}
}

// Who has seen that a job has ended can submit another one with the same output at once.
func TestSubmitInTheInstantOfTheEnd(t *testing.T) {
	r := newRig(t, jobs.Config{Planners: 8})
	for range 100 {
		id := r.submit("missing.csv", "same", "")
		for !ended(r.job(string(id))) {
			runtime.Gosched() // The instant in which the end becomes visible is meant.
		}
	}
}

func TestClosedManagerRefuses(t *testing.T) {
	r := newRig(t, jobs.Config{})
	r.manager.Close()
	if _, _, err := r.manager.Submit(context.Background(), jobs.Submission{Spec: r.spec("in.csv", "out")}); engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("error %v, want kind unavailable", err)
	}
}

// The log of a job that another head has forgotten goes when this one leads.
func TestLogsOfForgottenJobsAreSwept(t *testing.T) {
	r := newRig(t, jobs.Config{})
	id := r.submit("in.csv", "out", "")
	r.close()
	for _, name := range []string{"20260101-000000-abcdefgh.jsonl", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(r.dir, "logs", name), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.store, err = state.Open(state.Config{Dir: r.dir, NewClusterID: "c"}); err != nil {
		t.Fatal(err)
	}
	<-r.store.Terms()
	r.group = lifecycle.NewGroup(context.Background(), "jobs")
	book := joblog.New(filepath.Join(r.dir, "logs"))
	r.manager = jobs.New(jobs.Config{}, r.store, book, r.group, slog.New(slog.DiscardHandler))
	r.manager.Attach(dispatch.NewDispatcher(dispatch.Config{ClusterID: "c", Term: 2}, r.manager.Hooks(), nil))
	timeout := time.After(2 * time.Minute)
	for {
		ids, err := book.Jobs()
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 1 && ids[0] == id {
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			t.Fatalf("logs of %v", ids)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "logs", "notes.txt")); err != nil {
		t.Errorf("a file that is no log: %v", err)
	}
}

// A call that is repeated while its job runs does not wait for the job's end.
func TestRepeatedCallsDoNotWaitForTheJob(t *testing.T) {
	r := newRig(t, jobs.Config{})
	id := engine.NewJobID(time.Now())
	spec := r.spec("in.csv", "out")
	const calls = 8
	answers := make(chan error, calls)
	for range calls {
		go func() {
			got, _, err := r.manager.Submit(t.Context(), jobs.Submission{ID: id, Spec: spec, GrantedQueues: allQueues})
			if err == nil && got != id {
				err = errors.New("another job: " + string(got))
			}
			answers <- err
		}()
	}
	for range calls {
		select {
		case err := <-answers:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("a submission waits for the end of the job")
		}
	}
	if err := r.manager.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range calls {
		go func() {
			err := r.manager.Resume(t.Context(), id, nil)
			if engine.KindOf(err) == engine.KindConflict {
				err = nil // Somebody else was quicker.
			}
			answers <- err
		}()
	}
	for range calls {
		select {
		case err := <-answers:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("a resumption waits for the end of the job")
		}
	}
}
