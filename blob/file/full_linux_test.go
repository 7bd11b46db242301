package file_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
)

// TestFullDisk fills a real file system.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs permission to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	b := open(t, folder)
	blobtest.Put(t, b, "small", []byte("small"))
	data := make([]byte, 2<<20)
	_, err := b.Put(t.Context(), "a/large", bytes.NewReader(data), int64(len(data)), blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindExhausted, "no space left", filepath.Join(folder, "a", "large"))
	w, err := b.Create(t.Context(), "a/large", blob.PutOptions{})
	must(t, err)
	_, err = w.Write(data)
	blobtest.WantKind(t, err, engine.KindExhausted, "no space left", filepath.Join(folder, "a", "large"))
	_, err = w.Commit(t.Context())
	blobtest.WantKind(t, err, engine.KindExhausted)
	must(t, w.Abort(t.Context()))
	// What failed has left nothing: there is room again.
	blobtest.Put(t, b, "medium", make([]byte, 800<<10))
	blobtest.Want(t, b, "small", []byte("small"))
}
