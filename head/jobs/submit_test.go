package jobs_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/jobs"
)

func TestARepeatedSubmissionMakesOneJob(t *testing.T) {
	r := newRig(t, jobs.Config{})
	id := engine.NewJobID(time.Now())
	submit := func(id engine.JobID, out, submission string) (engine.JobID, bool, error) {
		return r.manager.Submit(t.Context(), jobs.Submission{ID: id, Spec: r.spec("in.csv", out), SubmissionID: submission, GrantedQueues: allQueues})
	}
	// While the first is under way, and after it.
	release := r.stall()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, attached, err := submit(id, "out", ""); got != id || attached || err != nil {
				t.Errorf("job %s, attached %v: %v", got, attached, err)
			}
		})
	}
	release()
	all.Wait()
	for _, test := range []struct {
		name, out, submission string
		id                    engine.JobID
		kind                  engine.Kind
	}{
		{"another spec", "other", "", id, engine.KindConflict},
		{"another submission id", "out", "nightly", id, engine.KindConflict},
		{"no id of ours", "other", "", "../../etc/passwd", engine.KindInvalidArgument},
	} {
		if _, _, err := submit(test.id, test.out, test.submission); engine.KindOf(err) != test.kind || err == nil {
			t.Errorf("%s: %v, expected %s", test.name, err, test.kind)
		}
	}
	if err := r.manager.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, attached, err := submit(id, "out", ""); got != id || attached || err != nil {
		t.Errorf("after its end: job %s, attached %v: %v", got, attached, err)
	}
}

func TestARepeatedNamedSubmissionIsNotAttachedTo(t *testing.T) {
	r := newRig(t, jobs.Config{})
	mine, other := engine.NewJobID(time.Now()), engine.NewJobID(time.Now())
	for _, test := range []struct {
		wanted   engine.JobID
		attached bool
	}{{mine, false}, {mine, false}, {other, true}, {"", true}} {
		id, attached, err := r.manager.Submit(t.Context(), jobs.Submission{ID: test.wanted, Spec: r.spec("in.csv", "out"), SubmissionID: "nightly", GrantedQueues: allQueues})
		if id != mine || attached != test.attached || err != nil {
			t.Errorf("wanted %q: job %s, attached %v: %v, expected %s and %v", test.wanted, id, attached, err, mine, test.attached)
		}
	}
}

// TestSubmissionIDsOfOtherQueues tells nobody what stands in the job of a queue that they are not granted.
func TestSubmissionIDsOfOtherQueues(t *testing.T) {
	r := newRig(t, jobs.Config{})
	theirs := r.spec("in.csv", "secret-place")
	theirs.Queue = "theirs"
	if _, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: theirs, SubmissionID: "nightly", GrantedQueues: allQueues}); err != nil {
		t.Fatal(err)
	}
	ours := r.spec("in.csv", "out")
	ours.Queue = "ours"
	_, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: ours, SubmissionID: "nightly", GrantedQueues: []string{"ours"}})
	if engine.KindOf(err) != engine.KindConflict || strings.Contains(err.Error(), "secret-place") || strings.Contains(err.Error(), "theirs") {
		t.Errorf("got %v", err)
	}
	_, _, err = r.manager.Submit(t.Context(), jobs.Submission{Spec: ours, SubmissionID: "nightly", GrantedQueues: allQueues})
	if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "secret-place") {
		t.Errorf("who may see it is told no difference: %v", err)
	}
}
