package client

import (
	"os"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

// WithCA encrypts the client's connections, and lets it connect to nodes of one cluster alone: that whose authority has the certificate in
// the file, in PEM. Who the client is a token says, see WithToken.
func WithCA(path string) Option {
	return func(o *dialOptions) {
		text, err := os.ReadFile(path)
		if err != nil {
			o.fail(engine.Errorf(engine.KindInvalidArgument, "read authority", "", "%w", err))
			return
		}
		o.useTLS(pki.NewClient(text, "", pki.Options{}))
	}
}

// WithFingerprint is WithCA with the SHA-256 of the authority's certificate, which a head shows: 64 hexadecimal digits.
func WithFingerprint(fingerprint string) Option {
	return func(o *dialOptions) { o.useTLS(pki.NewClient(nil, fingerprint, pki.Options{})) }
}

// WithCertificate is WithCA for a client that has a certificate of its own, with its key, as files in PEM.
func WithCertificate(ca, cert, key string) Option {
	return func(o *dialOptions) { o.useTLS(pki.Files{CA: ca, Cert: cert, Key: key}.Open(pki.Options{})) }
}

// WithTLSFolder is WithCertificate with what lies in the folder of certificates of a node, tls in its data folder: in that of a head, those of
// an admin.
func WithTLSFolder(dir string) Option {
	return func(o *dialOptions) { o.useTLS(pki.LoadClient(dir, pki.Options{})) }
}

// WithTLS is WithCA with an identity of the engine's own programs, which its owner closes after the client.
func WithTLS(identity *pki.Identity) Option {
	return func(o *dialOptions) { o.identity = identity }
}

func (o *dialOptions) useTLS(identity *pki.Identity, err error) {
	if err != nil {
		o.fail(err)
		return
	}
	o.identity = identity
}

func (o *dialOptions) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// tlsOptions are the credentials of connections to nodes of the roles; none for clear text.
func (o *dialOptions) tlsOptions(roles ...string) []grpc.DialOption {
	if o.identity == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(o.identity.ClientCredentials(roles...))}
}
