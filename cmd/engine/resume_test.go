package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestSubmittedAgain hands the same submission in again, whose job stands where it does.
func TestSubmittedAgain(t *testing.T) {
	job := writeJob(t, goodJob)
	for state, resumes := range map[enginev1.JobState]bool{
		enginev1.JobState_JOB_STATE_RUNNING: false, enginev1.JobState_JOB_STATE_SUCCEEDED: false,
		enginev1.JobState_JOB_STATE_FAILED: true, enginev1.JobState_JOB_STATE_STOPPED: true,
	} {
		head := &fakeHead{job: doneJob(state), attached: true}
		c := newConsole(t, head)
		c.run(t, 0, "submit", job, "--submission-id", "nightly")
		c.wantOut(t, testJob+"\n")
		if got := slices.Contains(head.calls, "resume "+testJob); got != resumes {
			t.Errorf("%s: calls %v", state, head.calls)
		}
		if resumes {
			c.wantErr(t, "job "+testJob+" of this submission id is "+strings.TrimPrefix(state.String(), "JOB_STATE_")+"; it goes on where it stood\n")
		}
	}
}

// TestDifferencesAreShown prints each difference in a line of its own, and the hint after them.
func TestDifferencesAreShown(t *testing.T) {
	head := &fakeHead{err: engine.Errorf(engine.KindConflict, "resume job", testJob, "what it works on has changed since it was planned:\n  added    /in/b.csv: 3 bytes\n  removed  /in/a.csv: 4 bytes").
		WithHint("submit the job again as a new one")}
	c := newConsole(t, head)
	const want = "error: resume job: " + testJob + ": what it works on has changed since it was planned:\n  added    /in/b.csv: 3 bytes\n  removed  /in/a.csv: 4 bytes\n" +
		"  hint: submit the job again as a new one\n"
	c.run(t, exitRefused, "job", "resume", testJob)
	c.wantErr(t, want)
	c.run(t, exitRefused, "submit", writeJob(t, goodJob), "--submission-id", "nightly", "--wait", "-o", "json")
	c.wantErr(t, want)
	if !strings.Contains(c.stdout.String(), `planned:\n  added    /in/b.csv: 3 bytes\n  removed`) {
		t.Errorf("stdout:\n%s", c.stdout)
	}
}

func TestOnlyNewAndCacheAreShown(t *testing.T) {
	file := writeJob(t, goodJob)
	none, some, cached := doneJob(enginev1.JobState_JOB_STATE_SUCCEEDED), doneJob(enginev1.JobState_JOB_STATE_SUCCEEDED), doneJob(enginev1.JobState_JOB_STATE_SUCCEEDED)
	none.OnlyNew, none.InputsKnown, none.Outputs, none.Progress = true, 1200, nil, nil
	some.OnlyNew, some.Inputs, some.InputsKnown = true, 1, 3
	cached.CachedFrom = "20261101-000000-aaaaaaaa"
	for _, test := range []struct {
		job                  *enginev1.Job
		summary, status, out string
	}{
		{none, "  nothing is new: earlier jobs have read 1,200 inputs\n", "inputs:     0 new, 1,200 left out", `"inputs_known": 1200`},
		{some, "  new      1 input; 3 left out\n  read     1,599 rows", "inputs:     1 new, 3 left out", `"inputs_read": 1`},
		{cached, "  cached   job 20261101-000000-aaaaaaaa has made the same; nothing was done again\n  output   ", "cached from:  20261101-000000-aaaaaaaa\n", `"cached_from": "20261101-000000-aaaaaaaa"`},
	} {
		head := &fakeHead{job: test.job}
		c := newConsole(t, head)
		c.run(t, 0, "submit", file, "--wait", "--only-new", "-o", "json")
		if !strings.Contains(c.stderr.String(), test.summary) || !strings.Contains(c.stdout.String(), test.out) || !head.request.GetOnlyNew() {
			t.Errorf("stderr:\n%s\nstdout:\n%s\nwant %q and %q", c.stderr, c.stdout, test.summary, test.out)
		}
		c.run(t, 0, "job", "status", testJob)
		if got := strings.Join(strings.Fields(c.stdout.String()), " "); !strings.Contains(got, strings.Join(strings.Fields(test.status), " ")) {
			t.Errorf("status:\n%s\nwant %q", c.stdout, test.status)
		}
	}
	head := &fakeHead{job: some}
	newConsole(t, head).run(t, 0, "submit", file)
	if head.request.GetOnlyNew() {
		t.Error("only new inputs although nobody said so")
	}
}

func TestJobForget(t *testing.T) {
	head := &fakeHead{job: doneJob(enginev1.JobState_JOB_STATE_FAILED)}
	c := newConsole(t, head)
	c.run(t, 0, "job", "forget", "nightly")
	c.wantOut(t, "job "+testJob+" is forgotten\n")
	c.run(t, 0, "job", "forget", "nightly", "--discard", "-o", "json")
	if want := []string{"forget nightly false", "forget nightly true"}; !slices.Equal(head.calls, want) || !strings.Contains(c.stdout.String(), `"job_id": "`+testJob+`"`) {
		t.Errorf("calls %v, stdout:\n%s", head.calls, c.stdout)
	}
	head.err = engine.Errorf(engine.KindConflict, "forget job", testJob, "it has not ended")
	c.run(t, exitRefused, "job", "forget", testJob)
}
