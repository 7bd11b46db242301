package access_test

import (
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
)

// A connection that is a call of its own has the rule of that call.
func TestEnter(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, whose kernel tells users apart")
	}
	const doGet = "/arrow.flight.protocol.FlightService/DoGet"
	for _, test := range []struct {
		name, call string
		uid        int
		kind       engine.Kind
	}{
		{"of this user", doGet, os.Getuid(), 0},
		{"of another user", doGet, os.Getuid() + 1, engine.KindUnauthenticated},
		{"without a rule", "/arrow.flight.protocol.FlightService/DoNothing", os.Getuid(), engine.KindPermission},
	} {
		t.Run(test.name, func(t *testing.T) {
			guard := newGuard(t, access.Config{UID: func() int { return test.uid }, Limits: access.Limits{Concurrent: 1}})
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = inner.Close() }()
			client, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			conn, err := guard.Listen(inner).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			ctx, done, err := guard.Enter(t.Context(), conn, test.call)
			if test.kind != 0 {
				if engine.KindOf(err) != test.kind {
					t.Fatalf("%v, want %s", err, test.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if who := access.Of(ctx); who.Method != access.ByKernel {
				t.Errorf("the caller is %+v", who)
			}
			if _, _, err := guard.Enter(t.Context(), conn, test.call); engine.KindOf(err) != engine.KindExhausted {
				t.Errorf("a second one at the same time: %v", err)
			}
			done()
			if _, done, err = guard.Enter(t.Context(), conn, test.call); err != nil {
				t.Fatal(err)
			}
			done()
		})
	}
}
