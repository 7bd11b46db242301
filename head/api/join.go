package api

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/trust"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// JoinConfig is what the JoinService of a head is made of.
type JoinConfig struct {
	// Store and Logger are required.
	Store *state.Store
	// Watch is the head's; nil for one without TLS.
	Watch  *TrustWatch
	Logger *slog.Logger
	// Authority signs. Nil means that the cluster's certificates come from elsewhere: nobody can join by a token, and nothing is revoked.
	Authority *pki.Authority
	// Life is that of nodes' certificates. Zero means pki.DefaultLife.
	Life time.Duration
	// Now replaces the clock, for tests.
	Now func() time.Time
}

// Join serves enginev1.JoinService.
type Join struct {
	enginev1.UnimplementedJoinServiceServer
	store     *state.Store
	watch     *TrustWatch
	logger    *slog.Logger
	authority *pki.Authority
	life      time.Duration
	now       func() time.Time
	// changing holds a token while somebody changes what the heads agree on.
	changing chan struct{}
}

// NewJoin makes the server of the head that leads.
func NewJoin(config JoinConfig) *Join {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Life == 0 {
		config.Life = pki.DefaultLife
	}
	return &Join{
		store: config.Store, watch: config.Watch, logger: config.Logger, authority: config.Authority, life: config.Life, now: config.Now,
		changing: make(chan struct{}, 1),
	}
}

// Run keeps what the heads agree on until ctx ends.
func (s *Join) Run(ctx context.Context) error { return s.keepTrust(ctx) }

const (
	opJoinCluster = "join cluster"
	// skewWorthALine is the difference of clocks from which on it is worth a line in the log.
	skewWorthALine = time.Minute
)

// signs refuses what only a head with the authority can do.
func (s *Join) signs(operation string) error {
	switch {
	case s.watch == nil:
		return engine.Errorf(engine.KindInvalidArgument, operation, "", "the links of this cluster are in clear text, on this machine alone: nodes need no certificates").
			WithHint("`engine start --head --host ADDRESS` starts a head that other machines can join")
	case s.authority == nil:
		return engine.Errorf(engine.KindInvalidArgument, operation, "", "the certificates of this cluster come from an authority of its own").
			WithHint("start nodes with --tls-ca, --tls-cert, and --tls-key")
	}
	return nil
}

// Join implements enginev1.JoinServiceServer.
func (s *Join) Join(ctx context.Context, request *enginev1.JoinRequest) (*enginev1.JoinResponse, error) {
	err := trust.CheckJoin(request)
	if err == nil {
		err = s.signs(opJoinCluster)
	}
	if err != nil {
		return nil, err
	}
	response := &enginev1.JoinResponse{Authority: s.authority.Certificate()}
	err = s.change(ctx, func(t *enginev1.Trust, now time.Time) (*enginev1.Trust, error) {
		next, err := trust.Admit(t, request, now)
		if err != nil {
			return nil, err
		}
		response.Time = timestamppb.New(now)
		next, response.Certificate, err = s.sign(next, pki.Request{
			CSR: request.GetCsr(), Role: request.GetRole(), Name: request.GetName(), Hosts: request.GetHosts(), Life: s.life,
		}, now)
		return next, err
	})
	attributes := []any{"token", request.GetTokenId(), "name", request.GetName(), "role", request.GetRole()}
	if err != nil {
		s.logger.WarnContext(ctx, "a node was not let in", append(attributes, "error", err)...)
		return nil, err
	}
	if request.GetTime() != nil {
		if skew := request.GetTime().AsTime().Sub(response.GetTime().AsTime()); skew.Abs() > skewWorthALine {
			s.logger.WarnContext(ctx, "the clock of a node that joins is wrong, or this one is", "name", request.GetName(), "difference", skew)
		}
	}
	if request.GetRole() == pki.RoleHead {
		if response.AuthorityKey, err = s.authority.PEM(); err != nil {
			return nil, err
		}
	}
	s.logger.InfoContext(ctx, "a node has joined", attributes...)
	return response, nil
}

// sign makes a certificate and notes it.
func (s *Join) sign(t *enginev1.Trust, request pki.Request, now time.Time) (*enginev1.Trust, []byte, error) {
	cert, err := s.authority.Sign(request, now)
	if err != nil {
		return nil, nil, err
	}
	peer, err := pki.PeerIn(cert)
	if err != nil {
		return nil, nil, err
	}
	next, err := trust.Remember(t, peer, cert.NotAfter, now)
	return next, pki.EncodeCertificate(cert), err
}

// node returns the node that calls, by its certificate.
func (s *Join) node(ctx context.Context, operation string) (pki.Peer, error) {
	link, _ := pki.LinkOf(ctx)
	if link.Peer == nil || link.Peer.Role != pki.RoleHead && link.Peer.Role != pki.RoleWorker {
		return pki.Peer{}, engine.Errorf(engine.KindUnauthenticated, operation, "", "the caller has not shown the certificate of a node")
	}
	return *link.Peer, nil
}

// RenewCertificate implements enginev1.JoinServiceServer.
func (s *Join) RenewCertificate(ctx context.Context, request *enginev1.RenewCertificateRequest) (*enginev1.RenewCertificateResponse, error) {
	const operation = "renew certificate"
	peer, err := s.node(ctx, operation)
	if err == nil {
		err = s.signs(operation)
	}
	if err != nil {
		return nil, err
	}
	response := &enginev1.RenewCertificateResponse{}
	err = s.change(ctx, func(t *enginev1.Trust, now time.Time) (next *enginev1.Trust, err error) {
		// Its connection may not have been closed yet.
		if slices.Contains(trust.Revoked(t), peer.Serial) {
			return nil, engine.Errorf(engine.KindUnauthenticated, operation, peer.Name, "its certificate was revoked")
		}
		next, response.Certificate, err = s.sign(t, pki.Request{
			CSR: request.GetCsr(), Role: peer.Role, Name: peer.Name, Hosts: request.GetHosts(), Life: s.life,
		}, now)
		return next, err
	})
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a node's certificate was renewed", "name", peer.Name, "role", peer.Role, "serial_before", peer.Serial)
	return response, nil
}

// WatchTrust implements enginev1.JoinServiceServer.
func (s *Join) WatchTrust(_ *enginev1.WatchTrustRequest, stream grpc.ServerStreamingServer[enginev1.WatchTrustResponse]) error {
	ctx := stream.Context()
	if s.watch == nil {
		return s.signs("watch trust")
	}
	if _, err := s.node(ctx, "watch trust"); err != nil {
		if link, _ := pki.LinkOf(ctx); !link.InProcess {
			return err
		}
	}
	var last *enginev1.WatchTrustResponse
	for {
		present, changed := s.watch.Present()
		if present != nil {
			now := &enginev1.WatchTrustResponse{Revoked: trust.Revoked(present), GossipKeys: trust.GossipKeys(present)}
			if last == nil || !proto.Equal(last, now) {
				if err := stream.Send(now); err != nil {
					return err
				}
				last = now
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// CreateJoinToken implements enginev1.JoinServiceServer.
func (s *Join) CreateJoinToken(ctx context.Context, request *enginev1.CreateJoinTokenRequest) (*enginev1.CreateJoinTokenResponse, error) {
	const operation = "make join token"
	if err := s.signs(operation); err != nil {
		return nil, err
	}
	if seconds := request.GetLifeSeconds(); seconds < 0 || seconds > int64(trust.MaxTokenLife/time.Second) {
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "a life of %d seconds, expected up to %s", seconds, trust.MaxTokenLife)
	}
	token := pki.NewJoinToken(s.authority)
	var info *enginev1.JoinToken
	err := s.change(ctx, func(t *enginev1.Trust, now time.Time) (next *enginev1.Trust, err error) {
		if t == nil {
			return nil, engine.Errorf(engine.KindUnavailable, operation, "", "the head has only begun to lead")
		}
		next, info, err = trust.AddToken(t, token.ID(), pki.HashSecret(token.Secret()), request.GetRole(), time.Duration(request.GetLifeSeconds())*time.Second, request.GetUses(), now)
		return next, err
	})
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a token to join with was made", "token", token, "role", info.GetRole(), "ends", info.GetExpireTime().AsTime())
	return &enginev1.CreateJoinTokenResponse{Token: token.Reveal(), Info: shown(info), Fingerprint: s.authority.Fingerprint()}, nil
}

// shown is what clients see of a token.
func shown(token *enginev1.JoinToken) *enginev1.JoinToken {
	copied := proto.CloneOf(token)
	copied.SecretSha256 = nil
	return copied
}

// ListJoinTokens implements enginev1.JoinServiceServer.
func (s *Join) ListJoinTokens(ctx context.Context, _ *enginev1.ListJoinTokensRequest) (*enginev1.ListJoinTokensResponse, error) {
	response := &enginev1.ListJoinTokensResponse{}
	now := s.now()
	err := s.store.Read(ctx, func(st *state.State) {
		for _, token := range st.Trust().GetTokens() {
			if now.Before(token.GetExpireTime().AsTime()) {
				response.Tokens = append(response.Tokens, shown(token))
			}
		}
	})
	return response, err
}

// RevokeJoinToken implements enginev1.JoinServiceServer.
func (s *Join) RevokeJoinToken(ctx context.Context, request *enginev1.RevokeJoinTokenRequest) (*enginev1.RevokeJoinTokenResponse, error) {
	err := s.change(ctx, func(t *enginev1.Trust, now time.Time) (*enginev1.Trust, error) {
		return trust.RevokeToken(t, request.GetTokenId(), now)
	})
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a token to join with was revoked", "token", request.GetTokenId())
	return &enginev1.RevokeJoinTokenResponse{}, nil
}

// ListCertificates implements enginev1.JoinServiceServer.
func (s *Join) ListCertificates(ctx context.Context, _ *enginev1.ListCertificatesRequest) (*enginev1.ListCertificatesResponse, error) {
	response := &enginev1.ListCertificatesResponse{}
	now := s.now()
	err := s.store.Read(ctx, func(st *state.State) {
		for _, cert := range st.Trust().GetCertificates() {
			if now.Before(cert.GetExpireTime().AsTime()) {
				response.Certificates = append(response.Certificates, cert)
			}
		}
	})
	return response, err
}

// RevokeCertificates implements enginev1.JoinServiceServer.
func (s *Join) RevokeCertificates(ctx context.Context, request *enginev1.RevokeCertificatesRequest) (*enginev1.RevokeCertificatesResponse, error) {
	if err := s.signs("revoke node"); err != nil {
		return nil, err
	}
	response := &enginev1.RevokeCertificatesResponse{}
	err := s.change(ctx, func(t *enginev1.Trust, now time.Time) (next *enginev1.Trust, err error) {
		next, response.Certificates, err = trust.Revoke(t, trust.NameOf(t, request.GetName()), now)
		return next, err
	})
	if err != nil {
		return nil, err
	}
	s.logger.WarnContext(ctx, "a node was revoked", "name", request.GetName(), "certificates", len(response.GetCertificates()))
	return response, nil
}
