package objectstore_test

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/shm"
	"github.com/f708428e/engine/objectstore/storetest"
)

// descriptor is an arena's descriptor as another process gets it.
func descriptor(t *testing.T, s *objectstore.Store, place objectstore.Place) *os.File {
	t.Helper()
	file, err := s.Descriptor(place.Arena)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReader maps an object as another process does.
func TestReader(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{})
	h := storetest.Get(t, s, storetest.Put(t, s, 1, mib))
	defer h.Release()
	place, _ := h.Place()
	file := descriptor(t, s, place)
	if _, err := shm.Map(file, place.ArenaBytes, shm.Write); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("mapped an arena of the store for writing: %v", err)
	}
	m, err := shm.Map(file, place.ArenaBytes, shm.Read)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if got := m.Bytes()[place.OffsetBytes:][:place.SizeBytes]; !bytes.Equal(got, h.Bytes()) {
		t.Error("the mapping does not have the object's bytes")
	}
	for _, unknown := range []uint64{0, place.Arena + 1} {
		_, err := s.Descriptor(unknown)
		storetest.WantKind(t, err, engine.KindNotFound)
		storetest.WantKind(t, s.SealArena(unknown), engine.KindNotFound)
	}
}

// TestWriter writes objects as an executor does, which dies before it has sealed all of them.
func TestWriter(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{CapacityBytes: 16 * mib, ArenaBytes: 4 * mib})
	create := func(i int) (*objectstore.Pending, objectstore.Place) {
		p, err := s.Create(t.Context(), objectstore.Creation{ID: storetest.ID(i), SizeBytes: mib, Owner: storetest.Session, Writer: "executor"})
		if err != nil {
			t.Fatal(err)
		}
		if p.Bytes() != nil {
			t.Error("the memory of another writer is given to this process")
		}
		place, _ := p.Place()
		return p, place
	}
	sealed, place := create(1)
	_, lost := create(2)
	if place.Arena != lost.Arena {
		t.Errorf("a writer got the arenas %d and %d", place.Arena, lost.Arena)
	}
	if own := storetest.Get(t, s, storetest.Put(t, s, 3, mib)); true {
		if p, _ := own.Place(); p.Arena == place.Arena {
			t.Error("the store writes into an executor's arena")
		}
		own.Release()
	}
	file := descriptor(t, s, place)
	writer, err := shm.Map(file, place.ArenaBytes, shm.Write)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SealArena(place.Arena); err != nil {
		t.Fatal(err)
	}
	if _, err := shm.Map(file, place.ArenaBytes, shm.Write); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("mapped a sealed arena for writing: %v", err)
	}
	copy(writer.Bytes()[place.OffsetBytes:][:mib], storetest.Content(storetest.ID(1), mib))
	if _, err := sealed.Seal(objectstore.Description{Rows: 1}); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	s.EndWriter("executor")
	s.EndWriter("executor")
	storetest.Check(t, s, storetest.ID(1))
	if _, ok := s.Info(storetest.ID(2)); ok {
		t.Error("an object that was never sealed is there")
	}
	if u := s.Usage(); u.ObjectBytes != 2*mib || u.PinnedBytes != 0 {
		t.Errorf("usage is %+v", u)
	}
	// What the writer left is the store's own now.
	h := storetest.Get(t, s, storetest.Put(t, s, 4, mib))
	defer h.Release()
	if p, _ := h.Place(); p.Arena != place.Arena {
		t.Errorf("the next object is in arena %d, though %d has room", p.Arena, place.Arena)
	}
}

// TestWriterDiesBeforeMapping has an executor that never said that it mapped its arena.
func TestWriterDiesBeforeMapping(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{CapacityBytes: 16 * mib, ArenaBytes: 4 * mib})
	p, err := s.Create(t.Context(), objectstore.Creation{ID: storetest.ID(1), SizeBytes: mib, Owner: storetest.Session, Writer: "executor"})
	if err != nil {
		t.Fatal(err)
	}
	place, _ := p.Place()
	s.EndWriter("executor")
	_, err = p.Seal(objectstore.Description{})
	storetest.WantKind(t, err, engine.KindConflict)
	if _, err := shm.Map(descriptor(t, s, place), place.ArenaBytes, shm.Write); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("mapped an arena for writing whose writer is gone: %v", err)
	}
}

// memfds counts the arenas that this process has mapped.
func memfds(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "memfd:engine-objects-")
}

func TestIdleArenasAreRetired(t *testing.T) {
	before := memfds(t)
	clock := &storetest.Clock{}
	s := storetest.Open(t, objectstore.Config{CapacityBytes: 16 * mib, ArenaBytes: 2 * mib, Now: clock.Now})
	if n := memfds(t) - before; n != 0 {
		t.Errorf("a store that nobody uses has %d arenas", n)
	}
	for i := range 4 {
		storetest.Put(t, s, i, 2*mib)
	}
	if n := memfds(t) - before; n != 4 {
		t.Errorf("4 objects of an arena's size are in %d arenas", n)
	}
	s.EndOwner(storetest.Session)
	clock.Advance(2 * time.Minute)
	// Something else makes the clock look.
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p", Expires: clock.Now().Add(time.Minute)}
	if err := storetest.TryPut(t.Context(), s, objectstore.Creation{ID: storetest.ID(9), SizeBytes: 10, Owner: pin}); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute)
	storetest.Eventually(t, "all empty arenas but one are retired", func() bool {
		_ = s.Usage() // Every call notices a pin's end.
		return memfds(t)-before == 1
	})
	if u := s.Usage(); u.ArenaBytes != 2*mib {
		t.Errorf("usage is %+v", u)
	}
}

// TestPrefault looks whether memory is made ready ahead of use, and no more than is allowed.
func TestPrefault(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{CapacityBytes: 256 * mib, ArenaBytes: 64 * mib, PrefaultBytes: 20 * mib})
	resident := func() int64 {
		var sum int64
		for arena := uint64(1); ; arena++ {
			file, err := s.Descriptor(arena)
			if err != nil {
				return sum
			}
			sum += blocks(t, file)
		}
	}
	if n := resident(); n != 0 {
		t.Errorf("a store that nobody uses has %d bytes of memory", n)
	}
	storetest.Put(t, s, 1, mib)
	storetest.Eventually(t, "20 MiB are ready ahead of use", func() bool { return resident() == 21*mib })
	// Another domain's arena has a share of the same allowance.
	if err := storetest.TryPut(t.Context(), s, objectstore.Creation{ID: storetest.ID(2), SizeBytes: mib, Domain: "b", Owner: storetest.Session}); err != nil {
		t.Fatal(err)
	}
	if n := resident(); n > 23*mib {
		t.Errorf("%d bytes are ready, 2 MiB are used, and 20 MiB ahead are allowed", n)
	}
}

// blocks is how much memory or disk a file takes.
func blocks(t *testing.T, file *os.File) int64 {
	t.Helper()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
