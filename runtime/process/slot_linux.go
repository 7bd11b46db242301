package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// slot is memory that both processes see, for the tensors of one call at a time. It never becomes smaller, so that neither end can take
// pages away that the other one touches; between two calls its pages may become zeros, which take no memory.
type slot struct {
	number int32
	file   *os.File
	data   []byte
	// touched is about how many of its bytes take memory. Of the worker's side.
	touched int64
	// sent says that the executor has the file.
	sent bool
}

// slotUnit is what a slot's length is a multiple of.
const slotUnit = 64 << 10

func newSlot(number int32) (*slot, error) {
	fd, err := unix.MemfdCreate("engine-executor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate("engine-executor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, slotError(err)
	}
	s := &slot{number: number, file: os.NewFile(uintptr(fd), "engine-executor")} //nolint:gosec // A descriptor is not negative.
	if _, err := unix.FcntlInt(s.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil {
		return nil, errors.Join(slotError(err), s.close())
	}
	return s, nil
}

func slotError(err error) error {
	return engine.Errorf(kindOf(err), "share memory with executor", "", "%w", err)
}

// kindOf tells what the system has too little of now from what it does not let this process do.
func kindOf(err error) engine.Kind {
	for _, short := range []error{unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.ENOBUFS, unix.EAGAIN} {
		if errors.Is(err, short) {
			return engine.KindExhausted
		}
	}
	return engine.KindUnavailable
}

// grow makes the slot at least n bytes long and maps it. What it held before need not be there after.
func (s *slot) grow(n int64) error {
	if n <= int64(len(s.data)) {
		return nil
	}
	n = (n + n/4 + slotUnit - 1) / slotUnit * slotUnit
	if err := unix.Ftruncate(int(s.file.Fd()), n); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: the other end has made it longer.
		return slotError(err)
	}
	return s.remap()
}

// follow maps a slot that the other end has made n bytes long.
func (s *slot) follow(n int64) error {
	if n <= int64(len(s.data)) {
		return nil
	}
	if err := s.remap(); err != nil {
		return err
	}
	if n > int64(len(s.data)) {
		return engine.Errorf(engine.KindInternal, "share memory with executor", "", "it has %d bytes, where %d were announced", len(s.data), n)
	}
	return nil
}

// remap maps the whole file.
func (s *slot) remap() error {
	info, err := s.file.Stat()
	if err != nil {
		return slotError(err)
	}
	if s.data != nil {
		if err := unix.Munmap(s.data); err != nil {
			return slotError(err)
		}
		s.data = nil
	}
	if s.data, err = unix.Mmap(int(s.file.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		s.data = nil
		return slotError(err)
	}
	return nil
}

// empty gives back the memory of a slot that no call uses.
func (s *slot) empty() error {
	if err := unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(len(s.data))); err != nil {
		return slotError(err)
	}
	s.touched = 0
	return nil
}

func (s *slot) close() error {
	var err error
	if s.data != nil {
		err = unix.Munmap(s.data)
		s.data = nil
	}
	return errors.Join(err, s.file.Close())
}
