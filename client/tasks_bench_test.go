package client_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// quickTasks answers each message with the outcomes of its tasks.
type quickTasks struct {
	enginev1.UnimplementedTaskServiceServer
}

func (quickTasks) RunTasks(stream grpc.BidiStreamingServer[enginev1.RunTasksRequest, enginev1.RunTasksResponse]) error {
	response := &enginev1.RunTasksResponse{ClusterId: testCluster, Window: 1_000_000}
	for {
		if err := stream.Send(response); err != nil {
			return err
		}
		response = &enginev1.RunTasksResponse{}
		for len(response.GetOutcomes()) == 0 {
			request, err := stream.Recv()
			if err != nil {
				return nil //nolint:nilerr // The client is gone.
			}
			for _, task := range request.GetTasks() {
				response.Outcomes = append(response.Outcomes, succeeded(task.GetTaskId()))
			}
		}
	}
}

func benchmarkClient(b *testing.B) *client.Client {
	listener := bufconn.Listen(1 << 20)
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterObjectServiceServer(server, newFakeHead())
	enginev1.RegisterTaskServiceServer(server, quickTasks{})
	go func() { _ = server.Serve(listener) }() // until Stop
	c, err := client.Dial(b.Context(), "passthrough:///fake", client.WithGRPCOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return listener.DialContext(ctx)
	})))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
		server.Stop()
	})
	if _, err := c.Run(b.Context(), noop).Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkPipelined is the whole way of many tasks through a client, and a head that does nothing, in one process.
func BenchmarkPipelined(b *testing.B) {
	c := benchmarkClient(b)
	handles := make([]*client.TaskHandle, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range handles {
		handles[i] = c.Run(b.Context(), noop)
	}
	if _, _, err := c.WaitTasks(b.Context(), handles, 0); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRoundTrip is one task at a time.
func BenchmarkRoundTrip(b *testing.B) {
	c := benchmarkClient(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Run(b.Context(), engine.Task{Operator: "noop"}).Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
