package testcluster_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
)

func TestTaskChain(t *testing.T) {
	cluster, _ := startTasks(t, testcluster.Options{Workers: 2})
	ctx, c := within(t), cluster.Client()
	value, err := client.Value(numbersFrom(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	last := c.Run(ctx, engine.Task{Operator: "add", Params: 1, Args: []engine.Arg{value}})
	for range 99 {
		last = c.Run(ctx, engine.Task{Operator: "add", Params: 1, Args: refs(last)})
	}
	wantSum(ctx, t, c, last.Ref(), 200)
	// An object that was put is an argument like an output.
	ref, err := c.Put(ctx, numbersFrom(0, 100_000))
	if err != nil {
		t.Fatal(err)
	}
	h := c.Run(ctx, engine.Task{Operator: "add", Params: 0, Args: []engine.Arg{engine.Ref(ref), value}})
	wantSum(ctx, t, c, h.Ref(), 99_999*100_000/2+100)
}

func TestTaskFanOutFanIn(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2})
	ctx, c := within(t), cluster.Client()
	const n = engine.MaxTaskArguments
	tasks := make([]engine.Task, n)
	for i := range tasks {
		tasks[i] = engine.Task{Operator: "add", Params: i}
	}
	handles := c.RunMany(ctx, tasks...)
	sum := c.Run(ctx, engine.Task{Operator: "add", Params: 0, Args: refs(handles...)})
	wantSum(ctx, t, c, sum.Ref(), (n-1)*n/2)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range handles {
		if s.runs[h.ID()] != 1 {
			t.Fatalf("task %s ran %d times", h.ID(), s.runs[h.ID()])
		}
	}
}

func TestTaskErrors(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 1, LeaseTime: time.Second})
	ctx, c := within(t), cluster.Client()
	users := c.Run(ctx, engine.Task{Operator: "fail"})
	if text := wantError(ctx, t, users, engine.KindData, 1); !strings.Contains(text, "the user's own reason") {
		t.Error(text)
	}
	child := c.Run(ctx, engine.Task{Operator: "add", Args: refs(users)})
	grandchild := c.Run(ctx, engine.Task{Operator: "add", Args: refs(child)})
	for _, h := range []*client.TaskHandle{child, grandchild} {
		if text := wantError(ctx, t, h, engine.KindData, 0); !strings.Contains(text, "the user's own reason") || !strings.Contains(text, users.ID().String()) {
			t.Errorf("the failure of an argument: %s", text)
		}
	}
	if _, err := c.Get(ctx, grandchild.Ref()); engine.KindOf(err) != engine.KindData {
		t.Errorf("get: %v", err)
	}
	device := engine.Task{Operator: "fail", Params: "unavailable"}
	device.MaxAttempts = 2
	if text := wantError(ctx, t, c.Run(ctx, device), engine.KindUnavailable, 2); !strings.Contains(text, "it went away") {
		t.Error(text)
	}
	once := c.Run(ctx, engine.Task{Operator: "fail", Params: "once"})
	wantSum(ctx, t, c, once.Ref(), 2)
	if text := wantError(ctx, t, c.Run(ctx, engine.Task{Operator: "ad"}), engine.KindNotFound, 0); !strings.Contains(text, "add") {
		t.Errorf("the nearest operator is not named: %s", text)
	}
	if text := wantError(ctx, t, c.Run(ctx, engine.Task{Operator: "add", Resources: engine.Resources{GPU: 1}}), engine.KindInvalidArgument, 0); !strings.Contains(text, "gpu: 1") {
		t.Errorf("what no node has is not named: %s", text)
	}
	unknown := engine.ObjectRef{ID: engine.NewTaskUID().Output(0)}
	wantError(ctx, t, c.Run(ctx, engine.Task{Operator: "add", Args: []engine.Arg{engine.Ref(unknown)}}), engine.KindNotFound, 0)
	timed := engine.Task{Operator: "wait", Params: 0}
	timed.Timeout = 20 * time.Millisecond
	wantError(ctx, t, c.Run(ctx, timed), engine.KindDeadline, 1)
	s.await(t, "the end of the attempt", func() bool { return s.ended == 1 && s.running == 0 })
	// The node has all that they held.
	whole := c.Run(ctx, engine.Task{Operator: "add", Params: 7, Resources: engine.Resources{CPU: 2}})
	wantSum(ctx, t, c, whole.Ref(), 7)
}

// What waits for nodes runs once there is one.
func TestTaskWaitsForNodes(t *testing.T) {
	cluster, _ := startTasks(t, testcluster.Options{})
	ctx, c := within(t), cluster.Client()
	task := engine.Task{Operator: "add", Params: 5}
	task.WaitForNodes = true
	h := c.Run(ctx, task)
	for {
		got, err := c.Task(ctx, h.ID())
		if err != nil && engine.KindOf(err) != engine.KindNotFound {
			t.Fatal(err)
		}
		if got.GetReason() != "" {
			break
		}
	}
	cluster.AddWorker()
	wantSum(ctx, t, c, h.Ref(), 5)
}

func TestTaskCancelWithChildren(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2})
	ctx, c := within(t), cluster.Client()
	parent := c.Run(ctx, engine.Task{Operator: "spawn", Params: 5})
	other := c.Run(ctx, engine.Task{Operator: "wait", Params: 100})
	s.awaitRunning(t, 6)
	parent.Cancel(client.CancelOptions{Children: true})
	wantError(ctx, t, parent, engine.KindCanceled, 1)
	s.await(t, "the end of the children", func() bool { return s.ended == 5 && s.running == 1 })
	if other.Ended() {
		t.Error("another task was cancelled too")
	}
	// One that waits is cancelled without having run, and so is what needs its output.
	blocked := c.Run(ctx, engine.Task{Operator: "add", Args: refs(other)})
	last := c.Run(ctx, engine.Task{Operator: "add", Args: refs(blocked)})
	blocked.Cancel(client.CancelOptions{})
	wantError(ctx, t, blocked, engine.KindCanceled, 0)
	wantError(ctx, t, last, engine.KindCanceled, 0)
	// By hand, as the command does it.
	if n, err := c.CancelTasks(ctx, client.CancelOptions{Force: true}, other.ID(), parent.ID()); err != nil || n != 1 {
		t.Errorf("%d cancelled, %v", n, err)
	}
	wantError(ctx, t, other, engine.KindCanceled, 1)
}

// Tasks of a worker that is lost run on another one; those that its client has the results of do not.
func TestTaskSurvivesWorker(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2, LeaseTime: time.Second})
	ctx, c := within(t), cluster.Client()
	done := c.RunMany(ctx, slices.Repeat([]engine.Task{{Operator: "add", Params: 1}}, 20)...)
	if _, _, err := c.WaitTasks(ctx, done, 0); err != nil {
		t.Fatal(err)
	}
	held := c.RunMany(ctx, slices.Repeat([]engine.Task{{Operator: "wait", Params: 1}}, 4)...)
	s.awaitRunning(t, 4)
	cluster.KillWorker(0)
	s.await(t, "the end of what the worker ran", func() bool { return s.ended == 2 })
	close(s.gate)
	if _, _, err := c.WaitTasks(ctx, held, 0); err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, h := range held {
		result, err := h.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if result.Attempts == 2 {
			again++
		}
		if result.Node != cluster.Worker(0).ID() {
			t.Errorf("it ran on %s", result.Node)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if again != 2 {
		t.Errorf("%d tasks ran again, want 2", again)
	}
	for _, h := range done {
		if s.runs[h.ID()] != 1 {
			t.Errorf("a task whose result was taken in ran %d times", s.runs[h.ID()])
		}
	}
}

// Tasks survive the head: what runs goes on and is not started again, what waited runs, and outputs are there.
func TestTaskSurvivesHead(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 1, CPU: 4, LeaseTime: time.Second})
	ctx, c := within(t), cluster.Client()
	first := c.Run(ctx, engine.Task{Operator: "add", Params: 3})
	if _, err := first.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	held := c.RunMany(ctx, slices.Repeat([]engine.Task{{Operator: "wait", Params: 1}}, 4)...)
	waits := c.Run(ctx, engine.Task{Operator: "add", Params: 4, Args: refs(append(held, first)...)})
	s.awaitRunning(t, 4)
	cluster.StopHead()
	close(s.gate)
	s.await(t, "the end of what runs", func() bool { return s.running == 0 })
	cluster.StartHead()
	wantSum(ctx, t, c, waits.Ref(), 4+4+3)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range append(held, first) {
		if s.runs[h.ID()] != 1 {
			t.Errorf("a task ran %d times", s.runs[h.ID()])
		}
	}
}

func TestTasksOfTwoClients(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 1})
	ctx, c := within(t), cluster.Client()
	other, err := client.Dial(ctx, cluster.Address())
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = other.Close()
		}
	}()
	mine, theirs := []*client.TaskHandle{}, []*client.TaskHandle{}
	for i := range 200 {
		mine = append(mine, c.Run(ctx, engine.Task{Operator: "add", Params: i}))
		theirs = append(theirs, other.Run(ctx, engine.Task{Operator: "add", Params: -i}))
	}
	// An output may be another client's argument before it exists.
	sum := c.Run(ctx, engine.Task{Operator: "add", Args: refs(slices.Concat(mine, theirs)...)})
	wantSum(ctx, t, c, sum.Ref(), 0)
	wantSum(ctx, t, other, sum.Ref(), 0)
	// Get waits for another client's task, and hears of its failure.
	slow := other.Run(ctx, engine.Task{Operator: "wait", Params: 8})
	s.awaitRunning(t, 1)
	got := make(chan error, 1)
	go func() { // ends with Get
		table, err := c.Get(ctx, slow.Ref())
		if err == nil {
			table.Release()
		}
		got <- err
	}()
	close(s.gate)
	if err := <-got; err != nil {
		t.Error(err)
	}
	bad := other.Run(ctx, engine.Task{Operator: "fail"})
	if _, err := bad.Wait(ctx); err == nil {
		t.Error("it did not fail")
	}
	if _, err := c.Get(ctx, bad.Ref()); engine.KindOf(err) != engine.KindData {
		t.Errorf("another client's failure: %v", err)
	}
	// A client's tasks end with it.
	s.change(func() { s.gate = make(chan struct{}) })
	endless := other.Run(ctx, engine.Task{Operator: "wait", Params: 9})
	s.awaitRunning(t, 1)
	closed = true
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	s.await(t, "the end of the task", func() bool { return s.ended == 1 })
	wantError(ctx, t, endless, engine.KindCanceled, 0)
}

// Large arguments and results travel by reference, from one worker's store to another's.
func TestTaskLargeArguments(t *testing.T) {
	cluster, _ := startTasks(t, testcluster.Options{Workers: 2})
	ctx, c := within(t), cluster.Client()
	const rows = 500_000
	on := func(worker int, task engine.Task) engine.Task {
		task.Node = cluster.Worker(worker).ID()
		return task
	}
	big := c.Run(ctx, on(0, engine.Task{Operator: "range", Params: rows}))
	far := c.Run(ctx, on(1, engine.Task{Operator: "add", Args: refs(big)}))
	wantSum(ctx, t, c, far.Ref(), (rows-1)*rows/2)
	for worker, h := range []*client.TaskHandle{big, far} {
		if result, err := h.Wait(ctx); err != nil || result.Node != cluster.Worker(worker).ID() {
			t.Errorf("got %v, %v", result, err)
		}
	}
	result, err := big.Wait(ctx)
	if err != nil || len(result.Outputs) != 1 || result.Outputs[0].Rows != rows || result.Outputs[0].Value != nil {
		t.Errorf("got %+v, %v", result, err)
	}
	// Without a wish of its own a task runs where its argument is.
	for worker := range 2 {
		made := c.Run(ctx, on(worker, engine.Task{Operator: "range", Params: rows}))
		reads := c.Run(ctx, engine.Task{Operator: "add", Args: refs(made)})
		if result, err := reads.Wait(ctx); err != nil || result.Node != cluster.Worker(worker).ID() {
			t.Errorf("the task of worker %d's object ran on %v, %v", worker, result, err)
		}
	}
}

// An output whose every copy is lost is computed again, with what it was made of.
func TestTaskRecomputes(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2, LeaseTime: time.Second})
	ctx, c := within(t), cluster.Client()
	victim := cluster.Worker(0).ID()
	task := func(operator string, params any, recompute bool, args ...engine.Arg) engine.Task {
		task := engine.Task{Operator: operator, Params: params, Args: args}
		task.Node, task.Soft, task.Recompute, task.InlineBytes = victim, true, recompute, -1
		return task
	}
	const rows = 100_000
	made := c.Run(ctx, task("range", rows, true))
	sum := c.Run(ctx, task("add", 1, true, refs(made)...))
	lost := c.Run(ctx, task("add", 1, false, refs(made)...))
	if _, _, err := c.WaitTasks(ctx, []*client.TaskHandle{made, sum, lost}, 0); err != nil {
		t.Fatal(err)
	}
	cluster.KillWorker(0)
	after := c.Run(ctx, engine.Task{Operator: "add", Params: 1, Args: refs(sum)})
	wantSum(ctx, t, c, after.Ref(), (rows-1)*rows/2+2)
	s.mu.Lock()
	if s.runs[made.ID()] != 2 || s.runs[sum.ID()] != 2 {
		t.Errorf("the producers ran %d and %d times", s.runs[made.ID()], s.runs[sum.ID()])
	}
	s.mu.Unlock()
	gone := c.Run(ctx, engine.Task{Operator: "add", Params: 1, Args: refs(lost)})
	if text := wantError(ctx, t, gone, engine.KindUnavailable, 0); !strings.Contains(text, lost.Ref().ID.String()) {
		t.Errorf("an argument that cannot be had: %s", text)
	}
}

// The more important of what waits begins first, and within one priority what came first.
func TestTaskPriorities(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 1, CPU: 1})
	ctx, c := within(t), cluster.Client()
	first := c.Run(ctx, engine.Task{Operator: "wait", Params: -1})
	s.awaitRunning(t, 1)
	handles := []*client.TaskHandle{first}
	for i := range 30 {
		task := engine.Task{Operator: "wait", Params: i}
		task.Priority = i % 3
		handles = append(handles, c.Run(ctx, task))
	}
	// All are there before the first may go.
	for {
		list, err := c.Tasks(ctx, client.TaskFilter{States: []engine.TaskState{engine.TaskPending}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if list.GetTotal() == 30 {
			break
		}
	}
	close(s.gate)
	if _, _, err := c.WaitTasks(ctx, handles, 0); err != nil {
		t.Fatal(err)
	}
	want := []int{-1}
	for priority := 2; priority >= 0; priority-- {
		for i := priority; i < 30; i += 3 {
			want = append(want, i)
		}
	}
	if !slices.Equal(s.order, want) {
		t.Errorf("they began in the order %v", s.order)
	}
}

// A node never runs more than it has.
func TestTaskResources(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2, CPU: 2})
	ctx, c := within(t), cluster.Client()
	half := engine.Task{Operator: "wait", Resources: engine.Resources{CPU: 0.5}}
	var handles []*client.TaskHandle
	for range 40 {
		handles = append(handles, c.Run(ctx, half))
	}
	s.awaitRunning(t, 8)
	// A task that takes nothing runs beside them; one that takes a core has to wait.
	none := c.Run(ctx, engine.Task{Operator: "add", Params: 1, NoResources: true})
	wantSum(ctx, t, c, none.Ref(), 1)
	nodes, err := c.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if used := node.GetUsed().GetCpu(); used != 2 {
			t.Errorf("node %s uses %v of 2 cores", node.GetNodeId(), used)
		}
	}
	close(s.gate)
	if _, _, err := c.WaitTasks(ctx, handles, 0); err != nil {
		t.Fatal(err)
	}
	if s.most != 8 {
		t.Errorf("%d ran at a time on 4 cores of halves", s.most)
	}
}

func TestPlacementGroups(t *testing.T) {
	cluster, s := startTasks(t, testcluster.Options{Workers: 2, CPU: 2})
	ctx, c := within(t), cluster.Client()
	group, err := c.CreatePlacementGroup(ctx, client.PlacementGroup{Bundles: []engine.Resources{{CPU: 1}, {CPU: 1}}, Strategy: engine.PlaceStrictSpread})
	if err != nil {
		t.Fatal(err)
	}
	placed, err := c.WaitPlacementGroup(ctx, group)
	if err != nil || len(placed.GetNodes()) != 2 || placed.GetNodes()[0] == placed.GetNodes()[1] {
		t.Fatalf("got %v, %v", placed, err)
	}
	for bundle := 1; bundle <= 2; bundle++ {
		task := engine.Task{Operator: "add", Params: 1}
		task.Group, task.Bundle = group, bundle
		result, err := c.Run(ctx, task).Wait(ctx)
		if err != nil || string(result.Node) != placed.GetNodes()[bundle-1] {
			t.Errorf("bundle %d: %v, %v", bundle, result, err)
		}
	}
	// The bundles are taken: what is left of each node is one core.
	full, err := c.CreatePlacementGroup(ctx, client.PlacementGroup{Bundles: []engine.Resources{{CPU: 2}}, Strategy: engine.PlaceStrictPack})
	if err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := c.WaitPlacementGroup(waiting, full); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a group that does not fit: %v", err)
	}
	uses := engine.Task{Operator: "wait"}
	uses.Group = group
	h := c.Run(ctx, uses)
	s.awaitRunning(t, 1)
	if err := c.RemovePlacementGroup(ctx, group); err != nil {
		t.Fatal(err)
	}
	wantError(ctx, t, h, engine.KindCanceled, 1)
	if _, err := c.WaitPlacementGroup(ctx, full); err != nil {
		t.Error(err)
	}
}
