package handover_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/f708428e/engine/internal/handover"
)

func TestListener(t *testing.T) {
	l := handover.New(&net.TCPAddr{Port: 7})
	if l.Addr().String() != ":7" {
		t.Errorf("its address is %s", l.Addr())
	}
	here, there := net.Pipe()
	defer there.Close()
	delivered := make(chan bool)
	go func() { delivered <- l.Deliver(here) }()
	if conn, err := l.Accept(); conn != here || err != nil || !<-delivered {
		t.Errorf("got %v, %v", conn, err)
	}
	broken := errors.New("broken")
	l.Fail(broken)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if l.Deliver(here) {
		t.Error("a connection was delivered that nobody accepts")
	}
	_ = here.Close() // It came back.
}

// shaky fails before each of its connections, and for good after them.
type shaky struct {
	net.Listener
	conns []net.Conn
	fails bool
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (s *shaky) Accept() (net.Conn, error) {
	if s.fails = !s.fails; s.fails && len(s.conns) > 0 {
		return nil, temporary{errors.New("too many open files")}
	}
	if len(s.conns) == 0 {
		return nil, net.ErrClosed
	}
	conn := s.conns[0]
	s.conns = s.conns[1:]
	return conn, nil
}

func TestAcceptAll(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	var taken []net.Conn
	err := handover.AcceptAll(context.Background(), &shaky{conns: []net.Conn{one, other}}, func(conn net.Conn) { taken = append(taken, conn) })
	if !errors.Is(err, net.ErrClosed) || !slices.Equal(taken, []net.Conn{one, other}) {
		t.Errorf("took %v, %v", taken, err)
	}
	if err := handover.AcceptAll(context.Background(), &shaky{}, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
