package tasks

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/f708428e/engine"
)

// ledger counts what is taken without using admission's numbers.
type ledger struct {
	total, used engine.Resources
	devices     []float64
}

func (l *ledger) add(r engine.Resources, devices []int32, sign float64) {
	l.used.CPU += sign * r.CPU
	l.used.GPU += sign * r.GPU
	l.used.MemoryBytes += int64(sign) * r.MemoryBytes
	if l.used.Custom == nil {
		l.used.Custom = map[string]float64{}
	}
	for name, n := range r.Custom {
		l.used.Custom[name] += sign * n
	}
	for _, d := range devices {
		l.devices[d] += sign * r.GPU / float64(len(devices))
	}
}

// over says what of what a task takes is taken more often than it exists.
func (l *ledger) over(r engine.Resources, devices []int32) string {
	const slack = 1e-6
	switch {
	case r.CPU > 0 && l.used.CPU > l.total.CPU+slack:
		return fmt.Sprintf("%v of %v cores", l.used.CPU, l.total.CPU)
	case r.GPU > 0 && l.used.GPU > l.total.GPU+slack:
		return fmt.Sprintf("%v of %v GPUs", l.used.GPU, l.total.GPU)
	case r.MemoryBytes > 0 && l.used.MemoryBytes > l.total.MemoryBytes:
		return fmt.Sprintf("%v of %v bytes", l.used.MemoryBytes, l.total.MemoryBytes)
	}
	for name, n := range r.Custom {
		if n > 0 && l.used.Custom[name] > l.total.Custom[name]+slack {
			return fmt.Sprintf("%v of %v %s", l.used.Custom[name], l.total.Custom[name], name)
		}
	}
	for _, d := range devices {
		if l.devices[d] > 1+slack {
			return fmt.Sprintf("%v of device %d", l.devices[d], d)
		}
	}
	return ""
}

// Whatever is granted, cancelled, ended, and taken by jobs in whatever order: a task starts only if what it takes is free, tasks of equal
// requests start in the order of their grants, nothing that could start waits, and the task that was granted first starts at the latest
// when everything else has ended.
func TestAdmissionProperty(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		total := engine.Resources{CPU: float64(1 + random.IntN(8)), GPU: float64(random.IntN(3)), MemoryBytes: 1000, Custom: map[string]float64{"licence": 2}}
		a := newAdmission(total)
		l := &ledger{total: total, devices: make([]float64, int(total.GPU))}
		var requests []engine.Resources
		for range 1 + random.IntN(5) {
			r := engine.Resources{CPU: float64(random.IntN(5)) / 2, MemoryBytes: int64(random.IntN(3)) * 300}
			if total.GPU > 0 && random.IntN(3) == 0 {
				r.GPU = []float64{0.25, 0.5, 1}[random.IntN(3)]
			}
			if random.IntN(4) == 0 {
				r.Custom = map[string]float64{"licence": 0.5 + float64(random.IntN(2))}
			}
			if _, possible := a.shapeOf(r); possible {
				requests = append(requests, r)
			}
		}
		requests = append(requests, engine.Resources{})
		type attempt struct {
			*task
			request engine.Resources
		}
		var granted, late []*task // waiting, and fetching
		var started []attempt
		type lease struct {
			shape   *shape
			request engine.Resources
		}
		var leases []lease
		requestOf := map[*task]engine.Resources{}
		order := uint64(0)
		last := map[*shape]uint64{} // the order of the last that has started, +1
		overtaken := map[*task]bool{}
		admit := func() {
			for {
				n := a.next()
				if n == nil {
					return
				}
				if n.phase != waiting {
					t.Fatalf("a task of phase %d starts", n.phase)
				}
				r := requestOf[n]
				n.phase = running
				l.add(r, n.devices, 1)
				if over := l.over(r, n.devices); over != "" {
					t.Fatalf("seed %d: %s are taken", seed, over)
				}
				if n.order+1 < last[n.shape] && !overtaken[n] {
					t.Fatalf("seed %d: grant %d starts after %d of the same request", seed, n.order, last[n.shape]-1)
				}
				last[n.shape] = max(last[n.shape], n.order+1)
				started = append(started, attempt{n, r})
				for i, g := range granted {
					if g == n {
						granted = append(granted[:i], granted[i+1:]...)
						break
					}
				}
			}
		}
		for range 400 {
			switch op := random.IntN(10); {
			case op < 4:
				r := requests[random.IntN(len(requests))]
				s, _ := a.shapeOf(r)
				n := &task{shape: s, order: order, phase: waiting}
				if r.GPU > 0 {
					n.devices = []int32{int32(random.IntN(int(total.GPU)))}
				}
				order++
				requestOf[n] = r
				if random.IntN(4) == 0 {
					n.phase = fetching
					late = append(late, n)
				} else {
					granted = append(granted, n)
					a.add(n)
				}
			case op == 4 && len(late) > 0:
				i := random.IntN(len(late))
				n := late[i]
				late = append(late[:i], late[i+1:]...)
				n.phase = waiting
				overtaken[n] = true
				granted = append(granted, n)
				a.add(n)
			case op == 5 && len(granted) > 0 && random.IntN(3) == 0:
				i := random.IntN(len(granted))
				granted[i].phase = ended
				granted = append(granted[:i], granted[i+1:]...)
			case op == 6 && random.IntN(3) == 0:
				r := requests[random.IntN(len(requests))]
				r.GPU = 0
				s, _ := a.shapeOf(r)
				a.takeShape(s, nil, 1)
				l.add(r, nil, 1)
				leases = append(leases, lease{s, r})
			case op == 7 && len(leases) > 0:
				a.takeShape(leases[0].shape, nil, -1)
				l.add(leases[0].request, nil, -1)
				leases = leases[1:]
			case len(started) > 0:
				i := random.IntN(len(started))
				a.take(started[i].task, -1)
				l.add(started[i].request, started[i].devices, -1)
				started = append(started[:i], started[i+1:]...)
			}
			admit()
		}
		// Everything ends, and then everything that waits has its turn.
		for _, le := range leases {
			a.takeShape(le.shape, nil, -1)
			l.add(le.request, nil, -1)
		}
		admit()
		for len(started) > 0 || len(granted) > 0 {
			if len(started) == 0 {
				t.Fatalf("seed %d: %d tasks wait while nothing runs", seed, len(granted))
			}
			first := started[0]
			started = started[1:]
			a.take(first.task, -1)
			l.add(first.request, first.devices, -1)
			admit()
		}
		for i, free := range a.free {
			if free != a.total[i] {
				t.Fatalf("seed %d: %d of resource %d are free in the end, expected %d", seed, free, i, a.total[i])
			}
		}
		if len(a.waiting) != 0 {
			t.Fatalf("seed %d: %d shapes wait in the end", seed, len(a.waiting))
		}
	}
}

// A large task that was granted first is not overtaken by small ones that would take what it waits for; those that take something else do
// not wait for it.
func TestLargeTaskIsNotStarved(t *testing.T) {
	a := newAdmission(engine.Resources{CPU: 2, MemoryBytes: 100})
	add := func(order uint64, r engine.Resources) *task {
		s, possible := a.shapeOf(r)
		if !possible {
			t.Fatalf("%s is not possible", r)
		}
		n := &task{shape: s, order: order, phase: waiting}
		a.add(n)
		return n
	}
	small := add(0, engine.Resources{CPU: 1})
	if a.next() != small {
		t.Fatal("the first does not start")
	}
	large := add(1, engine.Resources{CPU: 2})
	add(2, engine.Resources{CPU: 1})
	other := add(3, engine.Resources{MemoryBytes: 60})
	if n := a.next(); n != other {
		t.Fatalf("%+v starts, expected the one that takes no core", n)
	}
	if n := a.next(); n != nil {
		t.Fatalf("%+v starts on a core that the large one waits for", n)
	}
	a.take(small, -1)
	if n := a.next(); n != large {
		t.Fatalf("%+v starts, expected the large one", n)
	}
}
