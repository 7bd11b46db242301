// Package tokens makes, revokes, and checks the tokens of a cluster. They are in the head's durable state, so that every head knows them; of
// their texts there is only a hash.
package tokens

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Provider is an identity provider whose tokens are accepted, too.
type Provider interface {
	// Identify returns whose a JWT is. It must not block. The errors are those of access.Authenticator.
	Identify(jwt string) (access.Identity, error)
	// Run keeps what that needs current, until ctx ends.
	Run(ctx context.Context) error
}

const (
	// maxTokens bounds the tokens that have not ended, or not long ago.
	maxTokens = 10_000
	// DefaultLife is how long a token holds of which nothing else is said.
	DefaultLife = 90 * 24 * time.Hour
	// maxLife bounds the life of one that ends by itself.
	maxLife = 100 * 365 * 24 * time.Hour
)

// Book checks tokens and, at the head that leads, makes and revokes them. It is safe for concurrent use. It implements access.Authenticator.
type Book struct {
	store    *state.Store
	provider Provider
	now      func() time.Time
}

// New makes the book of a store. provider may be nil; now is time.Now if it is.
func New(store *state.Store, provider Provider, now func() time.Time) *Book {
	if now == nil {
		now = time.Now
	}
	return &Book{store: store, provider: provider, now: now}
}

const opCheck = "check token"

func refuse(id, format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindUnauthenticated, opCheck, id, format, args...)
}

const askForOne = "ask an admin of the cluster for another one, which `engine token create` makes"

// Recall implements access.Authenticator. Everything is known at once here.
func (b *Book) Recall(credential string) (access.Identity, bool, error) {
	identity, err := b.identify(credential)
	return identity, err == nil, err
}

// Authenticate implements access.Authenticator.
func (b *Book) Authenticate(_ context.Context, credential string) (access.Identity, error) {
	return b.identify(credential)
}

func (b *Book) identify(credential string) (access.Identity, error) {
	if !access.IsToken(credential) && b.provider != nil {
		return b.provider.Identify(credential)
	}
	secret, err := access.ParseSecret(credential)
	if err != nil {
		return access.Identity{}, err
	}
	var found *enginev1.TokenCreated
	var cluster string
	b.store.View(func(s *state.State) { found, cluster = s.Token(secret.ID), s.ClusterID })
	switch {
	case !secret.IsOf(cluster):
		return access.Identity{}, refuse(secret.ID, "the token is of another cluster than this one, %s", cluster).WithHint("is --address that of the cluster that you mean?")
	case found == nil || !secret.Matches(found.GetHash()):
		return access.Identity{}, refuse(secret.ID, "the cluster has no such token; it was never made, or has ended more than 30 days ago").WithHint(askForOne)
	}
	token := found.GetToken()
	if t := token.GetRevokeTime(); t != nil {
		return access.Identity{}, refuse(secret.ID, "the token %s was revoked at %s", token.GetName(), t.AsTime().Format(time.RFC3339)).WithHint(askForOne)
	}
	now := b.now()
	if t := token.GetExpireTime(); t != nil && !t.AsTime().After(now) {
		return access.Identity{}, refuse(secret.ID, "the token %s has expired at %s, and it is %s by the head's clock", token.GetName(), t.AsTime().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithHint(askForOne)
	}
	role, err := access.ParseRole(token.GetRole())
	if err != nil {
		return access.Identity{}, refuse(secret.ID, "%w", err)
	}
	identity := access.Identity{Name: token.GetName(), Method: access.ByToken, Roles: role, Queues: token.GetQueues(), TokenID: secret.ID}
	if t := token.GetExpireTime(); t != nil {
		identity.Expires = t.AsTime()
	}
	return identity, nil
}

// Life reads how long a token is to hold: a duration by parse, "never", which is zero, or nothing, which is DefaultLife.
func Life(text string, parse func(string) (time.Duration, error)) (time.Duration, error) {
	switch text {
	case "":
		return DefaultLife, nil
	case "never":
		return 0, nil
	}
	life, err := parse(text)
	if err != nil || life <= 0 || life > maxLife {
		return 0, engine.Errorf(engine.KindInvalidArgument, "create token", "", "ttl: %q is no duration above zero, such as 12h or 90d, nor never", text)
	}
	return life, nil
}

// Create makes a token with a life, zero for one that does not end by itself, and returns it with its text. The error is of kind
// engine.KindConflict if a token of that name has not ended.
func (b *Book) Create(ctx context.Context, name, role string, queues []string, life time.Duration, by string) (*enginev1.Token, string, error) {
	const operation = "create token"
	if engine.CheckSubmissionID(name) != nil {
		return nil, "", engine.Errorf(engine.KindInvalidArgument, operation, "", "%q is no name of a token: use 1 to 200 letters, digits, and ._:/@+-", name)
	}
	if _, err := access.ParseRole(role); err != nil {
		return nil, "", engine.WrapError(operation, name, err)
	}
	if len(queues) == 0 || role == "admin" || role == "worker" { // They have all that there is.
		queues = []string{access.Everything}
	}
	if err := access.CheckQueues(queues); err != nil {
		return nil, "", engine.WrapError(operation, name, err)
	}
	var cluster string
	b.store.View(func(s *state.State) { cluster = s.ClusterID })
	secret := access.NewSecret(cluster)
	token := &enginev1.Token{TokenId: secret.ID, Name: name, Role: role, Queues: queues, CreatedBy: by}
	now := b.now()
	if life > 0 {
		token.ExpireTime = timestamppb.New(now.Add(life))
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_TokenCreated{TokenCreated: &enginev1.TokenCreated{Token: token, Hash: secret.Hash()}}}
	err := b.store.ProposeIf(ctx, func(s *state.State) error {
		tokens := s.Tokens()
		if len(tokens) >= maxTokens {
			return engine.Errorf(engine.KindExhausted, operation, name, "there are %d tokens, which is the limit", len(tokens)).
				WithHint("those that have ended are forgotten after 30 days")
		}
		for _, known := range tokens {
			if t := known.GetToken(); t.GetName() == name && state.TokenEnded(t, now).IsZero() {
				return engine.Errorf(engine.KindConflict, operation, name, "token %s has this name, and has not ended", t.GetTokenId()).
					WithHint("revoke it first, or choose another name")
			}
		}
		return nil
	}, entry)
	if err != nil {
		return nil, "", err
	}
	b.store.View(func(s *state.State) { token = s.Token(secret.ID).GetToken() })
	return token, secret.Text(), nil
}

// List returns the tokens in order of their creation. They must not be changed.
func (b *Book) List() []*enginev1.Token {
	var found []*enginev1.Token
	b.store.View(func(s *state.State) {
		for _, known := range s.Tokens() {
			found = append(found, known.GetToken())
		}
	})
	return found
}

// Revoke ends a token by its id, by its name if it has not ended, or by its text. The error is of kind engine.KindNotFound if there is none.
func (b *Book) Revoke(ctx context.Context, which string) (*enginev1.Token, error) {
	const operation = "revoke token"
	if access.IsToken(which) {
		secret, err := access.ParseSecret(which)
		if err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "%w", err)
		}
		which = secret.ID
	}
	var found *enginev1.Token
	now := b.now()
	b.store.View(func(s *state.State) {
		found = s.Token(which).GetToken()
		for _, known := range s.Tokens() {
			if t := known.GetToken(); found == nil && t.GetName() == which && state.TokenEnded(t, now).IsZero() {
				found = t
			}
		}
	})
	if found == nil {
		return nil, engine.Errorf(engine.KindNotFound, operation, which, "no token that has not ended has this id or name").WithHint("`engine token list` shows the tokens")
	}
	id := found.GetTokenId()
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_TokenRevoked{TokenRevoked: &enginev1.TokenRevoked{TokenId: id}}}
	if err := b.store.Propose(ctx, entry); err != nil {
		return nil, err
	}
	b.store.View(func(s *state.State) { found = s.Token(id).GetToken() })
	return found, nil
}
