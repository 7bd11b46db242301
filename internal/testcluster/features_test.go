package testcluster_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestAbalone prepares a training set: sex as columns of zeros and ones, lengths scaled, and no rows without height.
func TestAbalone(t *testing.T) {
	path := testenv.Shared(t, "abalone.csv")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	names, rows := rows[0], rows[1:]
	var want []string
	for _, row := range rows {
		height, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		if height == 0 {
			continue
		}
		length, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s=%v ", names[1], (length-0.5)/0.25)
		for _, sex := range []string{"F", "I", "M"} {
			line += fmt.Sprintf("%s_%s=%d ", names[0], sex, map[bool]int{true: 1}[row[0] == sex])
		}
		want = append(want, line)
	}
	mean, std := 0.5, 0.25
	spec := &enginev1.JobSpec{
		Name:   "abalone",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{path}}}},
		Batch:  &enginev1.Batch{Rows: 500},
		Steps: []*enginev1.Step{
			filterStep(fmt.Sprintf("%q <> 0", names[3])),
			{Kind: &enginev1.Step_OneHot{OneHot: &enginev1.OneHotStep{Columns: []*enginev1.CategoryColumn{{Name: names[0], Categories: []string{"F", "I", "M"}}}}}},
			{Kind: &enginev1.Step_Scale{Scale: &enginev1.ScaleStep{Columns: []*enginev1.ScaledColumn{{Name: names[1], Mean: &mean, Std: &std}}}}},
			{Kind: &enginev1.Step_Select{Select: &enginev1.SelectStep{Columns: []string{names[1], names[0] + "_F", names[0] + "_I", names[0] + "_M"}}}},
		},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(t.TempDir(), "out"), Files: 10}}},
	}
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 20_000})
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	checkCounts(t, result, int64(len(rows)), int64(len(want)))
	got := rowsOf(t, readOutput(t, spec.GetSink().GetParquet().GetPath()))
	if len(got) != len(want) {
		t.Fatalf("%d rows, expected %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("row %d: %s, expected %s", i, got[i], want[i])
		}
	}
}

func TestCategories(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	index := func(unknown string) *enginev1.Step {
		return &enginev1.Step{Kind: &enginev1.Step_Index{Index: &enginev1.IndexStep{Columns: []*enginev1.CategoryColumn{
			{Name: "name", Categories: []string{"n4", "n3", "n2", "n1", "n0", "n6"}, Unknown: unknown},
		}}}}
	}
	_, spec := filterJob(t, 50, filterStep("id > 3"), index(""))
	result := wait(t, submit(t, c, spec), engine.JobFailed)
	// Row 12 is the first of name n5, since every fifth row has none.
	if text := result.Err.Error(); result.Err.Kind != engine.KindData || !strings.Contains(text, "in.csv:14") || !strings.Contains(text, `"n5" of column "name" is none of the categories ["n4" "n3"`) {
		t.Errorf("got %v", result.Err)
	}
	out, spec := filterJob(t, 50, index("ignore"))
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	rows := rowsOf(t, readOutput(t, out))
	for i, want := range map[int]string{0: "id=0 name=(null) ", 1: "id=1 name=3 ", 4: "id=4 name=0 ", 12: "id=12 name=(null) ", 13: "id=13 name=5 "} {
		if rows[i] != want {
			t.Errorf("row %d: %s, expected %s", i, rows[i], want)
		}
	}
}
