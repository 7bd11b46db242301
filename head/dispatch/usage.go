package dispatch

import (
	"maps"
	"math"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// unit is one core, device, or licence in integers: sums of them do not drift as those of fractions do.
const unit = 10_000

// maxDevice bounds the device numbers that are believed.
const maxDevice = 1 << 12

// amounts is what a request takes.
type amounts struct {
	cpu, gpu          int64 // In units.
	memory, gpuMemory int64
	custom            []customAmount // Sorted by name; nil for most.
}

type customAmount struct {
	name  string
	count int64 // In units.
}

func amountsOf(r engine.Resources) amounts {
	a := amounts{cpu: toUnits(r.CPU), gpu: toUnits(r.GPU), memory: r.MemoryBytes, gpuMemory: r.GPUMemoryBytes}
	for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
		a.custom = append(a.custom, customAmount{name, toUnits(r.Custom[name])})
	}
	return a
}

func toUnits(v float64) int64 { return int64(math.Round(v * unit)) }

// times returns n times the amounts, as resources.
func (a amounts) times(n int64) engine.Resources {
	var u usage
	u.add(a, nil, n)
	return u.resources()
}

// usage sums what is held on a node. The zero value is nothing. It is changed in constant time with each lease.
type usage struct {
	cpu, gpu, memory, gpuMemory int64
	custom                      map[string]int64
	devices                     []deviceUse
}

// deviceUse is what is held of one GPU.
type deviceUse struct{ part, memory int64 }

// add counts n times what a request takes, negative to give it back, from the devices given.
func (u *usage) add(a amounts, devices []int32, n int64) {
	u.cpu += n * a.cpu
	u.gpu += n * a.gpu
	u.memory += n * a.memory
	u.gpuMemory += n * a.gpuMemory
	for _, c := range a.custom {
		if u.custom == nil {
			u.custom = map[string]int64{}
		}
		u.custom[c.name] += n * c.count
	}
	for _, device := range devices {
		if device < 0 || device >= maxDevice {
			continue
		}
		for len(u.devices) <= int(device) {
			u.devices = append(u.devices, deviceUse{})
		}
		// A task has parts of one device, or all of several.
		u.devices[device].part += n * (a.gpu / int64(len(devices)))
		u.devices[device].memory += n * (a.gpuMemory / int64(len(devices)))
	}
}

// resources returns the sums.
func (u *usage) resources() engine.Resources {
	r := engine.Resources{CPU: float64(u.cpu) / unit, GPU: float64(u.gpu) / unit, MemoryBytes: u.memory, GPUMemoryBytes: u.gpuMemory}
	for name, count := range u.custom {
		if count != 0 {
			if r.Custom == nil {
				r.Custom = map[string]float64{}
			}
			r.Custom[name] = float64(count) / unit
		}
	}
	return r
}

// gpus appends what each device of a node with that total has free.
func (u *usage) gpus(total engine.Resources, into []scheduler.GPU) []scheduler.GPU {
	devices := int(total.GPU)
	for i := range devices {
		free := scheduler.GPU{Free: 1, FreeMemoryBytes: total.GPUMemoryBytes / int64(devices)}
		if i < len(u.devices) {
			free.Free -= float64(u.devices[i].part) / unit
			free.FreeMemoryBytes -= u.devices[i].memory
		}
		into = append(into, free)
	}
	return into
}

// AddResources returns the sum of a and b.
func AddResources(a, b engine.Resources) engine.Resources {
	sum := engine.Resources{
		CPU: a.CPU + b.CPU, GPU: a.GPU + b.GPU,
		MemoryBytes: a.MemoryBytes + b.MemoryBytes, GPUMemoryBytes: a.GPUMemoryBytes + b.GPUMemoryBytes,
	}
	if len(a.Custom)+len(b.Custom) > 0 {
		sum.Custom = maps.Clone(a.Custom)
		if sum.Custom == nil {
			sum.Custom = map[string]float64{}
		}
		for name, v := range b.Custom {
			sum.Custom[name] += v
		}
	}
	return sum
}
