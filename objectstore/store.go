package objectstore

import (
	"context"
	"os"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Config is what a store is made of.
type Config struct {
	// CapacityBytes bounds the memory of arenas and inline objects. Zero means DefaultCapacityBytes.
	CapacityBytes int64
	// ArenaBytes is the size of an arena; an object that is larger gets an arena of its own. Zero means an eighth of the capacity,
	// between 64 MiB and 1 GiB.
	ArenaBytes int64
	// PrefaultBytes is how much memory is made ready ahead of use, once the store is used. Zero means 128 MiB, less than zero none.
	PrefaultBytes int64
	// HighWater is the share of the capacity above which objects are spilled in the background until LowWater. Zero means 0.8 and 0.7.
	HighWater, LowWater float64
	// CreateTimeout is how long a creation waits for room if its context has no deadline. Zero means 30 s.
	CreateTimeout time.Duration
	// Spill takes the objects that are spilled, under SpillPrefix. Nil means that nothing is spilled. The store does not close it.
	Spill blob.Bucket
	// Open opens the bucket or folder of a checkpoint. Nil means that there are no checkpoints.
	Open func(ctx context.Context, uri string) (bucket blob.Bucket, err error)
	// Node and Generation mark what the store leaves behind, so that a later one can tell whose it is. See Sweep.
	Node       engine.NodeID
	Generation string
	// Events hears of what happens in the background. It must not block, nor call the store. Nil means nobody does.
	Events func(Event)
	// Now replaces time.Now in tests.
	Now func() time.Time
}

// Event is something that happened in the background.
type Event struct {
	// What is a constant message, such as "object spilled".
	What string
	// Object is the object concerned, or zero.
	Object engine.ObjectID
	// SizeBytes is its size.
	SizeBytes int64
	// Err is why it failed, or nil.
	Err error
}

// Store keeps the objects of one node. It is safe for concurrent use.
type Store struct{}

// Open makes an empty store. Close frees it.
func Open(ctx context.Context, config Config) (*Store, error) { return nil, errStub }

var errStub = engine.Errorf(engine.KindInternal, "object store", "", "stub")

// Close frees the store's memory and deletes its spill files. Handles that are open stay readable until they are released.
func (s *Store) Close(ctx context.Context) error { return errStub }

// Creation says what is to be created.
type Creation struct {
	// ID must not exist in the store.
	ID engine.ObjectID
	// SizeBytes is the exact length.
	SizeBytes int64
	// Domain is the security domain. Empty means "default".
	Domain string
	// Owner is the first owner of a primary copy; a creation without one makes a cache.
	Owner engine.ObjectOwner
	// Writer names the process that will write into an arena of its own; empty is this process.
	Writer string
}

// Create reserves room for an object, and waits for it until ctx ends or CreateTimeout has passed. The errors' kinds:
// engine.KindConflict if the id exists, engine.KindInvalidArgument if the object can never fit (with both sizes),
// engine.KindExhausted at the deadline (with who uses how much).
func (s *Store) Create(ctx context.Context, creation Creation) (*Pending, error) { return nil, errStub }

// Pending is an object that is being written. Its owner ends it with Seal or Abort.
type Pending struct{}

// Bytes is the object's memory, to be written by this process. Nil for a writer in another one.
func (p *Pending) Bytes() []byte { return nil }

// Place is where another process finds the memory; ok is false for an inline object.
func (p *Pending) Place() (place Place, ok bool) { return Place{}, false }

// Seal makes the object immutable and visible.
func (p *Pending) Seal(description Description) (Info, error) { return Info{}, errStub }

// Abort gives the room back. It does nothing after Seal.
func (p *Pending) Abort() {}

// Place is a range of an arena.
type Place struct {
	// Arena numbers the arenas of a store, from 1.
	Arena uint64
	// ArenaBytes is the arena's length, OffsetBytes and SizeBytes the object's range in it.
	ArenaBytes, OffsetBytes, SizeBytes int64
}

// Descriptor returns an arena's memfd, which stays the store's: it is open as long as a handle or pending object of that arena is. A
// process that opens it read-only can map it.
func (s *Store) Descriptor(arena uint64) (*os.File, error) { return nil, errStub }

// SealArena says that the writer of an arena has mapped it: from now on nobody else can map it for writing. Descriptors of arenas with
// a writer in another process must not be passed to readers before.
func (s *Store) SealArena(arena uint64) error { return errStub }

// EndWriter says that a writer's process is gone: what it has not sealed is aborted, its arenas become the store's own.
func (s *Store) EndWriter(writer string) {}

// Get returns a handle of an object, restored from its spill file or checkpoint if need be. The handle pins the memory until it is
// released. The errors' kinds: engine.KindNotFound; engine.KindCorrupt if the spill file is damaged; engine.KindExhausted if there
// was no room to restore it.
func (s *Store) Get(ctx context.Context, id engine.ObjectID) (*Handle, error) { return nil, errStub }

// Wait returns when count of the objects are sealed in this store, or ctx ends. It returns those that are, in order.
func (s *Store) Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	return nil, errStub
}

// Handle is an object that is read. Its memory stays as it is until Release.
type Handle struct{}

// Bytes is the object, read-only.
func (h *Handle) Bytes() []byte { return nil }

// Place is where another process finds the memory; ok is false for an inline object.
func (h *Handle) Place() (place Place, ok bool) { return Place{}, false }

// Info is what was known of the object when it was got.
func (h *Handle) Info() Info { return Info{} }

// Release ends the handle. Calling it again does nothing. It does not block.
func (h *Handle) Release() {}

// Own adds and removes owners of an object. A primary copy that has none left is deleted.
func (s *Store) Own(id engine.ObjectID, add, remove []engine.ObjectOwner) error { return errStub }

// EndOwner ends all references of an owner.
func (s *Store) EndOwner(owner engine.ObjectOwner) {}

// Promote makes a cache the primary copy.
func (s *Store) Promote(id engine.ObjectID, owners []engine.ObjectOwner) (Info, error) { return Info{}, errStub }

// Delete forgets objects, whoever owns them. Those that are pinned cannot be got any more, and their memory goes with the last handle.
func (s *Store) Delete(ids ...engine.ObjectID) {}

// Info returns what is known of an object.
func (s *Store) Info(id engine.ObjectID) (Info, bool) { return Info{}, false }

// List returns all objects in order of their ids.
func (s *Store) List() []Info { return nil }

// Usage returns what the store holds.
func (s *Store) Usage() Usage { return Usage{} }

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

// Changes returns the objects that changed and those that are gone since the given cursor, and the next cursor. A cursor of zero
// gives everything. The channel is closed when there is more.
func (s *Store) Changes(cursor uint64) (changed []Info, gone []engine.ObjectID, next uint64, more <-chan struct{}) {
	return nil, nil, 0, nil
}
