package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The input of the jobs that are killed: so many rows in files that are cut into some ten splits, and those of the job before.
const (
	killRows, killOldRows = 2400, 300
	killFiles             = 2
	// killBadRows is how many rows nobody can read stand between those of an input with such.
	killBadRows    = 48
	killOldBase    = 1_000_000
	killSplitBytes = 40_000
	killTimeout    = 90 * time.Second
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
	// partition is the column whose values make folders, so that tasks have several files; or empty.
	partition string
	// fileSize is the sink's file_size, so that tasks have several files in a row; or empty.
	fileSize string
	// s3 has the output in S3, table in a table of Postgres.
	s3, table bool
	// fitted has steps that are fitted to the data before.
	fitted bool
	// rejects has rows between the others that cannot be read, which become dead letters.
	rejects bool
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
	{name: "partitions", mode: "error", format: "parquet", partition: "quality"},
	{name: "file size", mode: "overwrite", format: "csv", old: true, fileSize: "2KiB"},
	{name: "s3, parquet, append", mode: "append", format: "parquet", old: true, s3: true},
	{name: "s3, csv, error", mode: "error", format: "csv", s3: true},
	{name: "s3, csv, overwrite", mode: "overwrite", format: "csv", old: true, s3: true},
	{name: "s3, adopted", mode: "error", format: "csv", s3: true, before: []failpoint.Point{failpoint.BucketPut}},
	{name: "fitted", mode: "error", format: "parquet", fitted: true},
	{name: "postgres, error", mode: "error", format: "postgres", table: true},
	{name: "postgres, append", mode: "append", format: "postgres", table: true, old: true},
	{name: "postgres, overwrite", mode: "overwrite", format: "postgres", table: true, old: true},
	{name: "postgres, adopted", mode: "append", format: "postgres", table: true, before: []failpoint.Point{failpoint.TableCommitted}},
	{name: "postgres, resumed", mode: "overwrite", format: "postgres", table: true, old: true, resume: true, before: []failpoint.Point{failpoint.TableCopied}},
	{name: "rejects", mode: "append", format: "parquet", old: true, rejects: true},
	{name: "postgres, rejects", mode: "append", format: "postgres", table: true, old: true, rejects: true},
	{name: "s3, partitions", mode: "error", format: "parquet", partition: "quality", s3: true},
	{name: "s3, file size", mode: "append", format: "parquet", old: true, fileSize: "4KiB", s3: true},
}

// scenario returns the one of a name.
func scenario(name string) killScenario {
	return killScenarios[slices.IndexFunc(killScenarios, func(s killScenario) bool { return s.name == name })]
}

// killer runs jobs that are killed, and compares what they write with what an undisturbed one does.
type killer struct {
	t       *testing.T
	where   scene
	dir     string
	watcher *watcher
	// reference is what undisturbed jobs have written of all rows, old those of the job before, by format.
	reference string
	old       map[string]string
	// fitted is what an undisturbed job with fitted steps has written.
	fitted string
	runs   int
	// server is an S3 server, and bucket one of its buckets.
	server *s3test.Server
	bucket string
	tables tables
}

func newKiller(t *testing.T, where scene) *killer {
	t.Helper()
	k := &killer{t: t, where: where, dir: t.TempDir(), watcher: startWatcher(t), old: map[string]string{}, server: s3test.Start(t)}
	k.bucket = k.server.Bucket(t)
	for f := range killFiles {
		k.write(fmt.Sprintf("new/%d.csv", f), f*killRows/killFiles, (f+1)*killRows/killFiles, 0)
		k.write(fmt.Sprintf("bad/%d.csv", f), f*killRows/killFiles, (f+1)*killRows/killFiles, killRows/killBadRows)
	}
	k.write("old/0.csv", killOldBase, killOldBase+killOldRows, 0)
	v := startVictims(t, k.where, killSplitBytes)
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
	k.reference, k.fitted = k.path("reference"), k.path("fitted")
	fitted := killScenario{mode: "error", format: "parquet", fitted: true}
	if result := k.await(v, k.submit(v, k.spec(fitted, k.fitted, "new/*.csv"), "")); result.Err != nil {
		t.Fatalf("the undisturbed job with fitted steps failed: %v", result.Err)
	}
	k.startTables(v)
	return k
}

func (k *killer) path(name string) string { return filepath.Join(k.dir, filepath.FromSlash(name)) }

// write writes the rows from, and before to, with texts that a splitter of lines falls over, and one that cannot be read before every
// bad rows unless that is 0.
func (k *killer) write(name string, from, to, bad int) {
	k.t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(from))) //nolint:gosec // A test's randomness.
	texts := []string{"line\nend", "a;b", "crlf\r\nend", `""quoted""`, "größe", "1;2;3\n4;5;6\n", "plain", `;"";` + "\n", "世界"}
	b := append([]byte("id;note;"), wine.AppendHeader(nil)...)
	for i := from; i < to; i++ {
		if bad > 0 && i%bad == 0 {
			b = fmt.Appendf(b, "bad;%d\n", i)
		}
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
	further := ""
	if s.partition != "" {
		further = fmt.Sprintf(", partition_by: [%s]", s.partition)
	}
	if s.fileSize != "" {
		further += ", file_size: " + s.fileSize
	}
	place := fmt.Sprintf("path: %q", target)
	if s.table {
		place = k.tables.place(target)
	}
	fit := ""
	if s.fitted {
		fit = `
  - with: {columns: {level: alcohol, grade: quality}}
  - scale: {columns: [{name: level}, {name: pH, method: min_max}]}
  - index: {columns: [{name: grade, order: frequency}]}`
	}
	bad := ""
	if s.rejects {
		bad = fmt.Sprintf("\non_bad_row: {action: dead_letter, path: %q}", k.rejected(target))
	}
	return fmt.Sprintf(`name: killed%s
source:
  csv: {paths: ["%s"], delimiter: ";"}
batch: {rows: 100}
steps:
  - infer: {model: %s, output: prediction}%s
sink:
  %s: {%s, mode: %s%s}
`, bad, strings.Join(inputs, `", "`), filepath.Join(testenv.Root(k.t), "examples", "wine", "model"), fit, s.format, place, s.mode, further)
}

// rejected is the folder of the dead letters of the job with an output.
func (k *killer) rejected(target string) string {
	return k.path("rejected/of-" + strings.ReplaceAll(strings.TrimPrefix(target, k.dir+"/"), "/", "-"))
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

// resume stops a job, and resumes it. One of which a worker is killed in any case is stopped when it runs: it cannot end before.
func (k *killer) resume(s killScenario, j *client.Job) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	for runs := len(s.before) == 0; !runs; {
		begun := errors.New("the job has begun")
		err := j.Watch(ctx, func(job *enginev1.Job) error {
			if job.GetStartTime() == nil {
				return nil
			}
			return begun
		})
		if runs = err == nil || errors.Is(err, begun); !runs {
			k.mayRepeat(ctx, err)
		}
	}
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
	env := []string{}
	watch := map[string]any{"path": target}
	reference := k.reference
	switch {
	case s.s3:
		target, env = k.onS3(id, watch)
	case s.table:
		target = k.tables.name(id)
	case s.fitted:
		reference = k.fitted
	}
	old := 0
	if s.old {
		old = killOldRows
		k.copyOld(s, target)
	}
	marks, trace := k.path(id+"/marks"), k.path(id+"/trace")
	if err := os.MkdirAll(marks, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.before {
		orders = strings.TrimPrefix(orders+","+string(p), ",")
	}
	v := startVictims(t, k.where, killSplitBytes, append(env, failpoint.Variable+"="+orders, failpoint.OnceVariable+"="+marks, failpoint.TraceVariable+"="+trace)...)
	defer v.stop()
	maps.Copy(watch, map[string]any{
		"command": "watch", "format": s.format, "mode": s.mode, "old": old, "new": killRows, "reference": reference, "partition": s.partition,
	})
	var reader interface{ stop() seen } = k.watcher
	if s.table {
		reader = k.watchTable(s, target)
	} else {
		k.watcher.order(watch)
	}
	inputs, rejects := "new/*.csv", 0
	if s.rejects {
		inputs, rejects = "bad/*.csv", killBadRows
	}
	spec := k.spec(s, target, inputs)
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
		k.resume(s, j)
	}
	result := k.await(v, j)
	close(ended)
	<-disturbed
	if result.State != engine.JobSucceeded || result.RowsRead != int64(killRows+rejects) || result.RowsWritten != killRows || result.RowsRejected != int64(rejects) {
		t.Errorf("%s: the job ended so: %+v\n%s", orders, result, v.said())
	}
	if again := k.submit(v, spec, id); again.ID() != j.ID() || !again.Attached() {
		t.Errorf("%s: submitted again it is job %s, not %s", orders, again.ID(), j.ID())
	}
	answer := reader.stop()
	want := killRows
	if s.mode == "append" {
		want += old
	}
	if answer.Error != nil {
		t.Errorf("%s: a reader saw, %s", orders, *answer.Error)
	} else if answer.Seen != want || answer.Reads == 0 {
		t.Errorf("%s: in the end %d rows, want %d (%d readings)", orders, answer.Seen, want, answer.Reads)
	}
	if s.table {
		k.tableLeftovers(s, target)
	} else {
		k.leftovers(s, target, v)
	}
	if s.rejects {
		k.wantRejects(k.rejected(target))
	}
	return passed(t, trace)
}

// wantRejects looks whether a folder has each row that cannot be read, once, and nothing else.
func (k *killer) wantRejects(folderOf string) {
	k.t.Helper()
	success, err := folder.ReadSuccess(folderOf)
	if err != nil || success.Rows != killBadRows {
		k.t.Errorf("%s of the rejected rows: %+v, %v", folder.SuccessName, success, err)
	}
	entries, err := os.ReadDir(folderOf)
	if err != nil {
		k.t.Fatal(err)
	}
	found := map[string]int{}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == folder.SuccessName || entry.IsDir() && name == folder.NotesName:
		case !strings.HasPrefix(name, "part-") || strings.HasSuffix(name, ".tmp"):
			k.t.Errorf("%s stays behind among the rejected rows", name)
		default:
			text, err := os.ReadFile(filepath.Join(folderOf, name))
			if err != nil {
				k.t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				var row struct{ Raw string }
				if err := json.Unmarshal([]byte(line), &row); err != nil {
					k.t.Errorf("%s: %v", name, err)
				}
				found[row.Raw]++
			}
		}
	}
	for i := 0; i < killRows; i += killRows / killBadRows {
		if n := found[fmt.Sprint("bad;", i)]; n != 1 {
			k.t.Errorf("the rejected row %d is there %d times", i, n)
		}
	}
	if len(found) != killBadRows {
		k.t.Errorf("%d different rejected rows, want %d", len(found), killBadRows)
	}
}

// leftovers looks for what crashes have left behind.
func (k *killer) leftovers(s killScenario, target string, v *victims) {
	k.t.Helper()
	files := target
	if s.s3 {
		files = k.server.Path(k.bucket, strings.TrimPrefix(target, "s3://"+k.bucket+"/"))
		if uploads := k.server.Uploads(k.t, k.bucket); len(uploads) > 0 {
			k.t.Errorf("unfinished uploads stay behind: %q", uploads)
		}
	} else if names, err := filepath.Glob(filepath.Join(filepath.Dir(target), "*out*")); err != nil || len(names) != 1 {
		k.t.Errorf("beside the output there is %q, %v", names, err)
	}
	err := filepath.WalkDir(files, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, notes := entry.Name(), strings.Contains(path, string(filepath.Separator)+folder.NotesName+string(filepath.Separator))
		if !strings.HasPrefix(name, "part-") && name != folder.SuccessName && !notes || strings.HasSuffix(name, ".tmp") {
			k.t.Errorf("%s stays behind\n%s", path, v.said())
		}
		return nil
	})
	if err != nil {
		k.t.Error(err)
	}
	if success, err := folder.ReadSuccess(files); err != nil || success.Rows != killRows {
		k.t.Errorf("%s: %+v, %v", folder.SuccessName, success, err)
	}
}

// onS3 returns a place in S3, and what lets processes in there. It tells the reader, too.
func (k *killer) onS3(id string, watch map[string]any) (target string, env []string) {
	k.t.Helper()
	options := k.server.Options()
	key, secret := options.Credentials.AccessKeyID, options.Credentials.SecretAccessKey
	watch["path"] = k.bucket + "/" + id + "/out"
	watch["s3"] = map[string]any{
		"access_key": key, "secret_key": secret, "region": s3test.Region, "scheme": "http", "endpoint_override": strings.TrimPrefix(options.Endpoint, "http://"),
	}
	return "s3://" + k.bucket + "/" + id + "/out", []string{
		"AWS_ENDPOINT_URL=http://" + k.where.reach(k.t, strings.TrimPrefix(options.Endpoint, "http://")), "AWS_REGION=" + s3test.Region, "AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// copyOld puts the output of the job before into a place.
func (k *killer) copyOld(s killScenario, target string) {
	k.t.Helper()
	if s.table {
		k.tables.copyOld(k.t, target)
		return
	}
	if !s.s3 {
		if err := os.CopyFS(target, os.DirFS(k.old[s.format])); err != nil {
			k.t.Fatal(err)
		}
		return
	}
	b, err := s3.Open(k.t.Context(), target, k.server.Options())
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	entries, err := os.ReadDir(k.old[s.format])
	if err != nil {
		k.t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(k.old[s.format], entry.Name()))
		if err == nil {
			_, err = b.Put(k.t.Context(), entry.Name(), bytes.NewReader(content), int64(len(content)), blob.PutOptions{})
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
}
