package testcluster

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/f708428e/engine/internal/lifecycle"
)

// link is a port that passes connections on to another one, and can be cut. It is safe for concurrent use.
type link struct {
	listener net.Listener
	group    *lifecycle.Group

	mu sync.Mutex
	// target is where connections go; empty while nobody listens there.
	target string
	cut    bool
	conns  map[net.Conn]struct{}
}

func newLink(t testing.TB) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, group: lifecycle.NewGroup(context.Background(), "link"), conns: map[net.Conn]struct{}{}}
	l.group.Go("accept", l.accept)
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) setTarget(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = address
}

// setCut breaks all connections and refuses further ones, or ends that.
func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for conn := range l.conns {
			_ = conn.Close() // It is broken on purpose.
		}
	}
}

func (l *link) close() error {
	err := l.listener.Close()
	l.setCut(true)
	return errors.Join(err, l.group.Stop(context.Background()))
}

func (l *link) accept(context.Context) error {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return nil //nolint:nilerr // It is closed.
		}
		l.group.Go("pass", func(ctx context.Context) error {
			l.pass(ctx, conn)
			return nil
		})
	}
}

// pass carries bytes both ways until one of them ends.
func (l *link) pass(ctx context.Context, from net.Conn) {
	defer func() { _ = from.Close() }() // It may have been closed.
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return // As if nobody had been there.
	}
	defer func() { _ = to.Close() }()
	if !l.add(from, to) {
		return
	}
	defer l.remove(from, to)
	ended := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // Whatever ends it ends both.
		_, _ = to.Close(), from.Close()
		ended <- struct{}{}
	}
	go carry(to, from) // lifecycle: ends with the connections, which this function closes.
	carry(from, to)
	<-ended
	<-ended
}

func (l *link) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	for _, conn := range conns {
		l.conns[conn] = struct{}{}
	}
	return true
}

func (l *link) remove(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range conns {
		delete(l.conns, conn)
	}
}
