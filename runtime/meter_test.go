package runtime_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/f708428e/engine/runtime"
)

// sized is a model whose process has so much memory.
type sized struct {
	runtime.Model
	resident int64
	now      atomic.Int64
}

func (s *sized) ResidentBytes() int64 { return s.resident }
func (s *sized) MemoryBytes() int64   { return s.now.Load() }

func TestMeter(t *testing.T) {
	s := &sized{resident: 1000}
	m := runtime.NewMeter(s)
	m.Join(3000)
	if got := m.Capacity(); got != 0 {
		t.Errorf("capacity %d before anything was measured", got)
	}
	call := func(units, memory int64) {
		t.Helper()
		if err := m.Begin(t.Context(), units); err != nil {
			t.Fatal(err)
		}
		s.now.Store(memory)
		m.End(units)
	}
	want := func(capacity int64) {
		t.Helper()
		if got := m.Capacity(); got != capacity {
			t.Errorf("capacity %d, expected %d", got, capacity)
		}
	}
	call(10, 1000+10*20)
	want(2000 / 20)
	call(5, 1000+10*20) // Less than what is there already.
	want(2000 / 20)
	call(100, 1000+100*10) // What does not grow with the calls counts for less.
	want(2000 / 10)
	call(100, 0) // It cannot be found out.
	want(2000 / 10)
	m.Join(1000)
	want(3000 / 10)
	m.Join(0)
	want(math.MaxInt64)
	m.Leave(0)
	m.Leave(1000)
	m.Leave(3000)
	m.Join(500) // Less than the weights.
	want(1)
	call(1000, 1000+100*10) // Alone, it is let through.
}

func TestMeterWithoutGrowth(t *testing.T) {
	s := &sized{resident: 1000}
	s.now.Store(900)
	m := runtime.NewMeter(s)
	m.Join(2000)
	if err := m.Begin(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	m.End(5)
	if got := m.Capacity(); got != math.MaxInt64 {
		t.Errorf("capacity %d of a model whose calls take nothing", got)
	}
}

// proportional is a model whose process has ten bytes for each unit of the calls that ran when most did.
type proportional struct {
	runtime.Model
	meter *runtime.Meter
}

func (p *proportional) ResidentBytes() int64 { return 1000 }
func (p *proportional) MemoryBytes() int64   { return 1000 + 10*p.meter.Most() }

// TestMeterHoldsBack lets many calls run, and looks at how much of them is there at once.
func TestMeterHoldsBack(t *testing.T) {
	s := &proportional{}
	m := runtime.NewMeter(s)
	s.meter = m
	m.Join(1000 + 10*40)
	var running, most, calls atomic.Int64
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for range 50 {
				units := int64(1 + i%8)
				if err := m.Begin(t.Context(), units); err != nil {
					t.Error(err)
					return
				}
				now := running.Add(units)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				calls.Add(1)
				running.Add(-units)
				m.End(units)
			}
		})
	}
	group.Wait()
	if calls.Load() != 16*50 || most.Load() > 40 || m.Most() > 40 {
		t.Errorf("%d calls, up to %d units at once, expected at most 40", calls.Load(), most.Load())
	}

	if err := m.Begin(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { failed <- m.Begin(ctx, 1) }()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	m.End(40)
}
