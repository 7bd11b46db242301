package jobplan

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opFitted = "read fitted values"

// useFitted returns a job with the values that its steps take from files of earlier jobs, and notes both in its plan. Without such steps
// it is the job itself.
func useFitted(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan) (*enginev1.JobSpec, error) {
	type file struct {
		*fit.File
		digest string
	}
	read := map[string]file{}
	for i, s := range spec.GetSteps() {
		entry := fittedOf(s)
		if entry == "" {
			continue
		}
		field := indexed("steps", i) + "." + FitKind(s) + ".fitted"
		path, err := fittedPath(ctx, field, entry)
		if err != nil {
			return nil, err
		}
		found, ok := read[path]
		if !ok {
			content, err := readFitted(path)
			if err != nil {
				return nil, err
			}
			decoded, err := fit.Decode(content)
			if err != nil {
				return nil, engine.WrapError(opFitted, path, err)
			}
			found = file{decoded, sumText(sha256.Sum256(content))}
			read[path] = found
		}
		plan.FittedFiles = append(plan.FittedFiles, &enginev1.FittedFile{Step: int32(i), Path: path, Digest: found.digest}) //nolint:gosec // A job has few steps.
		for _, c := range categoryColumns(s) {
			if len(c.GetCategories()) > 0 {
				continue
			}
			value, err := findFitted(found.File, path, i, FitKind(s), c.GetName())
			if err != nil {
				return nil, err
			}
			plan.Fitted = append(plan.Fitted, value.ToProto(i))
		}
		for _, c := range s.GetScale().GetColumns() {
			if scaleGiven(c) {
				continue
			}
			value, err := findFitted(found.File, path, i, FitKind(s), c.GetName())
			if err != nil {
				return nil, err
			}
			if method := methodOf(value); c.GetMethod() != "" && c.GetMethod() != method {
				return nil, engine.Errorf(engine.KindInvalidArgument, opFitted, path, "column %q was scaled by method %s, the job file says %s", c.GetName(), method, c.GetMethod())
			}
			plan.Fitted = append(plan.Fitted, value.ToProto(i))
		}
	}
	return Resolve(spec, plan.GetFitted()...), nil
}

func methodOf(c *fit.FileColumn) string {
	if c.Mean != nil {
		return methodStandard
	}
	return methodMinMax
}

// fittedOf is the field fitted of a step that has one.
func fittedOf(s *enginev1.Step) string {
	switch kind := s.GetKind().(type) {
	case *enginev1.Step_OneHot:
		return kind.OneHot.GetFitted()
	case *enginev1.Step_Index:
		return kind.Index.GetFitted()
	case *enginev1.Step_Scale:
		return kind.Scale.GetFitted()
	default:
		return ""
	}
}

// findFitted returns what a file says of a column. Of several steps of that kind with that column, the one in the same place is meant.
func findFitted(f *fit.File, path string, step int, kind, column string) (*fit.FileColumn, error) {
	var found []*fit.FileColumn
	var names []string
	for i := range f.Columns {
		switch c := &f.Columns[i]; {
		case c.Kind != kind:
		case c.Column != column:
			names = append(names, c.Column)
		case c.Step == step:
			return c, nil
		default:
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, engine.Errorf(engine.KindData, opFitted, path, "job %s was not fitted to column %q in a step %s%s", f.Job, column, kind, suggestion(column, names))
	default:
		return nil, engine.Errorf(engine.KindData, opFitted, path, "job %s was fitted to column %q in %d steps %s, none of them %s", f.Job, column, len(found), kind, indexed("steps", step)).
			WithHint("put the step in the place that it has in that job")
	}
}

// fittedName is the name of a file of fitted values.
var fittedName = regexp.MustCompile(`^` + fit.RecordKind + `-[0-9a-z-]+\.json$`)

// fittedPath returns the file that an entry means: itself, or the one in an output folder. Of several there, that of the job that _SUCCESS
// names is meant.
func fittedPath(ctx context.Context, field, entry string) (string, error) {
	path, err := localPath(field, entry)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case isNotExist(err):
		return "", engine.Errorf(engine.KindNotFound, opFitted, path, "there is no such file or folder")
	case err != nil:
		return "", statError(opFitted, path, err)
	case !info.IsDir():
		return path, nil
	}
	notes := filepath.Join(path, folder.NotesName)
	if filepath.Base(path) == folder.NotesName {
		notes = path
	}
	entries, err := os.ReadDir(notes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", statError(opFitted, notes, err)
	}
	var names []string
	for _, e := range entries {
		if fittedName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	success, err := folder.ReadSuccess(filepath.Dir(notes))
	last := folder.RecordName(fit.RecordKind, success.Job, -1)
	switch {
	case len(names) == 1:
		return filepath.Join(notes, names[0]), nil
	case len(names) == 0:
		return "", engine.Errorf(engine.KindNotFound, opFitted, path, "the folder holds no %s/%s-*.json: no job that was fitted has written there", folder.NotesName, fit.RecordKind)
	case err == nil && slices.Contains(names, last):
		return filepath.Join(notes, last), nil
	default:
		return "", engine.Errorf(engine.KindConflict, opFitted, path, "several jobs that were fitted have written there: %s", strings.Join(names[:min(3, len(names))], ", ")).
			WithHint("name one of the files in %s", field)
	}
}

// readFitted reads a file, unless it is too long.
func readFitted(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, statError(opFitted, path, err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, fit.MaxFileBytes+1))
	if err != nil {
		return nil, statError(opFitted, path, err)
	}
	return content, nil
}

// FittedFile returns the file that is kept beside the output of a job which was fitted. It is the same for the same values.
func FittedFile(job engine.JobID, spec *enginev1.JobSpec, columns []*enginev1.FittedColumn) ([]byte, error) {
	return fit.NewFile(job, columns, func(step int) string { return FitKind(spec.GetSteps()[step]) }).Encode()
}
