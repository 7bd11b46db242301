package objects_test

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const leaseTime = 5 * time.Second

// bench is a core with a clock and simple stores around it.
type bench struct {
	t      *testing.T
	core   *objects.Core
	now    time.Time
	stores []*fakeStore
	// results and answers are those that the core told, by their numbers.
	results map[uint64]objects.Result
	answers map[uint64]objects.Answer
	// news are what the subscriber has heard, a line each.
	news   []string
	losses []objects.Loss
	// asks are the lost objects that were asked of jobs.
	asks []objects.Asked
}

func newBench(t *testing.T, term uint64) *bench {
	b := &bench{t: t, now: start, results: map[uint64]objects.Result{}, answers: map[uint64]objects.Answer{}}
	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c1", Term: term, LeaseTime: leaseTime})
	return b
}

func (b *bench) take() {
	events := b.core.Take()
	for _, result := range events.Results {
		if _, twice := b.results[result.Number]; twice {
			b.t.Fatalf("two results for %d", result.Number)
		}
		b.results[result.Number] = result
	}
	for _, answer := range events.Answers {
		if _, twice := b.answers[answer.Waiter]; twice {
			b.t.Fatalf("two answers for %d", answer.Waiter)
		}
		b.answers[answer.Waiter] = answer
	}
	b.losses = append(b.losses, events.Losses...)
	b.asks = append(b.asks, events.Asked...)
	b.hear(events.News)
}

func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	for _, s := range b.stores {
		s.expire(b.now)
	}
	b.core.Tick(b.now)
	b.take()
}

// fakeCopy is a copy as a real store has it.
type fakeCopy struct {
	primary            bool
	owners             []engine.ObjectOwner
	domain, checkpoint string
}

// fakeStore does what it is ordered to, as a real one does.
type fakeStore struct {
	mu      sync.Mutex // Held by who uses it, where goroutines do.
	node    engine.NodeID
	room    int64
	session uint64
	copies  map[engine.ObjectID]*fakeCopy
	// changed are the ids that its next message tells of.
	changed map[engine.ObjectID]bool
	// results are those of orders that it has not told of.
	results map[uint64]*enginev1.ObjectOrderResult
	// files are the checkpoints that all stores can read, broken the kind of error of all restores; nil if they work.
	files  map[string]bool
	broken *engine.Kind
	// leaving says that its next message tells that it leaves, evacuated is the latest answer to that.
	leaving   bool
	evacuated *enginev1.Evacuation
	// cutOff says that it can fetch nothing.
	cutOff bool
	bench  *bench
}

var sharedFiles = map[string]bool{}

func (b *bench) store(node engine.NodeID) *fakeStore {
	s := &fakeStore{
		node: node, room: 1 << 30, copies: map[engine.ObjectID]*fakeCopy{}, changed: map[engine.ObjectID]bool{},
		results: map[uint64]*enginev1.ObjectOrderResult{}, files: sharedFiles, bench: b,
	}
	b.stores = append(b.stores, s)
	b.connect(s)
	return s
}

func (b *bench) connect(s *fakeStore) {
	session, err := b.core.Connect(b.now, &enginev1.ObjectStoreAddress{NodeId: string(s.node), Flight: string(s.node) + ":10002"})
	if err != nil {
		b.t.Fatal(err)
	}
	s.session = session
	for id := range s.copies {
		s.changed[id] = true
	}
	report := s.report()
	report.Complete = true
	if err := b.core.Report(b.now, s.node, session, report); err != nil {
		b.t.Fatal(err)
	}
	b.take()
}

func (b *bench) disconnect(s *fakeStore, left bool) {
	b.core.Disconnect(b.now, s.node, s.session, left)
	s.session = 0
	b.take()
}

// kill takes a store away with its copies.
func (b *bench) kill(s *fakeStore) {
	b.disconnect(s, false)
	b.stores = slices.DeleteFunc(b.stores, func(other *fakeStore) bool { return other == s })
}

func (s *fakeStore) report() *enginev1.SyncObjectsRequest {
	report := &enginev1.SyncObjectsRequest{Usage: &enginev1.ObjectStoreUsage{CapacityBytes: s.room, ObjectBytes: int64(len(s.copies))}}
	for _, id := range sorted(s.changed) {
		if c := s.copies[id]; c != nil {
			report.Changed = append(report.Changed, s.wire(id))
		} else {
			report.Gone = append(report.Gone, id[:])
		}
	}
	clear(s.changed)
	for _, number := range slices.Sorted(maps.Keys(s.results)) {
		report.Results = append(report.Results, s.results[number])
	}
	clear(s.results)
	report.Leaving, s.leaving = s.leaving, false
	return report
}

// fetch makes a cache of an object that another store has.
func (s *fakeStore) fetch(id engine.ObjectID) {
	if s.copies[id] != nil || s.cutOff {
		return
	}
	for _, other := range s.bench.stores {
		if c := other.copies[id]; c != nil && other.session != 0 {
			s.putInto(c.domain, id)
			return
		}
	}
}

func (s *fakeStore) wire(id engine.ObjectID) *enginev1.ObjectCopy {
	c := s.copies[id]
	return &enginev1.ObjectCopy{
		ObjectId: id[:], SizeBytes: int64(id[0]) + 1, Rows: 1, Batches: 1, State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY,
		Primary: c.primary, Domain: c.domain, Owners: rpc.OwnersToProto(c.owners), Checkpoint: c.checkpoint,
	}
}

func sorted[V any](m map[engine.ObjectID]V) []engine.ObjectID {
	return slices.SortedFunc(maps.Keys(m), func(a, b engine.ObjectID) int { return bytes.Compare(a[:], b[:]) })
}

// put makes a primary copy, or a cache if there is no owner.
func (s *fakeStore) put(id engine.ObjectID, owners ...engine.ObjectOwner) {
	s.putInto("", id, owners...)
}

// putInto is put into a security domain.
func (s *fakeStore) putInto(domain string, id engine.ObjectID, owners ...engine.ObjectOwner) {
	s.copies[id] = &fakeCopy{primary: len(owners) > 0, owners: owners, domain: cmp.Or(domain, "default")}
	s.changed[id] = true
}

func (s *fakeStore) remove(id engine.ObjectID) {
	if s.copies[id] != nil {
		delete(s.copies, id)
		s.changed[id] = true
	}
}

func (s *fakeStore) setOwners(id engine.ObjectID, owners []engine.ObjectOwner) {
	c := s.copies[id]
	if c.owners = owners; c.primary && len(owners) == 0 {
		s.remove(id)
	}
	s.changed[id] = true
}

func (s *fakeStore) own(id engine.ObjectID, add, remove []engine.ObjectOwner) {
	owners := slices.DeleteFunc(slices.Clone(s.copies[id].owners), func(o engine.ObjectOwner) bool {
		return hasOwner(add, o) || hasOwner(remove, o)
	})
	s.setOwners(id, append(owners, add...))
}

func (s *fakeStore) expire(now time.Time) {
	for id, c := range s.copies {
		if slices.ContainsFunc(c.owners, func(o engine.ObjectOwner) bool { return isOver(o, now) }) {
			s.setOwners(id, slices.DeleteFunc(slices.Clone(c.owners), func(o engine.ObjectOwner) bool { return isOver(o, now) }))
		}
	}
}

func isOver(o engine.ObjectOwner, now time.Time) bool {
	return !o.Expires.IsZero() && !now.Before(o.Expires)
}

func hasOwner(owners []engine.ObjectOwner, owner engine.ObjectOwner) bool {
	return slices.ContainsFunc(owners, func(o engine.ObjectOwner) bool { return o.Kind == owner.Kind && o.ID == owner.ID })
}

// obey carries out an order.
func (s *fakeStore) obey(order *enginev1.ObjectOrder) *enginev1.ObjectOrderResult {
	result := &enginev1.ObjectOrderResult{Number: order.GetNumber()}
	fail := func(kind engine.Kind) {
		result.Error = &enginev1.Error{Kind: kind.String(), Message: "as the test wants"}
	}
	has := func(wire []byte) (engine.ObjectID, bool) {
		id := engine.ObjectID(wire)
		if s.copies[id] == nil {
			fail(engine.KindNotFound)
			return id, false
		}
		result.Object = s.wire(id)
		return id, true
	}
	owners := func(wire []*enginev1.ObjectOwner) []engine.ObjectOwner {
		all, _ := rpc.OwnersFromProto(wire)
		return all
	}
	switch {
	case order.GetDelete() != nil:
		for _, wire := range order.GetDelete().GetObjectIds() {
			s.remove(engine.ObjectID(wire))
		}
	case order.GetOwn() != nil:
		if id, ok := has(order.GetOwn().GetObjectId()); ok {
			s.own(id, owners(order.GetOwn().GetAdd()), owners(order.GetOwn().GetRemove()))
		}
	case order.GetEndOwner() != nil:
		ended := owners([]*enginev1.ObjectOwner{order.GetEndOwner().GetOwner()})
		for id, c := range s.copies {
			if hasOwner(c.owners, ended[0]) {
				s.own(id, nil, ended)
			}
		}
	case order.GetPromote() != nil:
		if order.GetPromote().GetFetch() {
			s.fetch(engine.ObjectID(order.GetPromote().GetObjectId()))
		}
		if id, ok := has(order.GetPromote().GetObjectId()); ok {
			c := s.copies[id]
			c.primary, c.checkpoint = true, cmp.Or(order.GetPromote().GetCheckpoint(), c.checkpoint)
			s.own(id, owners(order.GetPromote().GetOwners()), nil)
		}
	case order.GetPut() != nil:
		id := engine.ObjectID(order.GetPut().GetObjectId())
		s.putInto(order.GetPut().GetDomain(), id, owners([]*enginev1.ObjectOwner{order.GetPut().GetOwner()})...)
		result.Object = s.wire(id)
	case order.GetFetch() != nil:
		if _, ok := has(order.GetFetch().GetObjectId()); ok {
			result.Data = []byte("data")
		}
	case order.GetDescribe() != nil:
		if _, ok := has(order.GetDescribe().GetObjectId()); ok {
			result.Data = []byte("schema")
		}
	case order.GetCheckpoint() != nil:
		if id, ok := has(order.GetCheckpoint().GetObjectId()); ok {
			uri := order.GetCheckpoint().GetFolder() + "/" + id.String() + ".arrows"
			s.files[uri] = true
			s.copies[id].checkpoint = uri
			s.changed[id] = true
			result.Object = s.wire(id)
		}
	case order.GetRestore() != nil:
		uri := order.GetRestore().GetUri()
		switch name, _ := strings.CutSuffix(uri[strings.LastIndex(uri, "/")+1:], ".arrows"); {
		case s.broken != nil:
			fail(*s.broken)
		case !s.files[uri]:
			fail(engine.KindNotFound)
		default:
			id, _ := engine.ParseObjectID(name)
			all := owners(order.GetRestore().GetOwners())
			if c := s.copies[id]; c != nil {
				c.primary = c.primary || len(all) > 0
				s.own(id, all, nil)
			} else {
				s.putInto(order.GetRestore().GetDomain(), id, all...)
			}
			s.copies[id].checkpoint = uri
			result.Object = s.wire(id)
		}
	}
	return result
}

// exchange lets one store hear its orders, carry them out, and tell. It reports whether anything was said.
func (b *bench) exchange(s *fakeStore) bool {
	if s.session == 0 {
		return false
	}
	answer := b.core.Answer(s.node, s.session)
	if answer == nil {
		b.t.Fatalf("no answer for %s", s.node)
	}
	if answer.GetEvacuation() != nil {
		s.evacuated = answer.GetEvacuation()
	}
	for _, order := range answer.GetOrders() {
		s.results[order.GetNumber()] = s.obey(proto.CloneOf(order))
	}
	said := s.leaving || answer.GetEvacuation() != nil || len(answer.GetOrders()) > 0 || len(s.changed) > 0 || len(s.results) > 0
	if err := b.core.Report(b.now, s.node, s.session, s.report()); err != nil {
		b.t.Fatal(err)
	}
	b.take()
	return said
}

// calm exchanges until nobody has anything to say.
func (b *bench) calm() {
	b.t.Helper()
	const limit = 1000
	for range limit {
		said := false
		for _, s := range b.stores {
			said = b.exchange(s) || said
		}
		if !said {
			return
		}
	}
	b.t.Fatalf("the stores are not calm after %d rounds", limit)
}

// done returns how a request ended, which must be so now.
func (b *bench) done(number uint64, err error) (objects.Result, error) {
	b.t.Helper()
	b.take()
	b.calm()
	if err != nil || number == 0 {
		return objects.Result{}, err
	}
	result, ok := b.results[number]
	if !ok {
		b.t.Fatalf("request %d has no result", number)
	}
	return result, result.Err
}

func (b *bench) describe(id engine.ObjectID) *enginev1.ObjectInfo {
	info, _ := b.core.Describe(id)
	return info
}

// summary is "STATE primary@node cache@node owner owner".
func (b *bench) summary(id engine.ObjectID) string {
	info := b.describe(id)
	if info == nil {
		return "none"
	}
	words := []string{strings.TrimPrefix(info.GetState().String(), "OBJECT_STATE_")}
	var holders []string
	for _, h := range info.GetHolders() {
		kind := "cache"
		if h.GetPrimary() {
			kind = "primary"
		}
		holders = append(holders, kind+"@"+h.GetStore().GetNodeId())
	}
	slices.Sort(holders)
	words = append(words, holders...)
	for _, o := range info.GetOwners() {
		words = append(words, o.GetKind()+"/"+o.GetId()[:min(4, len(o.GetId()))])
	}
	return strings.Join(words, " ")
}

func (b *bench) expect(id engine.ObjectID, want string) {
	b.t.Helper()
	if got := b.summary(id); got != want {
		b.t.Fatalf("object %s is %q, expected %q", id, got, want)
	}
}

func (b *bench) open(name byte) engine.ObjectOwner {
	b.t.Helper()
	id := strings.Repeat(string(name), 32)
	if _, err := b.core.OpenSession(b.now, id); err != nil {
		b.t.Fatal(err)
	}
	return engine.ObjectOwner{Kind: engine.OwnerSession, ID: id}
}

func object(n byte) engine.ObjectID { return engine.ObjectID{0: n, 15: 1} }
