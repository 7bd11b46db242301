package jobplan

import (
	"io"
	"path/filepath"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// output is what planning needs to know of a sink.
type output interface {
	// plan says where the output goes, and refuses a place that the job reads from.
	plan(files []dataset.File) (*enginev1.OutputPlan, error)
	// guardModels refuses to overwrite a model of the job, or a part of one.
	guardModels(models models) error
	// check makes sure that the output's columns can be written.
	check(schema *arrow.Schema) error
	// part names a task's output.
	part(task int) string
	// count is how many outputs the user wants; 0 is one for each split.
	count() int
}

// newOutput returns the output of a job's sink.
func newOutput(spec *enginev1.JobSpec, job engine.JobID) (output, error) {
	if spec.GetSink().GetObject() != nil {
		return NewObjectOutput(spec, job)
	}
	sink, err := newSink(spec)
	if err != nil {
		return nil, err
	}
	place, err := Folder(spec, job)
	if err != nil {
		return nil, err
	}
	_, files := sinkOf(spec)
	return folderOutput{Output: place, sink: sink, files: int(files.GetFiles())}, nil
}

// folderOutput is a folder of files.
type folderOutput struct {
	folder.Output
	sink  dataset.Sink
	files int
}

func (o folderOutput) part(task int) string { return folder.PartName(o.Job, task, o.sink.Extension()) }
func (o folderOutput) count() int           { return o.files }

func (o folderOutput) guardModels(models models) error {
	for _, m := range models {
		if err := o.Conflicts("model", m.paths()); err != nil {
			return err
		}
	}
	return nil
}

func (o folderOutput) plan(files []dataset.File) (*enginev1.OutputPlan, error) {
	var paths []string
	for _, f := range files {
		if !filepath.IsAbs(f.Path) {
			continue // An object, which lies in no folder.
		}
		paths = append(paths, f.Path)
		relative, err := filepath.Rel(o.Folder, f.Path)
		if o.Mode == folder.ModeAppend && err == nil && filepath.IsLocal(relative) {
			return nil, engine.Errorf(engine.KindConflict, "output folder", o.Folder, "mode append would add the output to the job's own input %s", f.Path).
				WithHint("write to another folder")
		}
	}
	if err := o.Conflicts("input", paths); err != nil {
		return nil, err
	}
	return &enginev1.OutputPlan{Folder: o.Folder, WorkFolder: o.WorkFolder, Mode: string(o.Mode)}, nil
}

func (o folderOutput) check(schema *arrow.Schema) error {
	w, err := o.sink.Create(io.Discard, schema, memory.NewGoAllocator())
	if err != nil {
		return err
	}
	return w.Close()
}
