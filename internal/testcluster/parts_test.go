package testcluster_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func parquetSink(path string, partitionBy ...string) *enginev1.Sink {
	return &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path, PartitionBy: partitionBy}}}
}

// tableOf reads a folder of Parquet files, partition folders included, by a job that copies it into one file, and returns its rows, sorted.
func tableOf(t *testing.T, c *testcluster.Cluster, path string) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "copy")
	spec := &enginev1.JobSpec{
		Source: &enginev1.Source{Kind: &enginev1.Source_Parquet{Parquet: &enginev1.ParquetSource{Paths: []string{path}}}}, Sink: parquetSink(out),
	}
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	rows := rowsOf(t, readOutput(t, out))
	slices.Sort(rows)
	return rows
}

// filesIn lists the files of a folder and the folders in it, without those that readers skip.
func filesIn(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if strings.HasPrefix(entry.Name(), "_") {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.IsDir() {
			relative, err := filepath.Rel(root, path)
			files = append(files, relative)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestPartitionedOutput writes folders of two columns, by several workers, and reads all rows back with their columns.
func TestPartitionedOutput(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000})
	out, spec := filterJob(t, 1000, withStep(map[string]string{"third": "id % 3", "name": "case when id = 7 then 'a/b=c%' else name end"}))
	spec.Sink = parquetSink(out, "name", "third")
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	if result.RowsRead != 1000 || result.RowsWritten != 1000 {
		t.Errorf("%d rows read, %d written", result.RowsRead, result.RowsWritten)
	}
	var want []string
	folders := map[string]bool{}
	for i := range 1000 {
		name := fmt.Sprintf("n%d", i%7)
		shown := name
		switch {
		case i == 7:
			name, shown = "a%2Fb%3Dc%25", "a/b=c%"
		case i%5 == 0:
			name, shown = "__HIVE_DEFAULT_PARTITION__", "(null)"
		}
		folders[fmt.Sprintf("name=%s/third=%d", name, i%3)] = true
		want = append(want, fmt.Sprintf("id=%d name=%s third=%d ", i, shown, i%3))
	}
	slices.Sort(want)
	files := filesIn(t, out)
	if len(files) != len(result.Outputs) {
		t.Errorf("%d files, the result lists %d", len(files), len(result.Outputs))
	}
	for _, path := range result.Outputs {
		if relative, err := filepath.Rel(out, path); err != nil || !slices.Contains(files, relative) {
			t.Errorf("the result lists %s", path)
		}
	}
	found := map[string]bool{}
	for _, f := range files {
		found[filepath.ToSlash(filepath.Dir(f))] = true
	}
	if !maps.Equal(found, folders) {
		t.Errorf("folders %v, expected %v", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(folders)))
	}
	success, err := folder.ReadSuccess(out)
	if err != nil || success.Rows != 1000 || len(success.Parts) != len(files) {
		t.Errorf("_SUCCESS: %d rows in %d parts, %v", success.Rows, len(success.Parts), err)
	}
	if got := tableOf(t, c, out); !slices.Equal(got, want) {
		t.Errorf("read back %d rows, such as %v; expected %d, such as %v", len(got), got[:3], len(want), want[:3])
	}

	// The same again, over what is there.
	spec.Sink.GetParquet().Mode = "overwrite"
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	if got := tableOf(t, c, out); !slices.Equal(got, want) {
		t.Errorf("overwritten: %d rows", len(got))
	}
	spec.Sink.GetParquet().Mode = "append"
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	if got := tableOf(t, c, out); len(got) != 2000 {
		t.Errorf("appended: %d rows", len(got))
	}
	spec.Sink.GetParquet().Mode = ""
	if _, err := c.Client().Submit(t.Context(), spec); engine.KindOf(err) != engine.KindConflict {
		t.Errorf("mode error over a partitioned table: %v", err)
	}
}

// TestPartitionErrors names what cannot be a folder.
func TestPartitionErrors(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	for _, test := range []struct {
		by, want string
		steps    []*enginev1.Step
	}{
		{"nme", `the output has no column "nme" (nearest: "name")`, nil},
		{"half", `column "half" is float64, which makes no folders`, []*enginev1.Step{withStep(map[string]string{"half": "id / 2"})}},
		{"name", "would have a name of", []*enginev1.Step{withStep(map[string]string{"name": "case when id = 20 then '" + strings.Repeat("long", 100) + "' else name end"})}},
		{"name", "in.csv:22: column \"name\": the text __HIVE_DEFAULT_PARTITION__ stands for a null", []*enginev1.Step{withStep(map[string]string{"name": "case when id = 20 then '__HIVE_DEFAULT_PARTITION__' else name end"})}},
		{"id", "a task meets more than 1000 values of partition_by", nil},
	} {
		t.Run(test.want, func(t *testing.T) {
			out, spec := filterJob(t, 1500, test.steps...)
			spec.Sink = parquetSink(out, test.by)
			result := wait(t, submit(t, c, spec), engine.JobFailed)
			if !strings.Contains(fmt.Sprint(result.Err), test.want) {
				t.Errorf("got %v", result.Err)
			}
			if files := filesIn(t, filepath.Dir(out)); !slices.Equal(files, []string{"in.csv"}) {
				t.Errorf("%v stays behind", files)
			}
		})
	}
}

// TestPartitionRejects leaves out rows whose values make no folders, behind a filter, and says which they are.
func TestPartitionRejects(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000})
	for _, action := range []string{"skip", "dead_letter"} {
		t.Run(action, func(t *testing.T) {
			out, spec := filterJob(t, 1500, filterStep("id % 2 = 0"), withStep(map[string]string{
				"name": "case when id = 20 then '__HIVE_DEFAULT_PARTITION__' when id % 300 = 140 then '" + strings.Repeat("long", 100) + "' else name end",
			}))
			spec.Sink = parquetSink(out, "name")
			spec.OnBadRow = &enginev1.BadRows{Action: action}
			if action == "dead_letter" {
				spec.OnBadRow.Path = filepath.Join(filepath.Dir(out), "rejects")
			}
			result := wait(t, submit(t, c, spec), engine.JobSucceeded)
			if result.RowsRead != 1500 || result.RowsFiltered != 750 || result.RowsRejected != 6 || result.RowsWritten != 744 {
				t.Errorf("%+v", result)
			}
			if got := tableOf(t, c, out); len(got) != 744 {
				t.Errorf("%d rows", len(got))
			}
			if action == "skip" {
				return
			}
			checkBeside(t, spec.OnBadRow.Path, result)
			for _, r := range rejectsIn(t, spec.OnBadRow.Path) {
				id, _, _ := strings.Cut(*r.Raw, ",")
				want := "would have a name of 405 bytes"
				if id == "20" {
					want = "the text __HIVE_DEFAULT_PARTITION__ stands for a null"
				}
				if r.Column == nil || *r.Column != "name" || !strings.Contains(r.Reason, want) || fmt.Sprint(*r.Line-2) != id || *r.Offset == 0 {
					t.Errorf("%s, line %d, offset %d, %v: %s", *r.Raw, *r.Line, *r.Offset, r.Column, r.Reason)
				}
			}
		})
	}
}

// TestSplitOutput divides rows among two sinks: whoever cuts the input, the same rows go to the same sink, and rows of equal names together.
func TestSplitOutput(t *testing.T) {
	var first []string
	for _, cut := range []int64{2000, 700} {
		c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: cut})
		out, spec := filterJob(t, 2000, &enginev1.Step{Kind: &enginev1.Step_Split{Split: &enginev1.SplitStep{
			Parts: map[string]float64{"train": 4, "validation": 1}, Seed: 5,
		}}})
		spec.Sink = nil
		spec.Sinks = map[string]*enginev1.Sink{"train": parquetSink(filepath.Join(out, "train")), "validation": parquetSink(filepath.Join(out, "validation"), "name")}
		result := wait(t, submit(t, c, spec), engine.JobSucceeded)
		if result.RowsRead != 2000 || result.RowsWritten != 2000 {
			t.Errorf("%d rows read, %d written", result.RowsRead, result.RowsWritten)
		}
		train, validation := tableOf(t, c, filepath.Join(out, "train")), tableOf(t, c, filepath.Join(out, "validation"))
		if len(train)+len(validation) != 2000 || len(validation) < 300 || len(validation) > 500 {
			t.Errorf("%d rows to train, %d to validate", len(train), len(validation))
		}
		all := slices.Concat(train, validation)
		slices.Sort(all)
		if len(slices.Compact(all)) != 2000 {
			t.Error("a row is in both, or twice")
		}
		if first == nil {
			first = validation
		} else if !slices.Equal(first, validation) {
			t.Error("another cut of the input gives another division")
		}
		for _, name := range []string{"train", "validation"} {
			success, err := folder.ReadSuccess(filepath.Join(out, name))
			if err != nil || len(success.Parts) == 0 {
				t.Errorf("%s: %v, %v", name, success, err)
			}
		}
		if files := filesIn(t, out); len(files) != len(result.Outputs) {
			t.Errorf("%d files, the result lists %d", len(files), len(result.Outputs))
		}
	}
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	out, spec := filterJob(t, 1000, &enginev1.Step{Kind: &enginev1.Step_Split{Split: &enginev1.SplitStep{
		Parts: map[string]float64{"a": 1, "b": 1}, By: []string{"name"},
	}}})
	spec.Sink, spec.Sinks = nil, map[string]*enginev1.Sink{"a": parquetSink(filepath.Join(out, "a")), "b": parquetSink(filepath.Join(out, "b"))}
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	side := map[string]string{}
	for _, s := range []string{"a", "b"} {
		for _, row := range tableOf(t, c, filepath.Join(out, s)) {
			_, name, _ := strings.Cut(row, "name=")
			if other, ok := side[name]; ok && other != s {
				t.Fatalf("rows of name %s are on both sides", name)
			}
			side[name] = s
		}
	}
}

// TestTaskRecordReveals plays a worker that dies between the record of a task and the showing of its files: who finds the record shows them.
func TestTaskRecordReveals(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	out, spec := filterJob(t, 500)
	spec.Sink = parquetSink(out, "name")
	job := submit(t, c, spec)
	result := wait(t, job, engine.JobSucceeded)
	before := tableOf(t, c, out)

	records, err := filepath.Glob(filepath.Join(out, folder.NotesName, "task-*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records %v, %v", records, err)
	}
	content, err := os.ReadFile(records[0])
	if err != nil {
		t.Fatal(err)
	}
	record, err := jobplan.ReadTaskRecord(content)
	if err != nil || len(record.Parts) != len(result.Outputs) || record.Counts.GetRowsWritten() != 500 {
		t.Fatalf("%v, %v", record, err)
	}
	folders, err := jobplan.Folders(spec, job.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range record.Parts {
		if i%2 == 0 {
			continue
		}
		if err := os.Rename(filepath.Join(out, p.Part), filepath.Join(out, p.Staged)); err != nil {
			t.Fatal(err)
		}
	}
	if got := tableOf(t, c, out); len(got) >= len(before) {
		t.Fatal("nothing was hidden")
	}
	for range 2 { // The second time nothing changes.
		if err := jobplan.RevealAll(t.Context(), folders); err != nil {
			t.Fatal(err)
		}
	}
	if got := tableOf(t, c, out); !slices.Equal(got, before) {
		t.Errorf("%d rows, expected %d", len(got), len(before))
	}
}
