package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/f708428e/engine"
)

// WorkerProtocolVersion is the version of the protocol between head and workers that this program speaks. It changes with every
// change that an older peer would misunderstand.
const WorkerProtocolVersion = 1

const (
	// MaxMessageBytes bounds one message in either direction: a plan of 100,000 splits fits, an attack on memory does not.
	MaxMessageBytes = 64 << 20
	// CallTimeout is the deadline of a unary call whose caller set none.
	CallTimeout = 30 * time.Second
	// keepAlive is how long a silent connection is trusted before it is probed, and probeWithin how long the answer may take.
	keepAlive   = 10 * time.Second
	probeWithin = 5 * time.Second
	// streamWindow and connWindow are what a peer may send ahead. That they are constant matters more than their size: gRPC otherwise
	// measures each connection with pings of its own, which cost a task's round trip a fifth of its time.
	streamWindow = 8 << 20
	connWindow   = 16 << 20
	// opConnect is the operation of an error of the connection itself: the peer cannot be reached, or went away while it was asked.
	opConnect = "connect"
)

// NewServer makes a gRPC server with the engine's limits. A handler's error travels with its kind, a panic in a handler
// becomes an internal error and is logged with its stack, and a unary call without a deadline gets CallTimeout.
func NewServer(logger *slog.Logger, options ...grpc.ServerOption) *grpc.Server {
	all := append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.MaxConcurrentStreams(10_000),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepAlive, Timeout: probeWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepAlive / 2, PermitWithoutStream: true}),
	}, options...)
	// The last ones, so that those of options hear of the status that the caller gets.
	return grpc.NewServer(append(all,
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
			defer recoverAs(logger, info.FullMethod, &err)
			ctx, cancel := withDefaultTimeout(ctx)
			defer cancel()
			response, err = handler(ctx, request)
			return response, ToStatus(err)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer recoverAs(logger, info.FullMethod, &err)
			return ToStatus(handler(server, stream))
		}),
	)...)
}

func recoverAs(logger *slog.Logger, method string, err *error) {
	if p := recover(); p != nil {
		logger.Error("handler panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = ToStatus(engine.Errorf(engine.KindInternal, method, "", "panic: %v", p))
	}
}

// Guard calls handle, and makes an internal error of a panic in it, which it logs with its stack, as the server does for its handlers.
func Guard(logger *slog.Logger, method string, handle func() error) (err error) {
	defer recoverAs(logger, method, &err)
	return handle()
}

func withDefaultTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, CallTimeout)
}

// Dial makes a connection to address, which is connected when it is first used. Errors of calls come back as engine errors;
// a peer that cannot be reached is named in them. Without transport credentials among the options the connection is in clear
// text: the engine listens on loopback alone.
func Dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAlive, Timeout: probeWithin, PermitWithoutStream: true}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, callOptions ...grpc.CallOption) error {
			ctx, cancel := withDefaultTimeout(ctx)
			defer cancel()
			return fromCall(ctx, address, invoke(ctx, method, request, reply, conn, callOptions...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, callOptions ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := streamer(ctx, desc, conn, method, callOptions...)
			if err != nil {
				return nil, fromCall(ctx, address, err)
			}
			return &clientStream{ClientStream: stream, caller: ctx, address: address}, nil
		}),
	}, options...)...)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "dial", address, "%w", err)
	}
	return conn, nil
}

// fromCall turns the error of a call into an engine error. The end of the caller's own context is told apart from a deadline of
// the server.
func fromCall(ctx context.Context, address string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && isContextCode(err) || status.Code(err) == codes.DeadlineExceeded && isOver(ctx) {
		return contextError(ctx, "call "+address)
	}
	converted := FromStatus("call "+address, err)
	var e *engine.Error
	if errors.As(converted, &e) && e.Op == "call "+address && (e.Kind == engine.KindUnavailable || e.Kind == engine.KindCanceled) {
		// Somebody runs there, and one of both has refused the other.
		if _, why, refused := strings.Cut(e.Err.Error(), "authentication handshake failed: "); refused {
			return engine.Errorf(engine.KindUnavailable, opConnect, address, "%s", strings.TrimSuffix(why, `"`)).
				WithHint("does --tls, --tls-ca, or --tls-fingerprint belong to this cluster?")
		}
		if _, why, refused := strings.Cut(e.Err.Error(), "error reading server preface: show certificate: "); refused {
			return engine.Errorf(engine.KindUnavailable, opConnect, address, "%s", strings.TrimSuffix(why, `"`))
		}
		// Nobody has canceled the call: its connection was given up.
		return engine.Errorf(engine.KindUnavailable, opConnect, address, "%w", e.Err).
			WithHint("is a head running there? `engine start --head` starts one")
	}
	return converted
}

// isOver reports whether a context's deadline has come, also if its timer has not noticed yet: the server's or gRPC's own may be earlier.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

func isContextCode(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unknown:
		return true
	default:
		return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	}
}

// clientStream converts the errors that a stream ends with; io.EOF stays what it is.
type clientStream struct {
	grpc.ClientStream
	// caller is the context that the stream was opened with. The stream's own has ended too when the server has ended it.
	caller  context.Context //nolint:containedctx // See above.
	address string
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	return s.convert(s.ClientStream.RecvMsg(m))
}

// SendMsg implements grpc.ClientStream.
func (s *clientStream) SendMsg(m any) error {
	return s.convert(s.ClientStream.SendMsg(m))
}

// CloseSend implements grpc.ClientStream.
func (s *clientStream) CloseSend() error {
	return s.convert(s.ClientStream.CloseSend())
}

func (s *clientStream) convert(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fromCall(s.caller, s.address, err)
}
