package folder

import (
	"io"
	"io/fs"
	"os"
	"testing"
)

// FailWrites makes staging files fail after so many bytes, and on Sync if after is negative.
func FailWrites(t *testing.T, after int64, err error) {
	original := openStaging
	t.Cleanup(func() { openStaging = original })
	openStaging = func(path string) (stagingFile, error) {
		f, openErr := original(path)
		if openErr != nil {
			return nil, openErr
		}
		return &failingFile{stagingFile: f, path: path, after: after, err: err}, nil
	}
}

type failingFile struct {
	stagingFile
	path  string
	after int64
	err   error
}

func (f *failingFile) Write(p []byte) (int, error) {
	if f.after < 0 {
		return f.stagingFile.Write(p)
	}
	if f.after < int64(len(p)) {
		n, _ := f.stagingFile.Write(p[:f.after])
		f.after = 0
		return n, &fs.PathError{Op: "write", Path: f.path, Err: f.err}
	}
	f.after -= int64(len(p))
	return f.stagingFile.Write(p)
}

func (f *failingFile) Sync() error {
	if f.after < 0 {
		return &os.PathError{Op: "fsync", Path: f.path, Err: f.err}
	}
	return f.stagingFile.Sync()
}

var _ io.Writer = (*failingFile)(nil)

// PutIfAbsent, Exchange, and RenameNoReplace are what everything rests on.
var (
	PutIfAbsent     = putIfAbsent
	Exchange        = exchange
	RenameNoReplace = renameNoReplace
)
