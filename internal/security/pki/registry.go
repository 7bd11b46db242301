package pki

import (
	"net"
	"sync"
	"time"
)

// registry knows the connections of an identity by the peers at their other ends.
type registry struct {
	now func() time.Time

	mu    sync.Mutex
	ended bool
	conns map[*trackedConn]struct{}
}

// trackedConn is the connection below TLS. Its fields but Conn and batch are guarded by the registry's lock.
type trackedConn struct {
	net.Conn
	registry *registry
	batch    batch
	peer     Peer
	// end closes the connection when the peer's certificate ends; nil if it has shown none.
	end *time.Timer
}

func (r *registry) track(conn net.Conn) *trackedConn {
	c := &trackedConn{Conn: conn, registry: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = map[*trackedConn]struct{}{}
	}
	r.conns[c] = struct{}{}
	if r.ended {
		_ = conn.Close() // Nothing is on it yet.
	}
	return c
}

func (r *registry) admit(c *trackedConn, peer Peer, ends time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, open := r.conns[c]; !open {
		return
	}
	c.peer = peer
	c.end = time.AfterFunc(ends.Sub(r.now()), func() { _ = c.Close() }) // Its user sees that it is closed.
}

// closeIf closes the connections of some peers.
func (r *registry) closeIf(matches func(Peer) bool) {
	r.mu.Lock()
	var found []*trackedConn
	for c := range r.conns {
		if c.end != nil && matches(c.peer) {
			found = append(found, c)
		}
	}
	r.mu.Unlock()
	for _, c := range found {
		_ = c.Close() // Its user sees that it is closed.
	}
}

func (r *registry) end() {
	r.mu.Lock()
	r.ended = true
	all := make([]*trackedConn, 0, len(r.conns))
	for c := range r.conns {
		all = append(all, c)
	}
	r.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // Its user sees that it is closed.
	}
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.registry.mu.Lock()
	delete(c.registry.conns, c)
	if c.end != nil {
		c.end.Stop()
	}
	c.registry.mu.Unlock()
	return c.Conn.Close()
}

// NetConn is the connection itself.
func (c *trackedConn) NetConn() net.Conn { return c.Conn }
