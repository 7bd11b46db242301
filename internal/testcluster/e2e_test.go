package testcluster_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
)

// TestMain passes over probes of memberlist that still wait for an answer, some seconds at most: nothing can wait for them.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// table is a CSV file of rows "i;i/4;text" and a model that computes i*2 + i/4*3 + 1.
type table struct {
	dir  string
	rows int
	spec *enginev1.JobSpec
}

func newTable(t *testing.T, rows, files int) table {
	t.Helper()
	dir := t.TempDir()
	next := 0
	for f := range files {
		var b bytes.Buffer
		b.WriteString("\"a\";\"b\";note\n")
		for ; next < rows*(f+1)/files; next++ {
			fmt.Fprintf(&b, "%d;%s;\"row; %d\"\n", next, strconv.FormatFloat(float64(next)/4, 'f', -1, 64), next)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("in-%03d.csv", f)), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	model := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(model, enginetest.LinearModel(engine.Float64, 1, 2, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	return table{dir: dir, rows: rows, spec: &enginev1.JobSpec{
		Name:   "test",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(dir, "in-*.csv")}, Delimiter: ";"}}},
		Batch:  &enginev1.Batch{Rows: 100},
		Steps: []*enginev1.Step{{Kind: &enginev1.Step_Infer{Infer: &enginev1.InferStep{
			Model: model, Inputs: []string{"a", "b"}, Output: "prediction",
		}}}},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(dir, "out")}}},
	}}
}

func (tb table) out() string { return filepath.Join(tb.dir, "out") }

// check reads the output folder as any reader would and wants every row once, in order, with the right prediction.
func (tb table) check(t *testing.T) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(tb.out(), "part-*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, part := range parts {
		reader, err := file.OpenParquetFile(part, false)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		arrowReader, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		result, err := arrowReader.ReadTable(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		records := array.NewTableReader(result, 0)
		for records.Next() {
			record := records.Record()
			column := func(name string) int { return record.Schema().FieldIndices(name)[0] }
			a := record.Column(column("a")).(*array.Float64)
			note := record.Column(column("note")).(*array.String)
			prediction := record.Column(column("prediction")).(*array.Float64)
			for i := range int(record.NumRows()) {
				x := float64(next)
				if a.Value(i) != x || note.Value(i) != fmt.Sprintf("row; %d", next) || prediction.Value(i) != 2*x+3*x/4+1 {
					t.Fatalf("%s row %d: a %v, note %q, prediction %v, want row %d", filepath.Base(part), i, a.Value(i), note.Value(i), prediction.Value(i), next)
				}
				next++
			}
		}
		records.Release()
		result.Release()
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if next != tb.rows {
		t.Fatalf("output has %d rows, want %d", next, tb.rows)
	}
	if _, err := os.Stat(filepath.Join(tb.out(), "_SUCCESS")); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(tb.out(), "_staging*"))
	if err != nil || len(left) > 0 {
		t.Fatalf("staging files stay behind: %v %v", left, err)
	}
}

func withTimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func submit(t *testing.T, c *testcluster.Cluster, spec *enginev1.JobSpec, options ...client.SubmitOption) *client.Job {
	t.Helper()
	job, err := c.Client().Submit(withTimeout(t), spec, options...)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func wait(t *testing.T, job *client.Job, want engine.JobState) client.Result {
	t.Helper()
	result, err := job.Wait(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if result.State != want {
		t.Fatalf("job ended %s (%v), want %s", result.State, result.Err, want)
	}
	return result
}

func TestJobOnSeveralWorkers(t *testing.T) {
	tb := newTable(t, 10_000, 3)
	c := testcluster.Start(t, testcluster.Options{Workers: 3, TargetSplitBytes: 20_000})
	job := submit(t, c, tb.spec)
	result := wait(t, job, engine.JobSucceeded)
	tb.check(t)
	if result.RowsRead != 10_000 || result.RowsWritten != 10_000 || result.Batches < 100 || len(result.Outputs) < 3 {
		t.Fatalf("result %+v", result)
	}
	for _, output := range result.Outputs {
		if _, err := os.Stat(output); err != nil {
			t.Error(err)
		}
	}
	var lines []string
	if err := job.Logs(withTimeout(t), client.LogOptions{Follow: true}, func(line *enginev1.LogLine) error {
		lines = append(lines, line.GetMessage())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(lines) < len(result.Outputs)+3 || lines[0] != "job accepted" || lines[len(lines)-1] != "job succeeded" {
		t.Fatalf("log lines %q", lines)
	}
}

func TestSubmissionIDAttachesOrRefuses(t *testing.T) {
	tb := newTable(t, 100, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	first := submit(t, c, tb.spec, client.WithSubmissionID("nightly"))
	second := submit(t, c, tb.spec, client.WithSubmissionID("nightly"))
	if first.ID() != second.ID() || first.Attached() || !second.Attached() {
		t.Fatalf("jobs %s and %s, attached %v and %v", first.ID(), second.ID(), first.Attached(), second.Attached())
	}
	wait(t, second, engine.JobSucceeded)
	tb.spec.Batch.Rows = 7
	if _, err := c.Client().Submit(withTimeout(t), tb.spec, client.WithSubmissionID("nightly")); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("another spec under the same submission id: %v, want kind conflict", err)
	}
}

func TestWorkerThatDiesLosesItsTasks(t *testing.T) {
	tb := newTable(t, 5_000, 2)
	block := make(chan struct{})
	loaders := make(chan *fake.Loader, 8)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 20_000, Models: func() runtime.Loader {
		loader := fake.New()
		loaders <- loader
		return loader
	}})
	(<-loaders).SetFaults(fake.Faults{Gate: block}) // The first worker never gets on.
	defer close(block)
	job := submit(t, c, tb.spec)
	if err := job.Watch(withTimeout(t), func(state *enginev1.Job) error {
		if state.GetProgress().GetTasksRunning() > 0 {
			return errSeen
		}
		return nil
	}); err != errSeen { //nolint:errorlint // The very error is meant.
		t.Fatal(err)
	}
	c.AddWorker()
	c.KillWorker(0)
	result := wait(t, job, engine.JobSucceeded)
	tb.check(t)
	if result.RowsWritten != 5_000 {
		t.Fatalf("result %+v", result)
	}
}

func TestHeadRestartsWhileWorkersRun(t *testing.T) {
	tb := newTable(t, 20_000, 4)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 10_000})
	job := submit(t, c, tb.spec)
	for range 3 {
		if err := job.Watch(withTimeout(t), func(state *enginev1.Job) error {
			if state.GetProgress().GetTasksDone() > 0 {
				return errSeen
			}
			return nil
		}); err != nil && err != errSeen { //nolint:errorlint // The very error is meant.
			t.Fatal(err)
		}
		c.StopHead()
		c.StartHead()
	}
	result := wait(t, job, engine.JobSucceeded)
	tb.check(t)
	if result.RowsWritten != 20_000 {
		t.Fatalf("result %+v", result)
	}
}

func TestStopAndResume(t *testing.T) {
	tb := newTable(t, 5_000, 2)
	block := make(chan struct{})
	loader := fake.New()
	loader.SetFaults(fake.Faults{Gate: block})
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 20_000, Models: func() runtime.Loader { return loader }})
	job := submit(t, c, tb.spec)
	stopped, err := job.Stop(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if stopped.GetState() != enginev1.JobState_JOB_STATE_STOPPED {
		t.Fatalf("state %s after stop", stopped.GetState())
	}
	close(block)
	if _, err := job.Resume(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, job, engine.JobSucceeded)
	tb.check(t)
	if _, err := job.Resume(withTimeout(t)); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("resume of a job that succeeded: %v, want kind conflict", err)
	}
}

func TestOtherProtocolVersionIsRefused(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	_, err := node.StartWorker(withTimeout(t), node.WorkerConfig{
		Address: c.Address(), Resources: engine.Resources{CPU: 1}, Models: fake.New(), Logger: testcluster.Logger(), ProtocolVersion: 99,
	})
	if engine.KindOf(err) != engine.KindVersion || !strings.Contains(err.Error(), "99") {
		t.Fatalf("worker of protocol version 99: %v, want kind version and both numbers", err)
	}
}

func TestPendingJobSaysWhy(t *testing.T) {
	tb := newTable(t, 100, 1)
	tb.spec.Resources = &enginev1.Resources{Gpu: 1}
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	job := submit(t, c, tb.spec)
	err := job.Watch(withTimeout(t), func(state *enginev1.Job) error {
		if strings.Contains(state.GetReason(), "gpu: 1") {
			return errSeen
		}
		return nil
	})
	if err != errSeen { //nolint:errorlint // The very error is meant.
		t.Fatal(err)
	}
	if _, err := job.Stop(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
}

func TestOneJobDoesNotStarveAnother(t *testing.T) {
	flood, small := newTable(t, 20_000, 10), newTable(t, 100, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, CPU: 1, TargetSplitBytes: 2_000})
	first := submit(t, c, flood.spec)
	if err := first.Watch(withTimeout(t), func(state *enginev1.Job) error {
		if state.GetProgress().GetTasksRunning() > 0 {
			return errSeen
		}
		return nil
	}); err != errSeen { //nolint:errorlint // The very error is meant.
		t.Fatal(err)
	}
	second := submit(t, c, small.spec)
	wait(t, second, engine.JobSucceeded)
	state, err := first.Status(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if state.GetProgress().GetTasksDone() == state.GetProgress().GetTasksTotal() {
		t.Fatal("the job of one task ended after the job of many")
	}
	wait(t, first, engine.JobSucceeded)
	flood.check(t)
	small.check(t)
}

// TestBatchesAreCutAsTold counts the record batches of jobs with other bounds.
func TestBatchesAreCutAsTold(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2})
	for _, test := range []struct {
		batch *enginev1.Batch
		want  int64
	}{
		{&enginev1.Batch{Rows: 1}, 1000},
		{&enginev1.Batch{Rows: 7}, 143},
		{&enginev1.Batch{Rows: 1000}, 1},
		{nil, 1},
		// A row is two float64, and a text of 8 bytes with its offset of 4 for most rows: 28 bytes or less.
		{&enginev1.Batch{Rows: 1000, Bytes: "280"}, 100},
	} {
		tb := newTable(t, 1000, 1)
		tb.spec.Batch = test.batch
		result := wait(t, submit(t, c, tb.spec), engine.JobSucceeded)
		tb.check(t)
		if result.Batches != test.want && test.batch.GetBytes() == "" || test.batch.GetBytes() != "" && (result.Batches < test.want-10 || result.Batches > test.want) {
			t.Errorf("batch %v: %d record batches, want %d", test.batch, result.Batches, test.want)
		}
	}
}

// errSeen ends a Watch that has seen what it waited for.
var errSeen = fmt.Errorf("seen")
