// Package shm has the memory of the object store: arenas, which are memfds of a fixed size, and what is needed to map them in other
// processes so that the kernel guarantees what the store promises: no arena shrinks under a reader's feet, and nobody but its
// writer can write to it.
//
// On systems other than Linux an arena is memory of this process alone.
package shm

import (
	"github.com/f708428e/engine"
)

// chunkBytes is how much memory is made ready at once. Others who need ready memory of the same arena wait at most for one chunk.
const chunkBytes = 16 << 20

// errorf is an error of this package.
func errorf(kind engine.Kind, id, format string, args ...any) error {
	return engine.Errorf(kind, "shared memory", id, format, args...)
}

// Access is what a mapping is for; it decides which seals its descriptor must have.
type Access int

// The sorts of access.
const (
	// Read is of an arena that somebody else writes. It must be sealed against a change of its size and against new writers.
	Read Access = iota
	// Write is of an arena by its one writer, before the store seals it against others. It must be sealed against a change of its size.
	Write
	// ReadForeign is of a memfd that a client filled. It must be sealed against shrinking; its content may change at any time.
	ReadForeign
)
