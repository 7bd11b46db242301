package testcluster

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/node"
)

// Heads is a cluster of several heads. Each is reached through a port of its own that can be cut.
type Heads struct {
	*Cluster
	dir   string
	links []*link
	// nodes are the heads in order of their start; nil for one that does not run.
	nodes []*node.Node
}

// StartHeads starts a cluster of n heads for the time of the test.
func StartHeads(t testing.TB, n int, options Options) *Heads {
	t.Helper()
	h := &Heads{
		Cluster: &Cluster{t: t, options: options.withDefaults(), memory: memory.NewCheckedAllocator(memory.DefaultAllocator)},
		dir:     t.TempDir(), nodes: make([]*node.Node, n),
	}
	var addresses []string
	for range n {
		l := newLink(t)
		h.links, addresses = append(h.links, l), append(addresses, l.address())
	}
	t.Cleanup(func() {
		for _, l := range h.links {
			if err := l.close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(func() {
		for i := range h.nodes {
			h.StopOne(i)
		}
	})
	h.heads = strings.Join(addresses, ",")
	for i := range n {
		h.StartOne(i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var err error
	if h.client, err = client.Dial(ctx, h.heads); err != nil {
		t.Fatal(err)
	}
	h.begin()
	return h
}

// folder is the data folder of a head.
func (h *Heads) folder(i int) string { return filepath.Join(h.dir, "head-"+strconv.Itoa(i)) }

// StartOne starts a head that does not run. All but the first join it, the first time that their folder is used.
func (h *Heads) StartOne(i int) {
	h.t.Helper()
	if err := h.TryStartOne(i, ""); err != nil {
		h.t.Fatal(err)
	}
}

// TryStartOne is StartOne, with a list of heads to join; empty means those that StartOne would take.
func (h *Heads) TryStartOne(i int, join string) error {
	if join == "" && i > 0 {
		join = h.links[0].address()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.links[i].setTarget(listener.Addr().String())
	started, err := node.StartHead(ctx, node.HeadConfig{
		Listener: listener, WebPort: -1, Address: h.links[i].address(), Join: join, DataDir: h.folder(i), Version: "test", Logger: Logger(),
		LeaseTime: h.options.LeaseTime, TargetSplitBytes: h.options.TargetSplitBytes,
	}, nil)
	if err != nil {
		return err
	}
	h.nodes[i] = started
	return nil
}

// StopOne stops a head, if it runs.
func (h *Heads) StopOne(i int) {
	h.t.Helper()
	if h.nodes[i] != nil {
		h.stop(h.nodes[i])
		h.nodes[i] = nil
	}
}

// Kill ends a head without a word to the others.
func (h *Heads) Kill(i int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := h.nodes[i].Abort(ctx); err != nil {
		h.t.Errorf("kill head: %v", err)
	}
	h.nodes[i] = nil
}

// Forget deletes the data folder of a head that does not run.
func (h *Heads) Forget(i int) {
	h.t.Helper()
	if err := os.RemoveAll(h.folder(i)); err != nil {
		h.t.Fatal(err)
	}
}

// Cut breaks all connections to a head, and refuses further ones until Heal. What it connects to itself goes on.
func (h *Heads) Cut(i int) { h.links[i].setCut(true) }

// Heal ends a Cut.
func (h *Heads) Heal(i int) { h.links[i].setCut(false) }

// HeadAddress is where a head is reached.
func (h *Heads) HeadAddress(i int) string { return h.links[i].address() }

// Leader waits until one of the heads that run leads, and returns its place.
func (h *Heads) Leader() int {
	h.t.Helper()
	deadline := time.Now().Add(stopTimeout)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(deadline) {
		for i, n := range h.nodes {
			if n != nil && n.Leads() {
				return i
			}
		}
		<-ticker.C
	}
	h.t.Fatal("no head leads")
	return -1
}
