package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
)

func TestClaimFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	if _, runs, err := owner(path); runs || err != nil {
		t.Errorf("a folder that is not there: %v, %v", runs, err)
	}
	folder, err := claimFolder(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if record, runs, err := owner(path); !runs || err != nil || record.PID != 0 {
		t.Errorf("before the record: %v, %v, %v", record, runs, err)
	}
	if err := folder.record("head", "127.0.0.1:1", testNow); err != nil {
		t.Fatal(err)
	}
	record, runs, err := owner(path)
	if !runs || err != nil || record.PID != os.Getpid() || record.Role != "head" || record.Address != "127.0.0.1:1" {
		t.Errorf("got %v, %v, %v", record, runs, err)
	}
	if _, err := record.process(); err != nil {
		t.Error(err)
	}
	_, err = claimFolder(t.Context(), path)
	want := fmt.Sprintf("open data folder: %s: a head with pid %d uses it (", path, os.Getpid())
	if engine.KindOf(err) != engine.KindConflict || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	folder.release()
	if _, runs, err := owner(path); runs || err != nil {
		t.Errorf("after release: %v, %v", runs, err)
	}
	again, err := claimFolder(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again.release()

	// A pid that another process has by now is never touched.
	record.StartTicks++
	if _, err := record.process(); startTicks(os.Getpid()) != 0 && engine.KindOf(err) != engine.KindConflict {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := claimFolder(t.Context(), file); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestRunFolder(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"a", "A", "a/b", "a%2Fb", "..", ".", strings.Repeat("x", 200), strings.Repeat("/", 200)} {
		path := runFolder("/c", id, testNow)
		if filepath.Dir(path) != "/c/engine/runs" || len(filepath.Base(path)) > 203 || seen[path] || path != runFolder("/c", id, testNow) {
			t.Errorf("%q: %s", id, path)
		}
		seen[path] = true
	}
	if first, second := runFolder("/c", "", testNow), runFolder("/c", "", testNow); first == second {
		t.Error("two runs without an id share a folder")
	}
}

func TestPruneRuns(t *testing.T) {
	runs := t.TempDir()
	folder := func(name string, age time.Duration) {
		claimed, err := claimFolder(t.Context(), filepath.Join(runs, name))
		if err != nil {
			t.Fatal(err)
		}
		claimed.release()
		at := testNow.Add(-age)
		if err := os.Chtimes(filepath.Join(claimed.path, pidFile), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		folder("run-"+strconv.Itoa(i), time.Duration(i)*time.Hour)
		folder("id-"+strconv.Itoa(i), time.Duration(i)*time.Hour)
	}
	if err := os.Mkdir(filepath.Join(runs, "run-other"), 0o700); err != nil { // not ours: no pid file
		t.Fatal(err)
	}
	held, err := claimFolder(t.Context(), filepath.Join(runs, "run-5"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.release()
	at := testNow.Add(-5 * time.Hour)
	if err := os.Chtimes(filepath.Join(held.path, pidFile), at, at); err != nil {
		t.Fatal(err)
	}
	pruneRuns(t.Context(), runs, 2, 4)
	entries, err := os.ReadDir(runs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "id-0 id-1 id-2 id-3 run-0 run-1 run-5 run-other" {
		t.Errorf("kept %s", got)
	}
	pruneRuns(t.Context(), filepath.Join(runs, "none"), 1, 1)
}

func TestStopNothing(t *testing.T) {
	c := newConsole(t, nil)
	c.run(t, 0, "stop")
	c.wantOut(t, "nothing runs\n")
	dir := t.TempDir()
	c.run(t, 0, "stop", "--data-dir", dir)
	c.wantOut(t, "nothing runs in "+dir+"\n")
	c.run(t, 0, "stop", "-o", "json")
	if !strings.Contains(c.stdout.String(), `"stopped": false`) {
		t.Errorf("%s", c.stdout)
	}
	// What a killed node leaves behind does not count as a node.
	if err := os.WriteFile(filepath.Join(dir, pidFile), []byte(`{"pid":1,"role":"head"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, 0, "stop", "--data-dir", dir)
	c.wantOut(t, "nothing runs in "+dir+"\n")

	// Several workers, of which none is the obvious one.
	for _, name := range []string{"worker-1", "worker-2"} {
		folder, err := claimFolder(t.Context(), filepath.Join(c.cache, "engine", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(folder.release)
	}
	c.run(t, exitUsage, "stop")
	if !strings.Contains(c.stderr.String(), "several workers run: ") {
		t.Errorf("%s", c.stderr)
	}
}

// TestStartAndStop runs a head in the background, as a user does.
func TestStartAndStop(t *testing.T) {
	t.Setenv("ENGINE_TEST_IS_ENGINE", "1")
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	engineRun := func(wantCode int, args ...string) (stdout, stderr string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != wantCode {
			t.Fatalf("engine %v: exit code %d, want %d\nstdout: %s\nstderr: %s", args, code, wantCode, &out, &errs)
		}
		return out.String(), errs.String()
	}
	dir := filepath.Join(cache, "engine", "head")
	t.Cleanup(func() {
		// The node outlives a test that fails half-way.
		if record, runs, err := owner(dir); err == nil && runs {
			if p, err := record.process(); err == nil {
				p.Kill()
			}
		}
	})
	stdout, _ := engineRun(0, "start", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--labels", `a="b,c"`, "-o", "json")
	var v startView
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Address == "" || v.Web == "" || v.PID == 0 || v.PID == os.Getpid() || v.DataDir != dir {
		t.Fatalf("%v %s", err, stdout)
	}
	record, runs, err := owner(dir)
	if err != nil || !runs || record.PID != v.PID || record.Role != "head" || record.Address != v.Address {
		t.Errorf("got %v, %v, %v", record, runs, err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, logFile)); err != nil || !strings.Contains(string(log), "the node is ready") {
		t.Errorf("%v\n%s", err, log)
	}
	// A second head of the same folder is refused.
	_, stderr := engineRun(exitRefused, "start", "--head", "--port", "0", "--web-port", "0")
	if !strings.Contains(stderr, "a head with pid "+strconv.Itoa(v.PID)+" uses it") {
		t.Errorf("%s", stderr)
	}
	stdout, _ = engineRun(0, "stop", "-o", "json")
	var s stopView
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || !s.Stopped || s.Killed || s.PID != v.PID {
		t.Errorf("%v %s", err, stdout)
	}
	stdout, _ = engineRun(0, "stop")
	if stdout != "nothing runs\n" {
		t.Errorf("%s", stdout)
	}
}
