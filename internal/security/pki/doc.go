// Package pki gives every node of a cluster an identity, and every link between them one rule: TLS 1.3, and a certificate of the cluster
// with a role that the link accepts. It makes a cluster's certificate authority, has nodes join by a token that ends, renews their
// certificates before they end, and refuses those that were revoked. What somebody may do whose certificate or token was accepted is
// decided elsewhere, in internal/security/access.
package pki
