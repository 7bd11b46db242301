package tasks_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// BenchmarkThroughput is the whole way of tasks that do nothing through the core: submit, grant, outcome, respond, acknowledge.
func BenchmarkThroughput(b *testing.B) {
	const batch = 1_000
	now := time.Unix(1_000_000, 0)
	core := tasks.New(tasks.Config{Term: 1, Started: now})
	core.Join(now, "n1", []string{"noop"}, &enginev1.SyncRequest{})
	stream, _ := core.OpenStream(now, session)
	must(b, core.Submit(now, session, stream, &enginev1.RunTasksRequest{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}}))
	nodes := []scheduler.Node{{ID: "n1", Total: engine.Resources{CPU: 2}}}
	var classes []scheduler.Class
	acknowledged := make([]byte, 0, 16*batch)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer() // The client makes its message.
		request := &enginev1.RunTasksRequest{Acknowledged: acknowledged, Tasks: make([]*enginev1.TaskSubmission, batch)}
		for i := range request.Tasks {
			id := engine.NewTaskUID()
			request.Tasks[i] = &enginev1.TaskSubmission{TaskId: id[:], Template: 1}
		}
		b.StartTimer()
		now = now.Add(time.Millisecond)
		must(b, core.Submit(now, session, stream, request))
		for got := 0; got < batch; {
			if core.Stale() {
				classes = core.Classes(now, classes[:0])
				nodes[0].Used = engine.Resources{}
				core.Occupy(&nodes[0])
				plan := scheduler.Decide(scheduler.Snapshot{Nodes: nodes, Classes: classes, Now: now})
				for _, p := range plan.Placements {
					core.Place(now, p)
				}
				for _, w := range plan.Waiting {
					core.Explain(now, w)
				}
			}
			answer := &enginev1.SyncResponse{}
			core.Fill("n1", answer)
			b.StopTimer() // The worker runs them and makes its message.
			report := &enginev1.SyncRequest{}
			for _, grant := range answer.GetTaskGrants() {
				report.Outcomes = append(report.Outcomes, &enginev1.TaskOutcome{
					TaskId: grant.GetTask().GetTaskId(), Epoch: grant.GetEpoch(), State: enginev1.TaskState_TASK_STATE_SUCCEEDED, NodeId: "n1", RunNanos: 2_000,
				})
			}
			b.StartTimer()
			now = now.Add(time.Millisecond)
			core.Report(now, "n1", report)
			core.Take()
			acknowledged = acknowledged[:0]
			if response := core.Respond(session, stream, 10_000); response != nil {
				got += len(response.GetOutcomes())
				for _, o := range response.GetOutcomes() {
					acknowledged = append(acknowledged, o.GetTaskId()...)
				}
				if got < batch {
					must(b, core.Submit(now, session, stream, &enginev1.RunTasksRequest{Acknowledged: acknowledged}))
					acknowledged = acknowledged[:0]
				}
			}
		}
		done += batch
	}
}

// BenchmarkQueued is a million tasks that are submitted before a worker comes; it says what one costs in memory, its message included.
func BenchmarkQueued(b *testing.B) {
	const queued = 1_000_000
	now := time.Unix(1_000_000, 0)
	for range b.N {
		before := heap()
		core := tasks.New(tasks.Config{Term: 1, Started: now})
		stream, _ := core.OpenStream(now, session)
		must(b, core.Submit(now, session, stream, &enginev1.RunTasksRequest{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}}))
		for done := 0; done < queued; done += 1_000 {
			request := &enginev1.RunTasksRequest{Tasks: make([]*enginev1.TaskSubmission, 1_000)}
			for i := range request.Tasks {
				id := engine.NewTaskUID()
				request.Tasks[i] = &enginev1.TaskSubmission{TaskId: id[:], Template: 1}
			}
			must(b, core.Submit(now, session, stream, request))
		}
		b.ReportMetric(float64(heap()-before)/queued, "B/task")
		runtime.KeepAlive(core)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
