package e2e_test

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/head/state/raftlog"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// residentMemory is what /proc says of a process's memory, or "unknown".
func residentMemory(pid int) string {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

func TestTasksThatAreRefused(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	head := p.startHead()
	p.startWorker(head, "w1")
	c := dial(t, head.Address)
	for _, test := range []struct {
		name string
		task engine.Task
		kind engine.Kind
		want []string
	}{
		{"nothing is wrong", engine.Task{Operator: "noop"}, 0, nil},
		{"no operator", engine.Task{}, engine.KindInvalidArgument, []string{"operator"}},
		{"unknown operator", engine.Task{Operator: "noob"}, engine.KindNotFound, []string{`"noob"`, `"noop"`}},
		{"negative resources", engine.Task{Operator: "noop", Resources: engine.Resources{CPU: -1}}, engine.KindInvalidArgument, []string{"cpu", "-1"}},
		{"absurd resources", engine.Task{Operator: "noop", Resources: engine.Resources{MemoryBytes: 1 << 60}}, engine.KindInvalidArgument, []string{"memory", "1PiB"}},
		{"more than any node has", engine.Task{Operator: "noop", Resources: engine.Resources{CPU: 64}}, engine.KindInvalidArgument, []string{"cpu: 64"}},
		{"a label that no node has", engine.Task{Operator: "noop", TaskOptions: engine.TaskOptions{NodeLabels: map[string]string{"zone": "a"}}}, engine.KindInvalidArgument, []string{"zone"}},
		{"an argument that does not exist", engine.Task{Operator: "echo", Args: []engine.Arg{engine.Ref(engine.ObjectRef{ID: engine.NewObjectID()})}}, engine.KindNotFound, nil},
		{"too large parameters", engine.Task{Operator: "noop", Params: make([]byte, engine.MaxTaskParamsBytes+1)}, engine.KindInvalidArgument, []string{"1MiB"}},
		{"too many arguments", engine.Task{Operator: "echo", Args: make([]engine.Arg, engine.MaxTaskArguments+1)}, engine.KindInvalidArgument, []string{"1000"}},
		{"too many outputs", engine.Task{Operator: "noop", TaskOptions: engine.TaskOptions{Outputs: engine.MaxTaskOutputs + 1}}, engine.KindInvalidArgument, []string{"1000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := c.Run(ctx, test.task).Wait(ctx)
			if r == nil {
				t.Fatalf("the task never ended: %v", err)
			}
			t.Logf("%v", err)
			if test.want == nil && test.kind == 0 {
				if err != nil || r.State != engine.TaskSucceeded {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if engine.KindOf(err) != test.kind || r.State != engine.TaskFailed {
				t.Fatalf("%s with an error of kind %v, want %s and %v: %v", r.State, engine.KindOf(err), engine.TaskFailed, test.kind, err)
			}
			for _, want := range test.want {
				if !strings.Contains(strings.ReplaceAll(err.Error(), ",", ""), want) {
					t.Errorf("the message lacks %q: %v", want, err)
				}
			}
		})
	}
}

// TestTasksThatWaitForNodes has tasks that no node can run yet, more than their queue may hold. The head says why they wait and refuses the
// rest for now; when a node comes that is large enough all of them run, without the program's help.
func TestTasksThatWaitForNodes(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	head := p.startHead()
	p.startWorker(head, "w1")
	const (
		limit = 100
		n     = 5_000
	)
	p.must("queue", "set", "short", "--max-pending", strconv.Itoa(limit), "--address", head.Address)
	c, other := dial(t, head.Address), dial(t, head.Address)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	task := engine.Task{Operator: "noop", Resources: engine.Resources{CPU: 64}, TaskOptions: engine.TaskOptions{Queue: "short", WaitForNodes: true}}
	t.Logf("head before: %s", residentMemory(head.Pid))
	handles := make([]*client.TaskHandle, n)
	for i := range handles {
		handles[i] = c.Run(ctx, task)
	}
	pending := func() int64 {
		queues, err := other.Queues(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queues {
			if q.GetQueue().GetName() == "short" {
				return q.GetTasksPending()
			}
		}
		return 0
	}
	eventually(t, "a full queue", func() bool { return pending() == limit })
	t.Logf("head with a full queue: %s", residentMemory(head.Pid))
	list, err := other.Tasks(ctx, client.TaskFilter{States: []engine.TaskState{engine.TaskPending}}, 1)
	if err != nil || len(list.GetTasks()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	waiting := list.GetTasks()[0]
	if reason := waiting.GetReason(); !strings.Contains(reason, "cpu: 64") || waiting.GetState() != enginev1.TaskState_TASK_STATE_PENDING {
		t.Errorf("a task is %v because %q, want the reason to name cpu: 64", waiting.GetState(), reason)
	}
	if o := p.must("list", "tasks", "--state", "PENDING", "--limit", "1", "--address", head.Address); !strings.Contains(o.stdout, "cpu: 64") {
		t.Errorf("engine list tasks does not say why a task waits:\n%s", o.stdout)
	}
	if ended, _, err := c.WaitTasks(canceled(ctx), handles, 0); len(ended) != 0 || err == nil {
		t.Fatalf("%d tasks have ended, of which none can have run: %v", len(ended), err)
	}
	if got := pending(); got != limit {
		t.Errorf("%d tasks wait at the head, want %d", got, limit)
	}
	p.start("--address", head.Address, "--num-cpus", "64", "--data-dir", "w2")
	begun := time.Now()
	awaitTasks(ctx, t, c, handles)
	t.Logf("%d tasks through a queue of %d: %v, head: %s", n, limit, time.Since(begun).Round(time.Millisecond), residentMemory(head.Pid))
}

// canceled returns a context that has ended.
func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func TestFoldersAndSubmissionsThatAreRefused(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(1, 10)
	head := p.startHead()
	refused := func(code int, want []string, args ...string) {
		t.Helper()
		o := p.engine(args...)
		if o.code != code {
			t.Errorf("engine %s: exit code %d, want %d\n%s", strings.Join(args, " "), o.code, code, o.stderr)
		}
		for _, text := range want {
			if !strings.Contains(o.stderr, text) {
				t.Errorf("engine %s: the message lacks %q:\n%s", strings.Join(args, " "), text, o.stderr)
			}
		}
	}
	job := p.wineJob("job.yaml", "out", "error")
	id := p.submit(head.Address, job, "--submission-id", "once")
	if again := p.submit(head.Address, job, "--submission-id", "once"); again != id {
		t.Errorf("the same submission made the jobs %s and %s", id, again)
	}
	refused(5, []string{"once"}, "submit", p.wineJob("other.yaml", "other", "error"), "--submission-id", "once", "--address", head.Address)
	for _, cpu := range []string{"-1", "1e9", ".nan"} {
		text, err := os.ReadFile(job) //nolint:gosec // The test's own.
		if err != nil {
			t.Fatal(err)
		}
		refused(2, []string{"cpu"}, "submit", p.write("absurd.yaml", string(text)+"resources: {cpu: "+cpu+"}\n"), "--address", head.Address)
	}
	start := []string{"start", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", "head"}
	refused(5, []string{"uses it", strconv.Itoa(head.Pid)}, start...)
	p.must("stop", "--data-dir", "head")
	_ = head.command.Wait()
	t.Run("another version", func(t *testing.T) {
		log := p.path("head", raftlog.FileName)
		content, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		other := bytes.Replace(content, []byte("engine-head-log 2"), []byte("engine-head-log 9"), 1)
		if err := os.WriteFile(log, other, 0o600); err != nil || bytes.Equal(content, other) {
			t.Fatalf("%s does not say its version: %v", log, err)
		}
		refused(1, []string{log, "version"}, append(start, "--block")...)
		if err := os.WriteFile(log, content, 0o600); err != nil {
			t.Fatal(err)
		}
		again := p.startHead()
		p.must("job", "status", id, "--address", again.Address)
	})
}
