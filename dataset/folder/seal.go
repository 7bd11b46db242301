package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// Seal makes the part durable under its staging name, where it stays: a task with several parts seals all of them, records that, and only
// then shows them with Output.Reveal. After an error only Discard makes sense.
func (s *Staging) Seal(ctx context.Context) (Sealed, error) {
	if _, err := s.settle(ctx); err != nil {
		return Sealed{}, err
	}
	if err := syncFolder(s.output.WorkFolder); err != nil {
		return Sealed{}, err
	}
	failpoint.Hit(failpoint.FolderSealed)
	sealed := Sealed{Part: s.part, SizeBytes: s.size, Staged: filepath.Base(s.path)}
	s.path = "" // It is not this attempt's any more.
	return sealed, nil
}

// Unseal deletes a sealed part that nobody is to reveal. One that is gone is no error.
func (o Output) Unseal(ctx context.Context, sealed Sealed) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !o.isSealed(sealed) {
		return engine.Errorf(engine.KindInternal, op, sealed.Part, "is no sealed part of job %s", o.Job)
	}
	path := filepath.Join(o.WorkFolder, sealed.Staged)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(path, err)
	}
	return nil
}

func (o Output) isSealed(sealed Sealed) bool {
	return o.ownPart(sealed.Part) && filepath.Base(sealed.Staged) == sealed.Staged && o.scratch(sealed.Staged)
}

// Reveal gives a sealed part its final name. It may be called by any process, more than once: a part that has been revealed stays. A part
// that is neither sealed nor revealed is an error of kind engine.KindCorrupt, another file in its place one of kind engine.KindConflict.
func (o Output) Reveal(ctx context.Context, sealed Sealed) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	staged, final := filepath.Join(o.WorkFolder, sealed.Staged), o.PartPath(sealed.Part)
	if !o.isSealed(sealed) {
		return engine.Errorf(engine.KindInternal, op, final, "is no sealed part of job %s", o.Job)
	}
	linked := putIfAbsent(staged, final)
	if errors.Is(linked, fs.ErrNotExist) {
		if _, err := os.Lstat(staged); err == nil {
			// The folders key=value are not there yet.
			if err := makeFolder(filepath.Dir(final)); err != nil {
				return err
			}
			linked = putIfAbsent(staged, final)
		}
	}
	failpoint.Hit(failpoint.FolderRevealed)
	switch {
	case linked == nil:
		// Before its other name goes: a part that has only its final name is known to be durable there.
		if err := syncFolder(filepath.Dir(final)); err != nil {
			return err
		}
	case errors.Is(linked, fs.ErrNotExist), errors.Is(linked, fs.ErrExist):
		// Revealed before, by this process or another one, unless it is somebody else's.
		info, err := os.Lstat(final)
		if errors.Is(err, fs.ErrNotExist) {
			// With another folder of the job the head may have died when this one was complete already, and its work folder in place.
			if done, err := o.completed(); err != nil || done {
				return err
			}
			return engine.Errorf(engine.KindCorrupt, op, final, "was sealed as %s and is gone", sealed.Staged).
				WithHint("somebody deleted it; run the job again under a new id")
		}
		if err != nil {
			return classify(final, err)
		}
		if !info.Mode().IsRegular() || info.Size() != sealed.SizeBytes {
			return engine.Errorf(engine.KindConflict, op, final, "has %d bytes, the part that belongs there %d", info.Size(), sealed.SizeBytes)
		}
		if errors.Is(linked, fs.ErrExist) {
			if err := syncFolder(filepath.Dir(final)); err != nil {
				return err
			}
		}
	default:
		return classify(final, linked)
	}
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(staged, err)
	}
	return nil
}
