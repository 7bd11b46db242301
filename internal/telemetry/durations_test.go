package telemetry_test

import (
	"testing"
	"time"

	"github.com/f708428e/engine/internal/telemetry"
)

func TestDurations(t *testing.T) {
	var d telemetry.Durations
	for _, took := range []time.Duration{time.Microsecond, 10 * time.Microsecond, 11 * time.Microsecond, time.Minute} {
		d.Observe(took)
	}
	if d.Count != 4 || d.Sum != time.Minute+22*time.Microsecond {
		t.Errorf("%d, %v", d.Count, d.Sum)
	}
	buckets := d.Buckets()
	for bound, want := range map[float64]uint64{0.00001: 2, 0.00003: 3, 10: 3} {
		if got := buckets[bound]; got != want {
			t.Errorf("%d took at most %v s, expected %d", got, bound, want)
		}
	}
}
