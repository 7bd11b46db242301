package folder_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
)

// publishNoted publishes a part with a note that says who made it.
func publishNoted(t *testing.T, o folder.Output, part, attempt, content string) bool {
	t.Helper()
	s, err := o.Create(part, attempt)
	must(t, err)
	s.Keep(map[string]string{"attempt": attempt})
	_, err = s.Write([]byte(content))
	must(t, err)
	won, err := s.Publish(t.Context())
	must(t, err)
	return won
}

// TestNotes publishes two attempts with different bytes: the note is always the winner's.
func TestNotes(t *testing.T) {
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	part := folder.PartName(job, 0, ".csv")
	if !publishNoted(t, o, part, "1", "one") || publishNoted(t, o, part, "2", "other") {
		t.Error("the first did not win, or the second did")
	}
	kept, err := o.Metadata(t.Context(), part, nil)
	if err != nil || kept["attempt"] != "1" {
		t.Errorf("%v, %v", kept, err)
	}
	wantNames(t, filepath.Join(o.WorkFolder, folder.NotesName), part+".json")
	// As if the winner had ended before its note had its name, and another attempt after it had drafted one.
	note := filepath.Join(o.WorkFolder, folder.NotesName, part+".json")
	content, err := os.ReadFile(note)
	must(t, err)
	must(t, os.Remove(note))
	draft := func(attempt, content string) {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(note), "_note-"+part+"-"+attempt+".tmp"), []byte(content), 0o600))
	}
	other := strings.NewReplacer("sha256:", "sha256:00", `"attempt": "1"`, `"attempt": "3"`).Replace(string(content))
	draft("3", other)
	draft("4", "{")
	if _, err := o.Metadata(t.Context(), part, nil); engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), "has no note") {
		t.Errorf("got %v", err)
	}
	draft("1", string(content))
	if kept, err := o.Metadata(t.Context(), part, nil); err != nil || kept["attempt"] != "1" {
		t.Errorf("%v, %v", kept, err)
	}
	must(t, o.Prepare(t.Context()))
	wantNames(t, filepath.Dir(note), part+".json")
	must(t, os.WriteFile(o.PartPath(part), []byte("longer"), 0o600))
	if _, err := o.Metadata(t.Context(), part, nil); engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), "has 6 bytes, its note in _engine says 3") {
		t.Errorf("got %v", err)
	}
}
