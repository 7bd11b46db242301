package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/file"
)

func open(t *testing.T, folder string) *file.Bucket {
	t.Helper()
	b, err := file.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // a second time is no harm
	return b
}

func TestConformance(t *testing.T) {
	blobtest.Run(t, 3<<20+17, func(t *testing.T) blob.Bucket { return open(t, t.TempDir()) })
}

func TestConformanceOfFolderToBeMade(t *testing.T) {
	blobtest.Run(t, 1<<20, func(t *testing.T) blob.Bucket {
		folder := filepath.Join(t.TempDir(), "not", "there yet")
		t.Cleanup(func() {
			if names, err := filepath.Glob(filepath.Join(folder, blob.TemporaryFolder, "*")); err != nil || len(names) > 0 {
				t.Errorf("temporary files are left: %q, %v", names, err)
			}
			if _, err := os.Stat(filepath.Join(folder, blob.TemporaryFolder)); err == nil {
				t.Errorf("%s is left", blob.TemporaryFolder)
			}
		})
		return open(t, folder)
	})
}
