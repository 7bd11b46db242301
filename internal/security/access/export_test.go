package access

// CredentialIn is credentialIn.
func CredentialIn(values []string) (string, error) { return credentialIn(values) }
