package client

import (
	"context"
	"os"

	"google.golang.org/grpc"

	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The environment variables that a client takes its token from if it is given none: the text itself, or the path of a file with it.
const (
	TokenEnv     = "ENGINE_TOKEN"
	TokenFileEnv = "ENGINE_TOKEN_FILE"
)

// WithToken shows a token, or a JWT of an identity provider that the cluster trusts, with every call. Without this option, and
// WithTokenFile, the environment variables ENGINE_TOKEN and ENGINE_TOKEN_FILE are asked; without those the client shows none, which is
// enough for the user whose cluster it is on this machine. A token never travels in clear text, except over loopback.
func WithToken(token string) Option {
	return func(o *dialOptions) { o.token = func() (string, error) { return token, nil } }
}

// WithTokenFile is WithToken with the text in a file, which is read again when it has changed. Nobody but its owner may read the file.
func WithTokenFile(path string) Option {
	return func(o *dialOptions) { o.token = rpc.TokenFile(path) }
}

// tokenOptions make the calls of a connection show the token of the options, or that of the environment.
func (o *dialOptions) tokenOptions() ([]grpc.DialOption, error) {
	token := o.token
	if token == nil {
		if text := os.Getenv(TokenEnv); text != "" {
			token = func() (string, error) { return text, nil }
		} else if path := os.Getenv(TokenFileEnv); path != "" {
			token = rpc.TokenFile(path)
		}
	}
	if token == nil {
		return nil, nil
	}
	shown, err := rpc.Bearer(token)
	if err != nil {
		return nil, err
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(shown)}, nil
}

// WhoAmI returns who the head takes the client for, and the id of its cluster.
func (c *Client) WhoAmI(ctx context.Context) (*enginev1.WhoAmIResponse, error) {
	return c.access.WhoAmI(ctx, &enginev1.WhoAmIRequest{})
}

// CreateToken makes a token, for which the caller must be an admin. Its text is in the response and nowhere else. The error is of kind
// engine.KindConflict if a token of that name has not ended.
func (c *Client) CreateToken(ctx context.Context, request *enginev1.CreateTokenRequest) (*enginev1.CreateTokenResponse, error) {
	return c.access.CreateToken(ctx, request)
}

// Tokens returns the tokens in order of their creation, those that have ended for as long as they are remembered.
func (c *Client) Tokens(ctx context.Context) ([]*enginev1.Token, error) {
	response, err := c.access.ListTokens(ctx, &enginev1.ListTokensRequest{})
	if err != nil {
		return nil, err
	}
	return response.GetTokens(), nil
}

// RevokeToken ends a token by its id, or by its name if it has not ended. The error is of kind engine.KindNotFound if there is none.
func (c *Client) RevokeToken(ctx context.Context, token string) (*enginev1.Token, error) {
	response, err := c.access.RevokeToken(ctx, &enginev1.RevokeTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	return response.GetToken(), nil
}
