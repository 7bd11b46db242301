package scheduler_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// cluster is what the tests believe is running. It counts in integers of its own, so that it can catch the scheduler's mistakes.
type cluster struct {
	nodes   []*simNode
	classes []*scheduler.Class
	queues  []scheduler.Queue
	groups  []scheduler.Group
	clock   int64
	// placements bounds a decision.
	placements int
}

type simNode struct {
	id    engine.NodeID
	total engine.Resources
	// silent nodes drain, too, but are called otherwise.
	drain, silent bool
	leases        []lease
	labels        map[string]string
	// operators are nil where all are known.
	operators []string
	// models has the host memory of the weights that are loaded.
	models  map[string]int64
	bundles []*simBundle
}

// simBundle is a bundle of a placed group.
type simBundle struct {
	group   string
	index   int
	queue   string
	total   engine.Resources
	devices []int
}

type lease struct {
	class   string
	request engine.Resources
	devices []int
	// bundle is where it runs, or nil.
	bundle *simBundle
	// leaving is set once it was taken back.
	leaving bool
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
	s := scheduler.Snapshot{Queues: slices.Clone(c.queues), Groups: slices.Clone(c.groups), MaxPlacements: c.placements}
	for _, n := range c.nodes {
		node := scheduler.Node{ID: n.id, Total: n.total, Unschedulable: n.drain, Silent: n.silent, Labels: n.labels, Operators: n.operators}
		for _, l := range n.leases {
			if l.bundle == nil {
				node.Used = sum(node.Used, l.request)
			}
		}
		for _, b := range n.bundles {
			node.Used = sum(node.Used, b.total)
			bundle := scheduler.Bundle{Group: b.group, Index: b.index, Queue: b.queue, Total: b.total, Devices: b.devices}
			for _, l := range n.leases {
				if l.bundle == b {
					bundle.Used = sum(bundle.Used, l.request)
				}
			}
			parts, memory := n.devices(b)
			for _, d := range b.devices {
				bundle.GPUs = append(bundle.GPUs, scheduler.GPU{Free: float64(parts[d]) / 10_000, FreeMemoryBytes: memory[d]})
			}
			node.Bundles = append(node.Bundles, bundle)
		}
		for digest, bytes := range n.models {
			node.Models = append(node.Models, digest)
			node.Used.MemoryBytes += bytes
		}
		parts, memory := n.devices(nil)
		for i := range parts {
			node.GPUs = append(node.GPUs, scheduler.GPU{Free: float64(parts[i]) / 10_000, FreeMemoryBytes: memory[i]})
		}
		s.Nodes = append(s.Nodes, node)
	}
	for _, k := range c.classes {
		class := *k
		for _, n := range c.nodes {
			for _, l := range n.leases {
				switch counts := &class.RunningOn; {
				case l.class != k.ID:
				case l.leaving:
					counts = &class.Leaving
					fallthrough
				default:
					if *counts == nil {
						*counts = map[engine.NodeID]int{}
					}
					(*counts)[n.id]++
				}
			}
		}
		s.Classes = append(s.Classes, class)
	}
	return s
}

// devices returns what each GPU of the node has free, or each of a bundle.
func (n *simNode) devices(of *simBundle) (parts, memory []int64) {
	count := int(n.total.GPU)
	take := func(r engine.Resources, devices []int, sign int64) {
		for _, d := range devices {
			parts[d] -= sign * min(10_000, units(r.GPU))
			memory[d] -= sign * (r.GPUMemoryBytes + int64(len(devices)) - 1) / int64(len(devices))
		}
	}
	parts, memory = make([]int64, count), make([]int64, count)
	if of != nil {
		take(of.total, of.devices, -1)
	} else {
		for d := range count {
			parts[d], memory[d] = 10_000, n.total.GPUMemoryBytes/int64(count)
		}
		for _, b := range n.bundles {
			take(b.total, b.devices, 1)
		}
	}
	for _, l := range n.leases {
		if l.bundle == of {
			take(l.request, l.devices, 1)
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
	if err := c.applyGroups(p); err != nil {
		return err
	}
	total := 0
	for _, x := range p.Placements {
		if err := c.applyPlacement(x); err != nil {
			return err
		}
		total += x.Count
	}
	if c.placements > 0 && total > c.placements {
		return fmt.Errorf("%d tasks placed, %d are allowed", total, c.placements)
	}
	for _, n := range c.nodes {
		if err := n.check(); err != nil {
			return err
		}
	}
	for _, q := range c.queues {
		if err := c.checkQuota(q); err != nil {
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
	return c.applyPreemptions(p)
}

func (c *cluster) applyPlacement(x scheduler.Placement) error {
	n, k := c.node(x.Node), c.class(x.Class)
	switch {
	case n == nil || k == nil:
		return fmt.Errorf("placement of %q on %q, which do not both exist", x.Class, x.Node)
	case x.Count < 1 || x.Count > k.Pending:
		return fmt.Errorf("placement of %d tasks of %s, of which %d were pending", x.Count, x.Class, k.Pending)
	case !allowed(k, &scheduler.Node{ID: n.id, Labels: n.labels, Operators: n.operators, Unschedulable: n.drain}):
		return fmt.Errorf("placement of %s on %s, where it may not run", x.Class, x.Node)
	case (k.Group == "") != (x.Bundle < 0) || k.Group != "" && k.Bundle >= 0 && x.Bundle != k.Bundle:
		return fmt.Errorf("placement of %s in bundle %d", x.Class, x.Bundle)
	}
	var bundle *simBundle
	if x.Bundle >= 0 {
		if bundle = n.bundle(k.Group, x.Bundle); bundle == nil {
			return fmt.Errorf("placement of %s on %s in bundle %d, which is not there", x.Class, x.Node, x.Bundle)
		}
	}
	gpu := k.Request.GPU > 0 || k.Request.GPUMemoryBytes > 0
	if gpu && len(x.Devices) != x.Count || !gpu && x.Devices != nil {
		return fmt.Errorf("placement of %d tasks of %s with devices %v", x.Count, x.Class, x.Devices)
	}
	for i := range x.Count {
		l := lease{class: k.ID, request: k.Request, bundle: bundle}
		if gpu {
			l.devices = x.Devices[i]
			if err := n.checkDevices(k.Request, l.devices); err != nil {
				return fmt.Errorf("a task of %s: %w", x.Class, err)
			}
			for _, d := range l.devices {
				if bundle != nil && !slices.Contains(bundle.devices, d) {
					return fmt.Errorf("a task of %s got device %d, which its bundle has not", x.Class, d)
				}
			}
		}
		n.leases = append(n.leases, l)
	}
	if k.Weights.Digest != "" {
		if n.models == nil {
			n.models = map[string]int64{}
		}
		n.models[k.Weights.Digest] = k.Weights.Bytes
	}
	k.Pending -= x.Count
	k.Running += x.Count
	c.clock++
	k.LastPlaced = c.clock
	k.Overdue = false
	return nil
}

func (n *simNode) checkDevices(r engine.Resources, devices []int) error {
	if want := max(1, int(math.Floor(r.GPU))); len(devices) != want {
		return fmt.Errorf("got devices %v, want %d of them", devices, want)
	}
	for j, d := range devices {
		if d < 0 || d >= int(n.total.GPU) || slices.Contains(devices[:j], d) {
			return fmt.Errorf("got devices %v on %s", devices, n.id)
		}
	}
	return nil
}

func (n *simNode) bundle(group string, index int) *simBundle {
	for _, b := range n.bundles {
		if b.group == group && b.index == index {
			return b
		}
	}
	return nil
}

// applyGroups reserves the bundles of the groups that were placed.
func (c *cluster) applyGroups(p scheduler.Plan) error {
	for _, x := range p.Groups {
		at := slices.IndexFunc(c.groups, func(g scheduler.Group) bool { return g.ID == x.Group })
		if at < 0 {
			return fmt.Errorf("group %s does not wait", x.Group)
		}
		g := c.groups[at]
		c.groups = slices.Delete(slices.Clone(c.groups), at, at+1)
		if len(x.Nodes) != len(g.Bundles) || len(x.Devices) != len(g.Bundles) {
			return fmt.Errorf("group %s of %d bundles on nodes %v with devices %v", g.ID, len(g.Bundles), x.Nodes, x.Devices)
		}
		distinct := map[engine.NodeID]bool{}
		for i, id := range x.Nodes {
			n := c.node(id)
			if n == nil || n.drain || !selected(g.Selector, n.labels) {
				return fmt.Errorf("bundle %d of %s on %s, where it may not be", i, g.ID, id)
			}
			if g.Bundles[i].GPU > 0 {
				if err := n.checkDevices(g.Bundles[i], x.Devices[i]); err != nil {
					return err
				}
			}
			distinct[id] = true
			n.bundles = append(n.bundles, &simBundle{group: g.ID, index: i, queue: g.Queue, total: g.Bundles[i], devices: x.Devices[i]})
		}
		if g.Strategy == engine.PlaceStrictPack && len(distinct) > 1 || g.Strategy == engine.PlaceStrictSpread && len(distinct) < len(x.Nodes) {
			return fmt.Errorf("group %s with %s on nodes %v", g.ID, g.Strategy, x.Nodes)
		}
	}
	return nil
}

// applyPreemptions marks what is taken back; leave ends it.
func (c *cluster) applyPreemptions(p scheduler.Plan) error {
	for _, x := range p.Preemptions {
		n, k := c.node(x.Node), c.class(x.Class)
		if n == nil || k == nil || !k.Preemptible || c.class(x.For) == nil || x.Count < 1 {
			return fmt.Errorf("bad preemption %+v", x)
		}
		for left := x.Count; left > 0; left-- {
			at := slices.IndexFunc(n.leases, func(l lease) bool { return l.class == k.ID && !l.leaving })
			if at < 0 {
				return fmt.Errorf("preemption %+v of more than there are", x)
			}
			n.leases[at].leaving = true
		}
	}
	return nil
}

// leave ends the tasks that were taken back, which become pending.
func (c *cluster) leave() {
	for _, n := range c.nodes {
		n.leases = slices.DeleteFunc(n.leases, func(l lease) bool {
			if l.leaving {
				k := c.class(l.class)
				k.Running, k.Pending = k.Running-1, k.Pending+1
			}
			return l.leaving
		})
	}
}

// heldBy sums what a queue holds, in the order of quotaOf.
func (c *cluster) heldBy(queue string) (held [4]int64) {
	add := func(r engine.Resources) {
		for i, v := range [4]int64{units(r.CPU), r.MemoryBytes, units(r.GPU), r.GPUMemoryBytes} {
			held[i] += v
		}
	}
	for _, n := range c.nodes {
		for _, l := range n.leases {
			if k := c.class(l.class); l.bundle == nil && cmp.Or(k.Queue, "default") == queue {
				add(l.request)
			}
		}
		for _, b := range n.bundles {
			if cmp.Or(b.queue, "default") == queue {
				add(b.total)
			}
		}
	}
	return held
}

func (c *cluster) checkQuota(q scheduler.Queue) error {
	held := c.heldBy(q.Name)
	for i, limit := range [4]int64{units(q.Quota.CPU), q.Quota.MemoryBytes, units(q.Quota.GPU), q.Quota.GPUMemoryBytes} {
		if limit > 0 && held[i] > limit {
			return fmt.Errorf("queue %s holds %d of its quota of %d", q.Name, held[i], limit)
		}
	}
	return nil
}

// overQuota reports whether one more task would exceed a quota.
func (c *cluster) overQuota(k *scheduler.Class) bool {
	if k.Group != "" {
		return false
	}
	for _, q := range c.queues {
		if q.Name != cmp.Or(k.Queue, "default") {
			continue
		}
		held := c.heldBy(q.Name)
		need := [4]int64{units(k.Request.CPU), k.Request.MemoryBytes, units(k.Request.GPU), k.Request.GPUMemoryBytes}
		for i, limit := range [4]int64{units(q.Quota.CPU), q.Quota.MemoryBytes, units(q.Quota.GPU), q.Quota.GPUMemoryBytes} {
			if limit > 0 && need[i] > 0 && held[i]+need[i] > limit {
				return true
			}
		}
	}
	return false
}

// check returns an error if the node, or a bundle on it, holds more than it has.
func (n *simNode) check() error {
	if err := n.checkPart(nil); err != nil {
		return err
	}
	for _, b := range n.bundles {
		if err := n.checkPart(b); err != nil {
			return fmt.Errorf("bundle %d of %s: %w", b.index, b.group, err)
		}
	}
	return nil
}

func (n *simNode) checkPart(of *simBundle) error {
	total := n.total
	var used [2]int64
	custom := map[string]int64{}
	add := func(r engine.Resources) {
		used[0] += units(r.CPU)
		used[1] += r.MemoryBytes
		for name, v := range r.Custom {
			custom[name] += units(v)
		}
	}
	for _, l := range n.leases {
		if l.bundle == of {
			add(l.request)
		}
	}
	if of != nil {
		total = of.total
	} else {
		for _, b := range n.bundles {
			add(b.total)
		}
		for _, bytes := range n.models {
			used[1] += bytes
		}
	}
	if total := units(total.CPU); used[0] > total {
		return fmt.Errorf("node %s: cpu %d of %d", n.id, used[0], total)
	}
	if used[1] > total.MemoryBytes {
		return fmt.Errorf("node %s: memory %d of %d", n.id, used[1], total.MemoryBytes)
	}
	for name, v := range custom {
		if total := units(total.Custom[name]); v > total {
			return fmt.Errorf("node %s: %s %d of %d", n.id, name, v, total)
		}
	}
	parts, memory := n.devices(of)
	for i := range parts {
		if parts[i] < 0 || memory[i] < 0 {
			return fmt.Errorf("node %s: device %d has %d units and %d bytes left", n.id, i, parts[i], memory[i])
		}
	}
	return nil
}

// fits reports whether one more task of the class would fit, if idle is set on the node, or in its bundles, as it would be without leases.
func (n *simNode) fits(k *scheduler.Class, idle bool) bool {
	if !allowed(k, &scheduler.Node{ID: n.id, Labels: n.labels, Operators: n.operators}) {
		return false
	}
	if k.Group == "" {
		return n.fitsIn(k, nil, idle)
	}
	for _, b := range n.bundles {
		if b.group == k.Group && (k.Bundle < 0 || b.index == k.Bundle) && n.fitsIn(k, b, idle) {
			return true
		}
	}
	return false
}

func (n *simNode) fitsIn(k *scheduler.Class, in *simBundle, idle bool) bool {
	trial := &simNode{id: n.id, total: n.total, bundles: n.bundles, models: map[string]int64{}}
	if idle && in == nil {
		trial.bundles = nil
	}
	if !idle {
		trial.leases = slices.Clone(n.leases)
		maps.Copy(trial.models, n.models)
	}
	if k.Weights.Digest != "" {
		trial.models[k.Weights.Digest] = k.Weights.Bytes
	}
	l := lease{class: k.ID, request: k.Request, bundle: in}
	if k.Request.GPU > 0 || k.Request.GPUMemoryBytes > 0 {
		if k.Request.GPU > 1 && k.Request.GPU != math.Floor(k.Request.GPU) {
			return false
		}
		count := max(1, int(k.Request.GPU))
		parts, memory := trial.devices(in)
		for i := range parts {
			if in != nil && !slices.Contains(in.devices, i) {
				continue
			}
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
