package bucket

import (
	"context"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
)

var _ folder.Ledger = Output{}

// claimKey is the object that names the one job which may write below URI: from Prepare in ModeError and ModeOverwrite, which deletes
// what others write, or from Claim, until the job's end.
const claimKey = folder.NotesName + "/claim.json"

// claim is its content.
type claim struct {
	Job  engine.JobID `json:"job"`
	Mode folder.Mode  `json:"mode"`
}

// claimTries is how often a claim is tried that others make and remove at the same time.
const claimTries = 10

// Claim makes the job the only one that may write below URI until Complete or Abandon, unless another one is: that is an error of kind
// engine.KindConflict that names it. Jobs that merely add objects do not ask, and are refused while a job that does not want others beside
// it has the place.
func (o Output) Claim(ctx context.Context) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	return o.claim(ctx, b)
}

func (o Output) claim(ctx context.Context, b blob.Bucket) error {
	content, err := json.Marshal(claim{Job: o.Job, Mode: o.Mode})
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, o.URI, "claim: %w", err)
	}
	for try := 0; ; try++ {
		claimed, err := o.checkClaim(ctx, b, true)
		if err != nil || claimed {
			return err
		}
		err = put(ctx, b, claimKey, append(content, '\n'), blob.PutOptions{IfAbsent: true})
		if engine.KindOf(err) != engine.KindConflict || err == nil || try == claimTries {
			return err
		}
	}
}

// CheckClaim implements folder.Ledger.
func (o Output) CheckClaim(ctx context.Context) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	_, err = o.checkClaim(ctx, b, true)
	return err
}

// checkClaim refuses a place that another job has claimed. alone says that this job wants it for itself; otherwise only the claim of a
// job that does not want others beside it counts. claimed says that there is a claim.
func (o Output) checkClaim(ctx context.Context, b blob.Bucket, alone bool) (claimed bool, err error) {
	c, err := o.readClaim(ctx, b)
	switch {
	case engine.KindOf(err) == engine.KindNotFound:
		return false, nil
	case err != nil:
		return false, err
	case c.Job == o.Job, !alone && c.Mode == folder.ModeAppend:
		return true, nil
	}
	return true, engine.Errorf(engine.KindConflict, op, o.URI, "job %s writes to it, or was cut off", c.Job).
		WithHint("wait for that job, or continue it with engine job resume %s; if it is gone for good, delete %s", c.Job, o.PartPath(claimKey))
}

func (o Output) readClaim(ctx context.Context, b blob.Bucket) (c claim, err error) {
	content, err := read(ctx, b, claimKey)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(content, &c); err != nil || c.Job == "" {
		return c, engine.Errorf(engine.KindCorrupt, op, o.PartPath(claimKey), "was not written by the engine")
	}
	return c, nil
}

// unclaim removes the job's own claim, which nobody else does.
func (o Output) unclaim(ctx context.Context, b blob.Bucket) error {
	c, err := o.readClaim(ctx, b)
	if kind := engine.KindOf(err); kind == engine.KindNotFound || kind == engine.KindCorrupt || err == nil && c.Job != o.Job {
		return nil
	}
	if err != nil {
		return err
	}
	return b.Delete(ctx, claimKey)
}

// recordInputs keeps what the job has read, unless nothing is said of that.
func (o Output) recordInputs(ctx context.Context, b blob.Bucket, success folder.Success) error {
	if success.Inputs == nil {
		return nil
	}
	content, err := json.Marshal(folder.Finished{Success: success, Inputs: success.Inputs})
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, o.URI, "record inputs: %w", err)
	}
	err = put(ctx, b, recordKey(folder.RecordName(folder.InputsRecord, o.Job, -1)), append(content, '\n'), blob.PutOptions{IfAbsent: true})
	if engine.KindOf(err) == engine.KindConflict {
		return nil // An earlier try did that.
	}
	return err
}

// History reads what the place says of the jobs that wrote to it. A record that cannot be read is an error of kind engine.KindCorrupt.
func (o Output) History(ctx context.Context) (history folder.History, err error) {
	b, err := o.open(ctx)
	if err != nil {
		return history, err
	}
	wrote := map[engine.JobID]bool{}
	var records []string
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return history, err
		}
		switch note := path.Base(info.Key); {
		case !isNote(info.Key):
			if job := folder.JobOf(info.Key); job != "" {
				wrote[job] = true
			}
		case strings.HasPrefix(note, folder.InputsRecord+"-") && strings.HasSuffix(note, ".json"):
			records = append(records, info.Key)
		}
	}
	for _, key := range records {
		content, err := read(ctx, b, key)
		if engine.KindOf(err) == engine.KindNotFound {
			continue // It has been deleted meanwhile, so that its inputs are read again.
		}
		if err != nil {
			return history, err
		}
		finished, err := folder.ReadFinished(content)
		if err != nil || key != recordKey(folder.RecordName(folder.InputsRecord, finished.Job, -1)) {
			return history, engine.Errorf(engine.KindCorrupt, op, o.PartPath(key), "was not written by the engine")
		}
		history.Finished = append(history.Finished, finished)
		delete(wrote, finished.Job)
	}
	history.Unrecorded = slices.Sorted(maps.Keys(wrote))
	success, err := o.success(ctx, b)
	if kind := engine.KindOf(err); err != nil && kind != engine.KindNotFound && kind != engine.KindCorrupt {
		return history, err
	}
	history.Success = success.Job
	return history, nil
}

// Missing looks at the lengths of a finished job's parts and returns the URI of the first that is not there or has another; empty if all
// are as they were.
func (o Output) Missing(ctx context.Context, parts []folder.Part) (string, error) {
	b, err := o.open(ctx)
	if err != nil {
		return "", err
	}
	sizes := map[string]int64{}
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return "", err
		}
		sizes[info.Key] = info.SizeBytes
	}
	for _, part := range parts {
		if size, there := sizes[part.Name]; !there || size != part.SizeBytes {
			return o.PartPath(part.Name), nil
		}
	}
	return "", nil
}

// Discard deletes what a job that did not succeed has left that nobody sees. With published, or in ModeOverwrite, the parts that it has
// published go too, and what was kept beside them. The job must not run, and cannot be resumed then. Nothing of a job that has completed
// its output is deleted.
func (o Output) Discard(ctx context.Context, published bool) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	if done, err := o.completed(ctx, b); err != nil || done {
		return err
	}
	if err := o.unclaim(ctx, b); err != nil {
		return err
	}
	_, err = b.Stat(ctx, recordKey(folder.RecordName(folder.InputsRecord, o.Job, -1)))
	if engine.KindOf(err) != engine.KindNotFound || err == nil {
		return err // It has completed its output, and another one has added to it since.
	}
	if err := o.sweep(ctx, b); err != nil || !published && o.Mode != folder.ModeOverwrite {
		return err
	}
	var parts, notes []string
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return err
		}
		switch {
		case o.ownPart(info.Key):
			parts = append(parts, info.Key)
		case o.own(info.Key):
			notes = append(notes, info.Key)
		}
	}
	// A note without its part does no harm; a part without its note could not be told from damage.
	if err := deleteAll(ctx, b, parts); err != nil {
		return err
	}
	return deleteAll(ctx, b, notes)
}
