package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/f708428e/engine/internal/testcluster"
)

func TestExample(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 1})
	folder := t.TempDir()
	const rows = 100_000
	want := regexp.MustCompile(`^put [0-9a-f]{32}@\S+\ngot 100000 rows in \S+; the squares add up to 333328333350000\ncheckpoint \S+\.arrows\n$`)
	// The second run takes the name over from the first.
	for range 2 {
		var out bytes.Buffer
		if err := run(t.Context(), &out, cluster.Address(), rows, folder); err != nil {
			t.Fatal(err)
		}
		if !want.Match(out.Bytes()) {
			t.Fatalf("got %s", &out)
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.arrows"))
	if err != nil || len(files) != 2 {
		t.Fatalf("got %v, %v", files, err)
	}
	// Any Arrow library reads a checkpoint.
	file, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := ipc.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	var found int64
	for reader.Next() {
		found += reader.Record().NumRows()
	}
	if reader.Err() != nil || found != rows {
		t.Errorf("the checkpoint has %d rows, %v", found, reader.Err())
	}
}
