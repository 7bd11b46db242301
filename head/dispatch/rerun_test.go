package dispatch_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
)

// reruns returns the ends of tasks that ran again since the last call.
func (b *bench) reruns(n int) []dispatch.Rerun {
	b.t.Helper()
	ends := b.events.Reruns
	b.events.Reruns = nil
	if len(ends) != n {
		b.t.Fatalf("%d tasks have ended that ran again, expected %d: %v", len(ends), n, ends)
	}
	return ends
}

func (b *bench) rerun(tasks int, indexes ...int) {
	for _, index := range indexes {
		b.core.Rerun(b.now, jobOf("j", tasks, 2, nil, time.Time{}), index)
	}
	b.take()
}

// Of a job that has ended, only the tasks run that are to, and nothing of that is to become durable.
func TestRerunOfAJobThatHasEnded(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 4)
	b.rerun(5, 1, 3, 1)
	b.report(w)
	if len(w.held) != 2 || w.held[task(1)] == 0 || w.held[task(3)] == 0 {
		t.Fatalf("held are %v", w.held)
	}
	w.finish(task(3), nil)
	b.report(w)
	if end := b.reruns(1)[0]; end.Task != task(3) || end.Err != nil || end.Counts.GetRowsWritten() != 10 || len(w.results) != 0 {
		t.Fatalf("%+v, results %v", end, w.results)
	}
	w.finish(task(1), nil)
	if answer := b.report(w); !slices.Equal(answer.GetEndedJobs(), []string{"j"}) {
		t.Errorf("the worker hears of the end of jobs %v", answer.GetEndedJobs())
	}
	b.reruns(1)
	if _, there := b.core.Job("j"); there {
		t.Error("the job stays")
	}
	if e := b.events; len(e.Commits)+len(e.Finished)+len(e.Failed)+len(e.Started) != 0 {
		t.Errorf("events %+v", e)
	}
	// Once more, and it cannot hold what it has held before.
	b.rerun(5, 3)
	b.report(w)
	w.finish(task(3), nil)
	b.report(w)
	b.reruns(1)
}

func TestRerunFails(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 4)
	b.rerun(5, 0, 1, 2)
	b.report(w)
	w.finish(task(0), engine.Errorf(engine.KindData, "read", "x", "broken"))
	w.finish(task(1), engine.Errorf(engine.KindUnavailable, "read", "x", "away"))
	b.report(w)
	if end := b.reruns(1)[0]; end.Task != task(0) || engine.KindOf(end.Err) != engine.KindData {
		t.Fatalf("%+v", end)
	}
	b.pass(time.Second)
	b.report(w)
	w.finish(task(1), engine.Errorf(engine.KindUnavailable, "read", "x", "away"))
	b.report(w)
	if end := b.reruns(1)[0]; end.Task != task(1) || !strings.Contains(end.Err.Error(), "attempt 2 of 2") {
		t.Fatalf("%+v", end)
	}
	// One that is cancelled is taken back.
	gone := errors.New("nobody waits")
	b.core.CancelRerun(b.now, task(2), gone)
	b.take()
	if end := b.reruns(1)[0]; end.Task != task(2) || !errors.Is(end.Err, gone) {
		t.Fatalf("%+v", end)
	}
	b.report(w)
	if len(w.held) != 0 || len(b.events.Failed) != 0 {
		t.Errorf("held are %v, failed %v", w.held, b.events.Failed)
	}
	b.core.CancelRerun(b.now, task(2), gone)
	b.take()
	b.reruns(0)
}

// A job that still runs is not done before a task has run again that was done already, and then is, whatever became of that.
func TestRerunWhileTheJobRuns(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 2, 2, nil, time.Time{})
	w := b.worker("w", 2)
	w.finish(task(0), nil)
	b.report(w)
	b.rerun(2, 1, 0) // Neither is committed yet.
	b.reruns(2)
	b.commitAll()
	b.report(w)
	b.rerun(2, 0)
	b.report(w)
	w.finish(task(1), nil)
	b.report(w)
	b.commitAll()
	if len(b.events.Finished) != 0 {
		t.Fatal("the job is done while a task of it runs again")
	}
	w.finish(task(0), engine.Errorf(engine.KindData, "read", "x", "broken"))
	b.report(w)
	b.reruns(1)
	if !slices.Equal(b.events.Finished, []dispatch.Run{{Job: "j"}}) || len(b.events.Failed) != 0 {
		t.Fatalf("finished %v, failed %v", b.events.Finished, b.events.Failed)
	}
	// While its output is completed, too, and that is said once.
	b.rerun(2, 1)
	b.report(w)
	w.finish(task(1), nil)
	b.report(w)
	b.reruns(1)
	if len(b.events.Finished) != 1 {
		t.Errorf("finished %v", b.events.Finished)
	}
	b.rerun(2, 1)
	b.core.RemoveJob(b.now, "j")
	b.take()
	if end := b.reruns(1)[0]; !errors.Is(end.Err, dispatch.ErrRemoved) {
		t.Errorf("%v", end.Err)
	}
}

// A job that begins again is not taken for the one of which some tasks run again.
func TestRerunEndsWhenItsJobBeginsAgain(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 4)
	b.rerun(2, 0)
	b.report(w)
	b.addJob("j", 2, 2, func(index int) bool { return index == 0 }, time.Time{})
	if end := b.reruns(1)[0]; !errors.Is(end.Err, dispatch.ErrRemoved) {
		t.Fatalf("%v", end.Err)
	}
	b.report(w)
	b.report(w)
	if len(w.held) != 1 || w.held[task(1)] == 0 {
		t.Errorf("held are %v", w.held)
	}
	w.finish(task(1), nil)
	b.report(w)
	b.commitAll()
	if len(b.events.Finished) != 1 {
		t.Errorf("finished %v", b.events.Finished)
	}
}

// A worker that was away with a task that ran again, and comes back, has none of it when the head has changed.
func TestRerunEndsWithItsHead(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 4)
	b.rerun(2, 0)
	b.report(w)
	next := newBench(t, 2)
	next.workers = b.workers
	next.connect(w)
	if len(w.held) != 0 {
		t.Errorf("held are %v", w.held)
	}
}
