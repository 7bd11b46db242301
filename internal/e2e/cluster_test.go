package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	headArgs   = "--head --port 0 --web-port 0 --num-cpus 0 --data-dir head"
	files      = 40
	rowsOfFile = 10_000
)

func (p *place) startHead() *nodeProcess { return p.start(strings.Fields(headArgs)...) }

func (p *place) startWorker(head *nodeProcess, name string) *nodeProcess {
	return p.start("--address", head.Address, "--num-cpus", "1", "--data-dir", name)
}

// wantedRows scores the same data with `engine run`, which is the reference for what a cluster must write.
func (p *place) wantedRows() []string {
	p.t.Helper()
	p.must("run", p.wineJob("reference.yaml", "reference", "error"))
	return readRows(p.t, p.path("reference"))
}

var errEnough = errors.New("seen enough")

// untilTasksDone waits until a job has done so many tasks.
func untilTasksDone(t *testing.T, address, id string, tasks int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = c.Job(id).Watch(ctx, func(job *enginev1.Job) error {
		if job.GetProgress().GetTasksDone() >= tasks {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

func (p *place) submit(address, job string, args ...string) string {
	p.t.Helper()
	return strings.TrimSpace(p.must(append([]string{"submit", job, "--address", address}, args...)...).stdout)
}

func (p *place) await(address, id string) result {
	p.t.Helper()
	return parseResult(p.t, p.must("job", "wait", id, "--address", address, "-o", "json").stdout)
}

// noLeftovers checks that an output folder holds parts and _SUCCESS and nothing else that a crash could have left.
func noLeftovers(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "_SUCCESS" && name != "_engine" && !strings.HasPrefix(name, "part-") {
			t.Errorf("%s stays behind in %s", name, dir)
		}
	}
	// What jobs have read is kept, for --only-new; so are the notes of parts. Claims and drafts are not.
	kept, err := os.ReadDir(filepath.Join(dir, "_engine"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, entry := range kept {
		if name := entry.Name(); !strings.HasPrefix(name, "inputs-") && !strings.HasPrefix(name, "part-") || !strings.HasSuffix(name, ".json") {
			t.Errorf("%s stays behind in %s/_engine", name, dir)
		}
	}
	if !exists(filepath.Join(dir, "_SUCCESS")) {
		t.Errorf("%s has no _SUCCESS", dir)
	}
}

func TestWorkerKilledInMidJob(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	head := p.startHead()
	first, _ := p.startWorker(head, "w1"), p.startWorker(head, "w2")
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "error"))
	untilTasksDone(t, head.Address, id, 3)
	first.kill(t)
	r := p.await(head.Address, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	if r.RowsRead != files*rowsOfFile || r.RowsWritten != files*rowsOfFile || r.Batches != files*rowsOfFile/1000 || len(r.Outputs) != files {
		t.Fatalf("result %+v", r)
	}
	if log := p.must("job", "logs", id, "--address", head.Address).stdout; !strings.Contains(log, "worker lost") {
		t.Errorf("the job's log does not say that a worker was lost:\n%s", log)
	}
}

func TestHeadKilledInMidJob(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	head := p.startHead()
	p.startWorker(head, "w1")
	p.startWorker(head, "w2")
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "overwrite"))
	port := head.Address[strings.LastIndex(head.Address, ":")+1:]
	for round := range int64(3) {
		untilTasksDone(t, head.Address, id, 4*(round+1))
		head.kill(t)
		head = p.start("--head", "--port", port, "--web-port", "0", "--num-cpus", "0", "--data-dir", "head")
	}
	r := p.await(head.Address, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	if r.RowsWritten != files*rowsOfFile {
		t.Fatalf("result %+v", r)
	}
}

// saysWorkerLost reports whether a job's log says that a worker was lost, with its tasks' leases.
func (p *place) saysWorkerLost(head *nodeProcess, id string) bool {
	p.t.Helper()
	return strings.Contains(p.must("job", "logs", id, "--address", head.Address).stdout, "worker lost")
}

func TestStoppedWorkerIsFenced(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	head := p.startHead()
	frozen := p.startWorker(head, "w1")
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "error"))
	untilTasksDone(t, head.Address, id, 1)
	frozen.signal(t, syscall.SIGSTOP)
	p.startWorker(head, "w2")
	untilTasksDone(t, head.Address, id, files-1)
	eventually(t, "the end of the lease", func() bool { return p.saysWorkerLost(head, id) })
	frozen.signal(t, syscall.SIGCONT) // It comes back with a lease that has passed on.
	p.await(head.Address, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	c := dial(t, head.Address)
	eventually(t, "the worker's return", func() bool {
		nodes, err := c.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return aliveNodes(nodes) == 2
	})
}

// TestEmbeddedRunKilledAnywhere kills `engine run` at random instants and lets the same submission id go on, until it ends by itself.
// At every instant a plain reader sees whole rows once; in the end all of them.
func TestEmbeddedRunKilledAnywhere(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's randomness.
	for _, mode := range []string{"error", "overwrite", "append"} {
		t.Run(mode, func(t *testing.T) {
			out := "out-" + mode
			job := p.wineJob("job-"+mode+".yaml", out, mode)
			for round := 0; ; round++ {
				if round > 200 {
					t.Fatal("the run never ends by itself")
				}
				// Later rounds get more time, so that it comes to an end.
				limit := time.Duration(20+random.IntN(60+20*round)) * time.Millisecond
				if p.runFor(limit, "run", job, "--submission-id", "run-"+mode) {
					break
				}
				seen := map[string]bool{}
				for _, row := range readRows(t, p.path(out)) {
					if seen[row] {
						t.Fatalf("round %d: a reader sees row %q twice", round, row)
					}
					seen[row] = true
				}
			}
			equalRows(t, readRows(t, p.path(out)), want)
			noLeftovers(t, p.path(out))
		})
	}
}

// runFor runs the program and kills it after a time; it reports whether it had ended before, which must be with success.
func (p *place) runFor(limit time.Duration, args ...string) bool {
	p.t.Helper()
	command := p.command(args...)
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			p.t.Fatalf("engine %v: %v", args, err)
		}
		return true
	case <-timer.C:
		if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.t.Fatal(err)
		}
		if err := <-ended; err == nil {
			return true // It was faster.
		}
		return false
	}
}

func TestStopLeavesNothingBehind(t *testing.T) {
	p := newPlace(t)
	p.must("start", "--head", "--port", "0", "--web-port", "0", "--data-dir", "head", "-o", "json")
	if status := p.engine("stop", "--data-dir", "head"); status.code != 0 {
		t.Fatalf("stop: exit code %d\n%s", status.code, status.stderr)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		if text, err := os.ReadFile(process); err == nil && strings.Contains(string(text), p.binary) {
			t.Errorf("%s still runs: %q", filepath.Dir(process), text)
		}
	}
	if again := p.engine("stop", "--data-dir", "head"); again.code != 0 {
		t.Errorf("stopping what does not run: exit code %d\n%s", again.code, again.stderr)
	}
}

// TestNoTelemetry sees that ONNX Runtime, whose official builds report to their vendor, leaves no trace that it did: it keeps a device id
// and a database of events in the cache folder. In CI it would keep still by itself.
func TestNoTelemetry(t *testing.T) {
	p := newPlace(t)
	p.env = slices.DeleteFunc(p.env, func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "CI" || strings.HasPrefix(name, "ORT_") || strings.HasPrefix(name, "GITHUB_") || name == "TF_BUILD"
	})
	p.env = append(p.env, "HOME="+p.path("home"))
	p.wineFiles(1, 10)
	p.must("run", p.wineJob("job.yaml", "out", "error"))
	for _, dir := range []string{p.path("cache"), p.path("home")} {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if strings.Contains(path, "Microsoft") || strings.Contains(path, "onnxruntime") {
				t.Errorf("%s was made", path)
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStatusAndLists(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(2, 1000)
	head := p.startHead()
	p.startWorker(head, "w1")
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "error"), "--wait")
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"status"}, []string{"ALIVE", "1 succeeded"}},
		{[]string{"job", "list"}, []string{id, "wine", "SUCCEEDED"}},
		{[]string{"job", "status", id}, []string{id, "SUCCEEDED", "2000"}},
		{[]string{"job", "logs", id}, []string{"job accepted", "job planned", "task finished", "job succeeded"}},
		{[]string{"job", "show", id, "-o", "yaml"}, []string{"delimiter: ;", "output: prediction"}},
		{[]string{"list", "nodes"}, []string{"ALIVE"}},
	} {
		o := p.must(append(test.args, "--address", head.Address)...)
		for _, want := range test.want {
			if !strings.Contains(strings.ReplaceAll(o.stdout, ",", ""), want) && !strings.Contains(o.stdout, want) {
				t.Errorf("engine %s lacks %q:\n%s", strings.Join(test.args, " "), want, o.stdout)
			}
		}
	}
	// What show prints can be submitted again as it is.
	again := p.write("again.yaml", p.must("job", "show", id, "-o", "yaml", "--address", head.Address).stdout)
	if o := p.engine("submit", again, "--wait", "--address", head.Address); o.code != 5 {
		t.Fatalf("the same output folder with mode error: exit code %d, want 5\n%s", o.code, o.stderr)
	}
	p.must("submit", again, "--wait", "--address", head.Address, "--set", "sink.parquet.path="+p.path("other"))
	equalRows(t, readRows(t, p.path("other")), readRows(t, p.path("out")))
	if unreachable := p.engine("status", "--address", "127.0.0.1:1"); unreachable.code != 4 {
		t.Errorf("head that cannot be reached: exit code %d, want 4\n%s", unreachable.code, unreachable.stderr)
	}
	if unknown := p.engine("job", "status", "nobody", "--address", head.Address); unknown.code != 1 || !strings.Contains(unknown.stderr, "nobody") {
		t.Errorf("unknown job: exit code %d, want 1\n%s", unknown.code, unknown.stderr)
	}
	if fmt.Sprint(head.Pid) == "0" || head.Web == "" || head.DataDir == "" {
		t.Errorf("start printed %+v", head)
	}
}
