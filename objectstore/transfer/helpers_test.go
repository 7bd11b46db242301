package transfer_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
)

// node is a store with its Flight service.
type node struct {
	id      engine.NodeID
	store   *objectstore.Store
	server  *grpc.Server
	address string
}

func newStore(t testing.TB, config objectstore.Config) *objectstore.Store {
	t.Helper()
	if config.CapacityBytes == 0 {
		config.CapacityBytes = 256 << 20
	}
	if config.PrefaultBytes == 0 {
		config.PrefaultBytes = -1
	}
	store, err := objectstore.Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, info := range store.List() {
			waitUnpinned(t, store, info.ID)
		}
		if err := store.Close(context.Background()); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return store
}

func newNode(t testing.TB, name string, config transfer.ServiceConfig) *node {
	t.Helper()
	if config.Store == nil {
		config.Store = newStore(t, objectstore.Config{})
	}
	config.Node = engine.NodeID(name)
	n := &node{id: config.Node, store: config.Store}
	n.address, n.server = serveWith(t, transfer.ServerOptions(n.store.Usage().CapacityBytes), func(s *grpc.Server) { transfer.Register(s, transfer.NewService(config)) })
	return n
}

// serve starts a server that ends with the test.
func serve(t testing.TB, register func(*grpc.Server)) (string, *grpc.Server) {
	t.Helper()
	return serveWith(t, transfer.ServerOptions(256<<20), register)
}

func serveWith(t testing.TB, options []grpc.ServerOption, register func(*grpc.Server)) (string, *grpc.Server) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(slog.New(slog.DiscardHandler), options...)
	register(server)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	return listener.Addr().String(), server
}

func (n *node) holder() transfer.Holder { return transfer.Holder{Node: n.id, Address: n.address} }

// at makes a Locate that always returns the same.
func at(holders ...transfer.Holder) transfer.Locate {
	return func(context.Context, engine.ObjectID) ([]transfer.Holder, error) { return holders, nil }
}

func newPuller(t testing.TB, config transfer.PullerConfig) *transfer.Puller {
	t.Helper()
	p := transfer.NewPuller(config)
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("close puller: %v", err)
		}
	})
	return p
}

func dial(t testing.TB, address string) *transfer.Client {
	t.Helper()
	c, err := transfer.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// waitUnpinned waits until nobody reads the object.
func waitUnpinned(t testing.TB, store *objectstore.Store, id engine.ObjectID) {
	t.Helper()
	until(func() bool {
		runtime.GC() // What gRPC has dropped is given back when it is found.
		info, ok := store.Info(id)
		return !ok || info.Pins == 0
	})
}

// numbers makes record batches of 11 columns of doubles with about sizeBytes bytes in all.
func numbers(seed uint64, batches, sizeBytes int) []arrow.Record {
	random := rand.New(rand.NewPCG(seed, 0))
	rows := max(1, sizeBytes/batches/88)
	var fields []arrow.Field
	for c := range 11 {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d", c), Type: arrow.PrimitiveTypes.Float64})
	}
	schema := arrow.NewSchema(fields, nil)
	var records []arrow.Record
	for range batches {
		columns := make([]arrow.Array, len(fields))
		for c := range columns {
			b := array.NewFloat64Builder(memory.DefaultAllocator)
			b.Reserve(rows)
			for range rows {
				b.UnsafeAppend(random.Float64())
			}
			columns[c] = b.NewArray()
			b.Release()
		}
		records = append(records, array.NewRecord(schema, columns, int64(rows)))
	}
	return records
}

// put makes an object in a store.
func put(t testing.TB, store *objectstore.Store, id engine.ObjectID, records []arrow.Record) objectstore.Info {
	t.Helper()
	return putInto(t, store, "", id, records)
}

// putInto is put into a security domain.
func putInto(t testing.TB, store *objectstore.Store, domain string, id engine.ObjectID, records []arrow.Record) objectstore.Info {
	t.Helper()
	e, err := table.Encode(records[0].Schema(), records...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	pending, err := store.Create(t.Context(), objectstore.Creation{
		ID: id, SizeBytes: e.SizeBytes(), Domain: domain, Owner: engine.ObjectOwner{Kind: engine.OwnerJob, ID: "job"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.CopyTo(pending.Bytes())
	info, err := pending.Seal(objectstore.Description{Rows: e.Rows(), Batches: e.Batches()})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// bytesOf returns a copy of an object's bytes.
func bytesOf(t testing.TB, store *objectstore.Store, id engine.ObjectID) []byte {
	t.Helper()
	h, err := store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	return append([]byte(nil), h.Bytes()...)
}

func wantKind(t testing.TB, err error, kind engine.Kind) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("error %v of kind %s, want %s", err, engine.KindOf(err), kind)
	}
}

// until waits for what no call waits for: it asks again and again, leaving the processor to others in between.
func until(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}
