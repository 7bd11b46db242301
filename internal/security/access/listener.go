package access

import (
	"net"
	"sync"

	"github.com/f708428e/engine"
)

// Listen makes the addresses of a listener's connections say where they come from, and closes those above the limits. Without it a Guard
// knows no users of this machine. Connections through memory are left as they are.
func (g *Guard) Listen(listener net.Listener) net.Listener {
	if isInProcess(listener.Addr()) {
		return listener
	}
	return &guardedListener{Listener: listener, usage: g.usage}
}

type guardedListener struct {
	net.Listener
	usage *usage
}

// Accept implements net.Listener.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &guardedConn{Conn: conn, usage: l.usage, origin: &Origin{Addr: conn.RemoteAddr(), local: conn.LocalAddr()}}
		c.source = hostOrUser(c.origin)
		if l.usage.connect(c.source) {
			return c, nil
		}
		_ = conn.Close() // Nothing was read or written.
	}
}

// guardedConn is a connection that is counted until it is closed.
type guardedConn struct {
	net.Conn
	usage  *usage
	origin *Origin
	source string
	once   sync.Once
	// taken is how much was read while nobody was known. It belongs to the one goroutine that reads.
	taken int64
}

// strangersBytes is how much a connection may carry before a call over it has shown a proof. gRPC reads a message whole before anybody sees it,
// and those that need no proof, to join, are small.
const strangersBytes = 1 << 20

// pendingBytes is how much more it may carry for each call whose credential is being looked at: more than the window of a stream that has begun
// to put something meanwhile, where a credential is not known at once.
const pendingBytes = 3 << 20

// Read implements net.Conn. It ends a connection of a stranger that sends too much.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.origin.known.Load() {
		return c.Conn.Read(p)
	}
	if allowed := strangersBytes + pendingBytes*c.origin.pending.Load(); c.taken >= allowed {
		return 0, engine.Errorf(engine.KindExhausted, "read", c.origin.String(), "nobody has said within %d bytes who this is", allowed)
	}
	n, err := c.Conn.Read(p)
	c.taken += int64(n)
	return n, err
}

// RemoteAddr implements net.Conn. It is an Origin.
func (c *guardedConn) RemoteAddr() net.Addr { return c.origin }

// NetConn returns the connection below, for those that look for TLS there.
func (c *guardedConn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.once.Do(func() { c.usage.disconnect(c.source) })
	return c.Conn.Close()
}
