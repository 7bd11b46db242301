package pki_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

var forWorkers = pki.Accept{Link: "test", Roles: []string{pki.RoleWorker, pki.RoleHead}, Protocols: []string{pki.ProtocolGRPC}}

// TestListenRefuses is what every link does: it names the reason in its log, and lets nothing through.
func TestListenRefuses(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	now := time.Now()
	plain := func(t *testing.T, address string) error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for b := make([]byte, 64); ; {
			n, err := conn.Read(b)
			if err != nil {
				return err
			}
			if b[0] != 21 { // A TLS alert is all that may be said.
				t.Errorf("answered %q", b[:n])
			}
		}
	}
	with := func(i *pki.Identity) func(*testing.T, string) error {
		return func(t *testing.T, address string) error {
			conn, err := dial(t, i, address, pki.RoleHead)
			if err != nil {
				return err
			}
			return echo(conn)
		}
	}
	// raw shows a certificate whatever it thinks of the server.
	raw := func(a *pki.Authority, role string, signed time.Time, life time.Duration, version uint16) func(*testing.T, string) error {
		return func(t *testing.T, address string) error {
			cert, key, err := a.Issue(pki.Request{Role: role, Name: "n", Life: life}, signed)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, MaxVersion: version, NextProtos: []string{pki.ProtocolGRPC}, //nolint:gosec // It is an attacker.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}}
			conn, err := dialer.DialContext(t.Context(), "tcp", address)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			return echo(conn)
		}
	}
	client, err := pki.NewClient(ours.Certificate(), "", pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	revoked := identity(t, ours, pki.RoleWorker, "gone", now, time.Hour, pki.Options{})
	for _, test := range []struct {
		name   string
		reason pki.Reason
		attack func(*testing.T, string) error
	}{
		{"plain text", pki.PlainText, plain},
		{"no certificate", pki.NoCertificate, with(client)},
		{"foreign authority", pki.ForeignAuthority, raw(theirs, pki.RoleWorker, now, time.Hour, 0)},
		{"foreign and expired", pki.ForeignAuthority, raw(theirs, pki.RoleWorker, now.Add(-2*time.Hour), time.Hour, 0)},
		{"expired", pki.Expired, raw(ours, pki.RoleWorker, now.Add(-2*time.Hour), time.Hour, 0)},
		{"not yet valid", pki.NotYetValid, raw(ours, pki.RoleWorker, now.Add(3*time.Hour), time.Hour, 0)},
		{"revoked", pki.Revoked, with(revoked)},
		{"wrong role", pki.WrongRole, raw(ours, pki.RoleAdmin, now, time.Hour, 0)},
		{"TLS 1.2", pki.OldVersion, raw(ours, pki.RoleWorker, now, time.Hour, tls.VersionTLS12)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log, logger := newLog()
			head := identity(t, ours, pki.RoleHead, "h", now, time.Hour, pki.Options{Logger: logger})
			head.Revoke([]string{revoked.Peer().Serial})
			listener := head.Listen(listenTCP(t), forWorkers)
			links := serve(t, listener)
			if err := test.attack(t, listener.Addr().String()); err == nil {
				t.Error("it was let in")
			}
			log.await(t, "reason="+quoted(test.reason))
			select {
			case link := <-links:
				t.Errorf("a connection came through: %+v", link)
			default:
			}
		})
	}
}

func TestListenAccepts(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	log, logger := newLog()
	head := identity(t, a, pki.RoleHead, "h", time.Now(), time.Hour, pki.Options{Logger: logger})
	accept := forWorkers
	accept.Anonymous = true
	listener := head.Listen(listenTCP(t), accept)
	links := serve(t, listener)

	worker := identity(t, a, pki.RoleWorker, "w.1", time.Now(), time.Hour, pki.Options{})
	conn, err := dial(t, worker, listener.Addr().String(), pki.RoleHead)
	if err != nil {
		t.Fatal(err)
	}
	if err := echo(conn); err != nil {
		t.Fatal(err)
	}
	link := <-links
	if link.Peer == nil || *link.Peer != worker.Peer() || link.Peer.Role != pki.RoleWorker || link.Peer.Name != "w.1" || link.Peer.Cluster != a.Cluster() || !link.Encrypted {
		t.Errorf("link %+v of %+v", link, worker.Peer())
	}
	if state := conn.ConnectionState(); state.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %x", state.Version)
	}
	for name, client := range map[string]func() (*pki.Identity, error){
		"by file":        func() (*pki.Identity, error) { return pki.NewClient(a.Certificate(), "", pki.Options{}) },
		"by fingerprint": func() (*pki.Identity, error) { return pki.NewClient(nil, "sha256:"+a.Fingerprint(), pki.Options{}) },
	} {
		i, err := client()
		if err != nil {
			t.Fatal(name, err)
		}
		conn, err := dial(t, i, listener.Addr().String(), pki.RoleHead)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := echo(conn); err != nil {
			t.Fatal(name, err)
		}
		if link := <-links; link.Peer != nil || !link.Encrypted {
			t.Errorf("%s: link %+v", name, link)
		}
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// TestClientRefuses is the other direction: nobody passes for a head who is none.
func TestClientRefuses(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	now := time.Now()
	for _, test := range []struct {
		name   string
		reason pki.Reason
		server *pki.Identity
		pin    bool
	}{
		{"foreign authority", pki.ForeignAuthority, identity(t, theirs, pki.RoleHead, "h", now, time.Hour, pki.Options{}), false},
		{"foreign authority by fingerprint", pki.ForeignAuthority, identity(t, theirs, pki.RoleHead, "h", now, time.Hour, pki.Options{}), true},
		{"expired", pki.Expired, identity(t, ours, pki.RoleHead, "h", now.Add(-2*time.Hour), time.Hour, pki.Options{}), true},
		{"a worker", pki.WrongRole, identity(t, ours, pki.RoleWorker, "w", now, time.Hour, pki.Options{}), false},
		{"an admin's certificate", pki.WrongRole, identity(t, ours, pki.RoleAdmin, "w", now, time.Hour, pki.Options{}), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			accept := forWorkers
			accept.Anonymous = true
			listener := test.server.Listen(listenTCP(t), accept)
			serve(t, listener)
			certificate, fingerprint := ours.Certificate(), ""
			if test.pin {
				certificate, fingerprint = nil, ours.Fingerprint()
			}
			client, err := pki.NewClient(certificate, fingerprint, pki.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = dial(t, client, listener.Addr().String(), pki.RoleHead)
			var refusal *pki.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != test.reason {
				t.Errorf("error %v, expected a refusal for %s", err, test.reason)
			}
		})
	}
	t.Run("plain text", func(t *testing.T) {
		t.Parallel()
		l := listenTCP(t)
		done := make(chan struct{})
		go func() { // Ends with the listener.
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
				_ = conn.Close()
			}
		}()
		client, err := pki.NewClient(ours.Certificate(), "", pki.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = dial(t, client, l.Addr().String(), pki.RoleHead)
		if engine.KindOf(err) != engine.KindUnauthenticated || !strings.Contains(err.Error(), "does not speak TLS") {
			t.Errorf("error %v", err)
		}
		_ = l.Close()
		<-done
	})
}

// TestClocks lets clocks be wrong by an hour, either way.
func TestClocks(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, test := range []struct {
		name string
		skew time.Duration
		ok   bool
		// least is how the difference begins that the error tells of.
		least string
	}{
		{"an hour behind", -time.Hour, true, ""}, {"an hour ahead", time.Hour, true, ""},
		{"two hours behind", -2 * time.Hour, false, "5"}, {"two days ahead", 48 * time.Hour, false, "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wrong := func() time.Time { return time.Now().Add(test.skew) }
			head := identity(t, a, pki.RoleHead, "h", time.Now(), 0, pki.Options{})
			listener := head.Listen(listenTCP(t), forWorkers)
			serve(t, listener)
			worker := identity(t, a, pki.RoleWorker, "w", time.Now(), 0, pki.Options{Now: wrong})
			conn, err := dial(t, worker, listener.Addr().String(), pki.RoleHead)
			if err == nil {
				err = echo(conn)
			}
			var refusal *pki.Refusal
			switch {
			case test.ok && err != nil:
				t.Error(err)
			case !test.ok && !errors.As(err, &refusal):
				t.Errorf("error %v, expected a refusal", err)
			case !test.ok && refusal.Reason != pki.Expired && refusal.Reason != pki.NotYetValid:
				t.Errorf("reason %s", refusal.Reason)
			case !test.ok && !strings.Contains(err.Error(), "a clock is wrong by "+test.least):
				t.Errorf("error %v, expected that a clock is wrong by %s…", err, test.least)
			}
		})
	}
}

// TestConnectionsEnd closes those whose certificate is revoked, or ends, at both ends, and no others.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, test := range []struct {
		name string
		end  func(head, worker *pki.Identity)
		life time.Duration
	}{
		{"revoked at the server", func(head, worker *pki.Identity) { head.Revoke([]string{worker.Peer().Serial}) }, time.Hour},
		{"revoked at the client", func(head, worker *pki.Identity) { worker.Revoke([]string{head.Peer().Serial}) }, time.Hour},
		{"ended", func(_, _ *pki.Identity) {}, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			head := identity(t, a, pki.RoleHead, "h", time.Now(), time.Hour, pki.Options{})
			listener := head.Listen(listenTCP(t), forWorkers)
			serve(t, listener)
			signed := time.Now()
			if test.life < time.Hour {
				signed = signed.Add(-8 * time.Second)
			}
			worker := identity(t, a, pki.RoleWorker, "w", signed, test.life, pki.Options{})
			other := identity(t, a, pki.RoleWorker, "other", time.Now(), time.Hour, pki.Options{})
			conn, err := dial(t, worker, listener.Addr().String(), pki.RoleHead)
			if err != nil {
				t.Fatal(err)
			}
			bystander, err := dial(t, other, listener.Addr().String(), pki.RoleHead)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(echo(conn), echo(bystander)); err != nil {
				t.Fatal(err)
			}
			test.end(head, worker)
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("the connection is open: %v", err)
			}
			if err := echo(bystander); err != nil {
				t.Errorf("another's connection was closed: %v", err)
			}
		})
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestByProtocol keeps those who may speak gRPC from speaking raft.
func TestByProtocol(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	log, logger := newLog()
	head := identity(t, a, pki.RoleHead, "h", time.Now(), time.Hour, pki.Options{Logger: logger})
	listener := head.Listen(listenTCP(t), pki.Accept{
		Link: "port", Roles: []string{pki.RoleWorker}, Anonymous: true, Protocols: []string{pki.ProtocolGRPC, pki.ProtocolRaft},
		ByProtocol: map[string][]string{pki.ProtocolRaft: {pki.RoleHead}},
	})
	serve(t, listener)
	client, err := pki.NewClient(a.Certificate(), "", pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		who    *pki.Identity
		reason pki.Reason
	}{
		{identity(t, a, pki.RoleWorker, "w", time.Now(), time.Hour, pki.Options{}), pki.WrongRole},
		{client, pki.NoCertificate},
		{identity(t, a, pki.RoleHead, "h2", time.Now(), time.Hour, pki.Options{}), ""},
	} {
		conn, err := test.who.Dial(t.Context(), listener.Addr().String(), pki.ProtocolRaft, pki.RoleHead)
		if err == nil {
			err = errors.Join(echo(conn), conn.Close())
		}
		if (err == nil) != (test.reason == "") {
			t.Errorf("%s: %v", test.who.Peer(), err)
		}
		if test.reason != "" {
			log.await(t, "reason="+quoted(test.reason))
		}
	}
}

// quoted is a reason as the log has it.
func quoted(reason pki.Reason) string {
	if strings.Contains(string(reason), " ") {
		return strconv.Quote(string(reason))
	}
	return string(reason)
}

// TestListenShares has one host begin handshakes that it never ends, until it gets no more of them: others still get in.
func TestListenShares(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	log, logger := newLog()
	head := identity(t, a, pki.RoleHead, "h", time.Now(), time.Hour, pki.Options{Logger: logger})
	listener := head.Listen(listenTCP(t), forWorkers)
	links := serve(t, listener)
	from := func(host string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
		conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for begun := time.Now(); !strings.Contains(log.String(), "reason="+quoted(pki.Crowded)); {
		from("127.0.0.1")
		if time.Since(begun) > patience {
			t.Fatalf("one host may begin as many handshakes as it likes:\n%s", log)
		}
	}
	if n := head.Refused()[pki.Crowded]; n == 0 {
		t.Error("what was refused is not counted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := identity(t, a, pki.RoleWorker, "w", time.Now(), time.Hour, pki.Options{}).Client(ctx, from("127.0.0.2"), pki.ProtocolGRPC, pki.RoleHead)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := echo(conn); err != nil {
		t.Fatal(err)
	}
	if link := <-links; link.Peer == nil || link.Peer.Name != "w" {
		t.Errorf("link %+v", link)
	}
}

// TestRejected has other ends refuse the certificate of a node, which is told why.
func TestRejected(t *testing.T) {
	t.Parallel()
	ours, now := newAuthority(t), time.Now()
	clock := func(ahead time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(ahead) } }
	for _, test := range []struct {
		name string
		// headClock and nodeClock are how far the clocks are ahead.
		headClock, nodeClock time.Duration
		revoked              bool
		reason               pki.Reason
		want, hint           string
		listened             pki.Reason
	}{
		{"revoked", 0, 0, true, pki.Revoked, "the certificate of worker w, serial SERIAL, was revoked", "engine node token", pki.Revoked},
		{"ended by both clocks", 2 * time.Hour, 2 * time.Hour, false, pki.Expired, "is good from ", "engine node token", pki.Expired},
		{"a head's clock two hours ahead", 2 * time.Hour, 0, false, pki.Expired, "the clocks differ by ", "put the clocks right", pki.Expired},
		{"a head's clock two hours behind", -2 * time.Hour, 0, false, pki.Expired, "the clocks differ by 5", "put the clocks right", pki.NotYetValid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log, logger := newLog()
			head := identity(t, ours, pki.RoleHead, "h", now, 24*time.Hour, pki.Options{Logger: logger, Now: clock(test.headClock)})
			listener := head.Listen(listenTCP(t), forWorkers)
			serve(t, listener)
			told, nodeLogger := newLog()
			node := identity(t, ours, pki.RoleWorker, "w", now, time.Hour, pki.Options{Logger: nodeLogger, Now: clock(test.nodeClock)})
			if test.revoked {
				head.Revoke([]string{node.Peer().Serial})
			}
			begun := time.Now()
			// What is written before the refusal is read must not make it get lost.
			for range 10 {
				conn, err := node.Dial(t.Context(), listener.Addr().String(), pki.ProtocolGRPC, pki.RoleHead)
				if err != nil {
					t.Fatal(err)
				}
				err = echo(conn)
				var refusal *pki.Refusal
				var e *engine.Error
				want := strings.ReplaceAll(test.want, "SERIAL", node.Peer().Serial)
				switch {
				case !errors.As(err, &refusal) || !errors.As(err, &e) || refusal.Reason != test.reason || engine.KindOf(err) != engine.KindUnauthenticated:
					t.Fatalf("error %v", err)
				case !strings.Contains(err.Error(), want) || !strings.Contains(e.Hint, test.hint):
					t.Fatalf("error %v, hint %q, expected %q and %q", err, e.Hint, want, test.hint)
				case node.Rejected() != refusal:
					t.Errorf("it remembers %v", node.Rejected())
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
			log.await(t, "reason="+quoted(test.listened))
			if n := strings.Count(told.String(), "this node's certificate is refused"); n != 1 && time.Since(begun) < time.Minute {
				t.Errorf("%d lines in the log, expected one a minute:\n%s", n, told)
			}
		})
	}
}
