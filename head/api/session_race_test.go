package api_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// shortStream carries one message of a client.
type shortStream struct {
	grpc.ServerStream
	first *enginev1.RunTasksRequest
}

func (s *shortStream) Recv() (*enginev1.RunTasksRequest, error) {
	first := s.first
	if s.first = nil; first == nil {
		return nil, io.EOF
	}
	return first, nil
}

func (s *shortStream) Context() context.Context {
	return access.With(context.Background(), access.Internal)
}

func (s *shortStream) Send(*enginev1.RunTasksResponse) error { return nil }

// TestSessionEndsMeanwhile ends a session after it was checked and before the dispatcher acts, which has heard of that end already: nothing
// may stay of the session.
func TestSessionEndsMeanwhile(t *testing.T) {
	for name, call := range map[string]func(*api.Tasks) error{
		"stream of tasks": func(s *api.Tasks) error {
			return s.RunTasks(&shortStream{first: &enginev1.RunTasksRequest{SessionId: sessionID}})
		},
		"placement group": func(s *api.Tasks) error {
			id, cpu := engine.NewPlacementGroupID(), 1.0
			_, err := s.CreatePlacementGroup(access.With(context.Background(), access.Internal), &enginev1.CreatePlacementGroupRequest{
				PlacementGroupId: id[:], SessionId: sessionID, Bundles: []*enginev1.Resources{{Cpu: &cpu}},
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The dispatcher does not hear the directory, as if it had heard all before.
			directory := objects.NewDirectory(objects.Config{ClusterID: "c", Term: 1, LeaseTime: time.Minute, Remade: true}, slog.New(slog.DiscardHandler), nil)
			session, err := directory.OpenSession(sessionID)
			check(t, err)
			armed := false
			dispatcher := dispatch.NewDispatcher(dispatch.Config{ClusterID: "c", Term: 1, Started: time.Now()}, dispatch.Hooks{}, func() time.Time {
				if armed { // The dispatcher is about to act.
					armed = false
					directory.CloseSession(sessionID, session)
				}
				return time.Now()
			})
			armed = true
			if err := call(api.NewTasks(dispatcher, api.NewObjects(directory))); err == nil {
				t.Error("the call is answered as if the session were open")
			}
			if armed {
				t.Fatal("the dispatcher was not asked for the time")
			}
			if counts := dispatcher.Counts(); counts.Tasks.Sessions+counts.Tasks.Groups+counts.ClientStreams != 0 {
				t.Errorf("%d sessions, %d groups, and %d streams stay", counts.Tasks.Sessions, counts.Tasks.Groups, counts.ClientStreams)
			}
		})
	}
}
