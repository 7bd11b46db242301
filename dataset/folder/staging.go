package folder

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// stagingBuffer is the buffer of a Staging: small writes are gathered, larger ones pass through. It grows with what is in it, since a task
// may have a thousand files.
const stagingBuffer = 256 << 10

// stagingFile is what a Staging needs of a file.
type stagingFile interface {
	io.WriteCloser
	Sync() error
	Stat() (fs.FileInfo, error)
}

// openStaging is replaced by tests that fail writes.
var openStaging = func(path string) (stagingFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
}

// stagingName is the name under which an attempt writes a part: it is not a reader's business, and says so by its beginning and
// its end. The part's folders are not in it.
func stagingName(part, attempt string) string {
	part = path.Base(part)
	return stagingPrefix + strings.TrimSuffix(part, path.Ext(part)) + "-" + attempt + ".tmp"
}

// jobOfStaging returns the job that a staging name tells, or "".
func jobOfStaging(name string) engine.JobID {
	if m := stagingPattern.FindStringSubmatch(name); m != nil {
		return engine.JobID(m[1])
	}
	return ""
}

// stagingPattern knows the job by the form of engine.NewJobID: the sequence that follows, the time in the id, and an attempt's name
// may all be six digits between dashes.
var stagingPattern = regexp.MustCompile(`^` + stagingPrefix + `part-([0-9]{8}-[0-9]{6}-[0-9a-z]+)-[0-9]{6,}-[A-Za-z0-9._-]+\.tmp$`)

// Staging is a part in the making. It must end with Publish or Discard. It is not safe for concurrent use.
type Staging struct {
	output Output
	part   string
	path   string
	file   stagingFile
	buffer []byte
	size   int64
	failed error
	closed bool
	// Set by Keep: what is kept beside the part, and the digest of what has been written. draft is the note once it is written.
	kept   map[string]string
	digest hash.Hash
	draft  string
}

// Begin implements Place; it is Create.
func (o Output) Begin(_ context.Context, part, attempt string) (Draft, error) {
	s, err := o.Create(part, attempt)
	if err != nil {
		return nil, err // Not a Draft that is a nil *Staging.
	}
	return s, nil
}

// Create begins a part of this job, in Work itself or, if its name says so, in folders key=value there. Attempts at the same part must have
// different names, made of letters, digits, dots, dashes, and underscores; so must the parts of one attempt that differ by their folders
// alone. A name that is in use is an error of kind engine.KindConflict.
func (o Output) Create(part, attempt string) (*Staging, error) {
	if !o.ownPart(part) || !tokenPattern.MatchString(attempt) {
		return nil, engine.Errorf(engine.KindInternal, op, part, "is not a part of job %s, or %q no name of an attempt", o.Job, attempt)
	}
	path := filepath.Join(o.WorkFolder, stagingName(part, attempt))
	file, err := openStaging(path)
	if errors.Is(err, fs.ErrExist) {
		return nil, engine.Errorf(engine.KindConflict, op, path, "attempt %q at this part is under way already", attempt)
	}
	if err != nil {
		return nil, classify(path, err)
	}
	failpoint.Hit(failpoint.FolderCreated)
	return &Staging{output: o, part: part, path: path, file: file}, nil
}

func (s *Staging) write(p []byte) error {
	n, err := s.file.Write(p)
	s.size += int64(n)
	if s.digest != nil {
		s.digest.Write(p[:n])
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return classify(s.path, err)
}

// flush writes what is in the buffer.
func (s *Staging) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	err := s.write(s.buffer)
	s.buffer = s.buffer[:0]
	return err
}

// Write appends to the part. A full disk is an error of kind engine.KindExhausted, a disk that must not be written to one of kind
// engine.KindPermission. After an error only Discard makes sense.
func (s *Staging) Write(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	if len(s.buffer)+len(p) > stagingBuffer {
		if s.failed = s.flush(); s.failed != nil {
			return 0, s.failed
		}
		if len(p) > stagingBuffer/2 {
			if s.failed = s.write(p); s.failed != nil {
				return 0, s.failed
			}
			return len(p), nil
		}
	}
	s.buffer = append(s.buffer, p...)
	return len(p), nil
}

// SizeBytes is how much has been written.
func (s *Staging) SizeBytes() int64 { return s.size + int64(len(s.buffer)) }

// Publish makes the part durable and gives it its final name, unless another attempt was first: then won is false and the other's
// part stays. In both cases the staging name is gone. After an error nothing is visible, or the part is: publishing again from the
// beginning tells.
func (s *Staging) Publish(ctx context.Context) (won bool, err error) {
	defer func() {
		if discardErr := s.Discard(); err == nil && discardErr != nil {
			won, err = false, discardErr
		}
	}()
	info, err := s.settle(ctx)
	if err != nil {
		return false, err
	}
	final := s.output.PartPath(s.part)
	draft := s.draft
	err = putIfAbsent(s.path, final)
	failpoint.Hit(failpoint.FolderLinked)
	if err != nil {
		// The reply to a link that was made may have been lost, on network file systems: then the file is ours.
		existing, statErr := os.Stat(final)
		if statErr != nil && !errors.Is(statErr, fs.ErrNotExist) {
			s.draft = "" // Nobody knows whose the part is: the next attempt finds out.
		}
		if statErr != nil || !os.SameFile(existing, info) {
			if errors.Is(err, fs.ErrExist) {
				return false, nil
			}
			return false, classify(final, err)
		}
	}
	s.draft = "" // It is that of the published part from now on.
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, classify(s.path, err)
	}
	failpoint.Hit(failpoint.FolderUnlinked)
	if err := syncFolder(s.output.WorkFolder); err != nil {
		return false, err
	}
	if draft != "" {
		if err := s.output.finishNote(s.part, draft); err != nil {
			return false, err
		}
	}
	failpoint.Hit(failpoint.FolderPublished)
	return true, nil
}

// settle makes the file durable under its staging name, and closes it.
func (s *Staging) settle(ctx context.Context) (fs.FileInfo, error) {
	if s.failed == nil {
		s.failed = ctx.Err()
	}
	if s.failed == nil {
		s.failed = s.flush()
		s.buffer = nil
	}
	if s.failed != nil {
		return nil, s.failed
	}
	failpoint.Hit(failpoint.FolderWritten)
	if s.digest != nil {
		if err := s.draftNote(); err != nil {
			return nil, err
		}
	}
	if err := s.file.Sync(); err != nil {
		return nil, classify(s.path, err)
	}
	info, err := s.file.Stat()
	if err != nil {
		return nil, classify(s.path, err)
	}
	s.closed = true
	if err := s.file.Close(); err != nil {
		return nil, classify(s.path, err)
	}
	// The worker's lease may have ended while the disk was at work.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.FolderSynced)
	return info, nil
}

// Discard gives the part up. It may be called at any time, more than once, and does nothing after Publish or Seal.
func (s *Staging) Discard() error {
	var err error
	if !s.closed {
		s.closed = true
		err = s.file.Close()
	}
	if s.path != "" {
		if e := os.Remove(s.path); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = e
		}
	}
	err = classify(s.path, err)
	s.path = ""
	if s.draft != "" {
		if e := os.Remove(s.draft); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = classify(s.draft, e)
		}
		s.draft = ""
	}
	if s.failed == nil {
		s.failed = engine.Errorf(engine.KindInternal, op, s.part, "this attempt has ended")
	}
	return err
}
