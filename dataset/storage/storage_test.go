package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
)

// local lists a file of this machine.
func local(t *testing.T, path string) dataset.File {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}

// TestLocal reads a file of this machine, with a Storage and without, and names what happens to it after it was listed.
func TestLocal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.csv")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("some text")
	file := local(t, path)
	for _, from := range []dataset.Storage{nil, storage.New(nil, storage.Options{})} {
		in, err := storage.Open(t.Context(), from, "read test", file)
		if err != nil {
			t.Fatal(err)
		}
		in.Expect(dataset.Range{End: 4})
		b := make([]byte, 4)
		if _, err := in.ReadAt(b, 5); err != nil || string(b) != "text" {
			t.Errorf("%q, %v", b, err)
		}
		in.Forget(dataset.Range{End: 4})
		if err := errors.Join(in.Check(), in.Close(), in.Close()); err != nil {
			t.Error(err)
		}
	}
	in, err := storage.Open(t.Context(), nil, "read test", file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	write("another text")
	fails := func(err error, kind engine.Kind, says string) {
		t.Helper()
		if engine.KindOf(err) != kind || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v: %v", engine.KindOf(err), err)
		}
	}
	fails(in.Check(), engine.KindData, "changed since the job was planned: it had 9 bytes and has 12")
	_, err = storage.Open(t.Context(), nil, "read test", file)
	fails(err, engine.KindData, "changed since the job was planned")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = storage.Open(t.Context(), nil, "read test", file)
	fails(err, engine.KindNotFound, "no such file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = storage.Open(t.Context(), nil, "read test", file)
	fails(err, engine.KindInvalidArgument, "is a folder")
}

// TestNoStorage refuses what is in a bucket where there is nothing that reads from one.
func TestNoStorage(t *testing.T) {
	_, err := storage.Open(t.Context(), nil, "read test", dataset.File{Path: "s3://bucket/a"})
	if err == nil || !strings.Contains(err.Error(), "s3://bucket/a") {
		t.Error(err)
	}
}

// TestAhead announces what is read of files before they are opened.
func TestAhead(t *testing.T) {
	r := newRig(t, storage.Options{})
	var files []dataset.File
	for i := range 50 {
		files = append(files, r.put(fmt.Sprint("file-", i), random(uint64(i), 1000)))
	}
	path := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(path, []byte("local"), 0o600); err != nil {
		t.Fatal(err)
	}
	files = append(files[:20:20], append([]dataset.File{local(t, path)}, files[20:]...)...)
	r.bucket.asked = make(chan get, 100)
	ahead := storage.NewAhead(r.storage, "read test", files, func(_ int, f dataset.File) []dataset.Range { return []dataset.Range{{End: f.SizeBytes / 2}} })
	open := func(ctx context.Context, file dataset.File) dataset.Input {
		in, err := ahead.Open(ctx, "read test", file)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	first := open(t.Context(), files[0])
	for range 20 {
		if g := <-r.bucket.asked; g.bytes != "0+-1" {
			t.Errorf("asked for %v", g)
		}
	}
	// A file in between, which is none of those to come, disturbs nothing.
	if err := errors.Join(open(t.Context(), files[0]).Close(), first.Close()); err != nil {
		t.Error(err)
	}
	for i, file := range files[1:40] {
		in := open(t.Context(), file)
		want := random(uint64(i+1), 1000)
		switch {
		case i+1 == 20:
			want = []byte("local")
		case i+1 > 20:
			want = random(uint64(i), 1000)
		}
		b := make([]byte, len(want))
		if _, err := in.ReadAt(b, 0); err != nil || string(b) != string(want) {
			t.Errorf("file %d: %v", i+1, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := ahead.Close(); err != nil {
		t.Error(err)
	}
}
