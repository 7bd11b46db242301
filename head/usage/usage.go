// Package usage counts what tasks hold of the nodes' resources. Amounts are integers, so that sums do not drift as those of fractions do,
// and adding a lease or taking it away costs constant time.
package usage

import (
	"maps"
	"math"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// unit is one core, device, or licence.
const unit = 10_000

// maxDevice bounds the device numbers that are believed.
const maxDevice = 1 << 12

// Amounts is what a request takes. The zero value is nothing.
type Amounts struct {
	cpu, gpu          int64 // In units.
	memory, gpuMemory int64
	custom            []customAmount // Sorted by name; nil for most.
}

type customAmount struct {
	name  string
	count int64 // In units.
}

// Of returns the amounts of a request.
func Of(r engine.Resources) Amounts {
	a := Amounts{cpu: toUnits(r.CPU), gpu: toUnits(r.GPU), memory: r.MemoryBytes, gpuMemory: r.GPUMemoryBytes}
	for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
		a.custom = append(a.custom, customAmount{name, toUnits(r.Custom[name])})
	}
	return a
}

func toUnits(v float64) int64 { return int64(math.Round(v * unit)) }

// IsNothing reports whether the request takes nothing.
func (a *Amounts) IsNothing() bool {
	for _, c := range a.custom {
		if c.count != 0 {
			return false
		}
	}
	return a.cpu|a.gpu|a.memory|a.gpuMemory == 0
}

// Times returns n times the amounts, as resources.
func (a *Amounts) Times(n int64) engine.Resources {
	var s Sum
	s.Add(a, nil, n)
	return s.Resources()
}

// PerDevice returns what a request takes of each of its devices, as a part of it and in bytes.
func (a *Amounts) PerDevice(devices int) (part float64, memoryBytes int64) {
	if devices == 0 {
		return 0, 0
	}
	return float64(a.gpu/int64(devices)) / unit, a.gpuMemory / int64(devices)
}

// Sum is what is held on a node. The zero value is nothing. It is not safe for concurrent use.
type Sum struct {
	cpu, gpu, memory, gpuMemory int64
	custom                      map[string]int64
	devices                     []deviceSum
}

// deviceSum is what is held of one GPU.
type deviceSum struct{ part, memory int64 }

// Add counts n times what a request takes, negative to give it back, from the devices given.
func (s *Sum) Add(a *Amounts, devices []int32, n int64) {
	s.cpu += n * a.cpu
	s.gpu += n * a.gpu
	s.memory += n * a.memory
	s.gpuMemory += n * a.gpuMemory
	for _, c := range a.custom {
		if s.custom == nil {
			s.custom = map[string]int64{}
		}
		s.custom[c.name] += n * c.count
	}
	for _, device := range devices {
		if device < 0 || device >= maxDevice {
			continue
		}
		for len(s.devices) <= int(device) {
			s.devices = append(s.devices, deviceSum{})
		}
		// A task has parts of one device, or all of several.
		s.devices[device].part += n * (a.gpu / int64(len(devices)))
		s.devices[device].memory += n * (a.gpuMemory / int64(len(devices)))
	}
}

// Resources returns the sums.
func (s *Sum) Resources() engine.Resources {
	r := engine.Resources{CPU: float64(s.cpu) / unit, GPU: float64(s.gpu) / unit, MemoryBytes: s.memory, GPUMemoryBytes: s.gpuMemory}
	for name, count := range s.custom {
		if count != 0 {
			if r.Custom == nil {
				r.Custom = map[string]float64{}
			}
			r.Custom[name] = float64(count) / unit
		}
	}
	return r
}

// Device returns what is held of a device, as a part of it and in bytes.
func (s *Sum) Device(device int) (part float64, memoryBytes int64) {
	if device < 0 || device >= len(s.devices) {
		return 0, 0
	}
	d := s.devices[device]
	return float64(d.part) / unit, d.memory
}

// Occupy adds the sums to what a node is said to hold. Its list of GPUs must have an entry for each device, or be nil.
func (s *Sum) Occupy(node *scheduler.Node) {
	used := s.Resources()
	node.Used.CPU += used.CPU
	node.Used.GPU += used.GPU
	node.Used.MemoryBytes += used.MemoryBytes
	node.Used.GPUMemoryBytes += used.GPUMemoryBytes
	if len(used.Custom) > 0 {
		sum := maps.Clone(used.Custom)
		for name, count := range node.Used.Custom {
			sum[name] += count
		}
		node.Used.Custom = sum
	}
	for i := range min(len(node.GPUs), len(s.devices)) {
		part, memory := s.Device(i)
		node.GPUs[i].Free -= part
		node.GPUs[i].FreeMemoryBytes -= memory
	}
}
