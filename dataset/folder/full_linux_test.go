package folder_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
)

// TestFullDisk fills a real file system.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs permission to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	o := newOutput(t, filepath.Join(root, "out"), folder.ModeOverwrite, job)
	must(t, o.Check(t.Context()))
	must(t, o.Prepare(t.Context()))
	small, _ := publish(t, o, 0, "1", "small")
	s, err := o.Create(folder.PartName(job, 1, ".parquet"), "1")
	must(t, err)
	_, err = s.Write(make([]byte, 2<<20))
	wantError(t, err, engine.KindExhausted, "no space left", o.WorkFolder)
	_, err = s.Publish(t.Context())
	wantError(t, err, engine.KindExhausted)
	wantNames(t, o.WorkFolder, small.Name)

	// The mount point itself cannot be exchanged.
	mount := newOutput(t, root, folder.ModeOverwrite, job)
	wantError(t, mount.Check(t.Context()), engine.KindInvalidArgument, "mount point")
	must(t, newOutput(t, root, folder.ModeAppend, job).Check(t.Context()))
}
