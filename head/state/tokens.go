package state

import (
	"crypto/sha256"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// rememberTokens is how long a token is remembered after its end, so that whoever shows it is told what became of it.
const rememberTokens = 30 * 24 * time.Hour

// Token returns a token by its id, or nil. It may be kept, and must not be changed.
func (s *State) Token(id string) *enginev1.TokenCreated { return s.tokens[id] }

// Tokens returns the tokens in order of their creation. They may be kept, and must not be changed.
func (s *State) Tokens() []*enginev1.TokenCreated {
	tokens := make([]*enginev1.TokenCreated, 0, len(s.tokenOrder))
	for _, id := range s.tokenOrder {
		tokens = append(tokens, s.tokens[id])
	}
	return tokens
}

// TokenEnded returns when a token has ended, by revocation or by its time; zero if it has not at that time.
func TokenEnded(token *enginev1.Token, at time.Time) time.Time {
	var ended time.Time
	if t := token.GetExpireTime(); t != nil && !t.AsTime().After(at) {
		ended = t.AsTime()
	}
	if t := token.GetRevokeTime(); t != nil && (ended.IsZero() || t.AsTime().Before(ended)) {
		ended = t.AsTime()
	}
	return ended
}

// createToken takes in a token, and forgets those that ended long ago.
func (s *State) createToken(created *enginev1.TokenCreated, at time.Time) error {
	token := created.GetToken()
	id := token.GetTokenId()
	if id == "" || s.tokens[id] != nil || len(created.GetHash()) != sha256.Size {
		return contradiction("token %q is made twice, or has no hash", id)
	}
	for _, known := range s.Tokens() {
		if ended := TokenEnded(known.GetToken(), at); !ended.IsZero() && at.Sub(ended) > rememberTokens {
			s.forgetToken(known.GetToken().GetTokenId())
		}
	}
	kept := proto.CloneOf(created)
	if kept.GetToken().GetCreateTime() == nil {
		kept.Token.CreateTime = timestamppb.New(at)
	}
	s.keepToken(kept)
	return nil
}

func (s *State) keepToken(created *enginev1.TokenCreated) {
	id := created.GetToken().GetTokenId()
	s.tokens[id] = created
	s.tokenOrder = append(s.tokenOrder, id)
}

func (s *State) forgetToken(id string) {
	delete(s.tokens, id)
	s.tokenOrder = slices.DeleteFunc(s.tokenOrder, func(other string) bool { return other == id })
}

// revokeToken ends a token. The first revocation counts.
func (s *State) revokeToken(id string, at time.Time) error {
	known := s.tokens[id]
	if known == nil {
		return contradiction("token %q is revoked but does not exist", id)
	}
	if known.GetToken().GetRevokeTime() != nil {
		return nil
	}
	revoked := proto.CloneOf(known) // Readers may have the other one.
	revoked.Token.RevokeTime = timestamppb.New(at)
	s.tokens[id] = revoked
	return nil
}
