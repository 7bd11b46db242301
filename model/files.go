package model

import (
	"context"
	"os"
	"path/filepath"
)

// Files reads the graph of the ONNX file at path as Open does, and returns the files that who evaluates it reads, absolute: the file and its
// external data. Their lengths together are sizeBytes. The errors are those of Open; nothing is digested.
func Files(ctx context.Context, path string) (files []string, sizeBytes int64, err error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	m := &Model{Path: absolute, ONNXPath: absolute}
	if err := m.readONNX(ctx); err != nil {
		return nil, 0, err
	}
	external, err := externalFiles(absolute, m.External)
	if err != nil {
		return nil, 0, err
	}
	files = append([]string{absolute}, external...)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, 0, fileError(file, err)
		}
		sizeBytes += info.Size()
	}
	return files, sizeBytes, nil
}
