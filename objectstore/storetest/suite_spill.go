package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore"
)

func (s Suite) twiceTheSize(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Spill: s.Bucket(t)})
	const n = 16
	for i := range n {
		Put(t, store, i, mib)
	}
	for range 2 {
		for i := range n {
			Check(t, store, ID(i))
		}
	}
	u := store.Usage()
	if u.Objects != n || u.ObjectBytes+u.SpilledBytes != n*mib || u.ObjectBytes > u.CapacityBytes || u.Spills < n/2 || u.Restores < n {
		t.Errorf("usage is %+v", u)
	}
	// The largest object that there can be pushes all others out.
	Put(t, store, n, 8*mib)
	if u := store.Usage(); u.ObjectBytes != 8*mib || u.SpilledBytes != n*mib {
		t.Errorf("usage is %+v", u)
	}
}

// releaseMakesRoom has a creation wait for objects that could be spilled or dropped but for their readers.
func (s Suite) releaseMakesRoom(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib, ArenaBytes: 4 * mib, HighWater: 1, LowWater: 1, Spill: s.Bucket(t)})
	if err := TryPut(t.Context(), store, objectstore.Creation{ID: ID(1), SizeBytes: 3 * mib}); err != nil {
		t.Fatal(err)
	}
	cache := Get(t, store, ID(1))
	waiting := create(t, store, objectstore.Creation{ID: ID(2), SizeBytes: 3 * mib, Owner: Session})
	cache.Release()
	p := receive(t, waiting)
	copy(p.Bytes(), Content(ID(2), 3*mib))
	if _, err := p.Seal(objectstore.Description{}); err != nil {
		t.Fatal(err)
	}
	primary := Get(t, store, ID(2))
	waiting = create(t, store, objectstore.Creation{ID: ID(3), SizeBytes: 3 * mib, Owner: Session})
	primary.Release()
	receive(t, waiting).Abort()
	Check(t, store, ID(2))
}

func (s Suite) highWater(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 10 * mib, ArenaBytes: 10 * mib, HighWater: 0.8, LowWater: 0.5, Spill: s.Bucket(t)})
	for i := range 8 {
		Put(t, store, i, mib)
	}
	Check(t, store, ID(0)) // Now 1 is the one that was not used for longest.
	if u := store.Usage(); u.Spills != 0 {
		t.Errorf("%d objects were spilled below the high water", u.Spills)
	}
	Put(t, store, 8, 200*kib)
	Eventually(t, "the store is at its low water", func() bool { return store.Usage().ObjectBytes <= 5*mib })
	for i, want := range map[int]engine.ObjectState{0: engine.ObjectInMemory, 1: engine.ObjectSpilled, 2: engine.ObjectSpilled, 7: engine.ObjectInMemory, 8: engine.ObjectInMemory} {
		if info, _ := store.Info(ID(i)); info.State != want {
			t.Errorf("object %d is %s, want %s", i, info.State, want)
		}
	}
	for i := range 8 {
		Check(t, store, ID(i))
	}
}

// spillWhileRead looks at an object while its spill file is being written, and at one that is pinned.
func (s Suite) spillWhileRead(t *testing.T) {
	bucket := NewBucket(s.Bucket(t), 1)
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Spill: bucket})
	id := Put(t, store, 1, mib)
	release := bucket.Hold()
	spilled := make(chan error, 1)
	ctx := t.Context()
	background(t, func() { spilled <- store.Spill(ctx, id) })
	for range 10 {
		Check(t, store, id)
	}
	if info, _ := store.Info(id); info.State != engine.ObjectInMemory || info.Spilled != "" {
		t.Errorf("the object is %+v before its file is there", info)
	}
	h := Get(t, store, id)
	release()
	if err := <-spilled; err != nil {
		t.Fatal(err)
	}
	if info, _ := store.Info(id); info.State != engine.ObjectInMemory || info.Spilled == "" || !info.Checked {
		t.Errorf("the object is %+v while it is pinned", info)
	}
	if err := compare(h); err != nil {
		t.Error(err)
	}
	h.Release()
	if info, _ := store.Info(id); info.State != engine.ObjectSpilled {
		t.Errorf("the object is %+v after its release", info)
	}
	Check(t, store, id)
	// It has not changed, and so needs not be written again.
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if u := store.Usage(); u.Spills != 1 || u.Restores != 1 || u.SpilledBytes != mib {
		t.Errorf("usage is %+v", u)
	}
	store.Delete(id)
	Eventually(t, "the spill file is gone", func() bool { return files(t, bucket) == 0 })
}

// files counts what is in a bucket.
func files(t testing.TB, bucket blob.Bucket) (n int) {
	t.Helper()
	for _, err := range bucket.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func (s Suite) failedSpill(t *testing.T) {
	for name, faults := range map[string]Faults{
		"unavailable": {Unavailable: 1}, "full": {Full: 1}, "damaged": {DamagedPut: 1}, "lost reply": {LostReply: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := NewBucket(s.Bucket(t), 1)
			clock := &Clock{}
			failed := make(chan objectstore.Event, 1000)
			store := s.Open(t, objectstore.Config{CapacityBytes: 4 * mib, ArenaBytes: 4 * mib, Spill: bucket, Now: clock.Now, Events: func(e objectstore.Event) {
				if e.What == "spilling failed" {
					failed <- e
				}
			}})
			bucket.SetFaults(faults)
			for i := range 3 {
				Put(t, store, i, mib)
			}
			err := store.Spill(t.Context(), ID(0))
			if err == nil {
				t.Fatal("spilled an object into a bucket that fails")
			}
			for i := range 3 {
				Check(t, store, ID(i))
			}
			if e := <-failed; e.Object != ID(0) || e.Err == nil {
				t.Errorf("the event is %+v", e)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			WantKind(t, TryPut(ctx, store, objectstore.Creation{ID: ID(3), SizeBytes: 2 * mib, Owner: Session}), engine.KindExhausted)
			if u := store.Usage(); u.Spills != 0 || u.SpilledBytes != 0 || u.Objects != 3 {
				t.Errorf("usage is %+v", u)
			}
			// The bucket is well again: what waits need not wait for long.
			next := objectstore.Creation{ID: ID(4), SizeBytes: 3 * mib, Owner: Session}
			if name == "full" { // Once is enough for waiting until the store tries again by itself.
				waiting := create(t, store, next)
				bucket.SetFaults(Faults{})
				receive(t, waiting).Abort()
			} else {
				bucket.SetFaults(Faults{})
				clock.Advance(time.Hour)
				if err := TryPut(t.Context(), store, next); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 3 {
				Check(t, store, ID(i))
			}
		})
	}
}

func (s Suite) damagedSpillFile(t *testing.T) {
	below := s.Bucket(t)
	bucket := NewBucket(below, 1)
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Spill: bucket})
	id := Put(t, store, 1, mib)
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	info, _ := store.Info(id)
	for name, faults := range map[string]Faults{"a bit turned": {DamagedGet: 1}, "cut": {CutGet: 1}} {
		t.Run(name, func(t *testing.T) {
			bucket.SetFaults(faults)
			_, err := store.Get(t.Context(), id)
			WantKind(t, err, engine.KindCorrupt)
			if !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), info.Spilled) {
				t.Errorf("the error does not name object and file: %v", err)
			}
			if u := store.Usage(); u.ObjectBytes != 0 {
				t.Errorf("usage is %+v", u)
			}
		})
	}
	// What was damaged on its way only is not lost.
	bucket.SetFaults(Faults{})
	Check(t, store, id)
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for info, err := range below.List(t.Context(), "") {
		if err = errors.Join(err, below.Delete(t.Context(), info.Key)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := store.Get(t.Context(), id)
	WantKind(t, err, engine.KindNotFound)
	if !strings.Contains(err.Error(), info.Spilled) {
		t.Errorf("the error does not name the file: %v", err)
	}
}

// rescue damages or deletes spill files of objects that have another copy somewhere.
func (s Suite) rescue(t *testing.T) {
	below := s.Bucket(t)
	bucket := NewBucket(below, 1)
	var copies func(id engine.ObjectID, dst []byte) error
	calls := 0
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Spill: bucket, Rescue: func(_ context.Context, id engine.ObjectID, sizeBytes int64, crc32c uint32, dst []byte) error {
		if want := Content(id, sizeBytes); sizeBytes != int64(len(dst)) || crc32c != checksum(want) {
			t.Errorf("asked to fill %d bytes with %d of checksum %08x, want %08x", len(dst), sizeBytes, crc32c, checksum(want))
		}
		calls++
		return copies(id, dst)
	}})
	whole := func(id engine.ObjectID, dst []byte) error {
		copy(dst, Content(id, int64(len(dst))))
		return nil
	}
	broken := map[string]func(id engine.ObjectID, dst []byte) error{
		"none": func(id engine.ObjectID, _ []byte) error {
			return engine.Errorf(engine.KindUnavailable, "ask others", id.String(), "nobody answers")
		},
		"of other bytes": func(id engine.ObjectID, dst []byte) error {
			copy(dst, Content(id, int64(len(dst))))
			dst[len(dst)/2] ^= 1
			return nil
		},
	}
	for i, size := range []int64{1000, mib} {
		id := Put(t, store, i, size)
		if err := store.Spill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		info, _ := store.Info(id)
		bucket.SetFaults(Faults{DamagedGet: 1})
		for name, f := range broken {
			copies = f
			_, err := store.Get(t.Context(), id)
			WantKind(t, err, engine.KindCorrupt)
			for _, want := range []string{id.String(), info.Spilled, "no other copy could be had"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("with a copy %s the error does not say %q: %v", name, want, err)
				}
			}
			if now, _ := store.Info(id); now.State != engine.ObjectSpilled || now.Spilled != info.Spilled {
				t.Errorf("with a copy %s the object is %+v", name, now)
			}
		}
		copies = whole
		Check(t, store, id)
		// The bad file is of no use any more: the object is as before it was spilled.
		if now, _ := store.Info(id); now.State != engine.ObjectInMemory || now.Spilled != "" || !now.Primary {
			t.Errorf("the rescued object is %+v", now)
		}
		Eventually(t, "the damaged file is gone", func() bool { return files(t, below) == 0 })
		bucket.SetFaults(Faults{})
		for range 2 { // From a new file, which then is lost.
			if err := store.Spill(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			before := calls
			Check(t, store, id)
			if calls != before {
				t.Error("an object was rescued whose file is whole")
			}
		}
		if err := store.Spill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for file, err := range below.List(t.Context(), "") {
			if err = errors.Join(err, below.Delete(t.Context(), file.Key)); err != nil {
				t.Fatal(err)
			}
		}
		Check(t, store, id)
		store.Delete(id)
	}
	if u := store.Usage(); u.ObjectBytes != 0 || u.SpilledBytes != 0 || u.PinnedBytes != 0 {
		t.Errorf("usage is %+v", u)
	}
}

// restoreOnce has many read one spilled object at once.
func (s Suite) restoreOnce(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Spill: s.Bucket(t)})
	id := Put(t, store, 1, 2*mib)
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if h, err := store.Get(ctx, id); err == nil {
		h.Release() // It was faster.
	} else {
		WantKind(t, err, engine.KindCanceled)
	}
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	before := store.Usage().Restores
	var readers sync.WaitGroup
	start := make(chan struct{})
	handles := make([]*objectstore.Handle, 20)
	errs := make([]error, len(handles))
	for i := range handles {
		readers.Go(func() {
			<-start
			handles[i], errs[i] = store.Get(t.Context(), id)
		})
	}
	close(start)
	readers.Wait()
	for i, h := range handles {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if err := compare(h); err != nil {
			t.Error(err)
		}
		h.Release()
	}
	if n := store.Usage().Restores - before; n != 1 {
		t.Errorf("the object was restored %d times", n)
	}
}
