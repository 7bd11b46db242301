package client

import (
	"context"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// CreateJoinToken makes a token that lets nodes join the cluster, for which the caller must be an admin. Its text is in the response and
// nowhere else.
func (c *Client) CreateJoinToken(ctx context.Context, request *enginev1.CreateJoinTokenRequest) (*enginev1.CreateJoinTokenResponse, error) {
	return c.join.CreateJoinToken(ctx, request)
}

// JoinTokens returns the tokens to join with that have not ended, in the order in which they were made.
func (c *Client) JoinTokens(ctx context.Context) ([]*enginev1.JoinToken, error) {
	response, err := c.join.ListJoinTokens(ctx, &enginev1.ListJoinTokensRequest{})
	return response.GetTokens(), err
}

// RevokeJoinToken ends a token to join with, by its id. Nodes that have joined by it stay. The error is of kind engine.KindNotFound if there
// is none.
func (c *Client) RevokeJoinToken(ctx context.Context, id string) error {
	_, err := c.join.RevokeJoinToken(ctx, &enginev1.RevokeJoinTokenRequest{TokenId: id})
	return err
}

// Certificates returns the certificates of nodes that have not ended, in the order in which they were made.
func (c *Client) Certificates(ctx context.Context) ([]*enginev1.NodeCertificate, error) {
	response, err := c.join.ListCertificates(ctx, &enginev1.ListCertificatesRequest{})
	return response.GetCertificates(), err
}

// RevokeNode makes every certificate of a node void, by its name there or its id in the cluster, and closes its connections. It returns the
// certificates that were good until then; revoking a node again does nothing. The error is of kind engine.KindNotFound if none has a
// certificate of that name.
func (c *Client) RevokeNode(ctx context.Context, name string) ([]*enginev1.NodeCertificate, error) {
	response, err := c.join.RevokeCertificates(ctx, &enginev1.RevokeCertificatesRequest{Name: name})
	return response.GetCertificates(), err
}
