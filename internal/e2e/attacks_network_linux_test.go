package e2e_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	"crypto/ecdsa"
	"crypto/elliptic"
)

// without makes a certificate of the cluster's authority with another name than that of a node; nil for none.
func (f *forger) without(name *url.URL) tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if name != nil {
		template.URIs = []*url.URL{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca, &key.PublicKey, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dialTLS makes a connection with a handshake that is over, or fails the test.
func (b *besieged) dialTLS(address string, protocols ...string) net.Conn {
	b.place.t.Helper()
	conn, err := (&tls.Dialer{Config: attackersTLS(nil, protocols...)}).DialContext(b.place.t.Context(), "tcp", address)
	if err != nil {
		b.place.t.Fatal(err)
	}
	return conn
}

func (b *besieged) dialPlain(address string) net.Conn {
	b.place.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.place.t.Context(), "tcp", address)
	if err != nil {
		b.place.t.Fatal(err)
	}
	return conn
}

// gossipPort is the head's.
func (b *besieged) gossipPort() string {
	b.place.t.Helper()
	known := b.tlsPorts()
	for _, address := range ports(b.place.t, b.head.Pid) {
		if address != known[0] && address != known[1] && address != b.head.Flight {
			return address
		}
	}
	b.place.t.Fatal("the head has no gossip port")
	return ""
}

// packet sends a datagram to the head's gossip port, which begins with the cluster's name as those of members do.
func (b *besieged) packet(content string) string {
	b.place.t.Helper()
	const labelled = 244
	content = string([]byte{labelled, byte(len(b.object.Cluster))}) + b.object.Cluster + content
	conn, err := (&net.Dialer{}).DialContext(b.place.t.Context(), "udp", b.gossipPort())
	if err != nil {
		b.place.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(content)); err != nil {
		b.place.t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1024)); err == nil || n > 0 || !isTimeout(err) {
		return fmt.Sprintf("%s: %d bytes, %v", b.gossipPort(), n, err)
	}
	return "no answer"
}

func period(from, until time.Duration) (time.Time, time.Time) {
	return time.Now().Add(from), time.Now().Add(until)
}

const (
	closed      = "closed: "
	refusedRaft = "no connection"
)

var networkAttacks = []attack{
	{does: "speaks HTTP in clear text to every TCP port", gets: []string{closed, "no answer"}, logged: []string{"link=head", `reason="plain text"`}, try: func(b *besieged) string {
		for _, address := range b.tlsPorts() {
			if said := shout(b.place.t, address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); len(said) > 0 {
				return string(said)
			}
		}
		return closed + "no answer"
	}},
	{does: "speaks gRPC in clear text to the head's port", gets: []string{closed, "no answer"}, logged: []string{"link=head", `reason="plain text"`}, try: func(b *besieged) string {
		if said := shout(b.place.t, b.head.Address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); len(said) > 0 {
			return string(said)
		}
		return closed + "no answer"
	}},
	{does: "speaks raft in clear text", gets: []string{closed, "no answer"}, try: func(b *besieged) string {
		if said := shout(b.place.t, b.head.Address, "engine-raft 1\n\x04head"); len(said) > 0 {
			return string(said)
		}
		return closed + "no answer"
	}},
	{does: "offers TLS 1.2 at most", gets: []string{"protocol version"}, logged: []string{`reason="version of TLS"`}, try: func(b *besieged) string {
		var said []string
		for _, address := range b.tlsPorts() {
			config := attackersTLS(nil, "h2", "http/1.1")
			config.MaxVersion = tls.VersionTLS12
			_, err := (&tls.Dialer{Config: config}).DialContext(b.place.t.Context(), "tcp", address)
			if err == nil {
				return "let in at " + address
			}
			said = append(said, err.Error())
		}
		return strings.Join(said, "; ")
	}},
	{does: "shows a certificate of an authority of its own that has the cluster's name", gets: []string{shutOut}, logged: []string{`reason="foreign authority"`}, try: func(b *besieged) string {
		from, until := period(-time.Hour, time.Hour)
		c := b.ours.foreign().certificate("admin", "root", from, until)
		return b.everywhere(&c)
	}},
	{does: "shows an admin's certificate that has expired", gets: []string{shutOut}, logged: []string{`reason=expired`}, try: func(b *besieged) string {
		from, until := period(-time.Hour, -time.Second)
		c := b.ours.certificate("admin", "root", from, until)
		return b.everywhere(&c)
	}},
	{does: "shows a certificate of the future, by a clock that is two hours ahead", gets: []string{shutOut}, logged: []string{`reason="not yet valid"`}, try: func(b *besieged) string {
		from, until := period(2*time.Hour, 3*time.Hour)
		c := b.ours.certificate("admin", "root", from, until)
		return b.everywhere(&c)
	}},
	{does: "shows the certificate of a worker that was revoked", gets: []string{shutOut}, logged: []string{"reason=revoked"}, try: func(b *besieged) string {
		var said string
		// The worker hears of it a moment later than the head.
		eventually(b.place.t, "the refusal", func() bool {
			said = b.everywhere(&b.gone)
			return !strings.HasPrefix(said, "let in")
		})
		return said
	}},
	{does: "shows a certificate with a role that there is not", gets: []string{shutOut}, logged: []string{`reason="wrong role"`}, try: func(b *besieged) string {
		return b.everywhere(b.certificate("root", "me"))
	}},
	{does: "shows a certificate of the authority that names another cluster", gets: []string{shutOut}, logged: []string{`reason="wrong cluster"`}, try: func(b *besieged) string {
		f := *b.ours
		f.cluster = "another"
		from, until := period(-time.Hour, time.Hour)
		c := f.certificate("admin", "root", from, until)
		return b.everywhere(&c)
	}},
	{does: "shows a web server's certificate of the authority, without a node's name", gets: []string{shutOut}, logged: []string{`reason="malformed certificate"`}, try: func(b *besieged) string {
		c := b.ours.without(nil)
		return b.everywhere(&c)
	}},
	{does: "hides a second role in its certificate's name behind a %2F", gets: []string{shutOut}, logged: []string{`reason="malformed certificate"`}, try: func(b *besieged) string {
		c := b.ours.without(&url.URL{Scheme: "engine", Host: "cluster", Path: "/" + b.ours.cluster + "/role/admin/name/x/role/worker", RawPath: "/" + b.ours.cluster + "/role/admin/name/x%2Frole%2Fworker"})
		return b.everywhere(&c)
	}},
	{does: "speaks raft with a worker's certificate", gets: []string{refusedRaft}, logged: []string{"link=head", `reason="wrong role"`}, try: func(b *besieged) string {
		if err := breakIn(b.place.t, b.head.Address, b.certificate("worker", "w-9"), "engine-raft"); err != nil {
			return refusedRaft
		}
		return "let in"
	}},
	{does: "speaks raft without a certificate", gets: []string{refusedRaft}, logged: []string{"link=head", `reason="no certificate"`}, try: func(b *besieged) string {
		if err := breakIn(b.place.t, b.head.Address, nil, "engine-raft"); err != nil {
			return refusedRaft
		}
		return "let in"
	}},
	{does: "gossips in clear text, under the cluster's name, that a worker is dead", gets: []string{"no answer"}, logged: []string{"link=gossip", "not encrypted by a key of this cluster"}, try: func(b *besieged) string {
		return b.packet("\x06\x83\xabIncarnation\x01\xa4Node\xa3w-1\xa4From\xa4evil")
	}},
	{does: "gossips under a key of its own", gets: []string{"no answer"}, logged: []string{"link=gossip", "not encrypted by a key of this cluster"}, try: func(b *besieged) string {
		sealed := make([]byte, 200)
		_, _ = rand.Read(sealed) // It never fails.
		sealed[0] = 1            // As an encrypted packet begins.
		return b.packet(string(sealed))
	}},
	{does: "asks the gossip's TCP port for the list of nodes", gets: []string{closed, "no answer"}, try: func(b *besieged) string {
		if said := shout(b.place.t, b.gossipPort(), "\x06\x83\xa5Nodes\x00\xacUserStateLen\x00\xa4Join\xc3"+strings.Repeat("\x00", 64)); strings.Contains(string(said), "w-1") {
			return string(said)
		}
		return closed + "no answer"
	}},
	{does: "begins handshakes and never ends them", slow: true, gets: []string{closed, "others were served"}, try: func(b *besieged) string {
		var held []net.Conn
		for range 100 {
			conn := b.dialPlain(b.head.Address)
			if _, err := conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc}); err != nil {
				b.place.t.Fatal(err)
			}
			held = append(held, conn)
		}
		b.must("status", "--address", b.head.Address, "--tls-ca", b.ca(), "--token", b.tokens["alice"])
		for _, conn := range held {
			if said := b.raw(conn, ""); !strings.HasPrefix(said, closed) {
				return said
			}
		}
		return closed + "others were served"
	}},
}
