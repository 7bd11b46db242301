package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// Error classifies an error of the file system: one that another attempt may not meet, if it is neither of kind engine.KindNotFound nor
// of kind engine.KindPermission. One that is an engine.Error already stays as it is.
func Error(op, path string, err error) error {
	var known *engine.Error
	if errors.As(err, &known) {
		return err
	}
	kind := engine.KindUnavailable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = engine.KindNotFound
	case errors.Is(err, fs.ErrPermission):
		kind = engine.KindPermission
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return &engine.Error{Kind: kind, Op: op, ID: path, Err: err}
}

// Changed is the error about a file that is not the one that was listed.
func Changed(op string, file dataset.File, format string, args ...any) error {
	return engine.Errorf(engine.KindData, op, file.Path, "file changed since the job was planned: %s", fmt.Sprintf(format, args...)).
		WithHint("leave input files alone while a job runs; submit the job again to read the new content")
}

// ShortRead is the error about a read that ended before it should have, at an offset.
func ShortRead(op string, file dataset.File, end int64, err error) error {
	if errors.Is(err, io.EOF) {
		return Changed(op, file, "it ends at byte %d", end)
	}
	return Error(op, file.Path, err)
}
