// Package gossip tells which processes of a cluster seem to be there. It is hashicorp/memberlist with times for one site, a name for the
// cluster that keeps two clusters apart, and a loop that heals partitions, which memberlist does not. What it says is a hint: it may be
// late, wrong, and different at different members, and nothing may depend on it but when somebody looks.
package gossip

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
)

const (
	opStart = "start gossip"
	// Someone who does not answer a probe for probeInterval is suspected, and is said to be dead if it does not contradict within
	// suspicionMult of them, more with more than ten members.
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 200 * time.Millisecond
	suspicionMult = 2
	// gossipInterval is how often news are passed on, retransmitMult how often each for every power of ten of members.
	gossipInterval = 100 * time.Millisecond
	retransmitMult = 2
	// awareness is how many times longer a member that seems to be slow itself waits for answers, at most.
	awareness = 2
	// streamTimeout bounds an exchange of everything that two members know.
	streamTimeout = 2 * time.Second
	// rejoinEvery is how often members are looked for which should be there, with a jitter of one half.
	rejoinEvery = 10 * time.Second
	// leaveWithin is how long others may take to hear that a member leaves.
	leaveWithin = 500 * time.Millisecond
)

// Config is what a member is made of.
type Config struct {
	// Name is the member's, which no other one of the cluster has. Required.
	Name string
	// Cluster names the cluster, in at most 255 bytes: members of others are not heard. Required.
	Cluster string
	// Addr is the "IP:port" to listen on, with TCP and UDP, at which the others reach the member. Port 0 means a free one. Required.
	Addr string
	// OrFree takes a free port if that of Addr is taken.
	OrFree bool
	// Meta is told to the others, at most memberlist.MetaMaxSize bytes.
	Meta []byte
	// Seeds returns the "IP:port" of members that should be there: those that are not are joined, at once and then every ten seconds. It
	// must not block. Nil means that there are none.
	Seeds func() []string
	// Events hears that another member seems to be there, or not to be any more, one call after the other. If it is slow, of several
	// changes of a member it hears the last. Nil means that nobody wants to know.
	Events func(name string, alive bool)
	// Keys returns the keys of AES by which everything is encrypted, and what is closed when there may be others: the first is used, all are
	// understood, and what was encrypted by none of them, or not at all, is not heard. While there are none the member hears nobody. It must
	// not block. Nil means clear text.
	Keys func() (keys [][]byte, changed <-chan struct{})
	// Logger is required.
	Logger *slog.Logger
	// RejoinEvery replaces how often seeds are looked at. Zero means 10 s.
	RejoinEvery time.Duration
}

// Peer is a member as another one sees it.
type Peer struct {
	Name string
	// Addr is the "IP:port" at which it is reached.
	Addr string
	// Meta is what it says of itself.
	Meta []byte
}

// Member is a process that takes part. It is safe for concurrent use.
type Member struct {
	config Config
	addr   string
	list   *memberlist.Memberlist
	// keyring is nil for clear text.
	keyring *memberlist.Keyring
	group   *lifecycle.Group
	// look makes the seeds be looked at, news makes events be passed on.
	look, news chan struct{}
	// ending serializes the ends.
	ending sync.Mutex
	ended  bool

	mu sync.Mutex
	// changed are the members of which there is news, in the order of the first that was not passed on.
	changed []string
	alive   map[string]bool
	// peers are the other members that seem to be there.
	peers map[string]Peer
}

// Start makes a process take part until Leave or Shutdown. It does not wait for others. The error is of kind engine.KindInvalidArgument, or
// engine.KindConflict if the port is taken.
func Start(config Config) (*Member, error) {
	invalid := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, opStart, config.Name, format, args...)
	}
	host, text, err := net.SplitHostPort(config.Addr)
	if err != nil {
		return nil, invalid("%w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	switch {
	case config.Name == "":
		return nil, invalid("a name is required")
	case config.Cluster == "" || len(config.Cluster) > memberlist.LabelMaxSize:
		return nil, invalid("the cluster's name has %d bytes, expected 1 to %d", len(config.Cluster), memberlist.LabelMaxSize)
	case len(config.Meta) > memberlist.MetaMaxSize:
		return nil, invalid("the metadata has %d bytes, at most %d are allowed", len(config.Meta), memberlist.MetaMaxSize)
	case net.ParseIP(host) == nil || err != nil:
		return nil, invalid("%q is not an IP address and a port", config.Addr)
	}
	if config.RejoinEvery == 0 {
		config.RejoinEvery = rejoinEvery
	}
	m := &Member{
		config: config, group: lifecycle.NewGroup(context.Background(), "gossip"),
		look: make(chan struct{}, 1), news: make(chan struct{}, 1), alive: map[string]bool{}, peers: map[string]Peer{},
	}
	var changed <-chan struct{}
	if config.Keys != nil {
		if changed, err = m.openKeyring(); err != nil {
			return nil, invalid("keys: %w", err)
		}
	}
	m.list, err = m.create(host, int(port))
	if err != nil && port != 0 && config.OrFree {
		m.list, err = m.create(host, 0)
	}
	if err != nil {
		return nil, engine.Errorf(engine.KindConflict, opStart, config.Addr, "%w", err)
	}
	m.addr = m.list.LocalNode().Address()
	config.Logger.Info("the node gossips", "address", m.addr, "name", config.Name)
	m.group.Go("rejoin", m.rejoin)
	if config.Keys != nil {
		m.group.Go("keys", func(ctx context.Context) error { return m.followKeys(ctx, changed) })
	}
	if config.Events != nil {
		m.group.Go("events", m.tell)
	}
	return m, nil
}

func (m *Member) create(host string, port int) (*memberlist.Memberlist, error) {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.BindAddr, c.BindPort = m.config.Name, m.config.Cluster, host, port
	c.AdvertiseAddr, c.AdvertisePort = host, port
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult, c.AwarenessMaxMultiplier = probeInterval, probeTimeout, suspicionMult, awareness
	c.GossipInterval, c.RetransmitMult, c.TCPTimeout = gossipInterval, retransmitMult, streamTimeout
	c.Logger = log.New(&logWriter{logger: m.config.Logger}, "", 0)
	c.Keyring = m.keyring
	c.Delegate, c.Events = meta(m.config.Meta), (*events)(m)
	return memberlist.Create(c)
}

// Addr is the "IP:port" at which others reach the member.
func (m *Member) Addr() string { return m.addr }

// Peers returns the other members that seem to be there, in order of their names.
func (m *Member) Peers() []Peer {
	m.mu.Lock()
	peers := slices.Collect(maps.Values(m.peers))
	m.mu.Unlock()
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	return peers
}

// Look makes the member look at its seeds at once, since there may be new ones. It does not block.
func (m *Member) Look() { signal(m.look) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // It is awake already.
	}
}

// rejoin joins the seeds that are not members until ctx ends.
func (m *Member) rejoin(ctx context.Context) error {
	for {
		if missing := m.missing(); len(missing) > 0 {
			// What fails now is tried again, and memberlist has said why.
			_, _ = m.list.Join(missing)
		}
		timer := time.NewTimer(time.Duration(float64(m.config.RejoinEvery) * (0.5 + rand.Float64()))) //nolint:gosec // Jitter needs no secrecy.
		select {
		case <-timer.C:
		case <-m.look:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// missing returns the seeds that are not members.
func (m *Member) missing() []string {
	if m.config.Seeds == nil {
		return nil
	}
	peers := m.Peers()
	return slices.DeleteFunc(slices.Clone(m.config.Seeds()), func(seed string) bool {
		return seed == m.addr || slices.ContainsFunc(peers, func(p Peer) bool { return p.Addr == seed })
	})
}

// tell passes events on until ctx ends.
func (m *Member) tell(ctx context.Context) error {
	for {
		select {
		case <-m.news:
		case <-ctx.Done():
			return nil
		}
		for name, alive, more := m.next(); more && ctx.Err() == nil; name, alive, more = m.next() {
			m.config.Events(name, alive)
		}
	}
}

// next takes the first event that was not passed on.
func (m *Member) next() (name string, alive, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.changed) == 0 {
		return "", false, false
	}
	name = m.changed[0]
	m.changed = slices.Delete(m.changed, 0, 1)
	alive = m.alive[name]
	delete(m.alive, name)
	return name, alive, true
}

// Leave tells the others that the member leaves, and ends it. It blocks for half a second at most if nobody hears, and then as Shutdown does.
func (m *Member) Leave(ctx context.Context) error { return m.end(ctx, true) }

// Shutdown ends the member without a word, as its death would. It blocks until its goroutines have ended, or ctx has; an answer to a probe
// or an exchange that is under way is waited for in the background, for some seconds at most. Further calls do nothing.
func (m *Member) Shutdown(ctx context.Context) error { return m.end(ctx, false) }

func (m *Member) end(ctx context.Context, leave bool) error {
	m.ending.Lock()
	defer m.ending.Unlock()
	if m.ended {
		return nil
	}
	m.ended = true
	m.group.End() // It must not join anybody any more.
	if leave {
		within := leaveWithin
		if deadline, ok := ctx.Deadline(); ok {
			within = max(time.Millisecond, min(within, time.Until(deadline)))
		}
		if leaveErr := m.list.Leave(within); leaveErr != nil {
			m.config.Logger.DebugContext(ctx, "nobody may have heard that the node leaves the gossip", "error", leaveErr)
		}
	}
	return errors.Join(m.list.Shutdown(), m.group.Stop(ctx))
}

// CheckPort reports whether a member can listen on an "IP:port": the error is of kind engine.KindConflict if it is taken. Another one may
// take it before Start does.
func CheckPort(ctx context.Context, addr string) error {
	fail := func(err error) error { return engine.Errorf(engine.KindConflict, opStart, addr, "%w", err) }
	stream, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fail(err)
	}
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return errors.Join(fail(err), stream.Close())
	}
	return errors.Join(stream.Close(), packets.Close())
}
