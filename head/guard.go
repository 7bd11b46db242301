package head

import (
	"context"
	"net"
	"path/filepath"

	"github.com/f708428e/engine/head/tokens"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/audit"
)

// AccessConfig says how a head finds out who calls, and what it allows to whom.
type AccessConfig struct {
	// TokensOnly says that the user whose process the head is has to show a token, too, like everybody else.
	TokensOnly bool
	// Provider is an identity provider whose tokens are accepted, too; nil for none.
	Provider tokens.Provider
	// Limits bound what each may take; zero fields mean the defaults.
	Limits access.Limits
}

// auditFolder is the audit log's folder in a head's data folder.
const auditFolder = "audit"

// openGuard makes what stands before all services. An embedded head has no callers but its own process, and keeps no audit log.
func (h *Head) openGuard(ctx context.Context) error {
	if !h.config.Embedded {
		var err error
		h.audit, err = audit.Open(audit.Config{
			Dir: filepath.Join(h.config.DataDir, auditFolder),
			Trouble: func(err error) {
				h.config.Logger.ErrorContext(ctx, "the audit log cannot be written: what it should have is refused", "error", err)
			},
		})
		if err != nil {
			return err
		}
	}
	if provider := h.config.Access.Provider; provider != nil {
		h.serve.Go("identity providers", provider.Run)
	}
	h.book = tokens.New(h.store, h.config.Access.Provider, nil)
	h.guard = access.NewGuard(access.Config{
		Credentials: h.book, TokensOnly: h.config.Access.TokensOnly, Limits: h.config.Access.Limits, Audit: h.audit, Logger: h.config.Logger,
	})
	return nil
}

// webHosts are the names that the web port may be asked for by: those of the addresses at which the head is reached.
func (h *Head) webHosts() []string {
	var hosts []string
	for _, address := range []string{h.address, h.config.WebListener.Addr().String()} {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
