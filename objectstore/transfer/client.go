package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

// Client gets and puts objects of a node on another machine. It is safe for concurrent use.
type Client struct {
	address    string
	connection *grpc.ClientConn
}

// Dial makes a client of the Flight service at address ("host:port"), which is connected when it is first used: ctx ends nothing later.
// Without transport credentials among the options the connection is in clear text. Close ends it.
func Dial(_ context.Context, address string, options ...grpc.DialOption) (*Client, error) {
	all := append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	connection, err := grpc.NewClient(address, append(all, options...)...)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "dial", address, "%w", err)
	}
	return &Client{address: address, connection: connection}, nil
}

// Close ends the connection, and calls that are under way with an error. Tables that were got stay readable.
func (c *Client) Close() error { return c.connection.Close() }

// Get returns an object in memory of this process, its checksum verified and its content validated; the node brings it from
// another one if need be. The caller releases it. The errors' kinds: engine.KindNotFound for an unknown object, engine.KindCorrupt,
// engine.KindExhausted if it does not fit this process, engine.KindUnavailable if the node went away, or sent nothing for 30 s once it had begun.
func (c *Client) Get(ctx context.Context, id engine.ObjectID) (*table.Table, error) {
	t, err := c.get(ctx, id)
	return t, c.wrap("get object", id, err)
}

func (c *Client) get(ctx context.Context, id engine.ObjectID) (*table.Table, error) {
	source, err := getChunks(ctx, c.connection, ticket{id: id, chunk: chunkBytes, fetch: true}, patience)
	if err != nil {
		return nil, err
	}
	defer source.close()
	var data []byte
	var whole chunk
	var sum uint32
	for offset := int64(0); ; {
		meta, message, err := source.next()
		if errors.Is(err, io.EOF) {
			return nil, engine.Errorf(engine.KindUnavailable, "", "", "the stream ended after %d of %d bytes", offset, whole.total)
		}
		if err != nil {
			return nil, err
		}
		if data == nil {
			whole = meta
			if data, err = allocate(meta.total); err != nil {
				return nil, err
			}
		}
		n := int64(message.bodyBytes)
		if meta.description != whole.description || meta.offset != offset || n == 0 || n > whole.total-offset {
			return nil, engine.Errorf(engine.KindCorrupt, "", "", "it sent %d bytes at offset %d of %d, expected those at %d of %d", n, meta.offset, meta.total, offset, whole.total)
		}
		if err := message.read(data[offset:]); err != nil {
			return nil, engine.Errorf(engine.KindCorrupt, "", "", "message: %w", err)
		}
		sum = crc32.Update(sum, castagnoli, data[offset:][:n])
		if offset += n; offset == whole.total {
			break
		}
	}
	if sum != whole.crc {
		return nil, engine.Errorf(engine.KindCorrupt, "", "", "checksum %08x of what it sent, it said %08x", sum, whole.crc)
	}
	return table.Open(data, table.Options{})
}

// allocate returns memory for an object that comes from outside, whose length may be a lie.
func allocate(size int64) ([]byte, error) {
	if size <= 0 || size > math.MaxInt-bodyAlignment {
		return nil, engine.Errorf(engine.KindCorrupt, "", "", "it says that the object has %d bytes", size)
	}
	if size > chunkBytes {
		if err := affordable(size); err != nil {
			return nil, err
		}
	}
	data := make([]byte, size+bodyAlignment-1)
	start := -int(uintptr(unsafe.Pointer(unsafe.SliceData(data)))) & (bodyAlignment - 1) //nolint:gosec // The address says how far it is to the next aligned one.
	return data[start : start+int(size) : start+int(size)], nil
}

// Put makes an object that a session owns, or, if session is empty, that is pinned for an hour, in a security domain, which is
// objectstore.DefaultDomain if it is empty. It returns when the node has it. The encoding stays the caller's, and may be released when Put returns. The errors' kinds: engine.KindConflict if the id exists,
// engine.KindExhausted and engine.KindInvalidArgument if the node has no room, engine.KindUnavailable if it went away.
func (c *Client) Put(ctx context.Context, id engine.ObjectID, session, domain string, e *table.Encoding) (objectstore.Info, error) {
	info, err := c.put(ctx, id, session, domain, e)
	return info, c.wrap("put object", id, err)
}

func (c *Client) put(ctx context.Context, id engine.ObjectID, session, domain string, e *table.Encoding) (objectstore.Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if session != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, HeaderSession, session)
	}
	pieces := e.Pieces()
	head := rawPut{id: id, description: description{
		total: e.SizeBytes(), rows: e.Rows(), batches: e.Batches(), crc: checksum(pieces), domain: domain,
	}}
	descriptor, err := proto.Marshal(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: head.encode()})
	if err != nil {
		return objectstore.Info{}, engine.WrapError("", "", err)
	}
	stream, err := c.connection.NewStream(ctx, &grpc.StreamDesc{StreamName: "DoPut", ClientStreams: true, ServerStreams: true}, doPut, callOptions()...)
	if err != nil {
		return objectstore.Info{}, rpc.FromStatus("call", err)
	}
	// A send that fails with io.EOF says that the call has ended; the receive below says why.
	if err := sendPieces(stream, descriptor, pieces, head.total); err != nil && !errors.Is(err, io.EOF) {
		return objectstore.Info{}, rpc.FromStatus("call", err)
	}
	if err := stream.CloseSend(); err != nil {
		return objectstore.Info{}, rpc.FromStatus("call", err)
	}
	var result flight.PutResult
	if err := stream.RecvMsg(&result); errors.Is(err, io.EOF) {
		return objectstore.Info{}, engine.Errorf(engine.KindUnavailable, "", "", "the call ended without an answer")
	} else if err != nil {
		return objectstore.Info{}, rpc.FromStatus("call", err)
	}
	var answer objectJSON
	if err := json.Unmarshal(result.GetAppMetadata(), &answer); err != nil {
		return objectstore.Info{}, engine.Errorf(engine.KindVersion, "", "", "the answer cannot be read: %w", err)
	}
	return answer.info()
}

// sendPieces sends an encoded object. Each message has a copy of its part, because gRPC may read it after the call was given up, when
// the caller's records are gone.
func sendPieces(stream grpc.ClientStream, descriptor []byte, pieces []table.Piece, total int64) error {
	size := int(min(total, chunkBytes))
	var pooled *[]byte
	var body []byte
	send := func() error {
		err := stream.SendMsg(&outgoing{descriptor: descriptor, body: body, pooled: pooled})
		descriptor, pooled, body = nil, nil, nil
		return err
	}
	for _, p := range pieces {
		for data, zeros := p.Data, p.Zeros; len(data) > 0 || zeros > 0; {
			if pooled == nil {
				pooled = mem.DefaultBufferPool().Get(size)
				body = (*pooled)[:0]
			}
			free := size - len(body)
			if free == 0 {
				if err := send(); err != nil {
					return err
				}
				continue
			}
			if len(data) > 0 {
				n := min(len(data), free)
				body, data = append(body, data[:n]...), data[n:]
				continue
			}
			n := min(zeros, free)
			body, zeros = append(body, make([]byte, n)...), zeros-n
		}
	}
	return send()
}

func checksum(pieces []table.Piece) (sum uint32) {
	var zeros [4096]byte
	for _, p := range pieces {
		if p.Data != nil {
			sum = crc32.Update(sum, castagnoli, p.Data)
			continue
		}
		for n := p.Zeros; n > 0; n -= len(zeros) {
			sum = crc32.Update(sum, castagnoli, zeros[:min(n, len(zeros))])
		}
	}
	return sum
}

func (c *Client) wrap(op string, id engine.ObjectID, err error) error {
	return engine.WrapError(op, fmt.Sprintf("%s at %s", id, c.address), err)
}
