package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/node"
)

// The environment variables that set the defaults of the flags of tlsFlags.
const (
	tlsEnv            = "ENGINE_TLS"
	tlsCAEnv          = "ENGINE_TLS_CA"
	tlsCertEnv        = "ENGINE_TLS_CERT"
	tlsKeyEnv         = "ENGINE_TLS_KEY"
	tlsFingerprintEnv = "ENGINE_TLS_FINGERPRINT"
)

// tlsFlags say how a command knows the cluster that it talks to, and a node that it starts its own certificates.
type tlsFlags struct {
	folder, ca, cert, key, fingerprint string
}

func (f *tlsFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.folder, "tls", "", "connect with what lies in this `FOLDER` of certificates, such as tls in the data folder of a head; the environment variable "+tlsEnv+" sets the default")
	flags.StringVar(&f.ca, "tls-ca", "", "connect by TLS, to the cluster whose authority has the certificate in this `FILE`; the environment variable "+tlsCAEnv+" sets the default")
	flags.StringVar(&f.fingerprint, "tls-fingerprint", "", "or has this `SHA256`, which a head shows when it starts; the environment variable "+tlsFingerprintEnv+" sets the default")
	flags.StringVar(&f.cert, "tls-cert", "", "show the certificate in this `FILE`; the environment variable "+tlsCertEnv+" sets the default")
	flags.StringVar(&f.key, "tls-key", "", "with the key in this `FILE`; the environment variable "+tlsKeyEnv+" sets the default")
}

// resolve takes the defaults from the environment, unless flags say something.
func (f *tlsFlags) resolve(env func(string) (string, bool)) error {
	if f.isZero() {
		for name, value := range map[string]*string{
			tlsEnv: &f.folder, tlsCAEnv: &f.ca, tlsCertEnv: &f.cert, tlsKeyEnv: &f.key, tlsFingerprintEnv: &f.fingerprint,
		} {
			*value, _ = env(name)
		}
	}
	switch {
	case f.folder != "" && (f.ca != "" || f.cert != "" || f.key != "" || f.fingerprint != ""), f.ca != "" && f.fingerprint != "":
		return usagef("say one of --tls, --tls-ca, and --tls-fingerprint")
	case (f.cert == "") != (f.key == ""):
		return usagef("--tls-cert and --tls-key go together")
	case f.cert != "" && f.ca == "":
		return usagef("--tls-cert needs --tls-ca")
	}
	return nil
}

func (f *tlsFlags) isZero() bool { return *f == tlsFlags{} }

// options are those of a client.
func (f *tlsFlags) options() []client.Option {
	switch {
	case f.folder != "":
		return []client.Option{client.WithTLSFolder(f.folder)}
	case f.cert != "":
		return []client.Option{client.WithCertificate(f.ca, f.cert, f.key)}
	case f.ca != "":
		return []client.Option{client.WithCA(f.ca)}
	case f.fingerprint != "":
		return []client.Option{client.WithFingerprint(f.fingerprint)}
	default:
		return nil
	}
}

// checkAddress refuses a head on another machine without TLS.
func (f *tlsFlags) checkAddress(ctx context.Context, address string) error {
	if !f.isZero() {
		return nil
	}
	if err := node.CheckAddress(ctx, address); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "connect", address, "it is not on loopback, and this command is not told how to know that cluster").
			WithHint("--tls-ca or --tls-fingerprint says which authority it has, --tls names a folder of certificates")
	}
	return nil
}
