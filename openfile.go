package engine

import (
	"io/fs"
	"os"
	"syscall"
)

// OpenRegular opens a file for reading that somebody else has named. Unlike os.Open it never waits, as that does for a FIFO to which nobody
// writes, and it refuses what is no regular file, with an error of kind KindInvalidArgument that says what it is instead. Other errors are those
// of os.Open. The caller closes the file.
func OpenRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = Errorf(KindInvalidArgument, "open", path, "is %s, not a regular file", fileType(info.Mode()))
	}
	if err != nil {
		_ = file.Close() // Nothing was done with it.
		return nil, err
	}
	return file, nil
}

// fileType says what something is that is no regular file.
func fileType(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "something else"
	}
}
