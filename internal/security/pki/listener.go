package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/f708428e/engine/internal/lifecycle"
)

const (
	// handshakeWithin is how long a handshake may take, and handshakesAtOnce how many may be under way on a port: what comes then is closed.
	handshakeWithin  = 10 * time.Second
	handshakesAtOnce = 512
)

// listener delivers connections whose handshake is over, as *tls.Conn. Each has a goroutine until then, so that none holds up another.
type listener struct {
	net.Listener
	identity *Identity
	accept   Accept
	group    *lifecycle.Group
	conns    chan net.Conn
	slots    chan struct{}

	once sync.Once
	// err is why there are no more connections. It is set before closed is closed.
	err    error
	closed chan struct{}
}

// Listen makes a listener of TLS connections from those that another one accepts, which it closes with itself. Accept returns *tls.Conn whose
// handshake is over and whose peer was verified; those that are refused are logged with their reason.
func (i *Identity) Listen(inner net.Listener, accept Accept) net.Listener {
	l := &listener{
		Listener: inner, identity: i, accept: accept, group: lifecycle.NewGroup(context.Background(), "tls "+accept.Link),
		conns: make(chan net.Conn), slots: make(chan struct{}, handshakesAtOnce), closed: make(chan struct{}),
	}
	l.group.Go("accept", l.run)
	return l
}

func (l *listener) run(ctx context.Context) error {
	var pause time.Duration
	for {
		conn, err := l.Listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
		case errors.As(err, &temporary) && temporary.Temporary() && ctx.Err() == nil:
			// Too many open files: the next try may work.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		default:
			l.fail(err)
			return nil
		}
		select {
		case l.slots <- struct{}{}:
		default:
			_ = conn.Close() // Too many strangers knock at the same time.
			continue
		}
		if !l.group.Go("handshake", func(ctx context.Context) error {
			defer func() { <-l.slots }()
			l.shake(ctx, conn)
			return nil
		}) {
			_ = conn.Close() // The port is being closed.
		}
	}
}

// shake does the handshake, and hands the connection on.
func (l *listener) shake(ctx context.Context, raw net.Conn) {
	within, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	tracked := l.identity.conns.track(raw)
	conn := tls.Server(tracked, l.identity.serverConfig(l.accept))
	err := conn.HandshakeContext(within)
	if err == nil {
		err = l.identity.admit(tracked, conn)
	}
	if err != nil {
		_ = tracked.Close() // It is of no use.
		if refusal := classify(err); refusal != nil && ctx.Err() == nil {
			l.identity.refusals.log(ctx, l.accept.Link, raw.RemoteAddr(), refusal)
		}
		return
	}
	select {
	case l.conns <- conn:
	case <-l.closed:
		_ = conn.Close() // Nobody will take it.
	}
}

func (l *listener) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.closed)
	})
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, l.err
	}
}

// Close implements net.Listener. It waits for the handshakes that are under way, which it cuts off.
func (l *listener) Close() error {
	l.fail(net.ErrClosed)
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, l.group.Stop(context.Background()))
}
