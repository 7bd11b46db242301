package shm

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// Arena is a memfd that is mapped for writing in this process. Its methods are safe for concurrent use; after Close, MakeReady
// and Seal fail, and nobody may touch the memory.
type Arena struct {
	// Constant.
	file *os.File
	data []byte

	// mu is held while pages are made and seals added, so that neither happens to a descriptor that is closed and another file's by then.
	mu     sync.Mutex
	closed bool
	ready  atomic.Int64
}

// NewArena makes an arena of sizeBytes bytes, rounded up to whole pages, under a name that people see in /proc. It cannot change
// its size. No memory is used before MakeReady.
func NewArena(name string, sizeBytes int64) (*Arena, error) {
	if sizeBytes <= 0 {
		return nil, errorf(engine.KindInvalidArgument, name, "an arena of %d bytes", sizeBytes)
	}
	page := int64(os.Getpagesize())
	sizeBytes = (sizeBytes + page - 1) / page * page
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, errorf(kindOf(err), name, "memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), name) //nolint:gosec // A descriptor is never negative here.
	if err := unix.Ftruncate(fd, sizeBytes); err != nil {
		return nil, errors.Join(errorf(kindOf(err), name, "size it to %d bytes: %w", sizeBytes, err), file.Close())
	}
	if err := addSeals(file, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	data, err := unix.Mmap(fd, 0, int(sizeBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(errorf(kindOf(err), name, "map %d bytes: %w", sizeBytes, err), file.Close())
	}
	return &Arena{file: file, data: data}, nil
}

// File is the arena's memfd. It stays the arena's.
func (a *Arena) File() *os.File { return a.file }

// Bytes is the arena's memory. Pages that are not ready are made when they are touched, which ends the process if there is no memory.
func (a *Arena) Bytes() []byte { return a.data }

// SizeBytes is the arena's length.
func (a *Arena) SizeBytes() int64 { return int64(len(a.data)) }

// ReadyBytes is the length of the arena's beginning whose pages exist.
func (a *Arena) ReadyBytes() int64 { return a.ready.Load() }

// MakeReady makes the pages of the arena's first end bytes, so that a lack of memory is an error of kind engine.KindExhausted
// here and not a signal at the first touch. It blocks for as long as the kernel needs, some 0.3 to 1 s for a GiB; calling it for
// pages that are ready costs nothing.
func (a *Arena) MakeReady(end int64) error {
	end = min(end, a.SizeBytes())
	for a.ready.Load() < end {
		if err := a.makeChunk(end); err != nil {
			return err
		}
	}
	return nil
}

// makeChunk makes at most chunkBytes ready, from where the last call ended.
func (a *Arena) makeChunk(end int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errorf(engine.KindNotFound, a.file.Name(), "the arena is closed")
	}
	from := a.ready.Load()
	page := int64(os.Getpagesize())
	to := min((end+page-1)/page*page, from+chunkBytes, a.SizeBytes())
	if from >= to {
		return nil
	}
	err := unix.Madvise(a.data[from:to], unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) { // Linux before 5.14: the pages are made, but mapped at their first touch only.
		err = unix.Fallocate(int(a.file.Fd()), 0, from, to-from)
	}
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return errorf(engine.KindExhausted, a.file.Name(), "the system has no memory for bytes %d to %d of %d: %w", from, to, a.SizeBytes(), err)
	}
	a.ready.Store(to)
	return nil
}

// Seal makes the kernel refuse every mapping for writing from now on, and every write by descriptor; mappings that exist can
// still write. No seal can be added later. Sealing again does nothing.
func (a *Arena) Seal() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errorf(engine.KindNotFound, a.file.Name(), "the arena is closed")
	}
	seals, err := unix.FcntlInt(a.file.Fd(), unix.F_GET_SEALS, 0)
	if err == nil && seals&unix.F_SEAL_SEAL != 0 {
		return nil
	}
	return addSeals(a.file, unix.F_SEAL_FUTURE_WRITE|unix.F_SEAL_SEAL)
}

// Close gives this process's mapping and descriptor back. The memory is freed when no other process maps it or has a descriptor.
// It is called once.
func (a *Arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	return errors.Join(unix.Munmap(a.data), a.file.Close())
}

func addSeals(file *os.File, seals int) error {
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return errorf(engine.KindInternal, file.Name(), "seal it with %#x: %w", seals, err)
	}
	return nil
}

// kindOf tells a limit that was reached from what is wrong with a call.
func kindOf(err error) engine.Kind {
	switch {
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EFBIG):
		return engine.KindExhausted
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return engine.KindPermission
	default:
		return engine.KindInternal
	}
}
