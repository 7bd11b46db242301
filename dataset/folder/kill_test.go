//go:build unix

package folder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

const childParts = 3

// TestMain is also the child of the tests that kill it.
func TestMain(m *testing.M) {
	if path := os.Getenv("FOLDER_TEST_CHILD"); path != "" {
		if err := child(path); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if killableDir != "" {
		_ = os.RemoveAll(killableDir)
	}
	os.Exit(code)
}

// killableDir is the folder of what killable has built, or empty.
var killableDir string

// killable builds this program with failpoints, once for all tests.
var killable = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "engine-folder-")
	if err != nil {
		return "", err
	}
	killableDir = dir
	path := filepath.Join(dir, "child")
	if out, err := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

// partContent is what a part holds, whichever attempt wrote it.
func partContent(i int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("row of part %d\n", i)), 40_000)
}

// child writes a job's output, as a worker and the head would after any crash.
func child(path string) error {
	ctx := context.Background()
	notes := os.Getenv("FOLDER_TEST_NOTES") != ""
	o, err := folder.New(path, folder.Mode(os.Getenv("FOLDER_TEST_MODE")), job)
	if err != nil {
		return err
	}
	if err := errors.Join(o.Check(ctx), o.Prepare(ctx)); err != nil {
		return err
	}
	published, err := o.Published(ctx)
	if err != nil {
		return err
	}
	var parts []folder.Part
	for i := range childParts {
		name, content := folder.PartName(job, i, ".parquet"), partContent(i)
		parts = append(parts, folder.Part{Name: name, Rows: 40_000, SizeBytes: int64(len(content))})
		if slices.ContainsFunc(published, func(p folder.Part) bool { return p.Name == name }) {
			continue
		}
		for attempt := range 2 { // the second loses
			s, err := o.Create(name, fmt.Sprintf("%d-%d", os.Getpid(), attempt))
			if err != nil {
				return err
			}
			kept := map[string]string{"part": name}
			if notes {
				s.Keep(kept)
			}
			for rest := content; len(rest) > 0; {
				n := min(len(rest), 100_000)
				if _, err := s.Write(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			kept["finished"] = "yes"
			if won, err := s.Publish(ctx); err != nil || won != (attempt == 0) {
				return fmt.Errorf("attempt %d: won %v, %w", attempt, won, err)
			}
		}
	}
	for _, part := range parts {
		if success, err := folder.ReadSuccess(path); !notes || err == nil && success.Job == job {
			break // Nobody asks once all is done.
		}
		kept, err := o.Metadata(ctx, part.Name, nil)
		if err != nil || kept["part"] != part.Name || kept["finished"] != "yes" {
			return fmt.Errorf("metadata of %s: %v, %w", part.Name, kept, err)
		}
	}
	return o.Complete(ctx, folder.Success{Parts: parts})
}

// memoryFolder is a new folder in memory where there is one: these tests sync thousands of times.
func memoryFolder(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "engine-test-") //nolint:usetesting // in memory
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(path)) })
	return path
}

type scenario struct {
	name string
	mode folder.Mode
	// old says that another job's output is there.
	old bool
	// notes says that metadata is kept beside the parts.
	notes bool
}

var scenarios = []scenario{
	{"error", folder.ModeError, false, false}, {"append to old", folder.ModeAppend, true, false},
	{"overwrite nothing", folder.ModeOverwrite, false, false}, {"overwrite old", folder.ModeOverwrite, true, false},
	{"notes, append to old", folder.ModeAppend, true, true}, {"notes, overwrite old", folder.ModeOverwrite, true, true},
}

func (s scenario) command(t *testing.T, path string, killAt int) *exec.Cmd {
	t.Helper()
	program, err := killable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "FOLDER_TEST_CHILD="+path, "FOLDER_TEST_MODE="+string(s.mode))
	if killAt > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s:%d", failpoint.Variable, failpoint.Any, killAt))
	}
	if s.notes {
		cmd.Env = append(cmd.Env, "FOLDER_TEST_NOTES=yes")
	}
	return cmd
}

func (s scenario) prepare(t *testing.T) string {
	t.Helper()
	path := filepath.Join(memoryFolder(t), "out")
	if s.old {
		run(t, newOutput(t, path, folder.ModeError, other), "old 0", "old 1")
	}
	return path
}

// check looks at the folder as a reader does.
func (s scenario) check(t *testing.T, path, when string, finished bool) {
	t.Helper()
	olds, news := 0, 0
	for _, name := range names(t, path) {
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
			if finished && name == folder.NotesName && s.notes {
				want := make([]string, childParts)
				for i := range want {
					want[i] = folder.PartName(job, i, ".parquet") + ".json"
				}
				wantNames(t, filepath.Join(path, name), want...)
				continue
			}
			if finished && name != folder.SuccessName {
				t.Errorf("%s: %s is left", when, name)
			}
			continue
		}
		content, err := os.ReadFile(filepath.Join(path, name))
		must(t, err)
		switch {
		case s.old && bytes.HasPrefix(content, []byte("old ")):
			olds++
		case slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool {
			return name == folder.PartName(job, i, ".parquet") && bytes.Equal(content, partContent(i))
		}):
			news++
		default:
			t.Errorf("%s: %s is not whole: %d bytes", when, name, len(content))
		}
	}
	success, err := folder.ReadSuccess(path)
	ours := err == nil && success.Job == job
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", when, err)
	}
	wantOld := 0
	if s.old && (s.mode == folder.ModeAppend || !ours) {
		wantOld = 2
	}
	if olds != wantOld || ours && news != childParts || finished && !ours || s.mode == folder.ModeOverwrite && !ours && news != 0 {
		t.Errorf("%s: %d old files of %d, %d new ones, _SUCCESS of this job: %v", when, olds, wantOld, news, ours)
	}
	if finished {
		wantNames(t, filepath.Dir(path), "out")
	}
}

// TestKillAtEveryStep kills a job between any two steps, then resumes it.
func TestKillAtEveryStep(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			for killAt := 1; ; killAt++ {
				path := s.prepare(t)
				out, err := s.command(t, path, killAt).CombinedOutput()
				if err == nil {
					s.check(t, path, "finished", true)
					if killAt < 20 {
						t.Errorf("only %d steps", killAt)
					}
					return
				}
				when := strings.TrimSpace(string(out))
				if !strings.HasPrefix(when, "killed at") {
					t.Fatalf("%v: %s", err, when)
				}
				s.check(t, path, when, false)
				if out, err := s.command(t, path, 0).CombinedOutput(); err != nil {
					t.Fatalf("resumed after being %s: %v: %s", when, err, out)
				}
				s.check(t, path, when+" and resumed", true)
			}
		})
	}
}

// TestKillAtRandom kills a job at any instant, several times in a row.
func TestKillAtRandom(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			for range 5 {
				path := s.prepare(t)
				for range 3 {
					cmd := s.command(t, path, 0)
					must(t, cmd.Start())
					timer := time.AfterFunc(time.Duration(random.Intn(60_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
					_ = cmd.Wait()
					timer.Stop()
					s.check(t, path, "killed", false)
				}
				if out, err := s.command(t, path, 0).CombinedOutput(); err != nil {
					t.Fatalf("resumed: %v: %s", err, out)
				}
				s.check(t, path, "resumed", true)
			}
		})
	}
}

// TestBetweenSteps runs the tests that need a build with failpoints.
func TestBetweenSteps(t *testing.T) {
	program, err := killable()
	must(t, err)
	out, err := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", "^TestNotesOfOthers$").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestNotesOfOthers")) {
		t.Fatalf("%v:\n%s", err, out)
	}
}
