package pki_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/security/pki"
)

// counted is a connection that counts the calls that write to it.
type counted struct {
	net.Conn
	writes atomic.Int64
}

// Write implements net.Conn.
func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// pair makes the two ends of a link.
func pair(t *testing.T) (client net.Conn, below *counted, server net.Conn) {
	t.Helper()
	a := newAuthority(t)
	listener := identity(t, a, pki.RoleWorker, "w", time.Now(), 0, pki.Options{}).Listen(listenTCP(t), pki.Accept{
		Link: "flight", Roles: []string{pki.RoleHead}, Protocols: []string{pki.ProtocolGRPC},
	})
	t.Cleanup(func() { _ = listener.Close() })
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	below = &counted{Conn: raw}
	client, err = identity(t, a, pki.RoleHead, "h", time.Now(), 0, pki.Options{}).Client(t.Context(), below, pki.ProtocolGRPC, pki.RoleWorker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, below, server
}

func TestRecordsGoOutTogether(t *testing.T) {
	client, below, server := pair(t)
	const times, writers = 4, 3
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB, whose order within a write shows.
	began := below.writes.Load()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range times {
				if n, err := client.Write(sent); n != len(sent) || err != nil {
					t.Errorf("%d, %v", n, err)
				}
				if _, err := client.Write(sent[:16]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	got := make([]byte, writers*times*(len(sent)+16))
	if _, err := io.ReadFull(server, got); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if want := bytes.Repeat(sent[:16], len(got)/16); sha256.Sum256(got) != sha256.Sum256(want) {
		t.Error("other bytes came")
	}
	// Records of 16 KiB would be 64 for each MiB.
	if writes, most := below.writes.Load()-began, int64(writers*times*(5+1+1)); writes > most {
		t.Errorf("%d calls wrote, want %d at most", writes, most)
	}
}

func TestCloseEndsWritesThatNobodyReads(t *testing.T) {
	client, _, _ := pair(t)
	ended := make(chan struct{})
	go func() {
		for big := make([]byte, 1<<20); ; {
			if _, err := client.Write(big); err != nil {
				close(ended)
				return
			}
		}
	}()
	if err := client.Close(); err != nil {
		t.Log(err) // It says that the farewell was not sent.
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the write goes on")
	}
}

// A connection for objects is read ahead of TLS: what it carries, its deadlines, and its end are those of every other.
func TestConnectionsForObjects(t *testing.T) {
	a := newAuthority(t)
	listener := identity(t, a, pki.RoleWorker, "w", time.Now(), 0, pki.Options{}).Listen(listenTCP(t), pki.Accept{
		Link: "flight", Anonymous: true, Protocols: []string{pki.ProtocolGRPC, pki.ProtocolObjects},
		ByProtocol: map[string][]string{pki.ProtocolObjects: {pki.RoleHead}},
	})
	t.Cleanup(func() { _ = listener.Close() })
	head := identity(t, a, pki.RoleHead, "h", time.Now(), 0, pki.Options{})
	client, err := head.Dial(t.Context(), listener.Addr().String(), pki.ProtocolObjects, pki.RoleWorker)
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
	var all sync.WaitGroup
	all.Go(func() {
		for range 4 {
			if _, err := server.Write(sent); err != nil {
				t.Error(err)
			}
		}
	})
	got := make([]byte, 4*len(sent))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, bytes.Repeat(sent, 4)) {
		t.Errorf("other bytes came: %v", err)
	}
	all.Wait()
	if err := client.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want the deadline's error", err)
	}
	_ = client.Close()
	_ = server.Close()

	// Whoever may connect without a certificate may not do so for objects.
	admin := identity(t, a, pki.RoleAdmin, "a", time.Now(), 0, pki.Options{})
	if conn, err := admin.Dial(t.Context(), listener.Addr().String(), pki.ProtocolObjects, pki.RoleWorker); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("an admin has a connection for objects")
		}
		_ = conn.Close()
	}
}
