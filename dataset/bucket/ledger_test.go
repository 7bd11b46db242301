package bucket_test

import (
	"slices"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/folder"
)

// TestClaim lets jobs meet that do not want each other.
func TestClaim(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite} {
			mine := newOutput(t, b, mode, job)
			must(t, mine.Prepare(t.Context()))
			must(t, mine.Claim(t.Context()))
			for _, theirs := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
				o := newOutput(t, b, theirs, other)
				for _, err := range []error{o.Check(t.Context()), o.Prepare(t.Context()), o.Abandon(t.Context())} {
					if err != nil {
						blobtest.WantKind(t, err, engine.KindConflict, "job "+string(job)+" writes to it", "engine job resume")
					} else if !slices.Contains(keys(t, b), claimKey) {
						t.Fatal("another job removed the claim")
					}
				}
			}
			must(t, mine.Abandon(t.Context()))
			must(t, newOutput(t, b, folder.ModeAppend, other).Check(t.Context()))
			if len(keys(t, b)) > 0 {
				t.Fatal(keys(t, b))
			}
		}
		// Those that append bear each other, unless one of them asks to be alone.
		first, second := newOutput(t, b, folder.ModeAppend, job), newOutput(t, b, folder.ModeAppend, other)
		must(t, first.Prepare(t.Context()))
		must(t, first.Claim(t.Context()))
		must(t, second.Prepare(t.Context()))
		blobtest.WantKind(t, second.Claim(t.Context()), engine.KindConflict, string(job))
		must(t, first.Complete(t.Context(), folder.Success{}))
		must(t, second.Claim(t.Context()))
	})
}

func TestHistory(t *testing.T) {
	b := memory.New("bucket").Prefixed("out")
	first, second := newOutput(t, b, folder.ModeAppend, other), newOutput(t, b, folder.ModeAppend, job)
	must(t, first.Prepare(t.Context()))
	a, _ := publish(t, first, 0, "1", "a")
	must(t, first.Complete(t.Context(), folder.Success{Parts: []folder.Part{a}, Inputs: []folder.Input{{Path: "s3://in/a.csv", SizeBytes: 7, ETag: "e"}}}))
	must(t, second.Prepare(t.Context()))
	z, _ := publish(t, second, 0, "1", "zz")
	history, err := second.History(t.Context())
	if err != nil || len(history.Finished) != 1 || history.Finished[0].Job != other || history.Finished[0].Inputs[0].ETag != "e" ||
		history.Finished[0].Parts[0] != a || !slices.Equal(history.Unrecorded, []engine.JobID{job}) {
		t.Errorf("%+v, %v", history, err)
	}
	if missing, err := second.Missing(t.Context(), []folder.Part{a, z}); missing != "" || err != nil {
		t.Error(missing, err)
	}
	z.SizeBytes++
	if missing, err := second.Missing(t.Context(), []folder.Part{a, z}); missing != second.PartPath(z.Name) || err != nil {
		t.Error(missing, err)
	}
	blobtest.Put(t, b, "_engine/"+folder.RecordName(folder.InputsRecord, job, -1), []byte("{}"))
	_, err = second.History(t.Context())
	blobtest.WantKind(t, err, engine.KindCorrupt, "inputs-"+string(job))
}

func TestDiscard(t *testing.T) {
	for _, published := range []bool{false, true} {
		b := memory.New("bucket").Prefixed("out")
		first, second := newOutput(t, b, folder.ModeAppend, other), newOutput(t, b, folder.ModeAppend, job)
		must(t, first.Prepare(t.Context()))
		a, _ := publish(t, first, 0, "1", "a")
		must(t, first.Complete(t.Context(), folder.Success{Parts: []folder.Part{a}, Inputs: []folder.Input{{Path: "/in/a.csv"}}}))
		must(t, second.Prepare(t.Context()))
		s := story{mode: folder.ModeAppend, kind: "notes"}
		must(t, s.publish(t.Context(), second, 0, "1"))
		must(t, first.Discard(t.Context(), true)) // It has finished.
		must(t, second.Discard(t.Context(), published))
		part, record := folder.PartName(job, 0, ".csv"), "_engine/"+folder.RecordName(folder.InputsRecord, other, -1)
		if published {
			wantKeys(t, b, a.Name, record)
		} else {
			wantKeys(t, b, a.Name, record, part, "_engine/"+part+".json")
		}
	}
}
