package objectstore

import (
	"context"
	"time"
)

// staleAfter is how long changes of pins are gathered before they are reported.
const staleAfter = time.Second

// maxSleep is how long the clock sleeps at most if there is something to come.
const maxSleep = time.Minute

// pinsChanged notes that readers came or went. Inline objects are not worth it: their readers have a copy.
func (s *Store) pinsChanged(o *object, now time.Time) {
	if o.inline || o.stale || o.deleted {
		return
	}
	o.stale = true
	s.stale = append(s.stale, o)
	if len(s.stale) == 1 {
		s.staleSince = now
		s.wakeAt(now.Add(staleAfter))
	}
}

// wakeAt has the clock look at a time, if it would not before. It only sends a signal.
func (s *Store) wakeAt(t time.Time) {
	switch {
	case s.deadline.IsZero() || t.Before(s.deadline):
		s.deadline = t
	case s.config.Now().Before(s.deadline):
		return
	default:
		// The time was set forward, and the clock still sleeps.
	}
	select {
	case s.wakeClock <- struct{}{}:
	default:
	}
}

// runClock does what is due by time alone.
func (s *Store) runClock(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.wakeClock:
		}
		s.lock()
		now := s.config.Now()
		s.tick(now)
		s.deadline = s.nextDeadline(now)
		timer.Stop()
		if !s.deadline.IsZero() {
			// Timers do not know when the time is set forward, or the machine slept.
			timer.Reset(min(max(s.deadline.Sub(now), time.Millisecond), maxSleep))
		}
		s.unlock()
	}
}

// tick does what is due; lock has ended references already.
func (s *Store) tick(now time.Time) {
	if len(s.stale) > 0 && !now.Before(s.staleSince.Add(staleAfter)) {
		for _, o := range s.stale {
			o.stale = false
			if !o.deleted {
				s.changes.changed(o)
			}
		}
		clear(s.stale)
		s.stale = s.stale[:0]
	}
	if !s.spiller.retryAt.IsZero() && !now.Before(s.spiller.retryAt) {
		s.spiller.retryAt = time.Time{}
		s.roomChanged = true
		s.checkWater()
	}
	s.retireEmpty(1)
}

// nextDeadline is when tick has something to do next; zero is never.
func (s *Store) nextDeadline(now time.Time) time.Time {
	next := s.spiller.retryAt
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if len(s.owners.expiries) > 0 {
		earlier(s.owners.expiries[0].expires)
	}
	if len(s.stale) > 0 {
		earlier(s.staleSince.Add(staleAfter))
	}
	for _, a := range s.arenas {
		if idle := a.emptied.Add(idleArena); a.empty() && idle.After(now) {
			earlier(idle)
		}
	}
	return next
}
