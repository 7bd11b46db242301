package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
)

// TestHeadKilledWithRunningTasks kills the head while a job and a thousand tasks run. The tasks end at the worker, half of them while there
// is no head, and their client learns of it; none of them runs twice.
func TestHeadKilledWithRunningTasks(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	head := p.startHead()
	port := head.Address[strings.LastIndex(head.Address, ":")+1:]
	restart := func(c *client.Client) {
		t.Helper()
		begun := time.Now()
		head = p.start("--head", "--port", port, "--web-port", "0", "--num-cpus", "0", "--data-dir", "head")
		if _, err := c.Cluster(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("the head serves again %v after its start", time.Since(begun).Round(time.Millisecond))
	}
	p.startWorker(head, "w1")
	p.startOperators(head.Address, "w2", 1)
	c := dial(t, head.Address)
	starts, ends := p.folder("starts"), p.folder("ends")
	run := func(n int, gate string) []*client.TaskHandle {
		tasks := make([]engine.Task, n)
		for i := range tasks {
			tasks[i] = engine.Task{Operator: hold, Params: holdParams{starts, ends, gate}, Resources: engine.Resources{CPU: 0.001}}
		}
		return c.RunMany(t.Context(), tasks...)
	}

	const half = 500
	acknowledged := run(200, "")
	awaitTasks(t.Context(), t, c, acknowledged)
	first, second := p.path("first"), p.path("second")
	early, late := run(half, first), run(half, second)
	all := len(acknowledged) + len(early) + len(late)
	eventually(t, "a thousand running tasks", func() bool { return countFiles(t, starts) == all })
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "overwrite"))
	untilTasksDone(t, head.Address, id, 3)
	head.kill(t)
	p.write("first", "")
	eventually(t, "the end of tasks while there is no head", func() bool { return countFiles(t, ends) == len(acknowledged)+half })
	restart(c)
	awaitTasks(t.Context(), t, c, early)
	p.write("second", "")
	awaitTasks(t.Context(), t, c, late)
	if r := p.await(head.Address, id); r.RowsWritten != files*rowsOfFile {
		t.Errorf("result %+v", r)
	}
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))

	// A head that comes after everything was told runs none of it again.
	head.kill(t)
	restart(c)
	awaitTasks(t.Context(), t, c, run(1, ""))
	for _, dir := range []string{starts, ends} {
		if n := countFiles(t, dir); n != all+1 {
			t.Errorf("%d tasks ran, want %d", n, all+1)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if runs, err := os.ReadFile(filepath.Join(dir, entry.Name())); err != nil || len(runs) != 1 {
				t.Errorf("task %s ran %d times (%s): %v", entry.Name(), len(runs), filepath.Base(dir), err)
			}
		}
	}
}
