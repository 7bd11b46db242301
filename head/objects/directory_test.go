package objects_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell is a directory whose time passes by itself.
type shell struct {
	*objects.Directory
	t   *testing.T
	ctx context.Context
}

func newShell(t *testing.T, term uint64, lease time.Duration) *shell {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	d := objects.NewDirectory(objects.Config{ClusterID: "c1", Term: term, LeaseTime: lease}, slog.New(slog.DiscardHandler), nil)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-ended)
	})
	return &shell{d, t, ctx}
}

// serve lets a simple store obey the directory until stop is called. Orders that deaf says it does not hear are left alone.
func (s *shell) serve(store *fakeStore, deaf func(*enginev1.ObjectOrder) bool) (stop func(left bool)) {
	s.t.Helper()
	first := store.report()
	first.Store = &enginev1.ObjectStoreAddress{NodeId: string(store.node)}
	first.Complete = true
	node, session, answers, err := s.Connect(first)
	check(s.t, err)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-answers:
			case <-stopping:
				return
			}
			orders := s.Answer(node, session).GetOrders()
			store.mu.Lock()
			for _, order := range orders {
				if deaf == nil || !deaf(order) {
					store.results[order.GetNumber()] = store.obey(proto.CloneOf(order))
				}
			}
			report := store.report()
			store.mu.Unlock()
			if err := s.Report(node, session, report); err != nil {
				s.t.Error(err)
				return
			}
		}
	}()
	var once sync.Once
	stop = func(left bool) {
		once.Do(func() {
			close(stopping)
			<-stopped
			s.Disconnect(node, session, left)
		})
	}
	s.t.Cleanup(func() { stop(true) })
	return stop
}

func newStore(node engine.NodeID) *fakeStore {
	return &fakeStore{
		node: node, room: 1 << 30, copies: map[engine.ObjectID]*fakeCopy{}, changed: map[engine.ObjectID]bool{},
		results: map[uint64]*enginev1.ObjectOrderResult{}, files: map[string]bool{},
	}
}

var aPin = engine.ObjectOwner{Kind: engine.OwnerPin, ID: "kept"}

// TestWhatAStoreHasNotToldYetIsFound puts an object in a store that has not told of it.
func TestWhatAStoreHasNotToldYetIsFound(t *testing.T) {
	s := newShell(t, 1, time.Minute)
	a := newStore("a")
	s.serve(a, nil)
	x, y := object(1), object(2)
	// b knows y before it is asked for the first time, and does not tell until then.
	b := newStore("b")
	s.serve(b, nil)
	b.mu.Lock()
	b.put(y, aPin)
	b.mu.Unlock()
	found, err := s.Describe(s.ctx, []engine.ObjectID{y, x}, []string{"kept", "nobody"})
	check(t, err)
	if len(found) != 2 || engine.ObjectID(found[1].GetObjectId()) != y {
		t.Errorf("found %v", found)
	}
	if _, _, err := s.Get(s.ctx, x, false); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an unknown object: %v", err)
	}
}

func TestEndOfContextEndsARequest(t *testing.T) {
	s := newShell(t, 1, time.Minute)
	a := newStore("a")
	x := object(1)
	a.put(x, aPin)
	s.serve(a, func(*enginev1.ObjectOrder) bool { return true })
	owner := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "other"}
	for name, call := range map[string]func(context.Context) error{
		"hold":       func(ctx context.Context) error { return s.Hold(ctx, []engine.ObjectID{x}, owner) },
		"release":    func(ctx context.Context) error { return s.Release(ctx, []engine.ObjectID{x}, owner) },
		"get":        func(ctx context.Context) error { _, _, err := s.Get(ctx, x, true); return err },
		"schema":     func(ctx context.Context) error { _, err := s.Schema(ctx, x); return err },
		"checkpoint": func(ctx context.Context) error { _, _, err := s.Checkpoint(ctx, x, "/f"); return err },
		"find": func(ctx context.Context) error {
			_, err := s.Describe(ctx, []engine.ObjectID{object(7)}, nil)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(s.ctx, time.Millisecond)
		if err := call(ctx); engine.KindOf(err) != engine.KindDeadline {
			t.Errorf("%s: %v, expected a deadline", name, err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Millisecond)
	defer cancel()
	if err := s.Delete(ctx, []engine.ObjectID{x}); engine.KindOf(err) != engine.KindDeadline {
		t.Errorf("delete: %v, expected a deadline", err)
	}
	if ready, err := s.Wait(ctx, []engine.ObjectID{object(8)}, 0); err != nil || ready != nil {
		t.Errorf("wait: %v, %v", ready, err)
	}
}

// TestReadsGoOnElsewhere lets the first holder die while it is asked.
func TestReadsGoOnElsewhere(t *testing.T) {
	s := newShell(t, 1, 20*time.Millisecond)
	a, b := newStore("a"), newStore("b")
	x := object(1)
	a.put(x, aPin)
	b.put(x)
	asked := make(chan struct{}, 10)
	stop := s.serve(a, func(order *enginev1.ObjectOrder) bool {
		if order.GetFetch() != nil {
			asked <- struct{}{}
		}
		return true
	})
	s.serve(b, nil)
	go func() {
		<-asked
		stop(false)
	}()
	data, info, err := s.Get(s.ctx, x, false)
	check(t, err)
	if string(data) != "data" || info.GetSizeBytes() == 0 {
		t.Errorf("got %q, %v", data, info)
	}
	check(t, s.Hold(s.ctx, []engine.ObjectID{x}, engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j"}))
	found, err := s.Describe(s.ctx, []engine.ObjectID{x}, nil)
	check(t, err)
	if len(found) != 1 || len(found[0].GetOwners()) == 0 {
		t.Errorf("found %v", found)
	}
}

// TestNewHeadWaitsForTheStores asks a head that has just started for an object whose store comes later.
func TestNewHeadWaitsForTheStores(t *testing.T) {
	s := newShell(t, 2, time.Minute)
	x := object(1)
	result := make(chan error, 1)
	go func() {
		_, info, err := s.Get(s.ctx, x, false)
		if err == nil && len(info.GetHolders()) != 1 {
			err = fmt.Errorf("found %v", info)
		}
		result <- err
	}()
	a := newStore("a")
	a.put(x, aPin)
	s.serve(a, nil)
	check(t, <-result)

	s = newShell(t, 2, 20*time.Millisecond)
	if _, _, err := s.Get(s.ctx, x, false); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an object that never comes: %v", err)
	}
}

func TestCallsOfManyAtOnce(t *testing.T) {
	s := newShell(t, 1, time.Minute)
	s.serve(newStore("a"), nil)
	s.serve(newStore("b"), nil)
	stream, err := s.OpenSession(fmt.Sprintf("%032x", 1))
	check(t, err)
	owner := engine.ObjectOwner{Kind: engine.OwnerSession, ID: fmt.Sprintf("%032x", 1)}
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for i := range 50 {
				id := engine.ObjectID{byte(n), byte(i), 2}
				waited := make(chan error, 1)
				go func() {
					ready, err := s.Wait(s.ctx, []engine.ObjectID{id}, 1)
					if err == nil && !slices.Equal(ready, []engine.ObjectID{id}) {
						err = fmt.Errorf("ready are %v", ready)
					}
					waited <- err
				}()
				_, err := s.Put(s.ctx, id, []byte("d"), "", owner)
				if err == nil {
					err = <-waited
				}
				if err == nil {
					_, err = s.Pin(s.ctx, id, engine.ObjectOwner{Kind: engine.OwnerPin, ID: id.String()})
				}
				if err == nil {
					_, _, err = s.Get(s.ctx, id, false)
				}
				if err == nil && i%2 == 0 {
					err = s.Unpin(s.ctx, id.String())
				}
				if err == nil && i%3 == 0 {
					err = s.Release(s.ctx, []engine.ObjectID{id}, owner)
				}
				if err != nil {
					t.Errorf("object %s: %v", id, err)
					return
				}
			}
		})
	}
	group.Wait()
	if _, total, _ := s.List(objects.Filter{}, 10); total != 8*(50-9) {
		t.Errorf("%d objects, expected %d: those that are neither pinned nor owned are gone", total, 8*(50-9))
	}
	s.CloseSession(owner.ID, stream)
	check(t, s.Delete(s.ctx, []engine.ObjectID{object(1)}))
}

func BenchmarkReport(b *testing.B) {
	for _, known := range []int{1_000, 200_000} {
		b.Run(fmt.Sprint(known, " objects"), func(b *testing.B) {
			now := start
			core := objects.NewCore(now, objects.Config{ClusterID: "c", Term: 1})
			session, err := core.Connect(now, &enginev1.ObjectStoreAddress{NodeId: "a"})
			check(b, err)
			owner := []*enginev1.ObjectOwner{{Kind: "job", Id: "j"}}
			report := func(from, n int, complete bool) *enginev1.SyncObjectsRequest {
				r := &enginev1.SyncObjectsRequest{Complete: complete}
				for i := from; i < from+n; i++ {
					id := engine.ObjectID{1, byte(i), byte(i >> 8), byte(i >> 16)}
					r.Changed = append(r.Changed, &enginev1.ObjectCopy{ObjectId: id[:], State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, Owners: owner})
				}
				return r
			}
			check(b, core.Report(now, "a", session, report(0, known, true)))
			again := report(0, 1000, false)
			b.ResetTimer()
			for b.Loop() {
				check(b, core.Report(now, "a", session, again))
				core.Take()
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "copies/s")
		})
	}
}
