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

// What a queue holds has dimensions of its own, since devices are counted there rather than compared.
const (
	holdCPU = iota
	holdMemory
	holdGPU
	holdGPUMemory
	holdsPlain
)

// layout says which dimensions this pass has.
type layout struct {
	gpu bool
	// bundles is set when some class runs in the bundles of a group.
	bundles bool
	// custom are the names of the custom resources that some class or group requests, sorted.
	custom []string
	// width is the number of dimensions; firstCustom the index of the first custom one.
	width, firstCustom int
}

func newLayout(s *Snapshot) layout {
	l := layout{firstCustom: dimsPlain}
	add := func(r *engine.Resources) {
		l.gpu = l.gpu || r.GPU > 0 || r.GPUMemoryBytes > 0
		if len(r.Custom) == 0 {
			return
		}
		for name, v := range r.Custom {
			if v > 0 && !slices.Contains(l.custom, name) {
				l.custom = append(l.custom, name)
			}
		}
	}
	for i := range s.Classes {
		add(&s.Classes[i].Request)
		l.bundles = l.bundles || s.Classes[i].Group != ""
	}
	for i := range s.Groups {
		for b := range s.Groups[i].Bundles {
			add(&s.Groups[i].Bundles[b])
		}
	}
	slices.Sort(l.custom)
	if l.gpu {
		l.firstCustom = dimsGPU
	}
	l.width = l.firstCustom + len(l.custom)
	return l
}

// holds is the number of dimensions of what a queue holds.
func (l *layout) holds() int { return holdsPlain + len(l.custom) }

// amount is one dimension of a request; it is never zero.
type amount struct {
	dim   int
	value int64
}

// need is a request in integers.
type need struct {
	// bad says why no node could ever run it. Empty for most.
	bad     string
	amounts []amount
	// devices counts the GPUs that a task takes; of each it takes part units and deviceMemory bytes. For a request of memory
	// alone, part is zero.
	devices            int
	part, deviceMemory int64
	// holds is the same as a queue counts it, and share the part of the cluster's scarcest resource.
	holds []amount
	share float64
}

// nothing reports whether the request is for nothing at all.
func (n *need) nothing() bool { return n.bad == "" && n.devices == 0 && len(n.amounts) == 0 }

// needOf converts a request; loads is what comes on top of it on a node that has not loaded its model.
func (l *layout) needOf(r *engine.Resources, loads Weights) need {
	var n need
	if !ordinary(r) {
		if err := r.Validate(); err != nil {
			n.bad = err.Error()
			return n
		}
	}
	n.amounts = make([]amount, 0, 4)
	add := func(dim int, value int64) {
		if value > 0 {
			n.amounts = append(n.amounts, amount{dim, value})
		}
	}
	add(dimCPU, ceilUnits(r.CPU))
	add(dimMemory, r.MemoryBytes+bytesOf(loads.Bytes))
	gpu := ceilUnits(r.GPU)
	switch {
	case gpu > unit && gpu%unit != 0:
		n.bad = "needs gpu: " + number(gpu) + ", a request for more than one must be a whole number"
		return n
	case gpu >= unit:
		n.devices, n.part = int(gpu/unit), unit
		add(dimDevices, int64(n.devices))
	case gpu > 0:
		n.devices, n.part = 1, gpu
		add(dimPart, gpu)
	case r.GPUMemoryBytes > 0:
		n.devices = 1
	}
	if n.devices > 0 {
		d := int64(n.devices)
		n.deviceMemory = (r.GPUMemoryBytes + bytesOf(loads.GPUBytes) + d - 1) / d
		add(dimDeviceMemory, n.deviceMemory)
	}
	for i, name := range l.custom {
		add(l.firstCustom+i, ceilUnits(r.Custom[name]))
	}
	return n
}

// ordinary reports whether a request needs no closer look, as most do.
func ordinary(r *engine.Resources) bool {
	return len(r.Custom) == 0 && r.CPU >= 0 && r.CPU <= 1e6 && r.GPU >= 0 && r.GPU <= 1e6 &&
		r.MemoryBytes >= 0 && r.MemoryBytes <= 1<<50 && r.GPUMemoryBytes >= 0 && r.GPUMemoryBytes <= 1<<50
}

// hold fills in what a queue counts of the need.
func (n *need) hold(p *pass) {
	if n.bad != "" {
		return
	}
	n.holds = make([]amount, 0, len(n.amounts))
	add := func(dim int, value int64) {
		if value > 0 {
			n.holds = append(n.holds, amount{dim, value})
			if total := p.total[dim]; total > 0 {
				n.share = max(n.share, float64(value)/total)
			}
		}
	}
	for _, a := range n.amounts {
		switch {
		case a.dim < dimsPlain:
			add(a.dim, a.value)
		case a.dim >= p.firstCustom:
			add(a.dim-p.firstCustom+holdsPlain, a.value)
		}
	}
	add(holdGPU, int64(n.devices)*n.part)
	add(holdGPUMemory, int64(n.devices)*n.deviceMemory)
}

// holdsOf is what a queue counts of a bundle, which may have what no class of this pass requests.
func (p *pass) holdsOf(r *engine.Resources) (holds []amount) {
	add := func(dim int, value int64) {
		if value > 0 {
			holds = append(holds, amount{dim, value})
		}
	}
	add(holdCPU, ceilUnits(r.CPU))
	add(holdMemory, bytesOf(r.MemoryBytes))
	add(holdGPU, ceilUnits(r.GPU))
	add(holdGPUMemory, bytesOf(r.GPUMemoryBytes))
	for i, name := range p.custom {
		add(holdsPlain+i, ceilUnits(r.Custom[name]))
	}
	return holds
}

// shape is what all classes of one queue have in common whose tasks are alike.
type shape struct {
	need
	// first is what the first task on a node takes that has not loaded the model; nil without a model.
	first *need
	model *model
	queue *share
	where *where
	// inBundle is set when the tasks run in what their queue already holds.
	inBundle bool
	// current is the node that took the last task of this shape, or -1.
	current int
	// exhausted is set, for each group of nodes, when none there has room; during a pass that never changes back.
	exhausted [groups]bool
	// dead is set once nothing of this shape is placed any more, capped if that is for the queue's quota.
	dead, capped bool
	// live is how many claims of the shape are in the queue's heap.
	live int
	key  shapeKey
	// verdict and reason are set by explain, once for all classes of the shape.
	verdict   verdict
	judged    bool
	reason    string
	overShare bool
	// keptNote says whose kept node would have room for it.
	keptNote  string
	keptKnown bool
}

// shapeKey is equal for equal shapes.
type shapeKey struct {
	queue             *share
	cpu, gpu          float64
	memory, gpuMemory int64
	custom            string
	weights           Weights
	where             whereKey
}

// plainKey makes the key of a class without custom resources and with nothing that restricts where it runs.
func plainKey(q *share, c *Class) shapeKey {
	r := &c.Request
	return shapeKey{queue: q, cpu: r.CPU, gpu: r.GPU, memory: r.MemoryBytes, gpuMemory: r.GPUMemoryBytes, weights: c.Weights}
}

func customKey(custom map[string]float64) string {
	if len(custom) == 0 {
		return ""
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		text = strconv.AppendQuote(text, name)
		text = strconv.AppendFloat(text, custom[name], 'g', -1, 64)
	}
	return string(text)
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
