package pki

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/f708428e/engine"
)

// ServerCredentials tell the handlers of a gRPC server what is known of their callers by their connections; LinkOf returns it. They do no
// handshakes: Listen has done them. Connections that are not TLS are accepted from this machine alone, unless exposed says that they may come
// from anywhere.
func ServerCredentials(exposed bool) credentials.TransportCredentials {
	return serverCredentials{exposed: exposed}
}

type serverCredentials struct{ exposed bool }

// ServerHandshake implements credentials.TransportCredentials.
func (c serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	link, state, err := linkOf(conn, c.exposed)
	if err != nil {
		return nil, nil, err
	}
	return conn, newLinkInfo(link, state), nil
}

func newLinkInfo(link Link, state tls.ConnectionState) LinkInfo {
	info := LinkInfo{Link: link, State: state}
	info.SecurityLevel = credentials.NoSecurity
	if link.Encrypted || link.InProcess {
		info.SecurityLevel = credentials.PrivacyAndIntegrity
	}
	return info
}

// LinkOfConn says what is known of whoever is at the other end of a connection: one that Listen has accepted, or one in clear text, which must
// come from this machine.
func LinkOfConn(conn net.Conn) (Link, error) {
	link, _, err := linkOf(conn, false)
	return link, err
}

// StateOf returns the state of the TLS below a connection; false if there is none.
func StateOf(conn net.Conn) (tls.ConnectionState, bool) {
	for {
		if secured, ok := conn.(*tls.Conn); ok {
			return secured.ConnectionState(), true
		}
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return tls.ConnectionState{}, false
		}
		conn = wrapped.NetConn()
	}
}

func linkOf(conn net.Conn, exposed bool) (Link, tls.ConnectionState, error) {
	if state, secured := StateOf(conn); secured {
		link := Link{Encrypted: true}
		if len(state.PeerCertificates) == 0 {
			return link, state, nil
		}
		peer, err := PeerOf(state)
		link.Peer = &peer
		return link, state, err
	}
	remote := conn.RemoteAddr()
	if address, err := netip.ParseAddrPort(remote.String()); err == nil && !exposed && !address.Addr().Unmap().IsLoopback() {
		return Link{}, tls.ConnectionState{}, engine.Errorf(engine.KindUnauthenticated, "accept", remote.String(), "a connection in clear text from another machine")
	}
	return Link{InProcess: isInProcess(remote)}, tls.ConnectionState{}, nil
}

// isInProcess reports whether an address is that of a connection through this process's memory.
func isInProcess(address net.Addr) bool { return address.Network() == "bufconn" }

// ClientHandshake implements credentials.TransportCredentials.
func (serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, engine.Errorf(engine.KindInternal, "connect", "", "these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "engine"}
}

// Clone implements credentials.TransportCredentials.
func (c serverCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (serverCredentials) OverrideServerName(string) error { return nil }

// ClientCredentials are those of gRPC connections to peers of the given roles.
func (i *Identity) ClientCredentials(roles ...string) credentials.TransportCredentials {
	return &clientCredentials{identity: i, roles: roles}
}

type clientCredentials struct {
	identity *Identity
	roles    []string
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *clientCredentials) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if isInProcess(raw.RemoteAddr()) {
		return raw, newLinkInfo(Link{InProcess: true}, tls.ConnectionState{}), nil // It does not leave this process.
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	conn, err := c.identity.Client(ctx, raw, ProtocolGRPC, c.roles...)
	if err != nil {
		return nil, nil, err
	}
	state, _ := StateOf(conn)
	peer, err := PeerOf(state)
	if err != nil {
		return nil, nil, err
	}
	return conn, newLinkInfo(Link{Encrypted: true, Peer: &peer}, state), nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, engine.Errorf(engine.KindInternal, "accept", "", "these credentials are a client's")
}

// Info implements credentials.TransportCredentials.
func (c *clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", SecurityVersion: "1.3"} //nolint:staticcheck // gRPC's own fill it, too.
}

// Clone implements credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials {
	copied := *c
	return &copied
}

// OverrideServerName implements credentials.TransportCredentials.
func (*clientCredentials) OverrideServerName(string) error { return nil }

// Dial connects to a peer of the given roles over TCP, and begins TLS for a protocol.
func (i *Identity) Dial(ctx context.Context, address, protocol string, roles ...string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, engine.Errorf(engine.KindUnavailable, "connect", address, "%w", err)
	}
	if protocol == ProtocolObjects {
		raw = readAhead(raw)
	}
	return i.Client(ctx, raw, protocol, roles...)
}
