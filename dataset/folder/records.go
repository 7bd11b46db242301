package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// A record is a small file in the folder NotesName that appears whole, once, and stays: what a task with several parts has made, for
// example. It belongs to a job, and its name tells.

// TaskRecord is the kind of the records of tasks with several parts.
const TaskRecord = "task"

// RecordName is the name of the record of a kind, such as "task", that a job has; one of many if number is not negative.
func RecordName(kind string, job engine.JobID, number int) string {
	if number < 0 {
		return fmt.Sprintf("%s-%s.json", kind, job)
	}
	return fmt.Sprintf("%s-%s-%06d.json", kind, job, number)
}

// recordPattern knows a record of any job, or the draft of one, by its name and the form of engine.NewJobID.
var recordPattern = regexp.MustCompile(`^(?:` + notePrefix + `)?[a-z]+-[0-9]{8}-[0-9]{6}-[0-9a-z]+(?:-[0-9]{6,})?\.json(?:-[A-Za-z0-9._-]+\.tmp)?$`)

func (o Output) recordPath(name string) string { return filepath.Join(o.WorkFolder, NotesName, name) }

// ownRecord tells whether a name is that of a record of this job.
func (o Output) ownRecord(name string) bool {
	kind, rest, _ := strings.Cut(name, "-")
	rest, mine := strings.CutPrefix(rest, string(o.Job))
	rest, whole := strings.CutSuffix(rest, ".json")
	return mine && whole && kindPattern.MatchString(kind) && numberPattern.MatchString(rest)
}

// recordDraft tells whether a name is that of the draft of a record of this job.
func (o Output) recordDraft(name string) bool {
	name, draft := strings.CutPrefix(name, notePrefix)
	record, _, ended := strings.Cut(name, ".json-")
	return draft && ended && o.ownRecord(record+".json")
}

var (
	kindPattern   = regexp.MustCompile(`^[a-z]+$`)
	numberPattern = regexp.MustCompile(`^(-[0-9]{6,})?$`)
)

// PutRecord makes a record durable, unless there is one of that name: then won is false, and the other one stays. Attempts must have
// different names.
func (o Output) PutRecord(ctx context.Context, name, attempt string, content []byte) (won bool, err error) {
	if !o.ownRecord(name) || !tokenPattern.MatchString(attempt) {
		return false, engine.Errorf(engine.KindInternal, op, name, "is not a record of job %s, or %q no name of an attempt", o.Job, attempt)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	path := o.recordPath(name)
	folder := filepath.Dir(path)
	draft := filepath.Join(folder, notePrefix+name+"-"+attempt+".tmp")
	if err := draftFile(draft, content); err != nil {
		return false, err
	}
	defer func() {
		if e := os.Remove(draft); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = classify(draft, e)
		}
	}()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	failpoint.Hit(failpoint.FolderRecordDrafted)
	before, err := os.Stat(draft)
	if err != nil {
		return false, classify(draft, err)
	}
	linked := putIfAbsent(draft, path)
	failpoint.Hit(failpoint.FolderRecordLinked)
	if linked != nil {
		if !errors.Is(linked, fs.ErrExist) {
			return false, classify(path, linked)
		}
		// The reply to a link that was made may have been lost, on network file systems.
		existing, err := os.Stat(path)
		if err != nil {
			return false, classify(path, err)
		}
		if !os.SameFile(existing, before) {
			return false, nil
		}
	}
	if err := syncFolder(folder); err != nil {
		return false, err
	}
	failpoint.Hit(failpoint.FolderRecorded)
	return true, nil
}

// draftFile writes a file in the folder of notes, which it makes.
func draftFile(path string, content []byte) error {
	folder := filepath.Dir(path)
	for try := 0; ; try++ {
		if err := makeFolder(folder); err != nil {
			return err
		}
		failpoint.Hit(failpoint.FolderNoteMade)
		err := writeSynced(path, content)
		if err == nil {
			return nil
		}
		// Another job that appends to the output may have found the folder empty, and deleted it.
		if try == noteTries || !errors.Is(err, fs.ErrNotExist) {
			return classify(path, err)
		}
	}
}

// Record returns the content of a record. One that is not there is the error fs.ErrNotExist.
func (o Output) Record(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := o.recordPath(name)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, classifyUnlessMissing(path, err)
	}
	return content, nil
}

// Records lists the names of this job's records of a kind, sorted.
func (o Output) Records(ctx context.Context, kind string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	folder := filepath.Join(o.WorkFolder, NotesName)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, classify(folder, err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), kind+"-") && o.ownRecord(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// RemoveRecord implements Place.
func (o Output) RemoveRecord(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := o.recordPath(name)
	if !o.ownRecord(name) {
		return engine.Errorf(engine.KindInternal, op, path, "is not a record of job %s", o.Job)
	}
	if err := removeIfThere(path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Look returns the size of a published part. One that is not there is the error fs.ErrNotExist.
func (o Output) Look(ctx context.Context, part string) (sizeBytes int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	path := o.PartPath(part)
	info, err := os.Stat(path)
	if err != nil {
		return 0, classifyUnlessMissing(path, err)
	}
	return info.Size(), nil
}
