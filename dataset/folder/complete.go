package folder

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// Complete ends the output: it checks that all parts are there, deletes what attempts left behind, writes _SUCCESS, and for
// ModeOverwrite puts the new folder in the old one's place and deletes that. It may be called again after a crash or an error, and
// then does what is left to do; a _SUCCESS that stands in Folder stays as it is.
//
// A part that is missing or has another size is an error of kind engine.KindCorrupt; a part of this job that is not listed, and
// for ModeError any file that is not this job's, is one of kind engine.KindConflict; so is, for ModeOverwrite, a file that has come
// into the old folder since Check and would be missed.
func (o Output) Complete(ctx context.Context, success Success) error {
	done, err := o.completed()
	if err != nil {
		return err
	}
	if !done {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.finishWork(ctx, success); err != nil {
			return err
		}
		if o.Mode == ModeOverwrite {
			if err := o.checkReplaceable(ctx); err != nil {
				return err
			}
			if err := o.replace(); err != nil {
				return err
			}
		}
	}
	return o.cleanUp(ctx)
}

// completed tells whether the folder that the user named is this job's whole output.
func (o Output) completed() (bool, error) {
	success, err := ReadSuccess(o.Folder)
	switch {
	case err == nil:
		return success.Job == o.Job, nil
	case errors.Is(err, fs.ErrNotExist), engine.KindOf(err) == engine.KindCorrupt:
		return false, nil
	default:
		return false, err
	}
}

// finishWork makes the work folder whole.
func (o Output) finishWork(ctx context.Context, success Success) error {
	if err := o.verify(ctx, success.Parts); err != nil {
		return err
	}
	failpoint.Hit(failpoint.FolderVerified)
	if err := o.removeScratch(ctx); err != nil {
		return err
	}
	failpoint.Hit(failpoint.FolderScratchRemoved)
	success = success.Of(o.Job, time.Now())
	if err := o.recordInputs(ctx, success); err != nil {
		return err
	}
	content, err := json.MarshalIndent(success, "", "  ")
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, o.Folder, "write %s: %w", SuccessName, err)
	}
	draft := filepath.Join(o.WorkFolder, o.successDraft())
	if err := writeSynced(draft, append(content, '\n')); err != nil {
		return classify(draft, err)
	}
	failpoint.Hit(failpoint.FolderSuccessDrafted)
	if err := os.Rename(draft, filepath.Join(o.WorkFolder, SuccessName)); err != nil {
		return classify(draft, err)
	}
	failpoint.Hit(failpoint.FolderSuccessRenamed)
	if err := syncFolder(o.WorkFolder); err != nil {
		return err
	}
	failpoint.Hit(failpoint.FolderSuccessSynced)
	return nil
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		failpoint.Hit(failpoint.FolderSuccessWritten)
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// verify compares the work folder with the list of parts.
func (o Output) verify(ctx context.Context, parts []Part) error {
	if _, err := os.Stat(o.WorkFolder); err != nil {
		return classify(o.WorkFolder, err)
	}
	names, err := walk(ctx, o.WorkFolder)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(parts))
	for _, part := range parts {
		path := o.PartPath(part.Name)
		if listed[part.Name] || !o.ownPart(part.Name) {
			return engine.Errorf(engine.KindInternal, op, path, "is listed twice or is no part of job %s", o.Job)
		}
		listed[part.Name] = true
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return engine.Errorf(engine.KindCorrupt, op, path, "was published and is gone").WithHint("somebody deleted it; run the job again under a new id")
		case err != nil:
			return classify(path, err)
		case !info.Mode().IsRegular() || info.Size() != part.SizeBytes:
			return engine.Errorf(engine.KindCorrupt, op, path, "has %d bytes, published were %d", info.Size(), part.SizeBytes).
				WithHint("somebody changed it; run the job again under a new id")
		}
	}
	var extra []string
	for _, name := range names {
		switch {
		case listed[name] || strings.HasPrefix(name, ".") || o.scratch(name) || name == SuccessName || name == NotesName:
		case o.ownPart(name), o.Mode != ModeAppend:
			extra = append(extra, name)
		}
	}
	if len(extra) > 0 {
		return engine.Errorf(engine.KindConflict, op, o.WorkFolder, "holds files that are not in the job's list of %d parts: %s", len(parts), list(extra)).
			WithHint("move them away and resume the job")
	}
	return nil
}

// replace puts the work folder in the folder's place.
func (o Output) replace() error {
	parent := filepath.Dir(o.Folder)
	old, err := os.Lstat(o.Folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		failpoint.Hit(failpoint.FolderRenaming)
		if err := renameNoReplace(o.WorkFolder, o.Folder); err != nil {
			return classify(o.Folder, err)
		}
	case err != nil:
		return classify(o.Folder, err)
	case !old.IsDir():
		return engine.Errorf(engine.KindConflict, op, o.Folder, "is not a folder any more")
	default:
		if err := os.Chmod(o.WorkFolder, old.Mode().Perm()); err != nil {
			return classify(o.WorkFolder, err)
		}
		failpoint.Hit(failpoint.FolderExchanging)
		if err := exchange(o.WorkFolder, o.Folder); err != nil {
			return classify(o.Folder, err)
		}
	}
	failpoint.Hit(failpoint.FolderReplaced)
	return syncFolder(parent)
}

// cleanUp deletes what is not needed once the output is complete: for ModeOverwrite the old folder, which now has the work
// folder's name.
func (o Output) cleanUp(ctx context.Context) error {
	if o.Mode != ModeOverwrite {
		if err := o.unclaim(); err != nil {
			return err
		}
		return o.removeScratch(ctx)
	}
	if success, err := ReadSuccess(o.WorkFolder); err == nil && success.Job == o.Job {
		return engine.Errorf(engine.KindInternal, op, o.WorkFolder, "two folders claim to be the output of job %s", o.Job)
	}
	failpoint.Hit(failpoint.FolderDeletingOld)
	if err := os.RemoveAll(o.WorkFolder); err != nil {
		return classify(o.WorkFolder, err)
	}
	failpoint.Hit(failpoint.FolderDeletedOld)
	if err := o.removeProbes(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(o.Folder))
}

// Abandon deletes what attempts of this job left under staging names, after it failed or was stopped. Published parts stay, so
// that the job can be resumed, and for ModeOverwrite the folder that the user named is as it was. A work folder of ModeOverwrite
// in which nothing is left is deleted too; Prepare makes it again.
func (o Output) Abandon(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.Mode != ModeOverwrite {
		if err := o.unclaim(); err != nil {
			return err
		}
	}
	if err := o.removeScratch(ctx); err != nil {
		return err
	}
	if err := o.removeProbes(); err != nil || o.Mode != ModeOverwrite {
		return err
	}
	entries, err := os.ReadDir(o.WorkFolder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return classify(o.WorkFolder, err)
	case len(entries) > 0:
		return nil
	}
	if err := os.Remove(o.WorkFolder); err != nil {
		// A late attempt may have put a file there: then the folder stays.
		if left, readErr := os.ReadDir(o.WorkFolder); errors.Is(readErr, fs.ErrNotExist) || len(left) > 0 {
			return nil
		}
		return classify(o.WorkFolder, err)
	}
	return syncFolder(filepath.Dir(o.WorkFolder))
}

// Published lists this job's parts that are at their final names, sorted, with their sizes and without their rows. A folder that
// does not exist has none.
func (o Output) Published(ctx context.Context) ([]Part, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	folder := o.WorkFolder
	if done, err := o.completed(); err != nil {
		return nil, err
	} else if done {
		folder = o.Folder
	}
	names, err := walk(ctx, folder)
	if err != nil {
		return nil, err
	}
	var parts []Part
	for _, name := range names {
		if !o.ownPart(name) {
			continue
		}
		path := filepath.Join(folder, filepath.FromSlash(name))
		info, err := os.Lstat(path)
		if err != nil {
			return nil, classify(path, err)
		}
		parts = append(parts, Part{Name: name, SizeBytes: info.Size()})
	}
	sort.Slice(parts, func(i, j int) bool { return parts[i].Name < parts[j].Name })
	return parts, nil
}
