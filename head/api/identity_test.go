package api_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/f708428e/engine/internal/security/access"
)

// queuesHeader makes a call of a test one of somebody who is granted these queues alone.
const queuesHeader = "test-queues"

// granted returns the context of a call by somebody who may use some queues.
func granted(ctx context.Context, queues ...string) context.Context {
	var pairs []string
	for _, q := range queues {
		pairs = append(pairs, queuesHeader, q)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

func identify(ctx context.Context) context.Context {
	if queues := metadata.ValueFromIncomingContext(ctx, queuesHeader); len(queues) > 0 {
		return access.With(ctx, access.Identity{Name: "of " + queues[0], Method: access.ByToken, Roles: access.Submit, Queues: queues})
	}
	return access.With(ctx, access.Internal)
}

// asOwner makes a server take its callers for this process, apart from those that are granted some queues.
func asOwner() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(identify(ctx), request)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(server, &identified{stream, identify(stream.Context())})
		}),
	}
}

type identified struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *identified) Context() context.Context { return s.ctx }
