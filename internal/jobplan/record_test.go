package jobplan_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
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

// revealing is a place in which a part is revealed only when another is being revealed at the same time.
type revealing struct {
	folder.Place
	meet   chan struct{}
	within atomic.Int64
	most   atomic.Int64
	done   sync.Map
}

func (p *revealing) Reveal(ctx context.Context, sealed folder.Sealed) error {
	n := p.within.Add(1)
	defer p.within.Add(-1)
	for old := p.most.Load(); n > old && !p.most.CompareAndSwap(old, n); old = p.most.Load() {
	}
	if sealed.Part == "gone" {
		return engine.Errorf(engine.KindCorrupt, "reveal", "", "gone")
	}
	select {
	case p.meet <- struct{}{}:
	case <-p.meet:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.done.Store(sealed.Part, true)
	return nil
}

// TestRevealAtOnce reveals the files of a task several at a time, though not all at once, and returns the first failure.
func TestRevealAtOnce(t *testing.T) {
	place := &revealing{meet: make(chan struct{})}
	folders := []jobplan.Folder{{Place: place}}
	record := &jobplan.TaskRecord{}
	for i := range 1000 {
		record.Parts = append(record.Parts, jobplan.TaskPart{Sealed: folder.Sealed{Part: strconv.Itoa(i)}})
	}
	if err := record.Reveal(t.Context(), folders); err != nil {
		t.Fatal(err)
	}
	for _, p := range record.Parts {
		if _, ok := place.done.Load(p.Part); !ok {
			t.Fatalf("%s was not revealed", p.Part)
		}
	}
	if most := place.most.Load(); most > 16 {
		t.Errorf("%d were revealed at a time", most)
	}
	record.Parts = append(record.Parts[:1], jobplan.TaskPart{Sealed: folder.Sealed{Part: "gone"}}) // The first waits for another in vain.
	if err := record.Reveal(t.Context(), folders); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("%v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	record.Parts = record.Parts[:1]
	if err := record.Reveal(ended, folders); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context's end: %v", err)
	}
}
