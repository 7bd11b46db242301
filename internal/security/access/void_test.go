package access_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// changing is a book in which credentials end.
type changing struct {
	mu    sync.Mutex
	book  book
	asked chan struct{}
	// down says that nobody can be told.
	down bool
}

func (c *changing) Recall(credential string) (access.Identity, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.Recall(credential)
}

func (c *changing) Authenticate(ctx context.Context, credential string) (access.Identity, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.asked <- struct{}{}:
	default:
	}
	if c.down {
		return access.Identity{}, engine.Errorf(engine.KindUnavailable, "authenticate", "", "the head cannot be asked")
	}
	return c.book.Authenticate(ctx, credential)
}

func (c *changing) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// A stream ends soon after its token was revoked or has got a role that may not begin it; not while nobody can tell.
func TestStreamsEndWithTheirTokens(t *testing.T) {
	for _, test := range []struct {
		name, token string
		end         func(book)
		kind        engine.Kind
	}{
		{"revoked", "submit", func(b book) { delete(b, "submit") }, engine.KindUnauthenticated},
		{"revoked, known elsewhere", "slow-submit", func(b book) { delete(b, "slow-submit") }, engine.KindUnauthenticated},
		{"another role", "slow-submit", func(b book) {
			b["slow-submit"] = access.Identity{Name: "sam", Method: access.ByOIDC, Roles: access.Worker}
		}, engine.KindPermission},
	} {
		t.Run(test.name, func(t *testing.T) {
			credentials := &changing{book: book{"submit": everyone["submit"], "slow-submit": everyone["slow-submit"]}, asked: make(chan struct{}, 1)}
			address := serve(t, newGuard(t, access.Config{Credentials: credentials, Recheck: time.Millisecond}), &services{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, err := enginev1.NewJobServiceClient(dial(t, address, test.token)).WatchJob(ctx, &enginev1.WatchJobRequest{})
			check(t, err)
			_, err = stream.Recv()
			check(t, err)
			if test.token == "slow-submit" {
				credentials.change(func() { credentials.down = true })
				<-credentials.asked // Before it was down, or after.
				<-credentials.asked
				_, err = stream.Recv()
				check(t, err)
				credentials.change(func() { credentials.down = false })
			}
			credentials.change(func() { test.end(credentials.book) })
			for err == nil {
				_, err = stream.Recv()
			}
			wantKind(t, err, test.kind)
		})
	}
}
