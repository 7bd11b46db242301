package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// patience is short, so that elections are.
const patience = 100 * time.Millisecond

// cluster is several heads in one process, over a network that can be cut.
type cluster struct {
	t    *testing.T
	root string

	mu    sync.Mutex
	heads map[string]*node
	// generation numbers the folders: a crash leaves one behind.
	generation int
	// gone are stores of heads that crashed.
	gone sync.WaitGroup
}

// node is one head. Its store is replaced when it crashes.
type node struct {
	name, dir string
	join      bool
	store     *state.Store
	transport *raft.InmemTransport
	cut       bool
}

func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, root: t.TempDir(), heads: map[string]*node{}}
	t.Cleanup(func() {
		c.gone.Wait()
		for _, n := range c.heads {
			if err := n.store.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for i, name := range names {
		c.start(name, i > 0)
		if i == 0 {
			lead(t, c.heads[name].store)
			continue
		}
		c.add(name)
	}
	return c
}

// start opens a head with an empty folder.
func (c *cluster) start(name string, join bool) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	n := &node{name: name, join: join, dir: filepath.Join(c.root, fmt.Sprint(name, "-", c.generation))}
	c.open(n)
	c.heads[name] = n
	c.connect()
}

// open opens a head's folder; the cluster is locked.
func (c *cluster) open(n *node) {
	c.t.Helper()
	_, n.transport = raft.NewInmemTransportWithTimeout(raft.ServerAddress(n.name+":1"), patience)
	var err error
	n.store, err = state.Open(state.Config{
		Dir: n.dir, NewClusterID: "c", Address: n.name + ":1", Transport: n.transport, Join: n.join, Patience: patience, CompactAboveBytes: 20_000,
	})
	check(c.t, err)
}

// connect makes the network what it is to be; the cluster is locked.
func (c *cluster) connect() {
	for _, from := range c.heads {
		from.transport.DisconnectAll()
		for _, to := range c.heads {
			if from != to && !from.cut && !to.cut {
				from.transport.Connect(raft.ServerAddress(to.name+":1"), to.transport)
			}
		}
	}
}

func (c *cluster) store(name string) *state.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heads[name].store
}

func (c *cluster) cutOff(name string, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads[name].cut = cut
	c.connect()
}

// crash ends a head as kill -9 does, and starts it again with what its folder held at that instant.
func (c *cluster) crash(name string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.heads[name]
	was := n.cut
	n.cut = true
	c.connect() // Whatever it does from here on, nobody hears of it.
	c.generation++
	next := filepath.Join(c.root, fmt.Sprint(name, "-", c.generation))
	check(c.t, os.CopyFS(next, os.DirFS(n.dir)))
	old := n.store
	c.gone.Go(func() { _ = old.Close() })
	n.dir, n.cut, n.join = next, was, false
	c.open(n)
	c.connect()
}

// add adds a head, by whichever head leads.
func (c *cluster) add(name string) {
	c.t.Helper()
	id := c.store(name).HeadID()
	c.do(func(ctx context.Context, leader *state.Store) error { return leader.AddHead(ctx, id, name+":1") })
}

// do asks the heads in turn until one that leads has done it.
func (c *cluster) do(f func(context.Context, *state.Store) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		for _, name := range c.names() {
			store := c.store(name)
			err := f(ctx, store)
			if err == nil {
				return
			}
			if engine.KindOf(err) != engine.KindUnavailable {
				c.t.Fatal(err)
			}
			if ctx.Err() != nil {
				c.t.Fatalf("nobody did it: %v", err)
			}
		}
		tick(ctx)
	}
}

// tick lets a moment pass between two looks at what cannot be waited for.
func tick(ctx context.Context) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (c *cluster) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.heads))
	for name := range c.heads {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// leader waits for a head that leads, of those that are not cut off, and returns its name.
func (c *cluster) leader() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		for _, name := range c.names() {
			c.mu.Lock()
			n := c.heads[name]
			store, cut := n.store, n.cut
			c.mu.Unlock()
			if !cut && store.Read(ctx, func(*state.State) {}) == nil {
				return name
			}
		}
		tick(ctx)
	}
	c.t.Fatal("nobody leads")
	return ""
}

// agree waits until all heads have the same state as the leader.
func (c *cluster) agree() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var want *enginev1.Snapshot
	c.do(func(ctx context.Context, leader *state.Store) error {
		return leader.Read(ctx, func(s *state.State) { want = proto.CloneOf(s.Snapshot()) })
	})
	for _, name := range c.names() {
		for {
			got := snapshot(c.store(name))
			if proto.Equal(got, want) {
				break
			}
			if got.GetTerm() > want.GetTerm() {
				want = got // Another one leads by now; the others follow.
			}
			if ctx.Err() != nil {
				c.t.Fatalf("head %s has %v, want %v", name, got, want)
			}
			tick(ctx)
		}
	}
}

func (c *cluster) accept(id string) {
	c.t.Helper()
	c.do(func(ctx context.Context, leader *state.Store) error {
		known := errors.New("known")
		err := leader.ProposeIf(ctx, func(s *state.State) error {
			if s.Job(id) != nil {
				return known // An earlier try, whose outcome was left open.
			}
			return nil
		}, accepted(id, ""))
		if errors.Is(err, known) {
			return nil
		}
		return err
	})
}

func TestThreeHeadsAgree(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for i := range 20 {
		c.accept(fmt.Sprint("job-", i))
	}
	c.agree()
	leader := c.store(c.leader())
	heads := leader.Heads()
	if len(heads) != 3 {
		t.Fatalf("heads %v", heads)
	}
	id, address := leader.Leader()
	for _, head := range heads {
		if !head.Voter || head.Leader != (head.ID == id) || head.Leader && head.Address != address {
			t.Fatalf("head %+v, leader %s at %s", head, id, address)
		}
	}
	for _, name := range c.names() {
		store := c.store(name)
		if store == leader {
			continue
		}
		err := store.Propose(t.Context(), accepted("x", ""))
		if notLeader := rpc.IsNotLeader(err); engine.KindOf(err) != engine.KindUnavailable || notLeader == nil || notLeader.HeadID != id || notLeader.Address != address {
			t.Fatalf("head %s: error %v, want one that names %s", name, err, address)
		}
		if err := store.AddHead(t.Context(), "x", "x:1"); rpc.IsNotLeader(err) == nil {
			t.Fatalf("head %s: error %v", name, err)
		}
	}
}

func TestTermEndsAndAnotherBegins(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	first := c.leader()
	var before uint64
	c.store(first).View(func(s *state.State) { before = s.Term })
	changed := c.store("b").LeaderChanged()
	check(t, c.store(first).HandOver(t.Context()))
	<-changed
	c.accept("after")
	second := c.leader()
	if second == first {
		t.Fatalf("%s leads still", first)
	}
	term := lead(t, c.store(second))
	if term.Number <= before {
		t.Fatalf("term %d after term %d", term.Number, before)
	}
	// Cut off, it finds out by itself.
	c.cutOff(second, true)
	<-term.Lost
	if err := c.store(second).Propose(t.Context(), accepted("cut off", "")); rpc.IsNotLeader(err) == nil {
		t.Fatalf("error %v", err)
	}
	c.accept("without it")
	c.cutOff(second, false)
	c.agree()
	if hasJob(c.store(second), "cut off") || !hasJob(c.store(second), "without it") {
		t.Fatal("it has not followed")
	}
}

// TestTheNextLeaderIsNotOneThatIsAway hands over while one of the others cannot be reached, whichever that is.
func TestTheNextLeaderIsNotOneThatIsAway(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for range 2 {
		leader := c.leader()
		for _, away := range c.names() {
			if away == leader {
				continue
			}
			c.cutOff(away, true)
			c.accept("without " + away)
			check(t, c.store(leader).HandOver(t.Context()))
			c.accept("after " + leader)
			if leader = c.leader(); leader == away {
				t.Fatalf("%s leads, which is cut off", leader)
			}
			c.cutOff(away, false)
			c.agree()
			leader = c.leader()
		}
	}
}

// TestMinorityIsRefused takes two of three away: what is proposed is not acknowledged, and goes on when one is back.
func TestMinorityIsRefused(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	leader := c.leader()
	var others []string
	for _, name := range c.names() {
		if name != leader {
			others = append(others, name)
			c.cutOff(name, true)
		}
	}
	store := c.store(leader)
	// At once, while it still takes itself for the leader.
	if err := store.Read(t.Context(), func(*state.State) {}); engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("error %v: what it read may be of the past", err)
	}
	if err := store.Propose(t.Context(), accepted("refused", "")); rpc.IsNotLeader(err) == nil || rpc.IsNotLeader(err).HeadID != "" {
		t.Fatalf("error %v, want one that knows no leader", err)
	}
	if err := store.Read(t.Context(), func(*state.State) {}); rpc.IsNotLeader(err) == nil {
		t.Fatalf("error %v", err)
	}
	c.cutOff(others[0], false)
	c.accept("again")
	c.cutOff(others[1], false)
	c.agree()
	if hasJob(c.store("a"), "refused") {
		t.Fatal("what was refused has come about")
	}
}

// TestProposalOfACutOffLeaderIsOpen proposes while the leader has not noticed that it is cut off: what becomes of that is left open.
func TestProposalOfACutOffLeaderIsOpen(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	leader := c.leader()
	store := c.store(leader)
	c.cutOff(leader, true)
	if err := store.Propose(t.Context(), accepted("open", "")); engine.KindOf(err) != engine.KindUnavailable || rpc.IsNotLeader(err) != nil {
		t.Fatalf("error %v, want one that leaves open what has become of it", err)
	}
	c.accept("meanwhile")
	c.cutOff(leader, false)
	c.agree()
	if hasJob(store, "open") || !hasJob(store, "meanwhile") {
		t.Fatal("the leader by itself has decided")
	}
}

// TestHeadWithoutFolderJoinsAgain deletes a follower's folder: at its address there is then another head, which learns all from a
// snapshot.
func TestHeadWithoutFolderJoinsAgain(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for i := range 300 {
		c.accept(fmt.Sprint("job-", i)) // Enough to cut the log.
	}
	if c.leader() == "b" {
		check(t, c.store("b").HandOver(t.Context()))
	}
	check(t, c.store("b").Close())
	c.start("b", true)
	c.add("b")
	c.add("b") // As often as you like.
	c.accept("more")
	c.agree()
	if heads := c.store(c.leader()).Heads(); len(heads) != 3 {
		t.Fatalf("heads %v", heads)
	}
}

func TestHeadThatDoesNotAnswerIsNotAdded(t *testing.T) {
	c := newCluster(t, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	if err := c.store("a").AddHead(ctx, "nobody", "nowhere:1"); engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("error %v, want kind unavailable", err)
	}
	if heads := c.store("a").Heads(); len(heads) != 1 {
		t.Fatalf("heads %v", heads)
	}
	c.accept("goes on")
}

func TestHeadIsRemoved(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	id := c.store("c").HeadID()
	c.do(func(ctx context.Context, leader *state.Store) error { return leader.RemoveHead(ctx, id) })
	leader := c.store(c.leader())
	if heads := leader.Heads(); len(heads) != 2 {
		t.Fatalf("heads %v", heads)
	}
	if err := leader.RemoveHead(t.Context(), id); engine.KindOf(err) != engine.KindNotFound {
		t.Fatalf("error %v, want kind not found", err)
	}
}

// TestOnlyHeadsThatAreNotNeededAreRemoved cuts one of three heads off: the others need each other, and can do without that one.
func TestOnlyHeadsThatAreNotNeededAreRemoved(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	states := func(want map[string]state.HeadState) {
		t.Helper()
		c.do(func(_ context.Context, leader *state.Store) error {
			for _, head := range leader.Heads() {
				if expected := want[head.ID]; head.State != expected && (expected != state.HeadUnknown || head.State == state.HeadSilent) {
					return engine.Errorf(engine.KindUnavailable, "look", head.ID, "its state is %d, not %d", head.State, expected)
				}
			}
			return nil
		})
	}
	states(nil) // Nobody is silent.
	lost := "c"
	if c.leader() == lost {
		lost = "a"
	}
	id := c.store(lost).HeadID()
	c.cutOff(lost, true)
	states(map[string]state.HeadState{id: state.HeadSilent})
	c.do(func(ctx context.Context, leader *state.Store) error {
		refuses := func(id, want string) error {
			err := leader.RemoveHead(ctx, id)
			switch {
			case engine.KindOf(err) == engine.KindUnavailable && err != nil:
				return err
			case engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), want):
				t.Fatalf("removing %s: %v, want a conflict that says %q", id, err, want)
			}
			return nil
		}
		if err := refuses(leader.HeadID(), "it is the head that leads"); err != nil {
			return err
		}
		for _, head := range leader.Heads() {
			if head.ID == id || head.ID == leader.HeadID() {
				continue
			}
			if err := refuses(head.ID, "only 1 of the 2 heads that would be left answer, and more than half must: "+id); err != nil {
				return err
			}
		}
		return leader.RemoveHead(ctx, id)
	})
	if heads := c.store(c.leader()).Heads(); len(heads) != 2 {
		t.Fatalf("heads %v", heads)
	}
	c.accept("goes on")
}

// TestOwnClusterDoesNotJoin starts a head that has a cluster of its own as one that joins another.
func TestOwnClusterDoesNotJoin(t *testing.T) {
	dir := t.TempDir()
	check(t, open(t, state.Config{Dir: dir}).Close())
	if _, err := state.Open(state.Config{Dir: dir, Join: true}); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("error %v, want kind conflict", err)
	}
	if _, err := state.Open(state.Config{Dir: dir, HeadID: "another"}); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("error %v, want kind conflict", err)
	}
	open(t, state.Config{Dir: dir, Address: "moved:1"})
}
