package folder_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
)

const (
	job   engine.JobID = "20261123-142330-7f3k2m9q"
	other engine.JobID = "20251123-142330-aaaaaaaa"
)

func newOutput(t *testing.T, path string, mode folder.Mode, job engine.JobID) folder.Output {
	t.Helper()
	o, err := folder.New(path, mode, job)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// publish writes a part with the content given.
func publish(t *testing.T, o folder.Output, sequence int, attempt, content string) (folder.Part, bool) {
	t.Helper()
	name := folder.PartName(o.Job, sequence, ".parquet")
	s, err := o.Create(name, attempt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if n := s.SizeBytes(); n != int64(len(content)) {
		t.Errorf("SizeBytes %d, want %d", n, len(content))
	}
	won, err := s.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return folder.Part{Name: name, Rows: 10, SizeBytes: int64(len(content))}, won
}

// run writes a whole output.
func run(t *testing.T, o folder.Output, contents ...string) {
	t.Helper()
	must(t, o.Check(t.Context()))
	must(t, o.Prepare(t.Context()))
	var parts []folder.Part
	for i, content := range contents {
		part, won := publish(t, o, i, "1", content)
		if !won {
			t.Fatal("lost")
		}
		parts = append(parts, part)
	}
	must(t, o.Complete(t.Context(), folder.Success{Parts: parts, Digests: folder.Digests{Job: "sha256:1"}}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names lists a folder; one that does not exist is nil.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// wantNames compares what a folder holds. The claim of a job that has not ended is not counted.
func wantNames(t *testing.T, path string, want ...string) {
	t.Helper()
	got := names(t, path)
	if !slices.Contains(want, folder.SuccessName) {
		got = slices.DeleteFunc(got, func(name string) bool {
			return name == "claim.json" || name == folder.NotesName && slices.Equal(names(t, filepath.Join(path, name)), []string{"claim.json"})
		})
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %v, want %v", filepath.Base(path), got, want)
	}
}

func wantError(t *testing.T, err error, kind engine.Kind, texts ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("got %v of kind %v, want kind %v", err, engine.KindOf(err), kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
}

func TestNewAndNames(t *testing.T) {
	home, err := os.UserHomeDir()
	must(t, err)
	for _, c := range []struct {
		path string
		mode folder.Mode
		job  engine.JobID
	}{
		{"relative", folder.ModeError, job}, {"/", folder.ModeError, job}, {"/", folder.ModeOverwrite, job}, {home, folder.ModeOverwrite, job},
		{filepath.Dir(home), folder.ModeOverwrite, job}, {"/x", "replace", job}, {"/x", "", job}, {"/x", folder.ModeError, ""}, {"/x", folder.ModeError, "a/b"},
	} {
		_, err := folder.New(c.path, c.mode, c.job)
		wantError(t, err, engine.KindInvalidArgument)
	}
	o := newOutput(t, "/p/wine/", folder.ModeOverwrite, job)
	if o.Folder != "/p/wine" || o.WorkFolder != "/p/.wine.engine-"+string(job) {
		t.Errorf("%+v", o)
	}
	if got, want := folder.PartName(job, 4, ".parquet"), "part-"+string(job)+"-000004.parquet"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for name, want := range map[string]folder.Mode{"": folder.ModeError, "error": folder.ModeError, "overwrite": folder.ModeOverwrite, "append": folder.ModeAppend} {
		if got, err := folder.ParseMode(name); err != nil || got != want {
			t.Errorf("ParseMode(%q): %q, %v", name, got, err)
		}
	}
	_, err = folder.ParseMode("replace")
	wantError(t, err, engine.KindInvalidArgument, "append")
}

func TestModes(t *testing.T) {
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		t.Run(string(mode), func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "deep", "out")
			run(t, newOutput(t, path, folder.ModeError, other), "old")
			o := newOutput(t, path, mode, job)
			oldPart, a, b := folder.PartName(other, 0, ".parquet"), folder.PartName(job, 0, ".parquet"), folder.PartName(job, 1, ".parquet")
			if mode == folder.ModeError {
				wantError(t, o.Check(t.Context()), engine.KindConflict, string(other), "10 rows", "overwrite", "append")
				wantError(t, o.Prepare(t.Context()), engine.KindConflict)
				wantNames(t, path, folder.SuccessName, oldPart)
				return
			}
			must(t, o.Check(t.Context()))
			must(t, o.Prepare(t.Context()))
			must(t, o.Prepare(t.Context()))
			if mode == folder.ModeAppend {
				wantNames(t, path, oldPart)
			} else {
				wantNames(t, path, folder.SuccessName, oldPart)
			}
			first, _ := publish(t, o, 0, "1", "a")
			second, _ := publish(t, o, 1, "1", strings.Repeat("b", 1<<20))
			success := folder.Success{Parts: []folder.Part{first, second}}
			must(t, o.Complete(t.Context(), success))
			must(t, o.Complete(t.Context(), success))
			must(t, o.Prepare(t.Context()))
			if mode == folder.ModeAppend {
				wantNames(t, path, folder.SuccessName, oldPart, a, b)
			} else {
				wantNames(t, path, folder.SuccessName, a, b)
			}
			wantNames(t, filepath.Dir(path), "out")
			got, err := folder.ReadSuccess(path)
			if err != nil || got.Job != job || got.Rows != 20 || len(got.Parts) != 2 || got.Finished.IsZero() {
				t.Errorf("_SUCCESS %+v, %v", got, err)
			}
			published, err := o.Published(t.Context())
			if err != nil || len(published) != 2 || published[1].SizeBytes != 1<<20 {
				t.Errorf("Published %+v, %v", published, err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	root := t.TempDir()
	write := func(parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{root}, parts...)...)
		must(t, os.MkdirAll(filepath.Dir(path), 0o777))
		must(t, os.WriteFile(path, []byte("x"), 0o666))
		return path
	}
	file := write("file")
	write("dots", ".gitkeep")
	write("foreign", "data.csv")
	write("unfinished", folder.PartName(other, 3, ".parquet"))
	write("success", "_SUCCESS")
	write("mine", folder.PartName(job, 3, ".parquet"))
	check := func(name string, mode folder.Mode) error {
		return newOutput(t, filepath.Join(root, name), mode, job).Check(t.Context())
	}
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		wantError(t, check("file", mode), engine.KindConflict, file, "not a folder")
		wantError(t, check("file/below", mode), engine.KindConflict)
		must(t, check("new/er/est", mode))
		must(t, check("dots", mode))
		must(t, check("mine", mode))
	}
	must(t, check("foreign", folder.ModeAppend))
	wantError(t, check("foreign", folder.ModeOverwrite), engine.KindConflict, "data.csv", "a folder of its own")
	err := check("foreign", folder.ModeError)
	wantError(t, err, engine.KindConflict, "data.csv", "mode: append")
	if strings.Contains(err.Error(), "overwrite") {
		t.Errorf("%q advises what is refused", err)
	}
	wantError(t, check("unfinished", folder.ModeError), engine.KindConflict, "engine job resume "+string(other))
	// With the names of attempts that the worker gives.
	for i, attempt := range []string{"7", "1234567", "w1-123456-7"} {
		name := fmt.Sprintf("staging%d", i)
		staged := write(name, "_staging-part-"+string(other)+"-000000-"+attempt+".tmp")
		wantError(t, check(name, folder.ModeError), engine.KindConflict, "holds no data", "job "+string(other)+",", "engine job resume "+string(other)+";", filepath.Base(staged))
		must(t, check(name, folder.ModeOverwrite))
	}
	write("both", "_staging-part-"+string(other)+"-000000-1.tmp")
	write("both", folder.PartName("20251124-142330-bbbbbbbb", 0, ".parquet"))
	wantError(t, check("both", folder.ModeError), engine.KindConflict, "holds files of job 20251124-142330-bbbbbbbb")
	wantError(t, check("success", folder.ModeError), engine.KindConflict, "_SUCCESS")
	if entries := names(t, filepath.Join(root, "new")); entries != nil {
		t.Errorf("Check made %v", entries)
	}
	if os.Geteuid() != 0 {
		locked := filepath.Join(root, "locked")
		must(t, os.Mkdir(locked, 0o555))
		wantError(t, check("locked/out", folder.ModeError), engine.KindPermission, locked)
	}
}

func TestConflicts(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "data", "in"), 0o777))
	must(t, os.Symlink(filepath.Join(root, "data"), filepath.Join(root, "link")))
	overwrite := func(name string) folder.Output {
		return newOutput(t, filepath.Join(root, name), folder.ModeOverwrite, job)
	}
	inputs := []string{filepath.Join(root, "elsewhere.csv"), filepath.Join(root, "data", "in", "a.csv")}
	wantError(t, overwrite("data").Conflicts("input", inputs), engine.KindConflict, "own input", "a.csv")
	wantError(t, overwrite("data").Conflicts("model", inputs), engine.KindConflict, "own model", "a.csv")
	wantError(t, overwrite("data").Conflicts("model", []string{filepath.Join(root, "data")}), engine.KindConflict, "own model")
	wantError(t, overwrite("link").Conflicts("input", inputs), engine.KindConflict)
	wantError(t, overwrite("link/in").Conflicts("input", inputs), engine.KindConflict)
	must(t, overwrite("data/in2").Conflicts("input", inputs))
	must(t, overwrite("dat").Conflicts("input", inputs))
	added := newOutput(t, filepath.Join(root, "data"), folder.ModeAppend, job)
	wantError(t, added.Conflicts("input", inputs), engine.KindConflict, "would add the output to the job's own input", "a.csv")
	must(t, added.Conflicts("model", inputs))
	must(t, newOutput(t, filepath.Join(root, "data"), folder.ModeError, job).Conflicts("input", inputs))
	if o := overwrite("link"); filepath.Base(o.Folder) != "data" {
		t.Errorf("a link is overwritten: %+v", o)
	}
}

func TestPublish(t *testing.T) {
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	part := folder.PartName(job, 0, ".parquet")

	slow, err := o.Create(part, "slow")
	must(t, err)
	_, err = o.Create(part, "slow")
	wantError(t, err, engine.KindConflict)
	if _, won := publish(t, o, 0, "fast", "fast"); !won {
		t.Error("the first attempt lost")
	}
	if _, err := slow.Write([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	if won, err := slow.Publish(t.Context()); won || err != nil {
		t.Errorf("the second attempt: %v, %v", won, err)
	}
	if content, err := os.ReadFile(o.PartPath(part)); err != nil || string(content) != "fast" {
		t.Errorf("%q, %v", content, err)
	}
	wantNames(t, o.Folder, part)
	must(t, slow.Discard())
	if _, err := slow.Write(nil); err == nil {
		t.Error("Write after Publish succeeds")
	}

	given, err := o.Create(folder.PartName(job, 1, ".parquet"), "1")
	must(t, err)
	for _, name := range names(t, o.Folder) {
		if strings.Contains(name, "000001") && (!strings.HasPrefix(name, "_") || strings.HasSuffix(name, ".parquet")) {
			t.Errorf("staging name %s", name)
		}
	}
	must(t, given.Discard())
	must(t, given.Discard())
	wantNames(t, o.Folder, part)

	late, err := o.Create(folder.PartName(job, 2, ".parquet"), "1")
	must(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = late.Publish(ended)
	wantError(t, err, engine.KindCanceled)
	wantNames(t, o.Folder, part)

	for _, bad := range []string{"x.parquet", folder.PartName(other, 0, ".parquet"), "../" + part} {
		if _, err := o.Create(bad, "1"); err == nil {
			t.Errorf("Create(%q) succeeds", bad)
		}
	}
	if _, err := o.Create(part, "a/b"); err == nil {
		t.Error("an attempt a/b is accepted")
	}
}

// TestRace lets many attempts at one part publish at the same time.
func TestRace(t *testing.T) {
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	const attempts = 16
	var group sync.WaitGroup
	wins := make(chan int, attempts)
	for i := range attempts {
		group.Go(func() {
			s, err := o.Create(folder.PartName(job, 0, ".parquet"), fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprint(s, i)
			won, err := s.Publish(t.Context())
			if err != nil {
				t.Error(err)
			}
			if won {
				wins <- i
			}
		})
	}
	group.Wait()
	close(wins)
	var winners []int
	for i := range wins {
		winners = append(winners, i)
	}
	content, err := os.ReadFile(o.PartPath(folder.PartName(job, 0, ".parquet")))
	if err != nil || len(winners) != 1 || string(content) != fmt.Sprint(winners[0]) {
		t.Errorf("winners %v, content %q, %v", winners, content, err)
	}
	wantNames(t, o.Folder, folder.PartName(job, 0, ".parquet"))
}

func TestCompleteRefusals(t *testing.T) {
	prepare := func(t *testing.T, mode folder.Mode) (folder.Output, []folder.Part) {
		o := newOutput(t, filepath.Join(t.TempDir(), "out"), mode, job)
		must(t, o.Prepare(t.Context()))
		part, _ := publish(t, o, 0, "1", "abc")
		return o, []folder.Part{part}
	}
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		t.Run(string(mode), func(t *testing.T) {
			o, parts := prepare(t, mode)
			missing := append(slices.Clone(parts), folder.Part{Name: folder.PartName(job, 1, ".parquet")})
			wantError(t, o.Complete(t.Context(), folder.Success{Parts: missing}), engine.KindCorrupt, "is gone")
			parts[0].SizeBytes++
			wantError(t, o.Complete(t.Context(), folder.Success{Parts: parts}), engine.KindCorrupt, "3 bytes")
			wantError(t, o.Complete(t.Context(), folder.Success{}), engine.KindConflict, parts[0].Name)
			parts[0].SizeBytes--
			must(t, os.WriteFile(o.PartPath("alien.csv"), nil, 0o666))
			err := o.Complete(t.Context(), folder.Success{Parts: parts})
			if mode == folder.ModeAppend {
				must(t, err)
			} else {
				wantError(t, err, engine.KindConflict, "alien.csv")
				if slices.Contains(names(t, o.Folder), folder.SuccessName) {
					t.Error("_SUCCESS was written")
				}
			}
		})
	}
}

func TestAbandonKeepsWhatResumeNeeds(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "out")
	run(t, newOutput(t, path, folder.ModeError, other), "old")
	o := newOutput(t, path, folder.ModeOverwrite, job)
	must(t, o.Abandon(t.Context()))
	must(t, o.Prepare(t.Context()))
	first, _ := publish(t, o, 0, "1", "a")
	if _, err := o.Create(folder.PartName(job, 1, ".parquet"), "1"); err != nil {
		t.Fatal(err)
	}
	must(t, o.Abandon(t.Context()))
	wantNames(t, o.WorkFolder, first.Name)
	wantNames(t, path, folder.SuccessName, folder.PartName(other, 0, ".parquet"))
	must(t, o.Prepare(t.Context()))
	if published, err := o.Published(t.Context()); err != nil || len(published) != 1 || published[0].Name != first.Name {
		t.Errorf("%v, %v", published, err)
	}
	must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{first}}))
	wantNames(t, root, "out")
	wantNames(t, path, folder.SuccessName, first.Name)
}

func TestAbandonRemovesAnEmptyWorkFolder(t *testing.T) {
	root := t.TempDir()
	o := newOutput(t, filepath.Join(root, "deep", "out"), folder.ModeOverwrite, job)
	must(t, o.Abandon(t.Context())) // Planning failed: nothing was made.
	must(t, o.Prepare(t.Context()))
	if _, err := o.Create(folder.PartName(job, 0, ".parquet"), "1"); err != nil {
		t.Fatal(err)
	}
	must(t, o.Abandon(t.Context()))
	must(t, o.Abandon(t.Context()))
	wantNames(t, filepath.Join(root, "deep"))
	// The job can be resumed all the same.
	must(t, o.Prepare(t.Context()))
	part, _ := publish(t, o, 0, "2", "a")
	must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}}))
	wantNames(t, filepath.Join(root, "deep"), "out")

	// A folder with something that is not ours stays, and so does the output folder of the other modes.
	o = newOutput(t, filepath.Join(root, "out2"), folder.ModeOverwrite, job)
	must(t, o.Prepare(t.Context()))
	must(t, os.WriteFile(o.PartPath("alien.csv"), nil, 0o666))
	must(t, o.Abandon(t.Context()))
	wantNames(t, o.WorkFolder, "alien.csv")
	o = newOutput(t, filepath.Join(root, "out3"), folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	must(t, o.Abandon(t.Context()))
	if _, err := os.Stat(o.Folder); err != nil {
		t.Error(err)
	}
}

// TestOverwriteRefusesStrangers replaces what writers of tables make, and nothing else.
func TestOverwriteRefusesStrangers(t *testing.T) {
	staging := "_staging-part-" + string(other) + "-000001-7.tmp"
	for _, c := range []struct {
		name  string
		files []string
		want  string // of the refusal
	}{
		{"nothing", nil, ""},
		{"an engine's job", []string{folder.PartName(other, 0, ".parquet"), folder.PartName(other, 1, ".csv"), "_SUCCESS", staging, "_SUCCESS-" + string(other) + ".tmp"}, ""},
		{"a job that was cut off as it wrote notes", []string{folder.PartName(other, 0, ".json"), "_engine/" + folder.PartName(other, 0, ".json") + ".json", "_engine/_note-" + folder.PartName(other, 1, ".json") + "-1.tmp"}, ""},
		{"Spark", []string{"part-00000-c000.snappy.parquet", ".part-00000-c000.snappy.parquet.crc", "_SUCCESS", "._SUCCESS.crc", "_temporary/0/task_0/part-0.parquet"}, ""},
		{"Databricks", []string{"part-00000.parquet", "_started_12", "_committed_12"}, ""},
		{"pyarrow", []string{"year=2024/month=1/a.parquet", "year=2024/_metadata", "_metadata", "_common_metadata", "0.PARQUET"}, ""},
		{"hidden", []string{".gitkeep", ".DS_Store", ".spark-staging-1/year=2024/a.parquet"}, ""},
		{"models", []string{"wine-onnx/model.onnx", "wine-onnx/MLmodel", "_SUCCESS"}, ": wine-onnx/ ("},
		{"three", []string{"a.parquet", "a.csv", "b.txt", "c"}, ": a.csv, b.txt, c ("},
		{"many", []string{"a.csv", "b.txt", "c", "d", "e"}, ": a.csv, b.txt, c, and more ("},
		{"within a partition", []string{"year=2024/a.parquet", "year=2024/notes.txt"}, ": year=2024/notes.txt ("},
		{"Delta", []string{"a.parquet", "_delta_log/0.json", "_delta_log/_last_checkpoint"}, ": _delta_log/0.json ("},
		{"Git", []string{"a.parquet", ".git/HEAD"}, ": .git/HEAD ("},
		{"underscores", []string{"_notes.txt"}, ": _notes.txt ("},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			must(t, os.Mkdir(path, 0o777))
			for _, name := range c.files {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(path, name)), 0o777))
				must(t, os.WriteFile(filepath.Join(path, name), []byte("x"), 0o666))
			}
			o := newOutput(t, path, folder.ModeOverwrite, job)
			if c.want == "" {
				run(t, o, "a")
				wantNames(t, path, folder.SuccessName, folder.PartName(job, 0, ".parquet"))
				return
			}
			for _, err := range []error{o.Check(t.Context()), o.Prepare(t.Context())} {
				wantError(t, err, engine.KindConflict, "mode overwrite would delete what is neither a job's output nor Parquet data"+c.want, "give the output a folder of its own, or remove them")
			}
			wantNames(t, filepath.Dir(path), "out")
		})
	}
	t.Run("while the job runs", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out")
		run(t, newOutput(t, path, folder.ModeError, other), "old")
		o := newOutput(t, path, folder.ModeOverwrite, job)
		must(t, o.Check(t.Context()))
		must(t, o.Prepare(t.Context()))
		part, _ := publish(t, o, 0, "1", "a")
		notes := filepath.Join(path, "notes.txt")
		must(t, os.WriteFile(notes, []byte("x"), 0o666))
		success := folder.Success{Parts: []folder.Part{part}}
		wantError(t, o.Complete(t.Context(), success), engine.KindConflict, "notes.txt")
		must(t, o.Abandon(t.Context()))
		must(t, os.Remove(notes))
		must(t, o.Prepare(t.Context()))
		must(t, o.Complete(t.Context(), success))
		wantNames(t, path, folder.SuccessName, part.Name)
	})
}

func TestOverwriteKeepsPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	must(t, os.Mkdir(path, 0o750))
	must(t, os.WriteFile(filepath.Join(path, "data.parquet"), nil, 0o666))
	run(t, newOutput(t, path, folder.ModeOverwrite, job), "a")
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v", info.Mode())
	}
	wantNames(t, path, folder.SuccessName, folder.PartName(job, 0, ".parquet"))
}

func TestWriteErrors(t *testing.T) {
	for name, c := range map[string]struct {
		after int64
		err   error
		kind  engine.Kind
		text  string
	}{
		"full":          {1000, syscall.ENOSPC, engine.KindExhausted, "no space left"},
		"quota":         {300_000, syscall.EDQUOT, engine.KindExhausted, "no space left"},
		"full on fsync": {-1, syscall.ENOSPC, engine.KindExhausted, "no space left"},
		"read-only":     {0, syscall.EROFS, engine.KindPermission, ""},
		"permission":    {0, syscall.EACCES, engine.KindPermission, ""},
		"disk":          {5, syscall.EIO, engine.KindUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
			must(t, o.Prepare(t.Context()))
			folder.FailWrites(t, c.after, c.err)
			s, err := o.Create(folder.PartName(job, 0, ".parquet"), "1")
			must(t, err)
			_, writeErr := s.Write(make([]byte, 1_000_000))
			won, err := s.Publish(t.Context())
			if won || c.after >= 0 && writeErr == nil {
				t.Errorf("won %v, write error %v", won, writeErr)
			}
			wantError(t, err, c.kind, c.text, o.Folder)
			if !errors.Is(err, c.err) {
				t.Errorf("%v is not %v", err, c.err)
			}
			wantNames(t, o.Folder)
		})
	}
}

func TestPrimitives(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	must(t, os.WriteFile(a, []byte("a"), 0o666))
	must(t, os.WriteFile(b, []byte("b"), 0o666))
	if err := folder.PutIfAbsent(a, b); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put: %v", err)
	}
	if err := folder.RenameNoReplace(a, b); !errors.Is(err, fs.ErrExist) && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("rename: %v", err)
	}
	if err := folder.Exchange(a, b); err == nil {
		if content, err := os.ReadFile(a); err != nil || string(content) != "b" {
			t.Errorf("exchange: %q, %v", content, err)
		}
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
