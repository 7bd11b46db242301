package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/worker"
)

// brittleConn gives streams that break while an answer is on its way.
type brittleConn struct{ opened chan struct{} }

func (c *brittleConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.New("there are no calls")
}

func (c *brittleConn) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	c.opened <- struct{}{}
	return &brittleStream{ctx: ctx, second: make(chan struct{}), taken: make(chan struct{}), broken: make(chan struct{})}, nil
}

// brittleStream answers the first report while the second is being sent, and breaks before the worker can take the answer.
type brittleStream struct {
	ctx                   context.Context
	sent, received        int
	second, taken, broken chan struct{}
}

func (s *brittleStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *brittleStream) Trailer() metadata.MD         { return nil }
func (s *brittleStream) CloseSend() error             { return nil }
func (s *brittleStream) Context() context.Context     { return s.ctx }

func (s *brittleStream) SendMsg(any) error {
	if s.sent++; s.sent == 1 {
		return nil
	}
	close(s.second)
	<-s.taken
	close(s.broken)
	return io.EOF
}

func (s *brittleStream) RecvMsg(message any) error {
	if s.received++; s.received == 1 {
		select {
		case <-s.second:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		if answer, ok := message.(*enginev1.SyncResponse); ok {
			answer.Sequence = 1
		}
		close(s.taken)
		return nil
	}
	select {
	case <-s.broken:
		return engine.Errorf(engine.KindUnavailable, "receive", "", "connection reset")
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// TestStreamThatBreaksWithAnAnswerUnread sees that the worker connects again: the one that sends must not wait for the one that receives,
// who waits for it to take an answer.
func TestStreamThatBreaksWithAnAnswerUnread(t *testing.T) {
	conn := &brittleConn{opened: make(chan struct{}, 100)}
	w, err := worker.Start(worker.Config{Conn: conn, Resources: engine.Resources{CPU: 1}, Models: fake.New(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		select {
		case <-conn.opened:
		case <-time.After(2 * time.Minute):
			t.Fatal("the worker does not connect again")
		}
	}
}
