package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/gossip"
	"github.com/f708428e/engine/internal/lifecycle"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// DefaultGossipPort is the port that a node gossips on if it is free and no other is asked for.
const DefaultGossipPort = 7946

// GossipConfig says how a node takes part in the gossip by which a head hears early that a worker may be gone. Nothing depends on it.
type GossipConfig struct {
	// Port takes UDP and TCP. Zero means DefaultGossipPort, or a free one if that is taken; -1 means a free one.
	Port int
	// Disabled says that the node takes no part.
	Disabled bool
}

// address is where to listen on a host, and whether another port will do. The host must be an IP address.
func (c GossipConfig) address(host string) (address string, orFree bool) {
	switch {
	case c.Port < 0:
		return net.JoinHostPort(host, "0"), false
	case c.Port == 0:
		return net.JoinHostPort(host, strconv.Itoa(DefaultGossipPort)), true
	default:
		return net.JoinHostPort(host, strconv.Itoa(c.Port)), false
	}
}

// check finds out at the start whether a port that was asked for is free: the gossip begins later, and is not worth a failure then.
func (c GossipConfig) check(ctx context.Context, host string) error {
	if c.Disabled || c.Port <= 0 {
		return nil
	}
	address, _ := c.address(host)
	var e *engine.Error
	if err := gossip.CheckPort(ctx, address); errors.As(err, &e) {
		return e.WithHint("choose another port, or none: then a free one is taken")
	} else if err != nil {
		return err
	}
	return nil
}

// workerGossip is a worker's part in the gossip of the head that has welcomed it. A nil one takes none.
type workerGossip struct {
	config GossipConfig
	id     engine.NodeID
	logger *slog.Logger
	// own is the address of the head in this process, if there is one: what that head says of itself needs no hints.
	own func() string
	// links are nil for clear text.
	links *links
	group *lifecycle.Group
	news  chan struct{}

	mu sync.Mutex
	// cluster and seed are what the last welcome said.
	cluster, seed string
	// member is nil until there was one; it is in joined. Only run changes them, until stop.
	member *gossip.Member
	joined string
}

// newWorkerGossip makes the part of a worker. own may be nil.
func newWorkerGossip(config GossipConfig, id engine.NodeID, own func() string, l *links, logger *slog.Logger) *workerGossip {
	if config.Disabled {
		return nil
	}
	if own == nil {
		own = func() string { return "" }
	}
	g := &workerGossip{
		config: config, id: id, logger: logger, own: own, links: l, group: lifecycle.NewGroup(context.Background(), "gossip"), news: make(chan struct{}, 1),
	}
	g.group.Go("follow", g.run)
	return g
}

// welcomed takes in where the head gossips.
func (g *workerGossip) welcomed(w *enginev1.HeadWelcome) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.cluster, g.seed = w.GetClusterId(), w.GetGossipAddress()
	g.mu.Unlock()
	select {
	case g.news <- struct{}{}:
	default: // It is awake already.
	}
}

// run follows the heads until ctx ends.
func (g *workerGossip) run(ctx context.Context) error {
	for {
		select {
		case <-g.news:
			g.follow(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// follow joins the head that has welcomed the worker last.
func (g *workerGossip) follow(ctx context.Context) {
	g.mu.Lock()
	cluster, seed := g.cluster, g.seed
	g.mu.Unlock()
	if g.member != nil && g.joined == cluster {
		g.member.Look()
		return
	}
	if seed == "" || seed == g.own() {
		return
	}
	if g.member != nil {
		if err := g.member.Shutdown(ctx); err != nil {
			g.logger.WarnContext(ctx, "the gossip of another cluster did not end", "error", err)
		}
		g.member = nil
	}
	address, orFree := g.config.address(g.links.gossipHost(loopbackLike(seed)))
	member, err := gossip.Start(gossip.Config{
		Name: string(g.id), Cluster: cluster, Addr: address, OrFree: orFree, Meta: []byte("worker"), Seeds: g.seeds, Keys: g.links.gossipKeys(), Logger: g.logger,
	})
	if err != nil {
		g.logger.WarnContext(ctx, "the worker does not gossip, so that its head finds out later if it is gone", "error", err)
		return
	}
	g.member, g.joined = member, cluster
}

// seeds implements gossip.Config.Seeds.
func (g *workerGossip) seeds() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seed == "" {
		return nil
	}
	return []string{g.seed}
}

// loopbackLike returns the loopback address from which another one can be reached.
func loopbackLike(address string) string {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.To4() == nil {
		return net.IPv6loopback.String()
	}
	return "127.0.0.1"
}

// stop ends the worker's part. Unless it is to look as if it had died, it says that it leaves.
func (g *workerGossip) stop(ctx context.Context, leave bool) error {
	if g == nil {
		return nil
	}
	err := g.group.Stop(ctx)
	if err != nil || g.member == nil {
		return err
	}
	if leave {
		return g.member.Leave(ctx)
	}
	return g.member.Shutdown(ctx)
}
