// Package lifecycle owns the goroutines of a process: each has a name, belongs to a group, and has ended when the group's Stop
// returns.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Group is a set of goroutines that live and die together. The first one that returns an error ends the others. It is safe for
// concurrent use.
type Group struct {
	name   string
	ctx    context.Context //nolint:containedctx // The group is the owner of this lifetime; its goroutines receive it as argument.
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	running map[string]int
	stopped bool
	err     error
	wg      sync.WaitGroup
}

// errStopped is the cause of a group's end by Stop.
var errStopped = errors.New("stopped")

// NewGroup makes a group whose goroutines end with ctx at the latest.
func NewGroup(ctx context.Context, name string) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{name: name, ctx: ctx, cancel: cancel, running: map[string]int{}}
}

// Go runs f in a goroutine. The context that f gets ends when the group does. An error that f returns ends the group and becomes
// its error, unless the group was already ending. After Stop, Go runs nothing and returns false.
func (g *Group) Go(name string, f func(ctx context.Context) error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.running[name]++
	g.wg.Add(1)
	go func() { // lifecycle: Stop waits for it.
		defer g.wg.Done()
		err := f(g.ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[name]--; g.running[name] == 0 {
			delete(g.running, name)
		}
		if err != nil && g.err == nil && g.ctx.Err() == nil {
			g.err = fmt.Errorf("%s: %s: %w", g.name, name, err)
			g.cancel(g.err)
		}
	}()
	return true
}

// Done is closed when the group begins to end: by Stop, by an error, or with its parent.
func (g *Group) Done() <-chan struct{} { return g.ctx.Done() }

// Err returns the error that ended the group, or nil.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// End begins to end the group, as Stop does, without waiting; a goroutine of the group may call it.
func (g *Group) End() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.cancel(errStopped)
}

// Stop ends the group and waits until its goroutines have returned, or until ctx is done, in which case the error names those
// that still run.
func (g *Group) Stop(ctx context.Context) error {
	g.End()
	ended := make(chan struct{})
	go func() { // lifecycle: ends with the group's last goroutine.
		g.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return g.Err()
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		var names []string
		for name := range g.running {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("%s: still running at the deadline: %s: %w", g.name, strings.Join(names, ", "), ctx.Err())
	}
}
