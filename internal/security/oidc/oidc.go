// Package oidc takes the tokens of identity providers: JWTs that a provider of OpenID Connect, or a cluster such as Kubernetes, has signed. It
// checks the signature, the issuer, the audience, and the times, and makes an identity of the claims by rules of the operator's. What is
// written of OpenID Connect's flows, such as logging in, is the client's matter.
package oidc

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/security/access"
)

// Config describes a provider.
type Config struct {
	// Issuer is the iss that its tokens must have, exactly. Required.
	Issuer string `yaml:"issuer"`
	// Audience is one that they must be for. Required: tokens for other services must not open this one.
	Audience string `yaml:"audience"`
	// Keys are where its keys are, a JWK set: an https URL, or a file. Empty means what the issuer says at
	// /.well-known/openid-configuration.
	Keys string `yaml:"keys"`
	// Name is the claim that names somebody in lists and logs. Empty means sub.
	Name string `yaml:"name"`
	// Rules give roles and queues. The first that fits counts; who fits none may do nothing.
	Rules []Rule `yaml:"roles"`
}

// Rule gives a role and queues to those whose claim has a value.
type Rule struct {
	// Claim is the name of a claim that is a text or a list of texts; dots lead into objects, as in realm_access.roles.
	Claim string `yaml:"claim"`
	// Value is what it must be, or contain. "*" means anything that is there.
	Value string `yaml:"value"`
	// Role and Queues are what is given. No queues means all.
	Role   string   `yaml:"role"`
	Queues []string `yaml:"queues"`
}

// Validate returns an error of kind engine.KindInvalidArgument that names what is wrong.
func (c Config) Validate() error {
	const op = "read oidc"
	invalid := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, op, c.Issuer, format, args...)
	}
	if c.Issuer == "" || c.Audience == "" {
		return invalid("issuer and audience are required")
	}
	if strings.Contains(c.Keys, "://") || c.Keys == "" {
		at := c.Keys
		if at == "" {
			at = c.Issuer
		}
		if err := checkURL(at); err != nil {
			return engine.WrapError(op, c.Issuer, err)
		}
	}
	if len(c.Rules) == 0 {
		return invalid("without roles nobody may do anything")
	}
	for i, rule := range c.Rules {
		role, err := access.ParseRole(rule.Role)
		if err == nil {
			err = access.CheckQueues(rule.Queues)
		}
		switch {
		case err != nil:
			return invalid("roles, entry %d: %w", i+1, err)
		case role == access.Worker:
			return invalid("roles, entry %d: workers have certificates or tokens of the cluster, not those of a provider", i+1)
		case rule.Claim == "" || rule.Value == "":
			return invalid("roles, entry %d: claim and value are required; the value * stands for any", i+1)
		}
	}
	return nil
}

// checkURL refuses what would have keys come in clear text over a network.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return engine.Errorf(engine.KindInvalidArgument, "read url", "", "%q is no URL", text)
	}
	host := u.Hostname()
	if u.Scheme != "https" && (u.Scheme != "http" || host != "localhost" && host != "127.0.0.1" && host != "::1") {
		return engine.Errorf(engine.KindInvalidArgument, "read url", "", "%q is not https", text)
	}
	return nil
}

// algorithms are the signatures that are accepted: those with a public key. What the token itself asks for decides nothing.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

const (
	// leeway is how far clocks may be apart.
	leeway = time.Minute
	// refreshEvery is how often keys are read again, and soonest how soon that is done when a key is not known.
	refreshEvery = 10 * time.Minute
	soonest      = 10 * time.Second
)

// Providers are the providers that a cluster trusts. It is safe for concurrent use.
type Providers struct {
	all    []*provider
	logger *slog.Logger
	now    func() time.Time
}

type provider struct {
	config Config
	keys   atomic.Pointer[jose.JSONWebKeySet]
	// wanted has a place for one signal: that a key is not known.
	wanted chan struct{}
}

// New makes providers. Keys in files are read; those at a URL are by Run.
func New(ctx context.Context, configs []Config, logger *slog.Logger, now func() time.Time) (*Providers, error) {
	if now == nil {
		now = time.Now
	}
	p := &Providers{logger: logger, now: now}
	for _, config := range configs {
		if err := config.Validate(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.all, func(other *provider) bool { return other.config.Issuer == config.Issuer }) {
			return nil, engine.Errorf(engine.KindInvalidArgument, "read oidc", config.Issuer, "the issuer is named twice")
		}
		one := &provider{config: config, wanted: make(chan struct{}, 1)}
		if config.Keys != "" && !strings.Contains(config.Keys, "://") {
			if err := one.read(ctx); err != nil {
				return nil, err
			}
		}
		p.all = append(p.all, one)
	}
	return p, nil
}

// Run keeps the keys current until ctx ends. It returns nil.
func (p *Providers) Run(ctx context.Context) error {
	group := lifecycle.NewGroup(ctx, "keys")
	for _, one := range p.all {
		group.Go(one.config.Issuer, func(ctx context.Context) error {
			one.run(ctx, p.logger)
			return nil
		})
	}
	<-ctx.Done()
	return group.Stop(context.WithoutCancel(ctx))
}

func (o *provider) run(ctx context.Context, logger *slog.Logger) {
	var reported string
	for {
		if err := o.read(ctx); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != reported {
				reported = text
				logger.WarnContext(ctx, "the keys of an identity provider could not be read; those that are known go on being used", "issuer", o.config.Issuer, "error", err)
			}
		} else {
			reported = ""
		}
		pause := time.NewTimer(soonest)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		again := time.NewTimer(refreshEvery - soonest)
		if o.keys.Load() == nil {
			again.Reset(0)
		}
		select {
		case <-again.C:
		case <-o.wanted:
		case <-ctx.Done():
		}
		again.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

const opToken = "check token"

func refuse(format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindUnauthenticated, opToken, "", format, args...)
}

// Identify returns whose a JWT is, and does not block: keys that are not known are read in the background. The errors are of kind
// engine.KindUnauthenticated and do not hold the token, or of kind engine.KindUnavailable while the keys are not there.
func (p *Providers) Identify(text string) (access.Identity, error) {
	parsed, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		return access.Identity{}, refuse("it is neither a token of the engine nor a JWT with a signature that is accepted").
			WithHint("copy the token as a whole")
	}
	var unverified jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unverified); err != nil {
		return access.Identity{}, refuse("the claims of the JWT are no JSON object of the right types")
	}
	for _, one := range p.all {
		if one.config.Issuer == unverified.Issuer {
			return one.identify(parsed, p.now())
		}
	}
	return access.Identity{}, refuse("the JWT is of an issuer that this cluster does not trust")
}

func (o *provider) identify(parsed *jwt.JSONWebToken, now time.Time) (access.Identity, error) {
	var claims jwt.Claims
	var all map[string]any
	if err := o.verify(parsed, &claims, &all); err != nil {
		return access.Identity{}, err
	}
	at := func(t *jwt.NumericDate) string { return t.Time().UTC().Format(time.RFC3339) }
	clock := now.UTC().Format(time.RFC3339)
	switch err := claims.ValidateWithLeeway(jwt.Expected{Issuer: o.config.Issuer, AnyAudience: jwt.Audience{o.config.Audience}, Time: now}, leeway); {
	case claims.Expiry == nil:
		return access.Identity{}, refuse("the JWT does not say when it ends")
	case errors.Is(err, jwt.ErrExpired):
		return access.Identity{}, refuse("the JWT has expired at %s, and it is %s by the head's clock", at(claims.Expiry), clock).WithHint("get a new one from your identity provider")
	case errors.Is(err, jwt.ErrNotValidYet):
		return access.Identity{}, refuse("the JWT holds from %s on, and it is %s by the head's clock", at(claims.NotBefore), clock).WithHint("are the clocks right?")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return access.Identity{}, refuse("the JWT was issued at %s, and it is %s by the head's clock", at(claims.IssuedAt), clock).WithHint("are the clocks right?")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return access.Identity{}, refuse("the JWT is not for this cluster: its audience is not %q", o.config.Audience)
	case err != nil:
		return access.Identity{}, refuse("the JWT is not valid: %w", err)
	}
	name := claims.Subject
	if o.config.Name != "" {
		name, _ = find(all, o.config.Name).(string)
	}
	if name == "" || len(name) > maxNameBytes {
		return access.Identity{}, refuse("the JWT names nobody in the claim that is to")
	}
	for _, rule := range o.config.Rules {
		if !has(find(all, rule.Claim), rule.Value) {
			continue
		}
		role, err := access.ParseRole(rule.Role)
		if err != nil {
			return access.Identity{}, err
		}
		queues := rule.Queues
		if len(queues) == 0 {
			queues = []string{access.Everything}
		}
		return access.Identity{Name: name, Method: access.ByOIDC, Roles: role, Queues: queues, Expires: claims.Expiry.Time()}, nil
	}
	return access.Identity{}, engine.Errorf(engine.KindUnauthenticated, opToken, name, "the identity provider is trusted, and no rule gives its user a role here")
}

// maxNameBytes bounds the names of users.
const maxNameBytes = 256

// verify checks the signature with the key that the token names, and reads the claims.
func (o *provider) verify(parsed *jwt.JSONWebToken, claims ...any) error {
	keys := o.keys.Load()
	if keys == nil {
		return engine.Errorf(engine.KindUnavailable, opToken, o.config.Issuer, "the keys of the identity provider have not been read yet")
	}
	if len(parsed.Headers) != 1 {
		return refuse("the JWT has %d signatures", len(parsed.Headers))
	}
	header := parsed.Headers[0]
	candidates := keys.Keys
	if header.KeyID != "" {
		candidates = keys.Key(header.KeyID)
	}
	for _, key := range candidates {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if parsed.Claims(key, claims...) == nil {
			return nil
		}
	}
	if len(candidates) == 0 {
		select {
		case o.wanted <- struct{}{}:
		default: // They are being read.
		}
		return refuse("the JWT was signed with a key that the identity provider did not have when its keys were read last; they are being read again")
	}
	return refuse("the signature of the JWT is wrong")
}

// find returns a claim by its path.
func find(claims map[string]any, path string) any {
	if value, ok := claims[path]; ok { // A claim's own name may have dots, as URLs have.
		return value
	}
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return nil
	}
	inner, _ := claims[name].(map[string]any)
	return find(inner, rest)
}

// has reports whether a claim is a value, or a list that has it.
func has(claim any, value string) bool {
	switch claim := claim.(type) {
	case string:
		return claim != "" && (value == "*" || claim == value)
	case []any:
		return slices.ContainsFunc(claim, func(one any) bool { text, ok := one.(string); return ok && has(text, value) })
	default:
		return false
	}
}
