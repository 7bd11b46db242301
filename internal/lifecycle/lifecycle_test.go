package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFirstErrorEndsAll(t *testing.T) {
	g := lifecycle.NewGroup(context.Background(), "group")
	broken := errors.New("broken")
	g.Go("waits", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err() // Of no interest: the group is ending already.
	})
	g.Go("breaks", func(context.Context) error { return broken })
	select {
	case <-g.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the group did not end")
	}
	err := g.Stop(context.Background())
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "group: breaks") {
		t.Fatalf("error %v, want one that names who broke", err)
	}
}

func TestStopNamesWhoDoesNotEnd(t *testing.T) {
	g := lifecycle.NewGroup(context.Background(), "group")
	release := make(chan struct{})
	g.Go("stubborn", func(context.Context) error {
		<-release
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := g.Stop(ctx); err == nil || !strings.Contains(err.Error(), "stubborn") {
		t.Fatalf("error %v, want one that names the goroutine", err)
	}
	close(release)
	if err := g.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if g.Go("late", func(context.Context) error { return nil }) {
		t.Fatal("a stopped group ran a goroutine")
	}
}
