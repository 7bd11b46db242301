// Package storetest tests object stores: a suite that every configuration of a store passes, and random histories that are compared
// with a simple model.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore"
)

// Clock is a time that tests can move on. It is safe for concurrent use.
type Clock struct{ ahead atomic.Int64 }

// Now is the clock's time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// Open opens a store that the test closes at its end, when it must hold nothing any more. It fails the test if handles or pending
// objects are left, in builds with the tag invariants, and if the closed store leaves anything behind in its bucket.
func Open(t testing.TB, config objectstore.Config) *objectstore.Store {
	t.Helper()
	if config.CapacityBytes == 0 {
		config.CapacityBytes = 64 << 20
	}
	if config.ArenaBytes == 0 {
		config.ArenaBytes = config.CapacityBytes / 8
	}
	if config.PrefaultBytes == 0 {
		config.PrefaultBytes = -1
	}
	if config.Spill != nil && config.Node == "" {
		config.Node, config.Generation = "node", "g1"
	}
	s, err := objectstore.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, leak := range s.Leaks() {
			t.Error(leak)
		}
		Close(t, s)
		if config.Spill != nil {
			wantEmpty(t, config.Spill)
		}
	})
	return s
}

// Close closes a store and checks that it holds nothing; all handles must have been released.
func Close(t testing.TB, s *objectstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	u := s.Usage()
	if u.ArenaBytes != 0 || u.ObjectBytes != 0 || u.PinnedBytes != 0 || u.Objects != 0 || u.SpilledBytes != 0 || u.Waiting != 0 {
		t.Errorf("the closed store holds %+v", u)
	}
}

// wantEmpty fails the test if a bucket has anything.
func wantEmpty(t testing.TB, bucket blob.Bucket) {
	t.Helper()
	for info, err := range bucket.List(context.Background(), "") {
		if err != nil {
			t.Error(err)
			return
		}
		t.Errorf("the store left %s behind", info.Key)
	}
}

// Session is the owner of the objects that the suite puts.
var Session = engine.ObjectOwner{Kind: engine.OwnerSession, ID: "s1"}

// ID returns the i-th of the ids that tests use; they are the same in every run.
func ID(i int) engine.ObjectID {
	return engine.OutputObjectID(engine.TaskID{Job: "storetest", Index: i}, 0)
}

// Content returns n bytes that depend on the id.
func Content(id engine.ObjectID, n int64) []byte {
	data := make([]byte, n)
	// One random block, over and over with its number: making it must cost little, so that tests are about the store.
	const block = 16 << 10
	random := data[:min(n, block)]
	_, _ = rand.NewChaCha8([32]byte(append(id[:], id[:]...))).Read(random) // It never fails.
	for i := int64(block); i < n; i += block {
		copy(data[i:], random)
		if n-i >= 8 {
			binary.LittleEndian.PutUint64(data[i:], uint64(i)) //nolint:gosec // Never negative.
		}
	}
	return data
}

// TryPut makes an object of Content.
func TryPut(ctx context.Context, s *objectstore.Store, creation objectstore.Creation) error {
	p, err := s.Create(ctx, creation)
	if err != nil {
		return err
	}
	copy(p.Memory(), Content(creation.ID, creation.SizeBytes))
	_, err = p.Seal(objectstore.Description{Rows: creation.SizeBytes, Batches: 1})
	return err
}

// Put makes the i-th object, of n bytes, which Session owns.
func Put(t testing.TB, s *objectstore.Store, i int, n int64) engine.ObjectID {
	t.Helper()
	id := ID(i)
	if err := TryPut(t.Context(), s, objectstore.Creation{ID: id, SizeBytes: n, Owner: Session}); err != nil {
		t.Fatal(err)
	}
	return id
}

// Check gets an object and compares it with Content.
func Check(t testing.TB, s *objectstore.Store, id engine.ObjectID) {
	t.Helper()
	Get(t, s, id).Release()
}

// Get is Check that keeps the handle.
func Get(t testing.TB, s *objectstore.Store, id engine.ObjectID) *objectstore.Handle {
	t.Helper()
	h, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := compare(h); err != nil {
		h.Release()
		t.Fatal(err)
	}
	return h
}

// compare looks for a difference between an object and its Content.
func compare(h *objectstore.Handle) error {
	info := h.Info()
	if !bytes.Equal(h.Bytes(), Content(info.ID, info.SizeBytes)) {
		return fmt.Errorf("object %s of %d bytes is not as it was written", info.ID, info.SizeBytes)
	}
	return nil
}

// WantKind fails the test unless err has a kind.
func WantKind(t testing.TB, err error, kind engine.Kind) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("got the error %v, want one of kind %s", err, kind)
	}
}

// checksum is that of the store, computed in another way.
func checksum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }
