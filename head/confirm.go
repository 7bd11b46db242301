package head

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine/head/state"
)

// confirmation is when a head last made sure that it leads. What it says to workers renews their leases; so one that was stopped, or
// has lost touch with the other heads, must say nothing until it knows: another may lead, and count those leases as ended.
type confirmation struct {
	store *state.Store
	// within is how old a confirmation may be. A new head waits so much longer than a lease before it grants what workers may hold.
	within time.Duration
	// last is when the last one began; alone says that there is no other head.
	last  atomic.Pointer[time.Time]
	alone atomic.Bool
}

// leastConfirmed keeps a head of short leases on a busy machine from doubting itself all the time.
const leastConfirmed = 500 * time.Millisecond

func newConfirmation(store *state.Store, leaseTime time.Duration) *confirmation {
	c := &confirmation{store: store, within: max(leaseTime/4, leastConfirmed)}
	began := time.Now()
	c.last.Store(&began) // The term has just begun.
	c.alone.Store(len(store.Heads()) < 2)
	return c
}

// holds reports whether the head is sure enough to lead.
func (c *confirmation) holds() bool {
	return c.alone.Load() || time.Since(*c.last.Load()) < c.within
}

// run confirms again and again until ctx ends.
func (c *confirmation) run(ctx context.Context) error {
	ticker := time.NewTicker(c.within / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		c.alone.Store(len(c.store.Heads()) < 2)
		if c.alone.Load() {
			continue
		}
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, c.within)
		if c.store.Read(within, func(*state.State) {}) == nil {
			c.last.Store(&began)
		}
		cancel()
	}
}
