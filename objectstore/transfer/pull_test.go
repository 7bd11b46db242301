package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

func TestPull(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	store := newStore(t, objectstore.Config{})
	puller := newPuller(t, transfer.PullerConfig{
		Store: store, Self: "self",
		Locate: at(transfer.Holder{Node: "self", Address: "127.0.0.1:1"}, source.holder(), transfer.Holder{Node: "without address"}),
	})
	for _, sizeBytes := range []int{1, 1 << 10, engine.MaxInlineObjectBytes, transfer.ChunkBytes, 3*transfer.ChunkBytes + 1000, 6 << 20} {
		t.Run(fmt.Sprint(sizeBytes), func(t *testing.T) {
			id := engine.NewObjectID()
			want := put(t, source.store, id, numbers(uint64(sizeBytes), 2, sizeBytes))
			for range 2 { // The second finds it.
				if err := puller.Pull(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(bytesOf(t, store, id), bytesOf(t, source.store, id)) {
				t.Fatal("other bytes")
			}
			got, _ := store.Info(id)
			if got.Primary || got.Description != want.Description || len(got.Owners) != 0 || got.Domain != objectstore.DefaultDomain {
				t.Errorf("%+v", got)
			}
			if from, _ := source.store.Info(id); !from.Checked || !got.Checked || got.CRC32C != from.CRC32C {
				t.Errorf("the checksum is not remembered: %+v of %+v", got, from)
			}
			waitUnpinned(t, source.store, id)
		})
	}
	wantKind(t, puller.Pull(t.Context(), engine.NewObjectID()), engine.KindUnavailable)
}

// A copy is in the domain of the object, whatever was believed before.
func TestPullKeepsTheDomain(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	hints := map[string]transfer.Holder{
		"nothing known": {}, "size known": {SizeBytes: 1}, "all known": {SizeBytes: 1, Domain: "a"}, "wrong domain": {SizeBytes: 1, Domain: "b"},
		"domain alone known": {Domain: "a"},
	}
	for name, hint := range hints {
		for _, sizeBytes := range []int{100, 2 * transfer.ChunkBytes} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, sizeBytes), func(t *testing.T) {
				id := engine.NewObjectID()
				want := putInto(t, source.store, "a", id, numbers(1, 2, sizeBytes))
				if hint.SizeBytes != 0 {
					hint.SizeBytes = want.SizeBytes
				}
				hint.Node, hint.Address = source.id, source.address
				store := newStore(t, objectstore.Config{})
				puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(hint)})
				if err := puller.Pull(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if got, _ := store.Info(id); got.Domain != "a" {
					t.Errorf("the copy is in domain %q", got.Domain)
				}
				if !bytes.Equal(bytesOf(t, store, id), bytesOf(t, source.store, id)) {
					t.Error("other bytes")
				}
			})
		}
	}
}

func TestPullOfWhatNobodyHas(t *testing.T) {
	store := newStore(t, objectstore.Config{})
	id := engine.NewObjectID()
	none := newPuller(t, transfer.PullerConfig{Store: store, Self: "self", Locate: at(transfer.Holder{Node: "self", Address: "127.0.0.1:1"})})
	wantKind(t, none.Pull(t.Context(), id), engine.KindNotFound)
	lost := newPuller(t, transfer.PullerConfig{Store: store, Locate: func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
		return nil, engine.Errorf(engine.KindUnavailable, "locate", "", "lost with its node")
	}})
	err := lost.Pull(t.Context(), id)
	wantKind(t, err, engine.KindUnavailable)
	if !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), "lost with its node") {
		t.Error(err)
	}
}

func TestPullsOfOneObjectAreOne(t *testing.T) {
	data := object(t, 1, 5<<20)
	started, open := make(chan struct{}, 200), make(chan struct{})
	a := &actor{}
	a.play = func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
		<-open
		a.rest(offset, 1<<20, send)
		return nil
	}
	a, holder, _ := begin(t, data, a)
	store := newStore(t, objectstore.Config{})
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(holder("a"))})
	id := engine.NewObjectID()
	errs := make(chan error)
	for range 100 {
		go func() {
			started <- struct{}{}
			errs <- puller.Pull(t.Context(), id)
		}()
	}
	for range 100 {
		<-started
	}
	if info, ok := store.Info(id); ok && info.State != engine.ObjectPending {
		t.Error("the object is visible before it is there")
	}
	close(open)
	for range 100 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if asked := a.asked(); len(asked) != 1 {
		t.Errorf("asked at %d", asked)
	}
	if !bytes.Equal(bytesOf(t, store, id), data) {
		t.Error("other bytes")
	}
}

func TestCallersLeaveAPull(t *testing.T) {
	data := object(t, 1, 5<<20)
	begun, ended, open := make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{})
	a := &actor{}
	a.play = func(ctx context.Context, offset int64, send func(offset, end int64) bool) error {
		send(offset, offset+1<<20)
		begun <- struct{}{}
		select {
		case <-ctx.Done():
			ended <- struct{}{}
			return ctx.Err()
		case <-open:
		}
		a.rest(offset+1<<20, 1<<20, send)
		return nil
	}
	_, holder, _ := begin(t, data, a)
	store := newStore(t, objectstore.Config{})
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(holder("a"))})
	id := engine.NewObjectID()

	// The last one that leaves ends it.
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- puller.Pull(ctx, id) }()
	}
	<-begun
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
	<-ended

	// Another pull begins anew, and one that leaves does not end it for the other.
	ctx, cancel = context.WithCancel(t.Context())
	stays := make(chan error)
	go func() { stays <- puller.Pull(t.Context(), id) }()
	<-begun
	go func() { errs <- puller.Pull(ctx, id) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(open)
	if err := <-stays; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytesOf(t, store, id), data) {
		t.Error("other bytes")
	}
}

// Who joins a transfer that is being given up gets the object all the same, whatever words Locate has for having been stopped.
func TestPullAfterOneThatWasGivenUp(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, source.store, id, numbers(1, 1, 1000))
	located, joined := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	puller := newPuller(t, transfer.PullerConfig{Store: newStore(t, objectstore.Config{}), Locate: func(ctx context.Context, _ engine.ObjectID) ([]transfer.Holder, error) {
		if calls.Add(1) > 1 {
			return []transfer.Holder{source.holder()}, nil
		}
		close(located)
		<-ctx.Done()
		<-joined
		return nil, engine.Errorf(engine.KindCanceled, "find object", "", "%w", ctx.Err())
	}})
	first, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- puller.Pull(first, id) }()
	<-located
	cancel()
	wantKind(t, <-left, engine.KindCanceled)
	second := make(chan error, 1)
	go func() { second <- puller.Pull(t.Context(), id) }()
	until(func() bool { return puller.Waiters(id) == 1 })
	close(joined)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
}

func TestCloseEndsPulls(t *testing.T) {
	begun := make(chan struct{}, 1)
	_, holder, _ := begin(t, object(t, 1, 5<<20), &actor{play: func(ctx context.Context, offset int64, send func(offset, end int64) bool) error {
		send(offset, offset+1<<20)
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	store := newStore(t, objectstore.Config{})
	puller := transfer.NewPuller(transfer.PullerConfig{Store: store, Locate: at(holder("a"))})
	errs := make(chan error)
	go func() { errs <- puller.Pull(t.Context(), engine.NewObjectID()) }()
	<-begun
	if err := puller.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-errs, engine.KindCanceled)
	wantKind(t, puller.Pull(t.Context(), engine.NewObjectID()), engine.KindCanceled)
	if u := store.Usage(); u.Objects != 0 || u.PinnedBytes != 0 {
		t.Errorf("%+v", u)
	}
}

// TestPullsAreBounded pulls six objects of which three fit the bytes in flight, and one that does not fit alone.
func TestPullsAreBounded(t *testing.T) {
	const each = 2 << 20
	var now, most atomic.Int64
	locate := map[engine.ObjectID]transfer.Holder{}
	for i := range 7 {
		size := each
		if i == 6 {
			size = 4 * each
		}
		a := &actor{}
		a.play = func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
			n := now.Add(int64(size))
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			a.rest(offset, 100_000, send)
			now.Add(-int64(size))
			return nil
		}
		_, holder, _ := begin(t, object(t, uint64(i), size), a)
		locate[engine.NewObjectID()] = holder("a")
	}
	const limit = 3*each + each/2 // The objects are a little larger than their columns.
	puller := newPuller(t, transfer.PullerConfig{
		Store: newStore(t, objectstore.Config{}), MaxBytesInFlight: limit,
		Locate: func(_ context.Context, id engine.ObjectID) ([]transfer.Holder, error) {
			return []transfer.Holder{locate[id]}, nil
		},
	})
	var wg sync.WaitGroup
	for id := range locate {
		wg.Go(func() {
			if err := puller.Pull(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n != 3*each && n != 2*each && n != 4*each && n != each {
		t.Errorf("%d bytes were in flight, at most %d may be, or one object of %d", n, 3*each, 4*each)
	}
}

func TestPullIntoAFullStore(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	id, other := engine.NewObjectID(), engine.NewObjectID()
	put(t, source.store, id, numbers(1, 1, 3<<20))
	store := newStore(t, objectstore.Config{CapacityBytes: 4 << 20, ArenaBytes: 4 << 20, CreateTimeout: time.Millisecond})
	put(t, store, other, numbers(2, 1, 3<<20))
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(source.holder())})
	wantKind(t, puller.Pull(t.Context(), id), engine.KindExhausted)
	if _, ok := store.Info(id); ok {
		t.Error("the object is there")
	}
	store.Delete(other)
	if err := puller.Pull(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	large := engine.NewObjectID()
	put(t, source.store, large, numbers(3, 1, 5<<20))
	wantKind(t, puller.Pull(t.Context(), large), engine.KindInvalidArgument)
}

// TestPullMeetsAWriter pulls an object that is written in the store at the same time.
func TestPullMeetsAWriter(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	info := put(t, source.store, id, numbers(1, 1, 1<<20))
	store := newStore(t, objectstore.Config{})
	pending, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: info.SizeBytes, Owner: engine.ObjectOwner{Kind: engine.OwnerTask, ID: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	copy(pending.Bytes(), bytesOf(t, source.store, id))
	asked := make(chan struct{}, 1)
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
		asked <- struct{}{}
		return []transfer.Holder{source.holder()}, nil
	}})
	errs := make(chan error)
	go func() { errs <- puller.Pull(t.Context(), id) }()
	<-asked
	if _, err := pending.Seal(info.Description); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	if got, _ := store.Info(id); !got.Primary {
		t.Errorf("%+v", got)
	}
}

// TestBroadcast brings one object to many stores that learn of each other's copies.
func TestBroadcast(t *testing.T) {
	const stores = 8
	source := newNode(t, "source", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, source.store, id, numbers(1, 4, 8<<20))
	var mu sync.Mutex
	holders := []transfer.Holder{source.holder()}
	locate := func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
		mu.Lock()
		defer mu.Unlock()
		return append([]transfer.Holder(nil), holders...), nil
	}
	var wg sync.WaitGroup
	for i := range stores {
		n := newNode(t, fmt.Sprint("n", i), transfer.ServiceConfig{})
		puller := newPuller(t, transfer.PullerConfig{Store: n.store, Self: n.id, Locate: locate})
		wg.Go(func() {
			if err := puller.Pull(t.Context(), id); err != nil {
				t.Error(err)
				return
			}
			sum, err := n.store.Checksum(t.Context(), id)
			if want, wantErr := source.store.Checksum(t.Context(), id); err != nil || wantErr != nil || sum != want {
				t.Errorf("checksum %08x, want %08x, %v, %v", sum, want, err, wantErr)
			}
			mu.Lock()
			defer mu.Unlock()
			holders = append(holders, n.holder())
		})
	}
	wg.Wait()
}
