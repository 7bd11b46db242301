package dispatch

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// QueueView is what goes on in a queue.
type QueueView struct {
	// Queue is as it was set, or has its name alone.
	Queue *enginev1.Queue
	// Used is what its tasks and placement groups hold.
	Used engine.Resources
	// Pending and Running count tasks, Jobs the jobs with tasks to run, Groups the placement groups, placed or not.
	Pending, Running, Jobs, Groups int64
	// Share is the part of the scarcest resource that it holds, FairShare what it is due while the queues that have work now do; both from
	// 0 to 1.
	Share, FairShare float64
}

// hasWork reports whether the queue has or wants resources.
func (v *QueueView) hasWork() bool { return v.Pending+v.Running+v.Groups > 0 }

// SetQueues tells what the queues are from now on. An error names the first that is wrong, and nothing is changed.
func (c *Core) SetQueues(now time.Time, wire []*enginev1.Queue) error {
	queues := make([]scheduler.Queue, 0, len(wire))
	for _, q := range wire {
		quota, err := rpc.ResourcesFromProto(q.GetQuota())
		if err != nil {
			return engine.WrapError("set queue", q.GetName(), err)
		}
		queues = append(queues, scheduler.Queue{
			Name: q.GetName(), Weight: cmp.Or(q.GetWeight(), 1), Priority: int(q.GetPriority()), Quota: quota,
		})
	}
	c.queues, c.wireQueues = queues, wire
	c.tasks.SetQueues(wire)
	c.clock = now
	c.schedule(now)
	return nil
}

// Queues returns the queues that are set or have work, in order of their names. The default queue is always among them.
func (c *Core) Queues() []QueueView {
	views := map[string]*QueueView{}
	view := func(name string) *QueueView {
		v := views[name]
		if v == nil {
			v = &QueueView{Queue: &enginev1.Queue{Name: name}}
			views[name] = v
		}
		return v
	}
	view(DefaultQueue)
	for _, q := range c.wireQueues {
		view(q.GetName()).Queue = q
	}
	for _, j := range c.jobs {
		v := view(j.class.Queue)
		v.Jobs++
		v.Pending += int64(len(j.queue) + j.delayed)
	}
	for _, k := range c.ordered {
		v := view(k.Queue)
		v.Running += int64(k.Running)
		v.Used = v.Used.Add(k.need.Times(int64(k.Running)))
	}
	for name, use := range c.tasks.Queues() {
		v := view(name)
		v.Pending += use.Pending
		v.Running += use.Running
		v.Groups += use.Groups
		v.Used = v.Used.Add(use.Used)
	}
	total := engine.Resources{}
	for _, w := range c.workers {
		if !w.dead {
			total = total.Add(w.total)
		}
	}
	// What is due is divided among the queues of the highest priority that have work.
	highest, weights := 0, 0.0
	for _, v := range views {
		if !v.hasWork() {
			continue
		}
		if p := int(v.Queue.GetPriority()); weights == 0 || p > highest {
			highest, weights = p, 0
		}
		if int(v.Queue.GetPriority()) == highest {
			weights += weightOf(v.Queue)
		}
	}
	found := make([]QueueView, 0, len(views))
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		v.Share = dominantShare(v.Used, total)
		if v.hasWork() && int(v.Queue.GetPriority()) == highest {
			v.FairShare = weightOf(v.Queue) / weights
		}
		found = append(found, *v)
	}
	return found
}

func weightOf(q *enginev1.Queue) float64 { return cmp.Or(q.GetWeight(), 1) }

// dominantShare is the largest part of any resource that is used.
func dominantShare(used, total engine.Resources) (most float64) {
	see := func(used, total float64) {
		if total > 0 {
			most = max(most, used/total)
		}
	}
	see(used.CPU, total.CPU)
	see(used.GPU, total.GPU)
	see(float64(used.MemoryBytes), float64(total.MemoryBytes))
	see(float64(used.GPUMemoryBytes), float64(total.GPUMemoryBytes))
	for name, v := range used.Custom {
		see(v, total.Custom[name])
	}
	return most
}
