package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/f708428e/engine"
)

// copyBytes is about how large the frames are that entries are copied in.
const copyBytes = 1 << 20

// copies returns what writes the entries at places, of which the first has the index first, to a new log from offset on. writing is
// held while it is called.
func (l *Log) copies(first uint64, places []place) func(file *os.File, offset int64) ([]place, error) {
	return func(file *os.File, offset int64) ([]place, error) {
		moved := make([]place, 0, len(places))
		var frame []byte
		for len(places) > 0 {
			count, size := 0, int64(0)
			for count < len(places) && (count == 0 || size+places[count].length <= copyBytes) {
				size += places[count].length
				count++
			}
			frame = startEntries(frame[:0], first, count)
			for _, at := range places[:count] {
				start := int64(len(frame))
				frame = append(frame, make([]byte, at.length)...)
				if _, err := l.file.ReadAt(frame[start:], at.offset); err != nil {
					return nil, err
				}
				moved = append(moved, place{offset: offset + start, length: at.length})
			}
			if err := finish(frame, offset); err != nil {
				return nil, err
			}
			if _, err := file.Write(frame); err != nil {
				return nil, err
			}
			offset += int64(len(frame))
			first += uint64(count) //nolint:gosec // A length.
			places = places[count:]
		}
		return moved, nil
	}
}

// replace makes a new log in dir that begins with index base and what fill writes, and puts it in the old one's place. With an error, file
// is nil if the old log is still in its place, and else the new one, whose place a crash of the machine may give back to the old one.
func replace(dir string, base uint64, fill func(file *os.File, offset int64) ([]place, error)) (_ *os.File, places []place, err error) {
	path := filepath.Join(dir, FileName)
	// Opened first: after the rename there is no way back.
	folder, err := openFolder(dir)
	if err != nil {
		return nil, nil, StorageError("cut log", path, err)
	}
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, StorageError("cut log", path, errors.Join(err, folder.Close()))
	}
	begin := baseFrame(base)
	err = finish(begin, int64(len(magic)))
	if err == nil {
		_, err = file.Write(append([]byte(magic), begin...))
	}
	if err == nil && fill != nil {
		places, err = fill(file, int64(len(magic)+len(begin)))
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		// A full disk needs the space back.
		return nil, nil, StorageError("cut log", path, errors.Join(err, file.Close(), os.Remove(path+".new"), folder.Close()))
	}
	return file, places, StorageError("cut log", path, errors.Join(folder.Sync(), folder.Close()))
}

// openFolder opens a folder to sync it. Tests put another one in its place.
var openFolder = os.Open

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := openFolder(dir)
	if err != nil {
		return StorageError("sync folder", dir, err)
	}
	return StorageError("sync folder", dir, errors.Join(d.Sync(), d.Close()))
}

// StorageError classifies what a file system answers. Nil stays nil.
func StorageError(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	kind := engine.KindInternal
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = engine.KindExhausted, "the disk is full: free some space, or give another folder"
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		kind, hint = engine.KindPermission, "the folder must be writable"
	case errors.Is(err, os.ErrNotExist):
		kind = engine.KindNotFound
	}
	return engine.Errorf(kind, operation, path, "%w", err).WithHint("%s", hint)
}

// extendByWriting is extend where a file system cannot do it by itself.
func extendByWriting(file *os.File, fromBytes, toBytes int64) error {
	zeros := make([]byte, min(toBytes-fromBytes, 64<<10))
	for at := fromBytes; at < toBytes; {
		n, err := file.WriteAt(zeros[:min(int64(len(zeros)), toBytes-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
