package storetest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

func (s Suite) owners(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib})
	job := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j"}
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	id := Put(t, store, 1, 1000)
	if err := store.Own(id, []engine.ObjectOwner{pin, job}, nil); err != nil {
		t.Fatal(err)
	}
	store.EndOwner(Session)
	info, _ := store.Info(id)
	if len(info.Owners) != 2 || info.Owners[0] != job || info.Owners[1] != pin {
		t.Errorf("the owners are %v, want job and pin in this order", info.Owners)
	}
	if err := store.Own(id, nil, []engine.ObjectOwner{pin, {Kind: engine.OwnerTask, ID: "unknown"}}); err != nil {
		t.Fatal(err)
	}
	WantKind(t, store.Own(id, []engine.ObjectOwner{{Kind: engine.OwnerPin}}, nil), engine.KindInvalidArgument)
	if err := store.Own(id, nil, []engine.ObjectOwner{job}); err != nil {
		t.Fatal(err)
	}
	if _, ok := store.Info(id); ok {
		t.Error("an object without owners lives on")
	}

	// The end of a session ends what it is still writing.
	p, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: 1000, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	Put(t, store, 2, 1000)
	store.EndOwner(Session)
	_, err = p.Seal(objectstore.Description{})
	WantKind(t, err, engine.KindFenced)
	if u := store.Usage(); u.Objects != 0 || u.ObjectBytes != 0 {
		t.Errorf("usage is %+v after the session's end", u)
	}
}

func (s Suite) expiry(t *testing.T) {
	clock := &Clock{}
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Now: clock.Now})
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p", Expires: clock.Now().Add(time.Hour)}
	id := ID(1)
	if err := TryPut(t.Context(), store, objectstore.Creation{ID: id, SizeBytes: 1000, Owner: pin}); err != nil {
		t.Fatal(err)
	}
	clock.Advance(59 * time.Minute)
	Check(t, store, id)
	pin.Expires = clock.Now().Add(time.Hour)
	if err := store.Own(id, []engine.ObjectOwner{pin}, nil); err != nil {
		t.Fatal(err)
	}
	clock.Advance(59 * time.Minute)
	Check(t, store, id)
	clock.Advance(2 * time.Minute)
	_, err := store.Get(t.Context(), id)
	WantKind(t, err, engine.KindNotFound)

	// The clock alone ends it, without anybody asking.
	pin.Expires = clock.Now().Add(20 * time.Millisecond)
	_, _, _, cursor, _ := store.Changes(0)
	if err := TryPut(t.Context(), store, objectstore.Creation{ID: id, SizeBytes: 1000, Owner: pin}); err != nil {
		t.Fatal(err)
	}
	_, _, _, cursor, more := store.Changes(cursor)
	select {
	case <-more:
	case <-time.After(30 * time.Second):
		t.Fatal("the pin never ended")
	}
	if _, gone, _, _, _ := store.Changes(cursor); len(gone) != 1 || gone[0] != id {
		t.Errorf("gone are %v", gone)
	}
}

func (s Suite) caches(t *testing.T) {
	// One in sixteen is kept for inline objects, so that the arena has room for three.
	store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib, ArenaBytes: 4 * mib})
	cache := func(i int) engine.ObjectID {
		if err := TryPut(t.Context(), store, objectstore.Creation{ID: ID(i), SizeBytes: mib}); err != nil {
			t.Fatal(err)
		}
		return ID(i)
	}
	for i := range 3 {
		cache(i)
	}
	WantKind(t, store.Own(ID(0), []engine.ObjectOwner{Session}, nil), engine.KindConflict)
	if err := store.Own(ID(0), nil, []engine.ObjectOwner{Session}); err != nil {
		t.Fatal(err)
	}
	// Where a cache has its checkpoint, its store hears when it becomes the primary copy, and keeps that.
	const uri = "s3://bucket/0.arrows"
	if info, err := store.Promote(ID(0), []engine.ObjectOwner{Session}, uri); err != nil || !info.Primary || info.Checkpoint != uri {
		t.Fatalf("promoted to %+v, %v", info, err)
	}
	_, _, _, cursor, _ := store.Changes(0)
	if info, err := store.Promote(ID(0), []engine.ObjectOwner{Session}, ""); err != nil || info.Checkpoint != uri {
		t.Fatalf("promoted again to %+v, %v", info, err)
	}
	if changed, _, _, _, _ := store.Changes(cursor); len(changed) != 0 {
		t.Errorf("what did not change is told: %+v", changed)
	}
	other := uri + "x"
	if info, err := store.Promote(ID(0), []engine.ObjectOwner{Session}, other); err != nil || info.Checkpoint != other {
		t.Fatalf("promoted to %+v, %v", info, err)
	}
	if changed, _, _, _, _ := store.Changes(cursor); len(changed) != 1 || changed[0].Checkpoint != other {
		t.Errorf("another checkpoint is told as %+v", changed)
	}
	pinned := Get(t, store, ID(1))
	Put(t, store, 10, mib) // Object 2 has to go: 0 is owned and 1 is in use.
	for i, want := range map[int]bool{0: true, 1: true, 2: false} {
		if _, ok := store.Info(ID(i)); ok != want {
			t.Errorf("object %d is there: %v, want %v", i, ok, want)
		}
	}
	pinned.Release()
	Put(t, store, 11, mib)
	if u := store.Usage(); u.Evictions != 2 || u.Objects != 3 {
		t.Errorf("usage is %+v", u)
	}
}

func (s Suite) wait(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib})
	Put(t, store, 1, 10)
	ids := []engine.ObjectID{ID(3), ID(1), ID(2)}
	if ready, err := store.Wait(t.Context(), ids, 1); err != nil || len(ready) != 1 || ready[0] != ID(1) {
		t.Errorf("ready are %v, %v", ready, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	ready, err := store.Wait(ctx, ids, 0)
	if len(ready) != 1 || engine.KindOf(err) != engine.KindDeadline {
		t.Errorf("ready are %v, %v", ready, err)
	}
	type result struct {
		ready []engine.ObjectID
		err   error
	}
	done := make(chan result, 1)
	background(t, func() {
		ready, err := store.Wait(t.Context(), ids, 0)
		done <- result{ready, err}
	})
	Put(t, store, 2, 10)
	Put(t, store, 3, 10)
	if r := <-done; r.err != nil || len(r.ready) != 3 || r.ready[0] != ID(3) {
		t.Errorf("ready are %v, %v", r.ready, r.err)
	}
}

func (s Suite) changes(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib, Spill: s.Bucket(t)})
	_, _, full, cursor, more := store.Changes(0)
	if !full {
		t.Error("a cursor of zero does not give everything")
	}
	p, err := store.Create(t.Context(), objectstore.Creation{ID: ID(1), SizeBytes: mib, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-more:
		t.Error("a pending object is a change")
	default:
	}
	copy(p.Memory(), Content(ID(1), mib))
	if _, err := p.Seal(objectstore.Description{Rows: mib}); err != nil {
		t.Fatal(err)
	}
	<-more
	Put(t, store, 2, 10)
	Put(t, store, 3, 10)
	store.Delete(ID(3))
	if err := store.Spill(t.Context(), ID(1)); err != nil {
		t.Fatal(err)
	}
	changed, gone, full, next, more := store.Changes(cursor)
	if full || len(changed) != 2 || changed[0].ID != ID(2) || changed[1].State != engine.ObjectSpilled || len(gone) != 1 || gone[0] != ID(3) {
		t.Errorf("changed are %+v, gone %v, full %v", changed, gone, full)
	}
	if changed, gone, _, again, _ := store.Changes(next); len(changed)+len(gone) != 0 || again != next {
		t.Errorf("changed are %+v and gone %v, though nothing happened", changed, gone)
	}
	// An object that is back is not gone.
	Put(t, store, 3, 20)
	<-more
	if changed, gone, _, _, _ := store.Changes(cursor); len(changed) != 3 || len(gone) != 0 {
		t.Errorf("changed are %+v, gone %v", changed, gone)
	}
	if _, _, full, _, _ := store.Changes(next + 1000); !full {
		t.Error("a cursor of another store does not give everything")
	}
	// Readers are reported too, if a little later.
	h := Get(t, store, ID(1))
	Eventually(t, "the pin is reported", func() bool {
		changed, _, _, _, _ := store.Changes(next)
		for _, info := range changed {
			if info.ID == ID(1) && info.Pins == 1 {
				return true
			}
		}
		return false
	})
	h.Release()
	// However often an object comes and goes, it is told once.
	_, _, _, old, _ := store.Changes(0)
	for i := range 1000 {
		Put(t, store, 10+i%100, 1)
		store.Delete(ID(10 + i%100))
	}
	if _, gone, full, _, _ := store.Changes(old); full || len(gone) != 100 {
		t.Errorf("full is %v and gone are %d, of 100 objects that came and went", full, len(gone))
	}
}

func (s Suite) close(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib, ArenaBytes: 4 * mib, Spill: s.Bucket(t)})
	small, large := Get(t, store, Put(t, store, 1, 10)), Get(t, store, Put(t, store, 2, 3*mib))
	pending, err := store.Create(t.Context(), objectstore.Creation{ID: ID(3), SizeBytes: 100, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	spilled := Put(t, store, 4, 100*kib)
	if err := store.Spill(t.Context(), spilled); err != nil {
		t.Fatal(err)
	}
	waiting := create(t, store, objectstore.Creation{ID: ID(5), SizeBytes: 4 * mib, Owner: Session})
	awaited := make(chan error, 1)
	background(t, func() {
		_, err := store.Wait(t.Context(), []engine.ObjectID{ID(99)}, 1)
		awaited <- err
	})
	for range 2 {
		if err := store.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	WantKind(t, (<-waiting).err, engine.KindUnavailable)
	WantKind(t, <-awaited, engine.KindUnavailable)
	_, err = pending.Seal(objectstore.Description{})
	WantKind(t, err, engine.KindUnavailable)
	_, err = store.Get(t.Context(), ID(1))
	WantKind(t, err, engine.KindUnavailable)
	WantKind(t, TryPut(t.Context(), store, objectstore.Creation{ID: ID(9), SizeBytes: 1, Owner: Session}), engine.KindUnavailable)
	for _, h := range []*objectstore.Handle{small, large} {
		if err := compare(h); err != nil {
			t.Error(err)
		}
		h.Release()
	}
}

// manyAtOnce has several goroutines do everything at once in a store that is too small for it.
func (s Suite) manyAtOnce(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, ArenaBytes: 2 * mib, Spill: s.Bucket(t)})
	const workers, rounds, shared = 6, 60, 12
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for round := range rounds {
				n := int64(1 + (w*rounds+round)*7919%(mib/2))
				own := ID(1000 + w*rounds + round)
				if err := TryPut(t.Context(), store, objectstore.Creation{ID: own, SizeBytes: n, Owner: Session}); err != nil {
					t.Error(err)
					return
				}
				other := ID((w + round) % shared)
				if err := TryPut(t.Context(), store, objectstore.Creation{ID: other, SizeBytes: n, Owner: Session}); err != nil && engine.KindOf(err) != engine.KindConflict {
					t.Error(err)
					return
				}
				for _, id := range []engine.ObjectID{own, other} {
					h, err := store.Get(t.Context(), id)
					if err != nil {
						if id == own || engine.KindOf(err) != engine.KindNotFound {
							t.Error(err)
						}
						continue
					}
					if !bytes.Equal(h.Bytes(), Content(id, h.Info().SizeBytes)) {
						t.Errorf("object %s is not as it was written", id)
					}
					h.Release()
				}
				if round%3 == 0 {
					store.Delete(own, other)
				}
			}
		})
	}
	group.Wait()
}
