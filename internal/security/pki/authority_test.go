package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

var epoch = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func TestAuthorityFolder(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := pki.OpenFolder(data)
	if err != nil {
		t.Fatal(err)
	}
	a, made, err := pki.OpenAuthority(dir, time.Now())
	if err != nil || !made {
		t.Fatalf("made %v: %v", made, err)
	}
	again, made, err := pki.OpenAuthority(dir, time.Now())
	if err != nil || made || again.Fingerprint() != a.Fingerprint() || again.Cluster() != a.Cluster() {
		t.Fatalf("made %v, %s and %s: %v", made, again.Fingerprint(), a.Fingerprint(), err)
	}
	if err := a.WriteAdmin(dir, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has permissions %#o, expected %#o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pki.LoadClient(dir, pki.Options{})
	if err != nil || admin.Peer().Role != pki.RoleAdmin {
		t.Fatalf("%v: %v", admin.Peer(), err)
	}
	copied, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := pki.ParseAuthority(copied); err != nil || other.Fingerprint() != a.Fingerprint() {
		t.Fatalf("the copy for another head: %v", err)
	}
}

// TestOpenPermissions refuses what others may have read.
func TestOpenPermissions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path string
		mode       fs.FileMode
		folder     bool
	}{
		{"data folder for all", ".", 0o755, true},
		{"data folder for the group", ".", 0o750, true},
		{"folder of certificates", "tls", 0o711, true},
		{"key", "tls/ca.key", 0o644, false},
		{"key for the group", "tls/ca.key", 0o640, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(data, 0o700); err != nil {
				t.Fatal(err)
			}
			dir, err := pki.OpenFolder(data)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := pki.OpenAuthority(dir, epoch); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(data, test.path), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err = pki.OpenFolder(data)
			if !test.folder && err == nil {
				_, _, err = pki.OpenAuthority(dir, epoch)
			}
			if engine.KindOf(err) != engine.KindPermission || !strings.Contains(err.Error(), "others may use it") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestHalfAnAuthority never makes a second one where one half of the first is missing.
func TestHalfAnAuthority(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"ca.pem", "ca.key"} {
		dir := t.TempDir()
		if _, _, err := pki.OpenAuthority(dir, epoch); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, missing)); err != nil {
			t.Fatal(err)
		}
		if _, made, err := pki.OpenAuthority(dir, epoch); err == nil || made {
			t.Errorf("without %s: made %v, error %v", missing, made, err)
		}
	}
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, _, err := pki.OpenAuthority(d, epoch); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(other, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "ca.key", text, 0o600)
	if _, err := pki.LoadAuthority(dir); err == nil || !strings.Contains(err.Error(), "not that of the certificate") {
		t.Errorf("with another's key: %v", err)
	}
	if _, err := pki.LoadAuthority(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without any: %v", err)
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	a, err := pki.NewAuthority(epoch)
	if err != nil {
		t.Fatal(err)
	}
	_, csr, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Sign(pki.Request{CSR: csr, Role: pki.RoleWorker, Name: "w-1", Hosts: []string{"10.0.0.7", "w1.example"}, Life: time.Hour}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := pki.PeerIn(cert)
	if err != nil || peer.URI().String() != "engine://cluster/"+a.Cluster()+"/role/worker/name/w-1" {
		t.Errorf("%+v: %v", peer, err)
	}
	if cert.IsCA || !cert.NotAfter.Equal(epoch.Add(time.Hour)) || !cert.NotBefore.Equal(epoch.Add(-pki.MaxSkew)) || len(cert.IPAddresses) != 1 || len(cert.DNSNames) != 2 {
		t.Errorf("certificate %+v", cert)
	}

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCSR, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte(nil), csr...)
	forged[len(forged)-1] ^= 1
	for name, request := range map[string]pki.Request{
		"no request":    {Role: pki.RoleWorker, Name: "w"},
		"forged":        {CSR: forged, Role: pki.RoleWorker, Name: "w"},
		"another curve": {CSR: rsaCSR, Role: pki.RoleWorker, Name: "w"},
		"role":          {CSR: csr, Role: "authority", Name: "w"},
		"no role":       {CSR: csr, Name: "w"},
		"no name":       {CSR: csr, Role: pki.RoleWorker},
		"name":          {CSR: csr, Role: pki.RoleWorker, Name: "w/../role/head"},
		"long name":     {CSR: csr, Role: pki.RoleWorker, Name: strings.Repeat("w", 129)},
		"life":          {CSR: csr, Role: pki.RoleWorker, Name: "w", Life: time.Second},
		"a head's name": {CSR: csr, Role: pki.RoleWorker, Name: "w", Hosts: []string{"Head.engine.internal."}},
		"a wildcard":    {CSR: csr, Role: pki.RoleWorker, Name: "w", Hosts: []string{"*.example"}},
		"hosts":         {CSR: csr, Role: pki.RoleWorker, Name: "w", Hosts: make([]string, 65)},
	} {
		if _, err := a.Sign(request, epoch); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPeerIn reads one name of one form alone.
func TestPeerIn(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const good = "engine://cluster/c/role/worker/name/n"
	for _, test := range []struct {
		uris []string
		ok   bool
	}{
		{[]string{good}, true},
		{[]string{"spiffe://x/y", good}, true},
		{nil, false},
		{[]string{"spiffe://x/y"}, false},
		{[]string{good, "engine://cluster/c/role/head/name/n"}, false},
		{[]string{good, "engine://nonsense"}, false},
		{[]string{"engine://cluster/c/role/worker/name/n/role/head/name/n"}, false},
		{[]string{"engine://cluster/c/role/worker/name/"}, false},
		{[]string{"engine://cluster/c/role/worker/name/a%2Fb"}, false},
		{[]string{"engine://cluster/c/role/worker/name/a%00"}, false},
		{[]string{"engine://cluster/c/role//name/n"}, false},
		{[]string{"engine://other/c/role/worker/name/n"}, false},
		{[]string{"engine://u@cluster/c/role/worker/name/n"}, false},
		{[]string{good + "?x=1"}, false},
		{[]string{good + "#x"}, false},
	} {
		template := &x509.Certificate{SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: "x"}}
		for _, text := range test.uris {
			uri, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, uri)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := pki.PeerIn(parse(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		if (err == nil) != test.ok {
			t.Errorf("%q: %+v, %v", test.uris, peer, err)
		}
		if test.ok && peer != (pki.Peer{Cluster: "c", Role: "worker", Name: "n", Serial: "ff"}) {
			t.Errorf("%q: %+v", test.uris, peer)
		}
	}
}
