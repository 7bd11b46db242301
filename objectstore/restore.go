package objectstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore/spill"
)

const (
	// restoreTries is how often a spill file is read before its object counts as not readable, and restoreWait how long the first
	// wait between is; it doubles.
	restoreTries = 3
	restoreWait  = 20 * time.Millisecond
	// restoreReaders is how many spill files are read at a time.
	restoreReaders = 4
)

// restoreFlight is an object that comes back. The store's mutex guards it, but for the channel.
type restoreFlight struct {
	// waiters counts the callers that will have a pin each.
	waiters int
	// room is set while it waits for memory.
	room *waiter
	// cancel ends it when nobody waits any more.
	cancel context.CancelFunc
	done   chan struct{}
	over   bool
	err    error
}

// getRestored returns a handle of an object that has no memory. It is called with the mutex held, and gives it up.
func (s *Store) getRestored(ctx context.Context, o *object) (*Handle, error) {
	defer s.unlock()
	flight := o.restore
	if flight == nil {
		if flight = s.startRestore(ctx, o); flight == nil {
			return nil, errClosed("get object", o.id.String())
		}
	}
	flight.waiters++
	s.unlock()
	select {
	case <-flight.done:
	case <-ctx.Done():
	}
	s.lock()
	switch {
	case flight.over && flight.err != nil:
		return nil, flight.err
	case flight.over:
		return s.handle(o), nil
	}
	err := engine.WrapError("get object", o.id.String(), ctx.Err())
	if flight.room != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = s.errFull(flight.room)
	}
	if flight.waiters--; flight.waiters == 0 {
		// Nobody wants it any more. Who comes later begins anew.
		flight.cancel()
		o.restore = nil
	}
	return nil, err
}

// startRestore begins to bring an object back; nil if the store is closed.
func (s *Store) startRestore(ctx context.Context, o *object) *restoreFlight {
	// It is for all who will wait for it, and so does not end with the first of them.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	flight := &restoreFlight{cancel: cancel, done: make(chan struct{})}
	if !s.group.Go("restore", func(closing context.Context) error {
		defer cancel()
		defer context.AfterFunc(closing, cancel)()
		s.restoreObject(ctx, o, flight)
		return nil
	}) {
		cancel()
		return nil
	}
	o.restore = flight
	return flight
}

// restoreObject brings an object back.
func (s *Store) restoreObject(ctx context.Context, o *object, flight *restoreFlight) {
	w := &waiter{object: o, restore: true, op: "get object"}
	if o.inline {
		w.inline = make([]byte, o.size)
	}
	s.lock()
	defer s.unlock()
	flight.room = w
	m, err := s.reserve(ctx, w)
	flight.room = nil
	if err == nil {
		s.unlock()
		var bad string
		bad, err = s.bringBack(ctx, o, m.data)
		s.lock()
		if err == nil && o.deleted {
			err = engine.Errorf(engine.KindNotFound, "get object", o.id.String(), "it was deleted while it was read back")
		}
		// A flight that nobody waited for may have been overtaken by another.
		if err != nil || o.memory.data != nil {
			s.giveBack(o.size, m)
		} else {
			s.restored(o, m, bad)
		}
	}
	flight.over, flight.err = true, err
	if o.restore == flight {
		o.restore = nil
	}
	if err == nil && flight.waiters > 0 {
		// The pins are given here: an object that waits for its readers to come could be gone again.
		s.unlist(o)
		if o.pins+o.uses == 0 {
			s.pinned += o.size
		}
		o.pins += flight.waiters
	}
	if err != nil && flight.waiters > 0 && !s.closed {
		s.event("restoring failed", o, err)
	}
	close(flight.done)
	s.settle(o)
	s.checkWater()
}

// restored gives an object its memory again. A spill file that turned out bad is thrown away.
func (s *Store) restored(o *object, m memory, bad string) {
	o.memory = m
	if bad != "" && o.spillKey == bad {
		s.trash(bad)
		o.spilled, o.spillKey = "", ""
	}
	o.accessed = s.config.Now()
	s.spilledOnly -= o.size
	s.restores++
	s.event("object restored", o, nil)
	s.changes.changed(o)
}

// bringBack reads an object's bytes back or, if nothing of it is left here that is whole, has them rescued from another copy. bad is
// the key of the spill file then.
func (s *Store) bringBack(ctx context.Context, o *object, dst []byte) (bad string, err error) {
	s.lock()
	key, checkpoint := o.spillKey, o.checkpoint
	s.unlock()
	trailer := s.trailer(o)
	err = s.readBack(ctx, key, checkpoint, dst, trailer)
	if kind := engine.KindOf(err); err == nil || s.config.Rescue == nil || kind != engine.KindCorrupt && kind != engine.KindNotFound {
		return "", err
	}
	rescueErr := s.config.Rescue(ctx, o.id, o.size, trailer.CRC32C, dst)
	if sum := spill.Checksum(dst); rescueErr == nil && sum != trailer.CRC32C {
		rescueErr = engine.Errorf(engine.KindCorrupt, "check copy", o.id.String(), "its checksum is %08x, expected %08x", sum, trailer.CRC32C)
	}
	if rescueErr != nil {
		return "", engine.Errorf(engine.KindOf(err), "get object", o.id.String(), "%w; no other copy could be had: %w", err, rescueErr)
	}
	s.lock()
	defer s.unlock()
	s.event("object rescued from another copy", o, err)
	return key, nil
}

// readBack reads an object's bytes from its spill file or, if that fails, from its checkpoint. The error's kind is the spill file's.
func (s *Store) readBack(ctx context.Context, key, checkpoint string, dst []byte, trailer spill.Trailer) error {
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	case <-ctx.Done():
		return errClosed("get object", trailer.ID.String())
	}
	err := tryAgain(ctx, func() error { return spill.Read(ctx, s.config.Spill, key, dst, trailer) })
	if err == nil || checkpoint == "" {
		return err
	}
	checkpointErr := s.withFile(ctx, checkpoint, func(bucket blob.Bucket, key string) error {
		return tryAgain(ctx, func() error { return spill.Read(ctx, bucket, key, dst, trailer) })
	})
	if checkpointErr == nil {
		return nil
	}
	return errors.Join(err, checkpointErr)
}

// tryAgain calls f until it succeeds, restoreTries times at most, unless it fails in a way that will not change. What is corrupt
// may have been damaged on its way.
func tryAgain(ctx context.Context, f func() error) error {
	wait := restoreWait
	for try := 1; ; try++ {
		err := f()
		kind := engine.KindOf(err)
		if err == nil || try == restoreTries || !kind.Retryable() && kind != engine.KindCorrupt {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		wait *= 2
	}
}

// withFile opens the folder of a checkpoint and calls f with it and the file's key.
func (s *Store) withFile(ctx context.Context, uri string, f func(bucket blob.Bucket, key string) error) error {
	slash := strings.LastIndexByte(uri, '/')
	if slash < 0 || slash == len(uri)-1 {
		return engine.Errorf(engine.KindInvalidArgument, "open checkpoint", uri, "this is not the address of a file")
	}
	return s.withFolder(ctx, uri[:slash], func(bucket blob.Bucket) error { return f(bucket, uri[slash+1:]) })
}

// withFolder opens a folder of checkpoints and calls f with it.
func (s *Store) withFolder(ctx context.Context, uri string, f func(bucket blob.Bucket) error) error {
	if s.config.Open == nil {
		return engine.Errorf(engine.KindInvalidArgument, "open checkpoints", uri, "this store has no checkpoints")
	}
	bucket, err := s.config.Open(ctx, uri)
	if err != nil {
		return engine.WrapError("open checkpoints", uri, err)
	}
	err = f(bucket)
	if closeErr := bucket.Close(); err == nil {
		err = closeErr
	}
	return err
}
