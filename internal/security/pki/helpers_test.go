package pki_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/security/pki"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// logBook is a log that tests look at. It is safe for concurrent use.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func newLog() (*logBook, *slog.Logger) {
	l := &logBook{news: make(chan struct{}, 1)}
	return l, slog.New(slog.NewTextHandler(l, nil))
}

// Write implements io.Writer.
func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the log has a text.
func (l *logBook) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.news:
		case <-deadline.C:
			t.Fatalf("the log has no %q:\n%s", text, l)
		}
	}
}

func newAuthority(t testing.TB) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func parseKey(t testing.TB, text []byte) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM in the key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey)
}

// identity makes the identity of a node whose certificate was signed at some time.
func identity(t testing.TB, a *pki.Authority, role, name string, signed time.Time, life time.Duration, options pki.Options) *pki.Identity {
	t.Helper()
	cert, key, err := a.Issue(pki.Request{Role: role, Name: name, Life: life}, signed)
	if err != nil {
		t.Fatal(err)
	}
	i, err := pki.NewIdentity(parse(t, cert), parseKey(t, key), parse(t, a.Certificate()), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve accepts connections, tells each one's peer, and answers each byte with itself.
func serve(t testing.TB, listener net.Listener) <-chan pki.Link {
	t.Helper()
	links := make(chan pki.Link, 16)
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			link, err := pki.LinkOfConn(conn)
			if err != nil {
				t.Errorf("link: %v", err)
			}
			links <- link
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				for b := make([]byte, 1); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			})
		}
	})
	return links
}

// echo sends a byte and waits for it to come back.
func echo(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

func dial(t testing.TB, i *pki.Identity, address string, roles ...string) (*tls.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := i.Dial(ctx, address, pki.ProtocolGRPC, roles...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(interface{ NetConn() net.Conn }).NetConn().(*tls.Conn), nil
}

func write(t testing.TB, dir, name string, text []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
