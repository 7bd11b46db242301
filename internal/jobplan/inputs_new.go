package jobplan

import (
	"context"
	"os"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Known are the inputs that earlier jobs have read, by their paths, as they were then.
type Known map[string]folder.Input

// CheckOnlyNew refuses a job that cannot leave out what earlier jobs have read: it must read files, and append to folders.
func CheckOnlyNew(spec *enginev1.JobSpec) error {
	const field = "only_new"
	if from, _ := sourcePaths(spec); from == "" {
		return invalid(field, "only files can be new: the source has none")
	}
	for _, s := range sinksOf(spec) {
		at, files := fileSinkOf(s.field, s.sink)
		switch {
		case files == nil:
			return invalid(field, "%s does not write a folder, which would tell what earlier jobs have read", s.field)
		case files.GetMode() != string(folder.ModeAppend):
			return invalid(field, "%s.mode must be append: the rows of earlier jobs stay", at)
		}
	}
	return nil
}

// leaveOut returns the files that are not known, and how many are. A file that is known and has changed since is an error of kind
// engine.KindConflict: nobody knows which of its rows are in the output.
func leaveOut(files []dataset.File, known Known) (fresh []dataset.File, left int64, err error) {
	var changes InputChanges
	for _, f := range files {
		before, ok := known[f.Path]
		was := dataset.File{Path: before.Path, SizeBytes: before.SizeBytes, ModifiedUnixNanos: before.ModifiedUnixNanos, ETag: before.ETag}
		switch {
		case !ok:
			fresh = append(fresh, f)
		case sameInput(was, f):
			left++
		default:
			changes.Changed = append(changes.Changed, InputChange{Before: was, Now: f})
		}
	}
	if err := Changed(opList, "", "inputs have changed since an earlier job has read them:", changes.Lines()); err != nil {
		return nil, 0, err.WithHint("their earlier rows are in the output: give new rows a file of their own, or make the output anew without --only-new")
	}
	return fresh, left, nil
}

// findNew is findInputs for a job that may find nothing new: a folder without files, and a glob that matches none, are no errors then.
func findNew(ctx context.Context, spec *enginev1.JobSpec, options Options) (dataset.Source, []dataset.File, error) {
	source, files, err := findInputs(ctx, spec, options)
	if err == nil || engine.KindOf(err) != engine.KindNotFound {
		return source, files, err
	}
	if source, err = newSource(spec, nil, nil, nil); err != nil {
		return nil, nil, err
	}
	field, entries := sourcePaths(spec)
	var some []string
	for i, entry := range entries {
		_, err := listAny(ctx, options.inputPlaces(spec), indexed(field, i), entry)
		switch {
		case err == nil:
			some = append(some, entry)
		case engine.KindOf(err) != engine.KindNotFound || !mayBeEmpty(entry):
			return nil, nil, err
		}
	}
	files, err = listInputs(ctx, options.inputPlaces(spec), field, some)
	return source, files, err
}

// mayBeEmpty tells whether an entry stands for whatever files there are, and not for one file.
func mayBeEmpty(entry string) bool {
	if hasMeta(entry) || strings.HasSuffix(entry, "/") {
		return true
	}
	path, err := localPath("", entry)
	if err != nil {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Earlier reads from the folders of a job what earlier jobs have read that wrote there. Rows of a job that has not finished, or that kept no
// list of its inputs, are an error of kind engine.KindConflict that names it: what it has read is in the output, and nobody knows what that
// is. So is an input whose rows are in some of the folders alone.
func Earlier(ctx context.Context, folders []Folder, job engine.JobID) (Known, error) {
	var all []Known
	for _, f := range folders {
		if f.Name == RejectsName {
			continue
		}
		ledger, err := LedgerOf(f)
		if err != nil {
			return nil, err
		}
		history, err := ledger.History(ctx)
		if err != nil {
			return nil, err
		}
		for _, other := range history.Unrecorded {
			if other != job {
				return nil, engine.Errorf(engine.KindConflict, opList, f.Place.Target(), "holds rows of job %s, which has not finished, or kept no list of its inputs", other).
					WithHint("engine job resume %[1]s finishes it, engine job forget %[1]s --discard deletes what it has written", other)
			}
		}
		known := Known{}
		for _, finished := range history.Finished {
			if finished.Job == job {
				continue
			}
			for _, input := range finished.Inputs {
				known[input.Path] = input
			}
		}
		all = append(all, known)
	}
	if len(all) == 0 {
		return Known{}, nil
	}
	for i, known := range all[1:] {
		for path := range all[0] {
			if _, ok := known[path]; !ok || len(known) != len(all[0]) {
				return nil, engine.Errorf(engine.KindConflict, opList, path, "%s and %s are not made of the same inputs", folders[0].Place.Target(), folders[i+1].Place.Target()).
					WithHint("with --only-new, all folders of a job must have been written by the same jobs")
			}
		}
		if len(all[0]) == 0 && len(known) > 0 {
			return nil, engine.Errorf(engine.KindConflict, opList, folders[0].Place.Target(), "is empty, and %s is not", folders[i+1].Place.Target())
		}
	}
	return all[0], nil
}

// LedgerOf returns the ledger of a folder. Its error is of kind engine.KindInvalidArgument.
func LedgerOf(f Folder) (folder.Ledger, error) {
	if ledger, ok := f.Place.(folder.Ledger); ok {
		return ledger, nil
	}
	return nil, invalid(f.Field, "%s keeps no record of the jobs that wrote to it", f.Place.Target())
}

// StillNew refuses to run a planned job whose inputs another job has read since.
func StillNew(plan *enginev1.Plan, known Known) error {
	var taken []string
	for _, input := range plan.GetInputs() {
		if _, ok := known[input.GetPath()]; ok {
			taken = append(taken, input.GetPath())
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return Changed(opList, "", "another job has read inputs of this one since it was planned:", abridge(taken, len(taken), "")).
		WithHint("submit the job again as a new one")
}

// Inputs are a plan's files as an output's record has them; empty, and not nil, for objects.
func Inputs(plan *enginev1.Plan) []folder.Input {
	inputs := []folder.Input{}
	for _, input := range plan.GetInputs() {
		if len(input.GetObjectId()) > 0 {
			continue
		}
		f := fileOf(input)
		inputs = append(inputs, folder.Input{Path: f.Path, SizeBytes: f.SizeBytes, ModifiedUnixNanos: f.ModifiedUnixNanos, ETag: f.ETag})
	}
	return inputs
}
