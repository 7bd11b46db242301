package objects_test

import (
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
)

func (b *bench) waits(number uint64) {
	b.t.Helper()
	b.take()
	if answer, ok := b.answers[number]; ok {
		b.t.Fatalf("the wait was answered already: %v", answer)
	}
}

func (b *bench) answered(number uint64, kind engine.Kind, ids ...engine.ObjectID) {
	b.t.Helper()
	b.take()
	answer, ok := b.answers[number]
	if !ok {
		b.t.Fatal("the wait is not answered")
	}
	if !slices.Equal(answer.Ready, ids) {
		b.t.Fatalf("ready are %v, expected %v", answer.Ready, ids)
	}
	if kind == noError && answer.Err != nil || kind != noError && engine.KindOf(answer.Err) != kind {
		b.t.Fatalf("answered with %v, expected kind %s", answer.Err, kind)
	}
}

// noError is no kind of error.
const noError = engine.Kind(200)

func TestWait(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	x, y, z := object(1), object(2), object(3)
	all := b.core.Wait(b.now, []engine.ObjectID{x, y}, 2)
	either := b.core.Wait(b.now, []engine.ObjectID{z, y, x}, 1)
	twice := b.core.Wait(b.now, []engine.ObjectID{x, x}, 2)
	b.answered(b.core.Wait(b.now, nil, 0), noError)
	b.waits(all)
	a.put(x, owner)
	b.calm()
	b.waits(all)
	b.answered(either, noError, x)
	b.answered(twice, noError, x, x)
	a.put(y, owner)
	b.calm()
	b.answered(all, noError, x, y)
	b.answered(b.core.Wait(b.now, []engine.ObjectID{y}, 1), noError, y)

	// One that is given up says what is there.
	number := b.core.Wait(b.now, []engine.ObjectID{x, z}, 2)
	b.waits(number)
	if ready := b.core.Abandon(number); !slices.Equal(ready, []engine.ObjectID{x}) {
		t.Errorf("ready are %v", ready)
	}
	if kept := b.core.Kept(); kept["waiters"] != 0 || kept["awaited"] != 0 {
		t.Errorf("kept %v", kept)
	}
}

func TestTooManyWaits(t *testing.T) {
	b := newBench(t, 1)
	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c1", Term: 1, MaxAwaited: 3})
	first := b.core.Wait(b.now, []engine.ObjectID{object(1), object(2)}, 1)
	b.waits(first)
	b.answered(b.core.Wait(b.now, []engine.ObjectID{object(1), object(2)}, 2), engine.KindExhausted)
	b.core.Abandon(first)
	b.waits(b.core.Wait(b.now, []engine.ObjectID{object(1), object(2)}, 2))
}

func TestWaitForWhatWillNotCome(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	x, y := object(1), object(2)
	both := b.core.Wait(b.now, []engine.ObjectID{x, y}, 2)
	b.core.Delete(b.now, []engine.ObjectID{y})
	b.answered(both, engine.KindNotFound)

	a.put(x, owner, pin)
	b.calm()
	third := b.core.Wait(b.now, []engine.ObjectID{x, object(3)}, 2)
	either := b.core.Wait(b.now, []engine.ObjectID{x, object(3), object(3)}, 2)
	b.waits(third)
	b.kill(a)
	b.pass(leaseTime + time.Second)
	b.answered(third, engine.KindUnavailable)
	b.waits(either)
	b.answered(b.core.Wait(b.now, []engine.ObjectID{x}, 1), engine.KindUnavailable)
	if ready := b.core.Abandon(either); ready != nil {
		t.Errorf("ready are %v", ready)
	}
}

// checkpointed makes an object that has a checkpoint alone.
func checkpointed(b *bench, x engine.ObjectID, owner engine.ObjectOwner) {
	b.t.Helper()
	a := b.store("a")
	a.put(x, owner)
	b.calm()
	_, err := b.done(b.core.Checkpoint(x, "s3://bucket/run", nil))
	check(b.t, err)
	b.kill(a)
	b.pass(leaseTime + time.Second)
	b.expect(x, "CHECKPOINTED pin/p")
}

func TestCheckpointIsRestoredOnDemand(t *testing.T) {
	b := newBench(t, 1)
	x := object(1)
	checkpointed(b, x, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	number := b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.waits(number)
	// Owners come and go while no store has it.
	q, r := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "q"}, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "r"}
	if n, err := b.core.Hold(b.now, x, q); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	z := b.store("z")
	if n, err := b.core.Hold(b.now, x, r); n != 0 || err != nil { // The order is on its way with the others.
		t.Fatal(n, err)
	}
	b.core.Release(b.now, x, q)
	b.calm()
	b.answered(number, noError, x)
	b.expect(x, "IN_MEMORY primary@z pin/p pin/r")
	b.core.Release(b.now, x, r)
	b.core.Release(b.now, x, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	b.calm()
	b.expect(x, "none")
	if len(z.copies) != 0 {
		t.Error("the copy is left")
	}
}

func TestRestoreIsTriedElsewhere(t *testing.T) {
	unavailable, corrupt := engine.KindUnavailable, engine.KindCorrupt
	b := newBench(t, 1)
	x := object(1)
	checkpointed(b, x, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	y := b.store("y")
	y.room, y.broken = 1<<40, &unavailable
	b.exchange(y)
	z := b.store("z")
	number := b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.calm()
	b.answered(number, noError, x)
	b.expect(x, "IN_MEMORY primary@z pin/p")
	b.kill(z)
	b.pass(leaseTime + time.Second)
	b.expect(x, "CHECKPOINTED pin/p")

	number = b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.calm()
	b.answered(number, engine.KindUnavailable)
	y.broken = &corrupt
	number = b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.calm()
	b.answered(number, engine.KindCorrupt)
	y.broken = nil
	number = b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.calm()
	b.answered(number, noError, x)
}

// TestDeletedWhileItIsRestored deletes an object whose restoration is under way.
func TestDeletedWhileItIsRestored(t *testing.T) {
	b := newBench(t, 1)
	x := object(1)
	checkpointed(b, x, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	z := b.store("z")
	number := b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	order := b.core.Answer("z", z.session).GetOrders()[0]
	b.core.Delete(b.now, []engine.ObjectID{x})
	b.answered(number, engine.KindNotFound)
	z.results[order.GetNumber()] = z.obey(order)
	b.calm()
	b.expect(x, "none")
	if len(z.copies) != 0 {
		t.Error("the copy is left")
	}
}

func TestRestoreFromAnotherCluster(t *testing.T) {
	b := newBench(t, 1)
	x := object(7)
	sharedFiles["s3://other/"+x.String()+".arrows"] = true
	z := b.store("z")
	owner := b.open('1')
	_, err := b.done(b.core.Restore(b.now, x, "s3://other/"+x.String()+".arrows", "", owner, nil))
	check(t, err)
	b.expect(x, "IN_MEMORY primary@z session/1111")
	// After it was deleted, it can be restored again, even if its id is not known beforehand.
	b.core.Delete(b.now, []engine.ObjectID{x})
	b.calm()
	_, err = b.done(b.core.Restore(b.now, engine.ObjectID{}, "s3://other/"+x.String()+".arrows", "", owner, nil))
	check(t, err)
	b.expect(x, "IN_MEMORY primary@z session/1111")
	_, err = b.done(b.core.Restore(b.now, object(8), "s3://other/"+object(8).String()+".arrows", "", owner, nil))
	wantKind(t, err, engine.KindNotFound)
	if z.copies[x] == nil {
		t.Error("it is not there")
	}
}
