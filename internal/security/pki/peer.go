package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"

	"github.com/f708428e/engine"
)

// The roles that a certificate can give. What each may do is decided in internal/security/access; here they say which links accept it.
const (
	// RoleHead is a head's: it speaks raft, and everything that a worker does.
	RoleHead = "head"
	// RoleWorker is a worker's.
	RoleWorker = "worker"
	// RoleAdmin is that of whoever runs the cluster: its certificate lies in the head's data folder.
	RoleAdmin = "admin"
)

const opPeer = "identify peer"

// Peer is who is at the other end of a connection, as the certificate says which was verified. It is a value.
type Peer struct {
	// Cluster names the cluster whose authority has signed the certificate.
	Cluster string
	// Role is one of the roles above, and Name tells apart who has it.
	Role, Name string
	// Serial is the certificate's serial number, in lower-case hexadecimal digits.
	Serial string
}

// URI is the name in a certificate that says who has it: engine://cluster/<id>/role/<role>/name/<name>.
func (p Peer) URI() *url.URL {
	return &url.URL{
		Scheme: uriScheme, Host: "cluster", Path: "/" + p.Cluster + "/role/" + p.Role + "/name/" + p.Name,
		RawPath: "/" + url.PathEscape(p.Cluster) + "/role/" + url.PathEscape(p.Role) + "/name/" + url.PathEscape(p.Name),
	}
}

func (p Peer) uris() []*url.URL { return []*url.URL{p.URI()} }

// String is "role name", for people.
func (p Peer) String() string { return p.Role + " " + p.Name }

const uriScheme = "engine"

// PeerOf says who is at the other end of a connection whose handshake is over. The error is of kind engine.KindUnauthenticated if it has
// shown no certificate, or one that is not of a node of a cluster. The certificate is the one that the handshake has verified.
func PeerOf(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, engine.Errorf(engine.KindUnauthenticated, opPeer, "", "it has shown no certificate")
	}
	return PeerIn(state.PeerCertificates[0])
}

// PeerIn says whose a certificate is, without verifying it. The error is of kind engine.KindUnauthenticated if it does not say so.
func PeerIn(cert *x509.Certificate) (Peer, error) {
	serial := cert.SerialNumber.Text(16)
	var found *Peer
	for _, uri := range cert.URIs {
		if uri.Scheme != uriScheme {
			continue
		}
		peer, ok := parseURI(uri)
		if !ok || found != nil {
			return Peer{}, engine.Errorf(engine.KindUnauthenticated, opPeer, serial,
				"expected one name like engine://cluster/ID/role/ROLE/name/NAME in the certificate, found %q", uri)
		}
		peer.Serial = serial
		found = &peer
	}
	if found == nil {
		return Peer{}, engine.Errorf(engine.KindUnauthenticated, opPeer, serial,
			"the certificate of %q has no name like engine://cluster/ID/role/ROLE/name/NAME", cert.Subject)
	}
	return *found, nil
}

// maxName bounds each part of a peer's name.
const maxName = 128

func parseURI(uri *url.URL) (Peer, bool) {
	if uri.Host != "cluster" || uri.User != nil || uri.RawQuery != "" || uri.Fragment != "" || uri.Opaque != "" {
		return Peer{}, false
	}
	parts := strings.Split(uri.EscapedPath(), "/")
	if len(parts) != 6 || parts[0] != "" || parts[2] != "role" || parts[4] != "name" {
		return Peer{}, false
	}
	var names [3]string
	for i, part := range []string{parts[1], parts[3], parts[5]} {
		name, err := url.PathUnescape(part)
		if err != nil || !isName(name) {
			return Peer{}, false
		}
		names[i] = name
	}
	return Peer{Cluster: names[0], Role: names[1], Name: names[2]}, true
}

// isName reports whether a text can be a part of a peer's name: letters, digits, and - . _ alone, so that no two ways to write it are one name.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}
