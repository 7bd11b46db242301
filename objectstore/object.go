package objectstore

import (
	"time"

	"github.com/f708428e/engine"
)

// memory is where an object's bytes are. The zero memory is nowhere.
type memory struct {
	data []byte
	// block is nil for an inline object.
	block *block
}

// object is what the store keeps of one object, from its creation until it is deleted and the last handle is released. The
// store's mutex guards it, but for what is constant.
//
//	created ──Seal──> sealed ──Delete──> deleted ──last unpin──> gone
//	   └───Abort────────────────────────────────────────────────^
//
// A sealed object has memory, or a spill file, or both.
type object struct {
	// Constant.
	id     engine.ObjectID
	size   int64
	domain string
	inline bool

	Description
	sealed, deleted bool
	primary         bool
	// owners is sorted and never changed in place, since it is handed out.
	owners            []engine.ObjectOwner
	created, accessed time.Time
	crc               uint32
	checked           bool
	// spilled and checkpoint are URIs; spillKey is the spill file's key.
	spilled, spillKey, checkpoint string

	memory memory
	// pins count handles and a pending write; uses count what the store does itself with the memory, such as spilling.
	pins, uses int
	// spill and restore are set while that is going on.
	spill   *spillFlight
	restore *restoreFlight
	// dropWhenFree asks to free the memory once nobody uses it; the object has a spill file.
	dropWhenFree bool

	// lru says which list of unused objects it is in, if any.
	lru      *list
	lruLinks links
	// change numbers the last change that is to be reported; zero before the object is sealed.
	change      uint64
	changeLinks links
	// stale is set while a change of pins waits for being reported.
	stale bool
	// expires is the earliest end of an owner, or zero; expiry is the place in the heap of those, from 1.
	expires time.Time
	expiry  int
}

// info is a snapshot of the object.
func (o *object) info() Info {
	info := Info{
		ID: o.id, Description: o.Description, SizeBytes: o.size, State: engine.ObjectInMemory, Primary: o.primary, Domain: o.domain,
		Owners: o.owners, Pins: o.pins, Created: o.created, Accessed: o.accessed, CRC32C: o.crc, Checked: o.checked,
		Spilled: o.spilled, Checkpoint: o.checkpoint, Inline: o.inline,
	}
	switch {
	case !o.sealed:
		info.State = engine.ObjectPending
	case o.memory.data == nil:
		info.State = engine.ObjectSpilled
	}
	return info
}

// droppable reports whether the memory can be freed without losing the object's last copy that is owed to somebody.
func (o *object) droppable() bool { return !o.primary || o.spilled != "" }
