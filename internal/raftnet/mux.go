// Package raftnet carries raft's messages between heads over the port that a head has for gRPC. The first byte of a connection tells
// the two apart: HTTP/2 begins with a P, and a head that has a message for another head begins with a line of its own and the id of
// the head that it means. A head that has not that id closes the connection: an address that has changed hands must never get the
// messages of the head that had it before, which would count its answers as that one's.
package raftnet

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/handover"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/security/pki"
)

// magic begins a connection between heads. It is followed by the length of the id, one byte, and the id.
const magic = "engine-raft 1\n"

// greetWithin is how long a connection may take to say what it is.
const greetWithin = 10 * time.Second

// Mux takes the connections of one listener apart. It is safe for concurrent use.
type Mux struct {
	listener net.Listener
	logger   *slog.Logger
	inClear  func(net.Conn) error
	group    *lifecycle.Group
	rest     *handover.Listener
	raft     *handover.Listener
	// named is closed when id is set.
	named chan struct{}
	id    string

	mu     sync.Mutex
	closed bool
	// open are the connections that have not said yet what they are, and those of raft: its transport leaves them open when it ends.
	open map[net.Conn]struct{}
}

// Split begins to take connections from a listener, which the Mux closes. inClear is asked about each connection of raft that is not TLS, and
// returns why it is refused: in clear text nothing else says who is at its other end.
func Split(listener net.Listener, logger *slog.Logger, inClear func(net.Conn) error) *Mux {
	m := &Mux{
		listener: listener, logger: logger, inClear: inClear, group: lifecycle.NewGroup(context.Background(), "port"),
		named: make(chan struct{}), open: map[net.Conn]struct{}{},
	}
	m.rest, m.raft = handover.New(listener.Addr()), handover.New(listener.Addr())
	m.group.Go("accept", m.accept)
	return m
}

// Rest delivers the connections that are not raft's. Its Close ends them alone.
func (m *Mux) Rest() net.Listener { return m.rest }

// SetID says which head this is. Connections between heads wait for it. It must be called once at most.
func (m *Mux) SetID(id string) {
	m.id = id
	close(m.named)
}

// Close closes the listener and what it delivers, raft's connections included, and waits for their goroutines.
func (m *Mux) Close() error {
	err := m.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	m.mu.Lock()
	m.closed = true
	for conn := range m.open {
		_ = conn.Close() // Nothing that was to be kept is on it.
	}
	m.mu.Unlock()
	return errors.Join(err, m.rest.Close(), m.raft.Close(), m.group.Stop(context.Background()))
}

func (m *Mux) accept(ctx context.Context) error {
	err := handover.AcceptAll(ctx, m.listener, func(conn net.Conn) {
		if !m.track(conn) {
			_ = conn.Close() // The port is being closed.
			return
		}
		m.group.Go("greet", func(ctx context.Context) error {
			m.greet(ctx, conn)
			return nil
		})
	})
	m.rest.Fail(err)
	m.raft.Fail(err)
	return nil
}

// track remembers a connection; false if nothing is accepted any more.
func (m *Mux) track(conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.open[conn] = struct{}{}
	}
	return !m.closed
}

func (m *Mux) untrack(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, conn)
}

// greet finds out what a connection is, and hands it on.
func (m *Mux) greet(ctx context.Context, conn net.Conn) {
	refuse := func(err error) {
		m.untrack(conn)
		_ = conn.Close() // It is of no use.
		if err != nil && ctx.Err() == nil {
			level := slog.LevelDebug
			if engine.KindOf(err) == engine.KindUnauthenticated {
				level = slog.LevelWarn
			}
			m.logger.Log(ctx, level, "a connection was refused", "link", "raft", "from", conn.RemoteAddr().String(), "error", err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(greetWithin)); err != nil {
		refuse(err)
		return
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		refuse(nil) // Somebody looked whether the port is open.
		return
	}
	var handed net.Conn
	to := m.rest
	if first[0] == magic[0] {
		id, err := readGreeting(conn)
		if err == nil {
			select {
			case <-m.named:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err == nil {
			err = m.checkRaft(conn)
		}
		if err == nil && id != m.id {
			err = engine.Errorf(engine.KindConflict, "accept", id, "a message for another head than this one, %s", m.id)
		}
		if err != nil {
			refuse(err)
			return
		}
		handed, to = &raftConn{Conn: conn, mux: m}, m.raft
	} else {
		m.untrack(conn) // The server that gets it closes it.
		handed = &begunConn{Conn: conn, first: first}
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil || !to.Deliver(handed) {
		refuse(err)
	}
}

// checkRaft refuses a connection of TLS that was not made for raft: only those for raft were asked for a head's certificate.
func (m *Mux) checkRaft(conn net.Conn) error {
	state, secured := pki.StateOf(conn)
	if !secured {
		return m.inClear(conn)
	}
	if state.NegotiatedProtocol != pki.ProtocolRaft {
		return engine.Errorf(engine.KindUnauthenticated, "accept", "", "a message for a head on a connection for %q", state.NegotiatedProtocol)
	}
	return nil
}

// readGreeting reads what follows the first byte of magic, and returns the id of the head that is meant.
func readGreeting(conn io.Reader) (id string, err error) {
	text := make([]byte, len(magic))
	if _, err := io.ReadFull(conn, text); err != nil {
		return "", engine.WrapError("accept", "", err)
	}
	if string(text[:len(magic)-1]) != magic[1:] {
		return "", engine.Errorf(engine.KindVersion, "accept", "", "expected %q, found %q", magic[1:], text[:len(magic)-1])
	}
	name := make([]byte, text[len(magic)-1])
	if _, err := io.ReadFull(conn, name); err != nil {
		return "", engine.WrapError("accept", "", err)
	}
	return string(name), nil
}

// writeGreeting begins a connection to the head of that id.
func writeGreeting(conn io.Writer, id string) error {
	if len(id) > 255 {
		return engine.Errorf(engine.KindInternal, opConnect, id, "the id of a head has at most 255 bytes, found %d", len(id))
	}
	w := bufio.NewWriterSize(conn, len(magic)+1+len(id))
	_, _ = w.WriteString(magic) // Flush returns the first failure.
	_ = w.WriteByte(byte(len(id)))
	_, _ = w.WriteString(id)
	return w.Flush()
}

// begunConn is a connection whose first byte was read.
type begunConn struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// NetConn returns the connection itself, for those that look for TLS there.
func (c *begunConn) NetConn() net.Conn { return c.Conn }

// raftConn is a connection of raft's, which the Mux knows of until it is closed.
type raftConn struct {
	net.Conn
	mux *Mux
}

// Close implements net.Conn.
func (c *raftConn) Close() error {
	c.mux.untrack(c.Conn)
	return c.Conn.Close()
}
