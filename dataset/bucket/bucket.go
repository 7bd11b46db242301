// Package bucket writes output folders in object stores such as S3 so that a reader who knows nothing of the engine sees every committed
// row once at every moment, also after a crash. It keeps the rules of package folder with other means.
//
// A part appears whole at its final name by one put that fails if the name is taken (If-None-Match), at once or at the end of a multipart
// upload; until then it is not to be seen. So there are no staging names. _SUCCESS is written last and alone says that all is there.
//
// Every put carries a mark, the name of its attempt with a random part. Who is refused because the name is taken compares marks before
// it gives up, since its own put may have been done and the reply lost. For formats without metadata a note is drafted under the same
// mark before the part is put: the mark of the part that won says which draft is its note.
//
// Mode overwrite cannot be atomic here. New parts appear beside the old ones, which are deleted when all new ones are there: in between
// a reader sees both, and no _SUCCESS. If the job fails, the old ones stay, and those new ones that were there already.
//
// A process that is killed leaves unfinished uploads behind, which are not visible and cost room. The end of the job deletes those that
// the store lists; a lifecycle rule of the bucket that aborts incomplete uploads after a day deletes the rest.
package bucket

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
)

const op = "output"

// OverwriteNotice is what a job in mode overwrite tells its user at the beginning.
const OverwriteNotice = "an object store cannot replace a folder at once: new files appear beside the old ones, which are deleted when all new ones are there; " +
	"until then readers see both, and no " + folder.SuccessName

// Output is the output of one job. Its methods may be called from any process that reaches the store, in the order Check, Prepare,
// Create for every part, Complete, and each again after a crash. All of them block on the network and end with their context. An Output
// is a value without state, safe for concurrent use.
type Output struct {
	// URI is what the user named, "s3://bucket/prefix", without settings.
	URI string
	// Mode is what happens if there are data below URI.
	Mode folder.Mode
	// Job is part of the names of all objects.
	Job engine.JobID
	// open returns the bucket, whose keys begin below URI. It is not ours to close.
	open func(context.Context) (blob.Bucket, error)
}

// New returns the output of a job. open returns the bucket at uri each time it is called, preferably the same one, and remains the owner.
// A whole bucket is refused.
func New(uri string, mode folder.Mode, job engine.JobID, open func(context.Context) (blob.Bucket, error)) (Output, error) {
	refuse := func(format string, args ...any) (Output, error) {
		return Output{}, engine.Errorf(engine.KindInvalidArgument, op, uri, format, args...)
	}
	uri = strings.TrimRight(uri, "/")
	if _, rest, ok := strings.Cut(uri, "://"); !ok || !strings.Contains(rest, "/") {
		return refuse("is not like s3://bucket/prefix: a whole bucket cannot be an output folder")
	}
	if _, err := folder.ParseMode(string(mode)); err != nil || mode == "" {
		return refuse("%q is not a mode", mode)
	}
	if folder.JobOf(folder.PartName(job, 0, ".x")) != job {
		return refuse("%q is not a job id", job)
	}
	return Output{URI: uri, Mode: mode, Job: job, open: open}, nil
}

// Target implements folder.Place.
func (o Output) Target() string { return o.URI }

// Work implements folder.Place: parts are written where they stay.
func (o Output) Work() string { return o.URI }

// WriteMode implements folder.Place.
func (o Output) WriteMode() folder.Mode { return o.Mode }

// PartPath is the URI of a part.
func (o Output) PartPath(part string) string { return o.URI + "/" + part }

// isNote tells whether a key is that of a note or the draft of one.
func isNote(key string) bool { return strings.HasPrefix(key, folder.NotesName+"/") }

// ownPart tells whether a key is that of a part of this job.
func (o Output) ownPart(key string) bool { return folder.PartOf(key, o.Job) }

// own tells whether a key is that of a part of this job, or of something that belongs to one. A claim counts as such: it is ours while
// that matters.
func (o Output) own(key string) bool {
	note, inNotes := strings.CutPrefix(key, folder.NotesName+"/")
	if !inNotes {
		return o.ownPart(key) || strings.HasPrefix(key, o.probePrefix())
	}
	return key == claimKey || o.ownPart(strings.TrimSuffix(note, ".json")) || folder.IsRecord(note, o.Job) || strings.HasPrefix(key, o.draftPrefix())
}

func (o Output) draftPrefix() string {
	return fmt.Sprintf("%s/_note-part-%s-", folder.NotesName, o.Job)
}

func (o Output) probePrefix() string { return fmt.Sprintf("_probe-%s-", o.Job) }

var attemptPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// inside tells whether uri is place or below it; settings do not count.
func inside(uri, place string) bool {
	uri, _, _ = strings.Cut(uri, "?")
	return uri == place || strings.HasPrefix(uri, place+"/")
}

// Conflicts refuses to overwrite a folder that holds what the same job reads, which would be gone when the job is run again, and to append
// to one of the job's inputs. The paths are absolute or URIs; what says what they are, such as "input" or "model".
func (o Output) Conflicts(what string, paths []string) error {
	var refuse string
	switch {
	case o.Mode == folder.ModeOverwrite:
		refuse = "mode overwrite would delete the job's own %s %s"
	case o.Mode == folder.ModeAppend && what == "input":
		refuse = "mode append would add the output to the job's own %s %s"
	default:
		return nil
	}
	for _, path := range paths {
		if inside(path, o.URI) {
			return engine.Errorf(engine.KindConflict, op, o.URI, refuse, what, path).WithHint("write to another prefix")
		}
	}
	return nil
}

// maxSmallBytes bounds what is read of objects of ours that are small: _SUCCESS with a line of a few hundred bytes for each of at most a
// million parts, and notes.
const maxSmallBytes = 1 << 30

// read returns the content of an object.
func read(ctx context.Context, b blob.Bucket, key string) ([]byte, error) {
	r, info, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // all that is wanted has been read
	if info.SizeBytes > maxSmallBytes {
		return nil, engine.Errorf(engine.KindCorrupt, op, b.URI()+"/"+key, "has %d bytes: it was not written by the engine", info.SizeBytes)
	}
	return io.ReadAll(r)
}

// success reads _SUCCESS. Without one the error is of kind engine.KindNotFound; one that the engine did not write is of kind
// engine.KindCorrupt.
func (o Output) success(ctx context.Context, b blob.Bucket) (s folder.Success, err error) {
	content, err := read(ctx, b, folder.SuccessName)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil || s.Job == "" {
		return s, engine.Errorf(engine.KindCorrupt, op, o.PartPath(folder.SuccessName), "was not written by the engine")
	}
	return s, nil
}

// completed tells whether all of this job's output is there.
func (o Output) completed(ctx context.Context, b blob.Bucket) (bool, error) {
	success, err := o.success(ctx, b)
	switch {
	case err == nil:
		return success.Job == o.Job, nil
	case engine.KindOf(err) == engine.KindNotFound, engine.KindOf(err) == engine.KindCorrupt:
		return false, nil
	default:
		return false, err
	}
}
