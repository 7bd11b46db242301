//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

func anyOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// errorKind says whose fault an error of the operating system is.
func errorKind(err error) engine.Kind {
	switch {
	case anyOf(err, unix.ENOSPC, unix.EDQUOT, unix.EFBIG):
		return engine.KindExhausted
	case anyOf(err, unix.EROFS, fs.ErrPermission):
		return engine.KindPermission
	case anyOf(err, unix.ENAMETOOLONG, unix.ELOOP, unix.EINVAL):
		return engine.KindInvalidArgument
	case anyOf(err, unix.ENOTDIR, unix.EISDIR, fs.ErrExist):
		return engine.KindConflict
	case anyOf(err, fs.ErrNotExist):
		return engine.KindNotFound
	default:
		return engine.KindUnavailable
	}
}

// unsupported tells whether a file system refuses an operation because it does not know it.
func unsupported(err error) bool {
	return anyOf(err, unix.EPERM, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOSYS, unix.EINVAL, unix.EMLINK)
}

func notDirectory(err error) bool { return errors.Is(err, unix.ENOTDIR) }

func inode(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}

// removeFolder removes an empty folder, and never a file that has taken its place.
func removeFolder(root *os.Root, name string) error {
	parent, err := root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	return unix.Unlinkat(int(parent.Fd()), filepath.Base(name), unix.AT_REMOVEDIR)
}

// claim locks a new temporary file for as long as it is open. It returns false if a sweep took the file for an orphan before. Where
// there are no locks nothing is swept either.
func claim(f *os.File) bool {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false
	}
	var stat unix.Stat_t
	return unix.Fstat(int(f.Fd()), &stat) == nil && stat.Nlink > 0
}

// sweep deletes the temporary files of processes that are gone. What fails stays for the next sweep.
func sweep(root *os.Root) {
	folder, err := root.Open(blob.TemporaryFolder)
	if err != nil {
		return
	}
	names, _ := folder.Readdirnames(-1)
	_ = folder.Close()
	for _, name := range names {
		name = filepath.Join(blob.TemporaryFolder, name)
		// Some file systems lock only what is open for writing.
		f, err := root.OpenFile(name, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = root.Remove(name)
		}
		_ = f.Close()
	}
}
