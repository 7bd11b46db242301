package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/oidc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issuer signs tokens.
type issuer struct {
	t   testing.TB
	kid string
	key *ecdsa.PrivateKey
}

func newIssuer(t testing.TB, kid string) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return &issuer{t, kid, key}
}

func (i *issuer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: i.key.Public(), KeyID: i.kid, Algorithm: string(jose.ES256), Use: "sig"}
}

func keySet(keys ...jose.JSONWebKey) []byte {
	text, _ := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	return text
}

// sign makes a token of claims.
func (i *issuer) sign(claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.kid}}, nil)
	check(i.t, err)
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	check(i.t, err)
	return text
}

const issuerURL = "https://login.example"

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// claims are those of a good token, with changes; a nil value leaves a claim out.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": issuerURL, "aud": []string{"engine", "other"}, "sub": "u1", "email": "ada@example.org", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(),
		"groups": []string{"a", "team"}, "realm_access": map[string]any{"roles": []string{"ops"}},
	}
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

func config(keys string) oidc.Config {
	return oidc.Config{
		Issuer: issuerURL, Audience: "engine", Keys: keys, Name: "email",
		Rules: []oidc.Rule{
			{Claim: "groups", Value: "admins", Role: "admin"}, {Claim: "groups", Value: "team", Role: "submit", Queues: []string{"team/*"}},
			{Claim: "realm_access.roles", Value: "ops", Role: "operate"},
		},
	}
}

func write(t testing.TB, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	check(t, os.WriteFile(path, text, 0o600))
	return path
}

func open(t testing.TB, configs ...oidc.Config) *oidc.Providers {
	t.Helper()
	p, err := oidc.New(context.Background(), configs, slog.New(slog.DiscardHandler), func() time.Time { return now })
	check(t, err)
	return p
}

func TestIdentify(t *testing.T) {
	good, evil := newIssuer(t, "k1"), newIssuer(t, "k1")
	p := open(t, config(write(t, keySet(good.public()))))
	for name, test := range map[string]struct {
		changes map[string]any
		role    access.Roles
		queue   string
		words   string
	}{
		"the first rule that fits": {nil, access.Submit, "team/*", ""},
		"all queues":               {map[string]any{"groups": "admins"}, access.Admin, "*", ""},
		"a path":                   {map[string]any{"groups": nil}, access.Operate, "*", ""},
		"one audience":             {map[string]any{"aud": "engine"}, access.Submit, "team/*", ""},
		"just ended":               {map[string]any{"exp": now.Add(-30 * time.Second).Unix()}, access.Submit, "team/*", ""},
		"ended":                    {map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}, 0, "", "expired at 2026-11-27T11:58:00Z, and it is 2026-11-27T12:00:00Z by the head's clock"},
		"clocks an hour apart":     {map[string]any{"nbf": now.Add(time.Hour).Unix()}, 0, "", "holds from 2026-11-27T13:00:00Z on"},
		"from the future":          {map[string]any{"iat": now.Add(time.Hour).Unix()}, 0, "", "issued at 2026-11-27T13:00:00Z"},
		"without an end":           {map[string]any{"exp": nil}, 0, "", "does not say when it ends"},
		"for somebody else":        {map[string]any{"aud": "other"}, 0, "", "audience"},
		"for nobody":               {map[string]any{"aud": nil}, 0, "", "audience"},
		"of another issuer":        {map[string]any{"iss": issuerURL + "/"}, 0, "", "issuer that this cluster does not trust"},
		"without a name":           {map[string]any{"email": nil}, 0, "", "names nobody"},
		"a name that is none":      {map[string]any{"email": 7}, 0, "", "names nobody"},
		"no rule":                  {map[string]any{"groups": []any{7, nil, "tea"}, "realm_access": "ops"}, 0, "", "no rule"},
		"claims of other types":    {map[string]any{"exp": "soon"}, 0, "", "right types"},
	} {
		identity, err := p.Identify(good.sign(claims(test.changes)))
		switch {
		case test.words == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.words == "":
			if identity.Name != "ada@example.org" || identity.Method != access.ByOIDC || identity.Roles != test.role || identity.Queues[0] != test.queue || identity.Expires.IsZero() {
				t.Errorf("%s: %+v", name, identity)
			}
		case engine.KindOf(err) != engine.KindUnauthenticated || !strings.Contains(err.Error(), test.words):
			t.Errorf("%s: %v, expected %q", name, err, test.words)
		}
	}
	text := good.sign(claims(nil))
	part := strings.Split(text, ".")
	for name, attack := range map[string]string{
		"another key of the same name": evil.sign(claims(nil)),
		"an unknown key":               newIssuer(t, "k2").sign(claims(nil)),
		"no signature":                 part[0] + "." + part[1] + ".",
		"the algorithm none":           "eyJhbGciOiJub25lIn0." + part[1] + ".",
		"a shared secret":              hmacOf(t, good, claims(nil)),
		"other claims":                 part[0] + "." + strings.Split(good.sign(claims(map[string]any{"groups": "admins"})), ".")[1] + "." + part[2],
		"half":                         text[:len(text)/2],
		"nothing":                      "",
		"text":                         "secret",
	} {
		identity, err := p.Identify(attack)
		if engine.KindOf(err) != engine.KindUnauthenticated || err == nil || !identity.IsZero() {
			t.Errorf("%s: %v, %v", name, identity, err)
		}
		if err != nil && len(attack) > 60 && strings.Contains(err.Error(), attack[10:50]) {
			t.Errorf("%s: the error has the token: %v", name, err)
		}
	}
}

// hmacOf signs with the public key as if it were a shared secret.
func hmacOf(t *testing.T, i *issuer, claims map[string]any) string {
	t.Helper()
	public, err := json.Marshal(i.public())
	check(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: public, KeyID: i.kid}}, nil)
	check(t, err)
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	check(t, err)
	return text
}

// TestKeysOfAURL follows a provider that changes its keys.
func TestKeysOfAURL(t *testing.T) {
	first := newIssuer(t, "k1")
	var keys atomic.Value
	keys.Store(keySet(first.public()))
	asked := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		if strings.HasPrefix(r.URL.Path, "/.well-known") {
			_, _ = fmt.Fprintf(w, `{"issuer":"http://%s","jwks_uri":"http://%s/keys"}`, r.Host, r.Host)
			return
		}
		_, _ = w.Write(keys.Load().([]byte))
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	c := config("")
	c.Issuer = server.URL
	p := open(t, c)
	token := func(i *issuer) string { return i.sign(claims(map[string]any{"iss": server.URL})) }
	if _, err := p.Identify(token(first)); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("before the keys are there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for _, want := range []string{"/.well-known/openid-configuration", "/keys"} {
		if got := <-asked; got != want {
			t.Errorf("asked for %s, expected %s", got, want)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := p.Identify(token(first))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // sleep: the answer is on its way, and there is nothing to wait on.
	}
	_, err := p.Identify(token(newIssuer(t, "k2")))
	if engine.KindOf(err) != engine.KindUnauthenticated || !strings.Contains(err.Error(), "being read again") {
		t.Errorf("a new key: %v", err)
	}
	cancel()
	check(t, <-ended)
}

func TestBadConfigurations(t *testing.T) {
	for name, change := range map[string]func(c *oidc.Config){
		"no issuer":   func(c *oidc.Config) { c.Issuer = "" },
		"no audience": func(c *oidc.Config) { c.Audience = "" },
		"clear text":  func(c *oidc.Config) { c.Keys = "http://login.example/keys" },
		"no URL":      func(c *oidc.Config) { c.Keys, c.Issuer = "", "login" },
		"no rules":    func(c *oidc.Config) { c.Rules = nil },
		"a bad role":  func(c *oidc.Config) { c.Rules[0].Role = "king" },
		"a worker":    func(c *oidc.Config) { c.Rules[0].Role = "worker" },
		"a bad queue": func(c *oidc.Config) { c.Rules[0].Queues = []string{"a b"} },
		"no claim":    func(c *oidc.Config) { c.Rules[0].Claim = "" },
		"no value":    func(c *oidc.Config) { c.Rules[0].Value = "" },
		"no file":     func(c *oidc.Config) { c.Keys = "/nowhere" },
		"no keys":     func(c *oidc.Config) { c.Keys = write(t, []byte("{}")) },
		"no JSON":     func(c *oidc.Config) { c.Keys = write(t, []byte("keys")) },
		"private keys": func(c *oidc.Config) {
			i := newIssuer(t, "k")
			c.Keys = write(t, keySet(jose.JSONWebKey{Key: i.key, KeyID: "k"}))
		},
		"symmetric keys": func(c *oidc.Config) { c.Keys = write(t, keySet(jose.JSONWebKey{Key: []byte("secret"), KeyID: "k"})) },
	} {
		c := config(write(t, keySet(newIssuer(t, "k").public())))
		change(&c)
		if _, err := oidc.New(t.Context(), []oidc.Config{c}, slog.New(slog.DiscardHandler), nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c := config(write(t, keySet(newIssuer(t, "k").public())))
	if _, err := oidc.New(t.Context(), []oidc.Config{c, c}, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: %v", err)
	}
}

const file = `
oidc:
  - issuer: https://login.example
    audience: engine
    keys: keys.json
    name: email
    roles:
      - {claim: groups, value: data, role: submit, queues: [etl, "team/*"]}
limits:
  requests_per_second: 100
  connections: 10
  slow_client: 30s
`

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.yaml")
	check(t, os.WriteFile(path, []byte(file), 0o600))
	loaded, err := oidc.Load(path)
	check(t, err)
	if c := loaded.OIDC[0]; c.Keys != filepath.Join(filepath.Dir(path), "keys.json") || c.Rules[0].Queues[1] != "team/*" {
		t.Errorf("%+v", c)
	}
	if l := loaded.AccessLimits(); l.RequestsPerSecond != 100 || l.Connections != 10 || l.SlowClient != 30*time.Second || l.Concurrent != 0 {
		t.Errorf("%+v", l)
	}
	if _, err := oidc.Parse(nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for text, word := range map[string]string{
		"oidcs: []": "oidcs", "limits: {concurrent: -1}": "below zero", "limits: {slow_client: soon}": "slow_client", "oidc: [{issuer: x}]": "audience",
		"limits: {concurrent: many}": "many", ":": "", strings.Repeat("# \n", 1<<20): "bytes",
	} {
		if _, err := oidc.Parse([]byte(text)); engine.KindOf(err) != engine.KindInvalidArgument || err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := oidc.Load("/nowhere"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no file: %v", err)
	}
}

func FuzzIdentify(f *testing.F) {
	i := newIssuer(f, "k1")
	dir := f.TempDir()
	path := filepath.Join(dir, "keys.json")
	check(f, os.WriteFile(path, keySet(i.public()), 0o600))
	p := open(f, config(path))
	text := i.sign(claims(nil))
	f.Add(text)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		identity, err := p.Identify(token)
		if err == nil && token != text && !strings.HasPrefix(token, text[:len(text)-90]) {
			t.Errorf("%q is taken for %v", token, identity)
		}
		if err != nil && engine.KindOf(err) != engine.KindUnauthenticated {
			t.Errorf("%q: %v", token, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(file)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := oidc.Parse([]byte(text))
		if err != nil && engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%v", err)
		}
		if err == nil {
			for _, c := range parsed.OIDC {
				check(t, c.Validate())
			}
		}
	})
}
