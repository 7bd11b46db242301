package api

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/tokens"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Access serves enginev1.AccessService.
type Access struct {
	enginev1.UnimplementedAccessServiceServer
	store *state.Store
	book  *tokens.Book
}

// NewAccess makes the server of a book of tokens and its store.
func NewAccess(store *state.Store, book *tokens.Book) *Access {
	return &Access{store: store, book: book}
}

// WhoAmI implements enginev1.AccessServiceServer.
func (s *Access) WhoAmI(ctx context.Context, _ *enginev1.WhoAmIRequest) (*enginev1.WhoAmIResponse, error) {
	response := &enginev1.WhoAmIResponse{Identity: access.ToProto(access.Of(ctx))}
	s.store.View(func(st *state.State) { response.ClusterId = st.ClusterID })
	return response, nil
}

// CreateToken implements enginev1.AccessServiceServer.
func (s *Access) CreateToken(ctx context.Context, request *enginev1.CreateTokenRequest) (*enginev1.CreateTokenResponse, error) {
	life, err := tokens.Life(request.GetTtl(), jobplan.ParseDuration)
	if err != nil {
		return nil, err
	}
	if request.GetRole() == "worker" {
		if err := checkWorkersToken("create token", request.GetName()); err != nil {
			return nil, err
		}
	}
	token, text, err := s.book.Create(ctx, request.GetName(), request.GetRole(), request.GetQueues(), life, access.Of(ctx).Name)
	if err != nil {
		return nil, err
	}
	return &enginev1.CreateTokenResponse{Token: token, Text: text}, nil
}

// ListTokens implements enginev1.AccessServiceServer.
func (s *Access) ListTokens(context.Context, *enginev1.ListTokensRequest) (*enginev1.ListTokensResponse, error) {
	return &enginev1.ListTokensResponse{Tokens: s.book.List()}, nil
}

// RevokeToken implements enginev1.AccessServiceServer.
func (s *Access) RevokeToken(ctx context.Context, request *enginev1.RevokeTokenRequest) (*enginev1.RevokeTokenResponse, error) {
	if request.GetToken() == "" {
		return nil, engine.Errorf(engine.KindInvalidArgument, "revoke token", "", "an id or a name is required")
	}
	token, err := s.book.Revoke(ctx, request.GetToken())
	return &enginev1.RevokeTokenResponse{Token: token}, err
}

// Authenticate implements enginev1.AccessServiceServer. What is wrong with the credential is an error of kind engine.KindNotFound with the
// reason: the caller is fine, and must not be told that it is not.
func (s *Access) Authenticate(ctx context.Context, request *enginev1.AuthenticateRequest) (*enginev1.AuthenticateResponse, error) {
	identity, err := s.book.Authenticate(ctx, request.GetCredential())
	if engine.KindOf(err) == engine.KindUnauthenticated && err != nil {
		return nil, engine.Errorf(engine.KindNotFound, "authenticate", "", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	return &enginev1.AuthenticateResponse{Identity: access.ToProto(identity)}, nil
}
