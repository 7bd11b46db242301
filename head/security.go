package head

import (
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Security says how the head's links are encrypted. Its zero value is clear text, which is for this machine alone.
type Security struct {
	// Identity is the head's on every link; its owner closes it after Stop. The listeners must be of its Listen. Nil means clear text.
	Identity *pki.Identity
	// Authority signs the certificates of nodes that join. Nil means that they come from elsewhere.
	Authority *pki.Authority
	// Life is that of nodes' certificates. Zero means pki.DefaultLife.
	Life time.Duration
	// Exposed says that links are in clear text to other machines, too.
	Exposed bool
}

// webScheme is that of the web port's address.
func (s Security) webScheme() string {
	if s.Identity != nil {
		return "https://"
	}
	return "http://"
}

// dialOptions are those of connections to other heads.
func (s Security) dialOptions() []grpc.DialOption {
	if s.Identity == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(s.Identity.ClientCredentials(pki.RoleHead))}
}

// refused counts what the ports have refused, by reason; nil without TLS.
func (s Security) refused() func() map[string]int64 {
	if s.Identity == nil {
		return nil
	}
	return func() map[string]int64 {
		counts := map[string]int64{}
		for reason, n := range s.Identity.Refused() {
			counts[string(reason)] = n
		}
		return counts
	}
}

// serverOptions make handlers hear who is at the other end of a connection.
func (s Security) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(pki.ServerCredentials(s.Exposed))}
}

// keepTrust begins to refuse what is revoked.
func (h *Head) keepTrust() {
	if identity := h.config.Security.Identity; identity != nil {
		h.trust = api.NewTrustWatch(h.store, identity)
		h.serve.Go("trust", h.trust.Run)
	}
}

// serveJoins makes the service by which nodes join a part of a reign.
func (h *Head) serveJoins(r *reign) {
	join := api.NewJoin(api.JoinConfig{
		Store: h.store, Watch: h.trust, Authority: h.config.Security.Authority, Life: h.config.Security.Life, Logger: h.config.Logger,
	})
	enginev1.RegisterJoinServiceServer(r.court, join)
	if h.trust != nil {
		r.serve.Go("certificates", join.Run)
	}
}

// gossipKeys are those of the gossip; nil for clear text.
func (h *Head) gossipKeys() func() ([][]byte, <-chan struct{}) {
	if h.trust == nil {
		return nil
	}
	return h.trust.GossipKeys
}
