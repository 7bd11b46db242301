package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

const (
	// A pass costs about so much for each class, node, and task that it places; one that costs more than freePass is followed by a pause
	// of the same length, so that large clusters spend at most half of the time on passes.
	passPerClass = 1500 * time.Nanosecond
	passPerNode  = 300 * time.Nanosecond
	passPerTask  = 500 * time.Nanosecond
	freePass     = 200 * time.Microsecond
	// maxPlacements bounds what one pass places, and so how long it takes.
	maxPlacements = 10_000
	// lookEvery is how long reasons stay as they are at most.
	lookEvery = time.Second
)

// schedule grants what can be granted now, or soon if the last pass was a moment ago: Due says when.
func (c *Core) schedule(now time.Time) {
	c.stale = true
	if now.Before(c.nextPass) {
		return
	}
	c.stale = false
	c.lookAt = now.Add(lookEvery)
	c.endPauses(now)
	cost := c.pass(now)
	if cost > freePass {
		c.nextPass = now.Add(cost)
	}
}

// Due returns when Tick has something to do; zero if nothing but the usual ticks.
func (c *Core) Due() time.Time {
	due := c.tasks.Due()
	if c.stale && (due.IsZero() || c.nextPass.Before(due)) {
		due = c.nextPass
	}
	return due
}

// pass asks the scheduler and does what it says. It returns about how long that took.
func (c *Core) pass(now time.Time) time.Duration {
	storing := c.describe(now)
	full := c.fullStores(storing)
	if len(full) == 0 {
		return c.decide(now, nil, func(*class) bool { return true })
	}
	// Who reads objects comes first: that is how stores become empty.
	// Clients' tasks are not held up: they may be the ones that empty a store, and one that cannot put its output fails or waits alone.
	cost := c.decide(now, nil, func(k *class) bool { return !k.storing })
	c.describe(now)
	return cost + c.decide(now, full, func(k *class) bool { return k.storing })
}

// describe brings what the scheduler hears of the jobs' classes up to date. It reports whether objects are to be stored.
func (c *Core) describe(now time.Time) (storing bool) {
	for _, k := range c.ordered {
		switch {
		case k.Pending == 0 || k.Running > 0:
			k.idleSince = time.Time{}
		case k.idleSince.IsZero():
			k.idleSince = now
		}
		k.Overdue = !k.idleSince.IsZero() && now.Sub(k.idleSince) > overdueAfter
		k.Prefer = k.preferred()
		storing = storing || k.storing && k.Pending > 0
	}
	return storing
}

// fullStores returns the nodes whose object store has no room at the moment.
func (c *Core) fullStores(wanted bool) (full map[engine.NodeID]bool) {
	if !wanted || c.config.Full == nil {
		return nil
	}
	for id, w := range c.workers {
		if !w.dead && w.session != 0 && c.config.Full(id) {
			if full == nil {
				full = map[engine.NodeID]bool{}
			}
			full[id] = true
		}
	}
	return full
}

// decide makes one decision of the scheduler over all nodes but those apart, for the classes that take part; the others count with what
// they hold. It returns about how long that took.
func (c *Core) decide(now time.Time, apart map[engine.NodeID]bool, takesPart func(*class) bool) time.Duration {
	s := scheduler.Snapshot{
		Nodes: c.nodes(apart), Classes: c.scratch.classes[:0], Queues: c.queues, Now: now, MaxPlacements: maxPlacements,
	}
	// Where nodes do not say what memory they have, a job that does not say either what it takes may run.
	noMemory, noGPUMemory := false, false
	for i := range s.Nodes {
		total := &s.Nodes[i].Total
		noMemory = noMemory || total.MemoryBytes == 0
		noGPUMemory = noGPUMemory || total.GPU > 0 && total.GPUMemoryBytes == 0
	}
	for _, k := range c.ordered {
		if k.Pending == 0 && k.Running == 0 {
			continue
		}
		s.Classes = append(s.Classes, k.Class)
		if unknown := k.Request.MemoryBytes == 0 && noMemory || k.Request.GPUMemoryBytes == 0 && noGPUMemory && k.Weights.GPUBytes > 0; unknown {
			s.Classes[len(s.Classes)-1].Weights = scheduler.Weights{}
		}
		if len(c.stalled) > 0 || !takesPart(k) {
			s.Classes[len(s.Classes)-1].Pending = 0
			continue
		}
		k.reason = ""
	}
	jobClasses := len(s.Classes)
	if apart == nil {
		s.Classes = c.tasks.Classes(now, s.Classes)
		s.Groups = c.tasks.Groups(now, c.scratch.groups[:0])
		c.scratch.groups = s.Groups
	} else {
		s.Classes = c.tasks.Holders(now, s.Classes)
		for i := range s.Classes[jobClasses:] {
			s.Classes[jobClasses+i].Pending = 0 // They took part in the decision over all nodes.
		}
	}
	plan := scheduler.Decide(s)
	c.counts.Passes++
	c.scratch.classes = s.Classes
	placed := 0
	if apart == nil {
		placed = c.act(now, &plan)
	}
	for _, p := range plan.Placements {
		if k := c.byClass[p.Class]; k != nil {
			placed += p.Count
			c.placeJobs(now, k, p)
		}
	}
	for _, p := range plan.Preemptions {
		if k := c.byClass[p.Class]; k != nil {
			c.preemptJobs(k, p)
		}
	}
	for _, waiting := range plan.Waiting {
		if k := c.byClass[waiting.Class]; k != nil {
			c.explain(k, waiting, len(apart), len(s.Nodes))
		}
	}
	c.counts.Placements += uint64(placed) //nolint:gosec // Not negative.
	for _, p := range plan.Preemptions {
		c.counts.Preemptions += uint64(p.Count) //nolint:gosec // Not negative.
	}
	c.stale = c.stale || plan.More
	return time.Duration(len(s.Classes))*passPerClass + time.Duration(len(s.Nodes))*passPerNode + time.Duration(placed)*passPerTask
}

// nodes describes the connected workers to the scheduler, but for those apart. The slice is valid until the next call.
func (c *Core) nodes(apart map[engine.NodeID]bool) []scheduler.Node {
	nodes, gpus := c.scratch.nodes[:0], c.scratch.gpus[:0]
	for id, w := range c.workers {
		if w.dead || w.session == 0 || apart[id] {
			continue
		}
		node := scheduler.Node{
			ID: id, Total: w.total, Labels: w.hello.GetLabels(), Models: w.loaded, Operators: w.operators(),
			Unschedulable: c.takesNothing(w), Silent: w.suspect,
		}
		first := len(gpus)
		gpus = appendGPUs(gpus, w.total)
		if len(gpus) > first {
			node.GPUs = gpus[first:len(gpus):len(gpus)]
		}
		c.occupy(w, &node)
		nodes = append(nodes, node)
	}
	c.scratch.nodes, c.scratch.gpus = nodes, gpus
	return nodes
}

// appendGPUs appends the devices of a node that holds nothing.
func appendGPUs(gpus []scheduler.GPU, total engine.Resources) []scheduler.GPU {
	devices := int(total.GPU)
	for range devices {
		gpus = append(gpus, scheduler.GPU{Free: 1, FreeMemoryBytes: total.GPUMemoryBytes / int64(devices)})
	}
	return gpus
}

// occupy adds what jobs and clients' tasks hold on a node.
func (c *Core) occupy(w *worker, node *scheduler.Node) {
	w.used.Occupy(node)
	c.tasks.Occupy(node)
}

// placeJobs grants tasks of jobs.
func (c *Core) placeJobs(now time.Time, k *class, p scheduler.Placement) {
	w := c.workers[p.Node]
	for i := range p.Count {
		if len(w.leases) >= maxLeases(w) {
			break // The rest waits for the end of some of these.
		}
		j := k.waiting[0]
		var devices []int32
		if i < len(p.Devices) {
			for _, device := range p.Devices[i] {
				devices = append(devices, int32(device)) //nolint:gosec // A node has few.
			}
		}
		j.lastPlaced = c.stamp(now)
		k.LastPlaced = j.lastPlaced
		c.grant(j, j.pop(w.id), w, devices)
	}
}

// preemptJobs takes running tasks of jobs back, those first that were granted last. It costs them no attempt.
func (c *Core) preemptJobs(k *class, p scheduler.Preemption) {
	w := c.workers[p.Node]
	var running []engine.TaskID
	for id := range w.leases {
		if j := c.jobs[id.Job]; j.class == k && j.tasks[id.Index].state == taskLeased {
			running = append(running, id)
		}
	}
	slices.SortFunc(running, func(a, b engine.TaskID) int {
		if c.jobs[a.Job].tasks[a.Index].epoch > c.jobs[b.Job].tasks[b.Index].epoch {
			return -1
		}
		return 1
	})
	for _, id := range running[:min(p.Count, len(running))] {
		j := c.jobs[id.Job]
		t := &j.tasks[id.Index]
		t.attempts--
		c.takeBack(j, id.Index)
		// What the worker still says of the lease comes too late, or it would be adopted again.
		c.lastEpoch++
		t.epoch = c.lastEpoch
		c.enqueue(j, id.Index, time.Time{})
		c.line(j.ID, "INFO", "task taken back for a queue that is due its place", map[string]string{
			"task": fmt.Sprint(id.Index), "worker": string(w.id), "queue": k.Queue,
		})
	}
}

// explain keeps why a class waits, and ends its jobs if it can never be placed.
func (c *Core) explain(k *class, waiting scheduler.Waiting, apart, nodes int) {
	k.reason = waiting.Reason
	if apart > 0 {
		if k.reason = fmt.Sprintf("the object stores of %d nodes are full", apart); nodes > 0 {
			k.reason += "; of the others: " + waiting.Reason
		}
	}
	if waiting.Infeasible && c.config.FailInfeasible && nodes > 0 && apart == 0 {
		for _, j := range slices.Clone(k.waiting) {
			err := engine.Errorf(engine.KindInvalidArgument, "schedule job", string(j.ID), "%s", waiting.Reason).
				WithHint("ask for less in resources:, or run the job on a cluster that has it")
			if j.finished {
				c.failReruns(j, err)
				continue
			}
			c.fail(j, err)
		}
	}
}

// maxLeases bounds what a worker holds at a time, so that requests for next to nothing do not start thousands of attempts at once.
func maxLeases(w *worker) int { return max(64, int(16*w.total.CPU)) }

// grant leases a task, which is in no queue, to a worker.
func (c *Core) grant(j *job, index int, w *worker, devices []int32) {
	c.lastEpoch++
	t := &j.tasks[index]
	t.attempts++
	t.epoch = c.lastEpoch
	c.hold(j, index, w, devices)
	w.grants = append(w.grants, engine.TaskID{Job: j.ID, Index: index})
	c.touch(w)
}

// hold records that a worker has the task's lease.
func (c *Core) hold(j *job, index int, w *worker, devices []int32) {
	t := &j.tasks[index]
	t.state, t.worker, t.sent, t.lease = taskLeased, w, false, &taskLease{devices: devices, granted: c.clock}
	w.leases[engine.TaskID{Job: j.ID, Index: index}] = struct{}{}
	c.counts.LeasesGranted++
	c.count(j, w, devices, 1)
	if !j.started {
		j.started = true
		c.events.Started = append(c.events.Started, j.ID)
	}
}

// load counts n more tasks of a class that use its model: the memory is taken once.
func (w *worker) load(k *class, n int) {
	digest := k.Weights.Digest
	if digest == "" {
		return
	}
	before := w.models[digest]
	after := before + n
	w.models[digest] = after
	switch {
	case before == 0 && after > 0:
		w.used.Add(&k.weights, nil, 1)
		w.loaded = append(w.loaded, digest)
	case before > 0 && after == 0:
		delete(w.models, digest)
		w.used.Add(&k.weights, nil, -1)
		w.loaded = slices.DeleteFunc(w.loaded, func(other string) bool { return other == digest })
	}
}
