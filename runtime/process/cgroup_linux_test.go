package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/sandbox"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/process"
)

// eatAll takes the memory of a machine, up to 2 GiB.
func eatAll() error {
	for range 64 {
		if _, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
			return err
		}
	}
	return engine.Errorf(engine.KindModel, "eat", "", "has eaten all")
}

// tryToLeave tries what would take a process out of its cgroup, or its limits away. Its error says what came of that.
func tryToLeave() error {
	tried := 0
	var done []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // Others remove groups of theirs.
		}
		if entry.IsDir() {
			tried++
			if err := os.Mkdir(filepath.Join(path, "engine-escape"), 0o700); err == nil {
				done = append(done, "made "+path+"/engine-escape")
			}
		} else if slices.Contains([]string{"cgroup.procs", "tasks", "cgroup.threads", "memory.limit_in_bytes", "memory.max", "pids.max", "cgroup.kill"}, entry.Name()) {
			tried++
			if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				_ = file.Close() // Nothing was written.
				done = append(done, "opened "+path)
			}
		}
		return nil
	})
	return engine.Errorf(engine.KindModel, "leave", "", "tried much: %v, did %q, %w", tried > 3, done, err)
}

// needsCgroup skips a test where executors have none, and returns how they are confined.
func needsCgroup(t *testing.T) sandbox.Report {
	t.Helper()
	report, err := process.Probe(t.Context(), process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(report, func(m sandbox.Measure) bool { return m.Name == sandbox.Cgroup })
	if at < 0 {
		t.Fatalf("it is not said in %v whether executors have cgroups", report)
	}
	if why := report[at].Missing; why != "" {
		t.Skip("the system does not permit cgroups: ", why)
	}
	return report
}

// needsNoSwap skips a test that takes too much memory.
func needsNoSwap(t *testing.T) {
	t.Helper()
	if swaps, _ := os.ReadFile("/proc/swaps"); strings.Count(string(swaps), "\n") > 1 {
		t.Skip("this machine has swap, which takes what is too much")
	}
}

// groupsOf are the cgroups of a process that it shares with no other of these tests, one for each hierarchy.
func groupsOf(t *testing.T, pid int) (folders []string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		path := strings.SplitN(strings.TrimSpace(line), ":", 3)[2]
		at := strings.Index(path, "/engine-pool-")
		if at < 0 {
			continue
		}
		path = path[at:] // What is before that may not be mounted.
		err := filepath.WalkDir("/sys/fs/cgroup", func(folder string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(folder, path) {
				folders = append(folders, folder)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return folders
}

func TestCgroup(t *testing.T) {
	needsCgroup(t)
	m := load(t, newLoaderOf(t, process.Config{Logger: slog.New(slog.DiscardHandler), MemoryBytes: 1 << 30}))
	wantResult(t, m)
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v, expected one", pids)
	}
	folders := groupsOf(t, pids[0])
	limited := slices.ContainsFunc(folders, func(folder string) bool {
		limit, err := os.ReadFile(filepath.Join(folder, "memory.limit_in_bytes"))
		if err != nil {
			limit, err = os.ReadFile(filepath.Join(folder, "memory.max"))
		}
		return err == nil && strings.TrimSpace(string(limit)) == "1073741824"
	})
	bounded := slices.ContainsFunc(folders, func(folder string) bool {
		threads, err := os.ReadFile(filepath.Join(folder, "pids.max"))
		return err == nil && strings.TrimSpace(string(threads)) == "4096"
	})
	if !limited || !bounded {
		t.Errorf("in %q: memory is limited: %v, threads are: %v", folders, limited, bounded)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, folder := range folders {
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", folder, err)
		}
	}
}

// A call that needs more than executors may have is one of which its executor dies, and says so; other calls go on.
func TestKilledForMemory(t *testing.T) {
	needsCgroup(t)
	needsNoSwap(t)
	var log bytes.Buffer
	m := load(t, newLoaderOf(t, process.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), MemoryBytes: 400 << 20, Environment: []string{"GORACE=atexit_sleep_ms=0"}}))
	first := children(t)
	other := load(t, newLoader(t))
	wantResult(t, other)
	second := slices.DeleteFunc(children(t), func(pid int) bool { return slices.Contains(first, pid) })
	_, err := run(t.Context(), m, 1, eats)
	var crash *runtime.CrashError
	if !errors.As(err, &crash) || !crash.Killed || crash.Times != 3 || engine.KindOf(err) != engine.KindExhausted {
		t.Errorf("got %#v, of kind %s", err, engine.KindOf(err))
	}
	if text := fmt.Sprint(err); !strings.Contains(text, "killed for memory: limit 400MiB of ") || !strings.Contains(text, "model.onnx") {
		t.Errorf("got %q", text)
	}
	if !strings.Contains(log.String(), "killed for memory: limit 400MiB of ") {
		t.Errorf("logged %q", log.String())
	}
	wantResult(t, m)
	wantResult(t, other)
	if after := children(t); len(second) != 1 || !slices.Contains(after, second[0]) {
		t.Errorf("executors %v and %v, after that %v", first, second, after)
	}
}

func TestKilledForMemoryWhileLoading(t *testing.T) {
	needsCgroup(t)
	needsNoSwap(t)
	loader := newLoaderOf(t, process.Config{Logger: slog.New(slog.DiscardHandler), MemoryBytes: 256 << 20, LoadMemoryBytes: -1, Environment: []string{"ENGINE_TEST_LOAD_EATS=1"}})
	_, err := loader.Load(t.Context(), runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0, 1)), Digest: "test"})
	if engine.KindOf(err) != engine.KindExhausted || !strings.Contains(fmt.Sprint(err), "killed for memory: limit 256MiB of ") {
		t.Errorf("got %v", err)
	}
}

// Who has taken over an executor cannot leave its cgroup.
func TestCannotLeaveCgroup(t *testing.T) {
	for _, m := range needsCgroup(t) {
		if m.Name == sandbox.Files && m.Missing != "" {
			t.Skip("files are not limited here: ", m.Missing)
		}
	}
	m := load(t, newLoader(t))
	if _, err := run(t.Context(), m, leaves); err == nil || !strings.Contains(err.Error(), "tried much: true, did []") {
		t.Errorf("got %v", err)
	}
}

// Executors have no cgroups where that was not asked for, or is not permitted any more; they start nevertheless.
func TestWithoutCgroup(t *testing.T) {
	m := load(t, newLoaderOf(t, process.Config{Logger: slog.New(slog.DiscardHandler), Sandbox: process.SandboxOff}))
	wantResult(t, m)
	for _, pid := range children(t) {
		if folders := groupsOf(t, pid); len(folders) > 0 {
			t.Errorf("one is in %q", folders)
		}
	}
	if _, err := process.New(process.Config{Logger: slog.New(slog.DiscardHandler), MemoryBytes: -1}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}
