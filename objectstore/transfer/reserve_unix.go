//go:build unix

package transfer

import (
	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// reserve returns size bytes of zeros outside of Go's heap, which take memory as they are touched, until free is called.
func reserve(size int64) (data []byte, free func(), err error) {
	data, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, engine.Errorf(engine.KindExhausted, "reserve memory", "", "%d bytes: %w", size, err)
	}
	preferHuge(data)
	return data, func() {
		_ = unix.Munmap(data) // It fails for what was not mapped alone.
	}, nil
}
