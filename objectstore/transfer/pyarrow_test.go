package transfer_test

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore/transfer"
)

//go:embed testdata/client.py
var pyarrowClient string

// TestPyarrow lets the client of pyarrow put and get a table of every type that both sides know, and use the rest of the service.
func TestPyarrow(t *testing.T) {
	t.Parallel() // Most of its time is another process's.
	python := testenv.Python(t, "pyarrow.flight")
	n := newNode(t, "a", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	records := mixed(t)
	put(t, n.store, id, records)
	script := filepath.Join(t.TempDir(), "client.py")
	if err := os.WriteFile(script, []byte(pyarrowClient), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, script, n.address, id.String()).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	// What Python put as one more object is equal to ours.
	equal := 0
	client := dial(t, n.address)
	for _, info := range n.store.List() {
		table, err := client.Get(t.Context(), info.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.Records(); info.ID != id && len(got) == len(records) && array.RecordEqual(got[0], records[0]) && array.RecordEqual(got[2], records[2]) {
			equal++
		}
		table.Release()
	}
	if equal != 1 {
		t.Errorf("%d objects that Python put are equal to ours, want 1", equal)
	}
}
