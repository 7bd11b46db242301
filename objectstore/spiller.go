package objectstore

import (
	"context"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/spill"
)

const (
	// spillWorkers is how many spill files are written at a time: two, so that one is written while another is read back.
	spillWorkers = 2
	// A spill that fails is tried again, with another object perhaps, after minSpillWait, then after twice as long, up to maxSpillWait.
	minSpillWait = time.Second
	maxSpillWait = 30 * time.Second
)

// spillFlight is an object that is being spilled, or waits for that. The store's mutex guards it; err is set when done is closed.
type spillFlight struct {
	// asked says that Spill was called for it, not the store's own need.
	asked bool
	done  chan struct{}
	err   error
}

// spiller is what there is to be spilled and deleted. The store's mutex guards it.
type spiller struct {
	writes []*object
	// trash are keys of spill files that nobody needs, and cleaning says that it is their turn: under pressure there is always something
	// to write, and the files would pile up.
	trash    []string
	cleaning bool
	// bytes is the size of the objects that are being spilled, inlineBytes of the inline ones among them.
	bytes, inlineBytes int64
	// number tells the files of one id apart.
	number int64
	// failures counts since the last success, err is the last of them, and nothing is spilled by itself before retryAt.
	failures int
	err      error
	retryAt  time.Time
}

// count notes that n bytes more are being spilled.
func (q *spiller) count(o *object, n int64) {
	q.bytes += n
	if o.inline {
		q.inlineBytes += n
	}
}

func (s *Store) startSpiller() {
	if s.config.Spill == nil {
		return
	}
	for range spillWorkers {
		s.group.Go("spill", func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-s.wakeSpiller:
				}
				for ctx.Err() == nil && s.spillNext(ctx) {
				}
			}
		})
	}
}

// signalSpiller wakes one of the workers.
func (s *Store) signalSpiller() {
	select {
	case s.wakeSpiller <- struct{}{}:
	default:
	}
}

// checkWater starts to spill if objects take more than the high water, and drops what is droppable, until they will take no more
// than the low water.
func (s *Store) checkWater() {
	capacity := float64(s.config.CapacityBytes)
	if float64(s.inMemory) <= s.config.HighWater*capacity {
		return
	}
	excess := s.inMemory - s.spiller.bytes - int64(s.config.LowWater*capacity)
	for excess > 0 && s.caches.first != nil {
		excess -= s.caches.first.size
		s.drop(s.caches.first)
	}
	// What was not used for longest goes, whether that costs a spill or nothing: else objects that nobody wants would stay, and
	// those that come back all the time would be read again and again.
	for spilling := s.canSpill(); excess > 0; {
		clean, dirty := s.clean.first, s.dirty.first
		if !spilling {
			dirty = nil
		}
		switch {
		case clean == nil && dirty == nil:
			return
		case dirty == nil || clean != nil && clean.accessed.Before(dirty.accessed):
			excess -= clean.size
			s.drop(clean)
		default:
			excess -= dirty.size
			s.spillSoon(dirty)
		}
	}
}

// canSpill reports whether spilling makes sense now.
func (s *Store) canSpill() bool {
	return s.config.Spill != nil && !s.closed && (s.spiller.retryAt.IsZero() || !s.config.Now().Before(s.spiller.retryAt))
}

// spillSoon has an object spilled in the background that nobody uses, unless the last attempts failed.
func (s *Store) spillSoon(o *object) {
	if s.canSpill() && o.spill == nil {
		s.startSpill(o)
	}
}

func (s *Store) startSpill(o *object) *spillFlight {
	o.spill = &spillFlight{done: make(chan struct{})}
	s.use(o)
	s.spiller.count(o, o.size)
	s.spiller.writes = append(s.spiller.writes, o)
	s.signalSpiller()
	return o.spill
}

// spillNext does one thing that is to be done; false if there is none.
func (s *Store) spillNext(ctx context.Context) bool {
	s.lock()
	q := &s.spiller
	var o *object
	var key string
	q.cleaning = !q.cleaning && len(q.trash) > 0
	switch {
	case len(q.writes) > 0 && !q.cleaning:
		o = q.writes[0]
		q.writes = q.writes[1:]
		q.number++
		key = spill.Key(s.config.Node, s.config.Generation, o.id, q.number)
	case len(q.trash) > 0:
		key = q.trash[0]
		q.trash = q.trash[1:]
	default:
		s.unlock()
		return false
	}
	if len(q.writes)+len(q.trash) > 0 {
		s.signalSpiller()
	}
	deleted := o != nil && o.deleted
	s.unlock()
	if o == nil {
		if err := s.config.Spill.Delete(ctx, key); err != nil {
			// Close and the next sweep find it.
			s.lock()
			s.event("spill file not deleted", nil, engine.WrapError("delete spill file", key, err))
			s.unlock()
		}
		return true
	}
	var err error
	if deleted {
		err = engine.Errorf(engine.KindNotFound, "spill object", o.id.String(), "it was deleted")
	} else {
		// Close waits for a write that has begun: a request that is given up may still be stored, and after Close has looked for files.
		err = spill.Write(context.WithoutCancel(ctx), s.config.Spill, key, o.memory.data, s.trailer(o), false)
	}
	s.lock()
	s.spilled(o, key, err)
	s.unlock()
	return true
}

// trailer describes a sealed object whose memory is in use, and computes its checksum if need be. It is called without the mutex.
func (s *Store) trailer(o *object) spill.Trailer {
	return spill.Trailer{ID: o.id, SizeBytes: o.size, Rows: o.Rows, Batches: o.Batches, CRC32C: s.checksum(o)}
}

// checksum returns the checksum of a sealed object whose memory is in use. It is called without the mutex.
func (s *Store) checksum(o *object) uint32 {
	s.lock()
	crc, known := o.crc, o.checked
	s.unlock()
	if known {
		return crc
	}
	crc = spill.Checksum(o.memory.data)
	s.lock()
	defer s.unlock()
	o.crc, o.checked = crc, true
	return crc
}

// spilled notes how the spilling of an object ended.
func (s *Store) spilled(o *object, key string, err error) {
	flight := o.spill
	o.spill = nil
	flight.err = err
	close(flight.done)
	s.spiller.count(o, -o.size)
	s.roomChanged = true
	switch {
	case err == nil && !o.deleted:
		o.spilled, o.spillKey = spill.URI(s.config.Spill, key), key
		s.spills++
		s.spiller.failures, s.spiller.err, s.spiller.retryAt = 0, nil, time.Time{}
		// An object that somebody reads by now is no longer one that was not used for long.
		o.dropWhenFree = flight.asked || o.pins == 0
		s.changes.changed(o)
		s.event("object spilled", o, nil)
	default:
		// Even after an error there may be a file: the answer may have been lost.
		s.trash(key)
		if !o.deleted {
			s.spillFailed(o, err)
		}
	}
	s.done(o)
}

// spillFailed puts off what the store wanted to spill by itself.
func (s *Store) spillFailed(o *object, err error) {
	q := &s.spiller
	q.err = err
	q.retryAt = s.config.Now().Add(min(minSpillWait<<min(q.failures, 10), maxSpillWait))
	q.failures++
	s.wakeAt(q.retryAt)
	s.event("spilling failed", o, err)
	var asked []*object
	for _, waiting := range q.writes {
		if waiting.spill.asked {
			asked = append(asked, waiting)
			continue
		}
		waiting.spill.err = err
		close(waiting.spill.done)
		waiting.spill = nil
		q.count(waiting, -waiting.size)
		s.done(waiting)
	}
	q.writes = asked
}

// trash has a spill file deleted.
func (s *Store) trash(key string) {
	s.spiller.trash = append(s.spiller.trash, key)
	s.signalSpiller()
}

// discardSpillFile has the spill file of a deleted object deleted.
func (s *Store) discardSpillFile(o *object) {
	if o.spillKey != "" {
		s.trash(o.spillKey)
	}
}

// deleteSpillFiles deletes all that is left of this store, once nothing else is going on.
func (s *Store) deleteSpillFiles(ctx context.Context) error {
	if s.config.Spill == nil || s.spiller.number == 0 {
		return nil
	}
	_, _, err := spill.DeleteAll(ctx, s.config.Spill, s.config.Node, s.config.Generation)
	return engine.WrapError("delete spill files", s.config.Spill.URI(), err)
}

// abandonSpills ends what was not begun when the store was closed.
func (s *Store) abandonSpills() {
	for _, o := range s.spiller.writes {
		o.spill.err = errClosed("spill object", o.id.String())
		close(o.spill.done)
		o.spill = nil
		s.spiller.count(o, -o.size)
		s.done(o)
	}
	s.spiller.writes = nil
}

// Spill moves an object to its spill file and frees its memory, as the store does by itself above HighWater; it blocks until that
// is done. A pinned object keeps its memory until it is released. The errors' kinds: engine.KindNotFound;
// engine.KindInvalidArgument if the store has nowhere to spill to; those of the bucket.
func (s *Store) Spill(ctx context.Context, id engine.ObjectID) error {
	const op = "spill object"
	s.lock()
	o, err := s.find(op, id)
	switch {
	case err != nil:
	case o.memory.data == nil:
		s.unlock()
		return nil
	case s.config.Spill == nil:
		err = engine.Errorf(engine.KindInvalidArgument, op, id.String(), "this store has nowhere to spill to")
	case o.spilled != "":
		o.dropWhenFree = true
		s.settle(o)
		s.unlock()
		return nil
	}
	if err != nil {
		s.unlock()
		return err
	}
	flight := o.spill
	if flight == nil {
		flight = s.startSpill(o)
	}
	flight.asked = true
	s.unlock()
	select {
	case <-flight.done:
		return engine.WrapError(op, id.String(), flight.err)
	case <-ctx.Done():
		return engine.WrapError(op, id.String(), ctx.Err())
	}
}

// Checksum returns an object's checksum, the Castagnoli CRC-32 of its bytes, and computes it if it is not known, for which it blocks.
func (s *Store) Checksum(ctx context.Context, id engine.ObjectID) (uint32, error) {
	const op = "sum object"
	if err := ctx.Err(); err != nil {
		return 0, engine.WrapError(op, id.String(), err)
	}
	s.lock()
	o, err := s.find(op, id)
	if err != nil || o.checked {
		defer s.unlock()
		if err != nil {
			return 0, err
		}
		return o.crc, nil
	}
	// An object without a checksum was never spilled, and so has memory.
	s.use(o)
	s.unlock()
	crc := s.checksum(o)
	s.lock()
	defer s.unlock()
	if !o.deleted {
		s.changes.changed(o)
	}
	s.done(o)
	return crc, nil
}
