package jobplan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// InputChanges is how the files that a job's source means now differ from those of its plan.
type InputChanges struct {
	// Added are not in the plan.
	Added []dataset.File
	// Removed are gone, and rows of them are yet to be read.
	Removed []dataset.File
	// Changed have another length, or another ETag or time of modification.
	Changed []InputChange
	// Done counts those that are gone, but of which every row is committed.
	Done int
}

// InputChange is a file as the plan has it, and as it is now.
type InputChange struct{ Before, Now dataset.File }

// CompareInputs lists what a planned job's source means now, and compares that with the plan; no file is opened. done tells which tasks
// are committed: what only they have read may be gone. A job that leaves out what earlier jobs have read leaves what was added to later
// ones. Objects never change, so there is nothing to compare; whether they are still there is not looked at. allowed is that of Options.
func CompareInputs(ctx context.Context, storage Storage, allowed Places, spec *enginev1.JobSpec, plan *enginev1.Plan, onlyNew bool, done func(task int) bool) (InputChanges, error) {
	var changes InputChanges
	field, entries := sourcePaths(spec)
	if field == "" {
		return changes, nil
	}
	needed := make([]bool, len(plan.GetInputs()))
	for i, task := range plan.GetTasks() {
		if !done(i) {
			for _, split := range task.GetSplits() {
				needed[split.GetInput()] = true
			}
		}
	}
	now := map[inputName]dataset.File{}
	var listed []dataset.File
	for i, entry := range entries {
		files, err := listAny(ctx, inputPlaces{storage: SourceStorage(spec, storage), allowed: allowed}, indexed(field, i), entry)
		if err != nil && engine.KindOf(err) != engine.KindNotFound {
			return changes, err
		}
		slices.SortFunc(files, func(a, b dataset.File) int { return strings.Compare(a.Path, b.Path) })
		for _, f := range files {
			if _, twice := now[nameOf(f)]; !twice {
				listed = append(listed, f)
			}
			now[nameOf(f)] = f
		}
	}
	for i, input := range plan.GetInputs() {
		before := fileOf(input)
		found, ok := now[nameOf(before)]
		delete(now, nameOf(before))
		switch {
		case !ok && needed[i]:
			changes.Removed = append(changes.Removed, before)
		case !ok:
			changes.Done++
		case !sameInput(before, found):
			changes.Changed = append(changes.Changed, InputChange{Before: before, Now: found})
		}
	}
	for _, f := range listed {
		if _, added := now[nameOf(f)]; added && !onlyNew && !inOutput(plan, f.Path) {
			changes.Added = append(changes.Added, f)
		}
	}
	return changes, nil
}

// CheckInputs looks at every file of a plan by itself, before tasks that read them run again. The error, of kind engine.KindConflict, names
// those that are gone or have changed. No file is opened, objects never change, and of a
// database nobody knows.
func CheckInputs(ctx context.Context, storage Storage, spec *enginev1.JobSpec, plan *enginev1.Plan) error {
	var changes InputChanges
	for _, input := range plan.GetInputs() {
		if len(input.GetObjectId()) > 0 || isPostgres(input.GetPath()) {
			continue
		}
		before := fileOf(input)
		entry := before.Path
		if before.Settings != "" {
			entry += "?" + before.Settings
		}
		// The plan has what was allowed alone, and it is looked at again when it is opened.
		files, err := listAny(ctx, inputPlaces{storage: SourceStorage(spec, storage)}, "", entry)
		switch {
		case engine.KindOf(err) == engine.KindNotFound && err != nil, err == nil && (len(files) != 1 || files[0].Path != before.Path):
			changes.Removed = append(changes.Removed, before)
		case err != nil:
			return err
		case !sameInput(before, files[0]):
			changes.Changed = append(changes.Changed, InputChange{Before: before, Now: files[0]})
		}
	}
	if err := Changed("check inputs", "", "inputs have changed since the job was planned:", changes.Lines()); err != nil {
		return err.WithHint("put the old files back, or submit the job again under another id")
	}
	return nil
}

// inOutput tells whether a file lies where the job itself writes, which is empty when a job is planned that may read from there.
func inOutput(plan *enginev1.Plan, path string) bool {
	for _, output := range append(plan.GetFurtherOutputs(), plan.GetOutput()) {
		if folder := strings.TrimSuffix(output.GetFolder(), "/"); folder != "" && strings.HasPrefix(path, folder+"/") {
			return true
		}
	}
	return false
}

// fileOf is an input of a plan as it was listed.
func fileOf(input *enginev1.InputFile) dataset.File { return SplitOf(input, nil).File }

// sameInput tells whether two files of one name are the same: by their ETags if both have one, otherwise by their times.
func sameInput(a, b dataset.File) bool {
	if a.SizeBytes != b.SizeBytes {
		return false
	}
	if a.ETag != "" && b.ETag != "" {
		return a.ETag == b.ETag
	}
	return a.ModifiedUnixNanos == b.ModifiedUnixNanos
}

// Lines says what has changed, one line for each file, of each kind the first ten. It is empty if the job can go on.
func (c InputChanges) Lines() []string {
	var lines []string
	for _, kind := range []struct {
		word  string
		files []dataset.File
	}{{"added", c.Added}, {"removed", c.Removed}} {
		for _, f := range kind.files {
			lines = append(lines, fmt.Sprintf("%-8s %s: %d bytes, modified %s", kind.word, f.Path, f.SizeBytes, modified(f)))
		}
		lines = abridge(lines, len(kind.files), kind.word)
	}
	for _, change := range c.Changed {
		lines = append(lines, "changed  "+change.String())
	}
	return abridge(lines, len(c.Changed), "changed")
}

// String names the file and what differs.
func (c InputChange) String() string {
	var differs []string
	if a, b := c.Before.SizeBytes, c.Now.SizeBytes; a != b {
		differs = append(differs, fmt.Sprintf("%d -> %d bytes", a, b))
	}
	if a, b := c.Before.ETag, c.Now.ETag; a != b && a != "" && b != "" {
		differs = append(differs, fmt.Sprintf("ETag %s -> %s", a, b))
	}
	if c.Before.ModifiedUnixNanos != c.Now.ModifiedUnixNanos {
		differs = append(differs, fmt.Sprintf("modified %s -> %s", modified(c.Before), modified(c.Now)))
	}
	return c.Before.Path + ": " + strings.Join(differs, ", ")
}

func modified(f dataset.File) string {
	return time.Unix(0, f.ModifiedUnixNanos).UTC().Format(time.RFC3339Nano)
}

// shownChanges is how many changes of a kind are shown.
const shownChanges = 10

// abridge cuts the last n lines, which are of one kind, to those that are shown.
func abridge(lines []string, n int, kind string) []string {
	if n <= shownChanges {
		return lines
	}
	return append(lines[:len(lines)-n+shownChanges], fmt.Sprintf("%-8s and %d more", kind, n-shownChanges))
}

// CompareModels opens the models of a job's steps, which reads their files, and says how they differ from those of its plan, one line for
// each.
func CompareModels(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan) ([]string, error) {
	models, err := openModels(ctx, spec)
	switch kind := engine.KindOf(err); {
	case err != nil && (kind == engine.KindNotFound || kind == engine.KindModel || kind == engine.KindCorrupt):
		return []string{"changed  " + err.Error()}, nil
	case err != nil:
		return nil, err
	}
	pins := map[int32]*enginev1.ModelPin{}
	for _, pin := range plan.GetModels() {
		pins[pin.GetStep()] = pin
	}
	var lines []string
	for i := range models {
		found := models[i].pin(i)
		if found == nil {
			continue
		}
		if before := pins[found.GetStep()]; before.GetDigest() != found.GetDigest() {
			lines = append(lines, fmt.Sprintf("changed  model of %s, %s: %s -> %s", indexed("steps", i), found.GetPath(), before.GetDigest(), found.GetDigest()))
		}
	}
	return lines, nil
}

// shownLines is how many lines an error has.
const shownLines = 35

// Changed makes one error, of kind engine.KindConflict, of lines that say how something differs; nil if there are none.
func Changed(op, id, what string, lines []string) *engine.Error {
	if len(lines) == 0 {
		return nil
	}
	if n := len(lines); n > shownLines {
		lines = append(slices.Clone(lines[:shownLines]), fmt.Sprintf("and %d more differences", n-shownLines))
	}
	return engine.Errorf(engine.KindConflict, op, id, "%s\n  %s", what, strings.Join(lines, "\n  "))
}
