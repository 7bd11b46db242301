package objects_test

import (
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func wantKind(t *testing.T, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("%v, expected an error of kind %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not say %q", err, word)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCopiesComeAndGo(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	x := object(1)
	a.put(x, owner)
	b.calm()
	b.expect(x, "IN_MEMORY primary@a session/1111")
	z.put(x)
	b.calm()
	b.expect(x, "IN_MEMORY cache@z primary@a session/1111")
	z.remove(x)
	b.calm()
	b.expect(x, "IN_MEMORY primary@a session/1111")
	z.put(x)
	b.calm()
	// The last owner goes: so do the object and its cache.
	for _, number := range b.core.Release(b.now, x, owner) {
		_, err := b.done(number, nil)
		check(t, err)
	}
	b.expect(x, "none")
	if len(a.copies)+len(z.copies) != 0 {
		t.Errorf("copies are left: %v %v", a.copies, z.copies)
	}
	// A pull that was under way makes another cache, which goes too.
	z.put(x)
	b.calm()
	b.expect(x, "none")
	if len(z.copies) != 0 {
		t.Error("a cache of a freed object is left")
	}
}

// A client and its store were cut off for longer than a lease. What the client puts once its session is open again stays, even if the
// store hears of nothing before.
func TestReopenedSessionKeepsWhatItPuts(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	x, y := object(1), object(2)
	a.put(x, owner)
	b.calm()
	b.core.Disconnect(b.now, a.node, a.session, false)
	for _, d := range []time.Duration{leaseTime - time.Second, 2 * time.Second} {
		b.now = b.now.Add(d)
		b.core.Tick(b.now)
	}
	b.expect(x, "none")
	b.open('1')
	a.put(y, owner)
	b.connect(a)
	b.calm()
	b.expect(y, "IN_MEMORY primary@a session/1111")
}

// A store that was told to end a session may do so at any time until it has answered: what the session puts after it was opened again
// would go with the rest. So it cannot be opened again until then.
func TestSessionWhoseEndIsUnderWayStaysClosed(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner, x, y := b.open('1'), object(1), object(2)
	a.put(x, owner)
	z.put(y, owner)
	b.calm()
	b.pass(leaseTime + time.Millisecond)
	open := func(id string) error {
		_, err := b.core.OpenSession(b.now, id)
		return err
	}
	// The order reaches the store, and its answer does not reach the head.
	b.core.Answer(a.node, a.session)
	wantKind(t, open(owner.ID), engine.KindFenced, owner.ID, "node a")
	b.disconnect(a, false)
	wantKind(t, open(owner.ID), engine.KindFenced, "node a")
	b.calm() // z answers.
	b.pass(2 * leaseTime)
	wantKind(t, open(owner.ID), engine.KindFenced, "node a") // Also when a is lost: it may be back.
	// A new id is free at once, and nothing ends what it owns.
	other := b.open('2')
	z.put(object(3), other)
	b.connect(a)
	b.calm()
	b.expect(object(3), "IN_MEMORY primary@z session/2222")
	b.expect(x, "none")
	// The answer is there.
	b.open('1')
	a.put(object(4), owner)
	b.calm()
	b.expect(object(4), "IN_MEMORY primary@a session/1111")
}

// A store that does not come back is forgotten, and the session that it was told of with it.
func TestForgottenStoreFencesNoSession(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	a.put(object(1), owner)
	b.calm()
	b.pass(leaseTime + time.Millisecond)
	b.core.Answer(a.node, a.session)
	b.kill(a)
	b.pass(leaseTime + time.Millisecond)
	_, err := b.core.OpenSession(b.now, owner.ID)
	wantKind(t, err, engine.KindFenced, owner.ID)
	b.pass(2 * time.Hour)
	b.open('1')
}

func TestLostPrimaryWithCacheIsPromoted(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	job := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j1"}
	x, y := object(1), object(2)
	a.put(x, owner, job)
	a.put(y, owner)
	z.put(x)
	b.calm()
	b.kill(a)
	b.pass(leaseTime - time.Second)
	b.expect(x, "IN_MEMORY cache@z primary@a job/j1 session/1111")
	b.open('1') // It renews.
	b.pass(2 * time.Second)
	b.calm()
	b.expect(x, "IN_MEMORY primary@z job/j1 session/1111")
	b.expect(y, "LOST session/1111")
	if want := (objects.Loss{Node: "a", Copies: 2, Promoted: 1, Lost: 1}); len(b.losses) != 1 || b.losses[0] != want {
		t.Errorf("losses %+v, expected %+v", b.losses, want)
	}
	_, err := b.core.Hold(b.now, y, owner)
	wantKind(t, err, engine.KindUnavailable, y.String(), "lost", "node a")
	// What nobody owns any more is not even lost.
	b.core.EndOwner(b.now, owner)
	b.expect(y, "none")
	b.calm()
	b.expect(x, "IN_MEMORY primary@z job/j1")
}

func TestGoodbyeLosesAtOnce(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	a.put(object(1), owner)
	z.put(object(1))
	b.calm()
	b.disconnect(a, true)
	b.calm()
	b.expect(object(1), "IN_MEMORY primary@z session/1111")
}

func TestStoreThatComesBackInTimeKeepsItsCopies(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	a.put(object(1), owner)
	a.put(object(2), owner)
	b.calm()
	b.disconnect(a, false)
	a.remove(object(2))
	b.pass(leaseTime - time.Millisecond)
	b.connect(a)
	b.pass(leaseTime)
	b.expect(object(1), "IN_MEMORY primary@a pin/p")
	b.expect(object(2), "none")
}

func TestStoreThatComesBackLateGivesUpWhatWasTakenOver(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	pin, other := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "q"}
	x, y := object(1), object(2)
	a.put(x, pin, other)
	a.put(y, pin)
	z.put(x)
	b.calm()
	b.disconnect(a, false)
	b.pass(leaseTime + time.Second)
	b.calm()
	b.expect(x, "IN_MEMORY primary@z pin/p pin/q")
	b.expect(y, "LOST pin/p")
	// While a is away, one reference ends, and a's Flight service takes another.
	b.core.Release(b.now, x, other)
	b.calm()
	a.own(x, []engine.ObjectOwner{{Kind: engine.OwnerPin, ID: "r"}}, nil)
	b.connect(a)
	b.calm()
	b.expect(x, "IN_MEMORY primary@z pin/p pin/r")
	b.expect(y, "IN_MEMORY primary@a pin/p")
	if a.copies[x] != nil {
		t.Error("a keeps a second primary copy")
	}
}

func TestSessionEndsAfterItsLeaseAlone(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	first, second := b.open('1'), b.open('2')
	stream, err := b.core.OpenSession(b.now, first.ID)
	check(t, err)
	a.put(object(1), first)
	z.put(object(2), first)
	z.put(object(3), second, first)
	b.calm()
	b.pass(leaseTime)
	if !b.core.RenewSession(b.now, first.ID, stream) {
		t.Fatal("the session has ended within its lease")
	}
	b.pass(leaseTime)
	b.calm()
	b.expect(object(1), "IN_MEMORY primary@a session/1111")
	b.expect(object(3), "IN_MEMORY primary@z session/1111")
	b.pass(time.Millisecond)
	b.calm()
	for n := range byte(3) {
		b.expect(object(n+1), "none")
	}
	if b.core.RenewSession(b.now, first.ID, stream) {
		t.Error("a session that has ended was renewed")
	}
	// What its client still puts is ended too, whenever it is heard of.
	a.put(object(4), first)
	b.calm()
	b.expect(object(4), "none")
	_, err = b.core.Put(b.now, object(5), nil, "", first, nil)
	wantKind(t, err, engine.KindFenced, first.ID)
	// Unless it opens its session again.
	b.open('1')
	a.put(object(4), first)
	b.calm()
	b.expect(object(4), "IN_MEMORY primary@a session/1111")
}

func TestGoodbyeEndsASession(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	old, err := b.core.OpenSession(b.now, owner.ID)
	check(t, err)
	stream, err := b.core.OpenSession(b.now, owner.ID)
	check(t, err)
	a.put(object(1), owner)
	b.calm()
	b.core.CloseSession(b.now, owner.ID, old) // The stream that was replaced.
	b.calm()
	b.expect(object(1), "IN_MEMORY primary@a session/1111")
	b.core.CloseSession(b.now, owner.ID, stream)
	b.calm()
	b.expect(object(1), "none")
}

func TestEndOfSessionReachesStoreThatIsAway(t *testing.T) {
	for name, away := range map[string]time.Duration{"within its lease": time.Second, "after it was lost": 10 * leaseTime} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			a := b.store("a")
			owner := b.open('1')
			a.put(object(1), owner)
			b.calm()
			b.disconnect(a, false)
			b.core.EndOwner(b.now, owner)
			b.pass(away)
			b.connect(a)
			b.calm()
			b.expect(object(1), "none")
			if len(a.copies) != 0 {
				t.Error("the store keeps an object of a session that has ended")
			}
		})
	}
}

func TestNewHeadLearnsEverything(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	lost := b.open('2')
	a.put(object(1), owner, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "prices"})
	a.put(object(2), lost)
	b.calm()

	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c1", Term: 2, LeaseTime: leaseTime})
	if !b.core.Learning(b.now) {
		t.Error("a head of the second term has nothing to learn")
	}
	_, err := b.core.Put(b.now, object(3), nil, "", owner, nil)
	wantKind(t, err, engine.KindUnavailable, "no node")
	b.connect(a)
	b.expect(object(1), "IN_MEMORY primary@a pin/pric session/1111")
	if id, ok := b.core.Named("prices"); !ok || id != object(1) {
		t.Error("the pin's name is not known")
	}
	b.pass(leaseTime)
	b.open('1')
	b.pass(time.Millisecond)
	b.calm()
	b.expect(object(1), "IN_MEMORY primary@a pin/pric session/1111")
	b.expect(object(2), "none") // Its client has not come back.
	if b.core.Learning(b.now) {
		t.Error("it learns for ever")
	}
}

func TestOwnerThatNobodyKnowsIsEnded(t *testing.T) {
	b := newBench(t, 2)
	b.core = objects.NewCore(b.now, objects.Config{
		ClusterID: "c1", Term: 2, LeaseTime: leaseTime,
		Known: func(owner engine.ObjectOwner) bool { return owner.Kind != engine.OwnerJob || owner.ID == "j2" },
	})
	a := b.store("a")
	forgotten, known := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j1"}, engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j2"}
	a.put(object(1), forgotten)
	a.put(object(2), forgotten, known)
	b.calm()
	b.expect(object(1), "none")
	b.expect(object(2), "IN_MEMORY primary@a job/j2")
}

func TestDeletedObjectsStayDeleted(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	x, y := object(1), object(2)
	a.put(x, owner)
	z.put(x)
	b.calm()
	b.disconnect(z, false)
	a.put(y, owner) // The head has not heard of it.
	b.core.Delete(b.now, []engine.ObjectID{x, y, object(3)})
	b.calm()
	b.expect(x, "none")
	b.expect(y, "none")
	if len(a.copies) != 0 {
		t.Errorf("a has %v", a.copies)
	}
	b.connect(z)
	b.calm()
	b.expect(x, "none")
	if len(z.copies) != 0 {
		t.Errorf("z has %v", z.copies)
	}
	_, err := b.core.Read(x, false, nil)
	wantKind(t, err, engine.KindNotFound, x.String(), "deleted")
	_, err = b.core.Read(object(9), false, nil)
	wantKind(t, err, engine.KindNotFound, "no such object")
}

// TestDeletedWhileItsStoreIsAway deletes an object for whose store other orders wait.
func TestDeletedWhileItsStoreIsAway(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	p, q := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "q"}
	a.put(object(1), p, q)
	b.calm()
	b.disconnect(a, false)
	b.pass(leaseTime + time.Second)
	b.core.Release(b.now, object(1), p)
	b.core.Delete(b.now, []engine.ObjectID{object(1)})
	b.connect(a)
	b.calm()
	b.expect(object(1), "none")
	if len(a.copies) != 0 {
		t.Error("the copy is left")
	}
}

func TestPinsHaveUniqueNames(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	x, y := object(1), object(2)
	a.put(x, owner)
	a.put(y, owner)
	b.calm()
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "prices"}
	first, err := b.core.Hold(b.now, x, pin)
	check(t, err)
	_, err = b.core.Hold(b.now, y, pin) // The first one is under way.
	wantKind(t, err, engine.KindConflict, "prices", x.String())
	_, err = b.done(first, nil)
	check(t, err)
	_, err = b.core.Hold(b.now, y, pin)
	wantKind(t, err, engine.KindConflict, "prices", x.String())
	pin.Expires = b.now.Add(time.Minute)
	_, err = b.done(b.core.Hold(b.now, x, pin)) // Moves the end.
	check(t, err)
	b.expect(x, "IN_MEMORY primary@a pin/pric session/1111")
	for range 13 {
		b.open('1')
		b.pass(leaseTime)
	}
	b.calm()
	b.expect(x, "IN_MEMORY primary@a session/1111")
	_, err = b.done(b.core.Hold(b.now, y, engine.ObjectOwner{Kind: engine.OwnerPin, ID: "prices"}))
	check(t, err)
}

func TestPutGoesWhereRoomIs(t *testing.T) {
	b := newBench(t, 1)
	owner := b.open('1')
	_, err := b.core.Put(b.now, object(1), []byte("d"), "", owner, nil)
	wantKind(t, err, engine.KindUnavailable, "no node")
	a, z := b.store("a"), b.store("z")
	a.room, z.room = 1<<20, 1<<30
	b.exchange(a)
	b.exchange(z)
	result, err := b.done(b.core.Put(b.now, object(1), []byte("d"), "", owner, nil))
	check(t, err)
	if result.Node != "z" {
		t.Errorf("put on %s", result.Node)
	}
	b.expect(object(1), "IN_MEMORY primary@z session/1111")
	_, err = b.core.Put(b.now, object(1), []byte("d"), "", owner, nil)
	wantKind(t, err, engine.KindConflict, object(1).String())
	_, err = b.core.Put(b.now, object(2), make([]byte, engine.MaxInlineObjectBytes+1), "", owner, nil)
	wantKind(t, err, engine.KindInvalidArgument, "102401", "102400")
	_, err = b.core.Put(b.now, object(2), nil, "", engine.ObjectOwner{Kind: engine.OwnerSession, ID: "x"}, nil)
	wantKind(t, err, engine.KindInvalidArgument, "session id")
	_, err = b.core.Put(b.now, object(2), nil, "", engine.ObjectOwner{Kind: engine.OwnerSession, ID: strings.Repeat("e", 32)}, nil)
	wantKind(t, err, engine.KindFenced, "not open")
	result, err = b.done(b.core.Read(object(1), false, nil))
	check(t, err)
	if string(result.Reply.GetData()) != "data" {
		t.Errorf("read %q", result.Reply.GetData())
	}
}

func TestRequestsEndWithTheirStore(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	a.put(object(1), owner)
	b.calm()
	held, err := b.core.Hold(b.now, object(1), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	check(t, err)
	read, err := b.core.Read(object(1), false, nil)
	check(t, err)
	b.core.Answer("a", a.session) // The orders are on their way when the store dies.
	b.kill(a)
	b.pass(leaseTime)
	b.open('1')
	b.pass(time.Second)
	for _, number := range []uint64{held, read} {
		result, ok := b.results[number]
		if !ok {
			t.Fatal("a request to a lost store has no result")
		}
		wantKind(t, result.Err, engine.KindUnavailable, "a", "gone")
	}
	if kept := b.core.Kept(); kept["pinning"] != 0 || kept["orders"] != 0 || kept["requests"] != 0 {
		t.Errorf("kept %v", kept)
	}
}

func TestOrdersAreRepeatedOnTheNextStream(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	a.put(object(1), owner)
	b.calm()
	number, err := b.core.Hold(b.now, object(1), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	check(t, err)
	if answer := b.core.Answer("a", a.session); len(answer.GetOrders()) != 1 {
		t.Fatal("no order")
	}
	b.disconnect(a, false)
	b.connect(a)
	_, err = b.done(number, nil)
	check(t, err)
	b.expect(object(1), "IN_MEMORY primary@a pin/p session/1111")
	if kept := b.core.Kept(); kept["orders"] != 0 || kept["queues"] != 0 {
		t.Errorf("kept %v", kept)
	}
}

func TestOrdersOfOneObjectGoOneAfterTheOther(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner := b.open('1')
	a.put(object(1), owner)
	b.calm()
	_, err := b.core.Hold(b.now, object(1), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"})
	check(t, err)
	b.core.Release(b.now, object(1), owner)
	_, err = b.core.Read(object(1), true, nil)
	check(t, err)
	for i := range 3 {
		answer := b.core.Answer("a", a.session)
		if len(answer.GetOrders()) != 1 {
			t.Fatalf("%d: %d orders at a time", i, len(answer.GetOrders()))
		}
		a.results[answer.GetOrders()[0].GetNumber()] = a.obey(answer.GetOrders()[0])
		check(t, b.core.Report(b.now, "a", a.session, a.report()))
	}
	b.expect(object(1), "IN_MEMORY primary@a pin/p")
}

func TestMalformedReportsAreRefused(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	fine := &enginev1.ObjectCopy{ObjectId: make([]byte, 15)}
	for name, report := range map[string]*enginev1.SyncObjectsRequest{
		"id":    {Changed: []*enginev1.ObjectCopy{fine}},
		"gone":  {Gone: [][]byte{{1}}},
		"state": {Changed: []*enginev1.ObjectCopy{{ObjectId: make([]byte, 15+1)}}},
		"owner": {Changed: []*enginev1.ObjectCopy{{ObjectId: []byte("0123456789abcdef"), State: 2, Owners: []*enginev1.ObjectOwner{{Kind: "x"}}}}},
	} {
		if err := b.core.Report(b.now, "a", a.session, report); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.core.Report(b.now, "a", a.session+1, &enginev1.SyncObjectsRequest{}); engine.KindOf(err) != engine.KindFenced {
		t.Errorf("another stream: %v", err)
	}
	if _, err := b.core.Connect(b.now, nil); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no address: %v", err)
	}
}

// A copy that takes over knows of the checkpoint, so that the next head hears of it too.
func TestPromotedCopyKeepsTheCheckpoint(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	p := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	x := object(1)
	a.put(x, p)
	z.put(x)
	b.calm()
	_, err := b.done(b.core.Checkpoint(x, "s3://bucket/run", nil))
	check(t, err)
	uri := "s3://bucket/run/" + x.String() + ".arrows"
	if c := z.copies[x]; c.checkpoint != "" {
		t.Fatalf("the cache knows of %q", c.checkpoint)
	}
	b.kill(a)
	b.pass(leaseTime + time.Second)
	b.calm()
	b.expect(x, "IN_MEMORY primary@z pin/p")
	if c := z.copies[x]; c.checkpoint != uri {
		t.Errorf("the copy that took over knows of %q", c.checkpoint)
	}

	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c1", Term: 2, LeaseTime: leaseTime})
	b.connect(z)
	b.calm()
	if got := b.describe(x).GetCheckpoint(); got != uri {
		t.Errorf("the next head knows of %q", got)
	}
	b.kill(z)
	b.pass(leaseTime + time.Second)
	b.expect(x, "CHECKPOINTED pin/p")
}

// Orders that make a copy say to which security domain it belongs.
func TestOrdersKeepTheDomain(t *testing.T) {
	b := newBench(t, 1)
	a := b.store("a")
	owner, p := b.open('1'), engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	put, restored, back := object(1), object(2), object(3)
	_, err := b.done(b.core.Put(b.now, put, []byte("d"), "red", owner, nil))
	check(t, err)
	uri := "s3://other/" + restored.String() + ".arrows"
	sharedFiles[uri] = true
	_, err = b.done(b.core.Restore(b.now, restored, uri, "red", owner, nil))
	check(t, err)
	a.putInto("red", back, p)
	b.calm()
	_, err = b.done(b.core.Checkpoint(back, "s3://bucket/run", nil))
	check(t, err)
	for _, id := range []engine.ObjectID{put, restored, back} {
		if got := b.describe(id).GetDomain(); got != "red" || a.copies[id].domain != "red" {
			t.Errorf("object %s is in %q, and said to be in %q", id, a.copies[id].domain, got)
		}
	}
	b.kill(a)
	b.pass(leaseTime + time.Second)
	b.open('1')
	z := b.store("z")
	// What is brought back on demand, and what is restored by a request that does not say where it belongs, or says it wrongly.
	number := b.core.Wait(b.now, []engine.ObjectID{back}, 1)
	b.calm()
	b.answered(number, noError, back)
	if got := z.copies[back].domain; got != "red" {
		t.Errorf("brought back into %q", got)
	}
	b.kill(z)
	b.pass(leaseTime + time.Second)
	b.open('1')
	y := b.store("y")
	_, err = b.done(b.core.Restore(b.now, back, "s3://bucket/run/"+back.String()+".arrows", "blue", owner, nil))
	check(t, err)
	if got := y.copies[back].domain; got != "red" {
		t.Errorf("restored into %q", got)
	}
}

// What a resumed job makes again lives, though its ids were deleted.
func TestDeletedObjectIsMadeAgain(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	job := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j1"}
	x, y := object(1), object(2)
	a.put(x, job)
	a.put(y, job)
	b.calm()
	b.core.Delete(b.now, []engine.ObjectID{x, y})
	b.calm()
	z.put(x, job)
	b.calm()
	b.expect(x, "none") // It may have been made before.
	if len(z.copies) != 0 {
		t.Errorf("left are %v", z.copies)
	}
	b.core.Revive(x)
	z.put(x, job)
	z.put(y, job)
	b.calm()
	b.expect(x, "IN_MEMORY primary@z job/j1")
	b.expect(y, "none")

	// An order to delete that a store has not carried out is still meant for the old copy.
	b.disconnect(z, false)
	b.core.Delete(b.now, []engine.ObjectID{x})
	b.core.Revive(x)
	a.put(x, job)
	b.calm()
	b.expect(x, "IN_MEMORY primary@a job/j1")
	b.connect(z)
	b.calm()
	b.expect(x, "IN_MEMORY primary@a job/j1")
	if len(z.copies) != 0 {
		t.Errorf("left are %v", z.copies)
	}
}
