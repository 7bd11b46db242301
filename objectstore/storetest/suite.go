package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore"
)

// Suite is what every store does, on every kind of bucket.
type Suite struct {
	// Open opens a store and closes it with the test; nil is Open of this package.
	Open func(t testing.TB, config objectstore.Config) *objectstore.Store
	// Bucket makes an empty bucket for spilled objects and checkpoints.
	Bucket func(t testing.TB) blob.Bucket
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	if s.Open == nil {
		s.Open = Open
	}
	for _, c := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"put and get", s.putGet}, {"bad input", s.badInput}, {"wait for room", s.waitForRoom}, {"no room", s.noRoom},
		{"large and small", s.largeAndSmall}, {"domains", s.domains}, {"twice the size", s.twiceTheSize}, {"high water", s.highWater},
		{"spill while read", s.spillWhileRead}, {"failed spill", s.failedSpill}, {"damaged spill file", s.damagedSpillFile},
		{"restore once", s.restoreOnce}, {"owners", s.owners}, {"expiry", s.expiry}, {"caches", s.caches}, {"wait", s.wait},
		{"changes", s.changes}, {"close", s.close}, {"many at once", s.manyAtOnce},
	} {
		t.Run(c.name, c.f)
	}
}

func (s Suite) putGet(t *testing.T) {
	for _, n := range []int64{1, 1000, engine.MaxInlineObjectBytes, engine.MaxInlineObjectBytes + 1, 3 * mib, 16 * mib} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			store := s.Open(t, objectstore.Config{CapacityBytes: 16 * mib})
			id := Put(t, store, 1, n)
			Check(t, store, id)
			info, ok := store.Info(id)
			if !ok || info.SizeBytes != n || info.State != engine.ObjectInMemory || !info.Primary || info.Rows != n || info.Batches != 1 ||
				info.Inline != (n <= engine.MaxInlineObjectBytes) || info.Domain != "default" || len(info.Owners) != 1 || info.Pins != 0 {
				t.Errorf("info is %+v", info)
			}
			h := Get(t, store, id)
			place, ok := h.Place()
			if ok == info.Inline || ok && (place.SizeBytes != n || place.OffsetBytes%64 != 0 || place.OffsetBytes+n > place.ArenaBytes) {
				t.Errorf("its place is %+v, %v", place, ok)
			}
			store.Delete(id)
			_, err := store.Get(t.Context(), id)
			WantKind(t, err, engine.KindNotFound)
			if u := store.Usage(); u.ObjectBytes != n || u.PinnedBytes != n || u.Objects != 0 {
				t.Errorf("usage is %+v while a deleted object is open", u)
			}
			if err := compare(h); err != nil {
				t.Error(err)
			}
			h.Release()
			h.Release()
			if u := store.Usage(); u.ObjectBytes != 0 || u.PinnedBytes != 0 {
				t.Errorf("usage is %+v after the last release", u)
			}
		})
	}
}

func (s Suite) badInput(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib})
	id := ID(1)
	for name, c := range map[string]objectstore.Creation{
		"no id":            {SizeBytes: 1},
		"no size":          {ID: id},
		"a negative size":  {ID: id, SizeBytes: -1},
		"too large":        {ID: id, SizeBytes: 8*mib + 1},
		"a nameless owner": {ID: id, SizeBytes: 1, Owner: engine.ObjectOwner{Kind: engine.OwnerJob}},
		"an unknown kind":  {ID: id, SizeBytes: 1, Owner: engine.ObjectOwner{Kind: "cat", ID: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Create(t.Context(), c)
			WantKind(t, err, engine.KindInvalidArgument)
			if name == "too large" && !(strings.Contains(err.Error(), "8388609") && strings.Contains(err.Error(), "8388608")) {
				t.Errorf("the error does not name both sizes: %v", err)
			}
		})
	}
	p, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: 10, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: 10, Owner: Session})
	WantKind(t, err, engine.KindConflict)
	_, err = store.Get(t.Context(), id)
	WantKind(t, err, engine.KindNotFound)
	if _, err := p.Seal(objectstore.Description{}); err != nil {
		t.Fatal(err)
	}
	_, err = p.Seal(objectstore.Description{})
	WantKind(t, err, engine.KindConflict)
	p.Abort()
	if _, ok := store.Info(id); !ok {
		t.Error("an abort after the seal removed the object")
	}
	WantKind(t, TryPut(t.Context(), store, objectstore.Creation{ID: id, SizeBytes: 10}), engine.KindConflict)

	unknown := ID(2)
	_, getErr := store.Get(t.Context(), unknown)
	_, sumErr := store.Checksum(t.Context(), unknown)
	_, promoteErr := store.Promote(unknown, []engine.ObjectOwner{Session})
	_, checkpointErr := store.Checkpoint(t.Context(), unknown, "x")
	for _, err := range []error{getErr, sumErr, promoteErr, checkpointErr, store.Own(unknown, nil, nil), store.Spill(t.Context(), unknown)} {
		WantKind(t, err, engine.KindNotFound)
		if !strings.Contains(err.Error(), unknown.String()) {
			t.Errorf("the error does not name the object: %v", err)
		}
	}
	store.Delete(unknown)
	_, err = store.Promote(id, nil)
	WantKind(t, err, engine.KindInvalidArgument)
	WantKind(t, store.Spill(t.Context(), id), engine.KindInvalidArgument)
	_, err = store.Checkpoint(t.Context(), id, "x")
	WantKind(t, err, engine.KindInvalidArgument)
}

// created is how a creation ended.
type created struct {
	pending *objectstore.Pending
	err     error
}

// create creates in the background; it returns when the creation waits.
func create(t *testing.T, store *objectstore.Store, c objectstore.Creation) <-chan created {
	t.Helper()
	waiting := store.Usage().Waiting
	done := make(chan created, 1)
	ctx := t.Context()
	go func() {
		p, err := store.Create(ctx, c)
		done <- created{p, err}
	}()
	Eventually(t, "the creation waits", func() bool { return store.Usage().Waiting > waiting })
	return done
}

// Eventually waits until a condition holds, and fails the test if it does not within a generous time.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("it never happened: %s", what)
		}
	}
}

// receive waits for a creation that must succeed.
func receive(t *testing.T, done <-chan created) *objectstore.Pending {
	t.Helper()
	select {
	case c := <-done:
		if c.err != nil {
			t.Fatal(c.err)
		}
		return c.pending
	case <-time.After(30 * time.Second):
		t.Fatal("the creation still waits")
		return nil
	}
}

func (s Suite) waitForRoom(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, ArenaBytes: 8 * mib})
	first := Get(t, store, Put(t, store, 1, 6*mib))
	_, err := store.TryCreate(objectstore.Creation{ID: ID(2), SizeBytes: 6 * mib, Owner: Session})
	WantKind(t, err, engine.KindExhausted)
	second := create(t, store, objectstore.Creation{ID: ID(2), SizeBytes: 6 * mib, Owner: Session})
	third := create(t, store, objectstore.Creation{ID: ID(3), SizeBytes: 6 * mib, Owner: Session})
	if u := store.Usage(); u.Waiting != 2 || u.WaitingBytes != 12*mib || u.Objects != 1 {
		t.Errorf("usage is %+v", u)
	}
	store.Delete(ID(1))
	first.Release()
	p := receive(t, second)
	select {
	case <-third:
		t.Fatal("the third creation did not wait for the second")
	default:
	}
	p.Abort()
	receive(t, third).Abort()

	// One that is given up leaves its place to the next.
	hold, err := store.Create(t.Context(), objectstore.Creation{ID: ID(4), SizeBytes: 5 * mib, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() {
		_, err := store.Create(ctx, objectstore.Creation{ID: ID(5), SizeBytes: 8 * mib, Owner: Session})
		canceled <- err
	}()
	Eventually(t, "the creation waits", func() bool { return store.Usage().Waiting == 1 })
	next := create(t, store, objectstore.Creation{ID: ID(6), SizeBytes: 2 * mib, Owner: Session})
	cancel()
	WantKind(t, <-canceled, engine.KindCanceled)
	receive(t, next).Abort()
	hold.Abort()
}

func (s Suite) noRoom(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib})
	job := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j7"}
	if err := TryPut(t.Context(), store, objectstore.Creation{ID: ID(1), SizeBytes: 5 * mib, Owner: job}); err != nil {
		t.Fatal(err)
	}
	h := Get(t, store, Put(t, store, 2, mib))
	defer h.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := store.Create(ctx, objectstore.Creation{ID: ID(3), SizeBytes: 4 * mib, Owner: Session})
	WantKind(t, err, engine.KindExhausted)
	for _, want := range []string{ID(3).String(), "4 MiB", "8 MiB", "job/j7 holds 5 MiB in 1 objects", "session/s1 holds 1 MiB in 1 objects, 1 MiB of it in use"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if u := store.Usage(); u.Waiting != 0 || u.Objects != 2 {
		t.Errorf("usage is %+v", u)
	}
}

// largeAndSmall has small objects come and go all the time while one that needs nearly all of the store waits: it must get its room, and they must go on.
func (s Suite) largeAndSmall(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 16 * mib, ArenaBytes: 2 * mib})
	const size = 300 * kib
	var held []*objectstore.Pending
	hold := func(i int) {
		p, err := store.Create(t.Context(), objectstore.Creation{ID: ID(i), SizeBytes: size, Owner: Session})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	i := 0
	for ; store.Usage().ObjectBytes < 13*mib; i++ {
		hold(i)
	}
	large := create(t, store, objectstore.Creation{ID: ID(100000), SizeBytes: 12 * mib, Owner: Session})
	overtook := 0
	for {
		select {
		case c := <-large:
			if c.err != nil {
				t.Fatal(c.err)
			}
			c.pending.Abort()
			for _, p := range held {
				p.Abort()
			}
			if overtook == 0 {
				t.Error("no small object got room while the large one waited")
			}
			return
		default:
		}
		// Two go, and one comes if there is room for it.
		for range min(2, len(held)) {
			held[0].Abort()
			held = held[1:]
		}
		if p, err := store.TryCreate(objectstore.Creation{ID: ID(i), SizeBytes: size, Owner: Session}); err == nil {
			held = append(held, p)
			overtook++
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			if p, err := store.Create(ctx, objectstore.Creation{ID: ID(i), SizeBytes: size, Owner: Session}); err == nil {
				held = append(held, p)
				overtook++
			}
			cancel()
		}
		i++
	}
}

func (s Suite) domains(t *testing.T) {
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, ArenaBytes: 4 * mib})
	var retired []uint64
	stop := store.OnRetire(func(arena uint64) { retired = append(retired, arena) })
	defer stop()
	place := func(i int, domain, writer string, n int64) objectstore.Place {
		p, err := store.Create(t.Context(), objectstore.Creation{ID: ID(i), SizeBytes: n, Owner: Session, Domain: domain, Writer: writer})
		if err != nil {
			t.Fatal(err)
		}
		if (p.Bytes() == nil) != (writer != "") || p.Memory() == nil {
			t.Error("the memory is not for whom it should be")
		}
		place, _ := p.Place()
		if _, err := p.Seal(objectstore.Description{}); err != nil {
			t.Fatal(err)
		}
		return place
	}
	a := place(1, "a", "", mib)
	b := place(2, "b", "", mib)
	if again := place(3, "a", "", mib); a.Arena == b.Arena || again.Arena != a.Arena {
		t.Errorf("places of the domains a, b, a are %+v, %+v, %+v", a, b, again)
	}
	// Another domain gets the memory of one that has become empty, at once.
	store.Delete(ID(1), ID(3))
	c := place(4, "c", "w", 3*mib)
	if c.Arena == a.Arena || len(retired) != 1 || retired[0] != a.Arena {
		t.Errorf("the domain c is at %+v, retired are %v", c, retired)
	}
	if _, err := store.Descriptor(a.Arena); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got the descriptor of a retired arena: %v", err)
	}
}

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
	go func() { spilled <- store.Spill(ctx, id) }()
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
	if info, err := store.Promote(ID(0), []engine.ObjectOwner{Session}); err != nil || !info.Primary {
		t.Fatalf("promoted to %+v, %v", info, err)
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
	go func() {
		ready, err := store.Wait(t.Context(), ids, 0)
		done <- result{ready, err}
	}()
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
	go func() {
		_, err := store.Wait(t.Context(), []engine.ObjectID{ID(99)}, 1)
		awaited <- err
	}()
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
