package dispatch_test

import (
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestFullStoresGetNoMoreOutputs sees that jobs whose output is objects pass by a node whose store is full, that others use it, and that
// it is used again when there is room.
func TestFullStoresGetNoMoreOutputs(t *testing.T) {
	full := map[engine.NodeID]bool{}
	b := newBench(t, 1)
	b.core = dispatch.NewCore(dispatch.Config{
		ClusterID: "c1", Term: 1, LeaseTime: leaseTime, FailInfeasible: true, Full: func(id engine.NodeID) bool { return full[id] },
	})
	add := func(id engine.JobID, sink *enginev1.Sink, tasks int) {
		plan := &enginev1.Plan{}
		for range tasks {
			plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{})
		}
		b.core.AddJob(b.now, dispatch.Job{ID: id, Spec: &enginev1.JobSpec{Sink: sink}, Plan: plan, Request: engine.Resources{CPU: 1}, MaxAttempts: 1})
		b.take()
	}
	held := func(w *fakeWorker, id engine.JobID) (n int) {
		for task := range w.held {
			if task.Job == id {
				n++
			}
		}
		return n
	}
	first, second := b.worker("a", 4), b.worker("b", 4)
	full["a"] = true
	add("storing", &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}}, 10)
	add("reading", &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{}}}, 2)
	b.report(first)
	b.report(second)
	if n := held(first, "storing"); n != 0 {
		t.Errorf("%d tasks with object output on a node whose store is full", n)
	}
	if n := held(second, "storing"); n != 4 {
		t.Errorf("%d tasks with object output on the other node, expected 4", n)
	}
	if n := held(first, "reading"); n != 2 {
		t.Errorf("%d other tasks on the node whose store is full, expected 2", n)
	}
	full["b"] = true
	add("late", &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}}, 1)
	if view, _ := b.core.Job("late"); !strings.Contains(view.Reason, "object stores of 2 nodes are full") {
		t.Errorf("the reason is %q", view.Reason)
	}
	if len(b.events.Failed) != 0 {
		t.Errorf("failed are %v", b.events.Failed)
	}
	clear(full)
	b.pass(2 * time.Second)
	b.report(first)
	if n := held(first, "storing") + held(first, "late"); n != 2 {
		t.Errorf("%d tasks with object output on a node that has room for 2 again", n)
	}
}

// TestGroupIsUsedAlthoughStoresAreFull places a group while jobs wait for room in stores: the task that waits for its bundle follows with
// the next tick.
func TestGroupIsUsedAlthoughStoresAreFull(t *testing.T) {
	b := newBench(t, 1)
	b.core = dispatch.NewCore(dispatch.Config{
		ClusterID: "c1", Term: 1, LeaseTime: leaseTime, Started: start, Full: func(engine.NodeID) bool { return true },
	})
	w := b.worker("a", 4)
	b.add("j", &enginev1.JobSpec{}, engine.Resources{CPU: 4}, 1)
	b.add("storing", &enginev1.JobSpec{Sink: &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}}}, oneCore, 3)
	b.report(w)
	const session = "0123456789abcdef0123456789abcdef"
	group, member, cpu := engine.NewPlacementGroupID(), engine.NewTaskUID(), 4.0
	check(t, b.core.CreateGroup(b.now, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: group[:], SessionId: session, Bundles: []*enginev1.Resources{{Cpu: &cpu}},
	}))
	stream, _ := b.core.OpenTasks(b.now, session)
	check(t, b.core.SubmitTasks(b.now, session, stream, &enginev1.RunTasksRequest{
		Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Placement: &enginev1.TaskPlacement{PlacementGroupId: group[:]}}},
		Tasks:     []*enginev1.TaskSubmission{{TaskId: member[:], Template: 1}},
	}))
	if _, placed, err := b.core.Group(group); err != nil || placed {
		t.Fatalf("the group is placed: %v, %v; expected that the job's task holds its room", placed, err)
	}
	w.finish(task(0), nil)
	check(t, b.tell(w))
	if _, placed, err := b.core.Group(group); err != nil || !placed {
		t.Fatalf("the group is placed: %v, %v; expected that it is", placed, err)
	}
	b.pass(20 * time.Millisecond)
	if _, running := b.core.Tasks(); running != 1 {
		t.Fatalf("%d tasks run, expected the one of the group", running)
	}
}
