package scheduler

// The nodes stand in groups, in the order in which work without GPU tries them.
const (
	groupPlain = iota
	groupGPU
	groups
)

// packBelow is the score under which a node is filled before the next one is touched. Half is Ray's default.
const packBelow = 0.5

// member is a node during a pass, or a bundle of a placement group on one.
type member struct {
	*Node
	// bundle is nil for a node; host is the node's own member, and that of the node on which the bundle lies.
	bundle *Bundle
	host   int
	// rank is the position in the order of the plan.
	rank, group int
	// version grows with each change, so that trees know which leaves to read again.
	version uint32
	// closed is set when it takes nothing: it drains or is kept.
	closed bool
	// cpu and memory are what it offers, for the score.
	cpu, memory int64
	// devices is nil when no class of this pass needs GPUs; numbers has their indexes where they are not 0, 1, 2 and so on.
	devices []device
	numbers []int
	// The sums over the devices, and what is taken of them.
	gpu, gpuUsed, gpuMemory, gpuMemoryUsed int64
	// score is the used fraction of the resource that is used most. It only grows during a pass.
	score float64
}

// device is what one GPU has free.
type device struct{ part, memory int64 }

// gpus counts the node's whole devices.
func (n *Node) gpus() int {
	if n.Total.GPU == 0 {
		return 0
	}
	return int(floorUnits(n.Total.GPU) / unit)
}

// init reads the amounts, writes what would be free if it were idle and what is free now, and computes the score.
func (m *member) init(l *layout, idle, free []int64) {
	total, used := &m.Total, &m.Used
	if m.bundle != nil {
		total, used = &m.bundle.Total, &m.bundle.Used
	}
	m.cpu, m.memory = floorUnits(total.CPU), bytesOf(total.MemoryBytes)
	idle[dimCPU], idle[dimMemory] = m.cpu, m.memory
	free[dimCPU] = max(0, m.cpu-ceilUnits(used.CPU))
	free[dimMemory] = max(0, m.memory-bytesOf(used.MemoryBytes))
	for i, name := range l.custom {
		d := l.firstCustom + i
		idle[d] = floorUnits(total.Custom[name])
		free[d] = max(0, idle[d]-ceilUnits(used.Custom[name]))
	}
	switch n := int64(m.gpus()); {
	case m.bundle != nil:
		if n = int64(len(m.bundle.Devices)); n > 0 && l.gpu {
			m.gpuMemory = bytesOf(total.GPUMemoryBytes)
			idle[dimPart], idle[dimDeviceMemory] = min(unit, floorUnits(total.GPU)), m.gpuMemory/n
			if idle[dimPart] == unit {
				idle[dimDevices] = n
			}
			m.numbers, m.devices = m.bundle.Devices, make([]device, n)
			for i := range min(int(n), len(m.bundle.GPUs)) {
				g := m.bundle.GPUs[i]
				m.devices[i] = device{min(idle[dimPart], floorUnits(g.Free)), min(idle[dimDeviceMemory], bytesOf(g.FreeMemoryBytes))}
			}
			m.sumDevices(free)
		}
	case n > 0:
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

// initDevices takes a node's devices from the snapshot. Where it does not list them, they are filled from the first.
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

// pick returns the positions of the devices for one task, or nil when they have no room: whole devices in order, a part of a device
// where the least is left over that still fits, so that whole devices stay whole.
func pick(devices []device, n *need) []int {
	if n.devices == 1 {
		if i := pickOne(devices, n); i >= 0 {
			return []int{i}
		}
		return nil
	}
	var found []int
	for i, d := range devices {
		if d.part >= n.part && d.memory >= n.deviceMemory {
			if found = append(found, i); len(found) == n.devices {
				return found
			}
		}
	}
	return nil
}

func pickOne(devices []device, n *need) int {
	best := -1
	for i, d := range devices {
		if d.part < n.part || d.memory < n.deviceMemory {
			continue
		}
		if best < 0 || d.part < devices[best].part || d.part == devices[best].part && d.memory < devices[best].memory {
			best = i
		}
	}
	return best
}

// hasDevices is pick without the answer.
func hasDevices(devices []device, n *need) bool {
	if n.devices == 0 {
		return true
	}
	count := 0
	for _, d := range devices {
		if d.part >= n.part && d.memory >= n.deviceMemory {
			if count++; count == n.devices {
				return true
			}
		}
	}
	return false
}

// take gives one task its share and returns the indexes of its devices. The caller has made sure that it fits.
func (m *member) take(n *need, free []int64) (devices []int) {
	m.version++
	for _, a := range n.amounts {
		if a.dim < dimsPlain || n.devices == 0 || a.dim >= dimsGPU {
			free[a.dim] -= a.value
		}
	}
	if n.devices > 0 {
		devices = pick(m.devices, n)
		for _, i := range devices {
			m.devices[i].part -= n.part
			m.devices[i].memory -= n.deviceMemory
			m.gpuUsed += n.part
			m.gpuMemoryUsed += n.deviceMemory
		}
		m.sumDevices(free)
		if m.numbers != nil {
			for k, i := range devices {
				devices[k] = m.numbers[i]
			}
		}
	}
	m.rate(free)
	return devices
}
