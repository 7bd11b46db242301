package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// isRunning reports whether a process is there that is not a zombie.
func isRunning(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(after, "Z")
}

func namesIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// engine stop leaves no process, and with it no mapping, no socket, nothing in shared memory or among the temporary files, and no spill
// file, although the stores were full.
func TestStopLeavesNoFilesBehind(t *testing.T) {
	p := newPlace(t)
	temporary := p.path("tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "TMPDIR="+temporary)
	shared := namesIn(t, "/dev/shm")
	start := func(args ...string) (n nodeProcess) {
		out := p.must(append([]string{"start", "-o", "json", "--flight-port", "0", "--num-cpus", "1", "--object-store-memory", "16MiB"}, args...)...)
		if err := json.Unmarshal([]byte(out.stdout), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	head := start("--head", "--port", "0", "--web-port", "0", "--data-dir", "head")
	worker := start("--address", head.Address, "--data-dir", "worker")
	t.Cleanup(func() {
		for _, dir := range []string{"worker", "head"} {
			p.engine("stop", "--data-dir", dir, "--grace", "1s")
		}
	})
	table := p.wineCSV("wine.csv", 0, 60_000)
	job := p.write("objects.yaml", fmt.Sprintf("name: objects\nsource:\n  csv: {paths: [%q], delimiter: \";\"}\nsink:\n  object: {ttl: 1h}\n", table))
	for range 6 {
		if r := p.await(head.Address, p.submit(head.Address, job)); r.State != "SUCCEEDED" {
			t.Fatalf("%+v", r)
		}
	}
	sockets, spilled := 0, 0
	look := func() {
		sockets, spilled = 0, 0
		for _, dir := range []string{"head", "worker"} {
			err := filepath.WalkDir(p.path(dir), func(path string, entry fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return err
				case entry.Type()&fs.ModeSocket != 0:
					sockets++
				case !entry.IsDir() && strings.Contains(path, "/spill"):
					spilled++
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if look(); sockets != 2 || spilled < 3 {
		t.Fatalf("%d sockets and %d spill files and claims while the nodes run: the test shows nothing", sockets, spilled)
	}
	p.must("stop", "--data-dir", "worker")
	p.must("stop", "--data-dir", "head")
	for _, n := range []nodeProcess{head, worker} {
		if isRunning(n.Pid) {
			t.Errorf("process %d still runs", n.Pid)
		}
	}
	if look(); sockets != 0 || spilled != 0 {
		t.Errorf("%d sockets and %d spill files and claims are left", sockets, spilled)
	}
	for name := range namesIn(t, "/dev/shm") {
		if !shared[name] && strings.Contains(name, "engine") {
			t.Errorf("/dev/shm/%s is left", name)
		}
	}
	for name := range namesIn(t, temporary) {
		t.Errorf("%s is left among the temporary files", name)
	}
}
