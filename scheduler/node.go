package scheduler

// The nodes stand in groups, in the order in which work without GPU tries them.
const (
	groupPlain = iota
	groupGPU
	groups
)

// packBelow is the score under which a node is filled before the next one is touched. Half is Ray's default.
const packBelow = 0.5

// member is a node during a pass. What it has free is in the leaf of its group's tree.
type member struct {
	*Node
	// rank is the node's position in order of id, leaf its position in its group.
	rank, leaf, group int
	// cpu and memory are what the node offers, for the score.
	cpu, memory int64
	// devices is nil when no class of this pass needs GPUs.
	devices []device
	// The sums over the devices, and what is taken of them.
	gpu, gpuUsed, gpuMemory, gpuMemoryUsed int64
	// score is the used fraction of the resource that is used most. It only grows during a pass.
	score float64
	// closed is set when the node takes nothing: it drains or is kept.
	closed bool
}

// device is what one GPU has free.
type device struct{ part, memory int64 }

// gpus counts the node's whole devices.
func (n *Node) gpus() int { return int(floorUnits(n.Total.GPU) / unit) }

// init reads the node's amounts, writes what it would have free if idle and what it has free now, and computes the score.
func (m *member) init(l layout, idle, free []int64) {
	total, used := &m.Total, &m.Used
	m.cpu, m.memory = floorUnits(total.CPU), bytesOf(total.MemoryBytes)
	idle[dimCPU], idle[dimMemory] = m.cpu, m.memory
	free[dimCPU] = max(0, m.cpu-ceilUnits(used.CPU))
	free[dimMemory] = max(0, m.memory-bytesOf(used.MemoryBytes))
	for i, name := range l.custom {
		d := l.firstCustom + i
		idle[d] = floorUnits(total.Custom[name])
		free[d] = max(0, idle[d]-ceilUnits(used.Custom[name]))
	}
	if n := int64(m.gpus()); n > 0 {
		m.gpu, m.gpuMemory = n*unit, bytesOf(total.GPUMemoryBytes)
		m.gpuUsed, m.gpuMemoryUsed = min(m.gpu, ceilUnits(used.GPU)), min(m.gpuMemory, bytesOf(used.GPUMemoryBytes))
		if l.gpu {
			idle[dimPart], idle[dimDevices], idle[dimDeviceMemory] = unit, n, m.gpuMemory/n
			m.initDevices()
			m.sumDevices(free)
		}
	}
	m.rate(free)
}

// initDevices takes the devices from the snapshot. Where it does not list them, they are filled from the first.
func (m *member) initDevices() {
	m.devices = make([]device, m.gpus())
	each := m.gpuMemory / int64(len(m.devices))
	part, memory := m.gpuUsed, m.gpuMemoryUsed
	listed := m.GPUs != nil
	for i := range m.devices {
		d := &m.devices[i]
		switch {
		case !listed:
			takePart, takeMemory := min(unit, part), min(each, memory)
			part, memory = part-takePart, memory-takeMemory
			*d = device{unit - takePart, each - takeMemory}
		case i < len(m.GPUs):
			g := m.GPUs[i]
			*d = device{min(unit, floorUnits(g.Free)), min(each, bytesOf(g.FreeMemoryBytes))}
		default: // A device that the list lacks is not there.
		}
	}
}

// sumDevices writes the GPU's dimensions from the devices.
func (m *member) sumDevices(free []int64) {
	var part, whole, memory int64
	for _, d := range m.devices {
		part, memory = max(part, d.part), max(memory, d.memory)
		if d.part == unit {
			whole++
		}
	}
	free[dimPart], free[dimDevices], free[dimDeviceMemory] = part, whole, memory
}

// rate computes the score. Custom resources have no part in it, as a licence in use says nothing about a node's load.
func (m *member) rate(free []int64) {
	fraction := func(used, total int64) float64 {
		if total <= 0 {
			return 0
		}
		return float64(used) / float64(total)
	}
	m.score = max(m.score,
		fraction(m.cpu-free[dimCPU], m.cpu), fraction(m.memory-free[dimMemory], m.memory),
		fraction(m.gpuUsed, m.gpu), fraction(m.gpuMemoryUsed, m.gpuMemory))
}

// treeScore is the score as the tree compares it: nodes that are still being packed are all alike.
func (m *member) treeScore() float64 {
	switch {
	case m.closed:
		return never
	case m.score < packBelow:
		return 0
	default:
		return m.score
	}
}

// pick returns the devices for one task of s, or nil when they have no room: whole devices by index, a part of a device where
// the least is left over that still fits, so that whole devices stay whole.
func (m *member) pick(s *shape) []int {
	if s.devices == 1 {
		if i := m.pickOne(s); i >= 0 {
			return []int{i}
		}
		return nil
	}
	var found []int
	for i, d := range m.devices {
		if d.part >= s.part && d.memory >= s.deviceMemory {
			if found = append(found, i); len(found) == s.devices {
				return found
			}
		}
	}
	return nil
}

func (m *member) pickOne(s *shape) int {
	best := -1
	for i, d := range m.devices {
		if d.part < s.part || d.memory < s.deviceMemory {
			continue
		}
		if best < 0 || d.part < m.devices[best].part || d.part == m.devices[best].part && d.memory < m.devices[best].memory {
			best = i
		}
	}
	return best
}

// fits is pick without the answer.
func (m *member) fits(s *shape) bool {
	if s.devices == 1 {
		return m.pickOne(s) >= 0
	}
	n := 0
	for _, d := range m.devices {
		if d.part >= s.part && d.memory >= s.deviceMemory {
			n++
		}
	}
	return n >= s.devices
}

// take gives one task its share. The caller has made sure that it fits.
func (m *member) take(s *shape, free []int64) (devices []int) {
	for _, a := range s.amounts {
		if a.dim < dimsPlain || s.devices == 0 || a.dim >= dimsGPU {
			free[a.dim] -= a.value
		}
	}
	if s.devices > 0 {
		devices = m.pick(s)
		for _, i := range devices {
			m.devices[i].part -= s.part
			m.devices[i].memory -= s.deviceMemory
			m.gpuUsed += s.part
			m.gpuMemoryUsed += s.deviceMemory
		}
		m.sumDevices(free)
	}
	m.rate(free)
	return devices
}
