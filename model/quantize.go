package model

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/onnxgraph"
)

// QuantizedFile is the ONNX file that Quantize writes, relative to the folder of the transformer.
const QuantizedFile = "onnx/model_int8.onnx"

// Quantize writes the model into folder with a graph that multiplies matrices in integers, as onnxgraph.Quantize makes it of the
// model's own, and with all that belongs to the model besides. The folder is one that OpenEmbedding opens; it appears as a whole, and
// must not be there before, or be empty: otherwise the error is of kind engine.KindConflict. Of what Materialize makes a copy is kept in
// cacheDir. Other errors are those of Materialize and of onnxgraph.Quantize.
func (e *Embedding) Quantize(ctx context.Context, cacheDir, folder string) (done onnxgraph.Quantized, err error) {
	const op = "quantize model"
	if e.Quantized {
		return done, engine.Errorf(engine.KindModel, op, e.Path, "the graph computes in integers already").WithHint("quantize the model in float32 that it was made of")
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return done, fileError(folder, err)
	}
	entries, err := os.ReadDir(folder)
	switch {
	case err == nil && len(entries) > 0:
		return done, engine.Errorf(engine.KindConflict, op, folder, "the folder is not empty").WithHint("name a new one")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return done, fileError(folder, err)
	}
	source, err := e.Materialize(ctx, cacheDir)
	if err != nil {
		return done, err
	}
	parent := filepath.Dir(folder)
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // as other models
		return done, fileError(parent, err)
	}
	staging, err := os.MkdirTemp(parent, ".quantize-*")
	if err != nil {
		return done, fileError(parent, err)
	}
	defer func() { _ = os.RemoveAll(staging) }() // Of no use to anyone.
	for _, name := range e.Files {
		if slices.Contains(e.graphFiles, name) {
			continue
		}
		if err := copyInto(staging, e.Folder, name); err != nil {
			return done, err
		}
	}
	transformer, err := filepath.Rel(e.Folder, filepath.Dir(e.TokenizerPath))
	if err != nil {
		return done, fileError(e.TokenizerPath, err)
	}
	graph := filepath.Join(staging, transformer, filepath.FromSlash(path.Dir(QuantizedFile)))
	if err := os.MkdirAll(graph, 0o755); err != nil { //nolint:gosec // as above
		return done, fileError(graph, err)
	}
	if done, err = onnxgraph.Quantize(ctx, source, graph, path.Base(QuantizedFile)); err != nil {
		return done, err
	}
	written, err := OpenEmbedding(ctx, staging)
	if err != nil {
		return done, engine.WrapError(op, e.Path, err)
	}
	if written.Dim != e.Dim || written.MaxTokens != e.MaxTokens || written.PadID != e.PadID || !slices.Equal(written.Pooling, e.Pooling) {
		return done, engine.Errorf(engine.KindInternal, op, e.Path, "the quantized model is another one: %d dimensions, %d tokens, padding %d, pooling %v", written.Dim, written.MaxTokens, written.PadID, written.Pooling)
	}
	if err := os.Chmod(staging, 0o755); err != nil { //nolint:gosec // as above
		return done, fileError(staging, err)
	}
	if err := os.Rename(staging, folder); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return done, engine.Errorf(engine.KindConflict, op, folder, "the folder is not empty").WithHint("name a new one")
		}
		return done, fileError(folder, err)
	}
	return done, nil
}

// copyInto copies a file of a folder.
func copyInto(to, from, name string) error {
	name = filepath.FromSlash(name)
	target := filepath.Join(to, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // as other models
		return fileError(target, err)
	}
	content, err := os.Open(filepath.Join(from, name))
	if err != nil {
		return fileError(filepath.Join(from, name), err)
	}
	defer func() { _ = content.Close() }() // Only read.
	file, err := os.Create(target)
	if err != nil {
		return fileError(target, err)
	}
	_, err = file.ReadFrom(content)
	if errClose := file.Close(); err == nil {
		err = errClose
	}
	if err != nil {
		return fileError(target, err)
	}
	return nil
}
