package jobplan

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TaskRecord says which files are a task's, and what its attempt did. It is kept as JSON in the first of the job's folders, and appears once:
// from then on the files are the task's, whether they can be seen already or not.
type TaskRecord struct {
	// Job and Task are whose record it is.
	Job  engine.JobID `json:"job"`
	Task int          `json:"task"`
	// Epoch is that of the attempt.
	Epoch engine.Epoch `json:"epoch"`
	// Counts are what the attempt did.
	Counts *enginev1.TaskCounts `json:"-"`
	// Parts are the files.
	Parts []TaskPart `json:"parts"`
}

// TaskPart is one file of a task.
type TaskPart struct {
	folder.Sealed
	// Folder is its place in Folders.
	Folder int `json:"folder"`
	// Rows is how many rows it holds.
	Rows int64 `json:"rows"`
}

// plainRecord is a TaskRecord without its methods.
type plainRecord TaskRecord

type storedRecord struct {
	plainRecord
	Counts json.RawMessage `json:"counts"`
}

// MarshalJSON implements json.Marshaler.
func (r *TaskRecord) MarshalJSON() ([]byte, error) {
	counts, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r.Counts)
	if err != nil {
		return nil, err
	}
	return json.Marshal(storedRecord{plainRecord(*r), counts})
}

// ReadTaskRecord is the inverse of json.Marshal. Its error is of kind engine.KindCorrupt.
func ReadTaskRecord(content []byte) (*TaskRecord, error) {
	var stored storedRecord
	counts := &enginev1.TaskCounts{}
	err := json.Unmarshal(content, &stored)
	if err == nil {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(stored.Counts, counts)
	}
	if err == nil && stored.Job != "" {
		r := TaskRecord(stored.plainRecord)
		r.Counts = counts
		return &r, nil
	}
	return nil, engine.Errorf(engine.KindCorrupt, "read record", "", "it was not written by the engine")
}

// revealsAtOnce bounds how many files of a record are revealed at a time, and recordsAtOnce of how many records: each takes round trips to a
// bucket, and a task may have thousands.
const revealsAtOnce, recordsAtOnce = 16, 8

// Reveal makes the files visible, those that are not yet, several at a time. It may be called by any process, more than once.
func (r *TaskRecord) Reveal(ctx context.Context, folders []Folder) error {
	for _, p := range r.Parts {
		if p.Folder < 0 || p.Folder >= len(folders) {
			return engine.Errorf(engine.KindCorrupt, "reveal part", p.Part, "its record names folder %d of %d", p.Folder, len(folders))
		}
	}
	group, all := errgroup.WithContext(ctx)
	group.SetLimit(revealsAtOnce)
	for _, p := range r.Parts {
		if all.Err() != nil {
			break
		}
		group.Go(func() error { return folders[p.Folder].Place.Reveal(all, p.Sealed) })
	}
	return cmp.Or(group.Wait(), context.Cause(ctx))
}

// void tells whether of a record's files none is there, neither seen nor unseen. An attempt whose job had ended may have put the record after
// its files were swept: then its task has no result, and is done again.
func (r *TaskRecord) void(ctx context.Context, folders []Folder) (bool, error) {
	for _, p := range r.Parts {
		if _, err := folders[p.Folder].Place.Look(ctx, p.Part); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// RevealAll makes all files visible that the records of a job's tasks name, and deletes records of which every file is gone. No part may be
// in the making.
func RevealAll(ctx context.Context, folders []Folder) error {
	if !SeveralParts(folders) {
		return nil
	}
	names, err := folders[0].Place.Records(ctx, folder.TaskRecord)
	if err != nil {
		return err
	}
	group, all := errgroup.WithContext(ctx)
	group.SetLimit(recordsAtOnce)
	for _, name := range names {
		if all.Err() != nil {
			break
		}
		group.Go(func() error { return revealRecord(all, folders, name) })
	}
	return cmp.Or(group.Wait(), context.Cause(ctx))
}

// revealRecord is RevealAll for one record.
func revealRecord(ctx context.Context, folders []Folder, name string) error {
	content, err := folders[0].Place.Record(ctx, name)
	if err != nil {
		return err
	}
	record, err := ReadTaskRecord(content)
	if err != nil {
		return engine.WrapError("", name, err)
	}
	err = record.Reveal(ctx, folders)
	if engine.KindOf(err) != engine.KindCorrupt || err == nil {
		return err
	}
	gone, lookErr := record.void(ctx, folders)
	if lookErr != nil || !gone {
		return errors.Join(err, lookErr)
	}
	return folders[0].Place.RemoveRecord(ctx, name)
}
