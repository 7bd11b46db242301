package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
)

func encode(t testing.TB, records []arrow.Record) *table.Encoding {
	t.Helper()
	e, err := table.Encode(records[0].Schema(), records...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestClient(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	c := dial(t, n.address)
	for _, records := range [][]arrow.Record{mixed(t), numbers(1, 1, 1), numbers(2, 3, 7<<20), numbers(3, 1, 2*transfer.ChunkBytes)} {
		id := engine.NewObjectID()
		e := encode(t, records)
		info, err := c.Put(t.Context(), id, "s1", "a", e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Put(t.Context(), id, "s1", "a", e)
		wantKind(t, err, engine.KindConflict)
		want := objectstore.Description{Rows: e.Rows(), Batches: e.Batches()}
		if info.ID != id || info.SizeBytes != e.SizeBytes() || info.Description != want || info.State != engine.ObjectInMemory || !info.Primary || len(info.Owners) != 1 || info.Owners[0].String() != "session/s1" {
			t.Errorf("info %+v", info)
		}
		encoded := make([]byte, e.SizeBytes())
		e.CopyTo(encoded)
		// The checksum by which the transfer was verified is the store's from then on.
		if sum := crc32.Checksum(encoded, crc32.MakeTable(crc32.Castagnoli)); info.Domain != "a" || !info.Checked || info.CRC32C != sum {
			t.Errorf("info %+v, expected domain a and checksum %08x", info, sum)
		}
		e.Release()
		if !bytes.Equal(bytesOf(t, n.store, id), encoded) {
			t.Error("other bytes")
		}
		got, err := c.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got.Records(), records)
		got.Release()
		waitUnpinned(t, n.store, id)
	}
	// Without a session the object is pinned for a time.
	e := encode(t, mixed(t))
	defer e.Release()
	info, err := c.Put(t.Context(), engine.NewObjectID(), "", "", e)
	if err != nil || len(info.Owners) != 1 || info.Owners[0].Kind != engine.OwnerPin || info.Owners[0].Expires.IsZero() || info.Domain != objectstore.DefaultDomain {
		t.Errorf("%+v, %v", info, err)
	}
	_, err = c.Get(t.Context(), engine.NewObjectID())
	wantKind(t, err, engine.KindNotFound)
}

func TestClientErrors(t *testing.T) {
	e := encode(t, numbers(1, 1, 3<<20))
	defer e.Release()
	gone := dial(t, "127.0.0.1:1")
	_, err := gone.Put(t.Context(), engine.NewObjectID(), "s1", "", e)
	wantKind(t, err, engine.KindUnavailable)
	_, err = gone.Get(t.Context(), engine.NewObjectID())
	wantKind(t, err, engine.KindUnavailable)

	small := newNode(t, "a", transfer.ServiceConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 1 << 20, ArenaBytes: 1 << 20})})
	_, err = dial(t, small.address).Put(t.Context(), engine.NewObjectID(), "s1", "", e)
	wantKind(t, err, engine.KindInvalidArgument)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dial(t, small.address).Get(canceled, engine.NewObjectID())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}

	data := object(t, 1, 3<<20)
	damaged := bytes.Clone(data)
	damaged[len(damaged)/2] ^= 1
	truth, _, _ := begin(t, data, &actor{})
	noArrow := bytes.Repeat([]byte{1}, 1000)
	for _, test := range []struct {
		name string
		data []byte
		*actor
		kind engine.Kind
	}{
		{"damaged", damaged, &actor{say: truth.say}, engine.KindCorrupt},
		{"not Arrow", noArrow, &actor{}, engine.KindCorrupt},
		{"ends early", data, &actor{play: func(_ context.Context, _ int64, send func(offset, end int64) bool) error { send(0, 1000); return nil }}, engine.KindUnavailable},
		{"wrong place", data, &actor{play: func(_ context.Context, _ int64, send func(offset, end int64) bool) error {
			send(1000, 2000)
			return nil
		}}, engine.KindCorrupt},
		{"longer than memory", data, &actor{say: transfer.Chunk{Total: 1 << 55}}, engine.KindExhausted},
		{"longer than any memory", data, &actor{say: transfer.Chunk{Total: 1<<63 - 1}}, engine.KindCorrupt},
		{"empty", data, &actor{say: transfer.Chunk{Total: 0, Rows: 1}}, engine.KindCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, holder, _ := begin(t, test.data, test.actor)
			_, err := dial(t, holder("a").Address).Get(t.Context(), engine.NewObjectID())
			wantKind(t, err, test.kind)
		})
	}
}

// TestPinsEnd ends gets in every way before all was read: the object is not pinned afterwards.
func TestPinsEnd(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, n.store, id, numbers(1, 16, 16<<20))
	raw := transfer.Ticket{ID: id, Raw: true, Chunk: transfer.ChunkBytes}.Encode()
	for _, ticket := range [][]byte{raw, []byte(id.String())} {
		for _, test := range []struct {
			name string
			end  func(cancel func(), connection *grpc.ClientConn)
		}{
			{"canceled", func(cancel func(), _ *grpc.ClientConn) { cancel() }},
			{"connection closed", func(_ func(), connection *grpc.ClientConn) { _ = connection.Close() }},
		} {
			t.Run(test.name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				connection, err := rpc.Dial(n.address)
				if err != nil {
					t.Fatal(err)
				}
				defer connection.Close()
				stream, err := flight.NewFlightServiceClient(connection).DoGet(ctx, &flight.Ticket{Ticket: ticket})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
				if info, _ := n.store.Info(id); info.Pins == 0 {
					t.Fatal("nothing is pinned in the middle of a transfer: the test tests nothing")
				}
				test.end(cancel, connection)
				waitUnpinned(t, n.store, id)
			})
		}
	}
	// A server that stops in the middle lets go too.
	stream, err := foreign(t, n.address).DoGet(t.Context(), &flight.Ticket{Ticket: raw})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	n.server.Stop()
	waitUnpinned(t, n.store, id)
}

func TestServerWithoutOptions(t *testing.T) {
	store := newStore(t, objectstore.Config{})
	id := engine.NewObjectID()
	put(t, store, id, mixed(t))
	address, _ := serveWith(t, nil, func(s *grpc.Server) { transfer.Register(s, transfer.NewService(transfer.ServiceConfig{Store: store})) })
	client := foreign(t, address)
	_, _, err := doGet(t.Context(), client, id.String())
	wantKind(t, err, engine.KindInternal)
	_, err = doPut(t.Context(), client, nil, mixed(t))
	wantKind(t, err, engine.KindInternal)
}
