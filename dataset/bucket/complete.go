package bucket

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// Complete ends the output: it checks that all parts are there, deletes what attempts left behind, for ModeOverwrite deletes all that is
// not this job's, and writes _SUCCESS. It may be called again after a crash or an error, and then does what is left to do; the _SUCCESS
// of this job stays as it is.
//
// A part that is missing or has another size is an error of kind engine.KindCorrupt; a part of this job that is not listed, and
// for ModeError any object that is not this job's, is one of kind engine.KindConflict; so is, for ModeOverwrite, what folder.Replaceable
// does not allow to delete, and except for ModeAppend the claim of another job. Then nothing has been deleted. A job that others have
// followed is complete, and leaves alone what they wrote.
func (o Output) Complete(ctx context.Context, success folder.Success) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	if done, err := o.completed(ctx, b); err != nil {
		return err
	} else if done {
		return o.tidy(ctx, b)
	}
	if followed, err := o.followed(ctx, b); err != nil || followed {
		return err
	}
	old, err := o.verify(ctx, b, success.Parts)
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.BucketVerified)
	if err := o.sweep(ctx, b); err != nil {
		return err
	}
	if err := deleteAll(ctx, b, old); err != nil {
		return err
	}
	failpoint.Hit(failpoint.BucketAllDeleted)
	success = success.Of(o.Job, time.Now())
	if err := o.recordInputs(ctx, b, success); err != nil {
		return err
	}
	content, err := json.MarshalIndent(success, "", "  ")
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, o.URI, "write %s: %w", folder.SuccessName, err)
	}
	if err := put(ctx, b, folder.SuccessName, append(content, '\n'), blob.PutOptions{}); err != nil {
		return err
	}
	failpoint.Hit(failpoint.BucketSucceeded)
	return o.unclaim(ctx, b)
}

// followed tells whether this job has completed its output before and given its claim back, so that others may have come since. The head
// that saw it may have died before it could say so. Without a claim nothing may be deleted.
func (o Output) followed(ctx context.Context, b blob.Bucket) (bool, error) {
	if o.Mode == folder.ModeAppend {
		return false, nil
	}
	if c, err := o.readClaim(ctx, b); err == nil && c.Job == o.Job || err != nil && engine.KindOf(err) != engine.KindNotFound {
		return false, err
	}
	_, err := b.Stat(ctx, recordKey(folder.RecordName(folder.InputsRecord, o.Job, -1)))
	if engine.KindOf(err) != engine.KindNotFound || err == nil {
		return err == nil, err
	}
	return false, o.claim(ctx, b)
}

// verify compares what is there with the list of parts, and returns the keys of what ModeOverwrite deletes.
func (o Output) verify(ctx context.Context, b blob.Bucket, parts []folder.Part) (old []string, err error) {
	sizes := make(map[string]int64, len(parts))
	for _, part := range parts {
		if _, ok := sizes[part.Name]; ok || !o.ownPart(part.Name) {
			return nil, engine.Errorf(engine.KindInternal, op, o.PartPath(part.Name), "is listed twice or is no part of job %s", o.Job)
		}
		sizes[part.Name] = part.SizeBytes
	}
	var extra, strangers []string
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		size, listed := sizes[info.Key]
		switch {
		case listed && info.SizeBytes != size:
			return nil, engine.Errorf(engine.KindCorrupt, op, o.PartPath(info.Key), "has %d bytes, published were %d", info.SizeBytes, size).
				WithHint("somebody changed it; run the job again under a new id")
		case listed:
			delete(sizes, info.Key)
		case o.ownPart(info.Key):
			extra = append(extra, info.Key)
		case o.own(info.Key):
		case o.Mode == folder.ModeOverwrite && !folder.Replaceable(info.Key):
			strangers = append(strangers, info.Key)
		case o.Mode == folder.ModeOverwrite:
			old = append(old, info.Key)
		case o.Mode == folder.ModeError && !strings.HasPrefix(info.Key, ".") && !isNote(info.Key) && info.Key != folder.SuccessName:
			extra = append(extra, info.Key)
		}
	}
	for _, part := range parts {
		if _, missing := sizes[part.Name]; missing {
			return nil, engine.Errorf(engine.KindCorrupt, op, o.PartPath(part.Name), "was published and is gone").WithHint("somebody deleted it; run the job again under a new id")
		}
	}
	if len(strangers) > 0 {
		return nil, folder.RefuseStrangers(o.URI, strangers)
	}
	if len(extra) > 0 {
		return nil, engine.Errorf(engine.KindConflict, op, o.URI, "holds objects that are not in the job's list of %d parts: %s", len(parts), some(extra)).
			WithHint("move them away and resume the job")
	}
	return old, nil
}

// some shows the first names.
func some(names []string) string {
	const shown = 3
	if len(names) > shown {
		return fmt.Sprintf("%s, and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return strings.Join(names, ", ")
}

// Abandon deletes what attempts of this job left unseen, after it failed or was stopped. Published parts stay, so that the job can be
// resumed, and so does all that is not this job's.
func (o Output) Abandon(ctx context.Context) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	return o.tidy(ctx, b)
}

// tidy ends what the job had for its own use.
func (o Output) tidy(ctx context.Context, b blob.Bucket) error {
	if err := o.sweep(ctx, b); err != nil {
		return err
	}
	return o.unclaim(ctx, b)
}

// Published lists this job's parts, sorted, with their sizes and without their rows.
func (o Output) Published(ctx context.Context) ([]folder.Part, error) {
	b, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	var parts []folder.Part
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if o.ownPart(info.Key) {
			parts = append(parts, folder.Part{Name: info.Key, SizeBytes: info.SizeBytes})
		}
	}
	slices.SortFunc(parts, func(a, b folder.Part) int { return strings.Compare(a.Name, b.Name) })
	return parts, nil
}
