package api

import (
	"context"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/pki"
)

// checkNode refuses a worker that says to be another than its certificate or its token does: a node's id is a name and some random letters. The
// name of a certificate is that one; that of a token is, up to a slash, so that a node can have a new token before the old one ends. The worker
// beside a head has the head's certificate, and may be called anything, as may workers of the user of a head on loopback.
func checkNode(ctx context.Context, operation, id string) error {
	name := strings.TrimSuffix(id, id[strings.LastIndexByte(id, '-')+1:])
	if link, _ := pki.LinkOf(ctx); link.Peer != nil && link.Peer.Role == pki.RoleWorker {
		if name != link.Peer.Name+"-" {
			return engine.Errorf(engine.KindPermission, operation, id, "the certificate is that of the worker %s", link.Peer.Name)
		}
		return nil
	}
	caller := access.Of(ctx)
	if caller.Method != access.ByToken && caller.Method != access.ByOIDC {
		return nil
	}
	node, _, _ := strings.Cut(caller.Name, "/")
	if own := string(engine.NewNodeID(node)); name != own[:strings.LastIndexByte(own, '-')+1] {
		return engine.Errorf(engine.KindPermission, operation, id, "the token is that of the worker %s", node).
			WithHint("`engine token create %s --role worker` makes one for this node", strings.TrimSuffix(name, "-"))
	}
	return nil
}
