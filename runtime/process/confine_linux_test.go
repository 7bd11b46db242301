package process_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/sandbox"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/process"
)

// TestConfined looks at an executor that has a model and evaluates it, from outside.
func TestConfined(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary")
	report, err := process.Probe(t.Context(), process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]string{}
	for _, m := range report {
		missing[m.Name] = m.Missing
	}
	for _, name := range []string{sandbox.Namespaces, sandbox.Privileges, sandbox.Files, sandbox.SystemCalls} {
		if why, known := missing[name]; !known || why != "" {
			t.Logf("%s are not in force here: %q", name, why)
		}
	}
	m := load(t, newLoader(t))
	wantResult(t, m)
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v, expected one", pids)
	}
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pids[0], name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	status := strings.Split(read("status"), "\n")
	want := map[string]string{"NoNewPrivs:\t1": sandbox.Privileges, "CapEff:\t0000000000000000": sandbox.Privileges, "Seccomp:\t2": sandbox.SystemCalls}
	for line, measure := range want {
		if missing[measure] == "" && !slices.Contains(status, line) {
			t.Errorf("there is no %q in its status", line)
		}
	}
	if environment := read("environ"); strings.Contains(environment, "canary") {
		t.Errorf("its environment is %q", environment)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pids[0]))
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, f := range files {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pids[0], f.Name()))
		switch {
		case err != nil: // It has been closed.
		case strings.HasPrefix(target, "socket:"):
			sockets++
		case strings.HasPrefix(target, os.TempDir()): //nolint:usetesting // The tests' own files are what must not be open.
			t.Errorf("%s is open", target)
		}
	}
	if sockets != 1 {
		t.Errorf("it has %d sockets, expected one", sockets)
	}
	for _, name := range []string{"user", "net", "ipc"} {
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pids[0], name))
		if missing[sandbox.Namespaces] == "" && (err != nil || theirs == ours) {
			t.Errorf("its %s namespace is %s, %v", name, theirs, err)
		}
	}
}

func TestLoadLimits(t *testing.T) {
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0, 1)), Digest: "test"}
	for name, test := range map[string]struct {
		config process.Config
		want   string
	}{
		"memory": {process.Config{Environment: []string{"ENGINE_TEST_LOAD_EATS=1"}, LoadMemoryBytes: 64 << 20}, "over 64MiB of memory to load"},
		"time":   {process.Config{Environment: []string{"ENGINE_TEST_LOAD_HANGS=" + filepath.Join(t.TempDir(), "hangs")}, Write: []string{os.TempDir()}, LoadTimeout: 2 * time.Second}, "2s to load"}, //nolint:usetesting // Where the other folder is made.
	} {
		t.Run(name, func(t *testing.T) {
			test.config.Logger = slog.New(slog.DiscardHandler)
			_, err := newLoaderOf(t, test.config).Load(t.Context(), request)
			if engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if pids := children(t); len(pids) != 0 {
				t.Errorf("left are %v", pids)
			}
		})
	}
}

func TestSandboxModes(t *testing.T) {
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0, 1)), Digest: "test"}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	m, err := newLoaderOf(t, process.Config{Logger: logger, Sandbox: process.SandboxOff}).Load(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "executors are not confined") {
		t.Errorf("logged %q", log.String())
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	report, err := process.Probe(t.Context(), process.Config{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	m, err = newLoaderOf(t, process.Config{Logger: logger, Sandbox: process.SandboxRequire}).Load(t.Context(), request)
	switch {
	case report.Complete() && err != nil:
		t.Errorf("an executor that is confined was refused: %v", err)
	case !report.Complete() && engine.KindOf(err) != engine.KindUnavailable:
		t.Errorf("an executor was started that is not confined: %v", err)
	case err == nil:
		err = m.Close()
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := process.New(process.Config{Logger: logger, Sandbox: "maybe"}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}

// TestDriverNeedsFile has a driver that needs a file of which nobody knew.
func TestDriverNeedsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "needed")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0.5, 2)), Digest: "test", Device: runtime.GPU(0)}
	report, err := process.Probe(t.Context(), process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() {
		t.Skip("executors are not confined here: ", report)
	}
	var log bytes.Buffer
	config := process.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Environment: []string{"ENGINE_TEST_NEEDS=" + path}}
	m, err := newLoaderOf(t, config).Load(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, m)
	// One that dies is started again as it was.
	for _, pid := range children(t) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	wantResult(t, m)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "only in executors that reach all files") {
		t.Errorf("logged %q", log.String())
	}
	config.Sandbox = process.SandboxRequire
	if _, err := newLoaderOf(t, config).Load(t.Context(), request); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("got %v", err)
	}
}
