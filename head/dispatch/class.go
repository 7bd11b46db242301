package dispatch

import (
	"container/heap"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	"github.com/f708428e/engine/scheduler"
)

// class is what jobs whose tasks are alike to the scheduler are together: ten thousand such jobs cost a pass as much as one. Among
// themselves the one with the fewest running tasks comes first, then the one that has waited longest for a grant.
type class struct {
	scheduler.Class
	key string
	// need is what a task takes, weights what its model does once a node.
	need, weights usage.Amounts
	// storing says that the output is objects, so that nodes with a full store are of no use.
	storing bool
	// members counts the jobs, waiting are those with tasks that may be granted.
	members int
	waiting jobHeap
	// byNode counts the waiting tasks by the node that has their input; nil if there are none.
	byNode map[engine.NodeID]int
	// idleSince is since when tasks have waited and none has run; zero while that is not so.
	idleSince time.Time
	// reason is why tasks wait.
	reason string
	// place is its place among the classes.
	place int
}

// classPrefix keeps the names of jobs' classes apart from those of clients' tasks.
const classPrefix = "job "

// classKey is equal for jobs whose tasks are alike to the scheduler.
func classKey(j *job) string {
	key := append([]byte(nil), queueOf(j.Spec.GetQueue())...)
	number := func(v int64) { key = strconv.AppendInt(append(key, '|'), v, 36) }
	number(int64(j.Spec.GetPriority()))
	key = strconv.AppendFloat(append(key, '|'), j.Request.CPU, 'g', -1, 64)
	key = strconv.AppendFloat(append(key, '|'), j.Request.GPU, 'g', -1, 64)
	number(j.Request.MemoryBytes)
	number(j.Request.GPUMemoryBytes)
	for _, name := range slices.Sorted(maps.Keys(j.Request.Custom)) {
		key = strconv.AppendFloat(strconv.AppendQuote(append(key, '|'), name), j.Request.Custom[name], 'g', -1, 64)
	}
	labels := j.Spec.GetPlacement().GetNodeLabels()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key = strconv.AppendQuote(strconv.AppendQuote(append(key, '|'), name), labels[name])
	}
	if j.Spec.GetSink().GetObject() != nil {
		key = append(key, "|storing"...)
	}
	if w := weightsOf(j); w.Digest != "" {
		key = append(append(key, '|'), w.Digest...)
	}
	if j.byNode != nil { // Which nodes it prefers is its own.
		key = append(append(key, "|only "...), j.ID...)
	}
	return string(key)
}

// queueOf is the queue of who names none.
func queueOf(name string) string {
	if name == "" {
		return DefaultQueue
	}
	return name
}

// DefaultQueue is the queue of who names none.
const DefaultQueue = "default"

// weightsOf is the largest model of a job, which its tasks share on a node.
func weightsOf(j *job) (most scheduler.Weights) {
	for _, model := range j.Plan.GetModels() {
		if size := model.GetSizeBytes(); size > most.Bytes+most.GPUBytes {
			most = scheduler.Weights{Digest: model.GetDigest(), Bytes: size}
			if j.Request.GPU > 0 {
				most.Bytes, most.GPUBytes = 0, size
			}
		}
	}
	return most
}

// join makes a job a member of the class that it belongs to.
func (c *Core) join(j *job) {
	key := classKey(j)
	k := c.classes[key]
	if k == nil {
		k = &class{key: key, need: usage.Of(j.Request), storing: j.Spec.GetSink().GetObject() != nil, place: len(c.ordered)}
		k.Class = scheduler.Class{
			// The first member's id: the class is gone with its last member, so nobody else has it.
			ID: classPrefix + string(j.ID), Request: j.Request, Order: j.order, LastPlaced: j.lastPlaced, Queue: queueOf(j.Spec.GetQueue()),
			Priority: int(j.Spec.GetPriority()), Selector: j.Spec.GetPlacement().GetNodeLabels(), Weights: weightsOf(j), Bundle: -1,
			Preemptible: true, RunningOn: map[engine.NodeID]int{}, Since: c.clock,
		}
		k.weights = usage.Of(engine.Resources{MemoryBytes: k.Weights.Bytes, GPUMemoryBytes: k.Weights.GPUBytes})
		if j.byNode != nil {
			k.byNode = map[engine.NodeID]int{}
		}
		c.classes[key], c.byClass[k.ID] = k, k
		c.ordered = append(c.ordered, k)
	}
	k.members++
	j.class, j.place = k, -1
	for _, index := range j.queue {
		j.countNode(int(index), 1)
	}
}

// leave ends a membership. The job has no leases any more.
func (c *Core) leave(j *job) {
	j.ended = true
	c.recount(j)
	k := j.class
	if k.members--; k.members > 0 {
		return
	}
	delete(c.classes, k.key)
	delete(c.byClass, k.ID)
	last := c.ordered[len(c.ordered)-1]
	c.ordered[k.place], last.place = last, k.place
	c.ordered[len(c.ordered)-1] = nil
	c.ordered = c.ordered[:len(c.ordered)-1]
}

// recount brings the class up to date with a job whose queue or leases have changed.
func (c *Core) recount(j *job) {
	k, ready := j.class, j.ready()
	k.Pending += ready - j.counted
	j.counted = ready
	switch {
	case ready == 0 && j.place >= 0:
		heap.Remove(&k.waiting, j.place)
	case ready > 0 && j.place < 0:
		heap.Push(&k.waiting, j)
	case ready > 0:
		heap.Fix(&k.waiting, j.place)
	}
}

// preferred returns the nodes that hold the inputs of most waiting tasks, the most first.
func (k *class) preferred() []engine.NodeID {
	if len(k.byNode) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(k.byNode), func(a, b engine.NodeID) int {
		if d := k.byNode[b] - k.byNode[a]; d != 0 {
			return d
		}
		return strings.Compare(string(a), string(b))
	})
}

// jobHeap is a heap of jobs: the first is the one that gets the next place.
type jobHeap []*job

func (h jobHeap) Len() int { return len(h) }

func (h jobHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.running != b.running:
		return a.running < b.running
	case a.lastPlaced != b.lastPlaced:
		return a.lastPlaced < b.lastPlaced
	default:
		return a.order < b.order
	}
}

func (h jobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface: it appends x, which is a *job.
func (h *jobHeap) Push(x any) {
	j := x.(*job) //nolint:forcetypeassert // Only jobs are pushed.
	j.place = len(*h)
	*h = append(*h, j)
}

// Pop implements heap.Interface: it takes the last *job off.
func (h *jobHeap) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	j.place = -1
	return j
}
