package folder_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
)

// third is a job beside job and other.
const third engine.JobID = "20261125-080000-ghijklmn"

func TestOneOfTwoThatWantAnEmptyFolderGetsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	jobs := []engine.JobID{job, other, third}
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, id := range jobs {
		all.Go(func() { errs[i] = newOutput(t, path, folder.ModeError, id).Prepare(t.Context()) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	for i, err := range errs {
		if i != winner {
			wantError(t, err, engine.KindConflict, "job "+string(jobs[winner])+" writes to it", "engine job resume "+string(jobs[winner]))
		}
	}
	wantNames(t, path)
	// It may prepare again after a crash, and others are refused also before they begin.
	o := newOutput(t, path, folder.ModeError, jobs[winner])
	must(t, o.Prepare(t.Context()))
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeAppend} {
		late := newOutput(t, path, mode, "20261126-080000-late0000")
		wantError(t, late.Check(t.Context()), engine.KindConflict, "writes to it")
		wantError(t, late.Prepare(t.Context()), engine.KindConflict, "writes to it")
		must(t, late.Abandon(t.Context()))
	}
	part, _ := publish(t, o, 0, "1", "a")
	must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}}))
	wantNames(t, path, folder.SuccessName, part.Name)
}

func TestAFailedJobGivesItsClaimBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	first, second := newOutput(t, path, folder.ModeError, job), newOutput(t, path, folder.ModeError, other)
	must(t, first.Prepare(t.Context()))
	must(t, second.Abandon(t.Context())) // Another one's claim stays.
	wantError(t, second.Prepare(t.Context()), engine.KindConflict, "writes to it")
	must(t, first.Abandon(t.Context()))
	if left := names(t, path); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	must(t, second.Prepare(t.Context()))
	// The first one cannot be resumed now.
	wantError(t, first.Prepare(t.Context()), engine.KindConflict, "job "+string(other))
	must(t, os.WriteFile(filepath.Join(path, folder.NotesName, "claim.json"), []byte("{"), 0o666))
	wantError(t, first.Prepare(t.Context()), engine.KindCorrupt, "claim.json", "was not written by the engine")
}

func TestClaimOfAJobThatAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	first, second := newOutput(t, path, folder.ModeAppend, job), newOutput(t, path, folder.ModeAppend, other)
	must(t, first.Claim(t.Context()))
	wantError(t, second.Claim(t.Context()), engine.KindConflict, "job "+string(job))
	must(t, second.Prepare(t.Context())) // One that adds what it is told to may.
	part, _ := publish(t, second, 0, "1", "a")
	must(t, second.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}}))
	must(t, first.Claim(t.Context()))
	must(t, first.Abandon(t.Context()))
	must(t, second.Claim(t.Context()))
	// A folder may be overwritten in which a claim was left.
	run(t, newOutput(t, path, folder.ModeOverwrite, third), "b")
	wantNames(t, path, folder.SuccessName, folder.PartName(third, 0, ".parquet"))
}

func inputs(names ...string) []folder.Input {
	var all []folder.Input
	for i, name := range names {
		all = append(all, folder.Input{Path: "/in/" + name, SizeBytes: int64(i), ModifiedUnixNanos: 7, ETag: "e"})
	}
	return all
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	write := func(id engine.JobID, mode folder.Mode, read ...string) folder.Output {
		o := newOutput(t, path, mode, id)
		must(t, o.Prepare(t.Context()))
		part, _ := publish(t, o, 0, "1", "a")
		must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}, Inputs: inputs(read...), Digests: folder.Digests{Plan: "p"}}))
		must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}, Inputs: inputs(read...)})) // Again, as after a crash.
		return o
	}
	if h, err := newOutput(t, path, folder.ModeAppend, job).History(t.Context()); err != nil || h.Finished != nil || h.Unrecorded != nil {
		t.Fatalf("%+v, %v of a folder that does not exist", h, err)
	}
	write(job, folder.ModeError, "a", "b")
	o := write(other, folder.ModeAppend, "c")
	half := newOutput(t, path, folder.ModeAppend, third)
	must(t, half.Prepare(t.Context()))
	part, _ := publish(t, half, 0, "1", "a")
	h, err := o.History(t.Context())
	must(t, err)
	if len(h.Finished) != 2 || h.Finished[0].Job != min(job, other) || h.Finished[1].Digests.Plan != "p" || len(h.Finished[0].Parts) != 1 || time.Since(h.Finished[0].Finished) > time.Hour {
		t.Errorf("%+v", h)
	}
	for _, f := range h.Finished {
		want := map[engine.JobID][]folder.Input{job: inputs("a", "b"), other: inputs("c")}[f.Job]
		if !slices.Equal(f.Inputs, want) {
			t.Errorf("%s read %v, want %v", f.Job, f.Inputs, want)
		}
	}
	if !slices.Equal(h.Unrecorded, []engine.JobID{third}) || h.Success != "" {
		t.Errorf("unrecorded %v, _SUCCESS of %q", h.Unrecorded, h.Success)
	}
	for _, f := range h.Finished {
		if missing, err := o.Missing(t.Context(), f.Parts); err != nil || missing != "" {
			t.Errorf("%s is missing, %v", missing, err)
		}
		must(t, os.WriteFile(o.PartPath(f.Parts[0].Name), nil, 0o666))
		if missing, err := o.Missing(t.Context(), f.Parts); err != nil || missing != o.PartPath(f.Parts[0].Name) {
			t.Errorf("%q is missing, %v", missing, err)
		}
	}
	// Readers see rows alone, also of _SUCCESS.
	content, err := os.ReadFile(filepath.Join(path, folder.NotesName, folder.RecordName(folder.InputsRecord, job, -1)))
	must(t, err)
	if !json.Valid(content) {
		t.Errorf("not JSON: %s", content)
	}
	must(t, half.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}, Inputs: inputs("d")}))
	success, err := os.ReadFile(filepath.Join(path, folder.SuccessName))
	must(t, err)
	if strings.Contains(string(success), "/in/d") {
		t.Errorf("_SUCCESS lists inputs: %s", success)
	}
	// What is overwritten was never read.
	write("20261126-080000-new00000", folder.ModeOverwrite, "a")
	if h, err = o.History(t.Context()); err != nil || len(h.Finished) != 1 || h.Unrecorded != nil || h.Success != "20261126-080000-new00000" {
		t.Errorf("%+v, %v", h, err)
	}
	must(t, os.WriteFile(filepath.Join(path, folder.NotesName, "inputs-x.json"), []byte("{}"), 0o666))
	if _, err = o.History(t.Context()); err == nil {
		t.Error("a record that cannot be read is passed over")
	}
	wantError(t, err, engine.KindCorrupt, "inputs-x.json")
}

func TestDiscard(t *testing.T) {
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeAppend, folder.ModeOverwrite} {
		t.Run(string(mode), func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "out")
			var before []string
			if mode != folder.ModeError {
				run(t, newOutput(t, path, folder.ModeError, other), "old")
				before = names(t, path)
			}
			o := newOutput(t, path, mode, job)
			must(t, o.Prepare(t.Context()))
			s, err := o.Create(folder.PartName(job, 0, ".parquet"), "1")
			must(t, err)
			s.Keep(map[string]string{"a": "b"})
			_, err = s.Publish(t.Context())
			must(t, err)
			part := folder.PartName(job, 0, ".parquet")
			must(t, o.Abandon(t.Context()))
			must(t, o.Discard(t.Context(), false))
			if mode != folder.ModeOverwrite && !slices.Contains(names(t, path), part) {
				t.Error("published rows are gone")
			}
			must(t, o.Discard(t.Context(), true))
			must(t, o.Discard(t.Context(), true))
			wantNames(t, root, "out")
			if before = slices.DeleteFunc(before, func(name string) bool { return mode == folder.ModeAppend && name == folder.SuccessName }); mode == folder.ModeError {
				before = nil
			}
			wantNames(t, path, before...)
			// What is complete stays.
			path = filepath.Join(root, "done")
			run(t, newOutput(t, path, mode, job), "a")
			must(t, newOutput(t, path, mode, job).Discard(t.Context(), true))
			wantNames(t, path, folder.SuccessName, part)
		})
	}
}
