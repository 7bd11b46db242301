//go:build !linux && !darwin && !freebsd && !netbsd

package file

import (
	"errors"
	"os"
)

func setMark(*os.File, string) error { return errors.ErrUnsupported }

func mark(*os.File) string { return "" }
