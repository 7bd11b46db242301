package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/f708428e/engine"
)

// Names in a node's folder of certificates, which is TLSFolder in its data folder.
const (
	// TLSFolder is the folder of certificates in a data folder.
	TLSFolder = "tls"
	// CAFile is the certificate of the cluster's authority, and caKeyFile its key, which heads alone have.
	CAFile    = "ca.pem"
	caKeyFile = "ca.key"
	// nodeFile and nodeKeyFile are the node's own.
	nodeFile    = "node.pem"
	nodeKeyFile = "node.key"
	// adminFile and adminKeyFile are for whoever may read the head's data folder.
	adminFile    = "admin.pem"
	adminKeyFile = "admin.key"
)

const opFolder = "open certificates"

// OpenFolder makes the folder of certificates in a data folder, if it is not there, and returns its path. Both belong to this user alone, or
// the error is of kind engine.KindPermission: keys that others may have read are worth nothing.
func OpenFolder(dataDir string) (string, error) {
	dir := filepath.Join(dataDir, TLSFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", engine.Errorf(engine.KindInvalidArgument, opFolder, dir, "%w", err)
	}
	for _, path := range []string{dataDir, dir} {
		info, err := os.Stat(path)
		if err != nil {
			return "", engine.Errorf(engine.KindInvalidArgument, opFolder, path, "%w", err)
		}
		if err := checkPrivate(path, info); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// checkPrivate refuses what others than its owner, who must be this user, may read or change.
func checkPrivate(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return engine.Errorf(engine.KindPermission, opFolder, path, "others may use it: its permissions are %#o", mode).
			WithHint("`chmod %s %s`, if nobody else has read it since; else begin anew with another data folder", map[bool]string{true: "700", false: "600"}[info.IsDir()], path)
	}
	if owner, known := ownerOf(info); known && owner != os.Geteuid() {
		return engine.Errorf(engine.KindPermission, opFolder, path, "it belongs to user %d, and this process to user %d", owner, os.Geteuid())
	}
	return nil
}

// readPrivate reads a file that must be this user's alone. It is an error that wraps fs.ErrNotExist if there is none.
func readPrivate(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, "", "%w", err)
	}
	defer func() { _ = file.Close() }() // Read only.
	info, err := file.Stat()
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, path, "%w", err)
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return readLimited(file, path)
}

// writePrivate replaces a file whole, readable by this user alone.
func writePrivate(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // Its mode is 0600.
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "write certificates", path, "%w", err)
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "write certificates", path, "%w", errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})...)
	}
	return text
}

// decodeCertificates reads the certificates of a PEM text, of which there must be one at least. from names it in errors.
func decodeCertificates(text []byte, from string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(certs) <= maxChain {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, "read certificate", from, "%w", err)
		}
		certs = append(certs, cert)
	}
	switch {
	case len(certs) == 0:
		return nil, engine.Errorf(engine.KindInvalidArgument, "read certificate", from, "expected a PEM text with a CERTIFICATE, found none")
	case len(certs) > maxChain:
		return nil, engine.Errorf(engine.KindInvalidArgument, "read certificate", from, "it has more than %d certificates", maxChain)
	}
	return certs, nil
}

// maxChain bounds the certificates that are read from one text.
const maxChain = 256

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "write key", "", "%w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// keyPart returns the first key of a text that may hold certificates, too.
func keyPart(text []byte) []byte {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		if block.Type == pemKey {
			return pem.EncodeToMemory(block)
		}
		text = rest
	}
}

func decodeKey(text []byte, from string) (*ecdsa.PrivateKey, error) {
	fail := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, "read key", from, format, args...)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fail("expected a PEM text with a %s, found none", pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// What x509 says may tell of the key's bytes.
		return nil, fail("it is damaged")
	}
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fail("expected an ECDSA key, found one of type %s", fmt.Sprintf("%T", key))
	}
	return own, nil
}
