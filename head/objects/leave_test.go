package objects_test

import (
	"strings"
	"testing"

	"github.com/f708428e/engine"
)

// leave says that a store leaves, and returns how many objects could not be moved and why.
func (b *bench) leave(s *fakeStore) (left int64, reason string) {
	b.t.Helper()
	s.leaving, s.evacuated = true, nil
	b.calm()
	if s.evacuated == nil {
		b.t.Fatalf("%s is not told whether it may leave", s.node)
	}
	return s.evacuated.GetLeftObjects(), s.evacuated.GetReason()
}

func TestLeavingStoreIsEmptied(t *testing.T) {
	b := newBench(t, 1)
	a, y, z := b.store("a"), b.store("y"), b.store("z")
	y.room = 20 // Too small for what is to be moved.
	b.exchange(y)
	owner, other := b.open('1'), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "kept"}
	alone, cached, filed, cacheOnly := object(21), object(12), object(13), object(14)
	a.put(alone, owner, other)
	a.put(cached, owner)
	y.put(cached)
	a.put(filed, owner)
	a.copies[filed].checkpoint = "s3://b/" + filed.String() + ".arrows"
	z.put(cacheOnly, owner)
	a.put(cacheOnly)
	b.calm()
	if left, reason := b.leave(a); left != 0 || reason != "" {
		t.Fatalf("%d objects stay: %s", left, reason)
	}
	b.expect(alone, "IN_MEMORY primary@z pin/kept session/1111")
	// Nothing was copied for the one that has a copy.
	b.expect(cached, "IN_MEMORY primary@y session/1111")
	b.expect(filed, "IN_MEMORY primary@a session/1111")
	b.disconnect(a, true)
	b.expect(filed, "CHECKPOINTED session/1111")
	b.expect(cacheOnly, "IN_MEMORY primary@z session/1111")
	if len(b.losses) != 1 || b.losses[0].Lost != 0 || b.losses[0].Checkpointed != 1 {
		t.Errorf("losses %+v", b.losses)
	}
}

func TestCopyIsPreferredToAnotherPull(t *testing.T) {
	b := newBench(t, 1)
	a, y, z := b.store("a"), b.store("y"), b.store("z")
	y.room = 1 << 20 // Smaller than z's, but it has a copy.
	b.exchange(y)
	x := object(1)
	a.put(x, b.open('1'))
	y.put(x)
	b.calm()
	b.leave(a)
	b.expect(x, "IN_MEMORY primary@y session/1111")
	if z.copies[x] != nil {
		t.Error("another copy was made")
	}
}

func TestWhatNoStoreTakesStays(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner, x := b.open('1'), object(1)
	a.put(x, owner)
	b.calm()
	left, reason := b.leave(a)
	if left != 1 || a.evacuated.GetLeftBytes() != 2 || !strings.Contains(reason, "no other node has an object store") {
		t.Fatalf("%d objects stay: %s", left, reason)
	}
	// One comes, cannot fetch it, and is asked no more than once.
	z := b.store("z")
	z.cutOff = true
	a.evacuated = nil
	b.calm()
	if a.evacuated.GetLeftObjects() != 1 || !strings.Contains(a.evacuated.GetReason(), "as the test wants") {
		t.Fatalf("evacuation %v", a.evacuated)
	}
	b.expect(x, "IN_MEMORY primary@a session/1111")
	// Another one comes that can. Of what is put meanwhile it hears, too.
	b.store("y")
	y := object(2)
	a.put(y, owner)
	b.calm()
	if a.evacuated.GetLeftObjects() != 0 {
		t.Fatalf("evacuation %v", a.evacuated)
	}
	b.expect(x, "IN_MEMORY primary@y session/1111")
	b.disconnect(a, true)
	if kept := b.core.Kept(); kept["leavers"] != 0 || kept["moves"] != 0 {
		t.Errorf("kept %v", kept)
	}
}

// Two stores leave at the same time: neither takes what is the other's. A store whose stream breaks says again that it leaves.
func TestLeavingStoresTakeNothing(t *testing.T) {
	b := newBench(t, 1)
	a, y, z := b.store("a"), b.store("y"), b.store("z")
	owner := b.open('1')
	a.put(object(1), owner)
	y.put(object(2), owner)
	b.calm()
	a.leaving, y.leaving = true, true
	b.exchange(a)
	b.exchange(y)
	b.disconnect(a, false)
	b.connect(a)
	if _, err := b.done(b.core.Put(b.now, object(3), []byte("x"), "", owner, nil)); err != nil {
		t.Fatal(err)
	}
	b.leave(a)
	for n := byte(1); n <= 3; n++ {
		b.expect(object(n), "IN_MEMORY primary@z session/1111")
	}
	if len(a.copies)+len(y.copies) != 0 || len(z.copies) != 3 {
		t.Errorf("a has %d copies, y %d", len(a.copies), len(y.copies))
	}
}

// While an object is moved its owners change; it ends up with those that are left, or is gone.
func TestOwnersChangeWhileObjectsMove(t *testing.T) {
	for name, change := range map[string]struct {
		act  func(b *bench, x engine.ObjectID, owner engine.ObjectOwner)
		want string
	}{
		"released": {func(b *bench, x engine.ObjectID, owner engine.ObjectOwner) { b.core.Release(b.now, x, owner) }, "IN_MEMORY primary@z pin/p"},
		"ended":    {func(b *bench, _ engine.ObjectID, owner engine.ObjectOwner) { b.core.EndOwner(b.now, owner) }, "IN_MEMORY primary@z pin/p"},
		"held": {func(b *bench, x engine.ObjectID, _ engine.ObjectOwner) {
			_, err := b.core.Hold(b.now, x, b.open('2'))
			check(b.t, err)
		}, "IN_MEMORY primary@z pin/p session/1111 session/2222"},
		"deleted": {func(b *bench, x engine.ObjectID, _ engine.ObjectOwner) { b.core.Delete(b.now, []engine.ObjectID{x}) }, "none"},
		"lost":    {func(b *bench, _ engine.ObjectID, _ engine.ObjectOwner) { b.disconnect(b.stores[0], true) }, "LOST pin/p session/1111"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			a := b.store("a")
			z := b.store("z")
			owner, pin, x := b.open('1'), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}, object(1)
			a.put(x, owner, pin)
			b.calm()
			a.leaving = true
			b.exchange(a) // The order to move is given, and not carried out yet.
			change.act(b, x, owner)
			b.take()
			b.calm()
			b.expect(x, change.want)
			if change.want == "none" && len(a.copies)+len(z.copies) != 0 {
				t.Errorf("a has %v, z has %v", a.copies, z.copies)
			}
		})
	}
}

func TestManyObjectsMoveAFewAtATime(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	const many = 200
	for n := range many {
		a.put(object(byte(n)), owner)
	}
	b.calm()
	a.leaving = true
	b.exchange(a)
	answer := b.core.Answer(z.node, z.session)
	if n := len(answer.GetOrders()); n == 0 || n >= many {
		t.Fatalf("%d orders at a time", n)
	}
	for _, order := range answer.GetOrders() {
		z.results[order.GetNumber()] = z.obey(order)
	}
	b.calm()
	if len(a.copies) != 0 || len(z.copies) != many || a.evacuated == nil {
		t.Fatalf("a has %d copies, z %d, evacuation %v", len(a.copies), len(z.copies), a.evacuated)
	}
}
