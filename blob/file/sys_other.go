//go:build !unix

package file

import (
	"errors"
	"io/fs"
	"os"

	"github.com/f708428e/engine"
)

// errorKind says whose fault an error of the operating system is.
func errorKind(err error) engine.Kind {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return engine.KindPermission
	case errors.Is(err, fs.ErrNotExist):
		return engine.KindNotFound
	case errors.Is(err, fs.ErrExist):
		return engine.KindConflict
	default:
		return engine.KindUnavailable
	}
}

func unsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

func notDirectory(error) bool { return false }

func inode(fs.FileInfo) uint64 { return 0 }

// removeFolder leaves empty folders where they are.
func removeFolder(*os.Root, string) error { return errors.ErrUnsupported }

func claim(*os.File) bool { return true }

func sweep(*os.Root) {}
