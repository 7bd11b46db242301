// Package telemetry counts what goes on, for whoever reads metrics, and tells traces where somebody collects them. Nothing of it waits for
// anybody.
package telemetry

import "time"

// bounds are the upper ends of the buckets: from 10 µs on, a factor of about three each.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 30 * time.Microsecond, 100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond,
	10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second,
}

// Durations counts how long something took. The zero value has seen nothing. It is not safe for concurrent use; a copy is a snapshot.
type Durations struct {
	// Count is how many there were, Sum their sum.
	Count uint64
	Sum   time.Duration
	// counts has those that took as long as the bound or less, but longer than the one before.
	counts [len(bounds)]uint64
}

// Observe counts one.
func (d *Durations) Observe(took time.Duration) {
	d.Count++
	d.Sum += took
	for i, bound := range bounds {
		if took <= bound {
			d.counts[i]++
			return
		}
	}
}

// Buckets returns how many took at most so many seconds.
func (d *Durations) Buckets() map[float64]uint64 {
	buckets := make(map[float64]uint64, len(bounds))
	sum := uint64(0)
	for i, bound := range bounds {
		sum += d.counts[i]
		buckets[bound.Seconds()] = sum
	}
	return buckets
}
