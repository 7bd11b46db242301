package testcluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
)

// embedJob writes a table of two columns of text and the job that embeds them. Row i has the letter of i modulo 25, and a text of
// i modulo 20 times "b"; every tenth row has neither.
func embedJob(t *testing.T, rows int, change func(row int) (title, body string, ok bool)) (string, *enginev1.JobSpec) {
	t.Helper()
	dir := t.TempDir()
	var table bytes.Buffer
	table.WriteString("id,title,body\n")
	for i := range rows {
		title, body := string(rune('a'+i%25)), strings.TrimSpace(strings.Repeat("b ", i%20))
		if i%10 == 9 {
			title, body = "", ""
		}
		if change != nil {
			if a, b, ok := change(i); ok {
				title, body = a, b
			}
		}
		fmt.Fprintf(&table, "%d,%s,%s\n", i, title, body)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.csv"), table.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "out"), &enginev1.JobSpec{
		Name:   "embed",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(dir, "in.csv")}}}},
		Batch:  &enginev1.Batch{Rows: 64},
		Steps: []*enginev1.Step{
			{Kind: &enginev1.Step_Rename{Rename: &enginev1.RenameStep{Columns: map[string]string{"id": "key"}}}},
			{Kind: &enginev1.Step_Embed{Embed: &enginev1.EmbedStep{Model: enginetest.EmbeddingFolder(t), Text: []string{"title", "body"}}}},
			{Kind: &enginev1.Step_Select{Select: &enginev1.SelectStep{Columns: []string{"key", "embedding"}}}},
		},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(dir, "out")}}},
	}
}

func TestEmbedJob(t *testing.T) {
	withRuntimes(t, func(t *testing.T, models func() runtime.Loader) {
		c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000, Models: models})
		out, spec := embedJob(t, 500, nil)
		result := wait(t, submit(t, c, spec), engine.JobSucceeded)
		truncated := 0
		row := 0
		for _, record := range readOutput(t, out) {
			keys := record.Column(0).(*array.Int64)
			list := record.Column(1).(*array.FixedSizeList)
			values := list.ListValues().(*array.Float32)
			for i := range int(record.NumRows()) {
				if keys.Value(i) != int64(row) || list.IsNull(i) != (row%10 == 9) {
					t.Fatalf("row %d has key %d, null %v", row, keys.Value(i), list.IsNull(i))
				}
				if row%10 != 9 {
					// [CLS] 1, the letter, as many "b" (5) as fit, and [SEP] 2.
					b := row % 20
					if b+3 > enginetest.EmbeddingMaxTokens {
						truncated++
						b = enginetest.EmbeddingMaxTokens - 3
					}
					want := float32(1+2+4+row%25+5*b) / float32(b+3)
					if got := values.Value((list.Offset() + i) * enginetest.EmbeddingDim); got != want {
						t.Fatalf("row %d: got %v, want %v", row, got, want)
					}
				}
				row++
			}
			record.Release()
		}
		if row != 500 || result.TextsTruncated != int64(truncated) || truncated == 0 {
			t.Errorf("%d rows, %d texts cut, want %d; result %+v", row, result.TextsTruncated, truncated, result)
		}
	})
}

// TestEmbedNamesTheRow has NaN in a record batch that the reader may have left behind, since it reads ahead.
func TestEmbedNamesTheRow(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	_, spec := embedJob(t, 1000, func(row int) (string, string, bool) { return "z", "a", row == 300 })
	result := wait(t, submit(t, c, spec), engine.JobFailed)
	if text := result.Err.Error(); result.Err.Kind != engine.KindData || !strings.Contains(text, "in.csv:302") || !strings.Contains(text, `column "title": the model's vector holds NaN`) {
		t.Errorf("got %v", result.Err)
	}
	_, spec = embedJob(t, 1000, func(row int) (string, string, bool) { return "z", "a", row == 300 })
	spec.GetSteps()[1].GetEmbed().Nan = "allow"
	wait(t, submit(t, c, spec), engine.JobSucceeded)
}

// TestEmbedFails ends the goroutine that reads ahead; the test binary looks for ones that are left, and for memory.
func TestEmbedFails(t *testing.T) {
	loader := fake.New()
	c := testcluster.Start(t, testcluster.Options{Workers: 1, Models: func() runtime.Loader { return loader }})
	loader.SetFaults(fake.Faults{Run: engine.Errorf(engine.KindModel, "run model", "", "broken"), SparedRuns: 2})
	_, spec := embedJob(t, 2000, nil)
	if result := wait(t, submit(t, c, spec), engine.JobFailed); result.Err.Kind != engine.KindModel || !strings.Contains(result.Err.Error(), "broken") {
		t.Errorf("got %v", result.Err)
	}
	// A job that is stopped while the model works.
	gate := make(chan struct{})
	loader.SetFaults(fake.Faults{Gate: gate})
	_, spec = embedJob(t, 2000, nil)
	job := submit(t, c, spec)
	select {
	case gate <- struct{}{}: // The model is at work, and soon at its next call.
	case <-withTimeout(t).Done():
		t.Fatal("the model is not called")
	}
	if _, err := job.Stop(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, job, engine.JobStopped)
	loader.SetFaults(fake.Faults{})
	_, spec = embedJob(t, 100, nil)
	wait(t, submit(t, c, spec), engine.JobSucceeded)
}

// TestEmbedProgress looks at a job whose only record batch is with the model, which has made some of its calls.
func TestEmbedProgress(t *testing.T) {
	loader := fake.New()
	c := testcluster.Start(t, testcluster.Options{Workers: 1, Models: func() runtime.Loader { return loader }})
	gate := make(chan struct{})
	loader.SetFaults(fake.Faults{Gate: gate})
	_, spec := embedJob(t, 2000, nil)
	spec.Batch = &enginev1.Batch{Rows: 2000}
	spec.GetSteps()[1].GetEmbed().Batch = &enginev1.EmbedBatch{Tokens: "32"}
	job := submit(t, c, spec)
	for range 3 {
		select {
		case gate <- struct{}{}:
		case <-withTimeout(t).Done():
			t.Fatal("the model is not called")
		}
	}
	seen := errors.New("seen")
	if err := job.Watch(withTimeout(t), func(status *enginev1.Job) error {
		p := status.GetProgress()
		if p.GetRowsRead() < 2000 || p.GetRowsProcessed() == 0 {
			return nil
		}
		if p.GetRowsProcessed() >= 2000 || p.GetRowsWritten() != 0 {
			t.Errorf("a few calls are %v", p)
		}
		return seen
	}); !errors.Is(err, seen) {
		t.Fatal(err)
	}
	loader.SetFaults(fake.Faults{})
	close(gate)
	result := wait(t, job, engine.JobSucceeded)
	status, err := job.Status(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if p := status.GetProgress(); p.GetRowsProcessed() != result.RowsRead || result.RowsRead != 2000 {
		t.Errorf("the job has ended with %v", p)
	}
}
