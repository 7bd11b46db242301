package api_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLostLinesDoNotStopAWorker lets the file of one job be unusable: the worker's stream goes on, its lines are acknowledged, and those
// of another job are kept.
func TestLostLinesDoNotStopAWorker(t *testing.T) {
	dir := t.TempDir()
	store, err := state.Open(state.Config{Dir: dir, NewClusterID: "c"})
	check(t, err)
	defer store.Close()
	<-store.Terms()
	for _, id := range []string{"bad", "good"} {
		check(t, store.Propose(t.Context(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{JobId: id}}}))
	}
	check(t, os.MkdirAll(filepath.Join(dir, "logs", "bad.jsonl"), 0o700))
	logs := joblog.New(filepath.Join(dir, "logs"))
	logger := slog.New(slog.DiscardHandler)
	dispatcher := dispatch.NewDispatcher(dispatch.Config{ClusterID: "c", Term: 1}, dispatch.Hooks{}, nil)

	server := grpc.NewServer()
	enginev1.RegisterWorkerServiceServer(server, api.NewWorkers(store, dispatcher, objects.NewDirectory(objects.Config{ClusterID: "c", Term: 1}, logger, nil), logs, logger, "127.0.0.1:7946"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		check(t, <-served)
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := enginev1.NewWorkerServiceClient(conn).Sync(ctx)
	check(t, err)

	cpu := 1.0
	hello := &enginev1.WorkerHello{ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: "w", Total: &enginev1.Resources{Cpu: &cpu}}
	for sequence := uint64(1); sequence <= 2; sequence++ {
		report := &enginev1.SyncRequest{Sequence: sequence, Hello: hello}
		for i, job := range []string{"good", "bad", "never"} {
			report.Logs = append(report.Logs, &enginev1.WorkerLogLine{
				WorkerSequence: (sequence-1)*3 + uint64(i) + 1, JobId: job, Line: &enginev1.LogLine{Origin: "w", Message: job},
			})
		}
		check(t, stream.Send(report))
		hello = nil
		for {
			answer, err := stream.Recv()
			check(t, err)
			if welcome := answer.GetWelcome(); welcome != nil && welcome.GetGossipAddress() != "127.0.0.1:7946" {
				t.Errorf("the welcome says that the head gossips at %q", welcome.GetGossipAddress())
			}
			if answer.GetAcknowledgedLogSequence() == sequence*3 {
				break
			}
		}
	}
	var got int
	check(t, logs.Read(ctx, "good", 0, nil, func(lines []*enginev1.LogLine) error {
		got += len(lines)
		return nil
	}))
	if got != 2 {
		t.Fatalf("%d lines of the good job were kept, want 2", got)
	}
}
