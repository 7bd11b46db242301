package jobplan

import (
	"context"
	"os"
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// stepModel is the model of a step: one of the two, or none.
type stepModel struct {
	infer *model.Model
	embed *model.Embedding
}

// models has one element for each step of a job.
type models []stepModel

// openModels opens the model of every step that has one, each model once for each kind of step.
func openModels(ctx context.Context, spec *enginev1.JobSpec) (models, error) {
	inferred := map[string]*model.Model{}
	embedded := map[string]*model.Embedding{}
	all := make(models, len(spec.GetSteps()))
	for i, s := range spec.GetSteps() {
		field, text := ".infer.model", s.GetInfer().GetModel()
		if s.GetEmbed() != nil {
			field, text = ".embed.model", s.GetEmbed().GetModel()
		} else if s.GetInfer() == nil {
			continue
		}
		path, err := localPath(indexed("steps", i)+field, text)
		if err != nil {
			return nil, err
		}
		switch {
		case s.GetInfer() != nil:
			if inferred[path] == nil {
				inferred[path], err = model.Open(ctx, path)
			}
			all[i].infer = inferred[path]
		case embedded[path] == nil:
			embedded[path], err = model.OpenEmbedding(ctx, path)
			fallthrough
		default:
			all[i].embed = embedded[path]
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pin is the model as a plan has it.
func (m stepModel) pin(step int) *enginev1.ModelPin {
	switch {
	case m.infer != nil:
		return &enginev1.ModelPin{Step: int32(step), Path: m.infer.Path, Digest: m.infer.Digest, SizeBytes: m.sizeBytes()} //nolint:gosec // A job has few steps.
	case m.embed != nil:
		return &enginev1.ModelPin{Step: int32(step), Path: m.embed.Path, Digest: m.embed.Digest, SizeBytes: m.sizeBytes()} //nolint:gosec // See above.
	default:
		return nil
	}
}

// verify refuses models that are not those of the plan.
func (m models) verify(plan *enginev1.Plan) error {
	pins := map[int]string{}
	for _, pin := range plan.GetModels() {
		pins[int(pin.GetStep())] = pin.GetDigest()
	}
	for i, one := range m {
		found := one.pin(i)
		if found == nil {
			continue
		}
		want, ok := pins[i]
		if !ok {
			return engine.Errorf(engine.KindInvalidArgument, opCompile, found.GetPath(), "the plan does not pin the model of %s", indexed("steps", i))
		}
		if found.GetDigest() != want {
			return engine.Errorf(engine.KindModel, "verify model", found.GetPath(), "the model has changed: its digest is %s, expected %s", found.GetDigest(), want).
				WithHint("put the old files back, or submit the job again under another id")
		}
	}
	return nil
}

// sizeBytes is the length of the model's files. One that cannot be looked at counts nothing: whoever opens it will say so.
func (m stepModel) sizeBytes() (sum int64) {
	root, files := m.files()
	for _, name := range files {
		if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// files are the names of the model's files under a folder.
func (m stepModel) files() (root string, names []string) {
	switch {
	case m.infer != nil && m.infer.Path == m.infer.ONNXPath:
		return filepath.Dir(m.infer.Path), m.infer.Files
	case m.infer != nil:
		return m.infer.Path, m.infer.Files
	case m.embed != nil:
		return m.embed.Folder, m.embed.Files
	default:
		return "", nil
	}
}

// paths are all that belongs to a model: its folder or file, and what that refers to.
func (m stepModel) paths() []string {
	var paths []string
	switch {
	case m.infer != nil:
		paths = []string{m.infer.Path, m.infer.ONNXPath}
	case m.embed != nil:
		paths = []string{m.embed.Path}
	}
	root, files := m.files()
	for _, name := range files {
		paths = append(paths, filepath.Join(root, filepath.FromSlash(name)))
	}
	return paths
}
