package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// Check tells, without changing anything, whether the job may write: the folder must be one or not exist, it or the nearest folder
// above it must be writable, in ModeError it must hold nothing but files of this job and names that begin with a dot, and in
// ModeOverwrite nothing that would be missed: see strangers. What it must not hold is refused with an error of kind
// engine.KindConflict that names the files or the job which wrote them.
func (o Output) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := os.Stat(o.Folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o.checkParents()
	case err != nil:
		return classify(o.Folder, err)
	case !info.IsDir():
		return engine.Errorf(engine.KindConflict, op, o.Folder, "is a file, not a folder")
	}
	if o.Mode == ModeOverwrite {
		parent := filepath.Dir(o.Folder)
		if mounted, err := mountPoint(o.Folder, parent); err != nil {
			return classify(o.Folder, err)
		} else if mounted {
			return engine.Errorf(engine.KindInvalidArgument, op, o.Folder, "is a mount point, which cannot be replaced as a whole").
				WithHint("name a folder inside it")
		}
		if err := checkWritable(parent); err != nil {
			return err
		}
		return o.checkReplaceable(ctx)
	}
	if err := checkWritable(o.Folder); err != nil {
		return err
	}
	if o.Mode == ModeError {
		return o.checkContent(ctx)
	}
	return o.checkUnclaimed(false)
}

func (o Output) checkParents() error {
	for parent := filepath.Dir(o.Folder); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent):
			continue
		case err != nil:
			return classify(parent, err)
		case !info.IsDir():
			return engine.Errorf(engine.KindConflict, op, o.Folder, "cannot be made: %s is a file, not a folder", parent)
		}
		return checkWritable(parent)
	}
}

func checkWritable(folder string) error {
	if err := writable(folder); err != nil {
		return classify(folder, fmt.Errorf("cannot be written to: %w", err))
	}
	return nil
}

// checkContent refuses what is not this job's.
func (o Output) checkContent(ctx context.Context) error {
	names, err := walk(ctx, o.Folder)
	if err != nil {
		return err
	}
	var foreign []string
	for _, name := range names {
		if !strings.HasPrefix(name, ".") && name != SuccessName && name != NotesName && !o.ownPart(name) && !o.scratch(name) && !strings.HasPrefix(name, probePrefix) {
			foreign = append(foreign, name)
		}
	}
	success, err := ReadSuccess(o.Folder)
	finished := err == nil
	if len(foreign) == 0 && (!finished || success.Job == o.Job) && (finished || errors.Is(err, fs.ErrNotExist)) {
		return o.checkUnclaimed(true)
	}
	modes := "mode: append adds to it"
	if others, err := strangers(ctx, o.Folder); err == nil && len(others) == 0 {
		modes = "mode: overwrite replaces the folder, " + modes
	}
	return o.refuseContent(foreign, success, finished, modes)
}

// refuseContent says who wrote the folder and what can be done: modes are those that may be used.
func (o Output) refuseContent(foreign []string, success Success, finished bool, modes string) error {
	conflict := func(format string, args ...any) *engine.Error {
		return engine.Errorf(engine.KindConflict, op, o.Folder, format, args...)
	}
	if finished && success.Job != o.Job {
		return conflict("holds %d rows in %d files, written by job %s", success.Rows, len(success.Parts), success.Job).WithHint("%s", modes)
	}
	for _, name := range foreign {
		if job := jobOfPart(path.Base(name)); job != "" {
			return conflict("holds files of job %s, which has not finished", job).
				WithHint("engine job resume %s continues that job; %s", job, modes)
		}
	}
	if !slices.ContainsFunc(foreign, func(name string) bool { return jobOfStaging(name) == "" }) && len(foreign) > 0 {
		job := jobOfStaging(foreign[0])
		return conflict("holds no data, but unfinished files of job %s, which runs or was cut off: %s", job, list(foreign)).
			WithHint("wait for that job, or continue it with engine job resume %s; if it is gone, delete these files", job)
	}
	if len(foreign) == 0 {
		foreign = []string{SuccessName}
	}
	return conflict("is not empty: it holds %s", list(foreign)).WithHint("%s", modes)
}

// shownNames is how many names an error shows.
const shownNames = 3

// list shows the first names.
func list(names []string) string {
	if n := len(names); n > shownNames {
		return fmt.Sprintf("%s, and %d more", strings.Join(names[:shownNames], ", "), n-shownNames)
	}
	return strings.Join(names, ", ")
}
