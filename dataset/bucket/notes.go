package bucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// note is the content of a note, _engine/<part>.json: what stands beside a part whose format has no place for it.
type note struct {
	Part      string            `json:"part"`
	SizeBytes int64             `json:"size_bytes"`
	Metadata  map[string]string `json:"metadata"`
}

func noteKey(part string) string { return folder.NotesName + "/" + part + ".json" }

// draftKey is where an attempt's note is until its part has won. The mark tells attempts apart.
func (o Output) draftKey(mark string) string { return o.draftPrefix() + mark + ".tmp" }

func put(ctx context.Context, b blob.Bucket, key string, content []byte, options blob.PutOptions) error {
	_, err := b.Put(ctx, key, bytes.NewReader(content), int64(len(content)), options)
	return err
}

// finishNote gives the note of a part that has won its final name. Others may do so at the same time, with the same content.
func finishNote(ctx context.Context, b blob.Bucket, part string, content []byte, draft string) error {
	if err := put(ctx, b, noteKey(part), content, blob.PutOptions{IfAbsent: true}); err != nil && engine.KindOf(err) != engine.KindConflict {
		return err
	}
	failpoint.Hit(failpoint.BucketNoteFinished)
	return b.Delete(ctx, draft)
}

// Metadata returns what was kept of a published part: what held reads in a copy of it on this machine or, if held is nil, what stands
// beside it. If the attempt that published the part ended before it gave the note its name, Metadata does so. A part that has no note, or
// another length than its note says, is an error of kind engine.KindCorrupt.
func (o Output) Metadata(ctx context.Context, part string, held func(path string) (map[string]string, error)) (map[string]string, error) {
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	if held != nil {
		return o.inside(ctx, b, part, held)
	}
	info, err := b.Stat(ctx, part)
	if err != nil {
		return nil, err
	}
	n, err := o.readNote(ctx, b, noteKey(part))
	if engine.KindOf(err) == engine.KindNotFound {
		n, err = o.adoptDraft(ctx, b, part, info.Mark)
	}
	if err != nil {
		return nil, err
	}
	if n.Part != part || n.SizeBytes != info.SizeBytes {
		return nil, engine.Errorf(engine.KindCorrupt, op, o.PartPath(part), "has %d bytes, its note in %s says %d of %s", info.SizeBytes, folder.NotesName, n.SizeBytes, n.Part)
	}
	return n.Metadata, nil
}

// inside reads what a part says of itself. That is rare: an attempt ended between its put and its report.
func (o Output) inside(ctx context.Context, b blob.Bucket, part string, held func(path string) (map[string]string, error)) (pairs map[string]string, err error) {
	r, _, err := b.Get(ctx, part, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.CreateTemp("", "engine-part-*")
	if err != nil {
		return nil, engine.Errorf(engine.KindUnavailable, op, o.PartPath(part), "copy: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := io.Copy(f, r); err != nil {
		return nil, engine.WrapError(op, o.PartPath(part), err)
	}
	return held(f.Name())
}

// adoptDraft finishes the note of a part with a mark.
func (o Output) adoptDraft(ctx context.Context, b blob.Bucket, part, mark string) (note, error) {
	lost := engine.Errorf(engine.KindCorrupt, op, o.PartPath(part), "has no note in %s that tells what it holds", folder.NotesName)
	if mark == "" {
		return note{}, lost
	}
	draft := o.draftKey(mark)
	content, err := read(ctx, b, draft)
	if err == nil {
		failpoint.Hit(failpoint.BucketDraftRead)
		err = finishNote(ctx, b, part, content, draft)
	}
	if err != nil && engine.KindOf(err) != engine.KindNotFound {
		return note{}, err
	}
	// Without a draft, whoever put the part has just finished its note.
	n, err := o.readNote(ctx, b, noteKey(part))
	if engine.KindOf(err) == engine.KindNotFound {
		return note{}, lost
	}
	return n, err
}

func (o Output) readNote(ctx context.Context, b blob.Bucket, key string) (n note, err error) {
	content, err := read(ctx, b, key)
	if err != nil {
		return note{}, err
	}
	if err := json.Unmarshal(content, &n); err != nil || n.Part == "" {
		return note{}, engine.Errorf(engine.KindCorrupt, op, o.PartPath(key), "was not written by the engine")
	}
	return n, nil
}

// settleDraft finishes a draft whose part is there, and deletes any other.
func (o Output) settleDraft(ctx context.Context, b blob.Bucket, draft string) error {
	content, err := read(ctx, b, draft)
	if engine.KindOf(err) == engine.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(content, &n); err != nil || !o.ownPart(n.Part) {
		return b.Delete(ctx, draft)
	}
	mark := strings.TrimSuffix(strings.TrimPrefix(draft, o.draftPrefix()), ".tmp")
	info, err := b.Stat(ctx, n.Part)
	switch {
	case err == nil && info.Mark == mark:
		return finishNote(ctx, b, n.Part, content, draft)
	case err == nil, engine.KindOf(err) == engine.KindNotFound:
		return b.Delete(ctx, draft)
	default:
		return err
	}
}
