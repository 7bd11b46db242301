package objectstore

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/f708428e/engine"
)

// waiter is an object that needs room. The store's mutex guards it, but for what is constant.
type waiter struct {
	// Constant.
	object *object
	// writer is the process that will write; restore says that the object exists and comes back.
	writer  string
	restore bool
	op      string
	// inline is the memory of an inline object, made beforehand.
	inline []byte
	// ready is closed when the waiter has left the queue by itself; nil before it had to enter it.
	ready chan struct{}

	granted bool
	memory  memory
	err     error
}

// queue is who waits for room, in order. Objects that come back go first: those who read them may hold others, and so room, until
// they do.
type queue struct{ restores, creations []*waiter }

func (q *queue) all() iter.Seq[*waiter] {
	return func(yield func(*waiter) bool) {
		for _, waiters := range [][]*waiter{q.restores, q.creations} {
			for _, w := range waiters {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (q *queue) first() *waiter {
	for w := range q.all() {
		return w
	}
	return nil
}

func (q *queue) add(w *waiter) {
	if w.restore {
		q.restores = append(q.restores, w)
	} else {
		q.creations = append(q.creations, w)
	}
}

func (q *queue) remove(w *waiter) {
	same := func(other *waiter) bool { return other == w }
	if w.restore {
		q.restores = slices.DeleteFunc(q.restores, same)
	} else {
		q.creations = slices.DeleteFunc(q.creations, same)
	}
}

// reserve finds memory for an object and makes it ready, and waits for it until ctx ends or CreateTimeout has passed. It is
// called with the mutex held, gives it up while it waits, and returns with it held.
func (s *Store) reserve(ctx context.Context, w *waiter) (memory, error) {
	if s.queue.first() == nil && s.allocate(w, nil) {
		return s.ready(w)
	}
	w.ready = make(chan struct{})
	s.queue.add(w)
	s.roomChanged = true
	s.unlock()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.config.CreateTimeout)
		defer cancel()
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	s.lock()
	switch {
	case w.granted:
		return s.ready(w)
	case w.err != nil:
		return memory{}, w.err
	}
	err := engine.WrapError(w.op, w.object.id.String(), ctx.Err())
	switch {
	case s.closed:
		err = errClosed(w.op, w.object.id.String())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = s.errFull(w)
	}
	s.queue.remove(w)
	s.roomChanged = true
	return memory{}, err
}

// tryReserve is reserve without waiting for room.
func (s *Store) tryReserve(w *waiter) (memory, error) {
	if s.queue.first() != nil || !s.allocate(w, nil) {
		return memory{}, engine.Errorf(engine.KindExhausted, w.op, w.object.id.String(), "there is no room for %s now", sizeText(w.object.size))
	}
	return s.ready(w)
}

// ready makes the memory ready that a waiter was given.
func (s *Store) ready(w *waiter) (memory, error) {
	m := w.memory
	if m.block == nil {
		return m, nil
	}
	s.unlock()
	data, err := m.block.prepare()
	s.lock()
	if err != nil {
		m.block.arena.broken = m.block.arena.memory.Load() == nil
		s.giveBack(w.object.size, m)
		return memory{}, engine.WrapError(w.op, w.object.id.String(), err)
	}
	if a := m.block.arena; a.used > a.ahead {
		s.prefaultSoon(a)
	}
	m.data = data
	return m, nil
}

// failQueue ends all waiting.
func (s *Store) failQueue(err error) {
	for w := range s.queue.all() {
		w.err = err
		close(w.ready)
	}
	s.queue = queue{}
}

// class is what decides which arenas an object may be in.
type class struct {
	domain, writer string
	inline         bool
}

// pump gives the room that there is to those who wait. The first of them is never overtaken: what is freed for it is kept, while
// those behind it may have what is elsewhere, so that one that wants much neither starves nor stops all others.
func (s *Store) pump() {
	head := s.queue.first()
	for ; head != nil && s.allocate(head, nil); head = s.queue.first() {
		s.grant(head)
	}
	if head == nil {
		return
	}
	plan := s.makePlan(head)
	s.carryOut(plan)
	tooLarge := map[class]int64{}
	for w := range s.queue.all() {
		c := class{w.object.domain, w.writer, w.object.inline}
		if limit, known := tooLarge[c]; w == head || known && w.object.size >= limit {
			continue
		}
		if s.allocate(w, &plan) {
			w.granted = true
		} else {
			tooLarge[c] = w.object.size
		}
	}
	for _, w := range slices.Collect(s.queue.all()) {
		if w.granted {
			s.grant(w)
		}
	}
}

// grant lets a waiter go that has its memory.
func (s *Store) grant(w *waiter) {
	w.granted = true
	s.queue.remove(w)
	close(w.ready)
}
