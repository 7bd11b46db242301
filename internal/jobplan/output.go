package jobplan

import (
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Output returns the output folder of a job. It looks at nothing but, in mode overwrite, whether the folder is a symbolic link.
func Output(spec *enginev1.JobSpec, job engine.JobID) (folder.Output, error) {
	const field = "sink.parquet"
	sink := spec.GetSink().GetParquet()
	path, err := localPath(field+".path", sink.GetPath())
	if err != nil {
		return folder.Output{}, err
	}
	mode, err := folder.ParseMode(sink.GetMode())
	if err != nil {
		return folder.Output{}, underField(field+".mode", err)
	}
	return folder.New(path, mode, job)
}

// guardModels refuses to overwrite a folder that holds a model of the job, or a part of one.
func guardModels(job engine.JobID, spec *enginev1.JobSpec, models map[int]*model.Model) error {
	output, err := Output(spec, job)
	if err != nil {
		return err
	}
	for i := range spec.GetSteps() {
		m := models[i]
		if m == nil {
			continue
		}
		root := m.Path
		if m.Path == m.ONNXPath {
			root = filepath.Dir(m.Path)
		}
		paths := []string{m.Path, m.ONNXPath}
		for _, name := range m.Files {
			paths = append(paths, filepath.Join(root, filepath.FromSlash(name)))
		}
		if err := output.Conflicts("model", paths); err != nil {
			return err
		}
	}
	return nil
}

// planOutput says where the output goes, and refuses a folder that the job reads from.
func planOutput(job engine.JobID, spec *enginev1.JobSpec, files []dataset.File) (*enginev1.OutputPlan, error) {
	output, err := Output(spec, job)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
		relative, err := filepath.Rel(output.Folder, f.Path)
		if output.Mode == folder.ModeAppend && err == nil && filepath.IsLocal(relative) {
			return nil, engine.Errorf(engine.KindConflict, "output folder", output.Folder, "mode append would add the output to the job's own input %s", f.Path).
				WithHint("write to another folder")
		}
	}
	if err := output.Conflicts("input", paths); err != nil {
		return nil, err
	}
	return &enginev1.OutputPlan{Folder: output.Folder, WorkFolder: output.WorkFolder, Mode: string(output.Mode)}, nil
}
