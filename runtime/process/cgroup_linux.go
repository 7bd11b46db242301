package process

import (
	"sync"

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
	opened bool
	pool   *cgroup.Pool // nil if there is none
	// why says what does not permit cgroups. Nothing is tried after that.
	why error
}

func newCgroups(c *Config) *cgroups {
	return &cgroups{config: cgroup.Config{Limits: cgroup.Limits{MemoryBytes: c.MemoryBytes, Threads: maxThreads}, Claim: c.ClaimCgroup}}
}

// make makes the cgroup of an executor that is about to start. It is nil if there is to be none, and first says so the first time.
func (g *cgroups) make() (group *cgroup.Group, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why != nil {
		return nil, false
	}
	if !g.opened {
		g.opened = true
		g.pool, g.why = cgroup.Open(g.config)
	}
	if g.pool == nil {
		return nil, g.why != nil
	}
	if group, g.why = g.pool.NewGroup(); g.why != nil {
		return nil, true
	}
	return group, false
}

// cgroup makes the cgroup of an executor that is about to start. It is nil if there is to be none.
func (c *Config) cgroup() *cgroup.Group {
	if c.Sandbox == SandboxOff {
		return nil
	}
	group, first := c.cgroups.make()
	if first {
		c.Logger.Info("executors have no cgroups of their own, and no limit on their memory", "reason", c.cgroups.measure().Missing)
	}
	return group
}

// withoutCgroups says that an executor could not be put into its cgroup, which others will not get either.
func (c *Config) withoutCgroups(err error) {
	c.cgroups.mu.Lock()
	first := c.cgroups.why == nil
	if first {
		c.cgroups.why = err
	}
	c.cgroups.mu.Unlock()
	if first {
		c.Logger.Warn("executors have no cgroups of their own from now on", "error", err)
	}
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

// close removes what the groups were made in.
func (g *cgroups) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	pool := g.pool
	g.pool, g.opened = nil, true
	if pool == nil {
		return nil
	}
	return pool.Close()
}
