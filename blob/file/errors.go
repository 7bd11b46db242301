package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/f708428e/engine"
)

// escapes is how os.Root says that a path leads out of it; it has no name for it.
const escapes = "path escapes from parent"

// classify makes an *engine.Error of an error of the file system that concerns a path, and leaves other errors their kind.
func classify(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var known *engine.Error
	if errors.As(err, &known) {
		return err
	}
	cause := err
	var pathError *fs.PathError
	var linkError *os.LinkError
	switch {
	case errors.As(err, &pathError):
		cause = pathError.Err
	case errors.As(err, &linkError):
		cause = linkError.Err
	}
	if kind := engine.KindOf(err); kind != engine.KindInternal { // the end of a context
		return engine.Errorf(kind, op, path, "%w", err)
	}
	if cause.Error() == escapes {
		return engine.Errorf(engine.KindPermission, op, path, "a symbolic link leads out of the folder")
	}
	switch kind := errorKind(err); kind {
	case engine.KindExhausted:
		return engine.Errorf(kind, op, path, "no space left: %w", cause)
	case engine.KindNotFound:
		return engine.Errorf(kind, op, path, "does not exist")
	default:
		return engine.Errorf(kind, op, path, "%w", cause)
	}
}

// renameNoReplace renames within the folder unless the new name is taken: then the error is fs.ErrExist.
func renameNoReplace(root *os.Root, from, to string) error {
	fromFolder, err := root.Open(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer func() { _ = fromFolder.Close() }()
	toFolder, err := root.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer func() { _ = toFolder.Close() }()
	return renameNoReplaceAt(int(fromFolder.Fd()), filepath.Base(from), int(toFolder.Fd()), filepath.Base(to))
}
