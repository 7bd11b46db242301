package bucket

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// discardTimeout bounds the deletion of what an attempt leaves, which is done even if its context has ended.
const discardTimeout = 10 * time.Second

// Staging is a part in the making, which nobody sees. It must end with Publish or Discard. It is not safe for concurrent use.
type Staging struct {
	output Output
	bucket blob.Bucket
	part   string
	mark   string
	writer blob.Writer
	size   int64
	failed error
	// kept is what is kept beside the part, set by Keep. draft is the key of the note once it has been put.
	kept  map[string]string
	draft string
}

var (
	_ folder.Place = Output{}
	_ folder.Draft = (*Staging)(nil)
)

// Begin implements folder.Place; it is Create.
func (o Output) Begin(ctx context.Context, part, attempt string) (folder.Draft, error) {
	s, err := o.Create(ctx, part, attempt)
	if err != nil {
		return nil, err // Not a folder.Draft that is a nil *Staging.
	}
	return s, nil
}

// Create begins a part of this job. attempt is a name of letters, digits, dots, dashes, and underscores that helps people to tell
// attempts apart. ctx must live until the Staging has ended: parts of a large object are sent while it is written.
func (o Output) Create(ctx context.Context, part, attempt string) (*Staging, error) {
	if !o.ownPart(part) || !attemptPattern.MatchString(attempt) {
		return nil, engine.Errorf(engine.KindInternal, op, part, "is not a part of job %s, or %q no name of an attempt", o.Job, attempt)
	}
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	s := &Staging{output: o, bucket: b, part: part, mark: newMark(attempt)}
	if s.writer, err = b.Create(ctx, part, blob.PutOptions{IfAbsent: true, Mark: s.mark}); err != nil {
		return nil, err
	}
	return s, nil
}

// newMark names an attempt for good: no other put has the same.
func newMark(attempt string) string { return attempt + "-" + strings.ToLower(rand.Text()) }

// Keep says that the part's format has no place for metadata, which is kept beside it then. Metadata may be set until Publish.
func (s *Staging) Keep(metadata map[string]string) { s.kept = metadata }

// Write appends to the part. It blocks while as much is on its way as may be. After an error only Discard makes sense.
func (s *Staging) Write(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.writer.Write(p)
	s.size += int64(n)
	s.failed = err
	return n, err
}

// SizeBytes is how much has been written.
func (s *Staging) SizeBytes() int64 { return s.size }

// Seal makes the part durable and leaves it unseen: as a multipart upload without its end, which the bucket's lifecycle rule for those
// deletes after its time. After an error only Discard makes sense.
func (s *Staging) Seal(ctx context.Context) (folder.Sealed, error) {
	if s.failed == nil {
		s.failed = ctx.Err()
	}
	if s.failed != nil {
		return folder.Sealed{}, s.failed
	}
	writer, ok := s.writer.(blob.SealingWriter)
	if !ok {
		return folder.Sealed{}, engine.Errorf(engine.KindInvalidArgument, op, s.output.URI, "this kind of store cannot hold several files of a task back")
	}
	staged, err := writer.Seal(ctx)
	if err != nil {
		return folder.Sealed{}, err
	}
	failpoint.Hit(failpoint.BucketSealed)
	s.writer = nil // It is not this attempt's any more.
	return folder.Sealed{Part: s.part, SizeBytes: s.size, Staged: staged}, nil
}

// Publish makes the part durable and visible, unless another attempt was first: then won is false and the other's part stays. After an
// error nothing is visible, or the part is: publishing again from the beginning tells.
func (s *Staging) Publish(ctx context.Context) (won bool, err error) {
	defer func() {
		if discardErr := s.Discard(); err == nil && discardErr != nil {
			won, err = false, discardErr
		}
	}()
	if s.failed == nil {
		s.failed = ctx.Err()
	}
	if s.failed != nil {
		return false, s.failed
	}
	var content []byte
	if s.kept != nil {
		if content, err = json.MarshalIndent(note{Part: s.part, SizeBytes: s.size, Metadata: s.kept}, "", "  "); err != nil {
			return false, engine.Errorf(engine.KindInternal, op, s.part, "note: %w", err)
		}
		content = append(content, '\n')
		s.draft = s.output.draftKey(s.mark)
		if err := put(ctx, s.bucket, s.draft, content, blob.PutOptions{}); err != nil {
			return false, err
		}
		failpoint.Hit(failpoint.BucketNoteDrafted)
	}
	if won, err = s.commit(ctx); !won {
		return false, err
	}
	failpoint.Hit(failpoint.BucketPut)
	if s.draft == "" {
		return true, nil
	}
	draft := s.draft
	s.draft = "" // It is that of the published part from now on.
	return true, finishNote(ctx, s.bucket, s.part, content, draft)
}

// commit puts the part if there is none.
func (s *Staging) commit(ctx context.Context) (won bool, err error) {
	_, err = s.writer.Commit(ctx)
	if err == nil {
		s.writer = nil
		return true, nil
	}
	if engine.KindOf(err) != engine.KindConflict {
		s.draft = "" // Nobody knows whether the part is there: the next attempt finds out.
		return false, err
	}
	// What is there may be ours: something between us and the store may have sent the request twice.
	info, statErr := s.bucket.Stat(ctx, s.part)
	switch {
	case statErr != nil:
		s.draft = ""
		return false, errors.Join(err, statErr)
	case info.Mark == s.mark:
		return true, nil
	default:
		return false, nil
	}
}

// Discard gives the part up. It may be called at any time, more than once, and does nothing after Publish.
func (s *Staging) Discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), discardTimeout)
	defer cancel()
	var err error
	if s.writer != nil {
		err = s.writer.Abort(ctx)
		s.writer = nil
	}
	if s.draft != "" {
		err = errors.Join(err, s.bucket.Delete(ctx, s.draft))
		s.draft = ""
	}
	if s.failed == nil {
		s.failed = engine.Errorf(engine.KindInternal, op, s.part, "this attempt has ended")
	}
	return err
}
