package storetest

import (
	"context"
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
		Suite{Open: Open, Bucket: s.Bucket}.Run(t)
		return
	}
	for _, c := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"put and get", s.putGet}, {"bad input", s.badInput}, {"wait for room", s.waitForRoom}, {"no room", s.noRoom},
		{"large and small", s.largeAndSmall}, {"domains", s.domains}, {"twice the size", s.twiceTheSize}, {"high water", s.highWater},
		{"release makes room", s.releaseMakesRoom},
		{"spill while read", s.spillWhileRead}, {"failed spill", s.failedSpill}, {"damaged spill file", s.damagedSpillFile}, {"rescue", s.rescue},
		{"restore once", s.restoreOnce}, {"owners", s.owners}, {"expiry", s.expiry}, {"caches", s.caches}, {"wait", s.wait},
		{"changes", s.changes}, {"close", s.close}, {"checkpoint", s.checkpoint}, {"bad checkpoint", s.badCheckpoint},
		{"checkpoint helps", s.checkpointHelps}, {"restore together", s.restoreTogether}, {"many at once", s.manyAtOnce},
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
				info.Inline != (n <= engine.MaxInlineObjectBytes) || info.Domain != objectstore.DefaultDomain || len(info.Owners) != 1 || info.Pins != 0 {
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
		"a long domain":    {ID: id, SizeBytes: 1, Domain: strings.Repeat("d", 256)},
		"a broken domain":  {ID: id, SizeBytes: 1, Domain: "\xff"},
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

	// Who has computed the checksum says so, once.
	checked, err := store.Create(t.Context(), objectstore.Creation{ID: ID(3), SizeBytes: 10, Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	const sum = 0x1234 // Not that of the bytes, which would show if they were read.
	if info, err := checked.SealChecked(objectstore.Description{}, sum); err != nil || !info.Checked || info.CRC32C != sum {
		t.Errorf("sealed as %+v, %v", info, err)
	}
	_, err = checked.SealChecked(objectstore.Description{}, sum+1)
	WantKind(t, err, engine.KindConflict)
	if got, err := store.Checksum(t.Context(), ID(3)); err != nil || got != sum {
		t.Errorf("checksum %x, %v", got, err)
	}

	unknown := ID(2)
	_, getErr := store.Get(t.Context(), unknown)
	_, sumErr := store.Checksum(t.Context(), unknown)
	_, promoteErr := store.Promote(unknown, []engine.ObjectOwner{Session}, "")
	_, checkpointErr := store.Checkpoint(t.Context(), unknown, "x")
	for _, err := range []error{getErr, sumErr, promoteErr, checkpointErr, store.Own(unknown, nil, nil), store.Spill(t.Context(), unknown)} {
		WantKind(t, err, engine.KindNotFound)
		if !strings.Contains(err.Error(), unknown.String()) {
			t.Errorf("the error does not name the object: %v", err)
		}
	}
	store.Delete(unknown)
	_, err = store.Promote(id, nil, "")
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
	background(t, func() {
		p, err := store.Create(ctx, c)
		done <- created{p, err}
	})
	Eventually(t, "the creation waits", func() bool { return store.Usage().Waiting > waiting })
	return done
}

// background runs f; the test waits for its end.
func background(t *testing.T, f func()) {
	var group sync.WaitGroup
	t.Cleanup(group.Wait)
	group.Go(f)
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
	background(t, func() {
		_, err := store.Create(ctx, objectstore.Creation{ID: ID(5), SizeBytes: 8 * mib, Owner: Session})
		canceled <- err
	})
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

// largeAndSmall has small objects come and go all the time while one that needs nearly all of the store waits: it must get its
// room, and they must go on.
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
