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
	node := caller.Name
	if caller.Method == access.ByToken {
		node = nodeOfToken(node)
	}
	if name != nodeName(node)+"-" {
		return engine.Errorf(engine.KindPermission, operation, id, "the token is that of the worker %s", node).
			WithHint("`engine token create %s --role worker` makes one for this node", strings.TrimSuffix(name, "-"))
	}
	return nil
}

// nodeOfToken is the name of the worker that a token is for.
func nodeOfToken(token string) string {
	node, _, _ := strings.Cut(token, "/")
	return node
}

// nodeName is what of a name is in the ids of a node.
func nodeName(name string) string {
	id := string(engine.NewNodeID(name))
	return id[:strings.LastIndexByte(id, '-')]
}

// checkWorkersToken refuses a name for a worker's token of which too little would be in the ids of its node: it would be good for others, too.
func checkWorkersToken(operation, token string) error {
	node := nodeOfToken(token)
	used := strings.TrimFunc(node, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	switch own := nodeName(node); {
	case used == "":
		return engine.Errorf(engine.KindInvalidArgument, operation, token, "the name of a worker's token begins with that of its node, and this has no letter or digit up to a slash")
	case len(own) < len(used):
		return engine.Errorf(engine.KindInvalidArgument, operation, token, "the name of a worker's token begins with that of its node, of which %d characters count, and this has %d", len(own), len(used)).
			WithHint("`engine token create %s --role worker` makes one for all nodes whose names begin so; give nodes shorter ones with --name", own)
	}
	return nil
}
