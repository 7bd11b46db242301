//go:build unix

package transfer

import (
	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// reserve returns size bytes of zeros outside of Go's heap, which take memory as they are touched, until free is called.
func reserve(size int64) (data []byte, free func(), err error) {
	if data, err = mapMemory(size, unix.MAP_NORESERVE); err != nil {
		return nil, nil, err
	}
	return data, func() { unmap(data) }, nil
}

// affordable reports whether the system would give a process so much memory at all. Go ends the program where it does not.
func affordable(size int64) error {
	data, err := mapMemory(size, 0)
	if err == nil {
		unmap(data)
	}
	return err
}

func mapMemory(size int64, flags int) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|flags)
	if err != nil {
		return nil, engine.Errorf(engine.KindExhausted, "reserve memory", "", "%d bytes: %w", size, err)
	}
	return data, nil
}

// unmap gives mapped memory back; it fails for what was not mapped alone.
func unmap(data []byte) { _ = unix.Munmap(data) }
