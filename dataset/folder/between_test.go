//go:build unix && failpoint

package folder_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/failpoint"
)

// TestNotesOfOthers lets others meddle between the steps of a part: an attempt that adopts it, and a job that appends to the same folder.
func TestNotesOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	o, second := newOutput(t, path, folder.ModeAppend, job), newOutput(t, path, folder.ModeAppend, other)
	must(t, o.Prepare(t.Context()))
	part, notes := folder.PartName(job, 0, ".csv"), filepath.Join(path, folder.NotesName)
	draft := filepath.Join(notes, "_note-"+folder.PartName(other, 0, ".csv")+"-1.tmp")
	t.Cleanup(func() { failpoint.SetHook(nil) })
	seen := map[failpoint.Point]bool{}
	once := func(name, wanted failpoint.Point) bool {
		if name != wanted || seen[name] {
			return false
		}
		seen[name] = true
		return true
	}
	failpoint.SetHook(func(name failpoint.Point) {
		switch {
		case once(name, failpoint.FolderNoteMade):
			must(t, second.Abandon(t.Context()))
			wantNames(t, path, "_staging-"+strings.TrimSuffix(part, ".csv")+"-1.tmp")
		case once(name, failpoint.FolderUnlinked):
			kept, err := o.Metadata(t.Context(), part, nil)
			if err != nil || kept["attempt"] != "1" {
				t.Errorf("adopted %v, %v", kept, err)
			}
		}
	})
	if !publishNoted(t, o, part, "1", "one") {
		t.Error("the first did not win")
	}
	wantNames(t, notes, part+".json")

	must(t, os.RemoveAll(notes))
	must(t, os.Mkdir(notes, 0o777))
	failpoint.SetHook(func(name failpoint.Point) {
		if once(name, failpoint.FolderNotesRemoved) {
			must(t, os.WriteFile(draft, nil, 0o666))
		}
	})
	must(t, o.Abandon(t.Context()))
	wantNames(t, notes, filepath.Base(draft))
	if len(seen) != 3 {
		t.Errorf("only %v", seen)
	}
}
