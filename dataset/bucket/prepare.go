package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// maxNamed bounds how many foreign names are collected for a message, which tells how many more there are.
const maxNamed = 100

// Check tells, without changing anything, whether the job may write: the bucket must be there and let us list, in ModeError there must be
// nothing below URI but files of this job and names that begin with a dot, and in ModeOverwrite nothing that would be missed. What must
// not be there is refused with an error of kind engine.KindConflict that names it or the job which wrote it.
func (o Output) Check(ctx context.Context) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	if _, err := o.checkClaim(ctx, b, o.Mode != folder.ModeAppend); err != nil {
		return err
	}
	return o.check(ctx, b)
}

func (o Output) check(ctx context.Context, b blob.Bucket) error {
	var foreign, strangers []string
	marked := false
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return err
		}
		switch {
		case o.own(info.Key):
			continue
		case info.Key == folder.SuccessName:
			marked = true
		case !strings.HasPrefix(info.Key, ".") && !isNote(info.Key):
			foreign = append(foreign, info.Key)
		}
		if !folder.Replaceable(info.Key) {
			strangers = append(strangers, info.Key)
		}
		if o.Mode == folder.ModeAppend || len(foreign) > maxNamed || len(strangers) > maxNamed {
			break // It is known what is to be known.
		}
	}
	switch o.Mode {
	case folder.ModeAppend:
		return nil
	case folder.ModeOverwrite:
		if len(strangers) > 0 {
			return folder.RefuseStrangers(o.URI, strangers)
		}
		return nil
	case folder.ModeError:
	}
	success, err := o.success(ctx, b)
	switch kind := engine.KindOf(err); {
	case err == nil && success.Job != o.Job, len(foreign) > 0, err != nil && marked && kind == engine.KindCorrupt:
		return folder.Refusal(o.URI, o.Job, foreign, success, err == nil, len(strangers) == 0)
	case err == nil, kind == engine.KindNotFound:
		return nil
	default:
		return err
	}
}

// Prepare probes that the store has what the guarantees rest on; one that has not is refused by name with an error of kind
// engine.KindInvalidArgument, and one that forbids to write with one of kind engine.KindPermission. It deletes what earlier attempts of
// this job left unseen, so no part may be in the making, and the _SUCCESS of another job, since the folder is incomplete from now on. It
// repeats what Check says, and except for ModeAppend claims the place. Calling it again does no harm, also after Complete.
func (o Output) Prepare(ctx context.Context) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	if done, err := o.completed(ctx, b); err != nil || done {
		return err
	}
	if o.Mode == folder.ModeAppend {
		if _, err := o.checkClaim(ctx, b, false); err != nil {
			return err
		}
	}
	if err := o.check(ctx, b); err != nil {
		return err
	}
	if err := o.sweep(ctx, b); err != nil {
		return err
	}
	if prober, ok := b.(blob.Prober); ok {
		if err := prober.ProbeIfAbsent(ctx, o.probePrefix()+strings.ToLower(rand.Text())); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.BucketProbed)
	if o.Mode != folder.ModeAppend {
		if err := o.claim(ctx, b); err != nil {
			return err
		}
		// Another job may have come and gone since.
		if err := o.check(ctx, b); err != nil {
			return err
		}
	}
	// This job has none: it is not complete.
	return b.Delete(ctx, folder.SuccessName)
}

// sweep deletes what this job left behind that no reader looks at. No part may be in the making.
func (o Output) sweep(ctx context.Context, b blob.Bucket) error {
	if err := o.sweepUploads(ctx, b); err != nil {
		return err
	}
	for info, err := range b.List(ctx, o.draftPrefix()) {
		if err != nil {
			return err
		}
		if err := o.settleDraft(ctx, b, info.Key); err != nil {
			return err
		}
	}
	for info, err := range b.List(ctx, o.probePrefix()) {
		if err != nil {
			return err
		}
		if err := b.Delete(ctx, info.Key); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.BucketSwept)
	return nil
}

// sweepUploads aborts uploads of this job. Those that may be others' stay: of a part in a folder key=value only the name says whose it is.
func (o Output) sweepUploads(ctx context.Context, b blob.Bucket) error {
	sweeper, ok := b.(blob.Sweeper)
	if !ok {
		return nil
	}
	err := sweeper.Sweep(ctx, "", o.own)
	var known *engine.Error
	if errors.As(err, &known) && (known.Kind == engine.KindPermission || known.Kind == engine.KindInvalidArgument) {
		return nil // Who may not list uploads, or cannot, has a lifecycle rule.
	}
	return err
}

// deleters is how many objects are deleted at a time.
const deleters = 16

// deleteAll deletes objects until one fails.
func deleteAll(ctx context.Context, b blob.Bucket, keys []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan string)
	var workers sync.WaitGroup
	for range min(deleters, len(keys)) {
		workers.Go(func() {
			for key := range next {
				if err := b.Delete(ctx, key); err != nil {
					cancel(err)
					continue
				}
				failpoint.Hit(failpoint.BucketOldDeleted)
			}
		})
	}
	for _, key := range keys {
		if ctx.Err() != nil {
			break
		}
		next <- key
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}
