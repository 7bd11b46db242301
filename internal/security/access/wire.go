package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// ToProto returns the wire form of an identity.
func ToProto(i Identity) *enginev1.Identity {
	wire := &enginev1.Identity{Name: i.Name, Method: string(i.Method), Roles: i.Roles.Names(), Queues: i.Queues, TokenId: i.TokenID}
	if !i.Expires.IsZero() {
		wire.ExpireTime = timestamppb.New(i.Expires)
	}
	return wire
}

// FromProto is the inverse of ToProto. A role that this version does not know gives nothing.
func FromProto(wire *enginev1.Identity) Identity {
	i := Identity{Name: wire.GetName(), Method: Method(wire.GetMethod()), Queues: wire.GetQueues(), TokenID: wire.GetTokenId()}
	for _, name := range wire.GetRoles() {
		if role, err := ParseRole(name); err == nil {
			i.Roles |= role
		}
	}
	if wire.GetExpireTime() != nil {
		i.Expires = wire.GetExpireTime().AsTime()
	}
	return i
}

const (
	// rememberFor is how long a worker takes the head's word for a credential: so long a token that was revoked is good there.
	rememberFor = 10 * time.Second
	// maxRemembered bounds the credentials that are remembered.
	maxRemembered = 10_000
	// askWithin is how long the head may take to say who somebody is.
	askWithin = 10 * time.Second
)

// Remote asks the head who has shown a credential, and remembers the answer for ten seconds. It is safe for concurrent use.
type Remote struct {
	head enginev1.AccessServiceClient
	now  func() time.Time

	mu    sync.Mutex
	known map[[32]byte]remembered
}

type remembered struct {
	identity Identity
	until    time.Time
}

// NewRemote makes a Remote that asks a head. now is time.Now if it is nil.
func NewRemote(head enginev1.AccessServiceClient, now func() time.Time) *Remote {
	if now == nil {
		now = time.Now
	}
	return &Remote{head: head, now: now, known: map[[32]byte]remembered{}}
}

// Recall implements Authenticator.
func (r *Remote) Recall(credential string) (Identity, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.known[Fingerprint(credential)]
	return found.identity, ok && r.now().Before(found.until), nil
}

// Authenticate implements Authenticator.
func (r *Remote) Authenticate(ctx context.Context, credential string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	response, err := r.head.Authenticate(ctx, &enginev1.AuthenticateRequest{Credential: credential})
	if err != nil {
		var e *engine.Error
		if errors.As(err, &e) && e.Kind == engine.KindNotFound {
			return Identity{}, &engine.Error{Kind: engine.KindUnauthenticated, Op: e.Op, ID: e.ID, Hint: e.Hint, Err: e.Err}
		}
		return Identity{}, engine.Errorf(engine.KindUnavailable, "authenticate", "", "the head cannot be asked who this is: %w", err)
	}
	identity := FromProto(response.GetIdentity())
	now := r.now()
	until := now.Add(rememberFor)
	if !identity.Expires.IsZero() && identity.Expires.Before(until) {
		until = identity.Expires
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxRemembered {
		for key, old := range r.known {
			if !now.Before(old.until) {
				delete(r.known, key)
			}
		}
	}
	if len(r.known) < maxRemembered {
		r.known[Fingerprint(credential)] = remembered{identity, until}
	}
	return identity, nil
}
