package objectstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
)

// Store keeps the objects of one node. It is safe for concurrent use. Unless a method says otherwise it does not block for longer
// than a lock is held, under which nothing is read, written, or mapped.
type Store struct {
	// Constant.
	config Config
	group  *lifecycle.Group
	// wakeClock and wakeSpiller are signals with room for one.
	wakeClock, wakeSpiller chan struct{}
	prefault               chan *arena
	// readers has room for restoreReaders.
	readers chan struct{}

	mu      sync.Mutex
	closed  bool
	objects map[engine.ObjectID]*object
	owners  owners
	changes changes
	waits   map[engine.ObjectID][]*sealWait
	// writers are the pending objects of other processes.
	writers map[string]map[*Pending]struct{}

	arenas   []*arena
	onRetire []*func(arena uint64)
	// nextArena numbers the next arena.
	nextArena uint64
	// arenaBytes and inlineBytes together never exceed the capacity. inMemory is the size of all objects that have memory, pending
	// and deleted ones included, and pinned of those that are in use; spilledOnly of those that have none.
	arenaBytes, inlineBytes, inMemory, pinned, spilledOnly int64

	// caches, clean, and dirty are the unused objects that have memory, in order of their last use: caches are dropped first, the
	// memory of clean ones can be freed at once, since they are spilled, and dirty ones have to be spilled before.
	caches, clean, dirty list
	queue                queue
	spiller              spiller
	// stale are the objects whose pins changed since they were last reported, the first at staleSince.
	stale      []*object
	staleSince time.Time

	spills, restores, evictions int64
	// deadline is when the clock has to look next; zero is never.
	deadline time.Time
	// roomChanged asks for a look at the queue before the lock is given up, and after has what is done once it is.
	roomChanged bool
	after       []func()
}

// Open makes an empty store. Close frees it; the end of ctx does not.
func Open(ctx context.Context, config Config) (*Store, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	byUse := func(o *object) *links { return &o.lruLinks }
	s := &Store{
		config: config, group: lifecycle.NewGroup(context.WithoutCancel(ctx), "object store"),
		wakeClock: make(chan struct{}, 1), wakeSpiller: make(chan struct{}, 1), prefault: make(chan *arena, 1),
		readers: make(chan struct{}, restoreReaders),
		objects: map[engine.ObjectID]*object{}, owners: owners{held: map[ownerKey]map[*object]struct{}{}}, changes: newChanges(),
		waits: map[engine.ObjectID][]*sealWait{}, writers: map[string]map[*Pending]struct{}{},
		caches: list{links: byUse}, clean: list{links: byUse}, dirty: list{links: byUse},
	}
	s.group.Go("clock", s.runClock)
	s.group.Go("prefault", s.runPrefault)
	s.startSpiller()
	return s, nil
}

// Close ends what is going on, frees the store's memory, and deletes its spill files; it blocks for that until ctx ends. Handles
// that are open stay readable until they are released. Later calls of other methods find no object and make none.
func (s *Store) Close(ctx context.Context) error {
	s.lock()
	if s.closed {
		s.unlock()
		return nil
	}
	s.closed = true
	s.failQueue(errClosed("create object", ""))
	for _, o := range s.sorted() {
		if o.sealed {
			s.delete(o)
		} else {
			delete(s.objects, o.id)
		}
	}
	s.unlock()
	err := s.group.Stop(ctx)
	s.lock()
	s.abandonSpills()
	s.unlock()
	err = errors.Join(err, s.deleteSpillFiles(ctx))
	s.lock()
	s.retireEmpty(0)
	s.unlock()
	return err
}

func errClosed(op, id string) error {
	return engine.Errorf(engine.KindUnavailable, op, id, "the object store is closed")
}

// lock takes the mutex and ends the references whose time has come.
func (s *Store) lock() {
	s.mu.Lock()
	if len(s.owners.expiries) > 0 {
		s.expire(s.config.Now())
	}
}

// unlock gives the mutex back when those who wait have got the room that there is, and does what must not be done under it.
func (s *Store) unlock() {
	for s.roomChanged {
		s.roomChanged = false
		s.pump()
	}
	if len(s.owners.expiries) > 0 {
		s.wakeAt(s.owners.expiries[0].expires)
	}
	after := s.after
	s.after = nil
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// event reports what happened, after the lock is given up.
func (s *Store) event(what string, o *object, err error) {
	if s.config.Events == nil {
		return
	}
	e := Event{What: what, Err: err}
	if o != nil {
		e.Object, e.SizeBytes = o.id, o.size
	}
	s.after = append(s.after, func() { s.config.Events(e) })
}

// find returns a sealed object.
func (s *Store) find(op string, id engine.ObjectID) (*object, error) {
	o := s.objects[id]
	if o == nil || !o.sealed {
		if s.closed {
			return nil, errClosed(op, id.String())
		}
		return nil, engine.Errorf(engine.KindNotFound, op, id.String(), "this store has no such object")
	}
	return o, nil
}

// sorted returns all objects, pending ones included, in order of their ids.
func (s *Store) sorted() []*object {
	all := make([]*object, 0, len(s.objects))
	for _, o := range s.objects {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *object) int { return slices.Compare(a.id[:], b.id[:]) })
	return all
}

// Info returns what is known of a sealed object.
func (s *Store) Info(id engine.ObjectID) (Info, bool) {
	s.lock()
	defer s.unlock()
	o, err := s.find("", id)
	if err != nil {
		return Info{}, false
	}
	return o.info(), true
}

// List returns all sealed objects in order of their ids.
func (s *Store) List() []Info {
	s.lock()
	defer s.unlock()
	infos := make([]Info, 0, len(s.objects))
	for _, o := range s.sorted() {
		if o.sealed {
			infos = append(infos, o.info())
		}
	}
	return infos
}

// Delete forgets sealed objects, whoever owns them, with their spill files but not their checkpoints; ids that it does not know
// it ignores. Those that are pinned cannot be got any more, and their memory goes with the last handle.
func (s *Store) Delete(ids ...engine.ObjectID) {
	s.lock()
	defer s.unlock()
	for _, id := range ids {
		if o, err := s.find("", id); err == nil {
			s.delete(o)
		}
	}
}

// delete forgets a sealed object.
func (s *Store) delete(o *object) {
	delete(s.objects, o.id)
	s.owners.set(o, nil)
	s.changes.deleted(o)
	s.unlist(o)
	o.deleted = true
	if o.memory.data == nil {
		s.spilledOnly -= o.size
	}
	s.discardSpillFile(o)
	s.settle(o)
}

// list makes a sealed object that nobody uses a candidate for being freed.
func (s *Store) list(o *object) {
	if !o.sealed || o.deleted || o.memory.data == nil || o.pins+o.uses > 0 || o.lru != nil {
		return
	}
	switch {
	case !o.primary:
		o.lru = &s.caches
	case o.droppable():
		o.lru = &s.clean
	default:
		o.lru = &s.dirty
	}
	o.lru.pushBack(o)
	// It may be what somebody who waits for room needs to be gone.
	s.roomChanged = true
}

func (s *Store) unlist(o *object) {
	if o.lru != nil {
		o.lru.remove(o)
		o.lru = nil
	}
}

// use keeps an object's memory in place until done.
func (s *Store) use(o *object) {
	s.unlist(o)
	if o.pins+o.uses == 0 {
		s.pinned += o.size
	}
	o.uses++
}

// done is the counterpart of use.
func (s *Store) done(o *object) {
	o.uses--
	if o.pins+o.uses == 0 {
		s.pinned -= o.size
	}
	s.settle(o)
}

// settle does what is due once nobody uses an object's memory: free it, or make it a candidate for that.
func (s *Store) settle(o *object) {
	if o.pins+o.uses > 0 || o.memory.data == nil {
		return
	}
	switch {
	case o.deleted:
		s.free(o)
	case o.dropWhenFree && o.droppable():
		s.drop(o)
	default:
		s.list(o)
	}
}

// drop frees the memory of an unused object that is droppable. A cache is gone then.
func (s *Store) drop(o *object) {
	o.dropWhenFree = false
	if !o.primary && o.spilled == "" {
		s.evictions++
		s.delete(o)
		return
	}
	s.unlist(o)
	s.free(o)
	s.spilledOnly += o.size
	s.changes.changed(o)
}

// free gives an unused object's memory back.
func (s *Store) free(o *object) {
	m := o.memory
	o.memory = memory{}
	s.giveBack(o.size, m)
}

// giveBack returns memory that is no object's any more.
func (s *Store) giveBack(size int64, m memory) {
	s.inMemory -= size
	s.roomChanged = true
	if m.block == nil {
		s.inlineBytes -= size
		return
	}
	poison(m.data)
	m.block.arena.remove(m.block, s.config.Now())
	switch {
	case !m.block.arena.empty():
	case s.closed:
		s.retireEmpty(0)
	default:
		s.wakeAt(m.block.arena.emptied.Add(idleArena))
	}
}
