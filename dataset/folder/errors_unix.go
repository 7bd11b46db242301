//go:build unix

package folder

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// errorKind says whose fault an error of the operating system is.
func errorKind(err error) engine.Kind {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case is(unix.ENOSPC, unix.EDQUOT, unix.EFBIG):
		return engine.KindExhausted
	case is(unix.EROFS, fs.ErrPermission):
		return engine.KindPermission
	case is(unix.ENAMETOOLONG, unix.ELOOP, unix.EINVAL):
		return engine.KindInvalidArgument
	case is(unix.ENOTDIR):
		return engine.KindConflict
	case is(fs.ErrNotExist):
		return engine.KindNotFound
	default:
		return engine.KindUnavailable
	}
}

// unsupported tells whether a file system refuses an operation because it does not know it.
func unsupported(err error) bool {
	for _, target := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOSYS, unix.EINVAL, unix.EMLINK} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// writable tells whether this process may make entries in a folder.
func writable(folder string) error {
	return unix.Access(folder, unix.W_OK|unix.X_OK)
}

// mountPoint tells whether a folder is on another file system than its parent.
func mountPoint(folder, parent string) (bool, error) {
	var a, b unix.Stat_t
	if err := unix.Stat(folder, &a); err != nil {
		return false, err
	}
	if err := unix.Stat(parent, &b); err != nil {
		return false, err
	}
	return a.Dev != b.Dev, nil
}
