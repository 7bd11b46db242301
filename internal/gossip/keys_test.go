package gossip_test

import (
	"bytes"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/gossip"
)

// keys are those of a cluster, as its members hear of them.
type keys struct {
	mu      sync.Mutex
	present [][]byte
	changed chan struct{}
}

func newKeys(seeds ...byte) *keys {
	k := &keys{changed: make(chan struct{})}
	k.set(seeds...)
	return k
}

func (k *keys) set(seeds ...byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.present = nil
	for _, seed := range seeds {
		k.present = append(k.present, bytes.Repeat([]byte{seed}, 32))
	}
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *keys) get() ([][]byte, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.present, k.changed
}

func (k *keys) use(c *gossip.Config) { c.Keys = k.get }

// sees waits until the members that one sees are these.
func (w *witness) sees(t *testing.T, names ...string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		var seen []string
		for _, p := range w.Peers() {
			seen = append(seen, p.Name)
		}
		if slices.Equal(seen, names) {
			return
		}
		select {
		case <-w.events:
		case <-timeout:
			t.Fatalf("%s sees %q, expected %q", w.name, seen, names)
		}
	}
}

// TestKeys keeps members together through a change of keys which each hears of at another time, and cuts off who does not hear of one that
// leaves out the keys before.
func TestKeys(t *testing.T) {
	noLeaks(t)
	ofHead, ofOne, ofTwo := newKeys(1, 2), newKeys(1, 2), newKeys(2, 3, 1)
	head := start(t, "head", ofHead.use)
	one := start(t, "one", ofOne.use, head.Addr())
	head.sees(t, "one")
	one.sees(t, "head")

	ofHead.set(2, 3, 1)
	two := start(t, "two", ofTwo.use, head.Addr())
	head.sees(t, "one", "two")
	two.sees(t, "head", "one")
	one.sees(t, "head", "two")

	ofHead.set(4, 5)
	ofTwo.set(4, 5)
	head.sees(t, "two")
	one.sees(t)
	ofOne.set(4, 5)
	head.sees(t, "one", "two")
	one.sees(t, "head", "two")
}

// TestKeysThatComeLater makes a member that has none yet hear nobody, and everybody once it has.
func TestKeysThatComeLater(t *testing.T) {
	noLeaks(t)
	later := newKeys()
	head := start(t, "head", newKeys(1, 2).use)
	one := start(t, "one", later.use, head.Addr())
	if peers := one.Peers(); len(peers) != 0 {
		t.Fatalf("peers %v without a key", peers)
	}
	later.set(1, 2)
	one.hears(t, "head true")
	head.hears(t, "one true")
}

// lines is a log. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	news chan struct{}
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), text)
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-l.news:
		case <-deadline:
			t.Fatalf("the log has no %q", text)
		}
	}
}

// TestStrangersAreRefused says so in the log, of clear text and of another cluster's key, over either transport.
func TestStrangersAreRefused(t *testing.T) {
	noLeaks(t)
	for name, change := range map[string]func(*gossip.Config){"clear text": nil, "another key": newKeys(9).use} {
		t.Run(name, func(t *testing.T) {
			log := &lines{news: make(chan struct{}, 1)}
			head := start(t, "head", func(c *gossip.Config) {
				newKeys(1, 2).use(c)
				c.Logger = slog.New(slog.NewTextHandler(log, nil))
			})
			stranger := start(t, "stranger", change, head.Addr())
			log.await(t, "not encrypted by a key of this cluster")
			if peers := append(head.Peers(), stranger.Peers()...); len(peers) != 0 {
				t.Errorf("peers %v", peers)
			}
		})
	}
	log := &lines{news: make(chan struct{}, 1)}
	head := start(t, "head", func(c *gossip.Config) {
		newKeys(1, 2).use(c)
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", head.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// Within the label of the cluster, and without: memberlist discards the latter before it looks.
	for _, packet := range [][]byte{append([]byte{244, 2, 'c', '1'}, bytes.Repeat([]byte{1}, 60)...)} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	log.await(t, "not encrypted by a key of this cluster")
}
