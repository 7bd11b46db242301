package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// ExternalData is a file beside the ONNX file that holds weights.
type ExternalData struct {
	// Location is the file's name as the ONNX file gives it: relative to the ONNX file's folder.
	Location string
	// MinSizeBytes is the length that the file must have at least to hold every tensor that lies in it.
	MinSizeBytes int64
}

// externalFiles returns the absolute paths of the external data of the ONNX file at onnxPath, or an error that names the first
// location which is absolute, leads out of the folder (also through a symbolic link), is missing, or is too short.
func externalFiles(onnxPath string, external []ExternalData) ([]string, error) {
	if len(external) == 0 {
		return nil, nil
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(onnxPath))
	if err != nil {
		return nil, fileError(onnxPath, err)
	}
	files := make([]string, 0, len(external))
	total := int64(0)
	for _, data := range external {
		refuse := func(format string, args ...any) error {
			return engine.Errorf(engine.KindModel, op, onnxPath, "external data %q "+format, append([]any{data.Location}, args...)...)
		}
		// Backslashes and drive letters mean something on other systems; a model must mean the same everywhere.
		local := filepath.FromSlash(data.Location)
		if !filepath.IsLocal(local) || strings.Contains(data.Location, `\`) || slices.Contains(strings.Split(data.Location, "/"), "..") || strings.Contains(data.Location, "://") {
			return nil, refuse("is not a path inside the model's folder")
		}
		path := filepath.Join(filepath.Dir(onnxPath), local)
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			if os.IsNotExist(err) {
				return nil, refuse("is missing from the model's folder")
			}
			return nil, fileError(path, err)
		}
		if relative, err := filepath.Rel(folder, resolved); err != nil || !filepath.IsLocal(relative) {
			return nil, refuse("is a symbolic link out of the model's folder")
		}
		info, err := os.Stat(resolved)
		if err != nil {
			return nil, fileError(path, err)
		}
		switch {
		case !info.Mode().IsRegular():
			return nil, refuse("is not a regular file")
		case info.Size() < data.MinSizeBytes:
			return nil, refuse("is truncated: found %d bytes, expected at least %d", info.Size(), data.MinSizeBytes)
		}
		if total += info.Size(); total > maxExternalBytes {
			return nil, refuse("makes it more than %s, which is the limit", engine.FormatSize(maxExternalBytes))
		}
		files = append(files, path)
	}
	return files, nil
}
