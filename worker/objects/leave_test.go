package objects_test

import (
	"context"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/worker/objects"
)

func wantKind(t *testing.T, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("%v, expected an error of kind %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// leaving takes messages in until one says that the store leaves.
func (s *headStream) leaving() {
	s.t.Helper()
	for !s.hear().GetLeaving() {
	}
}

func TestEvacuationEndsWhenTheHeadSaysSo(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	s := head.stream()
	id := keep(t, o.Store(), pin, 10)
	ended := make(chan error, 1)
	go func() { ended <- o.Evacuate(head.ctx) }()
	s.leaving()
	if s.copies[id] == nil {
		t.Fatal("the store leaves before it has told of everything")
	}
	// The next head has to be told again.
	s.end <- engine.Errorf(engine.KindUnavailable, "test", "", "the head goes away")
	s = head.stream()
	s.leaving()
	check(t, s.Send(&enginev1.SyncObjectsResponse{Evacuation: &enginev1.Evacuation{}}))
	check(t, <-ended)
	// Whoever asks again hears the latest answer.
	check(t, s.Send(&enginev1.SyncObjectsResponse{Evacuation: &enginev1.Evacuation{LeftObjects: 2, LeftBytes: 2048, Reason: "no room"}}))
	s.fine(&enginev1.ObjectOrder{Number: 1})
	wantKind(t, o.Evacuate(head.ctx), engine.KindUnavailable, "2 of its objects, 2", "no room")
}

func TestEvacuationEndsWithItsContext(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	s := head.stream()
	ctx, cancel := context.WithCancel(head.ctx)
	ended := make(chan error, 1)
	go func() { ended <- o.Evacuate(ctx) }()
	s.leaving()
	cancel()
	wantKind(t, <-ended, engine.KindCanceled)
}

func TestOrderToTakeAnObject(t *testing.T) {
	head := newHead(t)
	from := head.start(objects.Config{DataDir: t.TempDir(), Node: "n1"})
	head.stream()
	to := head.start(objects.Config{DataDir: t.TempDir(), Node: "n2"})
	s := head.stream()
	id := keep(t, from.Store(), pin, 1000)
	take := func(number uint64, fetch bool) *enginev1.ObjectOrder {
		return &enginev1.ObjectOrder{Number: number, Order: &enginev1.ObjectOrder_Promote{
			Promote: &enginev1.PromoteObjectOrder{ObjectId: id[:], Owners: wireOwners(pin, session), Fetch: fetch},
		}}
	}
	s.fails(take(1, true), engine.KindNotFound) // Nobody is said to have it.
	head.knows(id, map[string]*objects.Objects{"n1": from})
	s.fails(take(2, false), engine.KindNotFound)
	got := s.fine(take(3, true)).GetObject()
	if !got.GetPrimary() || len(got.GetOwners()) != 2 || got.GetRows() != 1000 {
		t.Fatalf("took %v", got)
	}
	if info, ok := to.Store().Info(id); !ok || !info.Primary {
		t.Errorf("the store has %+v", info)
	}
}
