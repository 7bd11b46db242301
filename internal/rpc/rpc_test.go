package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// endingServer ends every stream with an error that a context could have had.
type endingServer struct {
	enginev1.UnimplementedJobServiceServer
	err error
}

func (s *endingServer) WatchJob(_ *enginev1.WatchJobRequest, stream grpc.ServerStreamingServer[enginev1.WatchJobResponse]) error {
	if s.err == nil {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return s.err
}

func watch(ctx context.Context, t *testing.T, err error) error {
	t.Helper()
	listener, listenErr := net.Listen("tcp", "127.0.0.1:0")
	if listenErr != nil {
		t.Fatal(listenErr)
	}
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterJobServiceServer(server, &endingServer{err: err})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn, dialErr := rpc.Dial(listener.Addr().String())
	if dialErr != nil {
		t.Fatal(dialErr)
	}
	defer conn.Close()
	stream, streamErr := enginev1.NewJobServiceClient(conn).WatchJob(ctx, &enginev1.WatchJobRequest{JobId: "x"})
	if streamErr != nil {
		return streamErr
	}
	_, recvErr := stream.Recv()
	return recvErr
}

// TestWhoEndedAStream tells the server's deadline from the caller's: gRPC ends the stream's context in both cases.
func TestWhoEndedAStream(t *testing.T) {
	for _, kind := range []engine.Kind{engine.KindDeadline, engine.KindCanceled, engine.KindNotFound} {
		err := watch(t.Context(), t, engine.Errorf(kind, "watch job", "x", "the server's own reason"))
		var e *engine.Error
		if !errors.As(err, &e) || e.Kind != kind || e.Op != "watch job" || e.Err.Error() != "the server's own reason" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := watch(ctx, t, nil); engine.KindOf(err) != engine.KindDeadline {
		t.Errorf("the caller's deadline: %v", err)
	}
}

// overdue is a context whose deadline has come and whose timer has not noticed yet.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// TestOverdue wants the caller's own deadline to be told as such, although gRPC was earlier to notice.
func TestOverdue(t *testing.T) {
	if err := watch(overdue{t.Context()}, t, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
