package dispatch

import (
	"slices"
	"time"
)

// enqueue makes a released task wait again.
func (c *Core) enqueue(j *job, index int, notBefore time.Time) {
	t := &j.tasks[index]
	c.stale = true
	t.state, t.notBefore = taskWaiting, notBefore
	if notBefore.After(j.delayedUntil) {
		j.delayedUntil = notBefore
	}
	if at, found := slices.BinarySearch(j.queue, index); !found {
		j.queue = slices.Insert(j.queue, at, index)
	}
}

// dequeue takes a waiting task out, which has found a worker.
func (j *job) dequeue(index int) {
	if at, found := slices.BinarySearch(j.queue, index); found {
		j.queue = slices.Delete(j.queue, at, at+1)
	}
}

// ready counts the tasks of a job that may be granted now.
func (c *Core) ready(j *job, now time.Time) int {
	if j.ended || now.Before(j.AssignAfter) {
		return 0
	}
	if !now.Before(j.delayedUntil) {
		return len(j.queue)
	}
	ready := 0
	for _, index := range j.queue {
		if !now.Before(j.tasks[index].notBefore) {
			ready++
		}
	}
	return ready
}

// pop takes the first task that may be granted now; ready has counted it.
func (j *job) pop(now time.Time) int {
	at := 0
	for now.Before(j.tasks[j.queue[at]].notBefore) {
		at++
	}
	index := j.queue[at]
	if at == 0 {
		j.queue = j.queue[1:]
	} else {
		j.queue = slices.Delete(j.queue, at, at+1)
	}
	return index
}
