package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/f708428e/engine"
)

// Issue has the authority make a certificate for a new key, both in PEM.
func (a *Authority) Issue(request Request, now time.Time) (cert, key []byte, err error) {
	private, csr, err := NewRequest()
	if err != nil {
		return nil, nil, err
	}
	request.CSR = csr
	signed, err := a.Sign(request, now)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encodeCertificates(signed), key, err
}

// Head makes the identity of a head that has the authority: a certificate for a new key, which is in no file.
func (a *Authority) Head(request Request, options Options) (*Identity, error) {
	now := time.Now
	if options.Now != nil {
		now = options.Now
	}
	key, csr, err := NewRequest()
	if err != nil {
		return nil, err
	}
	request.CSR, request.Role = csr, RoleHead
	cert, err := a.Sign(request, now())
	if err != nil {
		return nil, err
	}
	return NewIdentity(cert, key, a.cert, options)
}

// Renewal is Identity.Renew's function for a node that has the authority itself.
func (a *Authority) Renewal(request Request, now func() time.Time) func(context.Context, []byte) (Issued, error) {
	return func(_ context.Context, csr []byte) (Issued, error) {
		next := request
		next.CSR = csr
		cert, err := a.Sign(next, now())
		if err != nil {
			return Issued{}, err
		}
		return Issued{Certificate: encodeCertificates(cert)}, nil
	}
}

// WriteAdmin writes a certificate for whoever may read the head's data folder.
func (a *Authority) WriteAdmin(dir string, life time.Duration, now time.Time) error {
	cert, key, err := a.Issue(Request{Role: RoleAdmin, Name: "local", Life: life}, now)
	if err != nil {
		return err
	}
	return writePair(dir, adminFile, adminKeyFile, cert, key)
}

func writePair(dir, certName, keyName string, cert, key []byte) error {
	// Both in one file are always of each other; the key's own is for programs that want two.
	if err := writePrivate(filepath.Join(dir, certName), append(append([]byte(nil), cert...), key...)); err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, keyName), key)
}

// SaveNode writes a node's certificate and its key into its folder of certificates.
func SaveNode(dir string, cert, key []byte) error {
	return writePair(dir, nodeFile, nodeKeyFile, cert, key)
}

// SaveAuthority writes the certificate of the cluster's authority into the folder of certificates of a node that has not its key.
func SaveAuthority(dir string, cert []byte) error {
	if _, err := decodeCertificates(cert, CAFile); err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, CAFile), cert)
}

// HasJoined tells whether a data folder is that of a node which has joined a cluster before.
func HasJoined(dataDir string) bool {
	_, err := os.Stat(filepath.Join(dataDir, TLSFolder, nodeFile))
	return err == nil
}

// LoadNode reads the identity of a node that has joined a cluster before. The error wraps fs.ErrNotExist if it has not.
func LoadNode(dir string, options Options) (*Identity, error) {
	return loadPair(dir, nodeFile, options)
}

// LoadClient reads the identity that a folder of certificates has for a client: the admin's in that of a head, else that of the node.
func LoadClient(dir string, options Options) (*Identity, error) {
	name := adminFile
	if _, err := os.Stat(filepath.Join(dir, adminFile)); errors.Is(err, fs.ErrNotExist) {
		name = nodeFile
	}
	return loadPair(dir, name, options)
}

func loadPair(dir, name string, options Options) (*Identity, error) {
	path := filepath.Join(dir, name)
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	authorities, err := readFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	certs, err := decodeCertificates(text, path)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(keyPart(text), path)
	if err != nil {
		return nil, err
	}
	roots, err := decodeCertificates(authorities, CAFile)
	if err != nil {
		return nil, err
	}
	return NewIdentity(certs[0], key, roots[0], options)
}

// NewNode makes the identity of a node from what its head has signed for its key.
func NewNode(cert []byte, key *ecdsa.PrivateKey, authority []byte, options Options) (*Identity, error) {
	var parsed [2]*x509.Certificate
	for n, text := range [][]byte{cert, authority} {
		certs, err := decodeCertificates(text, "the head")
		if err != nil {
			return nil, err
		}
		parsed[n] = certs[0]
	}
	return NewIdentity(parsed[0], key, parsed[1], options)
}

// EncodeKey returns a key as PEM.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) { return encodeKey(key) }

// EncodeCertificate returns a certificate as PEM.
func EncodeCertificate(cert *x509.Certificate) []byte { return encodeCertificates(cert) }

// CheckEnds refuses a certificate that has ended, or is not good yet, by this machine's clock.
func (i *Identity) CheckEnds() error {
	h, now := i.held.Load(), i.now()
	switch {
	case h == nil:
		return nil
	case now.After(h.leaf.NotAfter):
		return engine.Errorf(engine.KindUnauthenticated, "check certificate", h.peer.String(), "it has ended at %s, and it is %s here",
			h.leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithHint("make a token at a head, `engine node token`, and join again with it; or put the clock right")
	case now.Before(h.leaf.NotBefore):
		return engine.Errorf(engine.KindUnauthenticated, "check certificate", h.peer.String(), "it is good from %s on, and it is %s here",
			h.leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).WithHint("put the clock right")
	}
	return nil
}
