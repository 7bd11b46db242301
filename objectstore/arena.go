package objectstore

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/shm"
)

// idleArena is how long an empty arena is kept; one is kept for ever, so that the next object finds warm memory.
const idleArena = time.Minute

// block is a range of an arena that belongs to an object.
type block struct {
	arena        *arena
	offset, size int64
	object       *object
}

// arena is a memfd and who has which part of it. The store's mutex guards it, but for what is constant and its memory.
type arena struct {
	// Constant.
	number uint64
	size   int64
	domain string
	// sealed says that this process is the writer from the beginning.
	sealed bool
	// replaces are closed before this arena's memory is made, so that the store never has more than its capacity.
	replaces []*arena

	// writer is the process that writes; empty is this one.
	writer  string
	extents *shm.Extents
	// blocks is sorted by offset.
	blocks []*block
	// used is where the memory that was ever used ends.
	used int64
	// ahead is what used was when memory was last made ready ahead of it.
	ahead int64
	// emptied is when the last block was given back.
	emptied time.Time
	// broken says that its memory could not be made.
	broken bool

	// openMu is held while memory is made or freed, never together with the store's mutex.
	openMu sync.Mutex
	memory atomic.Pointer[shm.Arena]
	err    error
}

// newArena takes an arena out of the capacity.
func (s *Store) newArena(size int64, domain, writer string, replaces []*arena) *arena {
	s.nextArena++
	a := &arena{number: s.nextArena, size: size, domain: domain, writer: writer, sealed: writer == "", replaces: replaces, extents: shm.NewExtents(size)}
	s.arenas = append(s.arenas, a)
	s.arenaBytes += size
	return a
}

// open returns the arena's memory, which it makes when it is called first. An arena that this process writes is sealed at once.
func (a *arena) open() (*shm.Arena, error) {
	a.openMu.Lock()
	defer a.openMu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	if memory := a.memory.Load(); memory != nil {
		return memory, nil
	}
	for _, old := range a.replaces {
		old.close()
	}
	a.replaces = nil
	memory, err := shm.NewArena(fmt.Sprintf("engine-objects-%d", a.number), a.size)
	if err == nil && a.sealed {
		if err = memory.Seal(); err != nil {
			err = errors.Join(err, memory.Close())
		}
	}
	if err != nil {
		a.err = err
		return nil, err
	}
	a.memory.Store(memory)
	return memory, nil
}

// close frees the arena's memory. No block of it may be in use.
func (a *arena) close() {
	a.openMu.Lock()
	defer a.openMu.Unlock()
	for _, old := range a.replaces {
		old.close()
	}
	a.replaces = nil
	if memory := a.memory.Swap(nil); memory != nil {
		// Unmapping memory that is mapped cannot fail.
		_ = memory.Close()
	}
	a.err = errArenaClosed
}

var errArenaClosed = engine.Errorf(engine.KindNotFound, "open arena", "", "the arena has been retired")

// add takes a block for an object; ok is false if there is no room outside of avoid.
func (a *arena) add(o *object, avoid shm.Range) (b *block, ok bool) {
	offset, ok := a.extents.Alloc(o.size, avoid)
	if !ok {
		return nil, false
	}
	b = &block{arena: a, offset: offset, size: o.size, object: o}
	a.blocks = slices.Insert(a.blocks, a.search(offset), b)
	a.used = max(a.used, offset+shm.AlignUp(o.size))
	return b, true
}

// search returns the place of the first block at or behind an offset.
func (a *arena) search(offset int64) int {
	return sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].offset >= offset })
}

// remove gives a block back.
func (a *arena) remove(b *block, now time.Time) {
	i := a.search(b.offset)
	a.blocks = slices.Delete(a.blocks, i, i+1)
	a.extents.Free(b.offset, b.size)
	if a.empty() {
		a.emptied = now
	}
}

func (a *arena) empty() bool { return len(a.blocks) == 0 }

// prepare makes a block's memory ready. It blocks.
func (b *block) prepare() ([]byte, error) {
	memory, err := b.arena.open()
	if err != nil {
		return nil, err
	}
	if err := memory.MakeReady(b.offset + b.size); err != nil {
		return nil, err
	}
	return memory.Bytes()[b.offset : b.offset+b.size : b.offset+b.size], nil
}

// place is where other processes find the block.
func (b *block) place() Place {
	return Place{Arena: b.arena.number, ArenaBytes: b.arena.size, OffsetBytes: b.offset, SizeBytes: b.size}
}

// Place is a range of an arena.
type Place struct {
	// Arena numbers the arenas of a store, from 1.
	Arena uint64
	// ArenaBytes is the arena's length, OffsetBytes and SizeBytes the object's range in it.
	ArenaBytes, OffsetBytes, SizeBytes int64
}

// arenaOf returns an arena by its number.
func (s *Store) arenaOf(op string, number uint64) (*arena, error) {
	s.lock()
	defer s.unlock()
	i := slices.IndexFunc(s.arenas, func(a *arena) bool { return a.number == number })
	if i < 0 {
		return nil, engine.Errorf(engine.KindNotFound, op, fmt.Sprint(number), "this store has no such arena")
	}
	return s.arenas[i], nil
}

// Descriptor returns an arena's memfd, which stays the store's: it is open as long as a handle or pending object of that arena is. A
// process that opens it read-only can map it (shm.ReadOnly and shm.Map).
func (s *Store) Descriptor(arena uint64) (*os.File, error) {
	a, err := s.arenaOf("pass arena", arena)
	if err != nil {
		return nil, err
	}
	memory, err := a.open()
	if err != nil {
		return nil, err
	}
	if memory.File() == nil {
		return nil, engine.Errorf(engine.KindUnavailable, "pass arena", fmt.Sprint(arena), "sharing memory between processes needs Linux")
	}
	return memory.File(), nil
}

// SealArena says that the writer of an arena has mapped it: from now on nobody else can map it for writing. Descriptors of arenas with
// a writer in another process must not be passed to readers before. Sealing again does nothing.
func (s *Store) SealArena(arena uint64) error {
	a, err := s.arenaOf("seal arena", arena)
	if err != nil {
		return err
	}
	memory, err := a.open()
	if err != nil {
		return err
	}
	return memory.Seal()
}

// EndWriter says that a writer's process is gone: what it has not sealed is aborted, its arenas become the store's own.
func (s *Store) EndWriter(writer string) {
	if writer == "" {
		return
	}
	s.lock()
	defer s.unlock()
	for p := range s.writers[writer] {
		s.abort(p)
	}
	for _, a := range s.arenas {
		if a.writer != writer {
			continue
		}
		a.writer = ""
		s.after = append(s.after, func() {
			if memory, err := a.open(); err == nil {
				// It can only fail for an arena that is closed, which nobody can map any more.
				_ = memory.Seal()
			}
		})
	}
	s.roomChanged = true
}

// retireEmpty gives back the arenas that have been empty for a while, but keeps the first keep of them.
func (s *Store) retireEmpty(keep int) {
	now := s.config.Now()
	s.arenas = slices.DeleteFunc(s.arenas, func(a *arena) bool {
		if !a.empty() {
			return false
		}
		if !s.closed && !a.broken && now.Before(a.emptied.Add(idleArena)) {
			return false
		}
		if keep > 0 && !a.broken {
			keep--
			return false
		}
		s.arenaBytes -= a.size
		s.after = append(s.after, a.close)
		s.retired(a)
		return true
	})
}

// OnRetire calls retired with the number of each arena that is given back to the system, from now on until stop is called. retired must
// not block, nor call the store.
func (s *Store) OnRetire(retired func(arena uint64)) (stop func()) {
	s.lock()
	defer s.unlock()
	listener := &retired
	s.onRetire = append(s.onRetire, listener)
	return func() {
		s.lock()
		defer s.unlock()
		s.onRetire = slices.DeleteFunc(slices.Clone(s.onRetire), func(l *func(uint64)) bool { return l == listener })
	}
}

// retired tells that an arena has left the store.
func (s *Store) retired(a *arena) {
	for _, listener := range s.onRetire {
		s.after = append(s.after, func() { (*listener)(a.number) })
	}
}
