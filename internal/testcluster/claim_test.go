package testcluster_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
)

// TestOnlyNewWhileAnotherWrites refuses a job at its submission whose output another head's job has for itself, and takes it once that job
// has been forgotten.
func TestOnlyNewWhileAnotherWrites(t *testing.T) {
	n := newNightly(t, "append", "a")
	c := n.start(t)
	elsewhere, err := folder.New(filepath.Join(n.dir, "out"), folder.ModeAppend, "20251123-142330-aaaaaaaa")
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Client().Submit(withTimeout(t), n.spec, client.WithOnlyNew())
	if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), string(elsewhere.Job)+" writes to it, or was cut off") {
		t.Errorf("submitted: %v", err)
	}
	// As `engine job forget` does with a job that was cut off.
	if err := elsewhere.Discard(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	wait(t, submit(t, c, n.spec, client.WithOnlyNew()), engine.JobSucceeded)
	n.wantRows(t, "a")
}
