package access_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func stop(ctx context.Context, conn *grpc.ClientConn, bytes int, options ...grpc.CallOption) error {
	_, err := enginev1.NewJobServiceClient(conn).StopJob(ctx, &enginev1.StopJobRequest{JobId: strings.Repeat("j", bytes)}, append(options, grpc.MaxCallSendMsgSize(rpc.MaxMessageBytes))...)
	return err
}

// Whoever shows a token that nobody has looked at may send more than a stranger, and not as much as somebody who is known.
func TestMadeUpTokensSendLittle(t *testing.T) {
	address := serve(t, newGuard(t, access.Config{UID: stranger}), &services{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, token := range []string{"slow-nobody", "slow-operate"} {
		wantKind(t, stop(ctx, dial(t, address, token), 8<<20), engine.KindUnavailable)
	}
	conn := dial(t, address, "slow-operate")
	check(t, stop(ctx, conn, 3<<20))
	check(t, stop(ctx, conn, 8<<20)) // The token has been looked at once.
	conn = dial(t, address, "slow-nobody")
	wantKind(t, stop(ctx, conn, 1<<10), engine.KindUnauthenticated)
	wantKind(t, stop(ctx, conn, 8<<20), engine.KindUnavailable)
}

// begin begins a call, and sends nothing.
func begin(ctx context.Context, t *testing.T, conn *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	check(t, err)
	return stream
}

func TestTokensBeingLookedAtAreBounded(t *testing.T) {
	address := serve(t, newGuard(t, access.Config{UID: stranger, Limits: access.Limits{Pending: 8}}), &services{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	who := func(conn *grpc.ClientConn) error {
		_, err := enginev1.NewAccessServiceClient(conn).WhoAmI(ctx, &enginev1.WhoAmIRequest{})
		return err
	}
	known := dial(t, address, "slow-submit")
	check(t, who(known))
	// What goes on after the token has been looked at is not counted.
	for range 3 {
		stream, err := enginev1.NewJobServiceClient(dial(t, address, "slow-submit")).WatchJob(ctx, &enginev1.WatchJobRequest{})
		check(t, err)
		_, err = stream.Recv()
		check(t, err)
	}
	held, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for range 2 {
		begin(held, t, dial(t, address, "slow-nobody"), enginev1.AccessService_WhoAmI_FullMethodName)
	}
	var err error
	for err == nil {
		err = who(dial(t, address, "slow-submit"))
	}
	wantKind(t, err, engine.KindExhausted, "too many say")
	check(t, who(known))
	check(t, who(dial(t, address, "viewer")))
	giveUp()
	for err != nil {
		wantKind(t, err, engine.KindExhausted)
		err = who(dial(t, address, "slow-submit"))
	}
}

// A call that is begun and not made ends, and makes room.
func TestCallsWithoutABodyEnd(t *testing.T) {
	for token, method := range map[string]string{"": enginev1.JoinService_Join_FullMethodName, "slow-nobody": enginev1.AccessService_WhoAmI_FullMethodName} {
		j := &joins{come: make(chan struct{}, 10), hold: make(chan struct{})}
		address := serve(t, newGuard(t, access.Config{UID: stranger, Limits: access.Limits{Strangers: 4, Pending: 4, ProveWithin: 50 * time.Millisecond}}), &services{joins: j})
		for range 3 {
			ended := make(chan error, 1)
			stream := begin(t.Context(), t, dial(t, address, token), method)
			go func() { ended <- stream.RecvMsg(&enginev1.JoinResponse{}) }()
			select {
			case err := <-ended:
				if kind := engine.KindOf(err); kind != engine.KindDeadline && kind != engine.KindUnavailable && kind != engine.KindExhausted {
					t.Errorf("%q: %v", token, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%q: a call without a body goes on", token)
			}
		}
	}
}

func TestCompressedMessagesAreRefused(t *testing.T) {
	s := &services{joins: &joins{}}
	address := serve(t, newGuard(t, access.Config{UID: stranger}), s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := enginev1.NewJoinServiceClient(dial(t, address, "")).Join(ctx, &enginev1.JoinRequest{Name: strings.Repeat("n", 2<<20)}, grpc.UseCompressor(gzip.Name))
	wantKind(t, err, engine.KindInternal, "must not be compressed")
	for _, token := range []string{"operate", "slow-operate", "slow-nobody"} {
		wantKind(t, stop(ctx, dial(t, address, token), 1<<10, grpc.UseCompressor(gzip.Name)), engine.KindInternal, "must not be compressed")
	}
	if s.calls.Load() != 0 {
		t.Error("a handler was called")
	}
}

// lines are what a logger has written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	now := time.Now()
	log := &lines{}
	guard := newGuard(t, access.Config{
		UID: stranger, Limits: access.Limits{RefusalsPerSecond: 5}, Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	conn := dial(t, serve(t, guard, &services{}), "")
	method := "/engine.v1.Hidden/" + strings.Repeat("x", 16<<10)
	for i := range 8 {
		err := conn.Invoke(t.Context(), method, &enginev1.WhoAmIRequest{}, &enginev1.WhoAmIResponse{})
		if i < 5 {
			wantKind(t, err, engine.KindPermission, "no rule")
		} else {
			wantKind(t, err, engine.KindExhausted, "too many calls from there were refused")
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 5 || len(text) > 5*2048 {
		t.Errorf("%d lines of %d bytes", strings.Count(text, "\n"), len(text))
	}
}

func TestSources(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "fe80::1": "fe80::/64",
	} {
		if got := access.Source(&net.TCPAddr{IP: net.ParseIP(address), Port: 1}); got != want {
			t.Errorf("%s counts as %s, expected %s", address, got, want)
		}
	}
}
