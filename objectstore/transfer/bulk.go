package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
)

// A bulk connection carries one object between two nodes, without HTTP/2's frames and the copies that they cost, which TLS makes dear: record
// 46. Who connects sends a raw ticket. The answer begins with a byte that says what it is, and the length of what follows, in two bytes:
// the first chunk's metadata, after which come all bytes of the object from its offset on; or a google.rpc.Status. Then the connection ends.
const (
	answerObject = 'O'
	answerError  = 'E'
	answerBytes  = 3
	// maxAnswerBytes bounds what follows. A message of an error is cut.
	maxAnswerBytes = 16 << 10
	// bulkPiece is how much is written at once, and bulkRead how much is read before its checksum is taken: it is in the processor's cache then.
	bulkPiece = 256 << 10
	bulkRead  = 64 << 10
	// bulkFrom is the size from which on a connection of its own is worth its handshake.
	bulkFrom = 8 << 20
)

// BulkConfig says how a port takes bulk connections.
type BulkConfig struct {
	// Is reports whether an accepted connection is one. Required.
	Is func(net.Conn) bool
	// Enter decides whether who has made it may get objects, and returns the context for ServiceConfig.MayUse; done is called when the connection
	// has ended. It closes nothing. Required.
	Enter func(ctx context.Context, conn net.Conn) (_ context.Context, done func(), err error)
}

// Split serves the bulk connections of a listener, in a group, and returns a listener of the others. It is closed with that one.
func (s *Service) Split(listener net.Listener, group *lifecycle.Group, config BulkConfig) net.Listener {
	return &splitListener{Listener: listener, service: s, group: group, config: config}
}

type splitListener struct {
	net.Listener
	service *Service
	group   *lifecycle.Group
	config  BulkConfig
}

// Accept implements net.Listener.
func (l *splitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.config.Is(conn) {
			return conn, err
		}
		if !l.group.Go("objects to "+conn.RemoteAddr().String(), func(ctx context.Context) error {
			l.serve(ctx, conn)
			return nil // It is the matter of the other end, and ends nothing else.
		}) {
			_ = conn.Close() // The node is stopping.
		}
	}
}

func (l *splitListener) serve(ctx context.Context, conn net.Conn) {
	closing := sync.OnceFunc(func() { _ = conn.Close() }) // The other end sees that it is closed.
	defer closing()
	defer context.AfterFunc(ctx, closing)()
	err := rpc.Guard(l.service.config.Logger, "serve objects", func() error {
		entered, done, err := l.config.Enter(ctx, conn)
		if err == nil {
			defer done()
		}
		return l.service.sendBulk(entered, conn, err)
	})
	if err != nil && ctx.Err() == nil {
		l.service.config.Logger.LogAttrs(ctx, slog.LevelDebug, "a transfer to another node has ended early", slog.String("to", conn.RemoteAddr().String()), slog.Any("error", err))
	}
}

// sendBulk answers the one ticket of a connection, with refusal if that is not nil.
func (s *Service) sendBulk(ctx context.Context, conn net.Conn, refusal error) error {
	conn = &timely{Conn: conn, patience: s.config.Patience}
	text := make([]byte, ticketBytes)
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	if refusal != nil {
		return answerWith(conn, refusal)
	}
	part, data, free, err := s.openBulk(ctx, text)
	if err != nil {
		return answerWith(conn, err)
	}
	defer free()
	if err := writeAnswer(conn, answerObject, part.encode()); err != nil {
		return err
	}
	for left := data; len(left) > 0; {
		n := min(bulkPiece, len(left))
		if _, err := conn.Write(left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	s.config.Logger.LogAttrs(ctx, slog.LevelDebug, "an object was sent over a connection of its own", slog.Int("bytes", len(data)), slog.String("to", conn.RemoteAddr().String()))
	return nil
}

// answerWith answers with an error, which it returns.
func answerWith(conn io.Writer, err error) error {
	converted, _ := status.FromError(rpc.ToStatus(err))
	return errors.Join(err, writeAnswer(conn, answerError, encodeStatus(converted.Proto())))
}

// openBulk returns what a ticket asks for. The caller calls free, unless there is an error.
func (s *Service) openBulk(ctx context.Context, text []byte) (part chunk, data []byte, free func(), err error) {
	t, err := parseTicket(text)
	if err == nil && (!t.raw || t.chunk == 0 || t.fetch) {
		err = engine.Errorf(engine.KindInvalidArgument, "parse ticket", t.id.String(), "it is not for a bulk connection")
	}
	if err != nil {
		return chunk{}, nil, nil, err
	}
	handle, err := s.get(ctx, t.id, false)
	if err != nil {
		return chunk{}, nil, nil, err
	}
	release := sync.OnceFunc(handle.Release)
	defer func() {
		if err != nil {
			release()
		}
	}()
	if part, err = s.describeHeld(ctx, t, handle); err != nil {
		return chunk{}, nil, nil, err
	}
	data = handle.Bytes()
	if part.offset >= part.total {
		return part, nil, release, nil // Who asks for what is beyond the end began with another object, and learns so.
	}
	done, err := s.waitToSend(ctx, t.id)
	if err != nil {
		return chunk{}, nil, nil, err
	}
	return part, data[part.offset:], func() { done(); release() }, nil
}

// encodeStatus returns the wire form of an error, without its details and its message's end if it is too long.
func encodeStatus(s *spb.Status) []byte {
	b, err := proto.Marshal(s)
	if err != nil || len(b) > maxAnswerBytes {
		message := s.GetMessage()
		message = strings.ToValidUTF8(message[:min(len(message), maxAnswerBytes/2)], "") // What cannot be sent is left out.
		b, _ = proto.Marshal(&spb.Status{Code: s.GetCode(), Message: message})           // It is UTF-8.
	}
	return b
}

func writeAnswer(conn io.Writer, kind byte, text []byte) error {
	b := append(make([]byte, 0, answerBytes+len(text)), kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text))) //nolint:gosec // It is bounded by maxAnswerBytes.
	_, err := conn.Write(append(b, text...))
	return err
}

// readAnswer returns what the sender says of the object. The error may be the sender's.
func readAnswer(conn io.Reader) (chunk, error) {
	var head [answerBytes]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return chunk{}, err
	}
	size := binary.LittleEndian.Uint16(head[1:])
	if size > maxAnswerBytes {
		return chunk{}, engine.Errorf(engine.KindCorrupt, "", "", "an answer of %d bytes", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(conn, text); err != nil {
		return chunk{}, err
	}
	switch head[0] {
	case answerObject:
		return parseChunk(text)
	case answerError:
		var said spb.Status
		if err := proto.Unmarshal(text, &said); err != nil || said.GetCode() == 0 {
			return chunk{}, engine.Errorf(engine.KindCorrupt, "", "", "the error that it sent cannot be read")
		}
		return chunk{}, rpc.FromStatus("get object", status.ErrorProto(&said))
	default:
		return chunk{}, engine.Errorf(engine.KindCorrupt, "", "", "an answer of kind %q", head[0])
	}
}

// receiveBulk is receive over a connection of its own, which it closes.
func (a *attempt) receiveBulk(ctx context.Context, raw net.Conn) error {
	closing := sync.OnceFunc(func() { _ = raw.Close() }) // What it was for has ended.
	defer closing()
	defer context.AfterFunc(ctx, closing)()
	conn, part := &timely{Conn: raw, patience: a.puller.config.Patience}, a.part
	failed := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var ours *engine.Error
		if errors.As(err, &ours) {
			return err
		}
		return engine.Errorf(engine.KindUnavailable, "", "", "the connection ended after %d of %d bytes: %w", part.offset, part.total, err)
	}
	if _, err := conn.Write(ticket{id: a.id, offset: part.offset, chunk: chunkBytes}.encode()); err != nil {
		return failed(err)
	}
	meta, err := readAnswer(conn)
	if err != nil {
		return failed(err)
	}
	if meta.total != part.total || meta.domain != part.domain || part.offset > 0 && meta.description != part.description {
		return otherObject{meta.description}
	}
	if meta.offset != part.offset {
		return engine.Errorf(engine.KindCorrupt, "", "", "it sends from offset %d, expected %d", meta.offset, part.offset)
	}
	part.description = meta.description
	part.holders++
	for part.offset < part.total {
		piece := part.data[part.offset:][:min(bulkRead, part.total-part.offset)]
		n, err := conn.Read(piece)
		part.sum = crc32.Update(part.sum, castagnoli, piece[:n])
		part.offset += int64(n)
		if err != nil && part.offset < part.total {
			return failed(err)
		}
	}
	return nil
}

// timely is a connection whose other end must take or give something within its patience.
type timely struct {
	net.Conn
	patience time.Duration
}

// Read implements net.Conn.
func (c *timely) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *timely) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
