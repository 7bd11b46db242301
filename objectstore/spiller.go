package objectstore

import (
	"context"
	"time"

	"github.com/f708428e/engine"
)

type spillFlight struct{}
type restoreFlight struct{}
type spiller struct {
	retryAt time.Time
	err     error
}

func (s *Store) startSpiller()                              {}
func (s *Store) spillSoon(o *object)                        {}
func (s *Store) checkWater()                                {}
func (s *Store) discardSpillFile(o *object)                 {}
func (s *Store) deleteSpillFiles(ctx context.Context) error { return nil }
func (s *Store) getRestored(ctx context.Context, o *object) (*Handle, error) {
	s.unlock()
	return nil, errStub
}

var errStub = engine.Errorf(engine.KindInternal, "object store", "", "stub")

// Checksum computes an object's checksum if it is not known.
func (s *Store) Checksum(ctx context.Context, id engine.ObjectID) (uint32, error) { return 0, errStub }

// Spill moves an object to its spill file and frees its memory, as the store does by itself above HighWater. A pinned object keeps its
// memory until it is released.
func (s *Store) Spill(ctx context.Context, id engine.ObjectID) error { return errStub }

// Checkpoint writes an object as <id>.arrows into a folder, which may be s3://bucket/prefix, and returns its URI when it is durable and
// verified. An equal checkpoint that is there already is adopted.
func (s *Store) Checkpoint(ctx context.Context, id engine.ObjectID, folder string) (uri string, err error) {
	return "", errStub
}

// Restore makes an object of a checkpoint, under the id that it says. If the store has the object, the owners are added to it. Without
// owners it is a cache.
func (s *Store) Restore(ctx context.Context, uri string, domain string, owners []engine.ObjectOwner) (Info, error) {
	return Info{}, errStub
}
