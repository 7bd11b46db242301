//go:build unix

package spill

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// errLocked says that another process, or another claim of this one, holds a lock.
var errLocked = errors.New("locked")

// lock takes a lock that ends with the file or the process.
func lock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return errLocked
		case err != nil:
			return &os.PathError{Op: "lock", Path: file.Name(), Err: err}
		default:
			return nil
		}
	}
}

func kindOf(err error) engine.Kind {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return engine.KindPermission
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return engine.KindExhausted
	default:
		return engine.KindInternal
	}
}
