package secret

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/f708428e/engine"
)

const opRead = "read secret"

// readEnv returns a variable of this process; false if it is not set.
func readEnv(name string) ([]byte, bool) {
	value, ok := os.LookupEnv(name)
	return []byte(value), ok
}

// readFile returns the content of a file without the line end behind it. Errors are of kind engine.KindNotFound for one that is not there,
// engine.KindPermission for one that cannot be read or that others may read or change, and engine.KindInvalidArgument for what is no file or too
// long. They show nothing of the content.
func readFile(name string) ([]byte, error) {
	// A pipe would block, and a device may do anything.
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, engine.Errorf(engine.KindNotFound, opRead, name, "no such file")
	case err != nil:
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		return nil, engine.Errorf(engine.KindPermission, opRead, name, "%w", err)
	}
	defer func() { _ = file.Close() }() // Read only.
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, engine.Errorf(engine.KindInternal, opRead, name, "%w", err)
	case !info.Mode().IsRegular():
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, name, "it is no file")
	case info.Mode().Perm()&openToOthers != 0:
		return nil, engine.Errorf(engine.KindPermission, opRead, name, "its mode %04o lets others read or change it", info.Mode().Perm()).
			WithHint("chmod 600 %s", name)
	}
	value, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	switch {
	case err != nil:
		return nil, engine.Errorf(engine.KindInternal, opRead, name, "%w", err)
	case len(value) > MaxBytes:
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, name, "a secret has at most %d bytes", MaxBytes)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r")), nil
}

// openToOthers are the bits of a mode that a file with a secret does not have. A group may read it: volumes of Kubernetes have one.
const openToOthers = 0o027

// Allowed says which variables and files of its own a process reads for jobs. The zero value allows none. Whoever may submit a job can send
// what is allowed here to any server that the job names.
type Allowed struct{ patterns []string }

// ParseAllowed understands entries env:NAME and file:PATH, in which *, ?, and [a-z] stand for characters as in a shell, a slash excepted. The
// error is of kind engine.KindInvalidArgument.
func ParseAllowed(entries []string) (Allowed, error) {
	for _, entry := range entries {
		kind, name, _ := strings.Cut(entry, ":")
		_, globErr := path.Match(name, "")
		switch {
		case kind != string(Env) && kind != string(File) || name == "" || globErr != nil:
			return Allowed{}, engine.Errorf(engine.KindInvalidArgument, "", entry, "expected env:NAME or file:/PATH, in which * stands for any characters but /")
		case kind == string(File) && (name[0] != '/' || path.Clean(name) != name):
			return Allowed{}, engine.Errorf(engine.KindInvalidArgument, "", entry, "expected an absolute path without . and ..")
		}
	}
	return Allowed{patterns: entries}, nil
}

// allows tells whether a reference is allowed. A path with ".." is not, whatever it leads to.
func (a Allowed) allows(r Reference) bool {
	if r.Kind() == File && path.Clean(r.Name()) != r.Name() {
		return false
	}
	for _, pattern := range a.patterns {
		kind, name, _ := strings.Cut(pattern, ":")
		if matched, err := path.Match(name, r.Name()); matched && err == nil && kind == string(r.Kind()) {
			return true
		}
	}
	return false
}

// read returns the value of a reference that this process has and is allowed to read.
func (a Allowed) read(r Reference) ([]byte, error) {
	if !a.allows(r) {
		return nil, engine.Errorf(engine.KindPermission, opRead, r.String(), "it did not come with the job, and this process may not read it for jobs").
			WithHint("set it where the job is submitted, or start heads and workers with --allow-secret %s", string(r))
	}
	if r.Kind() == File {
		return readFile(r.Name())
	}
	value, ok := readEnv(r.Name())
	if !ok {
		return nil, engine.Errorf(engine.KindNotFound, opRead, r.String(), "it did not come with the job, and the variable is not set in this process")
	}
	return value, nil
}
