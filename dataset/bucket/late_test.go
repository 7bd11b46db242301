package bucket_test

import (
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/dataset/folder"
)

// TestEveryExtensionIsOwn begins again with parts of each format in place: they are the job's own, whatever their names end in, and so are
// uploads that a crash has left.
func TestEveryExtensionIsOwn(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		o := newOutput(t, b, folder.ModeError, job)
		must(t, o.Prepare(t.Context()))
		var lost []folder.Sealed
		for i, name := range []string{
			folder.PartName(job, 0, ".json"), folder.PartName(job, 1, ".json.gz"), folder.PartName(job, 2, ".csv"), "year=2026/" + folder.PartName(job, 3, ".json"),
		} {
			d, err := o.Begin(t.Context(), name, "1")
			must(t, err)
			_, err = d.Write([]byte{byte(i)})
			must(t, err)
			won, err := d.Publish(t.Context())
			must(t, err)
			if !won {
				t.Fatalf("%s is another's", name)
			}
			d, err = o.Begin(t.Context(), name, "2")
			must(t, err)
			sealed, err := d.Seal(t.Context())
			must(t, err)
			lost = append(lost, sealed)
		}
		must(t, o.Abandon(t.Context()))
		for _, sealed := range lost {
			// Its upload is gone. Some servers say so, and others that it is in the place of another's part.
			if kind := engine.KindOf(o.Reveal(t.Context(), sealed)); kind != engine.KindCorrupt && kind != engine.KindConflict {
				t.Errorf("%s: revealed after it was swept: %v", sealed.Part, kind)
			}
		}
		must(t, o.Check(t.Context()))
		must(t, o.Prepare(t.Context()))
	})
}

// TestCompleteOnceMore lets a job end again whose head has died when all was done, after another job has written to the same place.
func TestCompleteOnceMore(t *testing.T) {
	for _, next := range []folder.Mode{folder.ModeOverwrite, folder.ModeAppend} {
		t.Run(string(next), func(t *testing.T) {
			each(t, func(t *testing.T, b blob.Bucket) {
				o := newOutput(t, b, folder.ModeOverwrite, job)
				must(t, o.Prepare(t.Context()))
				part, _ := publish(t, o, 0, "1", "first")
				success := folder.Success{Parts: []folder.Part{part}, Inputs: []folder.Input{}}
				must(t, o.Complete(t.Context(), success))

				second := newOutput(t, b, next, other)
				must(t, second.Prepare(t.Context()))
				theirs, _ := publish(t, second, 0, "1", "second")
				must(t, o.Complete(t.Context(), success))
				if got := content(t, b, theirs.Name); got != "second" {
					t.Fatal(got)
				}
				must(t, second.Complete(t.Context(), folder.Success{Parts: []folder.Part{theirs}, Inputs: []folder.Input{}}))
				if err := o.Complete(t.Context(), success); next == folder.ModeAppend {
					must(t, err)
				} else {
					blobtest.WantKind(t, err, engine.KindCorrupt, "is gone") // The other job has replaced it.
				}
				must(t, o.Abandon(t.Context()))
				if got := content(t, b, theirs.Name); got != "second" {
					t.Fatal(got)
				}
			})
		})
	}
}

// TestCompleteWithoutClaim refuses to delete what others write while another job has the place.
func TestCompleteWithoutClaim(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		o := newOutput(t, b, folder.ModeOverwrite, job)
		must(t, o.Prepare(t.Context()))
		part, _ := publish(t, o, 0, "1", "first")
		must(t, b.Delete(t.Context(), claimKey)) // somebody believed that the job was gone
		second := newOutput(t, b, folder.ModeOverwrite, other)
		must(t, second.Prepare(t.Context()))
		theirs, _ := publish(t, second, 0, "1", "second")
		blobtest.WantKind(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{part}, Inputs: []folder.Input{}}), engine.KindConflict, string(other))
		if got := content(t, b, theirs.Name); got != "second" {
			t.Fatal(got)
		}
		must(t, second.Complete(t.Context(), folder.Success{Parts: []folder.Part{theirs}, Inputs: []folder.Input{}}))
	})
}
