package main

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// fakeTasks is the TaskService of a fakeHead.
type fakeTasks struct {
	enginev1.UnimplementedTaskServiceServer
	head *fakeHead

	tasks     []*enginev1.Task
	total     int64
	summaries []*enginev1.TaskSummary
	ended     int64
}

func (f *fakeTasks) GetTask(_ context.Context, r *enginev1.GetTaskRequest) (*enginev1.GetTaskResponse, error) {
	if _, err := f.head.called("get task " + hex.EncodeToString(r.GetTaskId())); err != nil {
		return nil, err
	}
	for _, task := range f.tasks {
		if string(task.GetTaskId()) == string(r.GetTaskId()) {
			return &enginev1.GetTaskResponse{Task: task}, nil
		}
	}
	return nil, engine.Errorf(engine.KindNotFound, "get task", hex.EncodeToString(r.GetTaskId()), "no such task")
}

func (f *fakeTasks) ListTasks(_ context.Context, r *enginev1.ListTasksRequest) (*enginev1.ListTasksResponse, error) {
	_, err := f.head.called("list tasks " + strings.Join(strings.Fields(r.String()), " "))
	return &enginev1.ListTasksResponse{Tasks: f.tasks, Total: f.total}, err
}

func (f *fakeTasks) SummarizeTasks(context.Context, *enginev1.SummarizeTasksRequest) (*enginev1.SummarizeTasksResponse, error) {
	_, err := f.head.called("summarize tasks")
	return &enginev1.SummarizeTasksResponse{Summaries: f.summaries}, err
}

func (f *fakeTasks) CancelTasks(_ context.Context, r *enginev1.CancelTasksRequest) (*enginev1.CancelTasksResponse, error) {
	_, err := f.head.called("cancel tasks " + strings.Join(strings.Fields(r.GetTasks()[0].String()), " "))
	return &enginev1.CancelTasksResponse{Cancelled: int64(len(r.GetTasks())) - f.ended}, err
}

const (
	testTask   = "000102030405060708090a0b0c0d0000"
	testParent = "0f0102030405060708090a0b0c0d0000"
)

func taskID(t *testing.T, text string) []byte {
	t.Helper()
	id, err := engine.ParseTaskUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id[:]
}

func newTaskHead(t *testing.T) *fakeHead {
	t.Helper()
	cpu := 0.5
	at := func(ago time.Duration) *timestamppb.Timestamp { return timestamppb.New(testNow.Add(-ago)) }
	head := &fakeHead{}
	head.tasks = &fakeTasks{head: head, total: 3, tasks: []*enginev1.Task{
		{
			TaskId: taskID(t, testTask), Name: "score", Operator: "infer", State: enginev1.TaskState_TASK_STATE_RUNNING, Queue: "etl",
			Resources: &enginev1.Resources{Cpu: &cpu, Memory: "1048576"}, NodeId: testNode, Attempts: 2, SubmitTime: at(time.Minute), StartTime: at(50 * time.Second),
			SessionId: "5e551000000000000000000000000000", ParentTaskId: taskID(t, testParent), Hanging: true, Done: 3, Total: 10,
		},
		{
			TaskId: taskID(t, testParent), Operator: "driver", State: enginev1.TaskState_TASK_STATE_FAILED, Queue: "default", NodeId: testNode, Attempts: 1,
			SubmitTime: at(time.Hour), StartTime: at(time.Hour), EndTime: at(59 * time.Minute),
			Error: &enginev1.Error{Kind: "data", Operation: "run task", Id: "x", Message: "row 3 is bad\nsecond line", Hint: "repair it"},
		},
		{JobId: testJob, Index: 4, Name: "wine", State: enginev1.TaskState_TASK_STATE_PENDING, Reason: "needs gpu: 1, no node has it", SubmitTime: at(time.Second)},
	}}
	return head
}

func TestListTasks(t *testing.T) {
	head := newTaskHead(t)
	c := newConsole(t, head)
	c.run(t, 0, "list", "tasks", "--state", "running,PENDING", "--name", "score", "--node", testNode, "--job", testJob, "--limit", "5")
	c.wantOut(t, `┌──────────────────────────────────┬────────┬─────────┬──────────────┬──────────┬───────┬───────┬──────────────────────────────┐
│ TASK                             │ NAME   │ STATE   │ NODE         │ ATTEMPTS │   RAN │   AGE │ WHY                          │
├──────────────────────────────────┼────────┼─────────┼──────────────┼──────────┼───────┼───────┼──────────────────────────────┤
│ 000102030405060708090a0b0c0d0000 │ score  │ RUNNING │ box-7f3k2m9q │        2 │ 50.0s │ 1m00s │ hangs                        │
│ 0f0102030405060708090a0b0c0d0000 │ driver │ FAILED  │ box-7f3k2m9q │        1 │ 1m00s │ 1h00m │ row 3 is bad …               │
│ 20261122-095900-7f3k2m9q/4       │ wine   │ PENDING │              │        0 │       │ 1.00s │ needs gpu: 1, no node has it │
└──────────────────────────────────┴────────┴─────────┴──────────────┴──────────┴───────┴───────┴──────────────────────────────┘
3 tasks
`)
	if want := `list tasks states:TASK_STATE_RUNNING states:TASK_STATE_PENDING name:"score" node_id:"box-7f3k2m9q" job_id:"20261122-095900-7f3k2m9q" limit:5`; head.calls[0] != want {
		t.Errorf("called %s, want %s", head.calls[0], want)
	}
	head.tasks.total = 1_234
	c.run(t, 0, "list", "tasks")
	if !strings.HasSuffix(c.stdout.String(), "1,234 tasks in all; 1,231 more are not shown (--limit)\n") {
		t.Errorf("got %s", c.stdout)
	}
	c.run(t, 0, "list", "tasks", "-o", "yaml")
	for _, want := range []string{"total: 1234\n", "task_id: 20261122-095900-7f3k2m9q/4\n", "memory_bytes: 1048576\n", "hanging: true\n", "state: FAILED\n"} {
		if !strings.Contains(c.stdout.String(), want) {
			t.Errorf("yaml lacks %q: %s", want, c.stdout)
		}
	}
	head.tasks.tasks, head.tasks.total = nil, 0
	c.run(t, 0, "list", "tasks")
	c.wantOut(t, "no tasks\n")
	c.run(t, 2, "list", "tasks", "--state", "gone")
	c.run(t, 2, "list", "tasks", "--limit", "0")
}

func TestGetTask(t *testing.T) {
	head := newTaskHead(t)
	c := newConsole(t, head)
	c.run(t, 0, "get", "task", testTask)
	c.wantOut(t, `task:       000102030405060708090a0b0c0d0000
name:       score
operator:   infer
state:      RUNNING
progress:   3 of 10, hangs: it has reported nothing for too long
queue:      etl
resources:  cpu: 0.5, memory: 1MiB
node:       box-7f3k2m9q
attempts:   2
submitted:  2026-11-22 09:59:00Z (1m00s ago)
started:    2026-11-22 09:59:10Z (50.0s ago)
ran:        50.0s
session:    5e551000000000000000000000000000
parent:     0f0102030405060708090a0b0c0d0000
`)
	c.run(t, 0, "get", "task", testParent)
	for _, want := range []string{"error:      run task: x: row 3 is bad\n            second line [data]\n", "hint:       repair it\n", "resources:  nothing\n", "ran:        1m00s\n"} {
		if !strings.Contains(c.stdout.String(), want) {
			t.Errorf("lacks %q: %s", want, c.stdout)
		}
	}
	c.run(t, 0, "get", "task", testTask, "-o", "json")
	if !strings.Contains(c.stdout.String(), `"parent_task_id": "`+testParent+`"`) {
		t.Errorf("got %s", c.stdout)
	}
	c.run(t, 1, "get", "task", "ff0102030405060708090a0b0c0d0000")
	for _, bad := range []string{"", "x", testObject, testJob + "/3"} {
		c.run(t, 2, "get", "task", bad)
	}
}

func TestSummaryTasks(t *testing.T) {
	head := newTaskHead(t)
	head.tasks.summaries = []*enginev1.TaskSummary{
		{Name: "score", Operator: "infer", States: map[string]int64{"PENDING": 1_000_000, "RUNNING": 2, "SUCCEEDED": 7}, MeanRunNanos: 1_234_567, AttemptsLost: 1, Reason: "queue etl is over its share"},
		{Name: "wine", States: map[string]int64{"FAILED": 3}},
	}
	c := newConsole(t, head)
	c.run(t, 0, "summary", "tasks")
	c.wantOut(t, `┌───────┬──────────┬───────────┬─────────┬───────────┬────────┬─────────┬──────┬─────────────────────────────┐
│ NAME  │ OPERATOR │   PENDING │ RUNNING │ SUCCEEDED │ FAILED │    MEAN │ LOST │ WHY                         │
├───────┼──────────┼───────────┼─────────┼───────────┼────────┼─────────┼──────┼─────────────────────────────┤
│ score │ infer    │ 1,000,000 │       2 │         7 │        │ 1.235ms │    1 │ queue etl is over its share │
│ wine  │          │           │         │           │      3 │         │      │                             │
└───────┴──────────┴───────────┴─────────┴───────────┴────────┴─────────┴──────┴─────────────────────────────┘
`)
	c.run(t, 0, "summary", "tasks", "-o", "json")
	if !strings.Contains(c.stdout.String(), `"mean_seconds": 0.001234567`) || !strings.Contains(c.stdout.String(), `"PENDING": 1000000`) {
		t.Errorf("got %s", c.stdout)
	}
	head.tasks.summaries = nil
	c.run(t, 0, "summary", "tasks")
	c.wantOut(t, "no tasks\n")
	c.run(t, 0, "summary", "tasks", "-o", "json")
	c.wantOut(t, "[]\n")
}

func TestTaskCancel(t *testing.T) {
	head := newTaskHead(t)
	c := newConsole(t, head)
	c.run(t, 0, "task", "cancel", testTask)
	c.wantOut(t, "1 task cancelled\n")
	head.tasks.ended = 1
	c.run(t, 0, "task", "cancel", testTask, testParent, "--children", "--force")
	c.wantOut(t, "1 task cancelled; 1 had ended, or nobody knows them\n")
	if call := head.calls[1]; !strings.Contains(call, "children:true") || !strings.Contains(call, "force:true") {
		t.Errorf("called %s", call)
	}
	c.run(t, 0, "task", "cancel", testTask, testParent, "-o", "json")
	c.wantOut(t, "{\n  \"cancelled\": 1\n}\n")
	c.run(t, 2, "task", "cancel")
	c.run(t, 2, "task", "cancel", "x")
}
