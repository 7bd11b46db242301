package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// newTaskWorld is a client and a head that runs tasks.
func newTaskWorld(t testing.TB) (*world, *fakeTasks) {
	t.Helper()
	head := newFakeHead()
	tasks := newFakeTasks(head)
	return newWorld(t, head), tasks
}

var noop = engine.Task{Operator: "noop"}

// held makes run hold all tasks of an operator "hold".
func held(s submission) *enginev1.TaskOutcome {
	if s.template.GetOperator() == "hold" {
		return nil
	}
	return succeeded(s.GetTaskId())
}

func wait(t *testing.T, h *client.TaskHandle) *client.TaskResult {
	t.Helper()
	result, err := h.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// stream is a table of one number as a stream.
func stream(t testing.TB, n int64) []byte {
	t.Helper()
	record := numbers(t, n, 1)
	encoding, err := table.Encode(record.Schema(), record)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	return data
}

func TestRun(t *testing.T) {
	w, tasks := newTaskWorld(t)
	value := stream(t, 3)
	tasks.run = func(s submission) *enginev1.TaskOutcome { return succeeded(s.GetTaskId(), value) }
	h := w.Run(t.Context(), noop)
	result := wait(t, h)
	if result.State != engine.TaskSucceeded || result.Node != "node-a" || result.Attempts != 1 || result.RunTime != 5 || !result.Started.Equal(time.Unix(0, 1)) ||
		len(result.Outputs) != 1 || string(result.Outputs[0].Value) != string(value) || result.Outputs[0].Rows != 1 {
		t.Errorf("got %+v", result)
	}
	if !h.Ended() || h.Ref().Cluster != testCluster || h.Ref().ID != h.ID().Output(0) {
		t.Errorf("ended %v, ref %v", h.Ended(), h.Ref())
	}
	<-h.Done()
	// The acknowledgement needs nothing else to be sent.
	tasks.await(t, "the acknowledgement", func() bool { return tasks.acknowledged[h.ID()] == 1 })
	got, err := w.Get(t.Context(), h.Ref())
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, numbers(t, 3, 1))
	if n := tasks.head.count("get"); n != 0 {
		t.Errorf("the head was asked %d times for what the outcome had", n)
	}
}

func TestRunMany(t *testing.T) {
	w, tasks := newTaskWorld(t)
	const n = 10_000
	all := make([]engine.Task, n)
	for i := range all {
		all[i] = noop
	}
	handles := w.RunMany(t.Context(), all...)
	ended, pending, err := w.WaitTasks(t.Context(), handles, 0)
	if err != nil || len(ended) != n || len(pending) != 0 {
		t.Fatalf("%d ended, %d pending, %v", len(ended), len(pending), err)
	}
	tasks.await(t, "acknowledgements", func() bool { return len(tasks.acknowledged) == n })
	for i, task := range tasks.known {
		if engine.TaskUID(task.GetTaskId()) != handles[i].ID() {
			t.Fatalf("task %d came out of order", i)
		}
	}
	if tasks.messages > n/10 {
		t.Errorf("%d messages for %d tasks", tasks.messages, n)
	}
}

func TestTemplates(t *testing.T) {
	w, tasks := newTaskWorld(t)
	full := engine.Task{
		Operator: "infer", Params: map[string]any{"model": "m"}, Resources: engine.Resources{CPU: 0.5, GPU: 1, MemoryBytes: 1 << 20, Custom: map[string]float64{"a": 1, "b": 2}},
		TaskOptions: engine.TaskOptions{
			Name: "n", Queue: "q", Priority: -3, MaxAttempts: 1, Timeout: time.Second, HangAfter: time.Minute, NodeLabels: map[string]string{"zone": "a"},
			Node: "node-a", Soft: true, Spread: true, Group: engine.PlacementGroupID{1}, Bundle: 2, Outputs: 3, Recompute: true, WaitForNodes: true,
			InlineBytes: -1, Checkpoint: "/x",
		},
	}
	again := full
	again.Params = map[string]any{"model": "m"}
	again.Resources.Custom = map[string]float64{"b": 2, "a": 1}
	anyBundle := full
	anyBundle.Bundle = 0
	handles := []*client.TaskHandle{w.Run(t.Context(), full)}
	// Maps are the caller's again once Run has returned.
	full.Resources.Custom["a"], full.NodeLabels["zone"] = 100, "b"
	full.Resources.Custom["a"], full.NodeLabels["zone"] = 1, "a"
	for _, task := range []engine.Task{
		noop, again, anyBundle, {Operator: "noop", NoResources: true}, {Operator: "noop", Params: []byte("{}")}, {Operator: "noop", Params: struct{}{}},
	} {
		handles = append(handles, w.Run(t.Context(), task))
	}
	if _, _, err := w.WaitTasks(t.Context(), handles, 0); err != nil {
		t.Fatal(err)
	}
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	want := `number:1 operator:"infer" params:"{\"model\":\"m\"}" name:"n" resources:{cpu:0.5 gpu:1 memory:"1048576" custom:{key:"a" value:1} custom:{key:"b" value:2}} queue:"q" priority:-3 max_attempts:1 timeout:{seconds:1} hang_after:{seconds:60} placement:{node_labels:{key:"zone" value:"a"} node_id:"node-a" soft:true spread:true placement_group_id:"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" bundle:1} outputs:3 recompute:true wait_for_nodes:true inline_bytes:-1 checkpoint:"/x"`
	if got := strings.Join(strings.Fields(tasks.known[0].template.String()), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var numbers []uint32
	for _, task := range tasks.known {
		numbers = append(numbers, task.GetTemplate())
	}
	if want := []uint32{1, 2, 1, 3, 4, 5, 5}; !slices.Equal(numbers, want) {
		t.Errorf("templates %v, want %v", numbers, want)
	}
	if bundle := tasks.known[3].template.GetPlacement().GetBundle(); bundle != -1 {
		t.Errorf("any bundle is %d", bundle)
	}
	if r := tasks.known[1].template.GetResources(); r != nil {
		t.Errorf("resources by default: %v", r)
	}
	if r := tasks.known[4].template.GetResources(); r == nil || r.Cpu == nil || r.GetCpu() != 0 {
		t.Errorf("no resources: %v", r)
	}
}

// A program whose tasks all have parameters of their own does not fill the head with templates.
func TestTemplatesRetire(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	keeps := w.Run(t.Context(), engine.Task{Operator: "hold"})
	const n = 2_000
	for i := range n {
		wait(t, w.Run(t.Context(), engine.Task{Operator: "noop", Params: i}))
	}
	tasks.mu.Lock()
	retired := len(tasks.retired)
	if left := n - retired; left > 2*256 || tasks.retired[1] {
		t.Errorf("%d of %d templates are kept; that of a task that runs was dropped: %v", left, n, tasks.retired[1])
	}
	tasks.mu.Unlock()
	keeps.Cancel(client.CancelOptions{})
	<-keeps.Done()
}

func TestRunBadInput(t *testing.T) {
	w, tasks := newTaskWorld(t)
	huge := make([]engine.Arg, engine.MaxTaskArguments+1)
	for i, test := range []struct {
		task engine.Task
		want string
	}{
		{engine.Task{}, "names no operator"},
		{engine.Task{Operator: "o", Params: make(chan int)}, "written as JSON"},
		{engine.Task{Operator: "o", Params: make([]byte, engine.MaxTaskParamsBytes+1)}, "at most 1MiB"},
		{engine.Task{Operator: "o", Args: huge}, "1001 arguments, at most 1000"},
		{engine.Task{Operator: "o", Args: []engine.Arg{{}}}, "argument 0 is neither"},
		{engine.Task{Operator: "o", Args: []engine.Arg{engine.Value(make([]byte, engine.MaxInlineObjectBytes+1))}}, "Put it"},
		{engine.Task{Operator: "o", Args: []engine.Arg{engine.Ref(engine.ObjectRef{ID: engine.NewObjectID(), Cluster: "elsewhere"})}}, "belongs to cluster elsewhere"},
		{engine.Task{Operator: "o", Resources: engine.Resources{CPU: -1}}, "cpu must be between"},
		{engine.Task{Operator: "o", Resources: engine.Resources{CPU: 1}, NoResources: true}, "says NoResources"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Timeout: -1}}, "negative"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Priority: 1 << 40}}, "priority of"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{MaxAttempts: -1}}, "attempts of -1"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Outputs: engine.MaxTaskOutputs + 1}}, "outputs of 1001"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{InlineBytes: engine.MaxInlineObjectBytes + 1}}, "inline outputs of"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Soft: true}}, "Soft without"},
		{engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Bundle: 1}}, "without a placement group"},
	} {
		h := w.Run(t.Context(), test.task)
		result, err := h.Wait(t.Context())
		if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), test.want) || result.State != engine.TaskFailed {
			t.Errorf("%d: %v", i, err)
		}
		// Whoever needs its output hears the same.
		_, getErr := w.Get(t.Context(), h.Ref())
		_, childErr := w.Run(t.Context(), engine.Task{Operator: "o", Args: []engine.Arg{engine.Ref(h.Ref())}}).Wait(t.Context())
		for _, err := range []error{getErr, childErr} {
			if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d: %v", i, err)
			}
		}
	}
	wait(t, w.Run(t.Context(), noop))
	if len(tasks.known) != 1 {
		t.Errorf("the head heard of %d tasks", len(tasks.known))
	}
}

func TestArguments(t *testing.T) {
	w, tasks := newTaskWorld(t)
	value, err := client.Value(numbers(t, 5, 2))
	if err != nil {
		t.Fatal(err)
	}
	ref := engine.ObjectRef{ID: engine.NewObjectID(), Cluster: testCluster}
	first := w.Run(t.Context(), engine.Task{Operator: "o", Args: []engine.Arg{value, engine.Ref(ref)}})
	args := []engine.Arg{engine.Ref(first.Ref())}
	second := w.Run(t.Context(), engine.Task{Operator: "o", Args: args})
	args[0] = engine.Arg{}
	wait(t, first)
	wait(t, second)
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	got := tasks.known[0].GetArguments()
	if len(got) != 2 || string(got[0].GetValue()) != string(value.Value) || got[0].GetObjectId() != nil || engine.ObjectID(got[1].GetObjectId()) != ref.ID || got[1].GetValue() != nil {
		t.Errorf("got %v", got)
	}
	if got := tasks.known[1].GetArguments(); len(got) != 1 || engine.ObjectID(got[0].GetObjectId()) != first.ID().Output(0) {
		t.Errorf("got %v", got)
	}
	for name, err := range map[string]error{
		"none": func() error { _, err := client.Value(); return err }(),
		"nil":  func() error { _, err := client.Value(nil); return err }(),
		"big":  func() error { _, err := client.Value(large(t)); return err }(),
	} {
		if engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTaskFails(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = func(s submission) *enginev1.TaskOutcome {
		switch s.template.GetOperator() {
		case "fails":
			return failed(s.GetTaskId(), engine.KindData, "row 3 is bad")
		case "odd":
			return &enginev1.TaskOutcome{TaskId: s.GetTaskId(), State: enginev1.TaskState_TASK_STATE_FAILED}
		}
		return succeeded(s.GetTaskId())
	}
	h := w.Run(t.Context(), engine.Task{Operator: "fails"})
	result, err := h.Wait(t.Context())
	if engine.KindOf(err) != engine.KindData || !strings.Contains(err.Error(), "row 3 is bad") || result.State != engine.TaskFailed || result.Attempts != 1 {
		t.Errorf("got %+v, %v", result, err)
	}
	if _, err := w.Get(t.Context(), h.Ref()); engine.KindOf(err) != engine.KindData {
		t.Errorf("get: %v", err)
	}
	if _, err := w.Run(t.Context(), engine.Task{Operator: "odd"}).Wait(t.Context()); engine.KindOf(err) != engine.KindInternal {
		t.Errorf("a failure without a reason: %v", err)
	}
	none := w.Run(t.Context(), noop)
	wait(t, none)
	if _, err := w.Get(t.Context(), none.Ref()); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an output that was not made: %v", err)
	}
}

// Get waits for a task that runs; and for the head's directory if the outcome was faster.
func TestGetWaits(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	value := stream(t, 9)
	slow := w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 1)
	got := make(chan *client.Table, 1)
	go func() {
		table, err := w.Get(context.Background(), slow.Ref())
		if err != nil {
			t.Error(err)
		}
		got <- table
	}()
	id := slow.ID()
	tasks.finish(succeeded(id[:], value))
	wantTable(t, <-got, numbers(t, 9, 1))

	large := w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 2)
	id = large.ID()
	tasks.head.mu.Lock()
	tasks.head.learns[large.Ref().ID] = true
	tasks.head.data[large.Ref().ID] = value
	tasks.head.mu.Unlock()
	outcome := succeeded(id[:])
	outcome.Outputs = []*enginev1.TaskOutput{{SizeBytes: int64(len(value))}}
	tasks.finish(outcome)
	table, err := w.Get(t.Context(), large.Ref())
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, table, numbers(t, 9, 1))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Get(ctx, w.Run(t.Context(), engine.Task{Operator: "hold"}).Ref()); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("got %v", err)
	}
}

// Of another client's task the head knows how it stands.
func TestGetOfAnotherClientsTask(t *testing.T) {
	w, tasks := newTaskWorld(t)
	good, bad, unknown := engine.NewTaskUID(), engine.NewTaskUID(), engine.NewTaskUID()
	tasks.head.learns[good.Output(0)] = true
	tasks.head.data[good.Output(0)] = stream(t, 4)
	tasks.tasks[good] = &enginev1.Task{State: enginev1.TaskState_TASK_STATE_RUNNING}
	tasks.tasks[bad] = &enginev1.Task{State: enginev1.TaskState_TASK_STATE_FAILED, Error: &enginev1.Error{Kind: "model", Message: "broken"}}
	table, err := w.Get(t.Context(), engine.ObjectRef{ID: good.Output(0)})
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, table, numbers(t, 4, 1))
	if _, err := w.Get(t.Context(), engine.ObjectRef{ID: bad.Output(0)}); engine.KindOf(err) != engine.KindModel {
		t.Errorf("a failed one: %v", err)
	}
	if _, err := w.Get(t.Context(), engine.ObjectRef{ID: unknown.Output(0)}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestWaitTasks(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	var handles []*client.TaskHandle
	for range 3 {
		handles = append(handles, w.Run(t.Context(), engine.Task{Operator: "hold"}), w.Run(t.Context(), noop))
	}
	ended, pending, err := w.WaitTasks(t.Context(), handles, 3)
	if err != nil || !slices.Equal(ended, []*client.TaskHandle{handles[1], handles[3], handles[5]}) || !slices.Equal(pending, []*client.TaskHandle{handles[0], handles[2], handles[4]}) {
		t.Errorf("ended %v, pending %v, %v", ended, pending, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	ended, pending, err = w.WaitTasks(ctx, handles, 4)
	if !errors.Is(err, context.DeadlineExceeded) || len(ended) != 3 || len(pending) != 3 {
		t.Errorf("ended %v, pending %v, %v", ended, pending, err)
	}
	id := handles[2].ID()
	tasks.finish(succeeded(id[:]))
	if ended, _, err = w.WaitTasks(t.Context(), handles, 4); err != nil || !slices.Contains(ended, handles[2]) {
		t.Errorf("ended %v, %v", ended, err)
	}
	if ended, pending, err = w.WaitTasks(t.Context(), nil, 0); err != nil || len(ended)+len(pending) != 0 {
		t.Errorf("none: %v", err)
	}
	if _, _, err := w.WaitTasks(t.Context(), handles, 7); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("more than there are: %v", err)
	}
	other, _ := newTaskWorld(t)
	if _, _, err := other.WaitTasks(t.Context(), handles, 1); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("another client's: %v", err)
	}
}

func TestCancel(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	parent := engine.NewTaskUID()
	h := w.Run(engine.WithTask(t.Context(), parent), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 1)
	if string(tasks.known[0].GetParentTaskId()) != string(parent[:]) {
		t.Errorf("the parent is %x", tasks.known[0].GetParentTaskId())
	}
	h.Cancel(client.CancelOptions{Children: true, Force: true})
	result, err := h.Wait(t.Context())
	if engine.KindOf(err) != engine.KindCanceled || result.State != engine.TaskCancelled {
		t.Errorf("got %+v, %v", result, err)
	}
	if c := tasks.cancelled[h.ID()]; !c.GetChildren() || !c.GetForce() {
		t.Errorf("got %v", c)
	}
	h.Cancel(client.CancelOptions{}) // of no effect
	done := w.Run(t.Context(), noop)
	wait(t, done)
	done.Cancel(client.CancelOptions{})
	if !done.Ended() || tasks.cancelled[done.ID()] != nil {
		t.Error("a task that has ended was cancelled")
	}
}

func TestWindow(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.window, tasks.run = 10, held
	wait(t, w.Run(t.Context(), noop)) // so that the window is known
	var handles []*client.TaskHandle
	for range 10 {
		handles = append(handles, w.Run(t.Context(), engine.Task{Operator: "hold"}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := w.Run(ctx, noop).Wait(t.Context()); engine.KindOf(err) != engine.KindDeadline || !strings.Contains(err.Error(), "waits for room") {
		t.Errorf("got %v", err)
	}
	ran := make(chan *client.TaskHandle)
	go func() { ran <- w.Run(context.Background(), noop) }()
	tasks.awaitKnown(t, 11)
	id := handles[0].ID()
	tasks.finish(succeeded(id[:]))
	wait(t, <-ran)
}

// A queue that is full takes its tasks later; others go on.
func TestRefusals(t *testing.T) {
	for _, n := range []int{100, 25_000} { // 25,000 are more than are offered again at a time
		t.Run(fmt.Sprint(n), func(t *testing.T) { testRefusals(t, n) })
	}
}

// The head hears of the end of a task that it has refused: others may wait for its outputs.
func TestCancelRefused(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.refuse = func(s submission) *enginev1.TaskRefusal {
		if s.template.GetQueue() != "full" {
			return nil
		}
		return &enginev1.TaskRefusal{TaskId: s.GetTaskId(), Error: &enginev1.Error{Kind: "exhausted"}, RetryAfterMillis: time.Minute.Milliseconds()}
	}
	h := w.Run(t.Context(), engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Queue: "full"}})
	wait(t, w.Run(t.Context(), noop)) // The refusal came before its outcome.
	h.Cancel(client.CancelOptions{Children: true})
	if _, err := h.Wait(t.Context()); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("got %v", err)
	}
	tasks.await(t, "the cancellation", func() bool { return tasks.cancelled[h.ID()].GetChildren() })
}

func testRefusals(t *testing.T, n int) {
	w, tasks := newTaskWorld(t)
	full := true
	refused := 0
	tasks.refuse = func(s submission) *enginev1.TaskRefusal {
		if s.template.GetQueue() != "full" || !full {
			return nil
		}
		refused++
		return &enginev1.TaskRefusal{TaskId: s.GetTaskId(), Error: &enginev1.Error{Kind: "exhausted"}, RetryAfterMillis: 5}
	}
	var handles []*client.TaskHandle
	for range n {
		handles = append(handles, w.Run(t.Context(), engine.Task{Operator: "o", TaskOptions: engine.TaskOptions{Queue: "full"}}))
	}
	wait(t, w.Run(t.Context(), noop))
	tasks.await(t, "refusals", func() bool { return refused >= n+200 })
	gone := handles[3]
	gone.Cancel(client.CancelOptions{})
	if _, err := gone.Wait(t.Context()); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("one that is cancelled: %v", err)
	}
	tasks.mu.Lock()
	full = false
	tasks.mu.Unlock()
	handles = slices.Delete(handles, 3, 4)
	if _, _, err := w.WaitTasks(t.Context(), handles, 0); err != nil {
		t.Fatal(err)
	}
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	if slices.ContainsFunc(tasks.known, func(s submission) bool { return s.GetAgain() }) {
		t.Error("a task that was refused counts as one that a worker may have")
	}
	order := slices.DeleteFunc(slices.Clone(tasks.known), func(s submission) bool {
		return s.template.GetQueue() != "full" || engine.TaskUID(s.GetTaskId()) == gone.ID()
	})
	if len(order) != len(handles) {
		t.Errorf("%d tasks were taken, want %d", len(order), len(handles))
	}
	// Of several messages, one may be refused and the next one taken.
	for i, task := range order[:min(len(order), 100)] {
		if n == 100 && engine.TaskUID(task.GetTaskId()) != handles[i].ID() {
			t.Fatalf("task %d came out of order", i)
		}
	}
}

func TestStreamBreaks(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	wait(t, w.Run(t.Context(), noop))
	var handles []*client.TaskHandle
	for i := range 100 {
		handles = append(handles, w.Run(t.Context(), engine.Task{Operator: "hold", Params: i % 3}))
	}
	tasks.awaitKnown(t, 101)
	tasks.mu.Lock()
	clear(tasks.has) // another head, which knows nothing
	tasks.known = nil
	tasks.mu.Unlock()
	tasks.breakStream(engine.Errorf(engine.KindUnavailable, "run tasks", "", "the head stops"))
	tasks.awaitKnown(t, 100)
	for i, task := range tasks.known {
		if engine.TaskUID(task.GetTaskId()) != handles[i].ID() || string(task.template.GetParams()) != fmt.Sprint(i%3) || !task.GetAgain() {
			t.Fatalf("task %d is %v", i, task)
		}
	}
	for _, h := range handles[:50] {
		id := h.ID()
		tasks.finish(succeeded(id[:]))
	}
	if _, _, err := w.WaitTasks(t.Context(), handles[:50], 0); err != nil {
		t.Fatal(err)
	}
	tasks.await(t, "acknowledgements", func() bool { return len(tasks.acknowledged) == 51 })
	// An outcome whose acknowledgement was lost comes again and is acknowledged again.
	tasks.mu.Lock()
	id := handles[0].ID()
	tasks.ended[id] = succeeded(id[:])
	streams := tasks.streams
	tasks.mu.Unlock()
	tasks.breakStream(nil)
	tasks.await(t, "another acknowledgement", func() bool { return tasks.streams == streams+1 && tasks.acknowledged[id] == 2 })
	// What is cancelled while no stream is open is cancelled on the next one.
	tasks.mu.Lock()
	tasks.err = engine.Errorf(engine.KindUnavailable, "run tasks", "", "not yet")
	tasks.mu.Unlock()
	tasks.breakStream(nil)
	tasks.await(t, "a try", func() bool { return tasks.streams > streams+1 })
	handles[99].Cancel(client.CancelOptions{Force: true})
	tasks.mu.Lock()
	tasks.err = nil
	tasks.mu.Unlock()
	<-handles[99].Done()
	if !tasks.cancelled[handles[99].ID()].GetForce() {
		t.Error("it was not cancelled as it was asked for")
	}
}

// A head that takes streams and ends them at once is tried ever less often.
func TestStreamIsExhausted(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	wait(t, w.Run(t.Context(), noop))
	w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.await(t, "a submission", func() bool { return tasks.messages == 2 })
	began := time.Now()
	for n := range 5 {
		tasks.breakStream(engine.Errorf(engine.KindExhausted, "run tasks", "", "too many streams"))
		tasks.await(t, "another submission", func() bool { return tasks.messages == 3+n })
	}
	// Half of 50, 100, 200, 400, and 800 ms is the least.
	if took := time.Since(began); took < 775*time.Millisecond {
		t.Errorf("the head was tried five times within %s", took)
	}
}

// What is to be sent is a queue whose array does not keep what was sent.
func TestEndedTasksAreNotKept(t *testing.T) {
	w, _ := newTaskWorld(t)
	ended := func() weak.Pointer[client.TaskHandle] {
		h := w.Run(t.Context(), noop)
		wait(t, h)
		return weak.Make(h)
	}()
	for until := time.Now().Add(2 * time.Minute); ended.Value() != nil; runtime.GC() {
		if time.Now().After(until) {
			t.Fatal("a task that has ended is kept")
		}
	}
}

func TestNoHead(t *testing.T) {
	w, tasks := newTaskWorld(t)
	away := engine.Errorf(engine.KindUnavailable, "call", "", "nobody is there")
	tasks.head.err = away
	h := w.Run(t.Context(), noop)
	if _, err := h.Wait(t.Context()); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("got %v", err)
	}
	tasks.head.mu.Lock()
	tasks.head.err = nil
	tasks.head.mu.Unlock()
	tasks.mu.Lock()
	tasks.err = away
	tasks.mu.Unlock()
	if _, err := w.Run(t.Context(), noop).Wait(t.Context()); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("got %v", err)
	}
	tasks.mu.Lock()
	tasks.err = nil
	tasks.mu.Unlock()
	wait(t, w.Run(t.Context(), noop))
	// A head that will never take the tasks ends them.
	tasks.mu.Lock()
	tasks.run, tasks.err = held, engine.Errorf(engine.KindPermission, "run tasks", "", "not you")
	tasks.mu.Unlock()
	h = w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 2)
	tasks.breakStream(nil)
	if _, err := h.Wait(t.Context()); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("got %v", err)
	}
	if _, err := w.Run(t.Context(), noop).Wait(t.Context()); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("got %v", err)
	}
}

// Tasks of a session that has ended have ended; the next ones run in another.
func TestSessionEnds(t *testing.T) {
	head := newFakeHead()
	head.lease = 30 * time.Millisecond
	tasks := newFakeTasks(head)
	w := newWorld(t, head)
	tasks.run = held
	h := w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 1)
	session := w.SessionID()
	head.mu.Lock()
	head.ended[session] = true
	head.mu.Unlock()
	tasks.breakStream(engine.Errorf(engine.KindFenced, "run tasks", session, "the session has ended"))
	if _, err := h.Wait(t.Context()); engine.KindOf(err) != engine.KindFenced || !strings.Contains(err.Error(), "session has ended") {
		t.Errorf("got %v", err)
	}
	wait(t, w.Run(t.Context(), noop))
	if w.SessionID() == session {
		t.Error("the session goes on")
	}
}

func TestCloseEndsTasks(t *testing.T) {
	w, tasks := newTaskWorld(t)
	tasks.run = held
	h := w.Run(t.Context(), engine.Task{Operator: "hold"})
	tasks.awaitKnown(t, 1)
	w.close()
	if _, err := h.Wait(t.Context()); engine.KindOf(err) != engine.KindCanceled || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	if _, err := w.Run(t.Context(), noop).Wait(t.Context()); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("got %v", err)
	}
}

func TestTaskCalls(t *testing.T) {
	w, tasks := newTaskWorld(t)
	id := engine.NewTaskUID()
	list, err := w.Tasks(t.Context(), client.TaskFilter{States: []engine.TaskState{engine.TaskRunning}, Name: "n", Node: "a", Job: "j"}, 5)
	if err != nil || list.GetTotal() != 7 {
		t.Errorf("got %v, %v", list, err)
	}
	if n, err := w.CancelTasks(t.Context(), client.CancelOptions{Children: true}, id, id); err != nil || n != 2 {
		t.Errorf("got %v, %v", n, err)
	}
	if s, err := w.TaskSummaries(t.Context()); err != nil || len(s) != 1 {
		t.Errorf("got %v, %v", s, err)
	}
	group, err := w.CreatePlacementGroup(t.Context(), client.PlacementGroup{
		Name: "g", Bundles: []engine.Resources{{CPU: 1}, {GPU: 1}}, Strategy: engine.PlaceStrictSpread, Queue: "q", NodeLabels: map[string]string{"a": "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if placed, err := w.WaitPlacementGroup(t.Context(), group); err != nil || placed.GetNodes()[0] != "node-a" {
		t.Errorf("got %v, %v", placed, err)
	}
	// A head that restarts while a group is waited for is waited for, one that is away at first is not.
	away := engine.Errorf(engine.KindUnavailable, "call", "", "nobody is there")
	tasks.waitErrs = []error{away, away}
	if placed, err := w.WaitPlacementGroup(t.Context(), group); err != nil || placed.GetNodes()[0] != "node-a" {
		t.Errorf("got %v, %v", placed, err)
	}
	tasks.listErr = away
	if _, err := w.WaitPlacementGroup(t.Context(), group); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("got %v", err)
	}
	tasks.listErr = nil
	if groups, err := w.PlacementGroups(t.Context()); err != nil || len(groups) != 1 {
		t.Errorf("got %v, %v", groups, err)
	}
	if err := w.RemovePlacementGroup(t.Context(), group); err != nil {
		t.Error(err)
	}
	var calls []string
	for _, call := range tasks.calls {
		calls = append(calls, strings.Join(strings.Fields(fmt.Sprint(call)), " "))
	}
	got := strings.NewReplacer(fmt.Sprintf("%q", ""), "").Replace(strings.Join(calls, "\n"))
	for _, want := range []string{
		`states:TASK_STATE_RUNNING name:"n" node_id:"a" job_id:"j" limit:5`, "children:true", `name:"g" bundles:{cpu:1} bundles:{cpu:0 gpu:1} strategy:PLACEMENT_STRATEGY_STRICT_SPREAD queue:"q" node_labels:{key:"a" value:"b"}`,
		`session_id:"` + w.SessionID() + `"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("calls %s\nlack %s", got, want)
		}
	}
	for _, bad := range []client.PlacementGroup{
		{}, {Bundles: []engine.Resources{{CPU: -1}}}, {Bundles: []engine.Resources{{CPU: 1}}, Strategy: "SOMEHOW"}, {Bundles: []engine.Resources{{CPU: 1}}, Strategy: "UNSPECIFIED"},
		{Bundles: make([]engine.Resources, 1_001)},
	} {
		if _, err := w.CreatePlacementGroup(t.Context(), bad); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// What is remembered of tasks that have ended is bounded.
func TestRecentIsBounded(t *testing.T) {
	w, tasks := newTaskWorld(t)
	value := stream(t, 1)
	tasks.run = func(s submission) *enginev1.TaskOutcome { return succeeded(s.GetTaskId(), value) }
	all := make([]engine.Task, 12_000)
	for i := range all {
		all[i] = noop
	}
	handles := w.RunMany(t.Context(), all...)
	if _, _, err := w.WaitTasks(t.Context(), handles, 0); err != nil {
		t.Fatal(err)
	}
	if n := w.RecentTasks(); n != 10_000 {
		t.Errorf("%d tasks are remembered", n)
	}
	if _, err := w.Get(t.Context(), handles[len(handles)-1].Ref()); err != nil {
		t.Error(err)
	}
	if _, err := w.Get(t.Context(), handles[0].Ref()); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an old one: %v", err)
	}
}

// seedOf prints a seed.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	id := engine.NewObjectID()
	seed := binary.LittleEndian.Uint64(id[:])
	t.Logf("seed %d", seed)
	return seed
}
