package objects_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (b *bench) hear(news objects.News) {
	for _, at := range news.Known {
		b.news = append(b.news, fmt.Sprintf("known %d %v", at.ID[0], at.Nodes))
	}
	for _, id := range news.Unknown {
		b.news = append(b.news, fmt.Sprintf("unknown %d", id[0]))
	}
	for _, id := range news.Lost {
		text := fmt.Sprintf("lost %d", id[0])
		if cause := news.Causes[id]; cause != nil {
			text = fmt.Sprintf("%s: %s", text, errors.Unwrap(cause))
		}
		b.news = append(b.news, text)
	}
	for _, id := range news.EndedSessions {
		b.news = append(b.news, "ended "+id[:1])
	}
}

// heard checks the news since the last call.
func (b *bench) heard(want ...string) {
	b.t.Helper()
	b.take()
	if !slices.Equal(b.news, want) {
		b.t.Fatalf("news are %q, expected %q", b.news, want)
	}
	b.news = nil
}

func TestWatchTellsWhatBecomesOfObjects(t *testing.T) {
	b := newBench(t, 1)
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	x, y := object(1), object(2)
	b.core.Watch(b.now, []engine.ObjectID{x, y})
	b.heard("unknown 1", "unknown 2")
	a.put(x, owner)
	b.calm()
	b.heard("known 1 [a]")
	z.put(x) // It was known: nobody watches it any more.
	b.calm()
	b.heard()
	b.core.Watch(b.now, []engine.ObjectID{x})
	b.heard("known 1 [a z]")
	b.core.Unwatch([]engine.ObjectID{y})
	a.put(y, owner)
	b.calm()
	b.heard()
	// The store takes its only copy of y along; the other object has a copy elsewhere.
	b.disconnect(a, true)
	b.calm()
	b.heard("lost 2")
	b.core.Watch(b.now, []engine.ObjectID{y})
	b.heard("lost 2")
	b.pass(leaseTime + time.Millisecond) // The client is silent, and so its session ends.
	b.heard("ended 1")
	b.open('2')
	b.heard()
}

func TestWatchWaitsForStoresOfAnEarlierHead(t *testing.T) {
	b := newBench(t, 2)
	x, y := object(1), object(2)
	b.core.Watch(b.now, []engine.ObjectID{x, y})
	b.heard()
	a := b.store("a")
	owner := b.open('1')
	a.put(x, owner)
	b.calm()
	b.heard("known 1 [a]")
	for range 3 {
		b.open('1')
		b.pass(leaseTime/2 + time.Millisecond)
	}
	b.heard("unknown 2")
}

// Who waits for a lost output of a task hears of it once it is sure that the task does not run again.
func TestLostOutputThatMayBeMadeAgain(t *testing.T) {
	b := newBench(t, 1)
	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c", Term: 1, LeaseTime: leaseTime, Remade: true})
	a, z := b.store("a"), b.store("z")
	owner := b.open('1')
	x, y := object(1), object(2)
	a.put(x, owner)
	a.put(y, owner)
	b.calm()
	b.disconnect(a, true)
	b.heard("lost 1", "lost 2")
	waitX, waitY := b.core.Wait(b.now, []engine.ObjectID{x}, 1), b.core.Wait(b.now, []engine.ObjectID{y}, 1)
	b.take()
	if len(b.answers) != 0 {
		t.Fatalf("answers are %v while both may be made again", b.answers)
	}
	b.core.GiveUp([]engine.ObjectID{x})
	z.put(y, owner)
	b.calm()
	wantKind(t, b.answers[waitX].Err, engine.KindUnavailable, "lost")
	if answer := b.answers[waitY]; answer.Err != nil || len(answer.Ready) != 1 {
		t.Fatalf("the answer is %+v, expected the object that was made again", answer)
	}
}

// The subscriber calls the directory from within what it hears, and hears everything in order.
func TestSubscriberMayCallTheDirectory(t *testing.T) {
	now := start
	directory := objects.NewDirectory(objects.Config{ClusterID: "c", Term: 1, LeaseTime: leaseTime}, slog.New(slog.DiscardHandler), func() time.Time { return now })
	var heard []string
	directory.Subscribe(func(news objects.News) {
		for _, id := range news.Unknown {
			heard = append(heard, fmt.Sprintf("unknown %d", id[0]))
			if id[0] < 3 {
				directory.Watch([]engine.ObjectID{object(id[0] + 1)})
			}
		}
		for _, at := range news.Known {
			heard = append(heard, fmt.Sprintf("known %d", at.ID[0]))
		}
	})
	directory.Watch([]engine.ObjectID{object(1)})
	node, session, _, err := directory.Connect(&enginev1.SyncObjectsRequest{Store: &enginev1.ObjectStoreAddress{NodeId: "n"}, Complete: true})
	check(t, err)
	id := object(2)
	check(t, directory.Report(node, session, &enginev1.SyncObjectsRequest{Changed: []*enginev1.ObjectCopy{{
		ObjectId: id[:], State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, SizeBytes: 5,
		Owners: []*enginev1.ObjectOwner{{Kind: "session", Id: strings.Repeat("a", 32)}},
	}}}))
	if want := []string{"unknown 1", "unknown 2", "unknown 3", "known 2"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %q, expected %q", heard, want)
	}
	if at := directory.Locate([]engine.ObjectID{object(1), id}); len(at) != 1 || at[0].SizeBytes != 5 || !slices.Equal(at[0].Nodes, []engine.NodeID{"n"}) {
		t.Fatalf("located %+v", at)
	}
}
