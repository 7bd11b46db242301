package client_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var errGone = engine.Errorf(engine.KindUnavailable, "put object", "", "the connection is gone")

func TestPutAndGetHere(t *testing.T) {
	head := newFakeHead(address("a", true), address("b", false))
	w := newWorld(t, head)
	store := newFakeStore("a")
	w.setNear("a", store)
	record := numbers(t, 0, 10)
	ref, err := w.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Cluster != testCluster || ref.ID == (engine.ObjectID{}) || store.objects[ref.ID] == nil {
		t.Errorf("got %v", ref)
	}
	got, err := w.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, record)
	table, err := w.PutTable(t.Context(), record.Schema(), record, numbers(t, 10, 5))
	if err != nil {
		t.Fatal(err)
	}
	if got, err = w.Get(t.Context(), engine.ObjectRef{ID: table.ID}); err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, record, numbers(t, 10, 5))
	empty, err := w.PutTable(t.Context(), record.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if got, err = w.Get(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	wantTable(t, got)
	if err := w.Delete(t.Context(), ref); err != nil || store.objects[ref.ID] != nil {
		t.Errorf("delete: %v", err)
	}
	// All this needed the head for the session and the stores alone.
	if calls := strings.Join(head.calls, " "); calls != "open stores" {
		t.Errorf("called %s", calls)
	}
}

func TestPutBadInput(t *testing.T) {
	w := newWorld(t, newFakeHead())
	if _, err := w.Put(t.Context(), nil); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no record: %v", err)
	}
	if _, err := w.PutTable(t.Context(), nil); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no schema: %v", err)
	}
	_, err := w.Put(t.Context(), large(t))
	if engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(err.Error(), "no object store") {
		t.Errorf("no store: %v", err)
	}
	for _, test := range []struct {
		ref  engine.ObjectRef
		want string
	}{
		{engine.ObjectRef{}, "names no object"},
		{engine.ObjectRef{ID: engine.NewObjectID(), Cluster: "elsewhere"}, "the object belongs to cluster elsewhere, and this client to " + testCluster},
	} {
		_, getErr := w.Get(t.Context(), test.ref)
		_, waitErr := w.Wait(t.Context(), []engine.ObjectRef{test.ref}, 0)
		_, infoErr := w.ObjectInfo(t.Context(), test.ref)
		_, checkpointErr := w.Checkpoint(t.Context(), test.ref, "/x")
		for i, err := range []error{
			getErr, waitErr, infoErr, checkpointErr, w.Delete(t.Context(), test.ref), w.Pin(t.Context(), test.ref, client.PinOptions{}),
			w.Hold(t.Context(), test.ref), w.Free(t.Context(), test.ref),
		} {
			if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.ref.ID.String()) {
				t.Errorf("%d: %v", i, err)
			}
		}
	}
	if err := w.Pin(t.Context(), engine.ObjectRef{ID: engine.NewObjectID()}, client.PinOptions{TTL: -1}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("a negative time: %v", err)
	}
}

// A socket that broke is dialled again, whether the object arrived before or not.
func TestPutOverBrokenSocket(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		t.Run(fmt.Sprintf("arrived=%v", arrived), func(t *testing.T) {
			w := newWorld(t, newFakeHead(address("a", true)))
			store := newFakeStore("a")
			w.setNear("a", store)
			if _, err := w.Put(t.Context(), numbers(t, 0, 1)); err != nil {
				t.Fatal(err)
			}
			store.putErr, store.putErrAfter = errGone, arrived
			again := newFakeStore("a")
			again.objects = store.objects // the same store behind another connection
			w.setNear("a", again)
			store.lose()
			w.AgeStores()
			ref, err := w.Put(t.Context(), large(t))
			if err != nil || again.objects[ref.ID] == nil {
				t.Fatalf("got %v", err)
			}
			if w.dials != 2 || !store.closed {
				t.Errorf("%d dials, closed %v", w.dials, store.closed)
			}
		})
	}
}

// The answer of a put was lost with its connection; the second try finds the object.
func TestPutAnswerLost(t *testing.T) {
	w := newWorld(t, newFakeHead(address("a", true)))
	store := newFakeStore("a")
	store.putErr, store.putErrAfter = errGone, true
	w.setNear("a", store)
	ref, err := w.Put(t.Context(), large(t))
	if err != nil || store.objects[ref.ID] == nil {
		t.Errorf("got %v", err)
	}
}

func TestPutElsewhere(t *testing.T) {
	head := newFakeHead(address("a", true), address("b", false), address("c", false))
	w := newWorld(t, head)
	w.far["b:1"], w.far["c:1"] = newFakeStore("b"), newFakeStore("c")
	// Small objects go through the head.
	small := numbers(t, 0, 3)
	ref, err := w.Put(t.Context(), small)
	if err != nil || head.data[ref.ID] == nil || head.objects[ref.ID].GetOwners()[0].GetId() != w.SessionID() {
		t.Fatalf("got %v, %v", head.objects[ref.ID], err)
	}
	got, err := w.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, small)
	// Large ones over Flight, to a store that takes them.
	for _, bad := range []string{"b", "c"} {
		w.far["b:1"].putErr, w.far["c:1"].putErr = nil, nil
		w.far[bad+":1"].putErr = errGone
		other := w.far[map[string]string{"b": "c:1", "c": "b:1"}[bad]]
		if ref, err = w.Put(t.Context(), large(t)); err != nil || other.objects[ref.ID] == nil || other.owner != w.SessionID() {
			t.Errorf("got %v, %v", ref, err)
		}
	}
	// What no other store would take either is told at once.
	full := engine.Errorf(engine.KindExhausted, "create object", "", "session/x holds 1GiB")
	w.far["b:1"].putErr, w.far["c:1"].putErr = full, full
	if _, err = w.Put(t.Context(), large(t)); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	w.far["b:1"].putErr, w.far["c:1"].putErr = errGone, errGone
	if _, err = w.Put(t.Context(), large(t)); engine.KindOf(err) != engine.KindUnavailable || strings.Count(err.Error(), "the connection is gone") != 2 ||
		!strings.Contains(err.Error(), "/run/a: nobody is there") {
		t.Errorf("got %v", err)
	}
}

func TestGetElsewhere(t *testing.T) {
	head := newFakeHead(address("a", true), address("b", false), address("c", false))
	w := newWorld(t, head)
	store := newFakeStore("a")
	w.setNear("a", store)
	w.far["b:1"], w.far["c:1"] = newFakeStore("b"), newFakeStore("c")
	record := large(t)
	ref, err := w.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	id := ref.ID
	data := store.objects[id]
	delete(store.objects, id)

	// Nobody knows it.
	if _, err := w.Get(t.Context(), ref); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("got %v", err)
	}
	// The first holder that is asked is gone, or its copy damaged: the other one serves.
	head.objects[id] = &enginev1.ObjectInfo{ObjectId: id[:], SizeBytes: int64(len(data)), Holders: []*enginev1.ObjectHolder{
		{Store: address("b", false), State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY}, {Store: address("c", false), State: enginev1.ObjectState_OBJECT_STATE_SPILLED},
		{Store: &enginev1.ObjectStoreAddress{NodeId: "no-flight"}},
	}}
	for _, kind := range []engine.Kind{engine.KindUnavailable, engine.KindCorrupt} {
		w.far["b:1"].getErr, w.far["c:1"].objects[id] = engine.Errorf(kind, "get object", id.String(), "b says no"), data
		got, err := w.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		wantTable(t, got, record)
	}
	if store.fetched == 0 {
		t.Error("the store of this machine was not asked to fetch")
	}
	// Every one fails: all reasons are told.
	delete(w.far["c:1"].objects, id)
	if _, err := w.Get(t.Context(), ref); !strings.Contains(err.Error(), "b says no") || !strings.Contains(err.Error(), "not here") {
		t.Errorf("got %v", err)
	}
	// No room here is no reason to read past the store.
	store.getErr = engine.Errorf(engine.KindExhausted, "create object", id.String(), "full")
	if _, err := w.Get(t.Context(), ref); engine.KindOf(err) != engine.KindExhausted {
		t.Errorf("got %v", err)
	}
	// Why it is lost is what the head says.
	store.getErr = nil
	head.err = engine.Errorf(engine.KindUnavailable, "get object", id.String(), "lost: its only copy was on node b, which is gone")
	if _, err := w.Get(t.Context(), ref); engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(err.Error(), "lost: its only copy was on node b") {
		t.Errorf("got %v", err)
	}
}

// Of several stores of one machine the one with the object serves it: it is not fetched into another.
func TestGetFromSecondStoreHere(t *testing.T) {
	w := newWorld(t, newFakeHead(address("a", true), address("b", true), address("c", true)))
	stores := []*fakeStore{newFakeStore("a"), newFakeStore("b"), newFakeStore("c")}
	for _, s := range stores {
		w.setNear(s.name, s)
	}
	record := large(t)
	ref, err := w.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, s := range stores {
		if s.objects[ref.ID] != nil {
			data = s.objects[ref.ID]
			delete(s.objects, ref.ID)
		}
	}
	for _, s := range stores {
		s.objects[ref.ID] = data
		got, err := w.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		wantTable(t, got, record)
		delete(s.objects, ref.ID)
	}
	for _, s := range stores {
		if s.fetched != 0 {
			t.Errorf("store %s fetched", s.name)
		}
	}
}

// A store that comes later is found; clients that have none look again soon.
func TestStoreComesLater(t *testing.T) {
	head := newFakeHead()
	w := newWorld(t, head)
	ref, err := w.Put(t.Context(), numbers(t, 0, 1))
	if err != nil || head.data[ref.ID] == nil {
		t.Fatalf("got %v", err)
	}
	store := newFakeStore("a")
	w.setNear("a", store)
	head.mu.Lock()
	head.stores = []*enginev1.ObjectStoreAddress{address("a", true)}
	head.mu.Unlock()
	w.AgeStores()
	if ref, err = w.Put(t.Context(), numbers(t, 0, 1)); err != nil || store.objects[ref.ID] == nil {
		t.Errorf("got %v", err)
	}
}

func TestSession(t *testing.T) {
	head := newFakeHead(address("a", true))
	head.err = engine.Errorf(engine.KindExhausted, "open session", "", "too many")
	w := newWorld(t, head)
	store := newFakeStore("a")
	w.setNear("a", store)
	// The first attempt's error is told, and the next call tries again.
	if _, err := w.Put(t.Context(), numbers(t, 0, 1)); engine.KindOf(err) != engine.KindExhausted {
		t.Errorf("got %v", err)
	}
	head.mu.Lock()
	head.err, head.lease = nil, 30*time.Millisecond
	head.mu.Unlock()
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			if _, err := w.Put(t.Context(), numbers(t, int64(i), 1)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := head.count("open"); n != 2 {
		t.Errorf("%d sessions were opened, want 2", n)
	}
	head.awaitSession(t, w.SessionID(), 5)
	// A head that comes back finds the same session; puts do not wait for it.
	before := head.count("open")
	w.stop()
	if _, err := w.Put(t.Context(), numbers(t, 0, 1)); err != nil {
		t.Error(err)
	}
	w.serve()
	head.mu.Lock()
	messages := head.sessions[w.SessionID()]
	head.mu.Unlock()
	head.awaitSession(t, w.SessionID(), messages+3)
	if head.count("open") <= before {
		t.Error("the session was not opened again")
	}
	// Closing ends the stream, and everything after that fails.
	w.close()
	head.mu.Lock()
	streams, goodbyes := head.streams, head.goodbyes
	head.mu.Unlock()
	if streams != 0 || goodbyes != 1 {
		t.Errorf("%d streams, %d goodbyes", streams, goodbyes)
	}
	if _, err := w.Put(t.Context(), numbers(t, 0, 1)); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("a closed client puts: %v", err)
	}
	if !store.closed {
		t.Error("the socket was not closed")
	}
}

// When the head has ended the session, also while the client could not reach it, what is put from then on belongs to another session,
// over another connection to the store of this machine: over the first it would go with the session.
func TestSessionThatEnded(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("head away: %t", away), func(t *testing.T) {
			head := newFakeHead(address("a", true))
			head.lease = 30 * time.Millisecond
			w := newWorld(t, head)
			first, second := newFakeStore("first"), newFakeStore("second")
			w.setNear("a", first)
			if _, err := w.Put(t.Context(), numbers(t, 0, 1)); err != nil {
				t.Fatal(err)
			}
			id := w.SessionID()
			head.awaitSession(t, id, 2)
			w.setNear("a", second)
			if away {
				w.stop()
			}
			head.mu.Lock()
			head.ended[id] = true
			head.mu.Unlock()
			if away {
				w.serve()
			}
			for deadline := time.Now().Add(2 * time.Minute); w.SessionID() == id; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatal("the client keeps the id of a session that has ended")
				}
			}
			ref, err := w.Put(t.Context(), numbers(t, 0, 1))
			if err != nil {
				t.Fatal(err)
			}
			head.awaitSession(t, w.SessionID(), 2)
			second.mu.Lock()
			defer second.mu.Unlock()
			if second.objects[ref.ID] == nil {
				t.Error("the object was put over the connection of the session that has ended")
			}
			first.mu.Lock()
			defer first.mu.Unlock()
			if !first.closed {
				t.Error("the connection of the session that has ended stays open")
			}
		})
	}
}

func TestSessionDeadline(t *testing.T) {
	w := newWorld(t, newFakeHead())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Put(ctx, numbers(t, 0, 1)); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("got %v", err)
	}
}

// The connection of a client that New made may be closed before the client: nothing goes on trying.
func TestConnectionClosedFirst(t *testing.T) {
	head := newFakeHead()
	head.lease = 30 * time.Millisecond
	w := newWorld(t, head)
	if err := w.Hold(t.Context()); err == nil {
		t.Error("the fake has no Hold")
	}
	head.awaitSession(t, w.SessionID(), 1)
	w.stop()
	w.stop = func() {}
}

func TestWait(t *testing.T) {
	head := newFakeHead()
	w := newWorld(t, head)
	var refs []engine.ObjectRef
	for range 3 {
		refs = append(refs, engine.ObjectRef{ID: engine.NewObjectID()})
	}
	for _, count := range []int{-1, 4} {
		if _, err := w.Wait(t.Context(), refs, count); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%d: %v", count, err)
		}
	}
	head.learns[refs[2].ID], head.learns[refs[0].ID] = true, true
	ready, err := w.Wait(t.Context(), refs, 2)
	if err != nil || len(ready) != 2 || ready[0] != refs[0] || ready[1] != refs[2] {
		t.Errorf("got %v, %v", ready, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	ready, err = w.Wait(ctx, refs, 0)
	if engine.KindOf(err) != engine.KindDeadline || len(ready) != 2 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", ready, err)
	}
	if ready, err := w.Wait(t.Context(), nil, 0); err != nil || len(ready) != 0 {
		t.Errorf("nothing: %v, %v", ready, err)
	}
}

// A head that restarts while objects are waited for is waited for.
func TestWaitAcrossARestart(t *testing.T) {
	head := newFakeHead()
	w := newWorld(t, head)
	ref := engine.ObjectRef{ID: engine.NewObjectID()}
	waited := make(chan error, 1)
	go func() {
		_, err := w.Wait(t.Context(), []engine.ObjectRef{ref}, 0)
		waited <- err
	}()
	waiting := func() int {
		head.mu.Lock()
		defer head.mu.Unlock()
		return len(head.calls)
	}
	for deadline := time.Now().Add(2 * time.Minute); waiting() < 2; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	w.stop()
	head.mu.Lock()
	head.learns[ref.ID] = true
	head.mu.Unlock()
	w.serve()
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestPinAndLookup(t *testing.T) {
	head := newFakeHead()
	w := newWorld(t, head)
	ref := engine.ObjectRef{ID: engine.NewObjectID()}
	pin := client.PinOptions{Name: "winners", TTL: time.Hour}
	if err := w.Pin(t.Context(), ref, pin); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	head.objects[ref.ID] = &enginev1.ObjectInfo{ObjectId: ref.ID[:]}
	if err := w.Pin(t.Context(), ref, pin); err != nil {
		t.Fatal(err)
	}
	found, err := w.Lookup(t.Context(), "winners")
	if err != nil || found.ID != ref.ID || found.Cluster != testCluster {
		t.Errorf("got %v, %v", found, err)
	}
	if _, err := w.Lookup(t.Context(), "losers"); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "losers") {
		t.Errorf("got %v", err)
	}
	if _, err := w.ObjectInfo(t.Context(), engine.ObjectRef{ID: engine.NewObjectID()}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	if info, err := w.ObjectInfo(t.Context(), found); err != nil || engine.ObjectID(info.GetObjectId()) != ref.ID {
		t.Errorf("got %v, %v", info, err)
	}
}
