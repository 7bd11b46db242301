// Package trust decides what the heads of a cluster agree on about certificates: who has one, which were revoked, by which tokens nodes may
// join, and which keys the gossip has. It is pure: each decision takes what is and the time, and returns what is to be.
package trust

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// DefaultTokenLife is how long a token is good if nobody says.
	DefaultTokenLife = time.Hour
	// MaxTokenLife is how long it may be.
	MaxTokenLife = 30 * 24 * time.Hour
	// RotateEvery is how long a key of the gossip is used.
	RotateEvery = 24 * time.Hour
	// SecretBytes is the length of the secret from which those keys are derived.
	SecretBytes = 32
	// maxTokens and maxCertificates bound what is remembered.
	maxTokens       = 1_000
	maxCertificates = 100_000

	opJoin = "join cluster"
)

// New is what a new cluster begins with. secret are SecretBytes random bytes.
func New(secret []byte, now time.Time) *enginev1.Trust {
	return &enginev1.Trust{GossipSecret: secret, GossipGeneration: 1, GossipTime: timestamppb.New(now)}
}

// copyOf returns a copy without what has ended.
func copyOf(t *enginev1.Trust, now time.Time) *enginev1.Trust {
	next := proto.CloneOf(t)
	next.Tokens = slices.DeleteFunc(next.GetTokens(), func(k *enginev1.JoinToken) bool {
		// One that has ended is remembered for a while, so that whoever shows it is told so.
		return now.Sub(k.GetExpireTime().AsTime()) > rememberEnded
	})
	next.Certificates = slices.DeleteFunc(next.GetCertificates(), func(c *enginev1.NodeCertificate) bool {
		// A clock may be behind: what is revoked stays so until nobody takes it for good.
		return now.Sub(c.GetExpireTime().AsTime()) > pki.MaxSkew
	})
	return next
}

// rememberEnded is how long a token is remembered that has ended.
const rememberEnded = 7 * 24 * time.Hour

// AddToken adds a token to join with, for a role, with the hash of its secret. A life of zero means DefaultTokenLife, zero uses any number.
func AddToken(t *enginev1.Trust, id string, hash []byte, role string, life time.Duration, uses int32, now time.Time) (*enginev1.Trust, *enginev1.JoinToken, error) {
	const operation = "make join token"
	if life == 0 {
		life = DefaultTokenLife
	}
	if role == "" {
		role = pki.RoleWorker
	}
	next := copyOf(t, now)
	switch {
	case role != pki.RoleWorker && role != pki.RoleHead:
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, operation, role, "expected the role %s or %s", pki.RoleWorker, pki.RoleHead)
	case life < time.Second || life > MaxTokenLife:
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "a life of %s, expected 1s to %s", life, MaxTokenLife)
	case uses < 0:
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "%d uses, expected a number above zero, or zero for any", uses)
	case len(next.GetTokens()) >= maxTokens:
		return nil, nil, engine.Errorf(engine.KindExhausted, operation, "", "there are %d tokens, which is the limit", maxTokens)
	}
	token := &enginev1.JoinToken{
		TokenId: id, SecretSha256: hash, Role: role, CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(life)), UsesLeft: uses,
	}
	next.Tokens = append(next.Tokens, token)
	return next, token, nil
}

// RevokeToken ends a token.
func RevokeToken(t *enginev1.Trust, id string, now time.Time) (*enginev1.Trust, error) {
	next := copyOf(t, now)
	token := findToken(next, id)
	if token == nil {
		return nil, engine.Errorf(engine.KindNotFound, "revoke join token", id, "there is no such token").WithHint("`engine node token list` lists them")
	}
	token.Revoked = true
	return next, nil
}

func findToken(t *enginev1.Trust, id string) *enginev1.JoinToken {
	for _, token := range t.GetTokens() {
		if token.GetTokenId() == id {
			return token
		}
	}
	return nil
}

// The fields of a request to join may be so long. Nodes send 12 characters, 32 bytes, a CSR of some 250 bytes, and names of hosts.
const (
	maxTokenID   = 16
	maxSecret    = 64
	maxCSR       = 16 << 10
	maxRole      = 16
	maxName      = 128
	maxHosts     = 64
	maxHostBytes = 256
)

// CheckJoin returns an error of kind engine.KindInvalidArgument for a request to join that is longer than any of a node. It does not repeat
// what is in it: nobody knows yet whose it is.
func CheckJoin(request *enginev1.JoinRequest) error {
	for _, field := range []struct {
		name      string
		len, most int
	}{
		{"the id of the token", len(request.GetTokenId()), maxTokenID}, {"the secret of the token", len(request.GetSecret()), maxSecret},
		{"the role", len(request.GetRole()), maxRole}, {"the name", len(request.GetName()), maxName}, {"the request for a certificate", len(request.GetCsr()), maxCSR},
	} {
		if field.len > field.most {
			return engine.Errorf(engine.KindInvalidArgument, opJoin, "", "%s has %d bytes, at most %d are allowed", field.name, field.len, field.most)
		}
	}
	if n := len(request.GetHosts()); n > maxHosts {
		return engine.Errorf(engine.KindInvalidArgument, opJoin, "", "it has %d addresses, at most %d are allowed", n, maxHosts)
	}
	for _, host := range request.GetHosts() {
		if len(host) > maxHostBytes {
			return engine.Errorf(engine.KindInvalidArgument, opJoin, "", "an address has %d bytes, at most %d are allowed", len(host), maxHostBytes)
		}
	}
	return nil
}

// Admit uses a token for a node, if it may join: the errors say what is wrong with the token, or that the name is taken, and are of kind
// engine.KindUnauthenticated, engine.KindPermission, or engine.KindConflict. Whoever does not know a token's secret is not told what became
// of it. The request must have passed CheckJoin.
func Admit(t *enginev1.Trust, request *enginev1.JoinRequest, now time.Time) (*enginev1.Trust, error) {
	id := request.GetTokenId()
	refuse := func(kind engine.Kind, format string, args ...any) error {
		return engine.Errorf(kind, opJoin, "", "the token %q "+format, append([]any{id}, args...)...).
			WithHint("make a new one at a head: `engine node token`")
	}
	next := copyOf(t, now)
	token := findToken(next, id)
	switch {
	case token == nil || !pki.SameSecret(request.GetSecret(), token.GetSecretSha256()):
		return nil, refuse(engine.KindUnauthenticated, "is not one of this cluster")
	case token.GetRevoked():
		return nil, refuse(engine.KindUnauthenticated, "was revoked")
	case !now.Before(token.GetExpireTime().AsTime()):
		return nil, refuse(engine.KindUnauthenticated, "has expired at %s, and it is %s at the head", token.GetExpireTime().AsTime().UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case token.GetUsedUp():
		return nil, refuse(engine.KindUnauthenticated, "has been used as often as it may be")
	case token.GetRole() != request.GetRole():
		return nil, refuse(engine.KindPermission, "is for a %s, and this node wants to join as a %s", token.GetRole(), request.GetRole())
	}
	if revoked := revokedSince(next, request.GetName(), token.GetCreateTime().AsTime()); revoked != nil {
		return nil, refuse(engine.KindPermission, "was made before the %s %s was revoked, at %s, and does not let it in again",
			revoked.GetRole(), revoked.GetName(), revoked.GetRevokeTime().AsTime().UTC().Format(time.RFC3339))
	}
	if taken := lives(next, request.GetName(), now); taken != nil {
		return nil, engine.Errorf(engine.KindConflict, opJoin, request.GetName(), "the name is taken by a %s whose certificate is good until %s",
			taken.GetRole(), taken.GetExpireTime().AsTime().UTC().Format(time.RFC3339)).
			WithHint("give this node another one with --name; or, if that node is gone, `engine node revoke %s`", request.GetName())
	}
	if token.GetUsesLeft() > 0 {
		token.UsesLeft--
		token.UsedUp = token.GetUsesLeft() == 0
	}
	return next, nil
}

// lives returns a certificate of that name that is good.
func lives(t *enginev1.Trust, name string, now time.Time) *enginev1.NodeCertificate {
	for _, c := range t.GetCertificates() {
		if c.GetName() == name && c.GetRevokeTime() == nil && now.Before(c.GetExpireTime().AsTime()) {
			return c
		}
	}
	return nil
}

// revokedSince returns a certificate of that name that was revoked after a time, until it would have ended by itself.
func revokedSince(t *enginev1.Trust, name string, since time.Time) *enginev1.NodeCertificate {
	for _, c := range t.GetCertificates() {
		if c.GetName() == name && c.GetRevokeTime() != nil && c.GetRevokeTime().AsTime().After(since) {
			return c
		}
	}
	return nil
}

// Remember notes a certificate that is about to be given to a node.
func Remember(t *enginev1.Trust, peer pki.Peer, ends, now time.Time) (*enginev1.Trust, error) {
	next := copyOf(t, now)
	if len(next.GetCertificates()) >= maxCertificates {
		return nil, engine.Errorf(engine.KindExhausted, "sign certificate", peer.Name, "there are %d certificates, which is the limit", maxCertificates)
	}
	next.Certificates = append(next.Certificates, &enginev1.NodeCertificate{
		Serial: peer.Serial, Role: peer.Role, Name: peer.Name, CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(ends),
	})
	return next, nil
}

// Revoke makes all certificates of a name void, and changes the keys of the gossip to such that their holder does not know.
func Revoke(t *enginev1.Trust, name string, now time.Time) (*enginev1.Trust, []*enginev1.NodeCertificate, error) {
	next := copyOf(t, now)
	var revoked []*enginev1.NodeCertificate
	known := false
	for _, c := range next.GetCertificates() {
		if c.GetName() != name {
			continue
		}
		known = true
		if c.GetRevokeTime() == nil {
			c.RevokeTime = timestamppb.New(now)
			revoked = append(revoked, c)
		}
	}
	switch {
	case !known:
		return nil, nil, engine.Errorf(engine.KindNotFound, "revoke node", name, "no node of this name has a certificate").
			WithHint("`engine node certificates` lists them")
	case len(revoked) == 0:
		return next, nil, nil
	}
	// The next key was told already.
	next.GossipGeneration += 2
	next.GossipSince, next.GossipTime = next.GetGossipGeneration(), timestamppb.New(now)
	return next, revoked, nil
}

// Revoked are the serial numbers of the certificates that are refused.
func Revoked(t *enginev1.Trust) []string {
	var serials []string
	for _, c := range t.GetCertificates() {
		if c.GetRevokeTime() != nil {
			serials = append(serials, c.GetSerial())
		}
	}
	return serials
}

// NameOf is the name of the node with an id: the longest name among the certificates that the id begins with, or the id itself.
func NameOf(t *enginev1.Trust, id string) string {
	best := id
	found := false
	for _, c := range t.GetCertificates() {
		if name := c.GetName(); name == id || strings.HasPrefix(id, name+"-") && (!found || len(name) > len(best)) {
			if best, found = name, true; name == id {
				return id
			}
		}
	}
	return best
}

// Rotate changes the keys of the gossip if that is due. It returns nil if it is not, and when it will be.
func Rotate(t *enginev1.Trust, now time.Time) (next *enginev1.Trust, due time.Time) {
	due = t.GetGossipTime().AsTime().Add(RotateEvery)
	if now.Before(due) {
		return nil, due
	}
	next = copyOf(t, now)
	next.GossipGeneration++
	next.GossipTime = timestamppb.New(now)
	return next, now.Add(RotateEvery)
}

// GossipKeys are the keys of the gossip: the present one first, then the next one, so that it is understood when it comes into use, and the one
// before, which others may still use. One that a revoked node knows is not among them.
func GossipKeys(t *enginev1.Trust) [][]byte {
	present := t.GetGossipGeneration()
	keys := [][]byte{gossipKey(t, present), gossipKey(t, present+1)}
	if before := present - 1; before >= max(t.GetGossipSince(), 1) {
		keys = append(keys, gossipKey(t, before))
	}
	return keys
}

// gossipKeyBytes is that of AES-256.
const gossipKeyBytes = 32

func gossipKey(t *enginev1.Trust, generation uint64) []byte {
	info := string(binary.BigEndian.AppendUint64([]byte("engine gossip "), generation))
	key, err := hkdf.Key(sha256.New, t.GetGossipSecret(), nil, info, gossipKeyBytes)
	if err != nil {
		panic("trust: " + err.Error()) // Only a length could be wrong, which is constant.
	}
	return key
}
