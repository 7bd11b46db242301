package engine_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/f708428e/engine"
)

func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("fifo"), at("link")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for path, want := range map[string]string{
		at("fifo"): "a FIFO, not a regular file", at("link"): "a FIFO, not a regular file", dir: "a folder, not a regular file",
		"/dev/zero": "a device, not a regular file", at("socket"): "no such device or address", at("nothing"): "no such file",
	} {
		file, err := engine.OpenRegular(path)
		if err == nil {
			_ = file.Close()
			t.Fatalf("%s was opened", path)
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	file, err := engine.OpenRegular(at("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if text, err := io.ReadAll(file); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}
