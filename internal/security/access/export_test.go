package access

import "net"

// Source is source.
func Source(address net.Addr) string { return source(address) }

// CredentialIn is credentialIn.
func CredentialIn(values []string) (string, error) { return credentialIn(values) }
