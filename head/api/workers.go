package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Workers serves enginev1.WorkerService.
type Workers struct {
	enginev1.UnimplementedWorkerServiceServer
	store      *state.Store
	dispatcher *dispatch.Dispatcher
	logs       *joblog.Book
	logger     *slog.Logger
	directory  *objects.Directory
	// gossip is where the head gossips; empty if it does not.
	gossip string
	// secrets returns those of a job; nil if there are none.
	secrets func(context.Context, engine.JobID) map[string][]byte

	mu sync.Mutex
	// troubled holds the jobs whose lines cannot be kept.
	troubled map[string]bool
}

// NewWorkers makes the server of the workers of a dispatcher, whose lines for the jobs in store go to logs, and of their object stores,
// which tell the directory. logger hears of lines that cannot be kept. gossip is the "IP:port" at which the head gossips; empty if it does
// not.
func NewWorkers(
	store *state.Store, dispatcher *dispatch.Dispatcher, directory *objects.Directory, logs *joblog.Book, logger *slog.Logger, gossip string,
) *Workers {
	return &Workers{
		store: store, dispatcher: dispatcher, directory: directory, logs: logs, logger: logger, gossip: gossip, troubled: map[string]bool{},
	}
}

// HandOut has workers get the secrets of a job with its first task. It must be called before anything is served.
func (s *Workers) HandOut(secrets func(context.Context, engine.JobID) map[string][]byte) *Workers {
	s.secrets = secrets
	return s
}

// Sync implements enginev1.WorkerServiceServer.
func (s *Workers) Sync(stream grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := checkNode(stream.Context(), "sync worker", first.GetHello().GetNodeId()); err != nil {
		return err
	}
	// The lines of a report come first: when a result ends a job, the lines that the worker wrote before it are there.
	kept := s.keepLogs(first)
	node, session, answers, err := s.dispatcher.Connect(first)
	if err != nil {
		return err
	}
	defer s.dispatcher.Disconnect(node, session)
	s.acknowledgeLogs(node, session, kept)
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
			if welcome := answer.GetWelcome(); welcome != nil {
				welcome.GossipAddress = s.gossip
			}
			for _, job := range answer.GetJobs() {
				if s.secrets != nil {
					job.Secrets = s.secrets(stream.Context(), engine.JobID(job.GetJobId()))
				}
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
		s.acknowledgeLogs(node, session, s.keepLogs(report))
		if err := s.dispatcher.Report(node, session, report); err != nil {
			return err
		}
	}
}

// keepLogs writes the lines of a report to the jobs' logs, and returns the last line's number, zero if there is none. Lines that
// cannot be written are lost: the worker need not send them again, and what else it reports is not held up by them.
func (s *Workers) keepLogs(report *enginev1.SyncRequest) (last uint64) {
	lines := report.GetLogs()
	for start := 0; start < len(lines); {
		id := lines[start].GetJobId()
		end := start + 1
		for end < len(lines) && lines[end].GetJobId() == id {
			end++
		}
		// Lines for a job that is forgotten are dropped; so are those for what never was a job, which must not become a file name.
		var appendErr error
		if job, err := find(s.store, "keep log lines", string(jobs.Of(engine.JobID(id)))); err == nil {
			appendErr = s.logs.AppendFromWorker(job.ID, lines[start:end]...)
		}
		if s.isNewTrouble(id, appendErr) {
			s.logger.Error("lines were lost from a job's log, and further ones will be until it can be written", "job", id, "lines", end-start, "error", appendErr)
		}
		last = lines[end-1].GetWorkerSequence()
		start = end
	}
	return last
}

// isNewTrouble reports whether err, which may be nil, is the first after a success.
func (s *Workers) isNewTrouble(id string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.troubled, id)
		return false
	}
	known := s.troubled[id]
	s.troubled[id] = true
	return !known
}

func (s *Workers) acknowledgeLogs(node engine.NodeID, session, last uint64) {
	if last > 0 {
		s.dispatcher.AcknowledgeLogs(node, session, last)
	}
}
