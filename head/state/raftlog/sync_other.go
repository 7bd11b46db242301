//go:build !linux

package raftlog

import "os"

// syncData makes a file's bytes durable, and its length if that has changed.
func syncData(file *os.File) error { return file.Sync() }

// extend makes a file of fromBytes longer, filled with zeros that have their place on the disk.
func extend(file *os.File, fromBytes, toBytes int64) error {
	return extendByWriting(file, fromBytes, toBytes)
}
