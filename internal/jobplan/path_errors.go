package jobplan

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// errNotDir is what looking for a name below a file gives.
var errNotDir = syscall.ENOTDIR

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) }

func isPermission(err error) bool { return errors.Is(err, fs.ErrPermission) }

// pathCause is err without the path, which stands in the message already.
func pathCause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func indexed(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
