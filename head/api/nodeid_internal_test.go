package api

import (
	"strings"
	"testing"

	"google.golang.org/grpc/peer"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestWorkersAreWhoTheirProofSays(t *testing.T) {
	certificate := func(role, name string) *pki.Peer { return &pki.Peer{Role: role, Name: name} }
	for _, test := range []struct {
		name     string
		peer     *pki.Peer
		identity access.Identity
		id       string
		refused  bool
	}{
		{"its certificate", certificate(pki.RoleWorker, "gpu-1"), access.Identity{}, "gpu-1-abcdefgh", false},
		{"another's certificate", certificate(pki.RoleWorker, "gpu-1"), access.Identity{}, "gpu-2-abcdefgh", true},
		{"a longer name", certificate(pki.RoleWorker, "gpu"), access.Identity{}, "gpu-1-abcdefgh", true},
		{"beside a head", certificate(pki.RoleHead, "h"), access.Identity{Method: access.ByCertificate, Name: "h"}, "gpu-2-abcdefgh", false},
		{"its token", nil, access.Identity{Method: access.ByToken, Name: "gpu-1"}, "gpu-1-abcdefgh", false},
		{"its second token", nil, access.Identity{Method: access.ByToken, Name: "gpu-1/2027"}, "gpu-1-abcdefgh", false},
		{"its host's name", nil, access.Identity{Method: access.ByToken, Name: "GPU.example.org"}, "gpu-example-org-abcdefgh", false},
		{"another's token", nil, access.Identity{Method: access.ByToken, Name: "gpu-1"}, "gpu-2-abcdefgh", true},
		{"a token of a shorter name", nil, access.Identity{Method: access.ByToken, Name: "gpu"}, "gpu-1-abcdefgh", true},
		{"a provider's, with a slash", nil, access.Identity{Method: access.ByOIDC, Name: "gpu-1/somebody"}, "gpu-1-abcdefgh", true},
		{"a provider's", nil, access.Identity{Method: access.ByOIDC, Name: "gpu-1"}, "gpu-2-abcdefgh", true},
		{"a token and no name", nil, access.Identity{Method: access.ByToken, Name: "gpu-1"}, "", true},
		{"no name at all", certificate(pki.RoleWorker, "gpu-1"), access.Identity{}, "gpu1", true},
		{"the user whose head it is", nil, access.Identity{Method: access.ByKernel, Name: "me"}, "anything-abcdefgh", false},
		{"the head's own", nil, access.Internal, "anything-abcdefgh", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := peer.NewContext(access.With(t.Context(), test.identity), &peer.Peer{AuthInfo: pki.LinkInfo{Link: pki.Link{Peer: test.peer}}})
			err := checkNode(ctx, "sync worker", test.id)
			if test.refused != (err != nil) || err != nil && engine.KindOf(err) != engine.KindPermission {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNamesOfWorkersTokens(t *testing.T) {
	for token, refused := range map[string]bool{
		"gpu-1": false, "gpu-1/2027": false, "GPU.example.org": false, "node": false, "-gpu-": false, strings.Repeat("n", 32): false, strings.Repeat("n", 32) + "/2027": false,
		strings.Repeat("n", 33): true, strings.Repeat("n", 31) + "-1": true, "/2027": true, "...": true, "--/gpu": true, "": true,
	} {
		err := checkWorkersToken("create token", token)
		if refused != (err != nil) || err != nil && engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v", token, err)
		}
	}
	_, err := NewAccess(nil, nil).CreateToken(t.Context(), &enginev1.CreateTokenRequest{Name: "...", Role: "worker"})
	if engine.KindOf(err) != engine.KindInvalidArgument || err == nil {
		t.Error(err)
	}
}
