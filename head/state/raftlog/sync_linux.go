package raftlog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes a file's bytes durable, and its length if that has changed.
func syncData(file *os.File) error {
	for {
		err := unix.Fdatasync(int(file.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// extend makes a file of fromBytes longer, filled with zeros that have their place on the disk.
func extend(file *os.File, fromBytes, toBytes int64) error {
	for {
		err := unix.Fallocate(int(file.Fd()), 0, fromBytes, toBytes-fromBytes)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return extendByWriting(file, fromBytes, toBytes)
		default:
			return err
		}
	}
}
