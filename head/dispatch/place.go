package dispatch

import (
	"fmt"
	"maps"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

const (
	// passPerJob is the pause after a pass for each job that waited in it: with ten thousand of them, a pass takes milliseconds.
	passPerJob = 4 * time.Microsecond
	// fewJobs is how many may wait without any pause.
	fewJobs = 100
	// lookEvery is how long reasons stay as they are at most.
	lookEvery = time.Second
)

// schedule grants what can be granted now, or soon if the last pass was a moment ago: Tick makes up for it.
func (c *Core) schedule(now time.Time) {
	c.stale = true
	if now.Before(c.nextPass) || len(c.stalled) > 0 {
		return
	}
	c.stale = false
	c.lookAt = now.Add(lookEvery)
	waiting := c.pass(now)
	if waiting > fewJobs {
		c.nextPass = now.Add(time.Duration(waiting) * passPerJob)
	}
}

// pass asks the scheduler and grants what it says. It returns how many jobs had tasks to place.
func (c *Core) pass(now time.Time) (jobs int) {
	var classes, storing []scheduler.Class
	for id, j := range c.jobs {
		ready := c.ready(j, now)
		if ready == 0 || j.running > 0 {
			j.idleSince = time.Time{}
		} else if j.idleSince.IsZero() {
			j.idleSince = now
		}
		if ready < len(j.queue) {
			c.lookLater(now, j)
		}
		if ready == 0 {
			continue
		}
		class := scheduler.Class{
			ID: string(id), Request: j.Request, Pending: ready, Running: j.running, LastPlaced: j.lastPlaced, Order: j.order,
			Overdue: !j.idleSince.IsZero() && now.Sub(j.idleSince) > overdueAfter,
		}
		if j.Spec.GetSink().GetObject() != nil {
			storing = append(storing, class)
		} else {
			classes = append(classes, class)
		}
	}
	jobs = len(classes) + len(storing)
	full := c.fullStores(len(storing) > 0)
	if len(full) == 0 {
		c.place(now, append(classes, storing...), nil)
		return jobs
	}
	// Who reads objects comes first: that is how stores become empty.
	c.place(now, classes, nil)
	c.place(now, storing, full)
	return jobs
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

// place asks the scheduler for nodes, apart from some, and grants what it says.
func (c *Core) place(now time.Time, classes []scheduler.Class, apart map[engine.NodeID]bool) {
	if len(classes) == 0 {
		return
	}
	snapshot := scheduler.Snapshot{Classes: classes}
	for _, w := range c.workers {
		if w.dead || w.session == 0 || apart[w.id] {
			continue
		}
		node := scheduler.Node{ID: w.id, Total: w.total, Labels: w.hello.GetLabels(), Unschedulable: w.draining}
		node.Used, node.GPUs = c.used(w), c.gpus(w)
		snapshot.Nodes = append(snapshot.Nodes, node)
	}
	plan := scheduler.Decide(snapshot)
	for _, placement := range plan.Placements {
		j, w := c.jobs[engine.JobID(placement.Class)], c.workers[placement.Node]
		c.orders++
		j.lastPlaced = c.orders
		for i := range placement.Count {
			if len(w.leases) >= maxLeases(w) {
				break // The rest waits for the end of some of these.
			}
			index := j.pop(now)
			if i < len(placement.Devices) {
				for _, device := range placement.Devices[i] {
					j.tasks[index].devices = append(j.tasks[index].devices, int32(device)) //nolint:gosec // A node has few.
				}
			}
			c.grant(j, index, w)
		}
	}
	for _, waiting := range plan.Waiting {
		j := c.jobs[engine.JobID(waiting.Class)]
		reason := waiting.Reason
		if len(apart) > 0 {
			if reason = fmt.Sprintf("the object stores of %d nodes are full", len(apart)); len(snapshot.Nodes) > 0 {
				reason += "; of the others: " + waiting.Reason
			}
		}
		if j.running == 0 {
			j.reason = reason // Of a job that runs it is no news that some of its tasks wait.
		}
		if waiting.Infeasible && c.config.FailInfeasible && len(snapshot.Nodes) > 0 && len(apart) == 0 {
			c.fail(j, engine.Errorf(engine.KindInvalidArgument, "schedule job", string(j.ID), "%s", waiting.Reason).
				WithHint("ask for less in resources:, or run the job on a cluster that has it"))
		}
	}
}

// maxLeases bounds what a worker holds at a time, so that requests for next to nothing do not start thousands of attempts at once.
func maxLeases(w *worker) int { return max(64, int(16*w.total.CPU)) }

// lookLater makes a pass due when a job's pauses end.
func (c *Core) lookLater(now time.Time, j *job) {
	for _, at := range []time.Time{j.delayedUntil, j.AssignAfter} {
		if at.After(now) && at.Before(c.lookAt) {
			c.lookAt = at
		}
	}
}

// used sums what the leases on a worker hold. Results that wait for their commit hold nothing any more.
func (c *Core) used(w *worker) engine.Resources {
	var sum engine.Resources
	for id := range w.leases {
		if j := c.jobs[id.Job]; j != nil && j.tasks[id.Index].state == taskLeased {
			sum = AddResources(sum, j.Request)
		}
	}
	return sum
}

// gpus says what each device of a worker has free.
func (c *Core) gpus(w *worker) []scheduler.GPU {
	devices := int(w.total.GPU)
	if devices == 0 {
		return nil
	}
	free := make([]scheduler.GPU, devices)
	for i := range free {
		free[i] = scheduler.GPU{Free: 1, FreeMemoryBytes: w.total.GPUMemoryBytes / int64(devices)}
	}
	for id := range w.leases {
		j := c.jobs[id.Job]
		if j == nil || j.tasks[id.Index].state != taskLeased {
			continue
		}
		held := j.tasks[id.Index].devices
		for _, device := range held {
			if device >= 0 && int(device) < devices {
				// A task has parts of one device, or all of several.
				free[device].Free -= j.Request.GPU / float64(len(held))
				free[device].FreeMemoryBytes -= j.Request.GPUMemoryBytes / int64(len(held))
			}
		}
	}
	return free
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

// grant leases a task, which is in no queue, to a worker.
func (c *Core) grant(j *job, index int, w *worker) {
	c.lastEpoch++
	t := &j.tasks[index]
	t.attempts++
	t.epoch = c.lastEpoch
	c.hold(j, index, w)
	w.grants = append(w.grants, engine.TaskID{Job: j.ID, Index: index})
	w.dirty = true
}

// hold records that a worker has the task's lease.
func (c *Core) hold(j *job, index int, w *worker) {
	t := &j.tasks[index]
	t.state, t.worker, t.sent, t.grantedIn = taskLeased, w, false, 0
	w.leases[engine.TaskID{Job: j.ID, Index: index}] = struct{}{}
	j.running++
	j.reason = ""
	if !j.started {
		j.started = true
		c.events.Started = append(c.events.Started, j.ID)
	}
}
