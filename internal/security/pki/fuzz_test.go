package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/security/pki"
)

// FuzzSign has an authority sign what a stranger with a token asks for: what comes of it has the role and the name that were asked for, and
// the addresses alone that were.
func FuzzSign(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "tls")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	authority, _, err := pki.OpenAuthority(dir, now)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "w-1", "127.0.0.1")
	f.Add(good, "../w\n", "head.engine")
	f.Add(good[:len(good)/2], "w", "*")
	f.Fuzz(func(t *testing.T, csr []byte, name, host string) {
		cert, err := authority.Sign(pki.Request{CSR: csr, Role: pki.RoleWorker, Name: name, Hosts: []string{host}}, now)
		if err != nil {
			return
		}
		peer, err := pki.PeerIn(cert)
		if err != nil || peer.Role != pki.RoleWorker || peer.Name != name || peer.Cluster != authority.Cluster() {
			t.Errorf("it has signed %+v (%v) for %q", peer, err, name)
		}
		if len(cert.URIs) != 1 || len(cert.DNSNames)+len(cert.IPAddresses) > 2 {
			t.Errorf("it has signed %v, %v, %v", cert.URIs, cert.DNSNames, cert.IPAddresses)
		}
	})
}
