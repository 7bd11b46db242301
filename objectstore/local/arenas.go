package local

import (
	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/shm"
)

// arenas are the mappings of a client. Its mutex guards them.
type arenas struct {
	mapped map[arenaKey]*arena
}

// arenaKey names a mapping: an executor that reads an arena of its own maps it again, so that what it reads cannot be written by mistake.
type arenaKey struct {
	number   uint64
	writable bool
}

type arena struct {
	mapping *shm.Mapping
	// users counts the tables and writes that need the mapping.
	users int
	// retired says that the store has given the arena back, so that the mapping goes with its last user.
	retired bool
}

// refer adds a user of the arena that a place is in.
func (a *arenas) refer(p *place) (*arena, error) {
	found := a.mapped[arenaKey{p.Arena, p.writable}]
	if found == nil {
		return nil, engine.Errorf(engine.KindInternal, opUse, "", "the store names arena %d and has not sent its descriptor", p.Arena)
	}
	length := int64(len(found.mapping.Bytes()))
	if p.OffsetBytes < 0 || p.SizeBytes <= 0 || p.SizeBytes > length || p.OffsetBytes > length-p.SizeBytes {
		return nil, engine.Errorf(engine.KindInternal, opUse, "", "%d bytes at %d are not in arena %d, which has %d", p.SizeBytes, p.OffsetBytes, p.Arena, length)
	}
	found.users++
	return found, nil
}

// unrefer removes a user, and returns the arena if its mapping is not needed any more.
func (a *arenas) unrefer(used *arena) (unused []*arena) {
	if used.users--; used.users == 0 && used.retired {
		return []*arena{used}
	}
	return nil
}

// retire forgets an arena, and returns the mappings that are not needed any more.
func (a *arenas) retire(number uint64) (unused []*arena) {
	for _, key := range []arenaKey{{number, false}, {number, true}} {
		found := a.mapped[key]
		if found == nil {
			continue
		}
		delete(a.mapped, key)
		found.retired = true
		if found.users == 0 {
			unused = append(unused, found)
		}
	}
	return unused
}

// retireAll forgets all arenas, as retire does.
func (a *arenas) retireAll() (unused []*arena) {
	for key := range a.mapped {
		unused = append(unused, a.retire(key.number)...)
	}
	return unused
}

// unmap ends mappings. It is called without the lock, since it takes the kernel a while for a large arena.
func unmap(unused []*arena) {
	for _, arena := range unused {
		_ = arena.mapping.Close()
	}
}

// bytes is the memory at a place in the arena.
func (a *arena) bytes(p *place) []byte {
	end := p.OffsetBytes + p.SizeBytes
	return a.mapping.Bytes()[p.OffsetBytes:end:end]
}
