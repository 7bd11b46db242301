package pki

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Link says what is known of whoever is at the other end of a connection by the connection alone. It is a value.
type Link struct {
	// Encrypted says that the connection is TLS. One that is not comes from this machine.
	Encrypted bool
	// Peer is who has shown a certificate of this cluster, which was verified; nil if none was shown.
	Peer *Peer
	// InProcess says that it comes from this process, through memory.
	InProcess bool
}

// LinkInfo is what a connection's credentials tell gRPC's handlers of it.
type LinkInfo struct {
	credentials.CommonAuthInfo
	Link
	// State is the handshake's outcome; zero without TLS.
	State tls.ConnectionState
}

// AuthType implements credentials.AuthInfo.
func (LinkInfo) AuthType() string { return "engine" }

// LinkOf returns what is known of the caller of a gRPC handler by its connection. It is false for a server that has not the credentials of
// this package.
func LinkOf(ctx context.Context) (Link, bool) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return Link{}, false
	}
	info, ok := caller.AuthInfo.(LinkInfo)
	return info.Link, ok
}
