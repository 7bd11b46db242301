package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// NotesName is the folder beside the parts of formats that have no place for metadata; readers of tables skip it. It holds a note
// <part>.json for each such part.
//
// A note is drafted under its attempt's name, with the digest of the part, before the part is published. So whichever attempt is first,
// its note is there, and is known by the digest if the process ends before the note has its final name.
const NotesName = "_engine"

const notePrefix = "_note-"

// note is the content of a note.
type note struct {
	Part      string            `json:"part"`
	SizeBytes int64             `json:"size_bytes"`
	Digest    string            `json:"digest"`
	Metadata  map[string]string `json:"metadata"`
}

func (o Output) notePath(part string) string {
	return filepath.Join(o.WorkFolder, NotesName, part+".json")
}

func noteDraftPrefix(part string) string { return notePrefix + part + "-" }

// Keep says that the part's format has no place for metadata, which is kept beside it then. It must be called before the first Write;
// metadata may be set until Publish.
func (s *Staging) Keep(metadata map[string]string) { s.kept, s.digest = metadata, sha256.New() }

// noteTries is how often something is tried again because another process was in between.
const noteTries = 10

// draftNote writes the note of a part that is whole.
func (s *Staging) draftNote() error {
	content, err := json.MarshalIndent(note{
		Part: s.part, SizeBytes: s.size, Digest: "sha256:" + hex.EncodeToString(s.digest.Sum(nil)), Metadata: s.kept,
	}, "", "  ")
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, s.part, "note: %w", err)
	}
	folder := filepath.Join(s.output.WorkFolder, NotesName)
	attempt := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(s.path), strings.TrimSuffix(stagingName(s.part, ""), ".tmp")), ".tmp")
	s.draft = filepath.Join(folder, noteDraftPrefix(s.part)+attempt+".tmp")
	if err := draftFile(s.draft, append(content, '\n')); err != nil {
		return err
	}
	failpoint.Hit(failpoint.FolderNoteWritten)
	if err := syncFolder(folder); err != nil {
		return err
	}
	failpoint.Hit(failpoint.FolderNoteDrafted)
	return nil
}

// finishNote gives a draft its final name. A draft that is gone was given it by another attempt, which has adopted the part.
func (o Output) finishNote(part, draft string) error {
	path := o.notePath(part)
	if err := putIfAbsent(draft, path); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return classify(path, err)
	}
	failpoint.Hit(failpoint.FolderNoteLinked)
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(draft, err)
	}
	failpoint.Hit(failpoint.FolderNoteFinished)
	return syncFolder(filepath.Dir(path))
}

// Metadata returns what was kept of a published part: what held reads in the file or, if held is nil, what stands beside it. If the attempt
// that published the part ended before it gave the note its name, Metadata does so. A part that has no note, or another length than its
// note says, is an error of kind engine.KindCorrupt.
func (o Output) Metadata(ctx context.Context, part string, held func(path string) (map[string]string, error)) (map[string]string, error) {
	if held != nil {
		return held(o.PartPath(part))
	}
	return o.note(ctx, part)
}

func (o Output) note(ctx context.Context, part string) (map[string]string, error) {
	path := o.PartPath(part)
	for try := 0; ; try++ {
		n, err := readNote(o.notePath(part))
		switch {
		case err == nil:
			info, err := os.Stat(path)
			if err != nil {
				return nil, classify(path, err)
			}
			if info.Size() != n.SizeBytes || n.Part != part {
				return nil, engine.Errorf(engine.KindCorrupt, op, path, "has %d bytes, its note in %s says %d of %s", info.Size(), NotesName, n.SizeBytes, n.Part)
			}
			return n.Metadata, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		draft, err := o.findDraft(ctx, part)
		if err != nil {
			return nil, err
		}
		switch {
		case draft != "" && try < noteTries:
			if err := o.finishNote(part, draft); err != nil {
				return nil, err
			}
		case try > 0:
			return nil, engine.Errorf(engine.KindCorrupt, op, path, "has no note in %s that tells what it holds", NotesName)
		}
		// Without a draft, whoever published the part has just given the note its name.
	}
}

func readNote(path string) (note, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return note{}, classifyUnlessMissing(path, err)
	}
	var n note
	if err := json.Unmarshal(content, &n); err != nil || n.Part == "" {
		return note{}, engine.Errorf(engine.KindCorrupt, op, path, "was not written by the engine")
	}
	return n, nil
}

func classifyUnlessMissing(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return classify(path, err)
}

// findDraft returns the path of the draft that belongs to a published part, or "".
func (o Output) findDraft(ctx context.Context, part string) (string, error) {
	folder := filepath.Join(o.WorkFolder, NotesName)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", classify(folder, err)
	}
	digest := ""
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), noteDraftPrefix(part)) {
			continue
		}
		path := filepath.Join(folder, entry.Name())
		n, err := readNote(path)
		if errors.Is(err, fs.ErrNotExist) || engine.KindOf(err) == engine.KindCorrupt {
			continue // Of an attempt that has ended, or ended while it wrote.
		}
		if err != nil {
			return "", err
		}
		if digest == "" {
			if digest, err = digestOf(ctx, o.PartPath(part)); err != nil {
				return "", err
			}
		}
		if n.Part == part && n.Digest == digest {
			return path, nil
		}
	}
	return "", nil
}

func digestOf(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", classify(path, err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		_, err := io.CopyN(h, f, 4<<20)
		if errors.Is(err, io.EOF) {
			return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", classify(path, err)
		}
	}
}

// removeDrafts deletes the drafts of this job's notes, and gives those of published parts their names. No part may be in the making.
func (o Output) removeDrafts(ctx context.Context) error {
	folder := filepath.Join(o.WorkFolder, NotesName)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(folder, err)
	}
	left := len(entries)
	for _, entry := range entries {
		if o.recordDraft(entry.Name()) {
			left--
			path := filepath.Join(folder, entry.Name())
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return classify(path, err)
			}
			continue
		}
		rest, ok := strings.CutPrefix(entry.Name(), notePrefix+o.partPrefix())
		if !ok {
			continue
		}
		sequence, _, _ := strings.Cut(rest, "-")
		part := o.partPrefix() + sequence
		if !o.ownPart(part) {
			continue
		}
		switch _, err := os.Stat(o.PartPath(part)); {
		case errors.Is(err, fs.ErrNotExist):
			left--
		case err != nil:
			return classify(o.PartPath(part), err)
		default:
			if _, err := o.note(ctx, part); err != nil {
				return err
			}
		}
		path := filepath.Join(folder, entry.Name())
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return classify(path, err)
		}
	}
	if left == 0 {
		failpoint.Hit(failpoint.FolderNotesRemoved)
		// Another job that appends to the output may have drafted a note by now.
		if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return classify(folder, err)
		}
	}
	return nil
}
