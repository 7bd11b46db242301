package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"os"
	"time"

	"github.com/f708428e/engine"
)

// Files are an identity that somebody else keeps up to date: an authority's certificates, and a certificate of the process with its key,
// all in PEM.
type Files struct {
	CA, Cert, Key string
}

// reloadEvery is how often files are looked at if nobody says.
const reloadEvery = 5 * time.Second

// Open reads the identity. The certificate must have a name of this package's form, and not have ended. Without Cert and Key it is one of a
// client that shows no certificate.
func (f Files) Open(options Options) (*Identity, error) {
	switch {
	case f.CA == "":
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, "", "the certificate of the authority is required")
	case (f.Cert == "") != (f.Key == ""):
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, "", "a certificate and its key go together")
	}
	i := newIdentity(options)
	if _, err := f.load(i, nil); err != nil {
		return nil, err
	}
	err := i.CheckEnds()
	return i, err
}

// load reads the files into an identity, unless they are those of the sum, and returns theirs.
func (f Files) load(i *Identity, known []byte) (sum []byte, err error) {
	ca, err := readFile(f.CA)
	if err != nil {
		return nil, err
	}
	var cert, key []byte
	if f.Cert != "" {
		if cert, err = readFile(f.Cert); err != nil {
			return nil, err
		}
		if key, err = readKey(f.Key); err != nil {
			return nil, err
		}
	}
	hash := sha256.New()
	for _, text := range [][]byte{ca, cert, key} {
		part := sha256.Sum256(text)
		hash.Write(part[:])
	}
	if sum = hash.Sum(nil); bytes.Equal(sum, known) {
		return sum, nil
	}
	roots, err := decodeCertificates(ca, f.CA)
	if err != nil {
		return nil, err
	}
	if f.Cert == "" {
		i.trust(roots)
		return sum, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read certificate", f.Cert, "%w", err)
	}
	chain, err := decodeCertificates(cert, f.Cert)
	if err != nil {
		return nil, err
	}
	peer, err := PeerIn(chain[0])
	if err != nil {
		return nil, engine.WrapError("read certificate", f.Cert, err)
	}
	if before := i.held.Load(); before != nil && (before.peer.Cluster != peer.Cluster || before.peer.Role != peer.Role || before.peer.Name != peer.Name) {
		return nil, engine.Errorf(engine.KindConflict, "read certificate", f.Cert, "it is that of %s of cluster %s, and this process is %s of cluster %s",
			peer, peer.Cluster, before.peer, before.peer.Cluster)
	}
	fresh := &trusted{certs: roots, pool: x509.NewCertPool()}
	for _, root := range roots {
		fresh.pool.AddCert(root)
	}
	options := x509.VerifyOptions{Roots: fresh.pool, Intermediates: x509.NewCertPool(), CurrentTime: chain[0].NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, other := range chain[1:] {
		options.Intermediates.AddCert(other)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read certificate", f.Cert, "it was not signed by an authority of %s: %w", f.CA, err)
	}
	i.trusted.Store(fresh)
	return sum, i.hold(chain[0], chain[1:], pair.PrivateKey)
}

// readKey reads a key that others than its owner must not read. A group may: that is how containers are given keys.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, "", "%w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, engine.Errorf(engine.KindPermission, opFolder, path, "everybody may use it: its permissions are %#o", mode).WithHint("`chmod 600 %s`", path)
	}
	return readFile(path)
}

// Reload takes over what the files are changed to, until ctx ends, and warns of a certificate that is about to end. Files that do not fit each
// other, as while they are being replaced, are left aside. interval is how often it looks; zero means five seconds.
func (f Files) Reload(ctx context.Context, i *Identity, interval time.Duration) error {
	if interval == 0 {
		interval = reloadEvery
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var known []byte
	var trouble error
	var warned time.Time
	for first := true; ; first = false {
		sum, err := f.load(i, known)
		switch {
		case err != nil && (trouble == nil || trouble.Error() != err.Error()):
			i.logger.WarnContext(ctx, "the certificates cannot be read again; those from before stay", "error", err)
		case err == nil && !bytes.Equal(sum, known):
			known = sum
			if !first {
				i.logger.InfoContext(ctx, "the certificates were read again", "peer", i.Peer().String(), "serial", i.Peer().Serial, "ends", i.Ends())
			}
		}
		trouble = err
		warned = i.warnOfEnd(ctx, warned)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// warnOfEnd logs once an hour that a certificate is about to end which others must replace.
func (i *Identity) warnOfEnd(ctx context.Context, warned time.Time) time.Time {
	h, now := i.held.Load(), i.now()
	if h == nil || now.Sub(warned) < time.Hour {
		return warned
	}
	switch {
	case !now.Before(h.leaf.NotAfter):
		i.logger.ErrorContext(ctx, "the certificate has ended: nobody accepts this process any more", "peer", h.peer.String(), "ended", h.leaf.NotAfter)
	case i.EndsSoon():
		i.logger.WarnContext(ctx, "the certificate is about to end: replace the files", "peer", h.peer.String(), "ends", h.leaf.NotAfter)
	default:
		return warned
	}
	return now
}

// EndsSoon tells whether little of the certificate's life is left, or nothing: it should have been renewed by now. It is false for a client
// without one.
func (i *Identity) EndsSoon() bool {
	h := i.held.Load()
	if h == nil {
		return false
	}
	life := h.leaf.NotAfter.Sub(h.leaf.NotBefore)
	return float64(h.leaf.NotAfter.Sub(i.now())) < (1-late)*float64(life)
}
