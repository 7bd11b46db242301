package folder

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// InputsRecord is the kind of the record of a job that has read files and completed its output: what _SUCCESS says, and the files. It is
// there before _SUCCESS is, and stays when later jobs add to the folder.
const InputsRecord = "inputs"

// Input is a file that a job has read.
type Input struct {
	// Path is absolute, or a URI.
	Path string `json:"path"`
	// SizeBytes is its length, ModifiedUnixNanos when it was last modified.
	SizeBytes         int64 `json:"size_bytes"`
	ModifiedUnixNanos int64 `json:"modified_unix_nanos"`
	// ETag identifies the content of what is in a bucket.
	ETag string `json:"etag,omitempty"`
}

// Finished is a job that has completed its output in a folder.
type Finished struct {
	Success
	// Inputs are the files that it has read, in order.
	Inputs []Input `json:"inputs"`
}

// History is what a folder says of the jobs that wrote what it holds.
type History struct {
	// Finished are the jobs that completed their output here, in order of their ids, with what they read. Those of the rows that a later
	// job has replaced are gone.
	Finished []Finished
	// Unrecorded are other jobs of which parts are here: they have not finished, or kept no list of their inputs.
	Unrecorded []engine.JobID
	// Success is the job that _SUCCESS names: the folder is what that one made, and what was there before if it appended. Empty if there is
	// no _SUCCESS.
	Success engine.JobID
}

// Ledger is a Place that knows which jobs have written to it, and from what.
type Ledger interface {
	// Claim makes the job the only one that may write to the place until Complete or Abandon.
	Claim(ctx context.Context) error
	// CheckClaim refuses a place that another job has claimed, as Claim would.
	CheckClaim(ctx context.Context) error
	// History reads what the place says of earlier jobs.
	History(ctx context.Context) (History, error)
	// Missing returns the first of a finished job's parts that is not there any more as it was; empty if all are.
	Missing(ctx context.Context, parts []Part) (string, error)
	// Discard deletes what the job has written that did not complete.
	Discard(ctx context.Context, published bool) error
}

var _ Ledger = Output{}

// History reads what the folder that the user named says of the jobs that wrote to it. A folder that does not exist says nothing. A record
// that cannot be read is an error of kind engine.KindCorrupt.
func (o Output) History(ctx context.Context) (History, error) {
	var history History
	names, err := walk(ctx, o.Folder)
	if err != nil {
		return history, err
	}
	wrote := map[engine.JobID]bool{}
	for _, name := range names {
		if job := jobOfPart(path.Base(name)); job != "" {
			wrote[job] = true
		}
	}
	folder := filepath.Join(o.Folder, NotesName)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return history, classify(folder, err)
	}
	for _, entry := range entries {
		rest, is := strings.CutPrefix(entry.Name(), InputsRecord+"-")
		job, whole := strings.CutSuffix(rest, ".json")
		if !is || !whole {
			continue
		}
		if err := ctx.Err(); err != nil {
			return history, err
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // It has been deleted meanwhile, so that its inputs are read again.
		}
		if err != nil {
			return history, classify(filepath.Join(folder, entry.Name()), err)
		}
		finished, err := ReadFinished(content)
		if err != nil || string(finished.Job) != job {
			return history, engine.Errorf(engine.KindCorrupt, op, filepath.Join(folder, entry.Name()), "was not written by the engine")
		}
		history.Finished = append(history.Finished, finished)
		delete(wrote, finished.Job)
	}
	history.Unrecorded = slices.Sorted(maps.Keys(wrote))
	success, err := ReadSuccess(o.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && engine.KindOf(err) != engine.KindCorrupt {
		return history, err
	}
	history.Success = success.Job
	return history, nil
}

// Missing looks at the lengths of a finished job's parts, in the folder that the user named, and returns the path of the first that is not
// there or has another; empty if all are as they were.
func (o Output) Missing(ctx context.Context, parts []Part) (string, error) {
	for _, part := range parts {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		path := filepath.Join(o.Folder, filepath.FromSlash(part.Name))
		info, err := os.Lstat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", classify(path, err)
		}
		if there := err == nil; !there || info.Size() != part.SizeBytes {
			return path, nil
		}
	}
	return "", nil
}

// ReadFinished reads a record of kind InputsRecord. Its error is of kind engine.KindCorrupt.
func ReadFinished(content []byte) (Finished, error) {
	var f Finished
	if err := json.Unmarshal(content, &f); err != nil || f.Job == "" {
		return Finished{}, engine.Errorf(engine.KindCorrupt, op, InputsRecord, "was not written by the engine")
	}
	return f, nil
}

// recordInputs keeps what the job has read, unless nothing is said of that.
func (o Output) recordInputs(ctx context.Context, success Success) error {
	if success.Inputs == nil {
		return nil
	}
	content, err := json.Marshal(Finished{Success: success, Inputs: success.Inputs})
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, o.Folder, "record inputs: %w", err)
	}
	_, err = o.PutRecord(ctx, RecordName(InputsRecord, o.Job, -1), randomName(), append(content, '\n'))
	return err
}

// Discard deletes what a job that did not succeed has left: the hidden folder of ModeOverwrite with all that it holds, and otherwise what
// nobody sees. With published, the parts that it has published go too, and what was kept beside them. The job must not run, and cannot be
// resumed then. Nothing of a job that has completed its output is deleted.
func (o Output) Discard(ctx context.Context, published bool) error {
	done, err := o.completed()
	if err != nil {
		return err
	}
	if done {
		return o.cleanUp(ctx)
	}
	if o.Mode == ModeOverwrite {
		if err := os.RemoveAll(o.WorkFolder); err != nil {
			return classify(o.WorkFolder, err)
		}
		return o.removeProbes()
	}
	if err := o.unclaim(); err != nil {
		return err
	}
	if _, err := o.Record(ctx, RecordName(InputsRecord, o.Job, -1)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err // It has completed its output, and another one has added to it since.
	}
	if published {
		if err := o.removeParts(ctx); err != nil {
			return err
		}
	}
	return o.removeScratch(ctx)
}

// removeParts deletes the job's parts, then its records, and folders key=value that are empty then.
func (o Output) removeParts(ctx context.Context) error {
	names, err := walk(ctx, o.Folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !o.ownPart(name) {
			continue
		}
		if err := removeIfThere(o.PartPath(name)); err != nil {
			return err
		}
		if err := removeIfThere(o.notePath(name)); err != nil {
			return err
		}
		for inner := path.Dir(name); inner != "."; inner = path.Dir(inner) {
			if err := os.Remove(o.PartPath(inner)); err != nil {
				break // Others have files there.
			}
		}
	}
	folder := filepath.Join(o.Folder, NotesName)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(folder, err)
	}
	for _, entry := range entries {
		if o.ownRecord(entry.Name()) {
			if err := removeIfThere(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(o.Folder); err != nil {
		return nil //nolint:nilerr // There is nothing to make durable.
	}
	return syncFolder(o.Folder)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(path, err)
	}
	return nil
}
