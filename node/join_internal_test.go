package node

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// slowHead is a head whose clock is an hour behind.
type slowHead struct {
	enginev1.UnimplementedJoinServiceServer
	authority *pki.Authority
}

func (h *slowHead) Join(_ context.Context, request *enginev1.JoinRequest) (*enginev1.JoinResponse, error) {
	now := time.Now().Add(-time.Hour)
	cert, err := h.authority.Sign(pki.Request{CSR: request.GetCsr(), Role: request.GetRole(), Name: request.GetName()}, now)
	if err != nil {
		return nil, err
	}
	return &enginev1.JoinResponse{Certificate: pki.EncodeCertificate(cert), Authority: h.authority.Certificate(), Time: timestamppb.New(now)}, nil
}

// TestJoinTellsOfClocks has a node join a head whose clock is an hour behind: it joins, and its log says by how much they differ.
func TestJoinTellsOfClocks(t *testing.T) {
	authority, err := pki.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	identity, err := authority.Head(pki.Request{Name: "h"}, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(pki.ServerCredentials(false)))
	enginev1.RegisterJoinServiceServer(server, &slowHead{authority: authority})
	served := make(chan error, 1)
	go func() { served <- server.Serve(identity.Listen(raw, acceptHead)) }() // lifecycle: ends with the server.
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	joined, err := joinAnew(ctx, t.TempDir(), raw.Addr().String(), pki.NewJoinToken(authority).Reveal(), pki.Request{Role: pki.RoleWorker, Name: "w"}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	joined.Close()
	// What the call takes may be of either way.
	if !regexp.MustCompile(`level=WARN .*ahead_of_head=(59m|1h0m)`).MatchString(log.String()) {
		t.Errorf("it does not say by how much the clocks differ:\n%s", &log)
	}
}
