package dispatch

import (
	"container/heap"
	"slices"
	"time"

	"github.com/f708428e/engine"
)

// enqueue makes a released task wait again.
func (c *Core) enqueue(j *job, index int, notBefore time.Time) {
	t := &j.tasks[index]
	c.stale = true
	t.state = taskWaiting
	departing := c.departing[engine.TaskID{Job: j.ID, Index: index}] > 0
	if !departing && !notBefore.After(c.clock) {
		c.push(j, index)
		return
	}
	t.delayed, t.notBefore = true, notBefore
	j.delayed++
	if !departing {
		c.pause(notBefore, j, index)
	}
}

// departed lets a task wait for a worker again that nobody may hold any more.
func (c *Core) departed(id engine.TaskID) {
	if c.departing[id]--; c.departing[id] > 0 {
		return
	}
	delete(c.departing, id)
	j, t := c.find(id)
	switch {
	case t == nil || t.state != taskWaiting || !t.delayed:
	case t.notBefore.After(c.clock):
		c.pause(t.notBefore, j, id.Index)
	default:
		t.delayed = false
		j.delayed--
		c.push(j, id.Index)
	}
}

// push makes a waiting task one that may begin.
func (c *Core) push(j *job, index int) {
	at, found := slices.BinarySearch(j.queue, int32(index)) //nolint:gosec // A plan has fewer tasks.
	if found {
		return
	}
	j.queue = slices.Insert(j.queue, at, int32(index)) //nolint:gosec // See above.
	j.countNode(index, 1)
	c.recount(j)
}

// dequeue takes a waiting task out, which has found a worker.
func (c *Core) dequeue(j *job, index int) {
	t := &j.tasks[index]
	if t.delayed {
		t.delayed = false
		j.delayed--
		return
	}
	if at, found := slices.BinarySearch(j.queue, int32(index)); found { //nolint:gosec // A plan has fewer tasks.
		j.remove(at)
		c.recount(j)
	}
}

// remove takes the task out that stands at a place of the queue.
func (j *job) remove(at int) (index int) {
	index = int(j.queue[at])
	if at == 0 {
		j.queue = j.queue[1:]
	} else {
		j.queue = slices.Delete(j.queue, at, at+1)
	}
	j.countNode(index, -1)
	return index
}

// pop takes the task out that a node is to have: one whose input it holds, else the first. The queue must not be empty.
func (j *job) pop(node engine.NodeID) int {
	for local := j.byNode[node]; len(local) > 0; local = j.byNode[node] {
		index := local[0]
		j.byNode[node] = local[1:] // Should it wait again, it goes by its index.
		if at, found := slices.BinarySearch(j.queue, index); found {
			return j.remove(at)
		}
	}
	return j.remove(0)
}

// locate asks which nodes hold what the tasks read.
func (j *job) locate() {
	if j.Holders == nil {
		return
	}
	for i := range j.tasks {
		if nodes := j.Holders(i); len(nodes) > 0 && j.tasks[i].state == taskWaiting {
			if j.byNode == nil {
				j.byNode, j.near = map[engine.NodeID][]int32{}, make([]engine.NodeID, len(j.tasks))
			}
			j.near[i] = nodes[0]
			j.byNode[nodes[0]] = append(j.byNode[nodes[0]], int32(i)) //nolint:gosec // A plan has fewer tasks.
		}
	}
	j.Holders = nil
}

// countNode tells the class how many tasks wait whose input a node holds.
func (j *job) countNode(index, n int) {
	if len(j.near) == 0 || j.near[index] == "" {
		return
	}
	if j.class.byNode[j.near[index]] += n; j.class.byNode[j.near[index]] == 0 {
		delete(j.class.byNode, j.near[index])
	}
}

// pause is what has to wait for its time: a task, or with index -1 all of a job.
type pause struct {
	at    time.Time
	job   *job
	index int
}

func (c *Core) pause(at time.Time, j *job, index int) { heap.Push(&c.pauses, pause{at, j, index}) }

func (c *Core) pauseEnded(now time.Time) bool {
	return len(c.pauses) > 0 && !now.Before(c.pauses[0].at)
}

// endPauses lets those go on whose time has come.
func (c *Core) endPauses(now time.Time) {
	for c.pauseEnded(now) {
		p := heap.Pop(&c.pauses).(pause) //nolint:forcetypeassert // Only pauses are pushed.
		if c.jobs[p.job.ID] != p.job {
			continue
		}
		if p.index < 0 {
			p.job.held = false
			c.recount(p.job)
			continue
		}
		// It may have found a worker meanwhile, and have been lost again.
		t := &p.job.tasks[p.index]
		if t.delayed && !now.Before(t.notBefore) && c.departing[engine.TaskID{Job: p.job.ID, Index: p.index}] == 0 {
			t.delayed = false
			p.job.delayed--
			c.push(p.job, p.index)
		}
	}
}

// pauseHeap is a heap of pauses: the first ends first.
type pauseHeap []pause

func (h pauseHeap) Len() int           { return len(h) }
func (h pauseHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h pauseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface: it appends x, which is a pause.
func (h *pauseHeap) Push(x any) { *h = append(*h, x.(pause)) } //nolint:forcetypeassert // Only pauses are pushed.

// Pop implements heap.Interface: it takes the last pause off.
func (h *pauseHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = pause{}
	*h = (*h)[:last]
	return p
}
