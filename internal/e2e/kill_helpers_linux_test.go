package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The input of the jobs that are killed: so many rows in files that are cut into some ten splits, and those of the job before.
const (
	killRows, killOldRows = 2400, 300
	killFiles             = 2
	killOldBase           = 1_000_000
	killSplitBytes        = 40_000
	killTimeout           = 90 * time.Second
)

// killScenario is a job that is killed.
type killScenario struct {
	name string
	// mode and format are the sink's.
	mode, format string
	// old says that another job's output is there before.
	old bool
	// before are the places at which a process is killed in any case, so that others are come to.
	before []failpoint.Point
	// resume has the job stopped when it has begun, and resumed.
	resume bool
	// s3 has the output in S3.
	s3 bool
}

var killScenarios = []killScenario{
	{name: "parquet, error", mode: "error", format: "parquet"},
	{name: "parquet, append", mode: "append", format: "parquet", old: true},
	{name: "csv, append", mode: "append", format: "csv", old: true},
	{name: "csv, overwrite", mode: "overwrite", format: "csv", old: true},
	{name: "parquet, overwrite nothing", mode: "overwrite", format: "parquet"},
	{name: "adopted", mode: "error", format: "csv", before: []failpoint.Point{failpoint.FolderLinked}},
	{name: "taken up", mode: "append", format: "parquet", old: true, before: []failpoint.Point{failpoint.HeadCommitted, failpoint.HeadCompleting}},
	{name: "resumed", mode: "overwrite", format: "parquet", old: true, resume: true},
}

// killer runs jobs that are killed, and compares what they write with what an undisturbed one does.
type killer struct {
	t       *testing.T
	dir     string
	watcher *watcher
	// reference is what undisturbed jobs have written of all rows, old those of the job before, by format.
	reference string
	old       map[string]string
	runs      int
}

func newKiller(t *testing.T) *killer {
	t.Helper()
	k := &killer{t: t, dir: t.TempDir(), watcher: startWatcher(t), old: map[string]string{}}
	for f := range killFiles {
		k.write(fmt.Sprintf("new/%d.csv", f), f*killRows/killFiles, (f+1)*killRows/killFiles)
	}
	k.write("old/0.csv", killOldBase, killOldBase+killOldRows)
	v := startVictims(t, killSplitBytes)
	defer v.stop()
	job := func(format, target string, inputs ...string) {
		s := killScenario{mode: "error", format: format}
		j := k.submit(v, k.spec(s, target, inputs...), "")
		if result := k.await(v, j); result.Err != nil {
			t.Fatalf("the undisturbed job failed: %v", result.Err)
		}
	}
	job("parquet", k.path("reference"), "new/*.csv", "old/*.csv")
	for _, format := range []string{"parquet", "csv"} {
		k.old[format] = k.path("old-" + format)
		job(format, k.old[format], "old/*.csv")
	}
	rows := readRows(t, k.path("reference"))
	if ids := slices.Compact(rows); len(ids) != killRows+killOldRows {
		t.Fatalf("the undisturbed job wrote %d rows, of them %d different ones, want %d", len(rows), len(ids), killRows+killOldRows)
	}
	k.reference = k.path("reference")
	return k
}

func (k *killer) path(name string) string { return filepath.Join(k.dir, filepath.FromSlash(name)) }

// write writes the rows from, and before to, with texts that a splitter of lines falls over.
func (k *killer) write(name string, from, to int) {
	k.t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(from))) //nolint:gosec // A test's randomness.
	texts := []string{"line\nend", "a;b", "crlf\r\nend", `""quoted""`, "größe", "1;2;3\n4;5;6\n", "plain", `;"";` + "\n", "世界"}
	b := append([]byte("id;note;"), wine.AppendHeader(nil)...)
	for i := from; i < to; i++ {
		b = fmt.Appendf(b, `%d;"%d `, i, i)
		for range random.IntN(8) {
			b = append(b, texts[random.IntN(len(texts))]...)
		}
		b = append(b, `";`...)
		row := wine.At(1, uint64(i)) //nolint:gosec // Not negative.
		b = row.AppendCSV(b)
	}
	path := k.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// spec is a job of a scenario.
func (k *killer) spec(s killScenario, target string, inputs ...string) string {
	return fmt.Sprintf(`name: killed
source:
  csv: {paths: ["%s"], delimiter: ";"}
batch: {rows: 100}
steps:
  - infer: {model: %s, output: prediction}
sink:
  %s: {path: "%s", mode: %s}
`, strings.Join(inputs, `", "`), filepath.Join(testenv.Root(k.t), "examples", "wine", "model"), s.format, target, s.mode)
}

// submit submits a job file until a head says that it has it, as who submits under an id may.
func (k *killer) submit(v *victims, text, submission string) *client.Job {
	k.t.Helper()
	spec, err := jobfile.Parse("killed.yaml", []byte(text), k.dir, jobfile.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for {
		j, err := v.client.Submit(ctx, spec, client.WithSubmissionID(submission))
		if err == nil {
			return j
		}
		if k.mayRepeat(ctx, err); ctx.Err() != nil {
			k.t.Fatalf("submit: %v\n%s", err, v.said())
		}
	}
}

// mayRepeat fails the test if an error is not that of a head that is gone.
func (k *killer) mayRepeat(ctx context.Context, err error) {
	k.t.Helper()
	if kind := engine.KindOf(err); kind != engine.KindUnavailable && kind != engine.KindDeadline {
		k.t.Fatalf("a head that was killed said: %v", err)
	}
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

// await waits until a job has ended.
func (k *killer) await(v *victims, j *client.Job) client.Result {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for {
		result, err := j.Wait(ctx)
		if err == nil {
			return result
		}
		if ctx.Err() != nil {
			status, statusErr := j.Status(context.Background())
			k.t.Fatalf("the job does not end: %v\n%v, %v\n%s", err, status, statusErr, v.said())
		}
		k.mayRepeat(ctx, err)
	}
}

// resume stops a job that has begun, and resumes it.
func (k *killer) resume(j *client.Job) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for {
		ended, err := j.Stop(ctx)
		if err == nil && ended.GetEndTime() != nil {
			if ended.GetState() == enginev1.JobState_JOB_STATE_SUCCEEDED {
				return // It was faster.
			}
			break
		}
		k.mayRepeat(ctx, err)
	}
	for {
		_, err := j.Resume(ctx)
		if err == nil {
			return
		}
		k.mayRepeat(ctx, err)
	}
}

// run runs a scenario's job under orders for the failpoints, and whatever disturb does until the job has ended. It returns which places
// were passed.
func (k *killer) run(s killScenario, orders string, disturb func(v *victims, j *client.Job, ended <-chan struct{})) map[failpoint.Point]int {
	t := k.t
	t.Helper()
	k.runs++
	id := fmt.Sprintf("run-%d", k.runs)
	target := k.path(id + "/out")
	old := 0
	if s.old {
		old = killOldRows
		if err := os.CopyFS(target, os.DirFS(k.old[s.format])); err != nil {
			t.Fatal(err)
		}
	}
	marks, trace := k.path(id+"/marks"), k.path(id+"/trace")
	if err := os.MkdirAll(marks, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.before {
		orders = strings.TrimPrefix(orders+","+string(p), ",")
	}
	v := startVictims(t, killSplitBytes, failpoint.Variable+"="+orders, failpoint.OnceVariable+"="+marks, failpoint.TraceVariable+"="+trace)
	defer v.stop()
	k.watcher.order(map[string]any{
		"command": "watch", "path": target, "format": s.format, "mode": s.mode, "old": old, "new": killRows,
		"reference": k.reference,
	})
	spec := k.spec(s, target, "new/*.csv")
	j := k.submit(v, spec, id)
	ended := make(chan struct{})
	disturbed := make(chan struct{})
	go func() { // lifecycle: the end of this function waits for it.
		defer close(disturbed)
		if disturb != nil {
			disturb(v, j, ended)
		}
	}()
	if s.resume {
		k.resume(j)
	}
	result := k.await(v, j)
	close(ended)
	<-disturbed
	if result.State != engine.JobSucceeded || result.RowsRead != killRows || result.RowsWritten != killRows {
		t.Errorf("%s: the job ended so: %+v\n%s", orders, result, v.said())
	}
	if again := k.submit(v, spec, id); again.ID() != j.ID() || !again.Attached() {
		t.Errorf("%s: submitted again it is job %s, not %s", orders, again.ID(), j.ID())
	}
	answer := k.watcher.order(map[string]any{"command": "stop"})
	want := killRows
	if s.mode == "append" {
		want += old
	}
	if answer.Error != nil {
		t.Errorf("%s: a reader saw, %s", orders, *answer.Error)
	} else if answer.Seen != want || answer.Reads == 0 {
		t.Errorf("%s: in the end %d rows, want %d (%d readings)", orders, answer.Seen, want, answer.Reads)
	}
	k.leftovers(s, target, v)
	return passed(t, trace)
}

// leftovers looks for what crashes have left behind.
func (k *killer) leftovers(s killScenario, target string, v *victims) {
	k.t.Helper()
	names, err := filepath.Glob(filepath.Join(filepath.Dir(target), "*out*"))
	if err != nil || len(names) != 1 {
		k.t.Errorf("beside the output there is %q, %v", names, err)
	}
	for _, dir := range []string{target, filepath.Join(target, folder.NotesName)} {
		entries, err := os.ReadDir(dir)
		if err != nil && (dir == target || s.format == "csv") {
			k.t.Error(err)
		}
		for _, entry := range entries {
			if name := entry.Name(); !strings.HasPrefix(name, "part-") && name != folder.SuccessName && name != folder.NotesName {
				k.t.Errorf("%s stays behind\n%s", filepath.Join(dir, name), v.said())
			}
		}
	}
	if success, err := folder.ReadSuccess(target); err != nil || success.Rows != killRows {
		k.t.Errorf("%s: %+v, %v", folder.SuccessName, success, err)
	}
}
