package onnx_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/onnx"
)

func TestFind(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	t.Setenv(onnx.LibraryVariable, "")

	_, err := onnx.Find("")
	if engine.KindOf(err) != engine.KindNotFound {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{cache, "scripts/fetch-onnxruntime.sh", "make quickstart", "--onnxruntime", onnx.LibraryVariable} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not mention %q", err, part)
		}
	}

	inCache := filepath.Join(cache, "engine", "onnxruntime", onnx.Version, onnx.LibraryName())
	write(t, inCache)
	if got, err := onnx.Find(""); got != inCache || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	named := filepath.Join(cache, "named.so")
	write(t, named)
	t.Setenv(onnx.LibraryVariable, named)
	if got, err := onnx.Find(""); got != named || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := onnx.Find(inCache); got != inCache || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	// What is named must be there: nothing else is taken instead.
	if _, err := onnx.Find(filepath.Join(cache, "gone")); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
	t.Setenv(onnx.LibraryVariable, cache)
	if _, err := onnx.Find(""); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), onnx.LibraryVariable) {
		t.Errorf("a folder: got %v", err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
}
