package testcluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func filterStep(where string) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_Filter{Filter: &enginev1.FilterStep{Where: where}}}
}

func withStep(columns map[string]string) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_With{With: &enginev1.WithStep{Columns: columns}}}
}

// filterJob writes a table of ids and names and the job that applies steps to it. Row i has name "n<i modulo 7>", every fifth row none.
func filterJob(t *testing.T, rows int, steps ...*enginev1.Step) (string, *enginev1.JobSpec) {
	t.Helper()
	dir := t.TempDir()
	var table strings.Builder
	table.WriteString("id,name\n")
	for i := range rows {
		name := fmt.Sprintf("n%d", i%7)
		if i%5 == 0 {
			name = ""
		}
		fmt.Fprintf(&table, "%d,%s\n", i, name)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.csv"), []byte(table.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "out"), &enginev1.JobSpec{
		Name:   "filter",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(dir, "in.csv")}}}},
		Batch:  &enginev1.Batch{Rows: 50},
		Steps:  steps,
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(dir, "out")}}},
	}
}

func checkCounts(t *testing.T, result client.Result, read, written int64) {
	t.Helper()
	if result.RowsRead != read || result.RowsWritten != written || result.RowsFiltered != read-written || result.RowsRejected != 0 {
		t.Errorf("%d rows read, %d written, %d filtered, %d rejected; expected %d, %d, %d, 0",
			result.RowsRead, result.RowsWritten, result.RowsFiltered, result.RowsRejected, read, written, read-written)
	}
}

func TestFilterJob(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000})
	steps := []*enginev1.Step{
		filterStep("id >= 500 and name is not null"),
		withStep(map[string]string{"half": "id // 2", "id": "id * 10"}),
		withStep(map[string]string{"label": "upper(name) || '-' || half"}),
		filterStep("half % 2 = 0"),
	}
	out, spec := filterJob(t, 1000, steps...)
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	var want []string
	for i := 500; i < 1000; i++ {
		if i%5 != 0 && i/2%2 == 0 {
			want = append(want, fmt.Sprintf("id=%d name=n%d half=%d label=N%d-%d ", i*10, i%7, i/2, i%7, i/2))
		}
	}
	checkCounts(t, result, 1000, int64(len(want)))
	got := rowsOf(t, readOutput(t, out))
	if len(got) != len(want) {
		t.Fatalf("%d rows, expected %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("row %d: %s, expected %s", i, got[i], want[i])
		}
	}

	// Into objects, and out of them.
	spec.Sink = objectSink(&enginev1.ObjectSink{Name: "filtered"})
	made := wait(t, submit(t, c, spec), engine.JobSucceeded)
	checkCounts(t, made, 1000, int64(len(want)))
	again := &enginev1.JobSpec{
		Name: "again", Source: objectSource(made.Outputs...), Steps: []*enginev1.Step{filterStep("name = 'n3'")},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: out + "-again"}}},
	}
	kept := 0
	for _, row := range want {
		if strings.Contains(row, "name=n3 ") {
			kept++
		}
	}
	checkCounts(t, wait(t, submit(t, c, again), engine.JobSucceeded), int64(len(want)), int64(kept))

	// A filter that nothing passes leaves a table without rows.
	out, spec = filterJob(t, 300, filterStep("id < 0"))
	checkCounts(t, wait(t, submit(t, c, spec), engine.JobSucceeded), 300, 0)
	if rows := rowsOf(t, readOutput(t, out)); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestFilterNamesTheRow has an error behind two filters: the line of the file is that of the source.
func TestFilterNamesTheRow(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 2000})
	for _, steps := range [][]*enginev1.Step{
		{filterStep("id % 2 = 0"), filterStep("id > 10"), withStep(map[string]string{"x": "100 // (id - 700)"})},
		{filterStep("id % 2 = 0"), withStep(map[string]string{"y": "id"}), filterStep("y > 10 and 100 // (id - 700) < 1000")},
	} {
		_, spec := filterJob(t, 1000, steps...)
		result := wait(t, submit(t, c, spec), engine.JobFailed)
		if text := result.Err.Error(); result.Err.Kind != engine.KindData || !strings.Contains(text, "in.csv:702") || !strings.Contains(text, "100 // 0 divides by zero") {
			t.Errorf("got %v", result.Err)
		}
	}
}

// TestFilterBeforeEmbed has record batches without rows, and a row that the model refuses, on both sides of filters that run ahead.
func TestFilterBeforeEmbed(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	_, spec := embedJob(t, 1000, nil)
	spec.Steps = append([]*enginev1.Step{filterStep("id < 10 or id >= 300 and id % 2 = 1")}, spec.GetSteps()...)
	spec.Steps = append(spec.Steps, filterStep("key <> 501"))
	checkCounts(t, wait(t, submit(t, c, spec), engine.JobSucceeded), 1000, 10+350-1)

	_, spec = embedJob(t, 1000, func(row int) (string, string, bool) { return "z", "a", row == 301 })
	spec.Steps = append([]*enginev1.Step{filterStep("id >= 200"), filterStep("id % 2 = 1")}, spec.GetSteps()...)
	result := wait(t, submit(t, c, spec), engine.JobFailed)
	if text := result.Err.Error(); result.Err.Kind != engine.KindData || !strings.Contains(text, "in.csv:303") || !strings.Contains(text, "the model's vector holds NaN") {
		t.Errorf("got %v", result.Err)
	}
}
