package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"

	"github.com/f708428e/engine"
)

// Prefix begins the text of every token, so that people and scanners for leaked secrets recognize one.
const Prefix = "engt_"

// The parts of a token's bytes, in this order. The first says which cluster it is of, the last whether it was copied as a whole.
const (
	clusterBytes  = 4
	idBytes       = 8
	secretBytes   = 32
	checksumBytes = 4
	tokenBytes    = clusterBytes + idBytes + secretBytes + checksumBytes
)

const opToken = "check token"

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Secret is the text of a token in its parts. It prints as its id alone, in every format.
type Secret struct {
	// ID names the token.
	ID      string
	cluster [clusterBytes]byte
	secret  [secretBytes]byte
}

// NewSecret makes a token of a cluster, of 256 random bits.
func NewSecret(clusterID string) Secret {
	s := Secret{cluster: clusterTag(clusterID)}
	var id [idBytes]byte
	_, _ = rand.Read(id[:]) // It never fails.
	_, _ = rand.Read(s.secret[:])
	s.ID = hex.EncodeToString(id[:])
	return s
}

// Text is the token as its owner has it.
func (s Secret) Text() string {
	b := make([]byte, 0, tokenBytes)
	b = append(b, s.cluster[:]...)
	id, _ := hex.DecodeString(s.ID) // It is one, or the token is void.
	b = append(b, id...)
	b = append(b, s.secret[:]...)
	return Prefix + encoding.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

// Hash is what is kept of the secret. The secret is as long as the hash and random, so that a slow hash would gain nothing.
func (s Secret) Hash() []byte {
	sum := sha256.Sum256(s.secret[:])
	return sum[:]
}

// Matches reports, in constant time, whether a hash is that of the secret.
func (s Secret) Matches(hash []byte) bool { return subtle.ConstantTimeCompare(s.Hash(), hash) == 1 }

// IsOf reports whether it is a token of a cluster, going by what the text says.
func (s Secret) IsOf(clusterID string) bool { return s.cluster == clusterTag(clusterID) }

// String is the id, so that no log has the secret.
func (s Secret) String() string { return "token " + s.ID }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// clusterTag tells clusters apart without naming them.
func clusterTag(clusterID string) (tag [clusterBytes]byte) {
	sum := sha256.Sum256([]byte("engine cluster " + clusterID))
	copy(tag[:], sum[:])
	return tag
}

// IsToken reports whether a credential looks like a token of the engine, of whatever cluster.
func IsToken(credential string) bool { return strings.HasPrefix(credential, Prefix) }

// ParseSecret reads the text of a token. The error is of kind engine.KindUnauthenticated, says what is wrong with the text, and does not
// hold it.
func ParseSecret(text string) (Secret, error) {
	body, ok := strings.CutPrefix(text, Prefix)
	if !ok && strings.HasPrefix(text, "engine-join-") {
		return Secret{}, engine.Errorf(engine.KindUnauthenticated, opToken, "", "this is a token by which nodes join, with `engine start --token`, and says nothing of a caller").
			WithHint("an admin of the cluster makes tokens for callers with `engine token create`")
	}
	if !ok {
		return Secret{}, engine.Errorf(engine.KindUnauthenticated, opToken, "", "it is no token of the engine, which begins with %s", Prefix).
			WithHint("copy the text that `engine token create` has printed, as a whole")
	}
	mistyped := func(what string) error {
		return engine.Errorf(engine.KindUnauthenticated, opToken, "", "the token was not copied as a whole, or is mistyped: %s", what).
			WithHint("copy the text that `engine token create` has printed, as a whole")
	}
	if want := encoding.EncodedLen(tokenBytes); len(body) != want {
		return Secret{}, mistyped("its length is wrong")
	}
	b, err := encoding.DecodeString(body)
	if err != nil {
		return Secret{}, mistyped("it has a character that no token has")
	}
	// The last character has bits to spare, so that several texts would stand for one token.
	if encoding.EncodeToString(b) != body {
		return Secret{}, mistyped("its end is wrong")
	}
	signed, sum := b[:tokenBytes-checksumBytes], b[tokenBytes-checksumBytes:]
	if !bytes.Equal(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(signed)), sum) {
		return Secret{}, mistyped("its checksum is wrong")
	}
	s := Secret{ID: hex.EncodeToString(b[clusterBytes:][:idBytes])}
	copy(s.cluster[:], b)
	copy(s.secret[:], b[clusterBytes+idBytes:])
	return s, nil
}
