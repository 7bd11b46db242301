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
	// CapacityBytes bounds the memory of arenas and inline objects. It must be set; see DefaultCapacityBytes.
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
	// Spill takes the objects that are spilled, see spill.Key. Nil means that nothing is spilled. The store does
	// not close it.
	Spill blob.Bucket
	// Open opens the bucket or folder of a checkpoint; the store closes it. Nil means that there are no checkpoints.
	Open func(ctx context.Context, uri string) (bucket blob.Bucket, err error)
	// Rescue fills dst with an object from another copy of it, of that length and checksum, once its spill file and its checkpoint have
	// turned out damaged or gone. The store checks what dst has then. It may block until ctx ends, and must not use dst when it has
	// returned. Nil means that there are no other copies.
	Rescue func(ctx context.Context, id engine.ObjectID, sizeBytes int64, crc32c uint32, dst []byte) error
	// Node and Generation mark what the store leaves behind, so that a later one can tell whose it is: see spill.Claim. They are
	// needed if Spill is set.
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

// defaults of Config.
const (
	defaultPrefaultBytes = 128 << 20
	defaultHighWater     = 0.8
	defaultLowWater      = 0.7
	defaultCreateTimeout = 30 * time.Second
	minArenaBytes        = 64 << 20
	maxArenaBytes        = 1 << 30
)

// DefaultCapacityBytes is the capacity of a store on a machine, or in a cgroup, with that much memory: 30%.
func DefaultCapacityBytes(memoryBytes int64) int64 { return memoryBytes / 10 * 3 }

// complete fills in the defaults and checks the rest.
func (c Config) complete() (Config, error) {
	invalid := func(format string, args ...any) (Config, error) {
		return c, engine.Errorf(engine.KindInvalidArgument, "open object store", "", format, args...)
	}
	page := int64(os.Getpagesize())
	if c.CapacityBytes < page {
		return invalid("a capacity of %d bytes is less than a page of %d", c.CapacityBytes, page)
	}
	// An arena is whole pages, and an object as large as the store must fit into one.
	c.CapacityBytes = c.CapacityBytes / page * page
	if c.ArenaBytes == 0 {
		c.ArenaBytes = min(max(c.CapacityBytes/8, minArenaBytes), maxArenaBytes)
	}
	if c.ArenaBytes < 0 {
		return invalid("arenas of %d bytes", c.ArenaBytes)
	}
	c.ArenaBytes = min(max(c.ArenaBytes/page*page, page), c.CapacityBytes)
	if c.PrefaultBytes == 0 {
		c.PrefaultBytes = defaultPrefaultBytes
	}
	if c.HighWater == 0 {
		c.HighWater = defaultHighWater
	}
	if c.LowWater == 0 {
		c.LowWater = min(defaultLowWater, c.HighWater)
	}
	if !(0 < c.LowWater && c.LowWater <= c.HighWater && c.HighWater <= 1) {
		return invalid("low water %g and high water %g are not between 0 and 1 in this order", c.LowWater, c.HighWater)
	}
	if c.CreateTimeout == 0 {
		c.CreateTimeout = defaultCreateTimeout
	}
	if c.Spill != nil && (c.Node == "" || c.Generation == "") {
		return invalid("spilling needs a node and a generation that mark the files")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
