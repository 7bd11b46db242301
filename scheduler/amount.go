package scheduler

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/f708428e/engine"
)

// unit is one core, device, or licence in the scheduler's integers. Ray uses the same.
const unit = 10_000

// maxUnits keeps sums over a cluster within an int64.
const maxUnits = int64(1) << 40

// A vector holds one int64 for each dimension. These come first; the GPU's are there only if a class needs GPUs, and one
// for each custom resource that a class requests follows.
const (
	dimCPU = iota
	dimMemory
	dimsPlain
)

// The GPU's dimensions are bounds: a node whose vector covers a request may still lack a device that fits it.
const (
	// dimPart is the largest free part of a single device.
	dimPart = dimsPlain + iota
	// dimDevices is the number of wholly free devices.
	dimDevices
	// dimDeviceMemory is the largest free memory of a single device.
	dimDeviceMemory
	dimsGPU
)

// layout says which dimensions this pass has.
type layout struct {
	gpu bool
	// custom are the names of the custom resources that some class requests, sorted.
	custom []string
	// width is the number of dimensions; firstCustom the index of the first custom one.
	width, firstCustom int
}

func newLayout(classes []Class) layout {
	l := layout{firstCustom: dimsPlain}
	names := map[string]bool{}
	for i := range classes {
		r := &classes[i].Request
		l.gpu = l.gpu || r.GPU > 0 || r.GPUMemoryBytes > 0
		for name, v := range r.Custom {
			if v > 0 {
				names[name] = true
			}
		}
	}
	l.custom = slices.Sorted(maps.Keys(names))
	if l.gpu {
		l.firstCustom = dimsGPU
	}
	l.width = l.firstCustom + len(l.custom)
	return l
}

// amount is one dimension of a request; it is never zero.
type amount struct {
	dim   int
	value int64
}

// shape is a request in integers, shared by all classes whose requests are equal.
type shape struct {
	// bad says why no node could ever run it. Empty for most.
	bad     string
	amounts []amount
	// devices counts the GPUs that a task takes; of each it takes part units and deviceMemory bytes. For a request of memory
	// alone, part is zero.
	devices            int
	part, deviceMemory int64

	// share is the part of the cluster's scarcest resource that one task takes. Set once the cluster is known.
	share float64
	// exhausted is set, for each group of nodes, when none there has room; during a pass that never changes back.
	exhausted [groups]bool
	// current is the node that took the last task of this shape, or -1.
	current int
	// verdict is set by explain, once for all classes of the shape.
	verdict *verdict
}

// free reports whether the request is for nothing at all.
func (s *shape) free() bool { return s.bad == "" && s.devices == 0 && len(s.amounts) == 0 }

// shapeKey is equal for equal requests.
type shapeKey struct {
	cpu, gpu          float64
	memory, gpuMemory int64
	custom            string
}

func keyOf(r *engine.Resources) shapeKey {
	k := shapeKey{cpu: r.CPU, gpu: r.GPU, memory: r.MemoryBytes, gpuMemory: r.GPUMemoryBytes}
	if len(r.Custom) > 0 {
		var text []byte
		for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
			text = strconv.AppendQuote(text, name)
			text = strconv.AppendFloat(text, r.Custom[name], 'g', -1, 64)
		}
		k.custom = string(text)
	}
	return k
}

func newShape(r engine.Resources, l layout) *shape {
	s := &shape{current: -1}
	if err := r.Validate(); err != nil {
		s.bad = err.Error()
		return s
	}
	add := func(dim int, value int64) {
		if value > 0 {
			s.amounts = append(s.amounts, amount{dim, value})
		}
	}
	add(dimCPU, ceilUnits(r.CPU))
	add(dimMemory, r.MemoryBytes)
	gpu := ceilUnits(r.GPU)
	switch {
	case gpu > unit && gpu%unit != 0:
		s.bad = "needs gpu: " + number(gpu) + ", a request for more than one must be a whole number"
		return s
	case gpu >= unit:
		s.devices, s.part = int(gpu/unit), unit
		add(dimDevices, int64(s.devices))
	case gpu > 0:
		s.devices, s.part = 1, gpu
		add(dimPart, gpu)
	case r.GPUMemoryBytes > 0:
		s.devices = 1
	}
	if s.devices > 0 {
		n := int64(s.devices)
		s.deviceMemory = (r.GPUMemoryBytes + n - 1) / n
		add(dimDeviceMemory, s.deviceMemory)
	}
	for i, name := range l.custom {
		add(l.firstCustom+i, ceilUnits(r.Custom[name]))
	}
	return s
}

// ceilUnits rounds up, floorUnits down. What is within a billionth of a whole number of units is that number, so
// that sums such as 0.1 + 0.2 stay what they were meant to be.
func ceilUnits(v float64) int64  { return toUnits(v, math.Ceil) }
func floorUnits(v float64) int64 { return toUnits(v, math.Floor) }

func toUnits(v float64, round func(float64) float64) int64 {
	u := v * unit
	switch {
	case math.IsNaN(u) || u <= 0:
		return 0
	case u >= float64(maxUnits):
		return maxUnits
	}
	if near := math.Round(u); math.Abs(u-near) <= 1e-9*max(1, near) {
		return int64(near)
	}
	return int64(round(u))
}

func bytesOf(v int64) int64 { return min(max(v, 0), int64(1)<<50) }

// number writes units for people: 15000 is "1.5".
func number(units int64) string {
	return strconv.FormatFloat(float64(units)/unit, 'f', -1, 64)
}
