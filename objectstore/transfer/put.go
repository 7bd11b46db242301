package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// DoPut implements flight.FlightServer. Nothing is stored unless the whole object came and is valid.
func (s *Service) DoPut(stream flight.FlightService_DoPutServer) error {
	const op = "put object"
	if _, err := connectionOf(stream.Context()); err != nil {
		return err
	}
	// What kind of put it is, only its first message says, which may be as large as any.
	if err := s.waitToPut(stream.Context()); err != nil {
		return err
	}
	defer s.puts.Release(1)
	source := s.readMessages(stream)
	first, err := source.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return engine.Errorf(engine.KindInvalidArgument, op, "", "the call ended before its first message")
		}
		return err
	}
	defer first.free()
	var descriptor flight.FlightDescriptor
	if err := proto.Unmarshal(first.descriptor, &descriptor); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, op, "", "flight descriptor: %w", err)
	}
	if descriptor.GetType() == flight.DescriptorCMD {
		put, ok, err := parseRawPut(descriptor.GetCmd())
		if err != nil {
			return err
		}
		if !ok {
			return engine.Errorf(engine.KindInvalidArgument, op, "", "a put has no command: its descriptor is a path, empty or of one object id")
		}
		return s.putRaw(stream, source, first, put)
	}
	var id engine.ObjectID
	switch path := descriptor.GetPath(); len(path) {
	case 0:
		id = engine.NewObjectID()
	case 1:
		if id, err = s.parseRef(op, path[0]); err != nil {
			return err
		}
	default:
		return engine.Errorf(engine.KindInvalidArgument, op, "", "the descriptor's path %q has %d parts, expected none or one object id", path, len(path))
	}
	return s.putBatches(stream, source, first, id)
}

// waitToPut waits until there are fewer than MaxPuts. Who gets no error releases s.puts.
func (s *Service) waitToPut(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	err := s.puts.Acquire(waiting, 1)
	if err == nil || ctx.Err() != nil {
		return engine.WrapError("put object", "", err)
	}
	return engine.Errorf(engine.KindExhausted, "put object", "", "this node receives %d puts already, and none ended within %s", s.config.MaxPuts, s.config.Patience).
		WithHint("put fewer objects at a time, or put them through another node")
}

// putBatches makes an object of the messages of any Flight client. They are gathered first, since neither their number nor whether
// they are valid is known before the last one, and then written anew, in our alignment.
func (s *Service) putBatches(stream flight.FlightService_DoPutServer, source *messages, first *incoming, id engine.ObjectID) error {
	const op = "put object"
	ctx := stream.Context()
	domain := s.config.Home(ctx)
	owner, err := s.newObject(ctx, id, domain)
	if err != nil {
		return err
	}
	gathered := s.newGathering(id)
	defer gathered.close()
	// A message without a header carries nothing but metadata for the application, which we have no use for.
	for m := first; ; {
		if len(m.header) > 0 {
			if err := gathered.add(ctx, m); err != nil {
				m.free()
				return err
			}
		}
		m.free()
		if m, err = source.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	t, err := gathered.open(ctx)
	if err != nil {
		return err
	}
	defer t.Release()
	// A message that says another length than it has would have been read across the borders of the messages.
	if messages := t.Messages(); !slices.EqualFunc(messages, gathered.spool.bodies, func(m table.Message, n int) bool { return len(m.Body) == n }) {
		return engine.Errorf(engine.KindInvalidArgument, op, id.String(), "what the client sent is no valid Arrow data: a message's body is not as long as its header says")
	}
	encoding, err := table.Encode(t.Schema(), t.Records()...)
	if err != nil {
		return engine.WrapError(op, id.String(), err)
	}
	defer encoding.Release()
	pending, err := s.config.Store.Create(ctx, objectstore.Creation{
		ID: id, SizeBytes: encoding.SizeBytes(), Domain: domain, Owner: owner,
	})
	if err != nil {
		return err
	}
	defer pending.Abort()
	encoding.CopyTo(pending.Bytes())
	if _, err := pending.Seal(objectstore.Description{Rows: encoding.Rows(), Batches: encoding.Batches()}); err != nil {
		return err
	}
	return stream.Send(&flight.PutResult{AppMetadata: []byte(id.String())})
}

// newObject returns who will own an object of a domain, which must not exist.
func (s *Service) newObject(ctx context.Context, id engine.ObjectID, domain string) (engine.ObjectOwner, error) {
	if err := s.config.MayUse(ctx, "put object", id.String(), domain); err != nil {
		return engine.ObjectOwner{}, err
	}
	if _, ok := s.config.Store.Info(id); ok {
		return engine.ObjectOwner{}, engine.Errorf(engine.KindConflict, "put object", id.String(), "the object exists")
	}
	return s.owner(ctx, id)
}

// putRaw makes an object of the bytes that our own client sends: they go straight to their place and are validated there.
func (s *Service) putRaw(stream flight.FlightService_DoPutServer, source *messages, first *incoming, put rawPut) error {
	const op = "put object"
	id, ctx := put.id.String(), stream.Context()
	if put.domain == "" {
		put.domain = s.config.Home(ctx)
	}
	owner, err := s.newObject(ctx, put.id, put.domain)
	if err != nil {
		return err
	}
	if put.total == 0 {
		return engine.Errorf(engine.KindInvalidArgument, op, id, "an object has at least a schema, this one 0 bytes")
	}
	pending, err := s.config.Store.Create(ctx, objectstore.Creation{ID: put.id, SizeBytes: put.total, Domain: put.domain, Owner: owner})
	if err != nil {
		return err
	}
	defer pending.Abort()
	data, offset, sum := pending.Bytes(), int64(0), uint32(0)
	for m := first; ; {
		n := int64(m.bodyBytes)
		if n > put.total-offset {
			m.free()
			return engine.Errorf(engine.KindInvalidArgument, op, id, "the client sent more than the %d bytes that it announced", put.total)
		}
		if err := m.read(data[offset:]); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, data[offset:][:n])
		offset += n
		if m, err = source.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	switch {
	case offset != put.total:
		return engine.Errorf(engine.KindInvalidArgument, op, id, "the client sent %d bytes of the %d that it announced", offset, put.total)
	case sum != put.crc:
		return engine.Errorf(engine.KindCorrupt, op, id, "checksum %08x of what came, the client announced %08x", sum, put.crc)
	}
	t, err := table.Open(data, table.Options{})
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, op, id, "what the client sent is no valid Arrow data: %w", err)
	}
	rows, batches := t.Rows(), int64(len(t.Records()))
	t.Release()
	info, err := pending.SealChecked(objectstore.Description{Rows: rows, Batches: batches}, sum)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(toJSON(info))
	if err != nil {
		return engine.WrapError(op, id, err)
	}
	return stream.Send(&flight.PutResult{AppMetadata: answer})
}

// messages are those that a client sends in a put, received ahead of their use.
type messages struct {
	received chan received
	// ended is closed when the call is.
	ended    <-chan struct{}
	patience time.Duration
}

type received struct {
	message *incoming
	err     error
}

func (s *Service) readMessages(stream flight.FlightService_DoPutServer) *messages {
	m := &messages{received: make(chan received), ended: stream.Context().Done(), patience: s.config.Patience}
	go func() { // lifecycle: ends with the call, whose context ends, and whose RecvMsg fails, when the handler has returned.
		for {
			message := &incoming{}
			err := stream.RecvMsg(message)
			select {
			case m.received <- received{message, err}:
			case <-m.ended:
				message.free()
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return m
}

// next returns the next message, which the caller frees; io.EOF after the last one.
func (m *messages) next() (*incoming, error) {
	timer := time.NewTimer(m.patience)
	defer timer.Stop()
	select {
	case r := <-m.received:
		return r.message, r.err
	case <-m.ended:
		return nil, engine.Errorf(engine.KindCanceled, "put object", "", "the client is gone")
	case <-timer.C:
		return nil, engine.Errorf(engine.KindDeadline, "put object", "", "the client sent nothing for %s", m.patience)
	}
}
