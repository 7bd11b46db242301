package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"strings"

	"github.com/f708428e/engine"
)

// JoinToken lets a node become a part of a cluster, until it ends or is revoked. It says which authority the cluster has, so that the node
// knows its head, and it proves to the head that the node is welcome. It is a value; printing it, also as a log attribute, shows its id alone.
type JoinToken struct {
	id        [idBytes]byte
	secret    [secretBytes]byte
	authority [sha256.Size]byte
}

const (
	tokenPrefix = "engine-join-1."
	// callersPrefix begins the tokens of internal/security/access.
	callersPrefix = "engt_"
	idBytes       = 6
	secretBytes   = 32
	sumBytes      = 4

	opToken = "read join token"
)

// NewJoinToken makes a random token for the cluster of an authority.
func NewJoinToken(a *Authority) JoinToken {
	t := JoinToken{authority: sha256.Sum256(a.cert.Raw)}
	_, _ = rand.Read(t.id[:]) // It never fails.
	_, _ = rand.Read(t.secret[:])
	return t
}

// ParseJoinToken reads a token. The error, of kind engine.KindInvalidArgument, says what is wrong without repeating the token.
func ParseJoinToken(text string) (JoinToken, error) {
	fail := func(format string, args ...any) (JoinToken, error) {
		return JoinToken{}, engine.Errorf(engine.KindInvalidArgument, opToken, "", format, args...).
			WithHint("copy the whole command that the head has printed, or make a new token there: `engine node token`")
	}
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, tokenPrefix)
	switch {
	case ok:
	case strings.HasPrefix(text, callersPrefix):
		return fail("this token says who a caller is, and is not one to join with")
	default:
		return fail("it does not begin with %q: this is not a token to join with", tokenPrefix)
	}
	const size = idBytes + secretBytes + sha256.Size
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(body)
	switch want := base64.RawURLEncoding.EncodedLen(size + sumBytes); {
	case len(body) != want:
		return fail("it was not copied as a whole, or is mistyped: it has %d characters, expected %d", len(text), len(tokenPrefix)+want)
	case err != nil:
		return fail("it is mistyped: there is a character in it that no token has there")
	}
	if sum := sha256.Sum256(bytes[:size]); subtle.ConstantTimeCompare(sum[:sumBytes], bytes[size:]) != 1 {
		return fail("it is mistyped: its check digits are not right")
	}
	var t JoinToken
	copy(t.id[:], bytes)
	copy(t.secret[:], bytes[idBytes:])
	copy(t.authority[:], bytes[idBytes+secretBytes:])
	return t, nil
}

// Reveal returns the token as it is typed. Whoever has it can join.
func (t JoinToken) Reveal() string {
	bytes := append(append(append([]byte(nil), t.id[:]...), t.secret[:]...), t.authority[:]...)
	sum := sha256.Sum256(bytes)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(bytes, sum[:sumBytes]...))
}

// ID names the token; it is no secret.
func (t JoinToken) ID() string { return hex.EncodeToString(t.id[:]) }

// Secret is what the head is shown.
func (t JoinToken) Secret() []byte { return t.secret[:] }

// Fingerprint is that of the cluster's authority.
func (t JoinToken) Fingerprint() string { return hex.EncodeToString(t.authority[:]) }

// String is the token's id.
func (t JoinToken) String() string { return "join token " + t.ID() }

// GoString keeps the secret from %#v.
func (t JoinToken) GoString() string { return t.String() }

// LogValue implements slog.LogValuer.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.ID()) }

// HashSecret is what a head keeps of a token's secret, which is random enough to need no salt.
func HashSecret(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:]
}

// SameSecret reports whether a secret has that hash, in a time that does not depend on where they differ.
func SameSecret(secret, hash []byte) bool {
	sum := sha256.Sum256(secret)
	return subtle.ConstantTimeCompare(sum[:], hash) == 1
}
