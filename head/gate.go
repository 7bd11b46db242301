package head

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
)

// gate stands before the services that only the head which leads can give. It is registered once, and hands each call to the court of
// the present reign. Without one, calls fail with what leader says. When a reign ends, so do its calls, streams included.
type gate struct {
	logger *slog.Logger
	// leader says which head leads, as far as is known. It must not block.
	leader func() (headID, address string)

	mu      sync.Mutex
	present *court
}

// court is what a reign serves. It registers services as a gRPC server does.
type court struct {
	services map[string]any
	// ctx ends with the court; the context of each call ends with it.
	ctx    context.Context //nolint:containedctx // It is the lifetime itself.
	cancel context.CancelFunc
	// calls are those under way. They are added to under the gate's lock while the court is present, and after that not at all.
	calls sync.WaitGroup
}

func newCourt() *court {
	c := &court{services: map[string]any{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *court) RegisterService(desc *grpc.ServiceDesc, service any) {
	c.services[desc.ServiceName] = service
}

// open makes calls go to a court.
func (g *gate) open(c *court) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.present = c
}

// isOpen tells whether there is a court.
func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.present != nil
}

// shut sends no more calls to the court, gives those under way that long, and cuts them off. It returns when all have ended, or with an
// error when ctx has.
func (g *gate) shut(ctx context.Context, c *court, patience time.Duration) error {
	g.mu.Lock()
	g.present = nil
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() { // lifecycle: ends with the last call, whose context has ended.
		c.calls.Wait()
		close(ended)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return engine.WrapError("end the calls of a term", "", context.Cause(ctx))
	}
}

// enter returns the present court and its service; the caller calls leave on the court.
func (g *gate) enter(service string) (*court, any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.present == nil {
		return nil, nil, g.notLeader(nil)
	}
	impl := g.present.services[service]
	if impl == nil {
		return nil, nil, engine.Errorf(engine.KindVersion, "call", service, "this head does not have this service")
	}
	g.present.calls.Add(1)
	return g.present, impl, nil
}

func (g *gate) notLeader(cause error) error {
	id, address := g.leader()
	return rpc.NewNotLeader("ask head", id, address, cause)
}

// explain makes of the error of a call that its reign's end may have caused one that says so: the call may be repeated at the next leader.
func (g *gate) explain(c *court, err error) error {
	switch engine.KindOf(err) {
	case engine.KindUnavailable, engine.KindCanceled:
	default:
		return err // Nil, too: KindOf takes it for internal.
	}
	g.mu.Lock()
	present := g.present == c
	g.mu.Unlock()
	// What was being recorded when leading ended may have been. The end of the reign comes a moment after that of leading.
	lost := errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrRaftShutdown)
	if rpc.IsNotLeader(err) != nil || present && !lost {
		return err
	}
	return g.notLeader(err)
}

// register makes a server send a service's calls through the gate. own is a service of the head itself, which has the methods that any
// head answers, by their names; nil for none.
func (g *gate) register(server *grpc.Server, desc *grpc.ServiceDesc, own any, methods ...string) {
	isOwn := map[string]bool{}
	for _, name := range methods {
		isOwn[name] = true
	}
	through := grpc.ServiceDesc{ServiceName: desc.ServiceName, Metadata: desc.Metadata}
	for _, method := range desc.Methods {
		if isOwn[method.MethodName] {
			handler := method.Handler
			method.Handler = func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
				return handler(own, ctx, decode, interceptor)
			}
		} else {
			method.Handler = g.unary(desc.ServiceName, method.Handler)
		}
		through.Methods = append(through.Methods, method)
	}
	for _, stream := range desc.Streams {
		stream.Handler = g.stream(desc.ServiceName, "/"+desc.ServiceName+"/"+stream.StreamName, stream.Handler)
		through.Streams = append(through.Streams, stream)
	}
	server.RegisterService(&through, nil)
}

func (g *gate) unary(service string, handler grpc.MethodHandler) grpc.MethodHandler {
	return func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		c, impl, err := g.enter(service)
		if err != nil {
			return nil, rpc.ToStatus(err)
		}
		defer c.calls.Done()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		// The server's interceptor makes a status of what comes out of this one.
		return handler(impl, ctx, decode, func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return interceptor(ctx, request, info, func(ctx context.Context, request any) (any, error) {
				response, err := next(ctx, request)
				return response, g.explain(c, err)
			})
		})
	}
}

// stream runs a stream's handler beside the one that gRPC waits for: what waits for a message of the peer ends only when that has.
func (g *gate) stream(service, method string, handler grpc.StreamHandler) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		c, impl, err := g.enter(service)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { // lifecycle: the court waits for it; its context ends, and its stream with this function.
			defer c.calls.Done()
			ended <- rpc.Guard(g.logger, method, func() error { return handler(impl, &boundStream{ServerStream: stream, ctx: ctx}) })
		}()
		select {
		case err := <-ended:
			return g.explain(c, err)
		case <-c.ctx.Done():
			return g.notLeader(nil)
		}
	}
}

// boundStream is a stream whose context ends with its court, too.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // It is the stream's.
}

// Context implements grpc.ServerStream.
func (s *boundStream) Context() context.Context { return s.ctx }
