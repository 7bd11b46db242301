package dispatch_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// waitingJobs makes a core with two nodes that are busy and so many jobs that wait, of as many shapes.
func waitingJobs(b *testing.B, jobs, shapes int) (core *dispatch.Core, session uint64) {
	b.Helper()
	core = dispatch.NewCore(dispatch.Config{ClusterID: "c", Term: 1})
	cpu := 2.0
	for _, node := range []string{"a", "b"} {
		hello := &enginev1.WorkerHello{ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: node, Total: &enginev1.Resources{Cpu: &cpu}}
		var err error
		if session, err = core.Connect(start, hello); err != nil {
			b.Fatal(err)
		}
		if err := core.Report(start, engine.NodeID(node), session, &enginev1.SyncRequest{Sequence: 1, Hello: hello}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range jobs {
		plan := &enginev1.Plan{Tasks: []*enginev1.TaskPlan{{}, {}}}
		core.AddJob(start, dispatch.Job{
			ID: engine.JobID(fmt.Sprint("job-", i)), Spec: &enginev1.JobSpec{}, Plan: plan, MaxAttempts: 1,
			Request: engine.Resources{CPU: 1 + float64(i%shapes)/10_000},
		})
		core.Take()
	}
	return core, session
}

// BenchmarkReportBesideWaitingJobs is a report of a worker, and a pass, while jobs wait for busy nodes.
func BenchmarkReportBesideWaitingJobs(b *testing.B) {
	for _, shapes := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("jobs=10000/shapes=%d", shapes), func(b *testing.B) {
			core, session := waitingJobs(b, 10_000, shapes)
			now := start
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Second) // Time for a pass in any case.
				core.Tick(now)
				core.Take()
			}
			_ = session
		})
	}
}

// BenchmarkWaitingJob is what it takes to add a job beside 10,000 that wait, in time and memory.
func BenchmarkWaitingJob(b *testing.B) {
	var before, after runtime.MemStats
	core, _ := waitingJobs(b, 10_000, 1)
	runtime.GC()
	runtime.ReadMemStats(&before)
	now, n := start, 0
	for b.Loop() {
		now = now.Add(100 * time.Microsecond)
		core.AddJob(now, dispatch.Job{
			ID: engine.JobID(fmt.Sprint("more-", n)), Spec: &enginev1.JobSpec{}, Plan: &enginev1.Plan{Tasks: []*enginev1.TaskPlan{{}, {}}}, MaxAttempts: 1,
			Request: engine.Resources{CPU: 1},
		})
		core.Take()
		n++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "bytes/job")
	runtime.KeepAlive(core)
}

// BenchmarkClientTasks takes no-op tasks through the core, all but the wire: submitted, granted, ended, responded, acknowledged, and
// released, in batches as streams make them.
func BenchmarkClientTasks(b *testing.B) {
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			core := dispatch.NewCore(dispatch.Config{ClusterID: "c", Term: 1})
			cpu := 2.0
			hello := &enginev1.WorkerHello{ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: "w", Total: &enginev1.Resources{Cpu: &cpu}, Operators: []string{"noop"}}
			session, err := core.Connect(start, hello)
			if err != nil {
				b.Fatal(err)
			}
			if err := core.Report(start, "w", session, &enginev1.SyncRequest{Sequence: 1, Hello: hello}); err != nil {
				b.Fatal(err)
			}
			core.Answer(start, "w", session)
			const client = "0123456789abcdef0123456789abcdef"
			stream, _ := core.OpenTasks(start, client)
			if err := core.SubmitTasks(start, client, stream, &enginev1.RunTasksRequest{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}}); err != nil {
				b.Fatal(err)
			}
			now, sequence, done := start, uint64(2), 0
			b.ReportAllocs()
			for done < b.N {
				n := min(batch, b.N-done)
				request := &enginev1.RunTasksRequest{Tasks: make([]*enginev1.TaskSubmission, n)}
				for i := range request.Tasks {
					id := engine.NewTaskUID()
					request.Tasks[i] = &enginev1.TaskSubmission{TaskId: id[:], Template: 1}
				}
				now = now.Add(10 * time.Microsecond)
				if err := core.SubmitTasks(now, client, stream, request); err != nil {
					b.Fatal(err)
				}
				core.Take()
				var acknowledged []byte
				for left := n; left > 0; {
					answer := core.Answer(now, "w", session)
					report := &enginev1.SyncRequest{Sequence: sequence, AcknowledgedSequence: answer.GetSequence()}
					sequence++
					for _, g := range answer.GetTaskGrants() {
						report.Outcomes = append(report.Outcomes, &enginev1.TaskOutcome{
							TaskId: g.GetTask().GetTaskId(), State: enginev1.TaskState_TASK_STATE_SUCCEEDED, Epoch: g.GetEpoch(), RunNanos: 1000, NodeId: "w",
						})
					}
					now = now.Add(10 * time.Microsecond)
					if err := core.Report(now, "w", session, report); err != nil {
						b.Fatal(err)
					}
					core.Take()
					for response := core.RespondTasks(client, stream, 2000); response != nil; response = core.RespondTasks(client, stream, 2000) {
						for _, outcome := range response.GetOutcomes() {
							acknowledged = append(acknowledged, outcome.GetTaskId()...)
							left--
						}
					}
				}
				if err := core.SubmitTasks(now, client, stream, &enginev1.RunTasksRequest{Acknowledged: acknowledged}); err != nil {
					b.Fatal(err)
				}
				core.Take()
				done += n
			}
		})
	}
}
