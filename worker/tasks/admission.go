package tasks

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// unit is what one CPU, device, or custom resource counts: amounts have four decimals.
const unit = 10_000

// The resources that have names of their own; custom ones are numbered after them.
const (
	cpu = iota
	gpu
	memory
	gpuMemory
	named
)

// need is an amount of one resource, which is never zero.
type need struct {
	resource int
	amount   int64
}

// shape is a request, and the tasks of that request that wait: all of them fit, or none does, but for devices.
type shape struct {
	needs []need
	// gpus is what a task takes of its devices together, in equal shares.
	gpus int64
	// queue is in order of the grants, from place first; what was cancelled stays in it until it comes to the front.
	queue []*task
	first int
	// blocked says that the shape's first task does not fit in the present pass.
	blocked bool
}

// admission decides which of the granted tasks may start. It is a value without clock or goroutine, and not safe for concurrent use.
//
// Tasks of equal requests start in the order in which they were granted. Among others the one granted first comes first: what it needs
// and cannot have yet, later ones may not take, so that a large task is not overtaken for ever by small ones. The leases of jobs take
// what they need without being asked; what is free can therefore be less than nothing, and then no task that needs it starts.
type admission struct {
	// total is what the node has, free what is left of it; devices is what is left of each GPU.
	total, free, devices []int64
	// places numbers the custom resources.
	places map[string]int
	shapes map[string]*shape
	// waiting are the shapes whose queues are not empty.
	waiting []*shape
}

const (
	// maxBlocked bounds how many requests that do not fit are looked at to find one that does.
	maxBlocked = 16
	// maxShapes bounds the requests that are remembered so that equal ones share a shape.
	maxShapes = 4096
)

func newAdmission(total engine.Resources) *admission {
	a := &admission{places: map[string]int{}, shapes: map[string]*shape{}}
	for i, name := range slices.Sorted(maps.Keys(total.Custom)) {
		a.places[name] = named + i
	}
	a.total = make([]int64, named+len(a.places))
	needs, _ := a.needsOf(total)
	for _, n := range needs {
		a.total[n.resource] = n.amount
	}
	a.free = slices.Clone(a.total)
	for range int(math.Ceil(total.GPU)) {
		a.devices = append(a.devices, unit)
	}
	return a
}

func units(amount float64) int64 { return int64(math.Round(amount * unit)) }

// needsOf writes a request down in numbers. It reports false if the node does not have one of the resources at all; that one is left
// out.
func (a *admission) needsOf(r engine.Resources) (needs []need, known bool) {
	known = true
	add := func(resource int, amount int64) {
		if amount != 0 {
			needs = append(needs, need{resource, amount})
		}
	}
	add(cpu, units(r.CPU))
	add(gpu, units(r.GPU))
	add(memory, r.MemoryBytes)
	add(gpuMemory, r.GPUMemoryBytes)
	for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
		place, ok := a.places[name]
		if ok {
			add(place, units(r.Custom[name]))
		}
		known = known && (ok || units(r.Custom[name]) == 0)
	}
	return needs, known
}

// shapeOf returns the shape of a request, one for all that are equal. It reports false if the node could not meet the request even
// when it has nothing else to do.
func (a *admission) shapeOf(r engine.Resources) (s *shape, possible bool) {
	needs, possible := a.needsOf(r)
	var key strings.Builder
	for _, n := range needs {
		possible = possible && n.amount <= a.total[n.resource]
		fmt.Fprintf(&key, "%d:%d ", n.resource, n.amount)
	}
	s = a.shapes[key.String()]
	if s == nil {
		if len(a.shapes) >= maxShapes {
			clear(a.shapes)
		}
		s = &shape{needs: needs, gpus: units(r.GPU)}
		a.shapes[key.String()] = s
	}
	return s, possible
}

// share is what a task takes of each of its devices.
func (s *shape) share(devices []int32) int64 {
	if len(devices) == 0 {
		return 0
	}
	return s.gpus / int64(len(devices))
}

// add puts a task where its grant has its place among those that wait.
func (a *admission) add(t *task) {
	s := t.shape
	if s.first == len(s.queue) {
		a.waiting = append(a.waiting, s)
		s.queue, s.first = s.queue[:0], 0
	}
	if last := len(s.queue) - 1; last < s.first || s.queue[last].order < t.order {
		s.queue = append(s.queue, t)
		return
	}
	// It has waited for its arguments, and later ones did not need to.
	place, _ := slices.BinarySearchFunc(s.queue[s.first:], t.order, func(other *task, order uint64) int { return cmp.Compare(other.order, order) })
	s.queue = slices.Insert(s.queue, s.first+place, t)
}

// next returns the task that is to start now, and takes what it needs; nil if there is none.
func (a *admission) next() *task {
	var found *task
	blocked := 0
	for ; blocked < maxBlocked; blocked++ {
		s := a.foremost()
		if s == nil {
			break
		}
		t := s.queue[s.first]
		if a.fits(t) {
			found = t
			a.pop(s)
			break
		}
		// What it waits for is kept for it in this pass.
		s.blocked = true
		a.take(t, 1)
	}
	for _, s := range a.waiting {
		if s.blocked {
			s.blocked = false
			a.take(s.queue[s.first], -1)
		}
	}
	if found != nil {
		a.take(found, 1)
	}
	return found
}

// foremost returns the shape whose first task was granted first, of those that are not blocked, and clears what was cancelled away.
func (a *admission) foremost() *shape {
	var best *shape
	for i := 0; i < len(a.waiting); i++ {
		s := a.waiting[i]
		for s.first < len(s.queue) && s.queue[s.first].phase != waiting {
			s.queue[s.first] = nil
			s.first++
		}
		if s.first == len(s.queue) {
			a.forget(s)
			i--
			continue
		}
		if !s.blocked && (best == nil || s.queue[s.first].order < best.queue[best.first].order) {
			best = s
		}
	}
	return best
}

// pop removes the first task of a shape.
func (a *admission) pop(s *shape) {
	s.queue[s.first] = nil
	s.first++
	switch {
	case s.first == len(s.queue):
		a.forget(s)
	case s.first >= 1024 && s.first >= len(s.queue)/2:
		s.queue = slices.Delete(s.queue, 0, s.first)
		s.first = 0
	}
}

// forget takes a shape whose queue is empty from the list of those that wait.
func (a *admission) forget(s *shape) {
	s.queue, s.first = s.queue[:0], 0
	place := slices.Index(a.waiting, s)
	last := len(a.waiting) - 1
	a.waiting[place] = a.waiting[last]
	a.waiting[last] = nil
	a.waiting = a.waiting[:last]
}

// has reports whether the node has a device.
func (a *admission) has(device int32) bool { return device >= 0 && int(device) < len(a.devices) }

func (a *admission) fits(t *task) bool {
	for _, n := range t.shape.needs {
		if a.free[n.resource] < n.amount {
			return false
		}
	}
	share := t.shape.share(t.devices)
	for _, d := range t.devices {
		if a.has(d) && a.devices[d] < share {
			return false
		}
	}
	return true
}

// lacks reports whether more of what a shape needs was taken than there is, in all or of one of the devices.
func (a *admission) lacks(s *shape, devices []int32) bool {
	return slices.ContainsFunc(s.needs, func(n need) bool { return a.free[n.resource] < 0 }) ||
		slices.ContainsFunc(devices, func(d int32) bool { return a.has(d) && a.devices[d] < 0 })
}

// take takes what a task needs once, or gives it back with -1.
func (a *admission) take(t *task, times int64) { a.takeShape(t.shape, t.devices, times) }

func (a *admission) takeShape(s *shape, devices []int32, times int64) {
	for _, n := range s.needs {
		a.free[n.resource] -= times * n.amount
	}
	share := s.share(devices)
	for _, d := range devices {
		if a.has(d) {
			a.devices[d] -= times * share
		}
	}
}
