package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// Mapping is memory of another process, mapped into this one. Bytes is safe for concurrent use; Close must be the last call.
type Mapping struct{ data []byte }

// Map maps the whole of a descriptor that came from elsewhere, which stays the caller's and may be closed afterwards. It fails with
// engine.KindCorrupt if the file's length is not sizeBytes or if it lacks the seals that the access needs, since its memory could
// then vanish or change while it is read; a file that is no memfd has no seals.
func Map(file *os.File, sizeBytes int64, access Access) (*Mapping, error) {
	defer runtime.KeepAlive(file)
	fd := int(file.Fd())
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, errorf(engine.KindInternal, file.Name(), "fstat: %w", err)
	}
	if stat.Size != sizeBytes || sizeBytes <= 0 {
		return nil, errorf(engine.KindCorrupt, file.Name(), "the memory has %d bytes, expected %d", stat.Size, sizeBytes)
	}
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, errorf(engine.KindCorrupt, file.Name(), "it is no sealed memory: %w", err)
	}
	if missing := access.missing(seals); missing != "" {
		return nil, errorf(engine.KindCorrupt, file.Name(), "it is not sealed against %s", missing)
	}
	prot := unix.PROT_READ
	if access == Write {
		prot |= unix.PROT_WRITE
	}
	data, err := unix.Mmap(fd, 0, int(sizeBytes), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, errorf(kindOf(err), file.Name(), "map %d bytes: %w", sizeBytes, err)
	}
	return &Mapping{data: data}, nil
}

// missing names what the seals allow and the access forbids.
func (a Access) missing(seals int) string {
	switch {
	case seals&unix.F_SEAL_SHRINK == 0:
		return "shrinking"
	case a != ReadForeign && seals&unix.F_SEAL_GROW == 0:
		return "growing"
	case a == Read && seals&(unix.F_SEAL_FUTURE_WRITE|unix.F_SEAL_WRITE) == 0:
		return "new writers"
	default:
		return ""
	}
}

// Bytes is the memory. Writing to it ends the process unless the access is Write.
func (m *Mapping) Bytes() []byte { return m.data }

// Populate makes the page table's entries for a range, so that reading or, with Access Write, writing it takes no page fault. It is a
// hint: what fails is ignored. It costs little for pages that are there.
func (m *Mapping) Populate(r Range, access Access) {
	page := int64(os.Getpagesize())
	from, to := r.Offset/page*page, min(r.End, int64(len(m.data)))
	if from < 0 || from >= to {
		return
	}
	advice := unix.MADV_POPULATE_READ
	if access == Write {
		advice = unix.MADV_POPULATE_WRITE
	}
	_ = unix.Madvise(m.data[from:to], advice)
}

// Close unmaps the memory.
func (m *Mapping) Close() error {
	data := m.data
	m.data = nil
	if data == nil {
		return nil
	}
	return unix.Munmap(data)
}

// ReadOnly opens an arena's memfd again for reading alone, to be passed to a process that must not map it for writing even before it
// is sealed. The caller closes it.
func ReadOnly(file *os.File) (*os.File, error) {
	defer runtime.KeepAlive(file)
	opened, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		kind := engine.KindInternal
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			kind = engine.KindExhausted
		}
		return nil, errorf(kind, file.Name(), "open it for reading: %w", err)
	}
	return opened, nil
}
