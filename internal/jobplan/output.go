package jobplan

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// output is what planning needs to know of a sink.
type output interface {
	// plan says in a plan where the output goes, and refuses a place that the job reads from.
	plan(files []dataset.File, into *enginev1.Plan) error
	// guardModels refuses to overwrite a model of the job, or a part of one.
	guardModels(models models) error
	// check makes sure that the output's columns can be written.
	check(ctx context.Context, schema *arrow.Schema) error
	// part names a task's output; empty if a task may have several, or none.
	part(task int) string
	// count is how many outputs the user wants; 0 is one for each split.
	count() int
	// taskBytes is how many bytes of the input make a task, which then has splits that are smaller together; 0 is one split for each.
	taskBytes() int64
}

// newOutput returns the output of a job's sink.
func newOutput(spec *enginev1.JobSpec, job engine.JobID, secrets *secret.Set) (output, error) {
	folders, err := Folders(spec, job, nil) // Planning looks at no output
	if err != nil {
		return nil, err
	}
	var elsewhere output
	switch {
	case spec.GetSink().GetObject() != nil:
		elsewhere, err = NewObjectOutput(spec, job)
	case spec.GetSink().GetPostgres() != nil:
		var target *postgres.Target
		target, err = PostgresTarget(spec, job, secrets)
		elsewhere = postgresOutput{target}
	}
	switch {
	case err != nil:
		return nil, err
	case elsewhere != nil && len(folders) > 0:
		return besideOutput{output: elsewhere, rejects: foldersOutput{folders: folders, job: job}}, nil
	case elsewhere != nil:
		return elsewhere, nil
	}
	_, files := fileSinkOf("", sinksOf(spec)[0].sink)
	return foldersOutput{folders: folders, job: job, files: int(files.GetFiles())}, overlaps(folders)
}

// besideOutput is an output that is no folder, with a folder for rejected rows beside it.
type besideOutput struct {
	output
	rejects foldersOutput
}

func (o besideOutput) plan(files []dataset.File, into *enginev1.Plan) error {
	if err := o.output.plan(files, into); err != nil {
		return err
	}
	beside := &enginev1.Plan{}
	err := o.rejects.plan(files, beside)
	into.FurtherOutputs = append(into.FurtherOutputs, beside.GetOutput())
	return err
}

func (o besideOutput) guardModels(models models) error {
	return errors.Join(o.output.guardModels(models), o.rejects.guardModels(models))
}

// foldersOutput are folders of files, mostly one.
type foldersOutput struct {
	folders []Folder
	job     engine.JobID
	files   int
}

func (o foldersOutput) part(task int) string {
	if SeveralParts(o.folders) {
		return ""
	}
	return o.folders[0].PartName(o.job, task, "", 0)
}

func (o foldersOutput) count() int { return o.files }

// taskBytes implements output: files of the input's bytes are about as large as wanted, or smaller. With several sinks the smallest counts.
func (o foldersOutput) taskBytes() (least int64) {
	for _, f := range o.folders {
		if f.FileSizeBytes > 0 && (least == 0 || f.FileSizeBytes < least) {
			least = f.FileSizeBytes
		}
	}
	return least
}

func (o foldersOutput) guardModels(models models) error {
	for _, f := range o.folders {
		for _, m := range models {
			if err := f.Place.Conflicts("model", m.paths()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o foldersOutput) plan(files []dataset.File, into *enginev1.Plan) error {
	var paths []string
	for _, f := range files {
		if filepath.IsAbs(f.Path) || storage.Remote(f) { // Not an object, which lies in no folder.
			paths = append(paths, f.Path)
		}
	}
	for i, f := range o.folders {
		if err := f.Place.Conflicts("input", paths); err != nil {
			return err
		}
		planned := &enginev1.OutputPlan{Name: f.Name, Folder: f.Place.Target(), WorkFolder: f.Place.Work(), Mode: string(f.Place.WriteMode())}
		if i == 0 {
			into.Output = planned
		} else {
			into.FurtherOutputs = append(into.FurtherOutputs, planned)
		}
	}
	return nil
}

func (o foldersOutput) check(_ context.Context, schema *arrow.Schema) error {
	for _, f := range o.folders {
		if f.Name == RejectsName {
			continue
		}
		of, err := f.FileSchema(schema)
		if err != nil {
			return err
		}
		w, err := f.Sink.Create(io.Discard, of, memory.NewGoAllocator())
		if err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}
