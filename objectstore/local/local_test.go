//go:build linux

package local_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
)

// fixture is a store with its server.
type fixture struct {
	store  *objectstore.Store
	server *local.Server
	path   string
}

// newStore opens a store that is closed at the end of the test.
func newStore(t testing.TB, config objectstore.Config) *objectstore.Store {
	t.Helper()
	if config.CapacityBytes == 0 {
		config.CapacityBytes = 256 << 20
	}
	store, err := objectstore.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return store
}

// serve starts a server over a store of its own.
func serve(t testing.TB, config local.ServerConfig) *fixture {
	t.Helper()
	if config.Store == nil {
		config.Store = newStore(t, objectstore.Config{})
	}
	if config.Path == "" {
		config.Path = filepath.Join(t.TempDir(), "store", "store.sock")
	}
	if config.Node == "" {
		config.Node = "node-1"
	}
	server, err := local.Listen(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &fixture{store: config.Store, server: server, path: config.Path}
}

// dial connects a client that is closed at the end of the test.
func (f *fixture) dial(t testing.TB, options local.Options) *local.Client {
	t.Helper()
	if options.Client == "" {
		options.Client = t.Name()
	}
	client, err := local.Dial(t.Context(), f.path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return client
}

// session is what most tests are.
var session = local.Options{Session: "s1"}

// makeRecord makes a record of about sizeBytes with numbers and texts from a seed.
func makeRecord(sizeBytes int, seed uint64) arrow.Record {
	random := rand.New(rand.NewPCG(seed, 1))
	rows := max(1, sizeBytes/24)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}, {Name: "t", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(random.Int64())
		if i%7 == 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.Float64Builder).Append(random.Float64())
		}
		b.Field(2).(*array.StringBuilder).Append("abcdefgh"[:random.IntN(8)])
	}
	return b.NewRecord()
}

func encode(t testing.TB, records ...arrow.Record) *table.Encoding {
	t.Helper()
	e, err := table.Encode(records[0].Schema(), records...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Release)
	return e
}

// put makes an object of a record and puts it.
func put(t testing.TB, client *local.Client, record arrow.Record) engine.ObjectID {
	t.Helper()
	id := engine.NewObjectID()
	if _, err := client.Put(t.Context(), id, encode(t, record)); err != nil {
		t.Fatal(err)
	}
	return id
}

// equal compares a table with the record that it was made of.
func equal(t testing.TB, got *table.Table, want arrow.Record) {
	t.Helper()
	if len(got.Records()) != 1 || !array.RecordEqual(got.Records()[0], want) {
		t.Errorf("another table came back: %d rows in %d batches, want %d", got.Rows(), len(got.Records()), want.NumRows())
	}
}

// wantKind checks the kind of an error.
func wantKind(t testing.TB, err error, kind engine.Kind) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Errorf("error %v, want one of kind %v", err, kind)
	}
}

func TestPutGet(t *testing.T) {
	f := serve(t, local.ServerConfig{Cluster: func() string { return "c1" }})
	client := f.dial(t, session)
	if client.Node() != "node-1" || client.Cluster() != "c1" {
		t.Errorf("node %q of cluster %q", client.Node(), client.Cluster())
	}
	for _, bytes := range []int{1, 1 << 10, 90 << 10, 110 << 10, 1 << 20, 5 << 20} {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			record := makeRecord(bytes, 7)
			defer record.Release()
			id := engine.NewObjectID()
			e := encode(t, record)
			info, err := client.Put(t.Context(), id, e)
			if err != nil {
				t.Fatal(err)
			}
			if info.ID != id || info.Rows != record.NumRows() || info.Batches != 1 || info.SizeBytes != e.SizeBytes() || !info.Primary ||
				info.Domain != objectstore.DefaultDomain || info.State != engine.ObjectInMemory || len(info.Owners) != 1 || info.Owners[0].String() != "session/s1" ||
				info.Inline != (e.SizeBytes() <= engine.MaxInlineObjectBytes) {
				t.Errorf("put: %+v", info)
			}
			got, info, err := client.Get(t.Context(), id, local.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, record)
			if stored, _ := f.store.Info(id); !info.Created.Equal(stored.Created) || info.SizeBytes != stored.SizeBytes || info.Inline != stored.Inline {
				t.Errorf("get: %+v, the store has %+v", info, stored)
			}
			got.Release()
			_, err = client.Put(t.Context(), id, e)
			wantKind(t, err, engine.KindConflict)
			if err := client.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			_, _, err = client.Get(t.Context(), id, local.GetOptions{})
			wantKind(t, err, engine.KindNotFound)
		})
	}
}

func TestConcurrentCalls(t *testing.T) { testConcurrentCalls(t, 300) }

// TestManyConcurrentCalls is TestConcurrentCalls with more calls than a connection carries at a time.
func TestManyConcurrentCalls(t *testing.T) {
	testenv.Full(t)
	testConcurrentCalls(t, 6000)
}

// testConcurrentCalls puts, gets, and deletes over one connection, with a number of callers at the same time.
func testConcurrentCalls(t *testing.T, callers int) {
	f := serve(t, local.ServerConfig{})
	client := f.dial(t, session)
	small, large := makeRecord(1<<10, 1), makeRecord(200<<10, 2)
	defer small.Release()
	defer large.Release()
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			record := small
			if i%20 == 0 {
				record = large
			}
			e, err := table.Encode(record.Schema(), record)
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Release()
			id := engine.NewObjectID()
			if _, err := client.Put(t.Context(), id, e); err != nil {
				t.Error(err)
				return
			}
			got, _, err := client.Get(t.Context(), id, local.GetOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			equal(t, got, record)
			got.Release()
			if i%3 == 0 {
				if err := client.Delete(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	unpinned(t, f.store)
}

// unpinned waits until the store has no pins.
func unpinned(t testing.TB, store *objectstore.Store) {
	t.Helper()
	eventually(t, func() string {
		if usage := store.Usage(); usage.PinnedBytes != 0 {
			return fmt.Sprintf("%d bytes are pinned", usage.PinnedBytes)
		}
		return ""
	})
}

// eventually waits until a condition that nobody announces holds; it returns why not.
func eventually(t testing.TB, condition func() string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for reason := condition(); reason != ""; reason = condition() {
		if time.Now().After(deadline) {
			t.Fatal(reason)
		}
		<-tick.C
	}
}

// TestStopKeepsWhatIsRead stops a server while one client reads an object that is deleted and others wait for its memory.
func TestStopKeepsWhatIsRead(t *testing.T) {
	const puts = 8
	f := serve(t, local.ServerConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 8 << 20, ArenaBytes: 8 << 20})})
	record, other := makeRecord(6<<20, 1), makeRecord(5<<20, 2)
	defer record.Release()
	defer other.Release()
	reader := f.dial(t, session)
	id := put(t, reader, record)
	got, _, err := reader.Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	f.store.Delete(id)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for range puts {
		writer, e := f.dial(t, session), encode(t, other)
		waiting.Go(func() {
			if _, err := writer.Put(t.Context(), engine.NewObjectID(), e); err == nil {
				t.Error("put an object for which there is no room")
			}
		})
	}
	eventually(t, func() string {
		if n := f.store.Usage().Waiting; n < puts {
			return fmt.Sprintf("%d puts wait", n)
		}
		return ""
	})
	if err := f.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, got, record)
}
