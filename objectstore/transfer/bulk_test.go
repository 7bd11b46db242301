package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// bulkPort serves bulk connections alone, and returns its address and what connects to it. wrap changes the server's ends of connections.
func bulkPort(t *testing.T, config transfer.ServiceConfig, enter func(context.Context) error, wrap func(net.Conn) net.Conn) func(context.Context, string) (net.Conn, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	group := lifecycle.NewGroup(context.Background(), "bulk")
	split := transfer.NewService(config).Split(wrapped{listener, wrap}, group, transfer.BulkConfig{
		Is: func(net.Conn) bool { return true },
		Enter: func(ctx context.Context, _ net.Conn) (context.Context, func(), error) {
			return ctx, func() {}, enter(ctx)
		},
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conn, err := split.Accept(); err == nil {
			t.Errorf("%s is no bulk connection", conn.RemoteAddr())
		}
	}()
	t.Cleanup(func() {
		if err := errors.Join(listener.Close(), group.Stop(context.Background())); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

type wrapped struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

// Accept implements net.Listener.
func (w wrapped) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil || w.wrap == nil {
		return conn, err
	}
	return w.wrap(conn), nil
}

// shortConn breaks after some bytes, and damaged changes the last one of a write if it is long.
type shortConn struct {
	net.Conn
	left    int
	damaged bool
}

// Write implements net.Conn.
func (c *shortConn) Write(p []byte) (int, error) {
	if c.damaged && len(p) > 1000 {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
	}
	if c.left == 0 {
		return c.Conn.Write(p)
	}
	n := min(c.left, len(p))
	if c.left -= n; c.left == 0 {
		_, err := c.Conn.Write(p[:n])
		return n, errors.Join(err, c.Close(), io.ErrClosedPipe)
	}
	return c.Conn.Write(p[:n])
}

func allowed(context.Context) error { return nil }

func TestBulk(t *testing.T) {
	refusal := engine.Errorf(engine.KindPermission, "get object", "", "it is of a queue of others")
	for _, test := range []struct {
		name  string
		enter func(context.Context) error
		wrap  func(net.Conn) net.Conn
		// mayUse is the service's, and cannot says that there is no bulk connection to be had.
		mayUse error
		cannot bool
		// second says that it comes from the second holder, over Flight, which is asked at an offset that is not zero if continues.
		second, continues bool
	}{
		{name: "all of it", enter: allowed},
		{name: "none to be had", enter: allowed, cannot: true, second: true},
		{name: "the caller is refused", enter: func(context.Context) error { return refusal }, second: true},
		{name: "the object is refused", enter: allowed, mayUse: refusal, second: true},
		{name: "it breaks", enter: allowed, wrap: func(c net.Conn) net.Conn { return &shortConn{Conn: c, left: 5 << 20} }, second: true, continues: true},
		{name: "it is damaged", enter: allowed, wrap: func(c net.Conn) net.Conn { return &shortConn{Conn: c, damaged: true} }, second: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := newStore(t, objectstore.Config{})
			id := engine.NewObjectID()
			want := putInto(t, data, "q", id, numbers(1, 3, transfer.BulkFrom+1000))
			var mayUse func(context.Context, string, string, string) error
			if test.mayUse != nil {
				mayUse = func(context.Context, string, string, string) error { return test.mayUse }
			}
			connect := bulkPort(t, transfer.ServiceConfig{Store: data, MayUse: mayUse}, test.enter, test.wrap)
			second, secondHolder, _ := begin(t, bytesOf(t, data, id), &actor{say: transfer.Chunk{
				Domain: "q", Total: want.SizeBytes, Rows: want.Rows, Batches: want.Batches, CRC: crc32.Checksum(bytesOf(t, data, id), crc32.MakeTable(crc32.Castagnoli)),
			}})
			store := newStore(t, objectstore.Config{})
			var dials atomic.Int64
			puller := newPuller(t, transfer.PullerConfig{
				Store: store, Locate: inOrder(transfer.Holder{Node: "first", Address: "127.0.0.1:1", SizeBytes: want.SizeBytes, Domain: "q"}, secondHolder("second")),
				DialBulk: func(ctx context.Context, address string) (net.Conn, error) {
					if test.cannot || address != "127.0.0.1:1" {
						return nil, errors.New("it takes no bulk connections")
					}
					dials.Add(1)
					return connect(ctx, address)
				},
			})
			if err := puller.Pull(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, store, id), bytesOf(t, data, id)) {
				t.Error("other bytes")
			}
			if got, _ := store.Info(id); got.Description != want.Description || got.Domain != "q" || !got.Checked {
				t.Errorf("%+v, want %+v", got, want)
			}
			asked := second.asked()
			if test.second != (len(asked) > 0) || test.second && test.continues != (asked[len(asked)-1] > 0) {
				t.Errorf("the second holder was asked at %d", asked)
			}
			if !test.cannot && dials.Load() == 0 {
				t.Error("no bulk connection was made")
			}
			waitUnpinned(t, data, id)
		})
	}
}

// Small objects are not worth a handshake.
func TestBulkIsForLargeObjects(t *testing.T) {
	source := newNode(t, "a", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, source.store, id, numbers(1, 1, 1<<20))
	puller := newPuller(t, transfer.PullerConfig{
		Store: newStore(t, objectstore.Config{}), Locate: at(source.holder()),
		DialBulk: func(context.Context, string) (net.Conn, error) {
			t.Error("a bulk connection is made")
			return nil, io.EOF
		},
	})
	if err := puller.Pull(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// Who connects and is silent, or does not read, holds nothing for longer than the patience.
func TestBulkIsImpatient(t *testing.T) {
	store := newStore(t, objectstore.Config{})
	id := engine.NewObjectID()
	put(t, store, id, numbers(1, 1, 32<<20))
	connect := bulkPort(t, transfer.ServiceConfig{Store: store, Patience: 100 * time.Millisecond}, allowed, nil)
	for name, said := range map[string][]byte{
		"silent": nil, "half a ticket": transfer.Ticket{ID: id, Raw: true, Chunk: 1}.Encode()[:20], "does not read": transfer.Ticket{ID: id, Raw: true, Chunk: 1}.Encode(),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := connect(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Write(said); err != nil {
				t.Fatal(err)
			}
			if name == "does not read" {
				until(func() bool { info, _ := store.Info(id); return info.Pins > 0 })
			}
			waitUnpinned(t, store, id)
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, conn); n >= 32<<20 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d bytes came, %v", n, err)
			}
		})
	}
}

func TestBulkAnswersErrors(t *testing.T) {
	store := newStore(t, objectstore.Config{})
	id := engine.NewObjectID()
	put(t, store, id, numbers(1, 1, 1000))
	connect := bulkPort(t, transfer.ServiceConfig{Store: store}, allowed, nil)
	for _, test := range []struct {
		ticket []byte
		kind   engine.Kind
	}{
		{transfer.Ticket{ID: engine.NewObjectID(), Raw: true, Chunk: 1}.Encode(), engine.KindNotFound},
		{transfer.Ticket{ID: id, Raw: true}.Encode(), engine.KindInvalidArgument},
		{transfer.Ticket{ID: id, Raw: true, Chunk: 1, Fetch: true}.Encode(), engine.KindInvalidArgument},
		{bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 3)[:len(transfer.Ticket{}.Encode())], engine.KindInvalidArgument},
	} {
		conn, err := connect(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(test.ticket); err != nil {
			t.Fatal(err)
		}
		_, err = transfer.ReadAnswer(conn)
		wantKind(t, err, test.kind)
		_ = conn.Close()
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(append([]byte{'O', 40, 0}, transfer.Chunk{Total: 5, Domain: ""}.Encode()...))
	f.Add([]byte{'E', 4, 0, 8, 5, 18, 0})
	f.Add([]byte{'E', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := transfer.ReadAnswer(bytes.NewReader(b))
		if err == nil && (c.Offset < 0 || c.Total < 0) {
			t.Errorf("%+v", c)
		}
		_ = fmt.Sprint(err)
	})
}
