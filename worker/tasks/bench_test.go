package tasks_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker/tasks"
)

// BenchmarkNoop runs tasks that do nothing, granted a thousand at a time, and tells of them in the messages of the protocol: what the
// worker adds to a task without the stream.
func BenchmarkNoop(b *testing.B) {
	const batch = 1000
	wake := make(chan struct{}, 1)
	t := tasks.New(tasks.Config{
		Node: "n", Operators: map[string]operator.Func{operator.NameNoop: operator.NoopFunc}, Total: engine.Resources{CPU: 2},
		Wake: func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	defer func() {
		if err := t.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	t.Report(&enginev1.SyncRequest{Sequence: 1}, false, time.Now())
	t.Take(&enginev1.SyncResponse{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: operator.NameNoop}}})
	b.ReportAllocs()
	sequence := uint64(1)
	messages := 0
	for done := 0; done < b.N; {
		grants := &enginev1.SyncResponse{}
		n := min(batch, b.N-done)
		ids := make([]byte, 16*n)
		for i := range n {
			id := engine.NewTaskUID()
			copy(ids[16*i:], id[:])
			grants.TaskGrants = append(grants.TaskGrants, &enginev1.TaskGrant{
				Task: &enginev1.TaskSubmission{TaskId: ids[16*i : 16*i+16 : 16*i+16], Template: 1}, Epoch: 1, Attempt: 1, SessionId: "s",
			})
		}
		t.Take(grants)
		for told := 0; told < n; {
			<-wake
			sequence++
			messages++
			report := &enginev1.SyncRequest{Sequence: sequence}
			t.Report(report, false, time.Now())
			told += len(report.GetOutcomes())
		}
		t.Take(&enginev1.SyncResponse{AcknowledgedSequence: sequence, ReleasedTasks: ids})
		done += n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.ReportMetric(float64(b.N)/float64(messages), "tasks/message")
}
