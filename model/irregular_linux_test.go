package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/safetensors"
	"github.com/f708428e/engine/tokenizer"
)

// A FIFO in the place of one of a model's files is refused by name: to open one waits for ever.
func TestModelsOfFIFOs(t *testing.T) {
	dir := t.TempDir()
	fifo := func(elements ...string) string {
		path := filepath.Join(append([]string{dir}, elements...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name, path string
		open       func(path string) error
	}{
		{"an ONNX file", fifo("model.onnx"), func(path string) error { _, err := model.Open(t.Context(), path); return err }},
		{"MLmodel", fifo("mlflow", "MLmodel"), func(path string) error { _, err := model.Open(t.Context(), filepath.Dir(path)); return err }},
		{"tokenizer.json", fifo("tokenizer.json"), func(path string) error { _, err := tokenizer.Open(path); return err }},
		{"weights", fifo("model.safetensors"), func(path string) error { _, err := safetensors.Open(path); return err }},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.open(test.path)
			if engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "not a regular file") || !strings.Contains(err.Error(), filepath.Base(test.path)) {
				t.Errorf("%v", err)
			}
		})
	}
}
