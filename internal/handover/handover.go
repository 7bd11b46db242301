// Package handover passes connections from who has accepted them to a server that wants a net.Listener: they were looked at in between,
// for what they speak or who is at their other end.
package handover

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Listener is a net.Listener of connections that are delivered to it. It is safe for concurrent use.
type Listener struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
	// err is set before closed is.
	err error
}

// New returns a listener that says to have this address.
func New(address net.Addr) *Listener {
	return &Listener{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Deliver waits until somebody accepts the connection; false if nobody will, and it is the caller's to close.
func (l *Listener) Deliver(conn net.Conn) bool {
	select {
	case l.conns <- conn:
		return true
	case <-l.closed:
		return false
	}
}

// Fail has every Accept return an error from now on. Only the first one counts, and that of Close.
func (l *Listener) Fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.closed)
	})
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, l.err
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.Fail(net.ErrClosed)
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.address }

// The pauses after which a listener is tried again that has failed for want of something, such as descriptors.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// AcceptAll calls take with every connection of a listener, whose it then is, until the listener fails for good, and returns why. take must not
// block.
func AcceptAll(ctx context.Context, listener net.Listener, take func(net.Conn)) error {
	var pause time.Duration
	for {
		conn, err := listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
			take(conn)
		case errors.As(err, &temporary) && temporary.Temporary() && ctx.Err() == nil:
			pause = min(max(2*pause, minPause), maxPause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		default:
			return err
		}
	}
}
