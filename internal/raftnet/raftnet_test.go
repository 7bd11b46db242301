package raftnet_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/f708428e/engine/internal/raftnet"
)

func allow(context.Context, string) error { return nil }

func split(t *testing.T) (*raftnet.Mux, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := raftnet.Split(listener, slog.New(slog.DiscardHandler), func(net.Conn) error { return nil })
	t.Cleanup(func() {
		if err := mux.Close(); err != nil {
			t.Error(err)
		}
	})
	return mux, listener.Addr().String()
}

func dial(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestOtherConnectionsPass sees that whatever is not raft's arrives whole, and that a connection which says nothing keeps nobody waiting.
func TestOtherConnectionsPass(t *testing.T) {
	mux, address := split(t)
	silent := dial(t, address, "")
	defer silent.Close()
	for _, text := range []string{"PRI * HTTP/2.0\r\n", "x\n"} {
		dial(t, address, text)
		conn, err := mux.Rest().Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		got := make([]byte, len(text))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
			t.Errorf("%q, %v, expected %q", got, err, text)
		}
	}
	if err := mux.Rest().Close(); err != nil {
		t.Error(err)
	}
	if _, err := mux.Rest().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

// TestWrongGreetingsAreClosed includes those for another head: its address may have changed hands.
func TestWrongGreetingsAreClosed(t *testing.T) {
	mux, address := split(t)
	mux.SetID("head-1")
	transport := raftnet.NewTransport(mux, address, allow, nil)
	defer transport.Close()
	for _, text := range []string{"engine-raft 1\n\x06head-2rest", "engine-raft 2\n\x06head-1rest", "exx\n             ", "engine-raft 1\n\x07head-1x"} {
		conn := dial(t, address, text)
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%q: %v, expected an end", text, err)
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// machine counts what was applied.
type machine struct{ applied chan string }

func (m *machine) Apply(log *raft.Log) any             { m.applied <- string(log.Data); return nil }
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("not in this test") }
func (m *machine) Restore(io.ReadCloser) error         { return errors.New("not in this test") }
func server(id, address string) raft.Server {
	return raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(address)}
}
func quiet() hclog.Logger { return hclog.NewNullLogger() }

// TestRaftOverTheSharedPort elects a leader of three and replicates, while each address belongs to its head alone.
func TestRaftOverTheSharedPort(t *testing.T) {
	ids := []string{"a", "b", "c"}
	var servers []raft.Server
	var muxes []*raftnet.Mux
	for _, id := range ids {
		mux, address := split(t)
		mux.SetID(id)
		servers, muxes = append(servers, server(id, address)), append(muxes, mux)
	}
	var rafts []*raft.Raft
	var machines []*machine
	for i, id := range ids {
		config := raft.DefaultConfig()
		config.LocalID = raft.ServerID(id)
		config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout, config.CommitTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond, 5*time.Millisecond
		config.Logger = quiet()
		m := &machine{applied: make(chan string, 10)}
		store := raft.NewInmemStore()
		transport := raftnet.NewTransport(muxes[i], string(servers[i].Address), allow, nil)
		if err := raft.BootstrapCluster(config, store, store, raft.NewInmemSnapshotStore(), transport, raft.Configuration{Servers: servers}); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(config, m, store, store, raft.NewInmemSnapshotStore(), transport)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(r.Shutdown().Error(), transport.Close()); err != nil {
				t.Error(err)
			}
		})
		rafts, machines = append(rafts, r), append(machines, m)
	}
	leader := make(chan *raft.Raft, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, r := range rafts {
		go func() {
			select {
			case <-r.LeaderCh():
				leader <- r
			case <-ctx.Done():
			}
		}()
	}
	select {
	case r := <-leader:
		if err := r.Apply([]byte("hello"), 10*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatal("no leader")
	}
	for i, m := range machines {
		select {
		case got := <-m.applied:
			if got != "hello" {
				t.Errorf("head %s applied %q", ids[i], got)
			}
		case <-ctx.Done():
			t.Fatalf("head %s applied nothing", ids[i])
		}
	}
}
