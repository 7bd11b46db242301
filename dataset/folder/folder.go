// Package folder writes output folders on file systems so that a reader who knows nothing of the engine sees every committed row
// once at every moment, also after a crash.
//
// A part is written under a staging name, which readers skip, and appears whole at its final name by one link(2), which fails if
// the name is taken. _SUCCESS is written last and alone says that all is there. In mode overwrite all of this happens in a hidden
// sibling of the folder, which takes the folder's place by one exchange at the end. What is done can be told from the file system
// alone, so every step may be repeated after a crash.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/f708428e/engine"
)

const op = "output folder"

// SuccessName is the name of the file that says that a folder is complete.
const SuccessName = "_SUCCESS"

const stagingPrefix = "_staging-"

// Mode is what happens if the folder holds data.
type Mode string

// The modes.
const (
	// ModeError refuses a folder that holds data.
	ModeError Mode = "error"
	// ModeOverwrite replaces the folder as a whole when the job succeeds. A folder that holds more than a table's files is refused.
	ModeOverwrite Mode = "overwrite"
	// ModeAppend adds files.
	ModeAppend Mode = "append"
)

// ParseMode returns the mode of a name; the empty name is ModeError.
func ParseMode(name string) (Mode, error) {
	switch mode := Mode(name); mode {
	case "":
		return ModeError, nil
	case ModeError, ModeOverwrite, ModeAppend:
		return mode, nil
	}
	return "", engine.Errorf(engine.KindInvalidArgument, op, "mode", "%q is not a mode: use error, overwrite, or append", name)
}

// Output is the output of one job. Its methods may be called from any process that sees the folder, in the order Check, Prepare,
// Create for every part, Complete, and each again after a crash. All of them block on the file system. An Output is a value
// without state, safe for concurrent use.
type Output struct {
	// Folder is what the user named, absolute.
	Folder string
	// WorkFolder is where the files are written: Folder itself, or for ModeOverwrite its hidden sibling.
	WorkFolder string
	// Mode is what happens if Folder holds data.
	Mode Mode
	// Job is part of the names of all files.
	Job engine.JobID
}

var jobPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// New returns the output of a job. The folder's path must be absolute; a symbolic link that is to be overwritten is followed, so
// that the link stays. The root and, for ModeOverwrite, the user's home folder and those that contain it are refused.
func New(folder string, mode Mode, job engine.JobID) (Output, error) {
	refuse := func(format string, args ...any) (Output, error) {
		return Output{}, engine.Errorf(engine.KindInvalidArgument, op, folder, format, args...)
	}
	switch {
	case !filepath.IsAbs(folder):
		return refuse("is not an absolute path")
	case !jobPattern.MatchString(string(job)):
		return refuse("%q is not a job id", job)
	}
	if _, err := ParseMode(string(mode)); err != nil || mode == "" {
		return refuse("%q is not a mode", mode)
	}
	o := Output{Folder: filepath.Clean(folder), Mode: mode, Job: job}
	if mode == ModeOverwrite {
		if info, err := os.Lstat(o.Folder); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			target, err := filepath.EvalSymlinks(o.Folder)
			if err != nil {
				return Output{}, classify(o.Folder, err)
			}
			o.Folder = target
		}
		if home, err := os.UserHomeDir(); err == nil && within(home, o.Folder) {
			return refuse("is the home folder or contains it and will not be overwritten")
		}
	}
	if filepath.Dir(o.Folder) == o.Folder {
		return refuse("is the root of a file system")
	}
	o.WorkFolder = o.Folder
	if mode == ModeOverwrite {
		o.WorkFolder = filepath.Join(filepath.Dir(o.Folder), fmt.Sprintf(".%s.engine-%s", filepath.Base(o.Folder), job))
	}
	return o, nil
}

// PartName is the name of a job's part: "part-20261123-142330-7f3k2m9q-000004.parquet". The extension has its dot.
func PartName(job engine.JobID, sequence int, extension string) string {
	return fmt.Sprintf("part-%s-%06d%s", job, sequence, extension)
}

// RolledPartName is the name of one of several parts of a job's task that follow each other, counted from 0:
// "part-20261123-142330-7f3k2m9q-000004-c000000.parquet".
func RolledPartName(job engine.JobID, sequence, number int, extension string) string {
	return PartName(job, sequence, fmt.Sprintf("-c%06d%s", number, extension))
}

// PartPath is where a part of this job is until Complete.
func (o Output) PartPath(part string) string {
	return filepath.Join(o.WorkFolder, filepath.FromSlash(part))
}

// Target implements Place.
func (o Output) Target() string { return o.Folder }

// WriteMode implements Place.
func (o Output) WriteMode() Mode { return o.Mode }

// Work implements Place.
func (o Output) Work() string { return o.WorkFolder }

func (o Output) partPrefix() string { return "part-" + string(o.Job) + "-" }

var (
	partPattern  = regexp.MustCompile(`^part-([a-z0-9-]+)-[0-9]{6,}(?:-c[0-9]{6,})?\.[A-Za-z0-9.]+$`)
	tokenPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// jobOfPart returns the job that a part's name tells, or "".
func jobOfPart(name string) engine.JobID {
	if m := partPattern.FindStringSubmatch(name); m != nil {
		return engine.JobID(m[1])
	}
	return ""
}

// ownPart tells whether a name is that of a part of this job, perhaps in folders key=value.
func (o Output) ownPart(name string) bool {
	folders, base := path.Split(name)
	for folder := range strings.SplitSeq(strings.TrimSuffix(folders, "/"), "/") {
		if folders != "" && !partitionFolder(folder) {
			return false
		}
	}
	return jobOfPart(base) == o.Job
}

// partitionFolder tells whether the name of a folder is one of partition_by: key=value.
func partitionFolder(name string) bool {
	return strings.Index(name, "=") > 0 && name[0] != '_' && name[0] != '.' && !strings.ContainsAny(name, `/\`)
}

// walk lists what is in a folder and in its folders key=value, by names relative to it, with slashes. A folder that does not exist holds
// nothing.
func walk(ctx context.Context, root string) ([]string, error) {
	var names []string
	var enter func(relative string) error
	enter = func(relative string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		folder := filepath.Join(root, filepath.FromSlash(relative))
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return classify(folder, err)
		}
		for _, entry := range entries {
			name := path.Join(relative, entry.Name())
			if entry.IsDir() && partitionFolder(entry.Name()) {
				if err := enter(name); err != nil {
					return err
				}
				continue
			}
			names = append(names, name)
		}
		return nil
	}
	err := enter("")
	return names, err
}

// scratch tells whether a name is that of a file of this job that no reader looks at and that may be deleted at any time.
func (o Output) scratch(name string) bool {
	return strings.HasPrefix(name, stagingPrefix+o.partPrefix()) || strings.HasPrefix(name, o.probePrefix()) || name == o.successDraft()
}

// probePrefix begins the names of files by which a job tries out a folder. They are gone at once, and say nothing of who has it.
const probePrefix = "_probe-"

func (o Output) probePrefix() string  { return probePrefix + string(o.Job) + "-" }
func (o Output) successDraft() string { return SuccessName + "-" + string(o.Job) + ".tmp" }

// within tells whether path is folder or below it. Both are clean and absolute.
func within(path, folder string) bool {
	relative, err := filepath.Rel(folder, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}

// Conflicts refuses to overwrite a folder that holds what the same job reads, which would be gone when the job is run again, and to append
// to one of the job's inputs. The paths are absolute, of files or folders; what says what they are, such as "input" or "model".
func (o Output) Conflicts(what string, paths []string) error {
	var refuse string
	switch {
	case o.Mode == ModeOverwrite:
		refuse = "mode overwrite would delete the job's own %s %s"
	case o.Mode == ModeAppend && what == "input":
		refuse = "mode append would add the output to the job's own %s %s"
	default:
		return nil
	}
	folder := resolve(o.Folder)
	for _, path := range paths {
		if within(filepath.Clean(path), o.Folder) || within(resolve(path), folder) {
			return engine.Errorf(engine.KindConflict, op, o.Folder, refuse, what, path).WithHint("write to another folder")
		}
	}
	return nil
}

// resolve follows symbolic links as far as the path exists.
func resolve(path string) string {
	path = filepath.Clean(path)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(resolve(parent), filepath.Base(path))
	}
	return path
}

// classify makes an engine.Error of one of the operating system, which names the path.
func classify(path string, err error) error {
	var known *engine.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var pathError *fs.PathError
	var linkError *os.LinkError
	cause := err
	switch {
	case errors.As(err, &pathError):
		cause = pathError.Err
	case errors.As(err, &linkError):
		cause = linkError.Err
	}
	switch kind := errorKind(err); kind {
	case engine.KindExhausted:
		return engine.Errorf(kind, op, path, "no space left: %w", cause).WithHint("free space and resume the job")
	default:
		return engine.Errorf(kind, op, path, "%w", cause)
	}
}
