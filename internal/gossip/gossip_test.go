package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/gossip"
	"github.com/f708428e/engine/internal/testenv"
)

// patience is how long a test waits for what should take a second or two.
const patience = time.Minute

// noLeaks fails the test if goroutines are left some seconds after its end: memberlist may still wait for an answer.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// witness is a member and what it has heard.
type witness struct {
	*gossip.Member
	name   string
	events chan string
	seeds  atomic.Pointer[[]string]
}

func start(t *testing.T, name string, change func(*gossip.Config), seeds ...string) *witness {
	t.Helper()
	w := &witness{name: name, events: make(chan string, 100)}
	w.seeds.Store(&seeds)
	config := gossip.Config{
		Name: name, Cluster: "c1", Addr: "127.0.0.1:0", Meta: []byte("meta of " + name), RejoinEvery: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Seeds: func() []string { return *w.seeds.Load() },
		Events: func(name string, alive bool) {
			w.events <- fmt.Sprintf("%s %v", name, alive)
		},
	}
	if change != nil {
		change(&config)
	}
	var err error
	if w.Member, err = gossip.Start(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.shutdown(t) })
	return w
}

func (w *witness) shutdown(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// hears waits until the member has heard all of that, in any order, and nothing else.
func (w *witness) hears(t *testing.T, wanted ...string) {
	t.Helper()
	timeout := time.After(patience)
	for len(wanted) > 0 {
		select {
		case event := <-w.events:
			i := slices.Index(wanted, event)
			if i < 0 {
				t.Fatalf("%s heard %q, expected one of %q", w.name, event, wanted)
			}
			wanted = slices.Delete(wanted, i, i+1)
		case <-timeout:
			t.Fatalf("%s did not hear %q", w.name, wanted)
		}
	}
}

func TestMembersHearOfEachOther(t *testing.T) {
	noLeaks(t)
	head := start(t, "head", nil)
	one := start(t, "one", nil, head.Addr())
	head.hears(t, "one true")
	one.hears(t, "head true")
	two := start(t, "two", nil, head.Addr())
	two.hears(t, "head true", "one true")
	one.hears(t, "two true")
	head.hears(t, "two true")
	want := []gossip.Peer{{Name: "head", Addr: head.Addr(), Meta: []byte("meta of head")}, {Name: "one", Addr: one.Addr(), Meta: []byte("meta of one")}}
	if got := two.Peers(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("peers %v, expected %v", got, want)
	}

	one.shutdown(t) // Without a word.
	head.hears(t, "one false")
	two.hears(t, "one false")

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := two.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	head.hears(t, "two false")
	if got := head.Peers(); len(got) != 0 {
		t.Fatalf("peers %v, expected none", got)
	}
}

func TestPartsAreJoined(t *testing.T) {
	noLeaks(t)
	a1 := start(t, "a1", nil)
	a2 := start(t, "a2", nil, a1.Addr())
	b1 := start(t, "b1", nil)
	b2 := start(t, "b2", nil, b1.Addr())
	a2.hears(t, "a1 true")
	b2.hears(t, "b1 true")
	a1.hears(t, "a2 true")
	b1.hears(t, "b2 true")
	// One member that knows where the others are is enough.
	a2.seeds.Store(&[]string{a1.Addr(), b1.Addr()})
	for _, w := range []*witness{a1, a2} {
		w.hears(t, "b1 true", "b2 true")
	}
	for _, w := range []*witness{b1, b2} {
		w.hears(t, "a1 true", "a2 true")
	}
}

func TestSeedThatComesLater(t *testing.T) {
	noLeaks(t)
	taken := start(t, "first", nil)
	addr := taken.Addr()
	one := start(t, "one", nil, addr)
	one.hears(t, "first true")
	taken.shutdown(t)
	one.hears(t, "first false")
	start(t, "second", func(c *gossip.Config) { c.Addr = addr }) // As a head that is started again.
	one.hears(t, "second true")
}

func TestClustersAreApart(t *testing.T) {
	noLeaks(t)
	ours := start(t, "ours", nil)
	theirs := start(t, "theirs", func(c *gossip.Config) { c.Cluster = "c2" }, ours.Addr())
	friend := start(t, "friend", nil, ours.Addr())
	ours.hears(t, "friend true")
	friend.hears(t, "ours true")
	// A second one joins after the stranger has tried again.
	late := start(t, "late", nil, ours.Addr())
	late.hears(t, "ours true", "friend true")
	ours.hears(t, "late true")
	if got := theirs.Peers(); len(got) != 0 {
		t.Fatalf("peers %v in another cluster", got)
	}
}

// TestLook does not wait for the loop's next turn.
func TestLook(t *testing.T) {
	noLeaks(t)
	head := start(t, "head", nil)
	one := start(t, "one", func(c *gossip.Config) { c.RejoinEvery = 24 * time.Hour })
	one.seeds.Store(&[]string{head.Addr()})
	one.Look()
	one.hears(t, "head true")
}

func TestConfigsThatAreRefused(t *testing.T) {
	noLeaks(t)
	for name, c := range map[string]struct {
		change func(*gossip.Config)
		kind   engine.Kind
	}{
		"no name":         {func(c *gossip.Config) { c.Name = "" }, engine.KindInvalidArgument},
		"no cluster":      {func(c *gossip.Config) { c.Cluster = "" }, engine.KindInvalidArgument},
		"long cluster":    {func(c *gossip.Config) { c.Cluster = strings.Repeat("c", 256) }, engine.KindInvalidArgument},
		"long metadata":   {func(c *gossip.Config) { c.Meta = make([]byte, 513) }, engine.KindInvalidArgument},
		"name as address": {func(c *gossip.Config) { c.Addr = "localhost:0" }, engine.KindInvalidArgument},
		"no port":         {func(c *gossip.Config) { c.Addr = "127.0.0.1" }, engine.KindInvalidArgument},
		"absurd port":     {func(c *gossip.Config) { c.Addr = "127.0.0.1:65536" }, engine.KindInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			config := gossip.Config{Name: "n", Cluster: "c", Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
			c.change(&config)
			m, err := gossip.Start(config)
			if err == nil {
				_ = m.Shutdown(context.Background())
			}
			if engine.KindOf(err) != c.kind {
				t.Fatalf("error %v, expected kind %v", err, c.kind)
			}
		})
	}
	start(t, "just fits", func(c *gossip.Config) { c.Cluster, c.Meta = strings.Repeat("c", 255), make([]byte, 512) })
}

func TestPortThatIsTaken(t *testing.T) {
	noLeaks(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	addr := listener.Addr().String()
	if err := gossip.CheckPort(t.Context(), addr); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("check: %v, expected kind conflict", err)
	}
	config := gossip.Config{Name: "n", Cluster: "c", Addr: addr, Logger: slog.New(slog.DiscardHandler)}
	if _, err := gossip.Start(config); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("start: %v, expected kind conflict", err)
	}
	if free := start(t, "free", func(c *gossip.Config) { c.Addr, c.OrFree = addr, true }); free.Addr() == addr {
		t.Fatalf("it says that it has %s", addr)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gossip.CheckPort(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	if own := start(t, "own", func(c *gossip.Config) { c.Addr, c.OrFree = addr, true }); own.Addr() != addr {
		t.Fatalf("it has %s, expected %s", own.Addr(), addr)
	}
}

// TestDetection logs how long it takes until the death of a member is known.
func TestDetection(t *testing.T) {
	testenv.Full(t)
	noLeaks(t)
	head := start(t, "head", nil)
	var took []time.Duration
	for i := range 8 {
		w := start(t, fmt.Sprint("w", i), nil, head.Addr())
		head.hears(t, w.name+" true")
		w.shutdown(t)
		began := time.Now()
		head.hears(t, w.name+" false")
		took = append(took, time.Since(began))
	}
	t.Logf("a death was known after %v", took)
}
