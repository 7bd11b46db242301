package text_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// write makes a file.
func write(t testing.TB, name string, content []byte) dataset.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}

func pack(t testing.TB, repeat int, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range repeat {
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRatio reads a small file that holds very many equal rows: it is refused, but not before it is large.
func TestRatio(t *testing.T) {
	in, err := text.Open(t.Context(), nil, "read", write(t, "a.csv.zst", pack(t, 270, make([]byte, 1<<20))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	buffer := make([]byte, 1<<20)
	for offset := int64(0); ; offset += int64(len(buffer)) {
		if _, err := in.ReadAt(buffer, offset); err != nil {
			if engine.KindOf(err) != engine.KindData || !strings.Contains(fmt.Sprint(err), "unpacks to over 1000 times its size") || offset < 255<<20 {
				t.Errorf("at %d: got %v", offset, err)
			}
			return
		}
	}
}

func TestLineCounter(t *testing.T) {
	content := []byte(strings.Repeat("line\n", 200_000))
	for _, file := range []dataset.File{write(t, "a.csv", content), write(t, "a.csv.zst", pack(t, 1, content))} {
		l := text.NewLineCounter(t.Context(), nil, file)
		for _, line := range []int64{1, 150_000, 7, 200_000} {
			got, err := l.At((line-1)*5 + 2)
			if err != nil || got != line {
				t.Errorf("%s: line %d, %v; want %d", filepath.Ext(file.Path), got, err, line)
			}
		}
		if _, err := l.At(2_000_000); err == nil {
			t.Error("no error beyond the end")
		}
		l.Close()
	}
}
