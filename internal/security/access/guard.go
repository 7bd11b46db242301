package access

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/audit"
	"github.com/f708428e/engine/internal/security/pki"
)

// Authenticator says who has shown a credential: a token's text, or a JWT. Its errors are of kind engine.KindUnauthenticated and say what is
// wrong with the credential, without holding it; one of kind engine.KindUnavailable says that it cannot be told now.
type Authenticator interface {
	// Recall returns who that is if it can be told at once; known is false if it cannot. It must not block.
	Recall(credential string) (identity Identity, known bool, err error)
	// Authenticate returns who that is. It may block.
	Authenticate(ctx context.Context, credential string) (Identity, error)
}

// Config is what a Guard is made of.
type Config struct {
	// Credentials says who has shown one. Required.
	Credentials Authenticator
	// TokensOnly says that a connection over loopback by the user of this process proves nothing.
	TokensOnly bool
	// Limits bound what one identity or one stranger may take. Zero fields mean the defaults.
	Limits Limits
	// Audit keeps what was done and refused. Nil means that nothing is kept.
	Audit *audit.Log
	// Logger hears of what was refused. Required.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
	// Recheck is how often the credential of a stream is looked at again, which ends with it. Zero means 5 s.
	Recheck time.Duration
	// UID is the user whose connections over loopback are trusted. Nil means that of this process. It is for tests.
	UID func() int
}

// Guard applies the table of rules to servers. It is safe for concurrent use, and holds nothing that has to be closed.
type Guard struct {
	config Config
	usage  *usage
}

// NewGuard makes a Guard.
func NewGuard(config Config) *Guard {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.UID == nil {
		config.UID = os.Getuid
	}
	if config.Recheck <= 0 {
		config.Recheck = 5 * time.Second
	}
	config.Limits = config.Limits.withDefaults()
	return &Guard{config: config, usage: newUsage(config.Limits, config.Now)}
}

const opCall = "call"

// header is the metadata that a credential comes in, and scheme what is before it there.
const (
	header = "authorization"
	scheme = "Bearer "
	// maxCredentialBytes bounds a credential: JWTs have some kilobytes.
	maxCredentialBytes = 16 << 10
)

// credentialIn returns the credential that headers carry, or none. The error is of kind engine.KindUnauthenticated.
func credentialIn(values []string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", engine.Errorf(engine.KindUnauthenticated, "read credential", "", format, args...)
	}
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return refuse("there are %d %s headers, expected one", len(values), header)
	}
	value := values[0]
	if len(value) > maxCredentialBytes+len(scheme) {
		return refuse("the %s header has %d bytes, at most %d are allowed", header, len(value), maxCredentialBytes)
	}
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return refuse("the %s header is of another scheme than %s", header, strings.TrimSpace(scheme))
	}
	credential := strings.Trim(value[len(scheme):], " ")
	if credential == "" {
		return refuse("the %s header has no token", header)
	}
	for _, c := range []byte(credential) {
		if c <= ' ' || c > '~' {
			return refuse("the token has a character that no token has")
		}
	}
	return credential, nil
}

// link returns who a connection itself proves its other end to be, or nobody.
func (g *Guard) link(address net.Addr, known pki.Link) Identity {
	everything := []string{Everything}
	if known.InProcess || isInProcess(address) {
		return Internal
	}
	if p := known.Peer; p != nil {
		switch p.Role {
		case pki.RoleWorker:
			return Identity{Name: p.Name, Method: ByCertificate, Roles: Worker, Queues: everything}
		case pki.RoleHead:
			return Identity{Name: p.Name, Method: ByCertificate, Roles: Admin | Worker, Queues: everything}
		case pki.RoleAdmin:
			return Identity{Name: p.Name, Method: ByCertificate, Roles: Admin, Queues: everything}
		}
	}
	if g.config.TokensOnly {
		return Identity{}
	}
	origin, ok := address.(*Origin)
	if !ok {
		return Identity{}
	}
	uid, err := origin.User()
	// Where the system does not tell users apart, loopback is one user: see record 40.
	untold := err != nil && !kernelTells && isLoopback(address)
	if err == nil && uid == g.config.UID() && !isAmbiguous(uid) || untold {
		return Identity{Name: userName(g.config.UID()), Method: ByKernel, Roles: Admin | Worker, Queues: everything}
	}
	return Identity{}
}

func isLoopback(address net.Addr) bool {
	host, _, err := net.SplitHostPort(address.String())
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// caller is who makes a call, as far as is known before the call is looked at.
type caller struct {
	identity Identity
	// credential was shown, and has to be looked at by somebody who may wait. It is empty if the identity is known.
	credential string
	// shown is the credential, which a stream is looked at by again.
	shown  string
	from   string
	source string
	call   string
	rule   Rule
	// address is the connection's, and settled is to be called once the credential has proved to be good; it is nil unless nobody was known there.
	address net.Addr
	settled func()
	// hidden is why the call's handler has answered as if there were no such thing, if it has.
	hidden atomic.Pointer[error]
}

type callerKey struct{}

// identify finds out who has shown what. It does not block. The error is of kind engine.KindUnauthenticated, or engine.KindUnavailable.
func (g *Guard) identify(c *caller, values []string, address net.Addr, known pki.Link) error {
	credential, err := credentialIn(values)
	if err != nil {
		return err
	}
	if credential == "" {
		if c.identity = g.link(address, known); !c.identity.IsZero() || c.rule.Open {
			return nil
		}
		return g.anonymous(address)
	}
	c.shown = credential
	identity, isKnown, err := g.config.Credentials.Recall(credential)
	switch {
	case err != nil:
		return err
	case isKnown:
		c.identity = identity
	default:
		c.credential = credential
	}
	return nil
}

// anonymous is the error of who proves nothing.
func (g *Guard) anonymous(address net.Addr) error {
	e := engine.Errorf(engine.KindUnauthenticated, opCall, "", "the caller does not say who it is")
	if origin, ok := address.(*Origin); ok && !g.config.TokensOnly {
		if uid, err := origin.User(); err == nil {
			e = engine.Errorf(engine.KindUnauthenticated, opCall, "", "the caller is %s, another user of this machine than the one whose cluster this is", userName(uid))
		}
	}
	return e.WithHint("set ENGINE_TOKEN or --token to a token that an admin of the cluster has made with `engine token create`")
}

// authorize applies the rule to a caller whose identity is known.
func (g *Guard) authorize(c *caller) error {
	if c.rule.Allows(c.identity) {
		return nil
	}
	return engine.Errorf(engine.KindPermission, opCall, c.call, "%s has the role %s, and needs one of %s", c.identity, c.identity.Roles, c.rule.Roles).
		WithHint("an admin of the cluster makes tokens of other roles with `engine token create`")
}

// look does all that can be done about a call before anything of it is read: it finds the rule, who calls, and whether it may. A caller
// whose credential takes time to look at is let through, to settle.
func (g *Guard) look(c *caller, values []string, address net.Addr, known pki.Link) error {
	c.source = source(address)
	if address != nil {
		c.from = address.String()
	}
	var ok bool
	if c.rule, ok = RuleFor(c.call); !ok {
		_ = g.identify(c, values, address, known) // For the audit log alone.
		return engine.Errorf(engine.KindPermission, opCall, c.call, "there is no rule that allows it to anybody")
	}
	if err := g.identify(c, values, address, known); err != nil {
		return err
	}
	if c.credential != "" {
		return nil
	}
	return g.authorize(c)
}

// settle finds out who has shown a credential that took time. It may block.
func (g *Guard) settle(ctx context.Context, c *caller) error {
	if c.credential == "" {
		return nil
	}
	if !g.usage.mayTry(c.source) {
		return errTooMany
	}
	credential := c.credential
	identity, err := g.config.Credentials.Authenticate(ctx, credential)
	if err != nil {
		return err
	}
	c.identity, c.credential = identity, ""
	return g.authorize(c)
}

// void says why the credential of a call that is under way is not good for it any more, and returns when it is not, or ctx ends. What cannot be
// told now is asked again. Certificates need none of it: the connection ends with one.
func (g *Guard) void(ctx context.Context, c *caller) error {
	ticker := time.NewTicker(g.config.Recheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		identity, known, err := g.config.Credentials.Recall(c.shown)
		if err == nil && !known {
			identity, err = g.config.Credentials.Authenticate(ctx, c.shown)
		}
		if err == nil && !c.rule.Open {
			now := &caller{identity: identity, call: c.call, rule: c.rule}
			err = g.authorize(now)
		}
		if kind := engine.KindOf(err); err != nil && (kind == engine.KindUnauthenticated || kind == engine.KindPermission) {
			return err
		}
	}
}

// know lifts the limit of what strangers may send over a connection.
func know(address net.Addr) {
	if origin, ok := address.(*Origin); ok {
		origin.known.Store(true)
	}
}

// errTooMany answers those of whose source too many were refused: they cost no more than this.
var errTooMany = engine.Errorf(engine.KindExhausted, opCall, "", "too many calls from there were refused in the last second")

// refused tells the log and the audit log of a call that was refused, and returns what its caller is told.
func (g *Guard) refused(ctx context.Context, c *caller, err error) error {
	switch kind := engine.KindOf(err); {
	// What there is no rule for is refused to strangers, too, as often as they ask.
	case kind == engine.KindUnauthenticated, kind == engine.KindPermission && c.identity.IsZero():
		if !g.usage.mayTry(c.source) {
			return errTooMany
		}
		g.usage.failed(c.source)
	case kind != engine.KindPermission:
		return err
	}
	g.note(ctx, c, "", err)
	return err
}

// note writes down that a call was refused.
func (g *Guard) note(ctx context.Context, c *caller, about string, err error) {
	g.config.Logger.InfoContext(ctx, "a call was refused", "call", cut(c.call), "who", c.identity.String(), "from", c.from, "error", cut(err.Error()))
	g.config.Audit.Refused(g.event(c, about, err))
}

// maxNoted bounds a text in the log that a caller may have chosen.
const maxNoted = 512

func cut(text string) string {
	if len(text) <= maxNoted {
		return text
	}
	return strings.ToValidUTF8(text[:maxNoted], "") + "…"
}

func (g *Guard) event(c *caller, target string, err error) audit.Event {
	event := audit.Event{
		Who: c.identity.Name, Method: string(c.identity.Method), Token: c.identity.TokenID, From: c.from, Call: c.call, Target: target,
	}
	if c.identity.IsZero() {
		event.Who = "nobody"
	}
	if err != nil {
		event.Reason = err.Error()
	}
	return event
}

// linkOf returns what is known of the caller of a gRPC call by its connection.
func linkOf(ctx context.Context) (address net.Addr, known pki.Link) {
	if p, ok := peer.FromContext(ctx); ok {
		address = p.Addr
	}
	known, _ = pki.LinkOf(ctx)
	return address, known
}

// Fingerprint stands for a credential in memory, so that none is kept.
func Fingerprint(credential string) [sha256.Size]byte { return sha256.Sum256([]byte(credential)) }
