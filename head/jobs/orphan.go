package jobs

import (
	"sync"
	"time"

	"github.com/f708428e/engine"
)

// errOrphan is why a job is stopped that nobody follows.
var errOrphan = engine.Errorf(engine.KindStopped, "run job", "", "nobody has followed it for as long as its orphan_ttl says").
	WithHint("`engine job resume` lets it go on where it stood")

// Follow says that somebody follows a job, until the function is called that it returns. It keeps a job with an orphan_ttl from being
// stopped, now and after a resumption; for other jobs, and those that have ended, it does nothing. It does not block.
func (m *Manager) Follow(id engine.JobID) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followers[id]++
	if a := m.active[id]; a != nil {
		a.leash.hold()
	}
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.followers[id]--; m.followers[id] > 0 {
			return
		}
		delete(m.followers, id)
		m.slackenLocked(m.active[id])
	})
}

// heard says that somebody has asked for a job's going on: the time until it is stopped as an orphan begins anew.
func (m *Manager) heard(id engine.JobID) { m.Follow(id)() }

// leash is by what a job with an orphan_ttl hangs on those who follow it. The manager's lock guards it.
type leash struct {
	// ttl is the job's orphan_ttl; zero means that it has none, or that it is not being driven.
	ttl time.Duration
	// timer stops the job. Nil while somebody follows it.
	timer *time.Timer
}

// hold keeps the job from being stopped.
func (l *leash) hold() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// leashed begins to stop a job once nobody has followed it for ttl, and returns what ends that.
func (m *Manager) leashed(a *active, ttl time.Duration) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.leash.ttl = ttl
	m.slackenLocked(a)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		a.leash.hold()
		a.leash.ttl = 0
	}
}

// slackenLocked begins to count the time anew after which a job is stopped, unless somebody follows it. The job may be nil.
func (m *Manager) slackenLocked(a *active) {
	if a == nil || a.leash.ttl == 0 || m.followers[a.id] > 0 {
		return
	}
	a.leash.hold()
	var timer *time.Timer
	timer = time.AfterFunc(a.leash.ttl, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if a.leash.timer == timer { // Else somebody has come in the meantime.
			a.cancel(errOrphan)
		}
	})
	a.leash.timer = timer
}
