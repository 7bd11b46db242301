package jobplan_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/bucket"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestRecordAfterTheSweep has an attempt put its record after its job was stopped and its files were swept. The task has no result then,
// and the job can be resumed. Where one of the files can be seen, the record stands, and that others are gone is said.
func TestRecordAfterTheSweep(t *testing.T) {
	const id engine.JobID = "20261123-142330-7f3k2m9q"
	for name, place := range map[string]func(t *testing.T) folder.Place{
		"folder": func(t *testing.T) folder.Place {
			o, err := folder.New(filepath.Join(t.TempDir(), "out"), folder.ModeError, id)
			if err != nil {
				t.Fatal(err)
			}
			return o
		},
		"bucket": func(t *testing.T) folder.Place {
			b := memory.New("bucket").Prefixed("out")
			o, err := bucket.New(b.URI(), folder.ModeError, id, func(context.Context) (blob.Bucket, error) { return b, nil })
			if err != nil {
				t.Fatal(err)
			}
			return o
		},
	} {
		t.Run(name, func(t *testing.T) {
			place := place(t)
			folders := []jobplan.Folder{{Place: place, PartitionBy: []string{"year"}}}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			seal := func(year, attempt string) jobplan.TaskPart {
				t.Helper()
				d, err := place.Begin(t.Context(), "year="+year+"/"+folder.PartName(id, 0, ".csv"), attempt+"-"+year)
				must(err)
				_, err = d.Write([]byte("x"))
				must(err)
				sealed, err := d.Seal(t.Context())
				must(err)
				return jobplan.TaskPart{Sealed: sealed, Rows: 1}
			}
			record := folder.RecordName(folder.TaskRecord, id, 0)
			put := func(attempt string, parts ...jobplan.TaskPart) {
				t.Helper()
				content, err := json.Marshal(&jobplan.TaskRecord{Job: id, Counts: &enginev1.TaskCounts{}, Parts: parts})
				must(err)
				if won, err := place.PutRecord(t.Context(), record, attempt, content); !won || err != nil {
					t.Fatal(won, err)
				}
			}
			must(place.Prepare(t.Context()))
			late := []jobplan.TaskPart{seal("2025", "1"), seal("2026", "1")}
			must(place.Abandon(t.Context())) // the job is stopped
			put("1", late...)
			must(jobplan.RevealAll(t.Context(), folders)) // and resumed
			must(place.Prepare(t.Context()))
			if _, err := place.Record(t.Context(), record); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the record stays: %v", err)
			}

			again := []jobplan.TaskPart{seal("2025", "2"), seal("2026", "2")}
			put("2", again...)
			must(jobplan.RevealAll(t.Context(), folders))
			for _, p := range again {
				if _, err := place.Look(t.Context(), p.Part); err != nil {
					t.Error(err)
				}
			}
			must(place.RemoveRecord(t.Context(), record))
			must(place.RemoveRecord(t.Context(), record))
			put("3", again[0], seal("2027", "3"))
			must(place.Prepare(t.Context()))
			if err := jobplan.RevealAll(t.Context(), folders); engine.KindOf(err) != engine.KindCorrupt {
				t.Errorf("one of two files is gone: %v", err)
			}
		})
	}
}
