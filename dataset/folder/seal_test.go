package folder_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
)

// seal writes a part and seals it.
func seal(t *testing.T, o folder.Output, part, attempt, content string) folder.Sealed {
	t.Helper()
	d, err := o.Begin(t.Context(), part, attempt)
	must(t, err)
	_, err = d.Write([]byte(content))
	must(t, err)
	sealed, err := d.Seal(t.Context())
	must(t, err)
	must(t, d.Discard()) // It does nothing any more.
	return sealed
}

// TestSeal seals parts in partition folders: nobody sees them until they are revealed, which can be done again, and by anybody.
func TestSeal(t *testing.T) {
	ctx := t.Context()
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
	must(t, o.Prepare(ctx))
	parts := []string{"year=2026/month=1/" + folder.PartName(job, 0, ".parquet"), "year=2026/month=2/" + folder.PartName(job, 0, ".parquet")}
	first, second := seal(t, o, parts[0], "7-0", "one"), seal(t, o, parts[1], "7-1", "two!")
	for _, part := range parts {
		if _, err := o.Look(ctx, part); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s can be seen: %v", part, err)
		}
	}
	loser := seal(t, o, parts[0], "8-0", "another attempt's")
	must(t, o.Unseal(ctx, loser))
	must(t, o.Unseal(ctx, loser))
	for range 2 {
		must(t, o.Reveal(ctx, first))
	}
	must(t, o.Reveal(ctx, second))
	if size, err := o.Look(ctx, parts[1]); size != 4 || err != nil {
		t.Errorf("%d bytes, %v", size, err)
	}
	wantError(t, o.Reveal(ctx, loser), engine.KindConflict, "has 3 bytes, the part that belongs there 17")
	gone := seal(t, o, "year=2027/"+folder.PartName(job, 1, ".parquet"), "7-2", "x")
	must(t, o.Unseal(ctx, gone))
	wantError(t, o.Reveal(ctx, gone), engine.KindCorrupt, "and is gone")
	wantError(t, o.Reveal(ctx, folder.Sealed{Part: "../" + folder.PartName(job, 1, ".parquet"), Staged: first.Staged}), engine.KindInternal)
	wantError(t, o.Reveal(ctx, folder.Sealed{Part: parts[0], Staged: "../x"}), engine.KindInternal)

	must(t, o.Complete(ctx, folder.Success{Parts: []folder.Part{{Name: parts[0], Rows: 1, SizeBytes: 3}, {Name: parts[1], Rows: 1, SizeBytes: 4}}}))
	published, err := o.Published(ctx)
	if err != nil || len(published) != 2 || published[1] != (folder.Part{Name: parts[1], SizeBytes: 4}) {
		t.Errorf("%v, %v", published, err)
	}
	next := newOutput(t, o.Folder, folder.ModeError, other)
	wantError(t, next.Check(ctx), engine.KindConflict, "holds 2 rows in 2 files")
	must(t, newOutput(t, o.Folder, folder.ModeOverwrite, other).Check(ctx))
}

// TestRevealAfterCompletion plays a head that died when one of a job's folders had been exchanged, and takes the job up: the part is where it
// belongs, and the work folder stays gone.
func TestRevealAfterCompletion(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	o := newOutput(t, filepath.Join(root, "out"), folder.ModeOverwrite, job)
	must(t, o.Prepare(ctx))
	part := "a=b/" + folder.PartName(job, 0, ".parquet")
	sealed := seal(t, o, part, "1-0", "one")
	must(t, o.Reveal(ctx, sealed))
	must(t, o.Complete(ctx, folder.Success{Parts: []folder.Part{{Name: part, Rows: 1, SizeBytes: 3}}}))
	must(t, o.Reveal(ctx, sealed))
	wantNames(t, root, "out")
}

// TestUnlistedPart finds a part in a partition folder that the job does not know of.
func TestUnlistedPart(t *testing.T) {
	ctx := t.Context()
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeAppend, job)
	must(t, o.Prepare(ctx))
	part := "a=b/" + folder.PartName(job, 0, ".parquet")
	must(t, o.Reveal(ctx, seal(t, o, part, "1", "one")))
	wantError(t, o.Complete(ctx, folder.Success{}), engine.KindConflict, part)
	must(t, os.Remove(o.PartPath(part)))
	must(t, o.Complete(ctx, folder.Success{}))
}

// TestRecords puts a record twice: the first stays, and is there after the job's end.
func TestRecords(t *testing.T) {
	ctx := t.Context()
	o := newOutput(t, filepath.Join(t.TempDir(), "out"), folder.ModeError, job)
	must(t, o.Prepare(ctx))
	name := folder.RecordName(folder.TaskRecord, job, 3)
	if _, err := o.Record(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a record that is not there: %v", err)
	}
	for i, content := range []string{"first", "second"} {
		won, err := o.PutRecord(ctx, name, string(rune('1'+i)), []byte(content))
		if err != nil || won != (i == 0) {
			t.Errorf("%s: won %v, %v", content, won, err)
		}
	}
	_, err := o.PutRecord(ctx, folder.RecordName(folder.TaskRecord, other, 3), "1", nil)
	wantError(t, err, engine.KindInternal)
	draft := filepath.Join(o.WorkFolder, folder.NotesName, "_note-"+name+"-9.tmp")
	must(t, os.WriteFile(draft, []byte("cut off"), 0o600))
	must(t, o.Complete(ctx, folder.Success{}))
	if _, err := os.Lstat(draft); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a draft stays behind: %v", err)
	}
	content, err := o.Record(ctx, name)
	names, listErr := o.Records(ctx, folder.TaskRecord)
	if string(content) != "first" || err != nil || listErr != nil || len(names) != 1 || names[0] != name {
		t.Errorf("%q, %v, %v, %v", content, err, names, listErr)
	}
}
