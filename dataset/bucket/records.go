package bucket

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// sealer returns the bucket if it can hold parts back.
func (o Output) sealer(ctx context.Context) (blob.Sealer, error) {
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	sealer, ok := b.(blob.Sealer)
	if !ok {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, o.URI, "this kind of store cannot hold several files of a task back")
	}
	return sealer, nil
}

// Reveal implements folder.Place. A part that is neither sealed nor revealed is an error of kind engine.KindCorrupt, another object in its
// place one of kind engine.KindConflict.
func (o Output) Reveal(ctx context.Context, sealed folder.Sealed) error {
	if !o.ownPart(sealed.Part) {
		return engine.Errorf(engine.KindInternal, op, o.PartPath(sealed.Part), "is no sealed part of job %s", o.Job)
	}
	sealer, err := o.sealer(ctx)
	if err != nil {
		return err
	}
	info, err := sealer.Reveal(ctx, sealed.Staged)
	failpoint.Hit(failpoint.BucketRevealed)
	switch kind := engine.KindOf(err); {
	case err == nil && (info.Key != sealed.Part || info.SizeBytes != sealed.SizeBytes):
		return engine.Errorf(engine.KindConflict, op, o.PartPath(info.Key), "has %d bytes, the part %s that belongs there %d", info.SizeBytes, sealed.Part, sealed.SizeBytes)
	case err == nil:
		return nil
	case kind == engine.KindNotFound:
		return engine.Errorf(engine.KindCorrupt, op, o.PartPath(sealed.Part), "was held back and is gone: %w", err).
			WithHint("somebody deleted it, or the bucket's rule for unfinished uploads did; run the job again under a new id")
	case kind == engine.KindConflict:
		return engine.Errorf(engine.KindConflict, op, o.PartPath(sealed.Part), "another object is in the place of the job's part")
	default:
		return err
	}
}

// Unseal implements folder.Place.
func (o Output) Unseal(ctx context.Context, sealed folder.Sealed) error {
	sealer, err := o.sealer(ctx)
	if err != nil {
		return err
	}
	return sealer.Unseal(ctx, sealed.Staged)
}

func recordKey(name string) string { return folder.NotesName + "/" + name }

// PutRecord implements folder.Place.
func (o Output) PutRecord(ctx context.Context, name, attempt string, content []byte) (won bool, err error) {
	if !folder.IsRecord(name, o.Job) || !attemptPattern.MatchString(attempt) {
		return false, engine.Errorf(engine.KindInternal, op, name, "is not a record of job %s, or %q no name of an attempt", o.Job, attempt)
	}
	b, err := o.open(ctx)
	if err != nil {
		return false, err
	}
	mark := newMark(attempt)
	err = put(ctx, b, recordKey(name), content, blob.PutOptions{IfAbsent: true, Mark: mark})
	failpoint.Hit(failpoint.BucketRecorded)
	if engine.KindOf(err) != engine.KindConflict || err == nil {
		return err == nil, err
	}
	info, err := b.Stat(ctx, recordKey(name))
	return err == nil && info.Mark == mark, err
}

// missing makes the error of package fs out of that of a bucket.
func missing(err error) error {
	if engine.KindOf(err) == engine.KindNotFound {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// Record implements folder.Place.
func (o Output) Record(ctx context.Context, name string) ([]byte, error) {
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	content, err := read(ctx, b, recordKey(name))
	return content, missing(err)
}

// Records implements folder.Place.
func (o Output) Records(ctx context.Context, kind string) ([]string, error) {
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for info, err := range b.List(ctx, recordKey(kind+"-"+string(o.Job))) {
		if err != nil {
			return nil, err
		}
		if name := strings.TrimPrefix(info.Key, folder.NotesName+"/"); folder.IsRecord(name, o.Job) {
			names = append(names, name)
		}
	}
	return names, nil
}

// RemoveRecord implements folder.Place.
func (o Output) RemoveRecord(ctx context.Context, name string) error {
	if !folder.IsRecord(name, o.Job) {
		return engine.Errorf(engine.KindInternal, op, name, "is not a record of job %s", o.Job)
	}
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	return b.Delete(ctx, recordKey(name))
}

// Look implements folder.Place.
func (o Output) Look(ctx context.Context, part string) (sizeBytes int64, err error) {
	b, err := o.open(ctx)
	if err != nil {
		return 0, err
	}
	info, err := b.Stat(ctx, part)
	return info.SizeBytes, missing(err)
}
