package dispatch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// add adds a job with so many tasks.
func (b *bench) add(id engine.JobID, spec *enginev1.JobSpec, request engine.Resources, tasks int) {
	plan := &enginev1.Plan{}
	for range tasks {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{})
	}
	b.core.AddJob(b.now, dispatch.Job{ID: id, Spec: spec, Plan: plan, Request: request, MaxAttempts: 2})
	b.take()
}

// of counts the tasks of a job that a worker holds.
func (w *fakeWorker) of(id engine.JobID) (n int) {
	for task := range w.held {
		if task.Job == id {
			n++
		}
	}
	return n
}

func (b *bench) reason(id engine.JobID) string {
	view, _ := b.core.Job(id)
	return view.Reason
}

var oneCore = engine.Resources{CPU: 1}

func TestEqualJobsShareEvenly(t *testing.T) {
	b := newBench(t, 1)
	for _, id := range []engine.JobID{"a", "b", "c"} {
		b.add(id, &enginev1.JobSpec{}, oneCore, 100)
	}
	w := b.worker("w", 6)
	for round := range 10 {
		for _, id := range []engine.JobID{"a", "b", "c"} {
			if n := w.of(id); n != 2 {
				t.Fatalf("round %d: job %s has %d of 6 cores, expected 2", round, id, n)
			}
		}
		for id := range w.held {
			w.finish(id, nil)
		}
		b.report(w)
		b.commitAll()
		b.hear(w)
	}
}

func TestPriorityGoesFirst(t *testing.T) {
	b := newBench(t, 1)
	b.add("low", &enginev1.JobSpec{}, oneCore, 10)
	b.add("high", &enginev1.JobSpec{Priority: 1}, oneCore, 3)
	w := b.worker("w", 4)
	if low, high := w.of("low"), w.of("high"); low != 1 || high != 3 {
		t.Fatalf("of 4 cores the job of low priority has %d and that of high priority %d, expected 1 and 3", low, high)
	}
}

func TestNodeLabels(t *testing.T) {
	b := newBench(t, 1)
	b.add("j", &enginev1.JobSpec{Placement: &enginev1.Placement{NodeLabels: map[string]string{"zone": "b"}}}, oneCore, 4)
	w := b.worker("w", 4)
	if n := w.of("j"); n != 0 {
		t.Fatalf("%d tasks on a node without the label", n)
	}
	if reason := b.reason("j"); !strings.Contains(reason, "zone") {
		t.Fatalf("the reason is %q, expected it to name the label", reason)
	}
}

func TestQuota(t *testing.T) {
	b := newBench(t, 1)
	cpu := 2.0
	check(t, b.core.SetQueues(b.now, []*enginev1.Queue{{Name: "etl", Quota: &enginev1.Resources{Cpu: &cpu}}}))
	b.add("first", &enginev1.JobSpec{Queue: "etl"}, oneCore, 10)
	w := b.worker("w", 4)
	if n := w.of("first"); n != 2 {
		t.Fatalf("%d tasks of a queue with a quota of 2 cores", n)
	}
	b.add("second", &enginev1.JobSpec{Queue: "etl", Priority: -1}, oneCore, 1)
	if reason := b.reason("second"); !strings.Contains(reason, "quota") || !strings.Contains(reason, "etl") {
		t.Fatalf("the reason is %q, expected the queue's quota", reason)
	}
	views := b.core.Queues()
	if len(views) != 2 || views[1].Queue.GetName() != "etl" || views[1].Used.CPU != 2 || views[1].Running != 2 || views[1].Pending != 9 || views[1].Jobs != 2 || views[1].Share != 0.5 {
		t.Fatalf("queues are %+v", views)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A queue that holds everything gives back what another one is due, at no cost in attempts, and the room counts as taken until the worker
// has let go.
func TestPreemption(t *testing.T) {
	b := newBench(t, 1)
	b.add("greedy", &enginev1.JobSpec{Queue: "a"}, oneCore, 8)
	w := b.worker("w", 4)
	b.add("late", &enginev1.JobSpec{Queue: "b"}, oneCore, 8)
	b.pass(2 * time.Second)
	answer := b.hear(w)
	taken := len(answer.GetRevocations())
	if taken == 0 || taken > 2 {
		t.Fatalf("%d tasks were taken back, expected 1 or 2", taken)
	}
	for range 10 {
		if used := b.core.Nodes()[0].Used.CPU; used > 4 {
			t.Fatalf("%v of 4 cores are used", used)
		}
		b.report(w)
		b.pass(time.Second)
		b.hear(w)
	}
	if greedy, late := w.of("greedy"), w.of("late"); greedy != 2 || late != 2 {
		t.Fatalf("the queues hold %d and %d cores, expected 2 each", greedy, late)
	}
	if view, _ := b.core.Job("greedy"); view.Lost != 0 {
		t.Fatalf("%d attempts were lost by being taken back", view.Lost)
	}
	if len(b.events.Failed) != 0 {
		t.Fatalf("failed are %v", b.events.Failed)
	}
}

func TestRoomOfStoppedJobIsFreeOnceItsWorkerLetsGo(t *testing.T) {
	b := newBench(t, 1)
	b.add("stopped", &enginev1.JobSpec{}, oneCore, 4)
	w := b.worker("w", 4)
	b.report(w)
	b.core.RemoveJob(b.now, "stopped")
	b.add("next", &enginev1.JobSpec{}, oneCore, 4)
	if answer := b.core.Answer(b.now, w.id, w.session); len(answer.GetGrants()) != 0 || len(answer.GetRevocations()) != 4 {
		t.Fatalf("grants %v and revocations %v in one answer", answer.GetGrants(), answer.GetRevocations())
	} else {
		w.acknowledged = answer.GetSequence()
	}
	b.report(w) // It has heard, and its attempts are still about to end.
	if n := w.of("next"); n != 0 {
		t.Fatalf("%d tasks were granted room that others still have", n)
	}
	clear(w.held)
	b.report(w)
	if n := w.of("next"); n != 4 {
		t.Fatalf("%d tasks were granted after the worker had let go, expected 4", n)
	}
}

func TestDrainedNodeGetsNothingNewAndLeaves(t *testing.T) {
	b := newBench(t, 1)
	b.add("j", &enginev1.JobSpec{}, oneCore, 10)
	w := b.worker("w", 1)
	b.report(w)
	b.core.Drain(b.now, "w", b.now.Add(time.Minute), "new kernel")
	answer := b.hear(w)
	if d := answer.GetDrain(); d.GetWithinMillis() != 60_000 || d.GetReason() != "new kernel" {
		t.Fatalf("the drain is %v", d)
	}
	if b.core.Nodes()[0].State != enginev1.NodeState_NODE_STATE_DRAINING {
		t.Fatalf("the node is %v", b.core.Nodes()[0].State)
	}
	known := func() bool {
		known := false
		for _, id := range b.core.Take().DrainsKnown {
			known = known || id == "w"
		}
		return known
	}
	w.sequence++
	check(t, b.core.Report(b.now, w.id, w.session, &enginev1.SyncRequest{
		Sequence: w.sequence, AcknowledgedSequence: w.acknowledged, Held: []*enginev1.HeldLease{{Lease: ref(engine.TaskID{Job: "j"}, w.held[engine.TaskID{Job: "j"}])}},
	}))
	if !known() {
		t.Fatal("the node has acknowledged the order, and it is not said")
	}
	// A new stream, as after a restart of the worker's connection, carries it again.
	b.core.Disconnect(w.id, w.session)
	b.connect(w)
	for id := range w.held {
		w.finish(id, nil)
	}
	b.report(w)
	b.commitAll()
	if b.hear(w); len(w.held) != 0 {
		t.Fatalf("a node that drains was granted %v", w.held)
	}
	w.sequence++
	check(t, b.core.Report(b.now, w.id, w.session, &enginev1.SyncRequest{Sequence: w.sequence, Goodbye: true, Draining: true}))
	if left := b.core.Take().Drained; len(left) != 1 || left[0] != "w" {
		t.Fatalf("drained are %v", left)
	}
	// Under the same id it is a node as others.
	b.connect(w)
	if len(w.held) != 1 {
		t.Fatalf("a node that came back after its drain has %d tasks", len(w.held))
	}
}

func TestHangingTaskIsNamed(t *testing.T) {
	b := newBench(t, 1)
	b.add("j", &enginev1.JobSpec{}, oneCore, 2)
	w := b.worker("w", 2)
	tell := func(rows ...int64) {
		w.sequence++
		report := &enginev1.SyncRequest{Sequence: w.sequence, AcknowledgedSequence: w.acknowledged}
		for i, n := range rows {
			id := engine.TaskID{Job: "j", Index: i}
			report.Held = append(report.Held, &enginev1.HeldLease{Lease: ref(id, w.held[id]), Counts: &enginev1.TaskCounts{RowsRead: n}})
		}
		check(t, b.core.Report(b.now, w.id, w.session, report))
		b.hear(w)
	}
	tell(5, 0)
	for range 70 {
		b.pass(time.Second)
		tell(5, 0)
	}
	view, _ := b.core.Job("j")
	if len(view.Hanging) != 1 || view.Hanging[0].Index != 0 || view.Hanging[0].Node != "w" || view.Hanging[0].Quiet < time.Minute {
		t.Fatalf("hanging are %+v, expected task 0, which has got on once", view.Hanging)
	}
	found, total := b.core.ListTasks(&enginev1.ListTasksRequest{JobId: "j"}, func(string) bool { return true }, 1)
	if total != 2 || len(found) != 1 || !found[0].GetHanging() || found[0].GetNodeId() != "w" {
		t.Fatalf("%d tasks, of which %v", total, found)
	}
	tell(6, 0)
	if view, _ := b.core.Job("j"); len(view.Hanging) != 0 {
		t.Fatalf("hanging are %+v after it got on", view.Hanging)
	}
}

func TestTasksGoWhereTheirInputIs(t *testing.T) {
	b := newBench(t, 1)
	x, y := b.worker("x", 4), b.worker("y", 4)
	plan := &enginev1.Plan{}
	for range 6 {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{})
	}
	b.core.AddJob(b.now, dispatch.Job{
		ID: "j", Spec: &enginev1.JobSpec{}, Plan: plan, Request: oneCore, MaxAttempts: 1,
		Holders: func(task int) []engine.NodeID {
			if task >= 3 {
				return []engine.NodeID{"y", "x"}
			}
			return nil
		},
	})
	b.take()
	b.report(x)
	b.report(y)
	for i := 3; i < 6; i++ {
		if _, ok := y.held[engine.TaskID{Job: "j", Index: i}]; !ok {
			t.Errorf("task %d is not on the node that holds its input", i)
		}
	}
	if n := len(x.held) + len(y.held); n != 6 {
		t.Fatalf("%d of 6 tasks are placed", n)
	}
}

func TestWeightsCountOnceANode(t *testing.T) {
	b := newBench(t, 1)
	w := &fakeWorker{id: "w", cpu: 8, held: map[engine.TaskID]uint64{}, results: map[engine.TaskID]*enginev1.TaskResult{}}
	hello := b.hello(w)
	hello.Total.Memory = "1000"
	session, err := b.core.Connect(b.now, hello)
	check(t, err)
	w.session = session
	b.workers["w"] = w
	b.report(w)
	plan := &enginev1.Plan{Models: []*enginev1.ModelPin{{Digest: "sha256:m", SizeBytes: 600}}}
	for range 8 {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{})
	}
	b.core.AddJob(b.now, dispatch.Job{ID: "j", Spec: &enginev1.JobSpec{}, Plan: plan, Request: engine.Resources{CPU: 1, MemoryBytes: 100}, MaxAttempts: 1})
	b.take()
	b.report(w)
	if n := len(w.held); n != 4 {
		t.Fatalf("%d tasks of 100 bytes beside 600 bytes of weights on a node of 1000, expected 4", n)
	}
	if used := b.core.Nodes()[0].Used.MemoryBytes; used != 1000 {
		t.Fatalf("%d bytes are used, expected 1000", used)
	}
	b.core.RemoveJob(b.now, "j")
	b.hear(w)
	b.report(w)
	if used := b.core.Nodes()[0].Used; used.MemoryBytes != 0 || used.CPU != 0 {
		t.Fatalf("%+v is used by nothing", used)
	}
}

func TestSummaries(t *testing.T) {
	b := newBench(t, 1)
	b.add("j", &enginev1.JobSpec{Name: "wine"}, oneCore, 3)
	w := b.worker("w", 1)
	w.finish(task(0), nil)
	b.report(w)
	states := b.core.Counts().States
	if _, unset := states[enginev1.TaskState_TASK_STATE_UNSPECIFIED]; unset || states[enginev1.TaskState_TASK_STATE_PENDING] != 1 ||
		states[enginev1.TaskState_TASK_STATE_RUNNING] != 2 {
		t.Fatalf("states are %v, expected 1 that waits and 2 that run, one of which is to be committed", states)
	}
	b.commitAll()
	b.hear(w)
	b.core.RemoveJob(b.now, "j")
	b.add("k", &enginev1.JobSpec{Name: "wine"}, engine.Resources{CPU: 9}, 1)
	sums := b.core.Summaries()
	if len(sums) != 1 || sums[0].GetName() != "wine" || fmt.Sprint(sums[0].GetStates()) != "map[CANCELLED:2 PENDING:1 SUCCEEDED:1]" || sums[0].GetReason() == "" {
		t.Fatalf("summaries are %v", sums)
	}
}
