package access

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/tap"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/pki"
)

// maxHeaderBytes bounds the headers of a call.
const maxHeaderBytes = 32 << 10

// ServerOptions make a gRPC server refuse what the table does not allow. Its listeners must come from Listen. Calls of strangers are refused
// before anything of them is read but their headers; handlers find the caller with Of. Messages must not be compressed.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(g.tap), grpc.MaxHeaderListSize(maxHeaderBytes),
		// gRPC unpacks a message before anybody is asked who sends it, and nothing else keeps it from that once a library of the program has
		// brought gzip with it.
		grpc.RPCDecompressor(noGzip{}), //nolint:staticcheck // What it is to be replaced by holds for the whole program, clients included.
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream),
	}
}

// tap looks at a call when its headers are there. gRPC holds the connection's lock meanwhile, so that nothing here may block.
func (g *Guard) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	address, known := linkOf(ctx)
	c := &caller{call: info.FullMethodName, address: address}
	err := g.look(c, info.Header.Get(header), address, known)
	if err != nil {
		return nil, rpc.ToStatus(g.refused(ctx, c, err))
	}
	switch {
	case c.isStranger():
		ctx, err = g.admitStranger(ctx, c)
	case c.credential == "":
		know(address)
	default:
		ctx, err = g.admitPending(ctx, c)
	}
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

// admitStranger counts a call of a stranger, and bounds its time. It does not block.
func (g *Guard) admitStranger(ctx context.Context, c *caller) (context.Context, error) {
	done, err := g.usage.stranger(c.source)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Limits.ProveWithin)
	context.AfterFunc(ctx, func() {
		done()
		cancel()
	})
	return ctx, nil
}

// admitPending counts a call whose credential is yet to be looked at, and bounds the time until that is done. Where somebody is known already, a
// call can take no more than another one of theirs. It does not block.
func (g *Guard) admitPending(ctx context.Context, c *caller) (context.Context, error) {
	origin, ok := c.address.(*Origin)
	if !ok || origin.known.Load() {
		return ctx, nil
	}
	done, err := g.usage.pend(c.source)
	if err != nil {
		return nil, err
	}
	origin.pending.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(g.config.Limits.ProveWithin, cancel)
	c.settled = sync.OnceFunc(func() {
		late.Stop()
		origin.pending.Add(-1)
		done()
	})
	context.AfterFunc(ctx, c.settled)
	return ctx, nil
}

// noGzip unpacks nothing.
type noGzip struct{}

// Do implements grpc.Decompressor.
func (noGzip) Do(io.Reader) ([]byte, error) {
	return nil, engine.Errorf(engine.KindInvalidArgument, opCall, "", "messages must not be compressed")
}

// Type implements grpc.Decompressor.
func (noGzip) Type() string { return gzip.Name }

// enter does what is left of a call's beginning. The caller calls done when the call has ended.
func (g *Guard) enter(ctx context.Context, method string) (_ context.Context, c *caller, done func(), err error) {
	c, ok := ctx.Value(callerKey{}).(*caller)
	if !ok || c.call != method {
		// Nobody has looked at it: a server that was put together wrongly must not be an open one.
		return nil, nil, nil, engine.Errorf(engine.KindInternal, opCall, method, "the call was not looked at when it began")
	}
	if err := g.settle(ctx, c); err != nil {
		return nil, nil, nil, g.refused(ctx, c, err)
	}
	if c.settled != nil {
		know(c.address)
		c.settled()
	}
	done, err = g.usage.begin(c.identity, c.source)
	return With(ctx, c.identity), c, done, err
}

func (g *Guard) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, c, done, err := g.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	defer done()
	// What strangers try is kept if it succeeds: else they could fill the log.
	if !c.isStranger() {
		if err := g.allowed(ctx, c, c.rule, request); err != nil {
			return nil, rpc.ToStatus(err)
		}
	}
	response, err := handler(ctx, request)
	if err == nil && c.isStranger() {
		err = rpc.ToStatus(g.allowed(ctx, c, c.rule, request))
	}
	g.ended(ctx, c, request, err)
	return response, err
}

// Enter applies the rule of a call to a connection that is not gRPC's, and is all of one call: its other end is known by the connection alone.
// The context that it returns has the caller. The caller of Enter calls done when the connection has ended; the connection stays the caller's.
func (g *Guard) Enter(ctx context.Context, conn net.Conn, call string) (_ context.Context, done func(), err error) {
	c := &caller{call: call}
	known, err := pki.LinkOfConn(conn)
	if err == nil {
		err = g.look(c, nil, conn.RemoteAddr(), known)
	}
	if err != nil {
		return nil, nil, g.refused(ctx, c, err)
	}
	if !c.isStranger() {
		know(conn.RemoteAddr())
	}
	if done, err = g.usage.begin(c.identity, c.source); err != nil {
		return nil, nil, err
	}
	if err := g.allowed(ctx, c, c.rule, nil); err != nil {
		done()
		return nil, nil, err
	}
	return With(ctx, c.identity), done, nil
}

// isStranger reports whether nobody knows who calls, of a method that is open to everybody.
func (c *caller) isStranger() bool { return c.rule.Open && c.identity.IsZero() && c.credential == "" }

// allowed tells the audit log of a call that is about to be made.
func (g *Guard) allowed(ctx context.Context, c *caller, rule Rule, request any) error {
	if !rule.Audited {
		return nil
	}
	event := g.event(c, targetOf(request), nil)
	event.Call = rule.Name
	return g.config.Audit.Allowed(ctx, event)
}

// ended tells the logs of a call that its handler has refused.
func (g *Guard) ended(ctx context.Context, c *caller, request any, err error) {
	if err == nil {
		return
	}
	err = rpc.FromStatus(c.call, err)
	if hidden := c.hidden.Load(); hidden != nil {
		err = *hidden
	}
	kind := engine.KindOf(err)
	if kind != engine.KindPermission && kind != engine.KindUnauthenticated {
		return
	}
	if kind == engine.KindUnauthenticated && c.isStranger() {
		if !g.usage.mayTry(c.source) {
			return // It has been said often enough.
		}
		g.usage.failed(c.source)
	}
	g.note(ctx, c, targetOf(request), err)
}

// stream runs a stream's handler beside the goroutine that gRPC waits for, so that a client that does not read can be given up.
func (g *Guard) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, c, done, err := g.enter(stream.Context(), info.FullMethod)
	if err != nil {
		return rpc.ToStatus(err)
	}
	defer done()
	guarded := &guardedStream{ServerStream: stream, ctx: ctx, guard: g, caller: c, slow: make(chan struct{})}
	if c.rule.Audited {
		if err := g.allowed(ctx, c, c.rule, nil); err != nil {
			return rpc.ToStatus(err)
		}
	}
	ended := make(chan error, 1)
	go func() { // lifecycle: ends with the stream, which ends when this function returns.
		ended <- rpc.Guard(g.config.Logger, info.FullMethod, func() error { return handler(server, guarded) })
	}()
	var voided chan error
	if c.shown != "" {
		voided = make(chan error, 1)
		go func() { voided <- g.void(stream.Context(), c) }() // lifecycle: ends with the stream, which ends when this function returns.
	}
	select {
	case err = <-ended:
	case err = <-voided:
		if stream.Context().Err() == nil {
			return rpc.ToStatus(g.refused(ctx, c, err))
		}
		err = <-ended // The stream is over, which its handler sees.
	case <-guarded.slow:
		return rpc.ToStatus(engine.Errorf(engine.KindDeadline, opCall, c.call, "the client has left a message unread for %s", g.config.Limits.SlowClient))
	}
	about, _ := guarded.first.Load().(target)
	g.ended(ctx, c, about, err)
	return err
}

// guardedStream is a stream whose context has the caller, whose Flight actions are looked at, and whose client must read.
type guardedStream struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // It is the stream's.
	guard  *Guard
	caller *caller
	// first is the first message, for the audit log.
	first atomic.Value
	// slow is closed when the client did not read.
	slow   chan struct{}
	closed atomic.Bool
}

// Context implements grpc.ServerStream.
func (s *guardedStream) Context() context.Context { return s.ctx }

// action is a Flight action.
type action interface {
	GetType() string
	GetBody() []byte
}

// RecvMsg implements grpc.ServerStream.
func (s *guardedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if s.first.Load() == nil {
		s.first.Store(target(targetOf(m)))
	}
	if a, ok := m.(action); ok {
		return s.guard.action(s.ctx, s.caller, a)
	}
	return nil
}

// SendMsg implements grpc.ServerStream. It gives up a client that does not read.
func (s *guardedStream) SendMsg(m any) error {
	timer := time.AfterFunc(s.guard.config.Limits.SlowClient, func() {
		if s.closed.CompareAndSwap(false, true) {
			close(s.slow)
		}
	})
	defer timer.Stop()
	return s.ServerStream.SendMsg(m)
}

// action applies the rule for a Flight action.
func (g *Guard) action(ctx context.Context, c *caller, a action) error {
	rule, ok := RuleFor(ActionPrefix + a.GetType())
	if !ok {
		// What there is not is the service's to say, to those who may make any.
		return nil
	}
	if !rule.Allows(c.identity) {
		return engine.Errorf(engine.KindPermission, opCall, rule.Name, "%s has the role %s, and needs one of %s", c.identity, c.identity.Roles, rule.Roles)
	}
	return g.allowed(ctx, c, rule, target(a.GetBody()))
}
