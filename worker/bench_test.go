package worker_test

import (
	"testing"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// BenchmarkNoopStream runs tasks that do nothing over the worker's stream, with up to 10,000 on their way: what the stream and the worker
// cost a task, and a head that does nothing but count.
func BenchmarkNoopStream(b *testing.B) {
	const batch, window = 500, 10_000
	_, head := startWorker(b, nil)
	l, _ := head.next(b)
	l.send(&enginev1.SyncResponse{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}})
	room := make(chan struct{}, window/batch)
	go func() {
		for sent := 0; sent < b.N; {
			answer := &enginev1.SyncResponse{}
			for range min(batch, b.N-sent) {
				id := engine.NewTaskUID()
				answer.TaskGrants = append(answer.TaskGrants, &enginev1.TaskGrant{
					Task: &enginev1.TaskSubmission{TaskId: id[:], Template: 1}, Epoch: 1, Attempt: 1, SessionId: "0123456789abcdef0123456789abcdef",
				})
			}
			sent += len(answer.GetTaskGrants())
			room <- struct{}{}
			l.send(answer)
		}
	}()
	messages, over := 0, 0
	for done := 0; done < b.N; {
		report := <-l.reports
		messages++
		done += len(report.GetOutcomes())
		for over += len(report.GetOutcomes()); over >= batch; over -= batch {
			<-room
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.ReportMetric(float64(b.N)/float64(messages), "tasks/message")
}

// BenchmarkNoopRoundTrip grants one task at a time and waits for its outcome: what the worker adds to how long somebody waits.
func BenchmarkNoopRoundTrip(b *testing.B) {
	_, head := startWorker(b, nil)
	l, _ := head.next(b)
	l.send(&enginev1.SyncResponse{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}})
	for b.Loop() {
		id := engine.NewTaskUID()
		l.send(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{{
			Task: &enginev1.TaskSubmission{TaskId: id[:], Template: 1}, Epoch: 1, Attempt: 1, SessionId: "0123456789abcdef0123456789abcdef",
		}}})
		l.outcome(id)
		delete(l.outcomes, id)
		l.send(&enginev1.SyncResponse{ReleasedTasks: id[:]})
	}
}
