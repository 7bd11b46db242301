package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
)

const (
	doGet = "/arrow.flight.protocol.FlightService/DoGet"
	doPut = "/arrow.flight.protocol.FlightService/DoPut"
)

var errStalled = errors.New("stalled")

// chunks reads an object's bytes from a server. Its user calls close. It is not safe for concurrent use.
type chunks struct {
	stream grpc.ClientStream
	cancel context.CancelCauseFunc
	// cause says why the call's context ended, nil if it has not. gRPC ends the stream's own context with the call.
	cause    func() error
	timer    *time.Timer
	patience time.Duration
	// fetching lets the first message take its time, since the server may have to bring the object from elsewhere.
	fetching bool
	message  incoming
}

// getChunks asks for what the ticket says. It fails when the server sends nothing for as long as patience, but for what it fetches first.
func getChunks(ctx context.Context, conn grpc.ClientConnInterface, t ticket, patience time.Duration) (*chunks, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &chunks{cancel: cancel, cause: func() error { return context.Cause(ctx) }, patience: patience, fetching: t.fetch}
	c.timer = time.AfterFunc(patience, func() { cancel(errStalled) })
	if t.fetch {
		c.timer.Stop()
	}
	var err error
	c.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "DoGet", ServerStreams: true}, doGet, callOptions()...)
	if err == nil {
		err = c.stream.SendMsg(&flight.Ticket{Ticket: t.encode()})
	}
	if err == nil {
		err = c.stream.CloseSend()
	}
	// io.EOF means that the call has ended; next returns why.
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.failure(err)
		c.close()
		return nil, err
	}
	return c, nil
}

// next returns the next chunk, whose body the caller takes with body.read; io.EOF after the last one.
func (c *chunks) next() (chunk, *incoming, error) {
	if !c.fetching {
		c.timer.Reset(c.patience)
	}
	c.fetching = false
	err := c.stream.RecvMsg(&c.message)
	c.timer.Stop()
	if err != nil {
		return chunk{}, nil, c.failure(err)
	}
	meta, err := parseChunk(c.message.metadata)
	return meta, &c.message, err
}

func (c *chunks) failure(err error) error {
	cause := c.cause()
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(cause, errStalled):
		return engine.Errorf(engine.KindUnavailable, "", "", "nothing came for %s", c.patience)
	case cause != nil:
		return cause
	default:
		return rpc.FromStatus("get object", err)
	}
}

func (c *chunks) close() {
	c.timer.Stop()
	c.cancel(nil)
	c.message.free()
}

// askDescription returns what a server says of an object.
func askDescription(ctx context.Context, conn grpc.ClientConnInterface, t ticket, patience time.Duration) (description, error) {
	t.chunk = 0
	c, err := getChunks(ctx, conn, t, patience)
	if err != nil {
		return description{}, err
	}
	defer c.close()
	meta, _, err := c.next()
	if errors.Is(err, io.EOF) {
		err = engine.Errorf(engine.KindUnavailable, "", "", "the stream ended before it said what the object is")
	}
	return meta.description, err
}
