package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
)

// The protocols of links, as TLS negotiates them, so that what is meant for one cannot be taken by another.
const (
	ProtocolGRPC = "h2"
	ProtocolHTTP = "http/1.1"
	ProtocolRaft = "engine-raft"
	// ProtocolObjects is that of connections that carry one object from node to node.
	ProtocolObjects = "engine-objects"
)

// Identity is who a process is on every link, and whom it accepts there: its certificate, which may be replaced at any time, the authority
// that it trusts, and the certificates that were revoked. Connections with a certificate that is revoked, or ends, are closed.
// It is safe for concurrent use.
type Identity struct {
	logger   *slog.Logger
	now      func() time.Time
	refusals refusals
	conns    registry
	// rejections are of other ends, refusals of this one.
	rejections rejections
	// held is nil for a client that shows no certificate.
	held atomic.Pointer[held]
	// trusted is nil for a client that knows its authority by pin, the fingerprint, alone.
	trusted atomic.Pointer[trusted]
	pin     string
	revoked atomic.Pointer[map[string]struct{}]
	// changed is closed, and replaced, when held changes.
	changed atomic.Pointer[chan struct{}]
}

// held is a certificate with its key. It is immutable.
type held struct {
	tls  tls.Certificate
	leaf *x509.Certificate
	peer Peer
}

// trusted are the authorities. It is immutable.
type trusted struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// Options are what an identity is made with beside its certificate.
type Options struct {
	// Logger hears of refused connections. Nil means that nobody does.
	Logger *slog.Logger
	// Now replaces the clock, for tests.
	Now func() time.Time
}

func newIdentity(options Options) *Identity {
	i := &Identity{logger: options.Logger, now: options.Now}
	if i.logger == nil {
		i.logger = slog.New(slog.DiscardHandler)
	}
	if i.now == nil {
		i.now = time.Now
	}
	i.refusals.logger = i.logger
	i.conns.now = i.now
	none, changed := map[string]struct{}{}, make(chan struct{})
	i.revoked.Store(&none)
	i.changed.Store(&changed)
	return i
}

// NewIdentity makes the identity of a node from what its authority has signed. The certificate may have run out, which every link then
// says.
func NewIdentity(cert *x509.Certificate, key *ecdsa.PrivateKey, authority *x509.Certificate, options Options) (*Identity, error) {
	i := newIdentity(options)
	i.trust([]*x509.Certificate{authority})
	err := i.hold(cert, []*x509.Certificate{authority}, key)
	return i, err
}

// NewClient makes the identity of a client that shows no certificate and knows the authority of its cluster: by its certificate in PEM, or
// if that is empty by its fingerprint.
func NewClient(authority []byte, fingerprint string, options Options) (*Identity, error) {
	i := newIdentity(options)
	if len(authority) > 0 {
		certs, err := decodeCertificates(authority, CAFile)
		if err != nil {
			return nil, err
		}
		i.trust(certs)
		return i, nil
	}
	pin := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(fingerprint), "sha256:"), ":", ""))
	if bytes, err := hex.DecodeString(pin); err != nil || len(bytes) != sha256.Size {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read fingerprint", fingerprint, "expected the %d hexadecimal digits of a SHA-256", 2*sha256.Size)
	}
	i.pin = pin
	return i, nil
}

func (i *Identity) trust(certs []*x509.Certificate) {
	t := &trusted{certs: certs, pool: x509.NewCertPool()}
	for _, cert := range certs {
		t.pool.AddCert(cert)
	}
	i.trusted.Store(t)
}

// hold makes the identity show another certificate from the next handshake on. rest goes with it, so that whoever knows the authority by its
// fingerprint sees it.
func (i *Identity) hold(cert *x509.Certificate, rest []*x509.Certificate, key any) error {
	peer, err := PeerIn(cert)
	if err != nil {
		return err
	}
	own, ok := key.(crypto.Signer)
	if !ok || !samePublicKey(own.Public(), cert.PublicKey) {
		return engine.Errorf(engine.KindInvalidArgument, "read certificate", cert.Subject.CommonName, "the key is not that of the certificate")
	}
	h := &held{leaf: cert, peer: peer, tls: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}}
	for _, other := range rest {
		h.tls.Certificate = append(h.tls.Certificate, other.Raw)
	}
	i.held.Store(h)
	changed := make(chan struct{})
	close(*i.changed.Swap(&changed))
	return nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	public, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b)
}

// Peer is who the identity says to be; zero for a client without a certificate.
func (i *Identity) Peer() Peer {
	if h := i.held.Load(); h != nil {
		return h.peer
	}
	return Peer{}
}

// Ends is when the certificate ends; zero if there is none.
func (i *Identity) Ends() time.Time {
	if h := i.held.Load(); h != nil {
		return h.leaf.NotAfter
	}
	return time.Time{}
}

// Fingerprint is that of the first authority.
func (i *Identity) Fingerprint() string {
	if t := i.trusted.Load(); t != nil {
		return Fingerprint(t.certs[0])
	}
	return i.pin
}

// Revoke replaces the list of the serial numbers of certificates that are refused from now on. Their connections are closed.
func (i *Identity) Revoke(serials []string) {
	next := make(map[string]struct{}, len(serials))
	for _, serial := range serials {
		next[serial] = struct{}{}
	}
	i.revoked.Store(&next)
	i.conns.closeIf(func(p Peer) bool {
		_, revoked := next[p.Serial]
		return revoked
	})
}

// BreakConnections closes the connections whose other end has shown a certificate. Others can be made. It is for tests.
func (i *Identity) BreakConnections() { i.conns.closeIf(func(Peer) bool { return true }) }

// Close closes the connections. What is handshaken later is closed at once.
func (i *Identity) Close() { i.conns.end() }

// verify finds out who has shown a certificate, or why that is not accepted. roles are those that are.
func (i *Identity) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, roles []string) (Peer, *Refusal) {
	leaf := chain[0]
	serial := leaf.SerialNumber.Text(16)
	roots, err := i.roots(chain)
	if err != nil {
		return Peer{}, err
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: i.now(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, other := range chain[1:] {
		options.Intermediates.AddCert(other)
	}
	if _, err := leaf.Verify(options); err != nil {
		return Peer{}, i.explain(leaf, err, options)
	}
	peer, peerErr := PeerIn(leaf)
	if peerErr != nil {
		return Peer{}, &Refusal{Reason: Malformed, cause: peerErr}
	}
	own := i.Peer().Cluster
	_, revoked := (*i.revoked.Load())[serial]
	switch {
	case revoked:
		return Peer{}, refuse(Revoked, serial, "the certificate of %s was revoked", peer)
	case own != "" && peer.Cluster != own:
		return Peer{}, refuse(WrongCluster, serial, "the certificate of %s is of cluster %s, and this is %s", peer, peer.Cluster, own)
	case !slices.Contains(roles, peer.Role):
		return Peer{}, refuse(WrongRole, serial, "the certificate is that of %s, and this link is for %s", peer, strings.Join(roles, ", "))
	}
	return peer, nil
}

// roots are the authorities to which a chain may lead.
func (i *Identity) roots(chain []*x509.Certificate) (*x509.CertPool, *Refusal) {
	if t := i.trusted.Load(); t != nil {
		return t.pool, nil
	}
	for _, cert := range chain {
		if cert.IsCA && Fingerprint(cert) == i.pin {
			pool := x509.NewCertPool()
			pool.AddCert(cert)
			return pool, nil
		}
	}
	return nil, refuse(ForeignAuthority, chain[0].SerialNumber.Text(16), "it shows the authority sha256:%s, expected sha256:%s: it is of another cluster, or somebody is in between",
		Fingerprint(chain[len(chain)-1]), i.pin)
}

// explain says why a certificate was not verified.
func (i *Identity) explain(leaf *x509.Certificate, err error, options x509.VerifyOptions) *Refusal {
	serial, now := leaf.SerialNumber.Text(16), options.CurrentTime
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		// Whether the authority is the right one is found out at a time at which the certificate was good.
		options.CurrentTime = leaf.NotAfter
		if _, foreign := leaf.Verify(options); foreign == nil {
			subject := leaf.Subject.CommonName
			if now.Before(leaf.NotBefore) {
				return refuse(NotYetValid, serial, "the certificate of %s is good from %s on, and it is %s here: a clock is wrong by %s or more", subject, stamp(leaf.NotBefore), stamp(now), leaf.NotBefore.Sub(now).Truncate(time.Second))
			}
			return refuse(Expired, serial, "the certificate of %s has ended at %s, and it is %s here: it was not renewed, or a clock is wrong by %s or more", subject, stamp(leaf.NotAfter), stamp(now), now.Sub(leaf.NotAfter).Truncate(time.Second))
		}
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &invalid) && invalid.Reason != x509.Expired && invalid.Reason != x509.NotAuthorizedToSign {
		if invalid.Reason == x509.IncompatibleUsage {
			return refuse(WrongRole, serial, "the certificate of %s is not for this end of a connection", leaf.Subject.CommonName)
		}
		return refuse(Malformed, serial, "%w", err)
	}
	if errors.As(err, &unknown) || invalid.Reason == x509.Expired || invalid.Reason == x509.NotAuthorizedToSign {
		return refuse(ForeignAuthority, serial, "the certificate of %q was signed by %q, whom this cluster does not know", leaf.Subject.CommonName, leaf.Issuer.CommonName)
	}
	return refuse(Malformed, serial, "%w", err)
}

// Accept says whom a link accepts.
type Accept struct {
	// Link names the link in the log.
	Link string
	// Roles are those that a certificate may have.
	Roles []string
	// Anonymous accepts connections without a certificate, too: whoever serves them must find out otherwise who calls.
	Anonymous bool
	// Protocols are those of the link. Required.
	Protocols []string
	// ByProtocol has the roles for protocols that accept others than Roles, and never anonymous ones.
	ByProtocol map[string][]string
}

// serverConfig is the TLS of the end that listens.
func (i *Identity) serverConfig(accept Accept) *tls.Config {
	config := &tls.Config{
		// TLS itself looks at the certificate first: it then tells the other end what is wrong with it, which VerifyConnection cannot.
		MinVersion: tls.VersionTLS13, NextProtos: accept.Protocols, ClientAuth: tls.VerifyClientCertIfGiven, Time: i.now, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &i.held.Load().tls, nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			roles, anonymous := accept.Roles, accept.Anonymous
			if own, ok := accept.ByProtocol[state.NegotiatedProtocol]; ok {
				roles, anonymous = own, false
			}
			if len(state.PeerCertificates) == 0 {
				if anonymous {
					return nil
				}
				return refuse(NoCertificate, "", "it has shown no certificate, and this link is for %s", strings.Join(roles, ", "))
			}
			if _, refusal := i.verify(state.PeerCertificates, x509.ExtKeyUsageClientAuth, roles); refusal != nil {
				return refusal
			}
			return nil
		},
	}
	if t := i.trusted.Load(); t != nil {
		config.ClientCAs = t.pool
	}
	return config
}

// Client begins TLS on a connection to a peer that must have one of the roles, over which a protocol is to be spoken. It closes the connection
// if that fails; the error wraps a *Refusal if this end has refused the other.
func (i *Identity) Client(ctx context.Context, raw net.Conn, protocol string, roles ...string) (net.Conn, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		// Nodes are known by their role in their cluster, not by where they are reached: VerifyConnection looks at that.
		InsecureSkipVerify: true, //nolint:gosec // See above.
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != protocol {
				return refuse(Handshake, "", "it does not speak %s here", protocol)
			}
			if _, refusal := i.verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth, roles); refusal != nil {
				return refusal
			}
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if h := i.held.Load(); h != nil {
				return &h.tls, nil
			}
			return &tls.Certificate{}, nil
		},
	}
	tracked := i.conns.track(raw)
	conn := tls.Client(tracked, config)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		err = i.admit(tracked, conn)
	}
	if err != nil {
		_ = tracked.Close() // It is of no use.
		var header tls.RecordHeaderError
		if errors.As(err, &header) {
			err = engine.Errorf(engine.KindUnauthenticated, "connect", raw.RemoteAddr().String(), "it does not speak TLS: is that head on loopback alone?")
		}
		return nil, err
	}
	return &secureConn{Conn: conn, below: tracked, explain: func(err error) error { return i.explainAlert(err, raw.RemoteAddr(), protocol) }}, nil
}

// admit remembers a connection by its peer, until that one's certificate ends.
func (i *Identity) admit(tracked *trackedConn, conn *tls.Conn) error {
	state := conn.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	peer, err := PeerOf(state)
	if err != nil {
		return err
	}
	i.conns.admit(tracked, peer, state.PeerCertificates[0].NotAfter)
	if _, revoked := (*i.revoked.Load())[peer.Serial]; revoked { // Meanwhile.
		return refuse(Revoked, peer.Serial, "the certificate of %s was revoked", peer)
	}
	return nil
}
