package api

import (
	"context"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

// checkNode refuses a worker that says to be another than its certificate does: a node's id is the certificate's name and some random letters.
// The worker beside a head has the head's certificate, and may be called anything.
func checkNode(ctx context.Context, operation, id string) error {
	link, _ := pki.LinkOf(ctx)
	if link.Peer == nil || link.Peer.Role != pki.RoleWorker {
		return nil
	}
	end := strings.LastIndexByte(id, '-')
	if end < 0 || id[:end] != link.Peer.Name {
		return engine.Errorf(engine.KindPermission, operation, id, "the certificate is that of the worker %s", link.Peer.Name)
	}
	return nil
}
