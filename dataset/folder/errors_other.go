//go:build !unix

package folder

import (
	"errors"
	"io/fs"

	"github.com/f708428e/engine"
)

// errorKind says whose fault an error of the operating system is.
func errorKind(err error) engine.Kind {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return engine.KindPermission
	case errors.Is(err, fs.ErrNotExist):
		return engine.KindNotFound
	default:
		return engine.KindUnavailable
	}
}

func unsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

func writable(string) error { return nil }

func mountPoint(string, string) (bool, error) { return false, nil }
