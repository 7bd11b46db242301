package jobplan

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opFitted = "read fitted values"

// useFitted returns a job with the values that its steps take from files of earlier jobs, and notes both in its plan. Without such steps
// it is the job itself.
func useFitted(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan, from Storage) (*enginev1.JobSpec, error) {
	files := map[string]*fittedContent{}
	for i, s := range spec.GetSteps() {
		entry := fittedOf(s)
		if entry == "" {
			continue
		}
		field := indexed("steps", i) + "." + FitKind(s) + ".fitted"
		found := files[entry]
		if found == nil {
			var err error
			if found, err = readFitted(ctx, from, field, entry); err != nil {
				return nil, err
			}
			files[entry] = found
		}
		plan.FittedFiles = append(plan.FittedFiles, &enginev1.FittedFile{Step: int32(i), Path: found.path, Digest: found.digest}) //nolint:gosec // A job has few steps.
		for _, c := range categoryColumns(s) {
			if len(c.GetCategories()) > 0 {
				continue
			}
			value, err := findFitted(found.File, found.path, i, FitKind(s), c.GetName())
			if err != nil {
				return nil, err
			}
			plan.Fitted = append(plan.Fitted, value.ToProto(i))
		}
		for _, c := range s.GetScale().GetColumns() {
			if scaleGiven(c) {
				continue
			}
			value, err := findFitted(found.File, found.path, i, FitKind(s), c.GetName())
			if err != nil {
				return nil, err
			}
			if method := methodOf(value); c.GetMethod() != "" && c.GetMethod() != method {
				return nil, engine.Errorf(engine.KindInvalidArgument, opFitted, found.path, "column %q was scaled by method %s, the job file says %s", c.GetName(), method, c.GetMethod())
			}
			plan.Fitted = append(plan.Fitted, value.ToProto(i))
		}
	}
	return Resolve(spec, plan.GetFitted()...), nil
}

// fittedContent is a file of fitted values.
type fittedContent struct {
	*fit.File
	path, digest string
}

// readFitted reads the file that an entry of a field means.
func readFitted(ctx context.Context, from Storage, field, entry string) (*fittedContent, error) {
	place, err := openFitted(ctx, from, field, entry)
	if err != nil {
		return nil, err
	}
	name, err := findFittedFile(ctx, field, place)
	if err != nil {
		return nil, err
	}
	path := place.path(name)
	content, err := place.read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, engine.Errorf(engine.KindNotFound, opFitted, path, "there is no such file or folder")
	}
	if err != nil {
		return nil, err
	}
	decoded, err := fit.Decode(content)
	if err != nil {
		return nil, engine.WrapError(opFitted, path, err)
	}
	return &fittedContent{decoded, path, sumText(sha256.Sum256(content))}, nil
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

// fittedPlace is where an entry of a field fitted lies.
type fittedPlace interface {
	// path is that of a file below the entry's folder; of an empty name it is the entry's own.
	path(name string) string
	// isFile tells whether the entry is a file. One that is not there at all is the error fs.ErrNotExist.
	isFile(ctx context.Context) (bool, error)
	// list returns the names of the files in a folder below the entry's.
	list(ctx context.Context, folder string) ([]string, error)
	// read returns the content of a file below the entry's folder, or of the entry. One that is not there is the error fs.ErrNotExist.
	read(ctx context.Context, name string) ([]byte, error)
}

// openFitted returns the place of an entry.
func openFitted(ctx context.Context, from Storage, field, entry string) (fittedPlace, error) {
	e, ok, err := parseBucketEntry(field, entry)
	if err != nil {
		return nil, err
	}
	if ok {
		return newFittedBucket(ctx, from, e)
	}
	path, err := localPath(field, entry)
	return fittedFolder(path), err
}

// findFittedFile returns the name of the file that an entry means: empty for itself, else that of the one in an output folder. Of several
// there, that of the job that _SUCCESS names is meant.
func findFittedFile(ctx context.Context, field string, place fittedPlace) (string, error) {
	single, err := place.isFile(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "", engine.Errorf(engine.KindNotFound, opFitted, place.path(""), "there is no such file or folder")
	}
	if single || err != nil {
		return "", err
	}
	found, err := place.list(ctx, folder.NotesName)
	if err != nil {
		return "", err
	}
	var names []string
	for _, name := range found {
		if fittedName.MatchString(name) {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 1:
		return folder.NotesName + "/" + names[0], nil
	case 0:
		return "", engine.Errorf(engine.KindNotFound, opFitted, place.path(""), "the folder holds no %s/%s-*.json: no job that was fitted has written there", folder.NotesName, fit.RecordKind)
	}
	var success folder.Success
	content, err := place.read(ctx, folder.SuccessName)
	if err == nil {
		err = json.Unmarshal(content, &success)
	}
	if last := folder.RecordName(fit.RecordKind, success.Job, -1); err == nil && slices.Contains(names, last) {
		return folder.NotesName + "/" + last, nil
	}
	return "", engine.Errorf(engine.KindConflict, opFitted, place.path(""), "several jobs that were fitted have written there: %s", strings.Join(names[:min(3, len(names))], ", ")).
		WithHint("name one of the files in %s", field)
}

// fittedFolder is a path of a file system.
type fittedFolder string

func (f fittedFolder) path(name string) string {
	return filepath.Join(string(f), filepath.FromSlash(name))
}

func (f fittedFolder) isFile(context.Context) (bool, error) {
	info, err := os.Stat(string(f))
	switch {
	case isNotExist(err):
		return false, fs.ErrNotExist
	case err != nil:
		return false, statError(opFitted, string(f), err)
	default:
		return !info.IsDir(), nil
	}
}

func (f fittedFolder) list(_ context.Context, folder string) ([]string, error) {
	entries, err := os.ReadDir(f.path(folder))
	if err != nil && !isNotExist(err) {
		return nil, statError(opFitted, f.path(folder), err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (f fittedFolder) read(_ context.Context, name string) ([]byte, error) {
	path := f.path(name)
	file, err := engine.OpenRegular(path)
	if err != nil {
		if isNotExist(err) {
			return nil, fs.ErrNotExist
		}
		return nil, statError(opFitted, path, err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, fit.MaxFileBytes+1))
	if err != nil {
		return nil, statError(opFitted, path, err)
	}
	return content, nil
}

// fittedBucket is an object, or what keys have before a slash.
type fittedBucket struct {
	entry  bucketEntry
	bucket blob.Bucket
}

func newFittedBucket(ctx context.Context, from Storage, e bucketEntry) (fittedPlace, error) {
	if from == nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFitted, e.String(), "this head reads no buckets")
	}
	bucket, err := from.Bucket(ctx, storage.BucketURI("s3", e.bucket, e.settings))
	return fittedBucket{e, bucket}, err
}

func (b fittedBucket) key(name string) string {
	return strings.TrimPrefix(strings.TrimSuffix(b.entry.key+"/"+name, "/"), "/")
}

func (b fittedBucket) path(name string) string {
	return bucketScheme + b.entry.bucket + "/" + b.key(name)
}

func (b fittedBucket) isFile(ctx context.Context) (bool, error) {
	if b.entry.folder {
		return false, nil
	}
	_, err := b.bucket.Stat(ctx, b.entry.key)
	switch {
	case err == nil:
		return true, nil
	case engine.KindOf(err) == engine.KindNotFound:
		err = nil // It is a folder, if anything.
	}
	return false, b.named(err)
}

func (b fittedBucket) list(ctx context.Context, folder string) (names []string, err error) {
	prefix := b.key(folder) + "/"
	for info, err := range b.bucket.List(ctx, prefix) {
		if err != nil {
			return nil, b.named(err)
		}
		names = append(names, info.Key[len(prefix):])
	}
	return names, nil
}

func (b fittedBucket) read(ctx context.Context, name string) ([]byte, error) {
	body, _, err := b.bucket.Get(ctx, b.key(name), 0, fit.MaxFileBytes+1)
	if engine.KindOf(err) == engine.KindNotFound && err != nil {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, b.named(err)
	}
	content, err := io.ReadAll(body)
	return content, b.named(errors.Join(err, body.Close()))
}

// named says of which entry an error is.
func (b fittedBucket) named(err error) error {
	if err == nil {
		return nil
	}
	return engine.WrapError(opFitted, b.entry.String(), err)
}

// FittedFile returns the file that is kept beside the output of a job which was fitted. It is the same for the same values.
func FittedFile(job engine.JobID, spec *enginev1.JobSpec, columns []*enginev1.FittedColumn) ([]byte, error) {
	return fit.NewFile(job, columns, func(step int) string { return FitKind(spec.GetSteps()[step]) }).Encode()
}
