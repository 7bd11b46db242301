package node

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opJoin = "join cluster"

// joined is what a node has got from the cluster that it has joined.
type joined struct {
	response *enginev1.JoinResponse
	key      *ecdsa.PrivateKey
	// ahead is how far this machine's clock is before that of the head, as far as the time of the call tells.
	ahead time.Duration
}

// join shows a token to the head that leads, found from those at list, and gets a certificate. Nothing is sent to one whose authority is not
// that of the token.
func join(ctx context.Context, list, text string, request pki.Request) (*joined, error) {
	token, err := pki.ParseJoinToken(text)
	if err != nil {
		return nil, err
	}
	addresses, err := rpc.SplitAddresses(list)
	if err != nil {
		return nil, err
	}
	client, err := pki.NewClient(nil, token.Fingerprint(), pki.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	key, csr, err := pki.NewRequest()
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	var failures []error
	var backoff rpc.Backoff
	crowded := 0
	for len(addresses) > 0 {
		address := addresses[0]
		addresses, asked[address] = addresses[1:], true
		begun := time.Now()
		response, err := joinAt(ctx, client, address, &enginev1.JoinRequest{
			TokenId: token.ID(), Secret: token.Secret(), Csr: csr, Name: request.Name, Role: request.Role, Hosts: request.Hosts, Time: timestamppb.Now(),
		})
		if err == nil {
			there := response.GetTime().AsTime()
			return &joined{response: response, key: key, ahead: begun.Add(time.Since(begun) / 2).Sub(there)}, nil
		}
		leader := rpc.IsNotLeader(err)
		switch {
		case engine.KindOf(err) == engine.KindExhausted && crowded < joinTries && ctx.Err() == nil:
			// Others join at the same time.
			crowded++
			backoff.Wait(ctx, nil)
			addresses = slices.Insert(addresses, 0, address)
		case leader != nil && leader.Address != "" && !asked[leader.Address]:
			addresses = slices.Insert(addresses, 0, leader.Address)
		case leader == nil && engine.KindOf(err) != engine.KindUnavailable:
			return nil, err
		}
		failures = append(failures, err)
	}
	return nil, engine.WrapError(opJoin, "", errors.Join(failures...))
}

// skewWorthALine is the difference of clocks from which on it is worth a line in the log.
const skewWorthALine = time.Minute

// joinTries is how often a head is asked again that has too many nodes that join.
const joinTries = 20

// joinWithin is how long a head may take to answer.
const joinWithin = 20 * time.Second

func joinAt(ctx context.Context, client *pki.Identity, address string, request *enginev1.JoinRequest) (response *enginev1.JoinResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	// gRPC would say only that it could not connect.
	probe, err := client.Dial(ctx, address, pki.ProtocolGRPC, pki.RoleHead)
	var refusal *pki.Refusal
	switch {
	case errors.As(err, &refusal):
		refused := engine.Errorf(engine.KindUnauthenticated, opJoin, address, "%w", refusal.Unwrap())
		if refusal.Reason == pki.ForeignAuthority {
			refused = refused.WithHint("the token is of another cluster than that head: `engine node token` at one of its heads makes one that is of this")
		}
		return nil, refused
	case err != nil:
		return nil, engine.WrapError(opJoin, address, err)
	}
	if err := probe.Close(); err != nil {
		return nil, engine.WrapError(opJoin, address, err)
	}
	conn, err := rpc.Dial(address, grpc.WithTransportCredentials(client.ClientCredentials(pki.RoleHead)))
	if err != nil {
		return nil, err
	}
	response, err = enginev1.NewJoinServiceClient(conn).Join(ctx, request)
	return response, errors.Join(err, conn.Close())
}

// save keeps a worker's certificate in its folder.
func (j *joined) save(dir string) error {
	key, err := pki.EncodeKey(j.key)
	if err != nil {
		return err
	}
	if err := pki.SaveAuthority(dir, j.response.GetAuthority()); err != nil {
		return err
	}
	return pki.SaveNode(dir, j.response.GetCertificate(), key)
}

// JoinToken is how other nodes join the cluster of a head.
type JoinToken struct {
	// Token lets workers join until Ends. It is empty in a cluster without an authority of its own.
	Token string
	// Fingerprint is the SHA-256 of the certificate of the cluster's authority, in hexadecimal digits.
	Fingerprint string
	Ends        time.Time
	// Folder has certificates of an admin.
	Folder string
}

// JoinToken makes a token for workers to join the cluster of this node's head, which may have to wait for a head to lead.
func (n *Node) JoinToken(ctx context.Context) (JoinToken, error) {
	if n.head == nil || n.links == nil || n.links.authority == nil {
		return JoinToken{}, nil
	}
	c, err := n.Dial(ctx)
	if err != nil {
		return JoinToken{}, err
	}
	made, err := c.CreateJoinToken(ctx, &enginev1.CreateJoinTokenRequest{Role: pki.RoleWorker})
	if err := errors.Join(err, c.Close()); err != nil {
		return JoinToken{}, err
	}
	return JoinToken{Token: made.GetToken(), Fingerprint: made.GetFingerprint(), Ends: made.GetInfo().GetExpireTime().AsTime(), Folder: n.links.dir}, nil
}
