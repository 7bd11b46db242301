package transfer

import (
	"context"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

// DoGet implements flight.FlightServer.
func (s *Service) DoGet(request *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	t, err := parseTicket(request.GetTicket())
	if err != nil {
		return err
	}
	c, err := connectionOf(stream.Context())
	if err != nil {
		return err
	}
	if t.raw {
		return s.sendRaw(c, t, stream)
	}
	if err := s.checkCluster("get object", engine.ObjectRef{ID: t.id, Cluster: t.cluster}); err != nil {
		return err
	}
	return s.sendBatches(c, t.id, stream)
}

// sendBatches sends an object's schema, dictionaries, and record batches, each in a message of its own, as every Flight client
// expects them.
func (s *Service) sendBatches(c *connection, id engine.ObjectID, stream flight.FlightService_DoGetServer) error {
	t, _, err := s.open(stream.Context(), id)
	if err != nil {
		return err
	}
	p := c.pin(t.Release)
	defer p.end()
	for i, m := range t.Messages() {
		if size := len(m.Header) + len(m.Body); size > maxMessageBytes-64 {
			return engine.Errorf(engine.KindInvalidArgument, "get object", id.String(),
				"message %d has %d bytes, more than the %d that Flight can carry", i, size, maxMessageBytes).
				WithHint("put it in smaller record batches, or get it with the engine's own client")
		}
		if err := stream.SendMsg(&outgoing{header: m.Header, body: m.Body, pin: p}); err != nil {
			return err
		}
	}
	return nil
}

// sendRaw sends an object's bytes from an offset on. The checksum of the whole goes first, so that the receiver knows at once whether
// it may continue what it has of another holder.
func (s *Service) sendRaw(c *connection, t ticket, stream flight.FlightService_DoGetServer) error {
	ctx := stream.Context()
	handle, err := s.get(ctx, t.id, t.fetch)
	if err != nil {
		return err
	}
	p := c.pin(handle.Release)
	defer p.end()
	data := handle.Bytes()
	part, err := s.describeHeld(ctx, t, handle)
	if err != nil {
		return err
	}
	// Who asks for what is beyond the end began with another object, and learns so.
	if t.chunk == 0 || t.offset >= part.total {
		return stream.SendMsg(&outgoing{metadata: part.encode()})
	}
	if !t.fetch && part.total-part.offset > largeBytes {
		done, err := s.waitToSend(ctx, t.id)
		if err != nil {
			return err
		}
		defer done()
	}
	for part.offset < part.total {
		n := min(int64(t.chunk), part.total-part.offset)
		if err := stream.SendMsg(&outgoing{metadata: part.encode(), body: data[part.offset:][:n], pin: p}); err != nil {
			return err
		}
		part.offset += n
	}
	return nil
}

// describeHeld returns the metadata of the chunk with which the answer to a ticket begins.
func (s *Service) describeHeld(ctx context.Context, t ticket, handle *objectstore.Handle) (chunk, error) {
	info := handle.Info()
	part := chunk{offset: t.offset, description: description{
		total: int64(len(handle.Bytes())), rows: info.Rows, batches: info.Batches, crc: info.CRC32C, domain: info.Domain,
	}}
	if info.Checked {
		return part, nil
	}
	var err error
	part.crc, err = s.config.Store.Checksum(ctx, t.id)
	return part, err
}

// largeBytes is the size from which on what is sent to other nodes counts for MaxSends.
const largeBytes = 4 << 20

// busyTime is how long another node waits to be sent to before it is told to look for another holder.
const busyTime = 500 * time.Millisecond

// waitToSend waits until there are fewer than MaxSends. Who gets no error calls done.
func (s *Service) waitToSend(ctx context.Context, id engine.ObjectID) (done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	if err := s.sends.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return nil, engine.WrapError("get object", id.String(), context.Cause(ctx))
		}
		return nil, engine.Errorf(engine.KindExhausted, "get object", id.String(), "this node sends %d objects to others already", s.config.MaxSends)
	}
	return func() { s.sends.Release(1) }, nil
}
