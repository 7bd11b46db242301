package api

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Workers serves enginev1.WorkerService.
type Workers struct {
	enginev1.UnimplementedWorkerServiceServer
	store      *state.Store
	dispatcher *dispatch.Dispatcher
	logs       *joblog.Book
}

// NewWorkers makes the server of the workers of a dispatcher, whose lines for the jobs in store go to logs.
func NewWorkers(store *state.Store, dispatcher *dispatch.Dispatcher, logs *joblog.Book) *Workers {
	return &Workers{store: store, dispatcher: dispatcher, logs: logs}
}

// Sync implements enginev1.WorkerServiceServer.
func (s *Workers) Sync(stream grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	node, session, answers, err := s.dispatcher.Connect(first)
	if err != nil {
		return err
	}
	defer s.dispatcher.Disconnect(node, session)
	if err := s.keepLogs(node, session, first); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { // lifecycle: Recv fails when the handler has returned.
		received <- s.receive(stream, node, session)
	}()
	for {
		select {
		case <-answers:
			answer := s.dispatcher.Answer(node, session)
			if answer == nil {
				return engine.Errorf(engine.KindFenced, "sync worker", string(node), "this stream was replaced or its worker's lease has ended")
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
		case err := <-received:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// receive takes in reports until the stream ends.
func (s *Workers) receive(stream grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse], node engine.NodeID, session uint64) error {
	for {
		report, err := stream.Recv()
		if err != nil {
			return err
		}
		// The lines first: when a result ends a job, the lines that the worker wrote before it are there.
		if err := s.keepLogs(node, session, report); err != nil {
			return err
		}
		if err := s.dispatcher.Report(node, session, report); err != nil {
			return err
		}
	}
}

// keepLogs writes the lines of a report to the jobs' logs.
func (s *Workers) keepLogs(node engine.NodeID, session uint64, report *enginev1.SyncRequest) error {
	lines := report.GetLogs()
	if len(lines) == 0 {
		return nil
	}
	for start := 0; start < len(lines); {
		end := start + 1
		for end < len(lines) && lines[end].GetJobId() == lines[start].GetJobId() {
			end++
		}
		// Lines for a job that is forgotten are dropped; so are those for what never was a job, which must not become a file name.
		if job, err := find(s.store, "keep log lines", lines[start].GetJobId()); err == nil {
			if err := s.logs.AppendFromWorker(job.ID, lines[start:end]...); err != nil {
				return err
			}
		}
		start = end
	}
	s.dispatcher.AcknowledgeLogs(node, session, lines[len(lines)-1].GetWorkerSequence())
	return nil
}
