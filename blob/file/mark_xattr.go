//go:build linux || darwin || freebsd || netbsd

package file

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/blob"
)

// markAttribute is the extended attribute that holds a file's mark.
const markAttribute = "user.engine.mark"

func setMark(f *os.File, mark string) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Fsetxattr(int(fd), markAttribute, []byte(mark), 0) })
	if err != nil {
		return err
	}
	return failed
}

// mark returns a file's mark, or "" where there is none.
func mark(f *os.File) (mark string) {
	raw, err := f.SyscallConn()
	if err != nil {
		return ""
	}
	value := make([]byte, blob.MaxMarkBytes)
	_ = raw.Control(func(fd uintptr) { // the file is open
		if n, err := unix.Fgetxattr(int(fd), markAttribute, value); err == nil {
			mark = string(value[:n])
		}
	})
	return mark
}
