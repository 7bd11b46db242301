package testcluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// contents reads an object by its name, as text that tells every bit of it.
func contents(t *testing.T, c *testcluster.Cluster, name string) ([]string, error) {
	t.Helper()
	ref, err := c.Client().Lookup(withTimeout(t), name)
	if err != nil {
		return nil, err
	}
	opened, err := c.Client().Get(withTimeout(t), ref)
	if err != nil {
		return nil, err
	}
	defer opened.Release()
	return append(rowsOf(t, opened.Records()), fmt.Sprint(len(opened.Records()), " record batches")), nil
}

func mustContents(t *testing.T, c *testcluster.Cluster, name string) []string {
	t.Helper()
	rows, err := contents(t, c, name)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// lost counts the objects that have no copy.
func lost(t *testing.T, c *testcluster.Cluster) (n int) {
	t.Helper()
	listed, err := c.Client().Objects(withTimeout(t), client.ObjectFilter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range listed.GetObjects() {
		if info.GetState() == enginev1.ObjectState_OBJECT_STATE_LOST {
			n++
		}
	}
	return n
}

// named is a sink of objects with a name.
func named(name string) *enginev1.ObjectSink { return &enginev1.ObjectSink{Name: name, Ttl: "1h"} }

// Outputs of jobs that have succeeded are lost with the only node that had them. Who asks for one gets it again, with what it was made of,
// and nothing else is made.
func TestLostOutputsAreMadeAgain(t *testing.T) {
	tb := newTable(t, 2_000, 3)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 8_000})
	made := wait(t, submit(t, c, tb.intoObjects(named("first"))), engine.JobSucceeded)
	spec := tb.spec
	spec.Source, spec.Sink = objectSource("first/0", "first/1"), objectSink(named("second"))
	job := submit(t, c, spec)
	second := wait(t, job, engine.JobSucceeded)
	wantFirst, wantSecond := mustContents(t, c, "first/2"), mustContents(t, c, "second/0")
	all := len(made.Outputs) + len(second.Outputs)

	c.AddWorker()
	c.KillWorker(0)
	if rows := mustContents(t, c, "second/0"); !slices.Equal(rows, wantSecond) {
		t.Fatalf("the output that was made again is another: %d rows, expected %d", len(rows), len(wantSecond))
	}
	if left := lost(t, c); left < all-3 || left == all {
		t.Errorf("%d of %d outputs are still lost, although one was asked for, which one or two others are needed for", left, all)
	}
	ref, err := c.Client().Lookup(withTimeout(t), "first/2")
	if err != nil {
		t.Fatal(err)
	}
	if ready, err := c.Client().Wait(withTimeout(t), []engine.ObjectRef{ref}, 1); err != nil || len(ready) != 1 {
		t.Fatalf("waiting for a lost output: %v, %v", ready, err)
	}
	if rows := mustContents(t, c, "first/2"); !slices.Equal(rows, wantFirst) {
		t.Fatal("the output that was waited for is another")
	}
	info, err := c.Client().ObjectInfo(withTimeout(t), ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, owner := range info.GetOwners() {
		if owner.GetExpireTime() == nil {
			t.Errorf("%s/%s owns it without an end", owner.GetKind(), owner.GetId())
		}
	}
	if status, err := job.Status(withTimeout(t)); err != nil || status.GetState() != enginev1.JobState_JOB_STATE_SUCCEEDED || status.GetProgress().GetRowsWritten() != second.RowsWritten {
		t.Errorf("the job is %v: %v", status, err)
	}

	// What is lost a second time comes back a second time, for another job that reads it.
	c.AddWorker()
	c.KillWorker(0)
	third := spec
	third.Source, third.Sink, third.Steps = objectSource("second/0"), objectSink(named("third")), nil
	result := wait(t, submit(t, c, third), engine.JobSucceeded)
	if result.RowsWritten != int64(len(wantSecond)-1) {
		t.Errorf("%d rows of %d", result.RowsWritten, len(wantSecond)-1)
	}
}

// An output whose job's input has changed is not made again: the error names the object, its job, what it was to be made of, and the file.
func TestLostOutputOfOtherInput(t *testing.T) {
	tb := newTable(t, 500, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	first := submit(t, c, tb.intoObjects(named("first")))
	made := wait(t, first, engine.JobSucceeded)
	spec := tb.spec
	spec.Source, spec.Sink = objectSource("first/0"), objectSink(named("second"))
	second := submit(t, c, spec)
	result := wait(t, second, engine.JobSucceeded)
	input := filepath.Join(tb.dir, "in-000.csv")
	if err := os.Chtimes(input, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	c.AddWorker()
	c.KillWorker(0)
	for range 2 {
		_, err := contents(t, c, "second/0")
		if engine.KindOf(err) != engine.KindConflict {
			t.Fatalf("%v", err)
		}
		object := func(output string) string { return strings.Split(output, "@")[0] }
		for _, want := range []string{object(result.Outputs[0]), string(second.ID()), object(made.Outputs[0]), string(first.ID()), "changed  " + input + ": modified "} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %s", err, want)
			}
		}
	}
}

// A job that is not done yet makes what it has lost meanwhile again, and then succeeds.
func TestOutputsAreLostWhileTheJobRuns(t *testing.T) {
	tb := newTable(t, 4_000, 2)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, CPU: 1, TargetSplitBytes: 8_000})
	job := submit(t, c, tb.intoObjects(named("made")))
	killed := false
	if err := job.Watch(withTimeout(t), func(j *enginev1.Job) error {
		if !killed && j.GetProgress().GetTasksDone() > 2 {
			killed = true
			c.AddWorker()
			c.KillWorker(0)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	result := wait(t, job, engine.JobSucceeded)
	if !killed {
		t.Log("the job was done before a worker could be killed")
	}
	rows := 0
	for i := range result.Outputs {
		rows += len(mustContents(t, c, fmt.Sprint("made/", i))) - 1
	}
	if rows != 4_000 {
		t.Errorf("%d rows", rows)
	}
}

// A lost output of a job that is a task's argument is made again, also if it was made of the lost output of another task. A task whose argument
// cannot be made again says why.
func TestLostOutputIsATasksArgument(t *testing.T) {
	cluster, _ := startTasks(t, testcluster.Options{Workers: 1, LeaseTime: time.Second})
	ctx, c := within(t), cluster.Client()
	const rows = 1_000
	task := engine.Task{Operator: "range", Params: rows}
	task.Recompute, task.InlineBytes = true, -1
	numbers := c.Run(ctx, task)
	if _, err := numbers.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	csv := filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(csv, []byte("n\n1\n2\n39\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{csv}}}}
	var args []engine.Arg
	for i, source := range []*enginev1.Source{fromFile, objectSource(numbers.Ref().String())} {
		wait(t, submit(t, cluster, &enginev1.JobSpec{Source: source, Sink: objectSink(named(fmt.Sprint("made-", i)))}), engine.JobSucceeded)
		ref, err := c.Lookup(ctx, fmt.Sprintf("made-%d/0", i))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, engine.Ref(ref))
	}
	cluster.AddWorker()
	cluster.KillWorker(0)
	sum := c.Run(ctx, engine.Task{Operator: "add", Params: 0, Args: args})
	wantSum(ctx, t, c, sum.Ref(), 42+(rows-1)*rows/2)

	cluster.AddWorker()
	cluster.KillWorker(0)
	if err := os.Remove(csv); err != nil {
		t.Fatal(err)
	}
	gone := c.Run(ctx, engine.Task{Operator: "add", Params: 0, Args: args[:1]})
	// The task may have been granted before the head knew of the loss.
	if text := wantError(ctx, t, gone, engine.KindConflict, -1); !strings.Contains(text, "removed  "+csv) {
		t.Errorf("an argument that cannot be made again: %s", text)
	}
}
