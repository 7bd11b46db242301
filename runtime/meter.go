package runtime

import (
	"context"
	"math"
	"sync"

	"github.com/f708428e/engine"
)

// Sized is a Model whose memory is known at all times, because it has a process of its own.
type Sized interface {
	Resident
	// MemoryBytes is how much of the machine's memory it has now, or 0 if that cannot be found out. It reads a file.
	MemoryBytes() int64
}

// Metered is a Model whose calls are measured for all its users together.
type Metered interface {
	// Meter returns its meter, or nil if its memory is not known.
	Meter() *Meter
}

// Meter admits calls of one model so that they and the weights fit into the memory that its users have been granted for it, all together.
// How much a call takes is measured: what the model's process has grown by, for each unit of the calls that ran when most did. A unit is
// what the memory of a call is about proportional to, such as a padded token. Until a call has been measured they run one at a time. It is
// safe for concurrent use.
type Meter struct {
	model Sized // constant

	mu sync.Mutex
	// granted is the sum over all users; unbounded counts those without a bound.
	granted   int64
	unbounded int
	// calls and units are those that run, most is the largest number of units that ever did.
	calls, units, most int64
	// grown is the largest growth that was seen, and measured the units for which it was.
	grown, measured int64
	freed           chan struct{} // closed when a call ends or a user comes
}

// NewMeter returns a meter of a model without users.
func NewMeter(model Sized) *Meter { return &Meter{model: model, freed: make(chan struct{})} }

// Join adds a user who has been granted so many bytes for weights and calls; zero means that calls are not bounded while it is there.
func (m *Meter) Join(bytes int64) { m.change(bytes, 1) }

// Leave takes a user away.
func (m *Meter) Leave(bytes int64) { m.change(bytes, -1) }

func (m *Meter) change(bytes int64, users int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes == 0 {
		m.unbounded += users
	}
	m.granted += int64(users) * bytes
	m.wake()
}

func (m *Meter) wake() {
	close(m.freed)
	m.freed = make(chan struct{})
}

// Capacity is how many units may run at once, at least 1: math.MaxInt64 without a bound, and 0 as long as nothing has been measured.
func (m *Meter) Capacity() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.capacity()
}

func (m *Meter) capacity() int64 {
	switch {
	case m.unbounded > 0:
		return math.MaxInt64
	case m.measured == 0:
		return 0
	case m.grown <= 0: // The calls did not show.
		return math.MaxInt64
	}
	room := float64(m.granted-m.model.ResidentBytes()) / float64(m.grown) * float64(m.measured)
	return int64(min(max(room, 1), 1<<62))
}

// Most is how many units have run at once, at most.
func (m *Meter) Most() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

// Begin waits until a call of so many units fits beside those that run. One alone is always let through; whoever can makes calls of no more
// than Capacity. End follows. The error says that ctx has ended.
func (m *Meter) Begin(ctx context.Context, units int64) error {
	for {
		m.mu.Lock()
		if m.calls == 0 || m.units+units <= m.capacity() {
			m.calls++
			m.units += units
			m.most = max(m.most, m.units)
			m.mu.Unlock()
			return nil
		}
		freed := m.freed
		m.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return engine.WrapError("run model", "", ctx.Err())
		}
	}
}

// End ends a call, and measures. It blocks for no longer than reading a small file takes.
func (m *Meter) End(units int64) {
	// Those that begin while the memory is read may not show in it.
	most := m.Most()
	now := m.model.MemoryBytes()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls--
	m.units -= units
	// An executor keeps what its largest calls took, so that what it has now is for the most units.
	if grown := now - m.model.ResidentBytes(); now > 0 && (most > m.measured || grown > m.grown) {
		m.grown, m.measured = max(grown, m.grown), max(most, m.measured)
	}
	m.wake()
}
