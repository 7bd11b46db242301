package folder

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// claimName is the file in NotesName that names the one job which may write to the folder. It stands from Prepare in ModeError, or from
// Claim, until the job's end; a crash leaves it, and the job finds it again.
const claimName = "claim.json"

// claim is its content.
type claim struct {
	Job  engine.JobID `json:"job"`
	Mode Mode         `json:"mode"`
}

func (o Output) claimPath() string { return filepath.Join(o.Folder, NotesName, claimName) }

// Claim makes the job the only one that may write to the folder until Complete or Abandon, unless another one is: that is an error of kind
// engine.KindConflict that names it. Jobs that merely add files do not ask, and are refused while a job of ModeError has the folder. A
// claim guards against jobs that run at the same time and need not outlive the machine.
func (o Output) Claim(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := o.claimPath()
	for try := 0; ; try++ {
		err := o.checkClaim(true)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = o.putClaim(path)
		switch {
		case err == nil:
			return nil
		case try == noteTries, !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist):
			return classify(path, err)
		}
		// Another job was quicker, or has found the folder of notes empty and deleted it.
	}
}

func (o Output) putClaim(path string) (err error) {
	content, err := json.Marshal(claim{Job: o.Job, Mode: o.Mode})
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, path, "claim: %w", err)
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	draft := filepath.Join(filepath.Dir(path), notePrefix+RecordName("claim", o.Job, -1)+"-"+randomName()+".tmp")
	if err := os.WriteFile(draft, append(content, '\n'), 0o666); err != nil { //nolint:gosec // As all files of an output.
		return err
	}
	defer func() {
		if e := os.Remove(draft); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = classify(draft, e)
		}
	}()
	failpoint.Hit(failpoint.FolderClaiming)
	return putIfAbsent(draft, path)
}

// checkClaim refuses a folder that another job has claimed. alone says that this job wants it for itself; otherwise only the claim of a
// job that does not want others beside it counts. Without a claim the error is fs.ErrNotExist.
func (o Output) checkClaim(alone bool) error {
	path := o.claimPath()
	c, err := readClaim(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case err != nil:
		return err
	case c.Job == o.Job, !alone && c.Mode == ModeAppend:
		return nil
	}
	return engine.Errorf(engine.KindConflict, op, o.Folder, "job %s writes to it, or was cut off", c.Job).
		WithHint("wait for that job, or continue it with engine job resume %s; if it is gone for good, delete %s", c.Job, path)
}

func readClaim(path string) (claim, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return claim{}, classifyUnlessMissing(path, err)
	}
	var c claim
	if err := json.Unmarshal(content, &c); err != nil || c.Job == "" {
		return claim{}, engine.Errorf(engine.KindCorrupt, op, path, "was not written by the engine")
	}
	return c, nil
}

// CheckClaim implements Ledger.
func (o Output) CheckClaim(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.checkUnclaimed(true)
}

// checkUnclaimed is checkClaim for those that do not claim the folder now.
func (o Output) checkUnclaimed(alone bool) error {
	if err := o.checkClaim(alone); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unclaim removes the job's own claim, which nobody else does.
func (o Output) unclaim() error {
	path := o.claimPath()
	c, err := readClaim(path)
	if errors.Is(err, fs.ErrNotExist) || engine.KindOf(err) == engine.KindCorrupt || err == nil && c.Job != o.Job {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(path, err)
	}
	failpoint.Hit(failpoint.FolderUnclaimed)
	return nil
}
