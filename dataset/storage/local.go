package storage

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// local is a file of this machine. Reading ahead is the operating system's.
type local struct {
	op     string
	file   dataset.File
	opened *os.File
	close  sync.Once
}

var _ dataset.Input = (*local)(nil)

// openLocal opens a file that is still what it was when it was listed, and that allow does not refuse, which may be nil. Another length or modification time is an error of kind
// engine.KindData; others are of kind engine.KindNotFound and engine.KindPermission.
func openLocal(op string, file dataset.File, allow func(*os.File) error) (dataset.Input, error) {
	opened, err := engine.OpenRegular(file.Path)
	if err != nil {
		return nil, Error(op, file.Path, err)
	}
	if allow != nil {
		if err := allow(opened); err != nil {
			_ = opened.Close()
			return nil, engine.WrapError(op, file.Path, err)
		}
	}
	l := &local{op: op, file: file, opened: opened}
	if err := l.Check(); err != nil {
		_ = opened.Close()
		return nil, err
	}
	return l, nil
}

// ReadAt implements io.ReaderAt.
func (l *local) ReadAt(p []byte, offset int64) (int, error) {
	n, err := l.opened.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		err = Error(l.op, l.file.Path, err)
	}
	return n, err
}

// Expect does nothing.
func (l *local) Expect(...dataset.Range) {}

// Forget does nothing.
func (l *local) Forget(...dataset.Range) {}

// Check implements dataset.Input.
func (l *local) Check() error {
	stat, err := l.opened.Stat()
	switch {
	case err != nil:
		return Error(l.op, l.file.Path, err)
	case stat.IsDir():
		return engine.Errorf(engine.KindInvalidArgument, l.op, l.file.Path, "is a folder, not a file")
	case stat.Size() != l.file.SizeBytes:
		return Changed(l.op, l.file, "it had %d bytes and has %d", l.file.SizeBytes, stat.Size())
	case stat.ModTime().UnixNano() != l.file.ModifiedUnixNanos:
		return Changed(l.op, l.file, "it was modified at %s", stat.ModTime().UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return nil
}

// Close implements dataset.Input.
func (l *local) Close() (err error) {
	l.close.Do(func() {
		if err = l.opened.Close(); err != nil {
			err = Error(l.op, l.file.Path, err)
		}
	})
	return err
}
