package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
)

const (
	// DefaultLife is how long a node's certificate is good if nobody says.
	DefaultLife = 24 * time.Hour
	// authorityLife is how long the authority's own is.
	authorityLife = 10 * 365 * 24 * time.Hour
	// MaxSkew is how far a clock may be behind that of the head which signs: certificates are good from so long before they are made.
	MaxSkew = time.Hour + 5*time.Minute
	// MinLife is the shortest life that a certificate may have.
	MinLife = 10 * time.Second

	opSign = "sign certificate"
)

// Authority is a cluster's: it signs the certificates of its nodes. Heads have it. It is immutable.
type Authority struct {
	cluster string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
}

// NewAuthority makes an authority, for a cluster that gets a random name.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "make authority", "", "%w", err)
	}
	var name [8]byte
	_, _ = rand.Read(name[:]) // It never fails.
	cluster := hex.EncodeToString(name[:])
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{"engine"}, CommonName: "cluster " + cluster},
		URIs:      Peer{Cluster: cluster, Role: roleAuthority, Name: "1"}.uris(),
		NotBefore: now.Add(-MaxSkew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "make authority", "", "%w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "make authority", "", "%w", err)
	}
	return &Authority{cluster: cluster, cert: cert, key: key}, nil
}

// roleAuthority stands in the authority's own name, which no link accepts.
const roleAuthority = "authority"

// LoadAuthority reads the authority of a folder of certificates. The error wraps fs.ErrNotExist if there is none, and is of kind
// engine.KindPermission if others may have read its key.
func LoadAuthority(dir string) (*Authority, error) {
	text, err := readPrivate(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, err
	}
	certText, err := readFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	return parseAuthority(certText, text, dir)
}

// ParseAuthority reads an authority as PEM has written it.
func ParseAuthority(text []byte) (*Authority, error) { return parseAuthority(text, keyPart(text), "") }

func parseAuthority(certText, keyText []byte, from string) (*Authority, error) {
	certs, err := decodeCertificates(certText, from)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(keyText, from)
	if err != nil {
		return nil, err
	}
	peer, err := PeerIn(certs[0])
	switch {
	case err != nil:
		return nil, err
	case len(certs) != 1 || !certs[0].IsCA || peer.Role != roleAuthority:
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, from, "expected the certificate of a cluster's authority, found that of %s", peer)
	case !key.PublicKey.Equal(certs[0].PublicKey):
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, from, "the key is not that of the certificate")
	}
	return &Authority{cluster: peer.Cluster, cert: certs[0], key: key}, nil
}

// OpenAuthority reads the authority of a folder of certificates, or makes one if there is none and no certificate either.
func OpenAuthority(dir string, now time.Time) (a *Authority, made bool, err error) {
	a, err = LoadAuthority(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, false, err
	}
	for _, name := range []string{CAFile, caKeyFile} {
		path := filepath.Join(dir, name)
		if _, statErr := os.Stat(path); statErr == nil {
			return nil, false, engine.Errorf(engine.KindInvalidArgument, opFolder, path, "only one of %s and %s is there", CAFile, caKeyFile).
				WithHint("put the other one back; a new authority would lock out every node that has joined")
		}
	}
	if a, err = NewAuthority(now); err != nil {
		return nil, false, err
	}
	err = a.Save(dir)
	return a, true, err
}

// Save writes the authority into a folder of certificates, the key first: a certificate without it is refused at the next start.
func (a *Authority) Save(dir string) error {
	key, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(dir, caKeyFile), key); err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, CAFile), encodeCertificates(a.cert))
}

// PEM is the authority with its key, for another head.
func (a *Authority) PEM() ([]byte, error) {
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	return append(encodeCertificates(a.cert), key...), nil
}

// Cluster names the cluster in the certificates that the authority signs.
func (a *Authority) Cluster() string { return a.cluster }

// Certificate is the authority's own, in PEM.
func (a *Authority) Certificate() []byte { return encodeCertificates(a.cert) }

// Fingerprint is the SHA-256 of the authority's certificate, in lower-case hexadecimal digits.
func (a *Authority) Fingerprint() string { return Fingerprint(a.cert) }

// Fingerprint is the SHA-256 of a certificate, in lower-case hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Request says what a certificate is to say.
type Request struct {
	// CSR is a PKCS #10 request in DER, whose signature proves that the asker has the key. Nothing else of it is used.
	CSR []byte
	// Role and Name are those of the peer.
	Role, Name string
	// Hosts are names and IP addresses at which the peer is reached, for programs that look at those.
	Hosts []string
	// Life is how long the certificate is good. Zero means DefaultLife.
	Life time.Duration
}

// maxHosts bounds the addresses in a certificate.
const maxHosts = 64

// Sign makes a certificate. The errors' kind is engine.KindInvalidArgument.
func (a *Authority) Sign(request Request, now time.Time) (*x509.Certificate, error) {
	invalid := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, opSign, request.Name, format, args...)
	}
	csr, err := x509.ParseCertificateRequest(request.CSR)
	if err != nil {
		return nil, invalid("the request cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, invalid("the request is not signed with its key: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	peer := Peer{Cluster: a.cluster, Role: request.Role, Name: request.Name}
	life := request.Life
	if life == 0 {
		life = DefaultLife
	}
	switch {
	case !ok || key.Curve != elliptic.P256():
		return nil, invalid("expected a key for ECDSA with P-256, found %T", csr.PublicKey)
	case !slices.Contains([]string{RoleHead, RoleWorker, RoleAdmin}, request.Role):
		return nil, invalid("%q is not a role: expected %s, %s, or %s", request.Role, RoleHead, RoleWorker, RoleAdmin)
	case !isName(request.Name):
		return nil, invalid("%q cannot be a name: expected 1 to %d letters, digits, or - . _", request.Name, maxName)
	case life < MinLife:
		return nil, invalid("a life of %s is too short, expected at least %s", life, MinLife)
	case len(request.Hosts) > maxHosts:
		return nil, invalid("it has %d addresses, at most %d are allowed", len(request.Hosts), maxHosts)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{"engine"}, CommonName: peer.String()}, URIs: peer.uris(),
		DNSNames: []string{ServerName(request.Role)}, NotBefore: now.Add(-MaxSkew), NotAfter: now.Add(life), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if request.Role == RoleHead || request.Role == RoleWorker {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range request.Hosts {
		if name := strings.ToLower(strings.TrimSuffix(host, ".")); strings.HasSuffix(name, reservedNames) || strings.Contains(name, "*") {
			return nil, invalid("%q cannot be an address: names below %s say which role a node has", host, reservedNames[1:])
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, invalid("%w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, opSign, request.Name, "%w", err)
	}
	return cert, nil
}

// ServerName is a name that certificates of a role have beside their addresses, for clients whose TLS looks at names alone.
func ServerName(role string) string { return role + reservedNames }

// reservedNames end the names that say a role.
const reservedNames = ".engine.internal"

// NewRequest makes a key and the request for its certificate.
func NewRequest() (key *ecdsa.PrivateKey, csr []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	}
	if err != nil {
		return nil, nil, engine.Errorf(engine.KindInternal, "ask for certificate", "", "%w", err)
	}
	return key, csr, nil
}

func newSerial() *big.Int {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:]) // It never fails.
	bytes[0] = bytes[0]&0x7f | 0x40
	return new(big.Int).SetBytes(bytes[:])
}

// maxFileBytes bounds a file of certificates.
const maxFileBytes = 1 << 20

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFolder, "", "%w", err)
	}
	defer func() { _ = file.Close() }() // Read only.
	return readLimited(file, path)
}

func readLimited(r io.Reader, path string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = engine.Errorf(engine.KindInvalidArgument, opFolder, path, "it has more than %d bytes", maxFileBytes)
	}
	if err != nil {
		return nil, engine.WrapError(opFolder, path, err)
	}
	return text, nil
}
