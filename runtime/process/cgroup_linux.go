package process

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/cgroup"
	"github.com/f708428e/engine/internal/security/sandbox"
)

// maxThreads bounds the threads of an executor. ONNX Runtime has as many as a call may use, CUDA some tens, and each call that runs at the
// same time one.
const maxThreads = 4096

// cgroups makes the cgroups of a Loader's executors, from the first one on. It is safe for concurrent use.
type cgroups struct {
	config cgroup.Config // constant

	mu     sync.Mutex
	closed bool
	pool   *cgroup.Pool // nil if there is none
	// why says why the last executor has no cgroup.
	why error
	// never says that there will be none, for that reason.
	never bool
}

func newCgroups(c *Config) *cgroups {
	return &cgroups{config: cgroup.Config{Limits: cgroup.Limits{MemoryBytes: c.MemoryBytes, Threads: maxThreads}, Claim: c.ClaimCgroup}}
}

// make makes the cgroup of an executor that is about to start. It is nil if there is to be none. The error says why, where that is not known already.
func (g *cgroups) make() (group *cgroup.Group, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.never || g.closed {
		return nil, nil
	}
	if g.pool == nil {
		if g.pool, err = cgroup.Open(g.config); err != nil {
			return nil, g.failed(err)
		}
	}
	if group, err = g.pool.NewGroup(); err != nil {
		return nil, g.failed(err)
	}
	g.why = nil
	return group, nil
}

// failed remembers why an executor has no cgroup, and returns that if it is not known already. What may pass says nothing about the next executor.
func (g *cgroups) failed(err error) error {
	known := g.never || g.why != nil && g.why.Error() == err.Error()
	if !g.never {
		g.why, g.never = err, kindOf(err) != engine.KindExhausted && !errors.Is(err, cgroup.ErrShared)
	}
	if known {
		return nil
	}
	return err
}

// cgroup makes the cgroup of an executor that is about to start. It is nil if there is to be none.
func (c *Config) cgroup() *cgroup.Group {
	if c.Sandbox == SandboxOff {
		return nil
	}
	group, err := c.cgroups.make()
	if err != nil {
		c.withoutCgroup(err)
	}
	return group
}

// couldNotEnter says that an executor could not be put into its cgroup.
func (c *Config) couldNotEnter(err error) {
	c.cgroups.mu.Lock()
	err = c.cgroups.failed(err)
	c.cgroups.mu.Unlock()
	if err != nil {
		c.withoutCgroup(err)
	}
}

// withoutCgroup says that an executor has no cgroup, which is the ordinary case unless others had one.
func (c *Config) withoutCgroup(err error) {
	c.cgroups.mu.Lock()
	never, level := c.cgroups.never, slog.LevelInfo
	if c.cgroups.pool != nil {
		level = slog.LevelWarn
	}
	c.cgroups.mu.Unlock()
	c.Logger.Log(context.Background(), level, "executors have no cgroups of their own, and no limit on their memory", "reason", err, "try_again", !never)
}

// remove removes the cgroup of an executor that has ended, or that is not in it.
func (c *Config) remove(group *cgroup.Group) {
	if err := group.Remove(); err != nil {
		c.Logger.Warn("the cgroup of an executor stays", "error", err)
	}
}

// measure is how far executors have cgroups.
func (g *cgroups) measure() sandbox.Measure {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := sandbox.Measure{Name: sandbox.Cgroup}
	if g.why != nil {
		m.Missing = g.why.Error()
	}
	return m
}

// close removes what the groups were made in. What stays is the next worker's to remove.
func (g *cgroups) close(logger *slog.Logger) {
	g.mu.Lock()
	pool := g.pool
	g.pool, g.closed = nil, true
	g.mu.Unlock()
	if pool == nil {
		return
	}
	if err := pool.Close(); err != nil {
		logger.Warn("cgroups of executors stay", "error", err)
	}
}
