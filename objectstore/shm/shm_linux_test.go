package shm_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/shm"
)

func newArena(t *testing.T, size int64) *shm.Arena {
	t.Helper()
	a, err := shm.NewArena("test", size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestSealedArena(t *testing.T) {
	const size = 1 << 20
	a := newArena(t, size)
	if err := a.MakeReady(size); err != nil {
		t.Fatal(err)
	}
	if _, err := shm.Map(a.File(), size, shm.Read); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("mapped an arena for reading that others may write: %v", err)
	}
	// The writer maps it before it is sealed.
	writer, err := shm.Map(a.File(), size, shm.Write)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	for range 2 {
		if err := a.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	passed, err := shm.ReadOnly(a.File())
	if err != nil {
		t.Fatal(err)
	}
	reader, err := shm.Map(passed, size, shm.Read)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := passed.Close(); err != nil {
		t.Fatal(err)
	}

	a.Bytes()[5] = 1
	writer.Populate(shm.Range{Offset: 0, End: size}, shm.Write)
	writer.Bytes()[size-1] = 2
	reader.Populate(shm.Range{Offset: 0, End: 2 * size}, shm.Read)
	if got := reader.Bytes(); got[5] != 1 || got[size-1] != 2 {
		t.Error("a reader does not see what the writers wrote before and after the seal")
	}

	fd := int(a.File().Fd())
	if _, err := shm.Map(a.File(), size, shm.Write); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("mapped a sealed arena for writing: %v", err)
	}
	if _, err := unix.Write(fd, []byte("x")); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v, want %v", err, unix.EPERM)
	}
	for _, length := range []int64{0, size / 2, 2 * size} {
		if err := unix.Ftruncate(fd, length); !errors.Is(err, unix.EPERM) {
			t.Errorf("ftruncate to %d: %v, want %v", length, err, unix.EPERM)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("a seal was added: %v", err)
	}
	// A reader cannot make its mapping a writer's.
	if err := unix.Mprotect(reader.Bytes(), unix.PROT_READ|unix.PROT_WRITE); !errors.Is(err, unix.EACCES) {
		t.Errorf("mprotect: %v, want %v", err, unix.EACCES)
	}
}

func TestReadOnlyBeforeSeal(t *testing.T) {
	const size = 1 << 16
	a := newArena(t, size)
	passed, err := shm.ReadOnly(a.File())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = passed.Close() }()
	if _, err := shm.Map(passed, size, shm.Write); engine.KindOf(err) != engine.KindPermission {
		t.Errorf("mapped a descriptor for writing that was opened for reading: %v", err)
	}
}

func TestMapRefuses(t *testing.T) {
	const size = 1 << 16
	a := newArena(t, size)
	if err := a.Seal(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	unsealed := memfd(t, size, 0)
	for name, tt := range map[string]struct {
		file   *os.File
		size   int64
		access shm.Access
	}{
		"an arena of another length": {a.File(), size / 2, shm.Read},
		"a length of zero":           {a.File(), 0, shm.Read},
		"a file":                     {file, size, shm.ReadForeign},
		"memory that may shrink":     {unsealed, size, shm.ReadForeign},
		"memory that may grow":       {memfd(t, size, unix.F_SEAL_SHRINK), size, shm.Write},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := shm.Map(tt.file, tt.size, tt.access)
			if err == nil {
				_ = m.Close()
			}
			if engine.KindOf(err) != engine.KindCorrupt {
				t.Errorf("got the error %v, want one of kind %s", err, engine.KindCorrupt)
			}
		})
	}
	m, err := shm.Map(memfd(t, size, unix.F_SEAL_SHRINK), size, shm.ReadForeign)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
}

// memfd makes memory with some seals.
func memfd(t *testing.T, size int64, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("foreign", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "foreign")
	t.Cleanup(func() { _ = file.Close() })
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMakeReady(t *testing.T) {
	const size = 48 << 20
	a := newArena(t, size)
	pages := func() int64 {
		var stat unix.Stat_t
		if err := unix.Fstat(int(a.File().Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Blocks * 512
	}
	if n := pages(); n != 0 {
		t.Errorf("a new arena has %d bytes of pages", n)
	}
	if err := a.MakeReady(20 << 20); err != nil {
		t.Fatal(err)
	}
	if n := pages(); n != 20<<20 || a.ReadyBytes() != 20<<20 {
		t.Errorf("%d bytes of pages and %d ready, want %d", n, a.ReadyBytes(), 20<<20)
	}
	if err := a.MakeReady(size + 1); err != nil {
		t.Fatal(err)
	}
	if n := pages(); n != size || a.ReadyBytes() != size {
		t.Errorf("%d bytes of pages and %d ready, want %d", n, a.ReadyBytes(), size)
	}
	if !bytes.Equal(a.Bytes()[:4096], make([]byte, 4096)) {
		t.Error("new memory is not zero")
	}
}

// TestMemoryIsFreed looks whether retired arenas give their pages back.
func TestMemoryIsFreed(t *testing.T) {
	for range 20 {
		a, err := shm.NewArena("test", 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.MakeReady(1 << 20); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.MakeReady(2 << 20); engine.KindOf(err) != engine.KindNotFound {
			t.Fatalf("made pages of a closed arena: %v", err)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(maps, []byte("memfd:test")); n != 0 {
		t.Errorf("%d closed arenas are still mapped", n)
	}
}

func TestArenaRefuses(t *testing.T) {
	for _, size := range []int64{0, -1} {
		if _, err := shm.NewArena("test", size); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("made an arena of %d bytes: %v", size, err)
		}
	}
	if _, err := shm.NewArena("test", 1<<60); err == nil {
		t.Error("made an arena of 2^60 bytes")
	}
}

// TestSealOfAClosedArena sees that sealing and closing at the same time touch no other file's descriptor.
func TestSealOfAClosedArena(t *testing.T) {
	for range 50 {
		arena, err := shm.NewArena("race", 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		sealed := make(chan error, 1)
		go func() { sealed <- arena.Seal() }()
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
		if err := <-sealed; err != nil && engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("sealing: %v", err)
		}
		if err := arena.Seal(); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("sealing a closed arena: %v", err)
		}
	}
}
