package testcluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
)

// nightly is a job over the files of a folder, each of ten rows.
type nightly struct {
	dir    string
	spec   *enginev1.JobSpec
	models *fake.Loader
}

func newNightly(t *testing.T, mode string, inputs ...string) nightly {
	t.Helper()
	dir := t.TempDir()
	n := nightly{dir: dir, models: fake.New(), spec: convert(csvSource(filepath.Join(dir, "in")),
		&enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: filepath.Join(dir, "out"), Mode: mode}}})}
	model := filepath.Join(dir, "model.onnx")
	for path, content := range map[string][]byte{model: enginetest.LinearModel(engine.Float64, 1, 2), filepath.Join(dir, "in", ".keep"): nil} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	n.spec.Steps = []*enginev1.Step{{Kind: &enginev1.Step_Infer{Infer: &enginev1.InferStep{Model: model, Inputs: []string{"row"}, Output: "y"}}}}
	n.add(t, inputs...)
	return n
}

// start starts a cluster that runs one task after the other.
func (n nightly) start(t *testing.T) *testcluster.Cluster {
	t.Helper()
	return testcluster.Start(t, testcluster.Options{Workers: 1, CPU: 1, Models: func() runtime.Loader { return n.models }})
}

// failAfter lets the model fail for good once it has seen so many inputs.
func (n nightly) failAfter(inputs int) {
	n.models.SetFaults(fake.Faults{Run: engine.Errorf(engine.KindData, "test", "", "as told"), SparedRuns: inputs})
}

func (n nightly) heal() { n.models.SetFaults(fake.Faults{}) }

func (n nightly) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(n.in(name)); err != nil {
		t.Fatal(err)
	}
}

// in is the path of an input.
func (n nightly) in(name string) string { return filepath.Join(n.dir, "in", name+".csv") }

// add writes inputs whose ten rows have their name.
func (n nightly) add(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		text := "file,row\n"
		for row := range 10 {
			text += fmt.Sprintf("%s,%d\n", name, row)
		}
		if err := os.WriteFile(n.in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// rows counts the rows of each input that a reader of the output folder sees.
func (n nightly) rows(t *testing.T) map[string]int {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(n.dir, "out", "part-*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, part := range parts {
		content, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n")[1:] {
			name, _, _ := strings.Cut(line, ",")
			seen[name]++
		}
	}
	return seen
}

// wantRows wants ten rows of each input named, and of no other.
func (n nightly) wantRows(t *testing.T, names ...string) {
	t.Helper()
	seen := n.rows(t)
	for _, name := range names {
		if seen[name] != 10 {
			t.Errorf("%d rows of %s, want 10", seen[name], name)
		}
		delete(seen, name)
	}
	if len(seen) > 0 {
		t.Errorf("rows of others: %v", seen)
	}
}

func wantRefused(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("error %v, want a conflict", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
}

func logOf(t *testing.T, job *client.Job) string {
	t.Helper()
	var lines []string
	if err := job.Logs(withTimeout(t), client.LogOptions{}, func(line *enginev1.LogLine) error {
		lines = append(lines, fmt.Sprint(line.GetMessage(), line.GetAttributes()))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestResumeComparesTheWholeListing breaks a job off after two of four inputs, and changes the folder below it.
func TestResumeComparesTheWholeListing(t *testing.T) {
	n := newNightly(t, "error", "a", "b", "c", "d")
	c := n.start(t)
	n.failAfter(2)
	job := submit(t, c, n.spec, client.WithSubmissionID("nightly"))
	wait(t, job, engine.JobFailed)
	n.wantRows(t, "a", "b")
	refused := func(texts ...string) {
		t.Helper()
		_, err := job.Resume(withTimeout(t))
		wantRefused(t, err, append(texts, "has changed since it was planned:\n  ")...)
		_, err = c.Client().Submit(withTimeout(t), n.spec, client.WithSubmissionID("nightly"))
		wantRefused(t, err, append(texts, "belongs to job "+string(job.ID())+", and what that worked on has changed since:\n  ")...)
	}
	n.add(t, "e")
	refused("added    " + n.in("e") + ": ")
	n.remove(t, "e")
	c0, err := os.Stat(n.in("c"))
	if err != nil {
		t.Fatal(err)
	}
	n.remove(t, "c")
	refused("removed  " + n.in("c") + ": ")
	n.add(t, "c")
	refused("changed  "+n.in("c")+": modified ", " -> ")
	model, err := os.ReadFile(filepath.Join(n.dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "model.onnx"), enginetest.LinearModel(engine.Float64, 1, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("changed  model of steps[0], "+filepath.Join(n.dir, "model.onnx")+": sha256:", " -> sha256:")
	if err := os.WriteFile(filepath.Join(n.dir, "model.onnx"), model, 0o600); err != nil {
		t.Fatal(err)
	}
	status, err := job.Status(withTimeout(t))
	if err != nil || status.GetResumptions() != 0 {
		t.Fatalf("%v, %v: a refused resumption counts", status, err)
	}
	// Put back as it was, with what is not needed any more gone.
	if err := os.Chtimes(n.in("c"), time.Time{}, c0.ModTime()); err != nil {
		t.Fatal(err)
	}
	n.remove(t, "a")
	n.heal()
	if _, err := job.Resume(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	result := wait(t, job, engine.JobSucceeded)
	n.wantRows(t, "a", "b", "c", "d")
	if text := logOf(t, job); result.RowsWritten != 40 || !strings.Contains(text, "inputs are gone of which every row is committedmap[inputs:1]") {
		t.Errorf("%+v, log:\n%s", result, text)
	}
	// Attaching to what succeeded is as good as its inputs are: what is gone was needed once, what is new never was read.
	again := submit(t, c, n.spec, client.WithSubmissionID("nightly"))
	if !again.Attached() || again.ID() != job.ID() {
		t.Errorf("got job %s", again.ID())
	}
	n.add(t, "e")
	_, err = c.Client().Submit(withTimeout(t), n.spec, client.WithSubmissionID("nightly"))
	wantRefused(t, err, "added    "+n.in("e"))
	// Another spec is shown field by field.
	n.spec.Batch.Rows = 7
	n.spec.GetSink().GetCsv().Files = 1
	_, err = c.Client().Submit(withTimeout(t), n.spec, client.WithSubmissionID("nightly"))
	wantRefused(t, err, "which has another spec:\n  batch.rows: 70 -> 7\n  sink.csv.files: unset -> 1")
}

// TestOnlyNew lets files come night after night.
func TestOnlyNew(t *testing.T) {
	n := newNightly(t, "append", "a", "b")
	c := n.start(t)
	night := func(inputs, known int64, want ...string) client.Result {
		t.Helper()
		result := wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobSucceeded)
		if result.InputsRead != inputs || result.InputsKnown != known || !result.OnlyNew || result.RowsWritten != 10*inputs {
			t.Errorf("%+v, want %d inputs read and %d known", result, inputs, known)
		}
		n.wantRows(t, want...)
		return result
	}
	night(2, 0, "a", "b")
	before, err := folder.ReadSuccess(n.spec.GetSink().GetCsv().GetPath())
	if err != nil {
		t.Fatal(err)
	}
	idle := night(0, 2, "a", "b")
	if after, err := folder.ReadSuccess(n.spec.GetSink().GetCsv().GetPath()); err != nil || after.Job != before.Job || len(idle.Outputs) != 0 {
		t.Errorf("a night without work left a _SUCCESS of %s, %v, and outputs %v", after.Job, err, idle.Outputs)
	}
	if text := logOf(t, c.Client().Job(string(idle.JobID))); !strings.Contains(text, "nothing is new: earlier jobs have read all inputsmap[inputs:2]") {
		t.Errorf("log:\n%s", text)
	}
	n.add(t, "c")
	night(1, 2, "a", "b", "c")
	// A head that knows nothing of those jobs knows it all the same.
	other := n.start(t)
	n.add(t, "d")
	c = other
	night(1, 3, "a", "b", "c", "d")
	// Inputs that were read may go, and the folder may be empty.
	for _, name := range []string{"a", "b", "c", "d"} {
		n.remove(t, name)
	}
	night(0, 0, "a", "b", "c", "d")
	n.spec.GetSource().GetCsv().Paths = []string{filepath.Join(n.dir, "in", "*.csv")}
	night(0, 0, "a", "b", "c", "d")
	n.spec.GetSource().GetCsv().Paths = []string{filepath.Join(n.dir, "inn")}
	if result := wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobFailed); result.Err.Kind != engine.KindNotFound {
		t.Errorf("a folder that does not exist: %v", result.Err)
	}
	n.spec.GetSource().GetCsv().Paths = []string{filepath.Join(n.dir, "in")}
	n.add(t, "b")
	result := wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobFailed)
	wantRefused(t, result.Err, "inputs have changed since an earlier job has read them:\n  changed  "+n.in("b")+": modified ")
	n.remove(t, "b")
	n.add(t, "e")
	night(1, 0, "a", "b", "c", "d", "e")
	for _, mode := range []string{"", "error", "overwrite"} {
		n.spec.GetSink().GetCsv().Mode = mode
		if _, err := c.Client().Submit(withTimeout(t), n.spec, client.WithOnlyNew()); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "sink.csv.mode must be append") {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
}

// TestOnlyNewAfterOtherModes begins with a folder that jobs wrote in other modes.
func TestOnlyNewAfterOtherModes(t *testing.T) {
	for _, mode := range []string{"error", "overwrite", "append"} {
		t.Run(mode, func(t *testing.T) {
			n := newNightly(t, mode, "a", "b")
			c := n.start(t)
			wait(t, submit(t, c, n.spec), engine.JobSucceeded)
			n.add(t, "c")
			n.spec.GetSink().GetCsv().Mode = "append"
			if result := wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobSucceeded); result.InputsRead != 1 || result.InputsKnown != 2 {
				t.Errorf("%+v", result)
			}
			n.wantRows(t, "a", "b", "c")
		})
	}
}

// TestOnlyNewAndAJobThatFailed breaks a night off: what the next does depends on what is there to be seen.
func TestOnlyNewAndAJobThatFailed(t *testing.T) {
	for _, end := range []string{"unseen", "resume", "forget"} {
		t.Run(end, func(t *testing.T) {
			n := newNightly(t, "append", "a", "b")
			c, other := n.start(t), n.start(t)
			wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobSucceeded)
			n.add(t, "c", "d")
			if n.failAfter(1); end == "unseen" {
				n.failAfter(0)
			}
			failed := submit(t, c, n.spec, client.WithOnlyNew())
			wait(t, failed, engine.JobFailed)
			n.heal()
			next, refusal := other.Client().Submit(withTimeout(t), n.spec, client.WithOnlyNew())
			if end == "unseen" {
				if refusal != nil {
					t.Fatal(refusal)
				}
				wait(t, next, engine.JobSucceeded)
				n.wantRows(t, "a", "b", "c", "d")
				// The job that failed has nothing left to do, and is not to do it twice.
				_, err := failed.Resume(withTimeout(t))
				wantRefused(t, err, "another job has read inputs of this one since it was planned:\n  "+n.in("c")+"\n  "+n.in("d"))
				n.wantRows(t, "a", "b", "c", "d")
				return
			}
			id := string(failed.ID())
			wantRefused(t, refusal, "holds rows of job "+id+", which has not finished", "engine job resume "+id, "engine job forget "+id+" --discard")
			if end == "resume" {
				// Inputs that come meanwhile are left to the next one.
				n.add(t, "e")
				if _, err := failed.Resume(withTimeout(t)); err != nil {
					t.Fatal(err)
				}
				wait(t, failed, engine.JobSucceeded)
				n.wantRows(t, "a", "b", "c", "d")
				wait(t, submit(t, other, n.spec, client.WithOnlyNew()), engine.JobSucceeded)
				n.wantRows(t, "a", "b", "c", "d", "e")
				return
			}
			if _, err := failed.Forget(withTimeout(t), true); err != nil {
				t.Fatal(err)
			}
			n.wantRows(t, "a", "b")
			wait(t, submit(t, other, n.spec, client.WithOnlyNew()), engine.JobSucceeded)
			n.wantRows(t, "a", "b", "c", "d")
		})
	}
}

// heldBy holds all calls of models until the gate is closed.
func heldBy(gate <-chan struct{}) fake.Faults { return fake.Faults{Gate: gate} }

func newHeld(gate <-chan struct{}) *fake.Loader {
	models := fake.New()
	models.SetFaults(heldBy(gate))
	return models
}
