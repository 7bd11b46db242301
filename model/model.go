// Package model opens models: a bare .onnx file or an MLflow model folder. It reads what the engine must know before the first
// row is read (inputs, outputs, signature, digest) and refuses what it must never run: operators of unknown domains, and
// weights outside the model's folder. It evaluates nothing; runtime/onnx does.
//
// Functions of this package block on file I/O. They may be called from several goroutines.
package model

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

const op = "open model"

// Model is a model as its files describe it. It holds no resources and never changes.
type Model struct {
	// Graph is what the ONNX file says.
	Graph
	// Path is the file or folder that was opened, absolute.
	Path string
	// ONNXPath is the ONNX file, absolute: Path itself for a bare file.
	ONNXPath string
	// Digest is "sha256:" and 64 hexadecimal digits over Files.
	//
	// Of a single file it is the SHA-256 of its content. Of several it is the SHA-256 of the lines that `sha256sum FILES` prints
	// in the model's folder, the files sorted by name.
	Digest string
	// SizeBytes is the length of all Files together.
	SizeBytes int64
	// Files are the files that the digest covers, relative to the model's folder, with slashes, sorted: the ONNX file, its
	// external data, and for an MLflow folder MLmodel. Other files of a folder (conda.yaml, examples) do not matter.
	Files []string
	// Signature is the MLflow signature, or nil if there is none.
	Signature *Signature
}

// Open reads the model at path: an .onnx file, or a folder with an MLmodel file that has the onnx flavor. It reads all of the
// model's files once, for the digest, and keeps none in memory.
//
// The error has kind engine.KindNotFound if path does not exist, engine.KindInvalidArgument for a URI, which this version does
// not resolve, and engine.KindModel for everything that is wrong with the model.
func Open(ctx context.Context, path string) (*Model, error) {
	if scheme, ok := uriScheme(path); ok {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "%s models are not available in this version", scheme).
			WithHint("name an .onnx file or an MLflow model folder")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "%w", err)
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return nil, fileError(path, err)
	}
	m := &Model{Path: absolute, ONNXPath: absolute}
	// The folder that the digest's names are relative to.
	root := filepath.Dir(absolute)
	switch {
	case info.IsDir():
		root = absolute
		if err := m.readMLmodel(ctx); err != nil {
			return nil, err
		}
	case !info.Mode().IsRegular():
		return nil, engine.Errorf(engine.KindModel, op, path, "not a regular file")
	default:
		m.Files = []string{filepath.Base(absolute)}
	}
	if err := m.readONNX(ctx); err != nil {
		return nil, err
	}
	external, err := externalFiles(m.ONNXPath, m.External)
	if err != nil {
		return nil, err
	}
	for _, file := range external {
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return nil, engine.Errorf(engine.KindModel, op, file, "%w", err)
		}
		m.Files = append(m.Files, filepath.ToSlash(relative))
	}
	slices.Sort(m.Files)
	m.Files = slices.Compact(m.Files)
	m.Digest, m.SizeBytes, err = digest(ctx, root, m.Files)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// VerifyDigest opens the model at path and returns an error of kind engine.KindModel if its digest is not want.
func VerifyDigest(ctx context.Context, path, want string) error {
	m, err := Open(ctx, path)
	if err != nil {
		return err
	}
	return m.Verify(want)
}

// Verify returns an error of kind engine.KindModel if the model's digest is not want.
func (m *Model) Verify(want string) error { return verify(m.Path, m.Digest, want) }

func verify(path, found, want string) error {
	if found != want {
		return engine.Errorf(engine.KindModel, "verify model", path, "the model has changed: its digest is %s, expected %s", found, want).
			WithHint("put the old files back, or submit the job again under another id")
	}
	return nil
}

func (m *Model) readONNX(ctx context.Context) error {
	file, err := engine.OpenRegular(m.ONNXPath)
	if err != nil {
		return fileError(m.ONNXPath, err)
	}
	defer func() { _ = file.Close() }() // Only read.
	info, err := file.Stat()
	if err != nil {
		return fileError(m.ONNXPath, err)
	}
	graph, err := ReadONNX(ctx, m.ONNXPath, file, info.Size())
	if err != nil {
		return err
	}
	m.Graph = *graph
	return nil
}

// uriScheme returns the scheme of a model URI that is no path, such as "s3://" or "models:/".
func uriScheme(path string) (string, bool) {
	for _, scheme := range []string{"models:/", "runs:/", "mlflow-artifacts:/"} {
		if strings.HasPrefix(path, scheme) {
			return scheme, true
		}
	}
	if scheme, _, ok := strings.Cut(path, "://"); ok && scheme != "" && !strings.ContainsAny(scheme, `/\`) {
		return scheme + "://", true
	}
	return "", false
}

// fileError classifies an error of the file system.
func fileError(path string, err error) error {
	var ours *engine.Error
	if errors.As(err, &ours) { // It is no file, and says what it is.
		return engine.Errorf(engine.KindModel, op, path, "%w", ours.Err)
	}
	kind := engine.KindInternal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return engine.Errorf(engine.KindNotFound, op, path, "no such file or folder")
	case errors.Is(err, fs.ErrPermission):
		kind = engine.KindPermission
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		// The path stands in the error's id already.
		err = pathError.Err
	}
	return engine.Errorf(kind, op, path, "%w", err)
}
