package testcluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/fake"
)

// objectSink and objectSource are ends of a job in the object store.
func objectSink(sink *enginev1.ObjectSink) *enginev1.Sink {
	return &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: sink}}
}

func objectSource(refs ...string) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Object{Object: &enginev1.ObjectSource{Refs: refs}}}
}

// doubles declares the numbers of a table.
var doubles = []*enginev1.Column{{Name: "a", Type: "float64"}, {Name: "b", Type: "float64"}}

// intoObjects is the job that makes objects of a table, without the model.
func (tb table) intoObjects(sink *enginev1.ObjectSink) *enginev1.JobSpec {
	return &enginev1.JobSpec{Name: "into objects", Source: tb.spec.GetSource(), Batch: tb.spec.GetBatch(), Sink: objectSink(sink)}
}

// rowsOf joins the rows of records, as text that tells every bit of a value.
func rowsOf(t *testing.T, records []arrow.Record) []string {
	t.Helper()
	var rows []string
	for _, record := range records {
		for row := range int(record.NumRows()) {
			var b strings.Builder
			for i, column := range record.Columns() {
				b.WriteString(record.ColumnName(i) + "=" + column.ValueStr(row) + " ")
			}
			rows = append(rows, b.String())
		}
	}
	return rows
}

// Whether rows go from CSV to a model at once or through objects, the same Parquet comes of them.
func TestJobThroughObjects(t *testing.T) {
	tb := newTable(t, 2_000, 3)
	tb.spec.GetSource().GetCsv().Columns = doubles // Else the model's wish would decide, which the job without it does not know.
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8_000})
	wait(t, submit(t, c, tb.spec), engine.JobSucceeded)
	tb.check(t)
	want := rowsOf(t, readOutput(t, tb.out()))

	made := wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Name: "wine"})), engine.JobSucceeded)
	if len(made.Outputs) < 3 || made.RowsWritten != 2_000 {
		t.Fatalf("%+v", made)
	}
	var names []string
	for i, output := range made.Outputs {
		ref, err := engine.ParseObjectRef(output)
		if err != nil || ref.Cluster == "" {
			t.Fatalf("output %q: %v", output, err)
		}
		named, err := c.Client().Lookup(t.Context(), "wine/"+strconv.Itoa(i))
		if err != nil || named.ID != ref.ID {
			t.Errorf("output %d is %v, its pin leads to %v: %v", i, ref, named, err)
		}
		if i%2 == 0 {
			output = "wine/" + strconv.Itoa(i)
		}
		names = append(names, output)
	}
	again := tb.spec
	again.Source = objectSource(names...)
	again.GetSink().GetParquet().Path = filepath.Join(tb.dir, "again")
	result := wait(t, submit(t, c, again), engine.JobSucceeded)
	if result.BytesRead != made.BytesWritten {
		t.Errorf("%d bytes read of objects of %d", result.BytesRead, made.BytesWritten)
	}
	got := rowsOf(t, readOutput(t, filepath.Join(tb.dir, "again")))
	if len(got) != len(want) {
		t.Fatalf("%d rows, expected %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("row %d: %s, expected %s", i, got[i], want[i])
		}
	}

	// And they are read by a client as what they are.
	var rows int64
	for _, output := range made.Outputs {
		ref, err := engine.ParseObjectRef(output)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := c.Client().Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range opened.Records() {
			for i, a := range record.Column(0).(*array.Float64).Float64Values() {
				if a != float64(rows+int64(i)) {
					t.Fatalf("row %d is %v", rows+int64(i), a)
				}
			}
			rows += record.NumRows()
		}
		opened.Release()
	}
	if rows != 2_000 {
		t.Errorf("%d rows", rows)
	}
}

// An output whose job cannot make it again dies with its worker, unless it has a checkpoint.
func TestOutputOfAWorkerThatDies(t *testing.T) {
	tb := newTable(t, 500, 1)
	folder := filepath.Join(tb.dir, "kept")
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	made := wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{})), engine.JobSucceeded)
	kept := wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Checkpoint: folder, Ttl: "1h"})), engine.JobSucceeded)
	if len(made.Outputs) != 1 || len(kept.Outputs) != 1 {
		t.Fatalf("%v and %v", made.Outputs, kept.Outputs)
	}
	if err := os.Remove(filepath.Join(tb.dir, "in-000.csv")); err != nil {
		t.Fatal(err)
	}
	c.AddWorker()
	c.KillWorker(0)

	read := func(output string) (int64, error) {
		ref, err := engine.ParseObjectRef(output)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := c.Client().Get(withTimeout(t), ref)
		if err != nil {
			return 0, err
		}
		defer opened.Release()
		return opened.Rows(), nil
	}
	if _, err := read(made.Outputs[0]); engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "in-000.csv: 9853 bytes") || !strings.Contains(err.Error(), "removed") {
		t.Errorf("%v", err)
	}
	if rows, err := read(kept.Outputs[0]); err != nil || rows != 500 {
		t.Errorf("%d rows, %v", rows, err)
	}

	// A job over what is lost says so before it reads anything; one over what has a checkpoint runs.
	job := submit(t, c, &enginev1.JobSpec{Source: objectSource(made.Outputs[0]), Sink: objectSink(&enginev1.ObjectSink{})})
	if result := wait(t, job, engine.JobFailed); engine.KindOf(result.Err) != engine.KindConflict || !strings.Contains(result.Err.Error(), "lost") {
		t.Errorf("%v", result.Err)
	}
	if result := wait(t, submit(t, c, &enginev1.JobSpec{Source: objectSource(kept.Outputs[0]), Sink: objectSink(&enginev1.ObjectSink{})}), engine.JobSucceeded); result.RowsWritten != 500 {
		t.Errorf("%+v", result)
	}
}

// What a job keeps durably, anybody reads who knows Arrow.
func TestCheckpointOfAJobInPython(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	tb := newTable(t, 500, 1)
	folder := filepath.Join(tb.dir, "kept")
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Checkpoint: folder})), engine.JobSucceeded)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0].Name(), ".arrows") {
		t.Fatalf("%v, %v", files, err)
	}
	const script = `
import sys, pyarrow.ipc
table = pyarrow.ipc.open_stream(sys.argv[1]).read_all()
a = table["a"].to_pylist()
assert a == list(range(500)), a[:5]
assert table["b"].to_pylist() == [i / 4 for i in a]
assert table["note"].to_pylist() == ["row; %d" % i for i in a]
print("read", table.num_rows)
`
	out, err := exec.CommandContext(withTimeout(t), python, "-c", script, filepath.Join(folder, files[0].Name())).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "read 500" {
		t.Fatalf("%s, %v", out, err)
	}
}

// Workers that die while a job makes objects cost attempts, not rows.
func TestObjectsWhileWorkersDie(t *testing.T) {
	tb := newTable(t, 20_000, 4)
	folder := filepath.Join(tb.dir, "kept")
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 10_000})
	spec := tb.spec
	spec.Sink = objectSink(&enginev1.ObjectSink{Checkpoint: folder})
	job := submit(t, c, spec)
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
	next := int64(0)
	for _, output := range result.Outputs {
		ref, err := engine.ParseObjectRef(output)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := c.Client().Get(withTimeout(t), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range opened.Records() {
			a := record.Column(record.Schema().FieldIndices("a")[0]).(*array.Float64)
			prediction := record.Column(record.Schema().FieldIndices("prediction")[0]).(*array.Float64)
			for i := range int(record.NumRows()) {
				x := float64(next)
				if a.Value(i) != x || prediction.Value(i) != 2*x+3*x/4+1 {
					t.Fatalf("row %d: a %v, prediction %v", next, a.Value(i), prediction.Value(i))
				}
				next++
			}
		}
		opened.Release()
	}
	if next != 20_000 || result.RowsWritten != 20_000 {
		t.Errorf("%d rows, %+v", next, result)
	}
}

// An embedded cluster's objects end with it, so it keeps only what has a checkpoint; another one reads that.
func TestObjectsOfEmbeddedClusters(t *testing.T) {
	tb := newTable(t, 500, 1)
	tb.spec.GetSource().GetCsv().Columns = doubles
	folder := filepath.Join(tb.dir, "kept")
	// embedded runs act on a cluster of so many cores over a data folder.
	embedded := func(dir string, cpu float64, act func(*client.Client)) {
		t.Helper()
		cluster, err := node.StartEmbedded(withTimeout(t), node.EmbeddedConfig{
			DataDir: dir, Version: "test", Logger: testcluster.Logger(),
			Worker: node.WorkerConfig{Resources: engine.Resources{CPU: cpu}, Models: fake.New(), Version: "test", Logger: testcluster.Logger()},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := cluster.Stop(withTimeout(t)); err != nil {
				t.Error(err)
			}
		}()
		act(cluster.Client())
	}
	run := func(c *client.Client, spec *enginev1.JobSpec, want engine.JobState) *client.Job {
		t.Helper()
		job, err := c.Submit(withTimeout(t), spec)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, job, want)
		return job
	}
	embedded(t.TempDir(), 2, func(c *client.Client) {
		_, err := c.Submit(withTimeout(t), tb.intoObjects(&enginev1.ObjectSink{}))
		if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "set sink.object.checkpoint") {
			t.Errorf("%v", err)
		}
		run(c, tb.intoObjects(&enginev1.ObjectSink{Checkpoint: folder}), engine.JobSucceeded)
	})
	files, err := filepath.Glob(filepath.Join(folder, "*.arrows"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	// The job is planned by a cluster that is too small for it, and taken up by the next one, whose store is empty again.
	tb.spec.Source = objectSource(files[0])
	tb.spec.Resources = &enginev1.Resources{Cpu: proto.Float64(4)}
	dir := t.TempDir()
	var id engine.JobID
	embedded(dir, 2, func(c *client.Client) { id = run(c, tb.spec, engine.JobFailed).ID() })
	embedded(dir, 4, func(c *client.Client) {
		job := c.Job(string(id))
		if _, err := job.Resume(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
		wait(t, job, engine.JobSucceeded)
	})
	tb.check(t)
}

// The outputs of a job with a ttl go when it is over, and so do their pins.
func TestOutputsEnd(t *testing.T) {
	tb := newTable(t, 100, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	made := wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Name: "brief", Ttl: "500ms"})), engine.JobSucceeded)
	ref, err := engine.ParseObjectRef(made.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ctx := withTimeout(t); ; {
		_, err := c.Client().ObjectInfo(ctx, ref)
		if engine.KindOf(err) == engine.KindNotFound && err != nil {
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("the output is still there: %v", err)
		}
	}
	if named, err := c.Client().Lookup(withTimeout(t), "brief/0"); engine.KindOf(err) != engine.KindNotFound || err == nil {
		t.Errorf("the pin leads to %v, %v", named, err)
	}
	// So the name is free again.
	wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Name: "brief"})), engine.JobSucceeded)
}
