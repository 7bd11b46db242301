package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// forgedIssuer is an identity provider, and whoever pretends to be one.
type forgedIssuer struct {
	t   *testing.T
	key *ecdsa.PrivateKey
}

func newForgedIssuer(t *testing.T) *forgedIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &forgedIssuer{t, key}
}

const issuerURL = "https://login.example"

func (*forgedIssuer) config(keys string) string {
	return fmt.Sprintf("oidc:\n  - issuer: %s\n    audience: engine\n    keys: %s\n    roles:\n      - {claim: groups, value: platform, role: admin}\n", issuerURL, keys)
}

func (i *forgedIssuer) keys() string {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1", Algorithm: string(jose.ES256), Use: "sig"}}})
	if err != nil {
		i.t.Fatal(err)
	}
	return string(text)
}

// claims are good ones, but for changes.
func (*forgedIssuer) claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": issuerURL, "aud": "engine", "sub": "mallory", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"platform"},
	}
	for name, value := range changes {
		all[name] = value
	}
	return all
}

// sign signs with a key, or the issuer's.
func (i *forgedIssuer) sign(algorithm jose.SignatureAlgorithm, key any, changes map[string]any) string {
	if key == nil {
		key = i.key
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(i.claims(changes)).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return "Bearer " + text
}

// unsigned is a JWT that says that it needs no signature.
func (i *forgedIssuer) unsigned() string {
	claims, err := json.Marshal(i.claims(nil))
	if err != nil {
		i.t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	return "Bearer " + part([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + part(claims) + "."
}

// joinToken makes a token to join with.
func (b *besieged) joinToken(args ...string) string {
	b.place.t.Helper()
	return strings.TrimSpace(b.must(append(append([]string{"node", "token", "-q"}, args...), b.admin...)...).stdout)
}

// joins has a node try to join, in a folder of its own.
func (b *besieged) joins(args ...string) string {
	b.place.t.Helper()
	folder := "intruder-" + rand.Text()
	said := b.says(append([]string{"start", "--address", b.head.Address, "--num-cpus", "1", "--data-dir", folder}, args...)...)
	if strings.HasPrefix(said, "exit code 0") {
		b.engine("stop", "--data-dir", folder) // It was let in, and would stay.
	}
	return said
}

// request is a request for a certificate that says to be of somebody.
func (b *besieged) request(role, name string) []byte {
	b.place.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.place.t.Fatal(err)
	}
	uri, err := url.Parse("engine://cluster/" + b.ours.cluster + "/role/" + role + "/name/" + name)
	if err != nil {
		b.place.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri}}, key)
	if err != nil {
		b.place.t.Fatal(err)
	}
	return csr
}

// becomes is what a certificate, if one was issued, says about its owner.
func becomes(certificate []byte, err error) string {
	if err != nil {
		return answer(nil, err)
	}
	if block, _ := pem.Decode(certificate); block != nil {
		certificate = block.Bytes
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint("a certificate of ", parsed.URIs)
}

// asksToJoin asks for a certificate with a token for workers, but for another role or with a request for another.
func (b *besieged) asksToJoin(role string, csr []byte, name string) string {
	b.place.t.Helper()
	token, err := pki.ParseJoinToken(b.joinToken())
	if err != nil {
		b.place.t.Fatal(err)
	}
	response, err := enginev1.NewJoinServiceClient(b.conn(b.head.Address, nil)).Join(b.with(), &enginev1.JoinRequest{
		TokenId: token.ID(), Secret: token.Secret(), Csr: csr, Name: name, Role: role, Hosts: []string{"127.0.0.1"},
	})
	if response.GetAuthorityKey() != nil {
		return "the authority's key"
	}
	return becomes(response.GetCertificate(), err)
}

var joinAttacks = []attack{
	{does: "joins with a token that has expired", gets: []string{"exit code 5", "has expired at"}, logged: []string{"a node was not let in", "has expired"}, try: func(b *besieged) string {
		var made struct {
			Token string
			Ends  time.Time
		}
		if err := json.Unmarshal([]byte(b.must(append([]string{"node", "token", "--life", "1s", "-o", "json"}, b.admin...)...).stdout), &made); err != nil {
			b.place.t.Fatal(err)
		}
		eventually(b.place.t, "the end of the token", func() bool { return time.Now().After(made.Ends) })
		return b.joins("--token", made.Token, "--name", "late")
	}},
	{does: "joins with a token that somebody has used up", gets: []string{"exit code 5", "as often as it may be"}, try: func(b *besieged) string {
		token := b.joinToken("--uses", "1")
		b.startSecured(nil, "--address", b.head.Address, "--token", token, "--name", "first", "--num-cpus", "1", "--flight-port", "0", "--gossip-port", "-1", "--data-dir", "first").kill(b.place.t)
		return b.joins("--token", token, "--name", "second")
	}},
	{does: "joins with a token of another cluster", gets: []string{"exit code 5", "another cluster"}, try: func(b *besieged) string {
		return b.joins("--token", b.other.Join.Token)
	}},
	{does: "joins with a token of which it guesses a part", gets: []string{"exit code 2", "mistyped"}, try: func(b *besieged) string {
		text := []byte(b.head.Join.Token)
		text[30] ^= 1
		return b.joins("--token", string(text))
	}},
	{does: "joins as a head with a token for workers", gets: []string{"PermissionDenied", "is for a worker"}, try: func(b *besieged) string {
		return b.asksToJoin("head", b.request("head", "h-9"), "h-9")
	}},
	{does: "joins as a worker with a request for an admin's certificate", gets: []string{"role/worker/name/w-8"}, try: func(b *besieged) string {
		return b.asksToJoin("worker", b.request("admin", "root"), "w-8")
	}},
	{does: "joins under the name of a worker that there is", gets: []string{"exit code 5", "the name is taken"}, logged: []string{"a node was not let in", "the name is taken"}, try: func(b *besieged) string {
		return b.joins("--token", b.head.Join.Token, "--name", "w-1")
	}},
	{does: "joins under a name with a line break and a path in it", gets: []string{"InvalidArgument"}, try: func(b *besieged) string {
		return b.asksToJoin("worker", b.request("worker", "x"), "../w\nlevel=ERROR")
	}},
	{does: "joins with a user's token", gets: []string{"exit code 2", "is not one to join with"}, try: func(b *besieged) string {
		return b.joins("--token", b.tokens["otto"])
	}},
	{does: "comes back with the folder of the worker that was revoked", gets: []string{"exit code 5", "was revoked"}, logged: []string{"link=head", "reason=revoked"}, try: func(b *besieged) string {
		return b.says("start", "--block", "--address", b.head.Address, "--data-dir", "gone", "--num-cpus", "1")
	}},
	{does: "renews a worker's certificate by a request for a head's", gets: []string{"role/worker/name/w-7"}, try: func(b *besieged) string {
		conn := b.conn(b.head.Address, b.certificate("worker", "w-7"))
		response, err := enginev1.NewJoinServiceClient(conn).RenewCertificate(b.with(), &enginev1.RenewCertificateRequest{Csr: b.request("head", "h-7"), Hosts: []string{"127.0.0.1"}})
		return becomes(response.GetCertificate(), err)
	}},
	{does: "pretends to be the head, to get the token of a user who knows the authority's fingerprint", gets: []string{"exit code 4", "it is of another cluster"}, try: func(b *besieged) string {
		return b.says("status", "--address", b.other.Address, "--tls-fingerprint", b.head.Join.Fingerprint, "--token", b.tokens["alice"])
	}},
	{does: "pretends to be the head with a worker's certificate", gets: []string{"exit code 4", "the certificate is that of worker w-1"}, try: func(b *besieged) string {
		return b.says("status", "--address", b.worker.Flight, "--tls-ca", b.ca(), "--token", b.tokens["alice"])
	}},
}

const refusedUnknown = "Unauthenticated"

var identityAttacks = []attack{
	{does: "shows nothing", gets: []string{refusedUnknown, "does not say who it is"}, logged: []string{"a call was refused", "JobService/ListJobs", "who=nobody"}, try: func(b *besieged) string {
		return b.asks()
	}},
	{does: "shows a token that it has made up", gets: []string{refusedUnknown, "no such token"}, try: func(b *besieged) string {
		var cluster string
		if c, err := enginev1.NewClusterServiceClient(b.conn(b.head.Address, nil)).GetCluster(b.user("alice"), &enginev1.GetClusterRequest{}); err == nil {
			cluster = c.GetClusterId()
		}
		return b.asks("Bearer " + access.NewSecret(cluster).Text())
	}},
	{does: "shows a token of another cluster", gets: []string{refusedUnknown, "of another cluster"}, try: func(b *besieged) string {
		token := b.must("token", "create", "eve", "--role", "admin", "--address", b.other.Address, "--tls", b.path("other", "tls")).stdout
		return b.asks("Bearer " + strings.TrimSpace(token))
	}},
	{does: "shows an admin's token that has expired", gets: []string{refusedUnknown, "has expired at"}, try: func(b *besieged) string {
		var said string
		eventually(b.place.t, "the end of the token", func() bool {
			said = b.asks("Bearer " + b.tokens["short"])
			return !strings.HasPrefix(said, "OK")
		})
		return said
	}},
	{does: "shows an admin's token that was revoked", gets: []string{refusedUnknown, "was revoked at"}, try: func(b *besieged) string {
		return b.asks("Bearer " + b.tokens["lost"])
	}},
	{does: "shows a token of which it has all but the last character", gets: []string{refusedUnknown, "mistyped"}, try: func(b *besieged) string {
		token := b.tokens["otto"]
		return b.asks("Bearer " + token[:len(token)-1])
	}},
	{does: "shows a token to join with as a user's", gets: []string{refusedUnknown}, try: func(b *besieged) string {
		return b.asks("Bearer " + b.head.Join.Token)
	}},
	{does: "shows two credentials, so that checks may look at different ones", gets: []string{refusedUnknown, "expected one"}, try: func(b *besieged) string {
		return b.asks("Bearer "+b.tokens["vera"], "Bearer "+b.tokens["otto"])
	}},
	{does: "shows a password", gets: []string{refusedUnknown, "of another scheme"}, try: func(b *besieged) string {
		return b.asks("Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin")))
	}},
	{does: "has a user's token in the URL, where proxies and logs keep it", gets: []string{"401 Unauthorized"}, try: func(b *besieged) string {
		return b.gets("/metrics?token="+b.tokens["vera"]+"&access_token="+b.tokens["vera"], nil)
	}},
	{does: "has a user's token in a cookie, which browsers send by themselves", gets: []string{"401 Unauthorized"}, try: func(b *besieged) string {
		return b.gets("/metrics", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "token", Value: b.tokens["vera"]}) })
	}},
	{does: "shows a JWT that says to need no signature", gets: []string{refusedUnknown, "a signature that is accepted"}, try: func(b *besieged) string {
		return b.asks(b.oidc.unsigned())
	}},
	{does: "signs a JWT with the issuer's public key as if it were a shared secret", gets: []string{refusedUnknown, "a signature that is accepted"}, try: func(b *besieged) string {
		public, err := x509.MarshalPKIXPublicKey(b.oidc.key.Public())
		if err != nil {
			b.place.t.Fatal(err)
		}
		return b.asks(b.oidc.sign(jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), nil))
	}},
	{does: "signs a JWT with a key of its own under the issuer's key id", gets: []string{refusedUnknown, "the signature of the JWT is wrong"}, try: func(b *besieged) string {
		return b.asks(newForgedIssuer(b.place.t).sign(jose.ES256, nil, nil))
	}},
	{does: "puts a key of its own into the JWT's header", gets: []string{refusedUnknown, "the signature of the JWT is wrong"}, try: func(b *besieged) string {
		own := newForgedIssuer(b.place.t)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own.key}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			b.place.t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(own.claims(nil)).Serialize()
		if err != nil {
			b.place.t.Fatal(err)
		}
		return b.asks("Bearer " + text)
	}},
	{does: "shows a JWT that the issuer has made for another service", gets: []string{refusedUnknown, "audience"}, try: func(b *besieged) string {
		return b.asks(b.oidc.sign(jose.ES256, nil, map[string]any{"aud": "payroll"}))
	}},
	{does: "shows a JWT of another issuer", gets: []string{refusedUnknown, "issuer"}, try: func(b *besieged) string {
		return b.asks(b.oidc.sign(jose.ES256, nil, map[string]any{"iss": "https://evil.example"}))
	}},
	{does: "shows a JWT that has expired", gets: []string{refusedUnknown, "expired"}, try: func(b *besieged) string {
		return b.asks(b.oidc.sign(jose.ES256, nil, map[string]any{"exp": time.Now().Add(-10 * time.Minute).Unix()}))
	}},
	{does: "shows a JWT that never ends", gets: []string{refusedUnknown, "does not say when it ends"}, try: func(b *besieged) string {
		return b.asks(b.oidc.sign(jose.ES256, nil, map[string]any{"exp": nil}))
	}},
	{does: "shows a good JWT of somebody without any role here", gets: []string{refusedUnknown, "no rule gives its user a role here"}, try: func(b *besieged) string {
		return b.asks(b.oidc.sign(jose.ES256, nil, map[string]any{"groups": []string{"guests"}}))
	}},
}
