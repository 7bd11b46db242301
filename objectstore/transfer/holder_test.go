package transfer_test

import (
	"context"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// actor plays a holder: it sends an object as a test wants it. Its answers have the wire form that the library's code gives them.
type actor struct {
	flight.BaseFlightServer
	t    testing.TB
	data []byte
	// say is what it says of the object; the zero value is the truth.
	say transfer.Chunk
	// play sends chunks from an offset on; nil sends all of them. send returns false when the stream is over.
	play func(ctx context.Context, offset int64, send func(offset, end int64) bool) error

	mu      sync.Mutex
	offsets []int64
}

// begin starts an actor that has an object's bytes.
func begin(t testing.TB, data []byte, a *actor) (*actor, func(name string) transfer.Holder, *grpc.Server) {
	t.Helper()
	a.t, a.data = t, data
	if a.say == (transfer.Chunk{}) {
		a.say = transfer.Chunk{
			Total: int64(len(data)), Rows: 1, Batches: 1, CRC: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)), Domain: objectstore.DefaultDomain,
		}
	}
	address, server := serve(t, func(s *grpc.Server) { flight.RegisterFlightServiceServer(s, a) })
	return a, func(name string) transfer.Holder { return transfer.Holder{Node: engine.NodeID(name), Address: address} }, server
}

// asked returns the offsets from which the actor was asked for bytes.
func (a *actor) asked() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int64(nil), a.offsets...)
}

// DoGet implements flight.FlightServer.
func (a *actor) DoGet(request *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	ticket, err := transfer.ParseTicket(request.GetTicket())
	if err != nil {
		a.t.Errorf("ticket %x: %v", request.GetTicket(), err)
		return err
	}
	say := a.say
	say.Offset = ticket.Offset
	if ticket.Chunk == 0 {
		return stream.Send(&flight.FlightData{AppMetadata: say.Encode()})
	}
	a.mu.Lock()
	a.offsets = append(a.offsets, ticket.Offset)
	a.mu.Unlock()
	send := func(offset, end int64) bool {
		say.Offset = offset
		return stream.Send(&flight.FlightData{AppMetadata: say.Encode(), DataBody: a.data[offset:end]}) == nil
	}
	if a.play != nil {
		return a.play(stream.Context(), ticket.Offset, send)
	}
	a.rest(ticket.Offset, int64(ticket.Chunk), send)
	return nil
}

// rest sends everything from offset on.
func (a *actor) rest(offset, chunk int64, send func(offset, end int64) bool) {
	for total := int64(len(a.data)); offset < total; offset += chunk {
		if !send(offset, min(offset+chunk, total)) {
			return
		}
	}
}

// object returns the bytes of some object.
func object(t testing.TB, seed uint64, sizeBytes int) []byte {
	t.Helper()
	store := newStore(t, objectstore.Config{})
	id := engine.NewObjectID()
	put(t, store, id, numbers(seed, 3, sizeBytes))
	return bytesOf(t, store, id)
}
