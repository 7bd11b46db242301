package objects

import (
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
)

// waiter waits for some of some objects.
type waiter struct {
	number uint64
	ids    []engine.ObjectID
	count  int
	// ready and impossible count its objects by their verdicts.
	ready, impossible int
	// err is why one of them will not come.
	err error
}

// awaited is an object that somebody waits for.
type awaited struct {
	verdict verdict
	// waiters counts how often each names the object.
	waiters map[*waiter]int
}

type verdict uint8

const (
	absent     verdict = iota // It may come.
	ready                     // It can be read.
	impossible                // It will not come.
)

// judge says whether an object can be read, and why it will never be.
func (c *Core) judge(id engine.ObjectID) (verdict, error) {
	o := c.objects[id]
	switch {
	case o == nil && (c.deleted.has(id) || c.freed.has(id)):
		return impossible, c.unknown(id)
	case o == nil:
		return absent, nil
	case len(o.replicas) > 0:
		return ready, nil
	case o.checkpoint != "", o.remaking, o.asked:
		return absent, nil
	default:
		return impossible, lostError(o)
	}
}

// unknown is the error for an object of which there is nothing.
func (c *Core) unknown(id engine.ObjectID) error {
	switch {
	case c.deleted.has(id):
		return engine.Errorf(engine.KindNotFound, "find object", id.String(), "it was deleted")
	case c.freed.has(id):
		return engine.Errorf(engine.KindNotFound, "find object", id.String(), "it was freed: nobody owned it any more")
	default:
		return engine.Errorf(engine.KindNotFound, "find object", id.String(), "no such object").
			WithHint("`engine list objects` shows those that there are")
	}
}

func lostError(o *object) error {
	return engine.Errorf(engine.KindUnavailable, "find object", o.id.String(),
		"lost: its only copy was on node %s, which is gone", o.departure.node).
		WithHint("a checkpoint keeps an object beyond its node")
}

// Wait begins to wait until count of the objects can be read, and returns the waiter's number. Count must be between 0 and the number of
// ids. An event answers, at once if nothing is to be waited for. Objects that have a checkpoint alone are brought back, lost outputs of jobs
// made again.
func (c *Core) Wait(now time.Time, ids []engine.ObjectID, count int) uint64 {
	w := &waiter{number: c.next(), ids: ids, count: count}
	if c.waiting+len(ids) > c.config.MaxAwaited {
		c.events.Answers = append(c.events.Answers, Answer{Waiter: w.number, Ready: c.readable(ids), Err: engine.Errorf(engine.KindExhausted,
			"wait for objects", "", "%d objects are waited for already", c.waiting)})
		return w.number
	}
	c.waiters[w.number] = w
	c.waiting += len(ids)
	c.wantMissing(ids, count)
	for _, id := range ids {
		v, err := c.judge(id)
		w.see(v, err, 1)
		a := c.awaited[id]
		if a == nil {
			a = &awaited{verdict: v, waiters: map[*waiter]int{}}
			c.awaited[id] = a
		}
		a.waiters[w]++
	}
	if c.answer(w) {
		return w.number
	}
	for _, id := range ids {
		if o := c.objects[id]; o != nil {
			c.bringBack(now, o)
		}
	}
	return w.number
}

func (w *waiter) see(v verdict, err error, times int) {
	switch v {
	case ready:
		w.ready += times
	case impossible:
		w.impossible += times
		if times > 0 {
			w.err = err
		}
	case absent:
	}
}

// tell follows a change of what can be said of an object.
func (c *Core) tell(id engine.ObjectID) {
	a, w := c.awaited[id], c.watches[id]
	if a == nil && w == nil {
		return
	}
	v, err := c.judge(id)
	if w != nil {
		c.notice(id, v)
	}
	if a != nil {
		c.turn(a, v, err)
	}
}

// failWaiters ends the waits that need an object which cannot be brought back now. It may be tried again by the next one.
func (c *Core) failWaiters(id engine.ObjectID, err error) {
	if c.watches[id] != nil {
		c.lost(id)
	}
	a := c.awaited[id]
	if a == nil {
		return
	}
	was := a.verdict
	c.turn(a, impossible, err)
	c.turn(a, was, nil)
}

func (c *Core) turn(a *awaited, v verdict, err error) {
	if v == a.verdict {
		return
	}
	waiters := slices.SortedFunc(maps.Keys(a.waiters), func(a, b *waiter) int { return compareNumbers(a.number, b.number) })
	for _, w := range waiters {
		w.see(a.verdict, nil, -a.waiters[w])
		w.see(v, err, a.waiters[w])
	}
	a.verdict = v
	for _, w := range waiters {
		c.answer(w)
	}
}

// answer ends a wait that has come to its end.
func (c *Core) answer(w *waiter) bool {
	switch {
	case c.waiters[w.number] == nil:
		return true
	case w.ready >= w.count:
		c.events.Answers = append(c.events.Answers, Answer{Waiter: w.number, Ready: c.readable(w.ids)})
	case len(w.ids)-w.impossible < w.count:
		c.events.Answers = append(c.events.Answers, Answer{Waiter: w.number, Ready: c.readable(w.ids), Err: w.err})
	default:
		return false
	}
	c.endWait(w)
	return true
}

// Abandon ends a wait that was not answered, and returns the objects that can be read now.
func (c *Core) Abandon(number uint64) []engine.ObjectID {
	w := c.waiters[number]
	if w == nil {
		return nil
	}
	c.endWait(w)
	return c.readable(w.ids)
}

func (c *Core) endWait(w *waiter) {
	delete(c.waiters, w.number)
	c.waiting -= len(w.ids)
	for _, id := range w.ids {
		if a := c.awaited[id]; a != nil {
			if delete(a.waiters, w); len(a.waiters) == 0 {
				delete(c.awaited, id)
			}
		}
	}
}

func (c *Core) readable(ids []engine.ObjectID) []engine.ObjectID {
	var found []engine.ObjectID
	for _, id := range ids {
		if v, _ := c.judge(id); v == ready {
			found = append(found, id)
		}
	}
	return found
}
