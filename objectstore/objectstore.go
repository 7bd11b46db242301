// Package objectstore keeps immutable Arrow tables in shared memory: the store of one node, which its worker daemon owns. An
// object is the bytes of an Arrow IPC stream (package table writes and reads them). It is created with its exact size, written
// once, sealed, and from then on read without a copy by every process that may, until nobody owns it.
//
// The children are its parts and its ends: shm has the memory, table the format, spill the files that objects are moved to, local
// the socket by which processes of the same machine reach a store, transfer the Arrow Flight service between machines.
//
// Objects live in arenas, each a memfd that is sized once and mapped read-only by everybody but its writer. An object of up to
// engine.MaxInlineObjectBytes is kept outside of the arenas instead and travels inside of messages.
package objectstore

import (
	"time"

	"github.com/f708428e/engine"
)

// DefaultDomain is the security domain of who names none, and of what jobs put out.
const DefaultDomain = "default"

// maxDomainBytes bounds the name of a domain.
const maxDomainBytes = 255

// Description is what the writer of an object knows of its content.
type Description struct {
	// Rows and Batches count over the whole object.
	Rows, Batches int64
}

// Info describes an object in one store.
type Info struct {
	ID engine.ObjectID
	Description
	// SizeBytes is the length of the object's IPC stream.
	SizeBytes int64
	State     engine.ObjectState
	// Primary says that this copy carries the owners and is never dropped while there are any. Another copy is a cache of one that
	// is elsewhere, which goes first when memory is needed.
	Primary bool
	// Domain is the security domain whose arenas the object is in: a queue or a user.
	Domain string
	// Owners keep a primary copy alive, sorted by kind and id.
	Owners []engine.ObjectOwner
	// Pins counts the handles that are open: readers that map the object now.
	Pins int
	// Created and Accessed are when the object was sealed here and last read.
	Created, Accessed time.Time
	// CRC32C is the Castagnoli checksum of the object's bytes if Checked; it is computed when it is first needed.
	CRC32C  uint32
	Checked bool
	// Spilled is the URI of the spill file that holds the bytes, Checkpoint that of the checkpoint. Empty if there is none.
	Spilled, Checkpoint string
	// Inline says that the object is small and kept outside of the arenas.
	Inline bool
}

// Usage is what a store holds.
type Usage struct {
	// CapacityBytes bounds the memory of all arenas and inline objects together.
	CapacityBytes int64
	// ArenaBytes is the size of the arenas that exist; ObjectBytes of the objects in memory, pending ones included; PinnedBytes of
	// those among them that are read now or being written.
	ArenaBytes, ObjectBytes, PinnedBytes int64
	// SpilledBytes is the size of objects that are in spill files alone.
	SpilledBytes int64
	// Objects counts all objects, Waiting the creations that wait for room, and WaitingBytes what they want.
	Objects, Waiting int
	WaitingBytes     int64
	// Spills, Restores, and Evictions count since the store was opened.
	Spills, Restores, Evictions int64
}
