package scheduler_test

import (
	"fmt"
	"math"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// cluster is what the tests believe is running. It counts in integers of its own, so that it can catch the scheduler's mistakes.
type cluster struct {
	nodes   []*simNode
	classes []*scheduler.Class
	clock   int64
}

type simNode struct {
	id     engine.NodeID
	total  engine.Resources
	drain  bool
	leases []lease
}

type lease struct {
	class   string
	request engine.Resources
	devices []int
	// ends is the round at whose start the task ends; used by the long simulation only.
	ends int
}

func (c *cluster) node(id engine.NodeID) *simNode {
	for _, n := range c.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (c *cluster) class(id string) *scheduler.Class {
	for _, k := range c.classes {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// units is for amounts that are multiples of 1/10,000 but for the error of floating point.
func units(v float64) int64 { return int64(math.Round(v * 10_000)) }

// snapshot reports the cluster as a head would, sums of fractions with their floating-point error included.
func (c *cluster) snapshot() scheduler.Snapshot {
	var s scheduler.Snapshot
	for _, n := range c.nodes {
		node := scheduler.Node{ID: n.id, Total: n.total, Unschedulable: n.drain}
		for _, l := range n.leases {
			node.Used = sum(node.Used, l.request)
		}
		parts, memory := n.devices()
		for i := range parts {
			node.GPUs = append(node.GPUs, scheduler.GPU{Free: float64(parts[i]) / 10_000, FreeMemoryBytes: memory[i]})
		}
		s.Nodes = append(s.Nodes, node)
	}
	for _, k := range c.classes {
		s.Classes = append(s.Classes, *k)
	}
	return s
}

// devices returns what each GPU of the node has free.
func (n *simNode) devices() (parts, memory []int64) {
	count := int(n.total.GPU)
	for range count {
		parts = append(parts, 10_000)
		memory = append(memory, n.total.GPUMemoryBytes/int64(count))
	}
	for _, l := range n.leases {
		for _, d := range l.devices {
			parts[d] -= min(10_000, units(l.request.GPU))
			memory[d] -= (l.request.GPUMemoryBytes + int64(len(l.devices)) - 1) / int64(len(l.devices))
		}
	}
	return parts, memory
}

func sum(a, b engine.Resources) engine.Resources {
	a.CPU += b.CPU
	a.GPU += b.GPU
	a.MemoryBytes += b.MemoryBytes
	a.GPUMemoryBytes += b.GPUMemoryBytes
	custom := map[string]float64{}
	for _, m := range []map[string]float64{a.Custom, b.Custom} {
		for name, v := range m {
			custom[name] += v
		}
	}
	a.Custom = custom
	return a
}

// apply grants a plan, moves the classes' counts, and returns an error for everything that the plan may not do.
func (c *cluster) apply(p scheduler.Plan) error {
	for _, x := range p.Placements {
		n, k := c.node(x.Node), c.class(x.Class)
		switch {
		case n == nil || k == nil:
			return fmt.Errorf("placement of %q on %q, which do not both exist", x.Class, x.Node)
		case n.drain:
			return fmt.Errorf("placement of %s on draining node %s", x.Class, x.Node)
		case x.Count < 1 || x.Count > k.Pending:
			return fmt.Errorf("placement of %d tasks of %s, of which %d were pending", x.Count, x.Class, k.Pending)
		}
		gpu := k.Request.GPU > 0 || k.Request.GPUMemoryBytes > 0
		if gpu && len(x.Devices) != x.Count || !gpu && x.Devices != nil {
			return fmt.Errorf("placement of %d tasks of %s with devices %v", x.Count, x.Class, x.Devices)
		}
		for i := range x.Count {
			l := lease{class: k.ID, request: k.Request}
			if gpu {
				l.devices = x.Devices[i]
				if want := max(1, int(math.Floor(k.Request.GPU))); len(l.devices) != want {
					return fmt.Errorf("a task of %s got devices %v, want %d of them", x.Class, l.devices, want)
				}
				for j, d := range l.devices {
					if d < 0 || d >= int(n.total.GPU) || slices.Contains(l.devices[:j], d) {
						return fmt.Errorf("a task of %s on %s got devices %v", x.Class, x.Node, l.devices)
					}
				}
			}
			n.leases = append(n.leases, l)
		}
		k.Pending -= x.Count
		k.Running += x.Count
		c.clock++
		k.LastPlaced = c.clock
		k.Overdue = false
	}
	for _, n := range c.nodes {
		if err := n.check(); err != nil {
			return err
		}
	}
	left := map[string]int{}
	for _, w := range p.Waiting {
		left[w.Class] += w.Count
	}
	for _, k := range c.classes {
		if left[k.ID] != k.Pending {
			return fmt.Errorf("class %s has %d tasks left, the plan says %d", k.ID, k.Pending, left[k.ID])
		}
	}
	return nil
}

// check returns an error if the node holds more than it has.
func (n *simNode) check() error {
	var used [2]int64
	custom := map[string]int64{}
	for _, l := range n.leases {
		used[0] += units(l.request.CPU)
		used[1] += l.request.MemoryBytes
		for name, v := range l.request.Custom {
			custom[name] += units(v)
		}
	}
	if total := units(n.total.CPU); used[0] > total {
		return fmt.Errorf("node %s: cpu %d of %d", n.id, used[0], total)
	}
	if used[1] > n.total.MemoryBytes {
		return fmt.Errorf("node %s: memory %d of %d", n.id, used[1], n.total.MemoryBytes)
	}
	for name, v := range custom {
		if total := units(n.total.Custom[name]); v > total {
			return fmt.Errorf("node %s: %s %d of %d", n.id, name, v, total)
		}
	}
	parts, memory := n.devices()
	for i := range parts {
		if parts[i] < 0 || memory[i] < 0 {
			return fmt.Errorf("node %s: device %d has %d units and %d bytes left", n.id, i, parts[i], memory[i])
		}
	}
	return nil
}

// fits reports whether one more task of the class would fit, if idle is set on the node as it would be without leases.
func (n *simNode) fits(k *scheduler.Class, idle bool) bool {
	trial := &simNode{id: n.id, total: n.total}
	if !idle {
		trial.leases = slices.Clone(n.leases)
	}
	l := lease{class: k.ID, request: k.Request}
	if k.Request.GPU > 0 || k.Request.GPUMemoryBytes > 0 {
		if k.Request.GPU > 1 && k.Request.GPU != math.Floor(k.Request.GPU) {
			return false
		}
		count := max(1, int(k.Request.GPU))
		parts, memory := trial.devices()
		for i := range parts {
			if len(l.devices) < count && parts[i] >= min(10_000, units(k.Request.GPU)) &&
				memory[i] >= (k.Request.GPUMemoryBytes+int64(count)-1)/int64(count) {
				l.devices = append(l.devices, i)
			}
		}
		if len(l.devices) < count {
			return false
		}
	}
	trial.leases = append(trial.leases, l)
	return trial.check() == nil
}

// finish ends up to count tasks of a class on a node, the oldest first, and returns how many it found.
func (c *cluster) finish(class string, node engine.NodeID, count int) (ended int) {
	n, k := c.node(node), c.class(class)
	n.leases = slices.DeleteFunc(n.leases, func(l lease) bool {
		if l.class != class || ended == count {
			return false
		}
		ended++
		return true
	})
	k.Running -= ended
	return ended
}
