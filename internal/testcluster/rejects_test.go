package testcluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/enginetest"
)

// reject is a line of a file of rejected rows.
type reject struct {
	File   string  `json:"file"`
	Line   *int64  `json:"line"`
	Row    *int64  `json:"row"`
	Offset *int64  `json:"offset"`
	Column *string `json:"column"`
	Reason string  `json:"reason"`
	Raw    *string `json:"raw"`
}

func rejectsIn(t *testing.T, folder string) []reject {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, "part-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var found []reject
	for _, part := range parts {
		content, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var r reject
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			found = append(found, r)
		}
	}
	return found
}

// badTable is a CSV file of ids and values in which some rows are bad, and what is bad about them by id. Every 50th row has a line end in
// its quoted text.
func badTable(t *testing.T, dir string, rows int) (path string, bad map[int]string) {
	t.Helper()
	bad = map[int]string{}
	var b strings.Builder
	b.WriteString("id,value,text\n")
	for i := range rows {
		switch {
		case i%101 == 3:
			bad[i] = "value"
			fmt.Fprintf(&b, "%d,n/a!,ok\n", i)
		case i%101 == 17:
			bad[i] = "fields"
			fmt.Fprintf(&b, "%d,1.5,ok,more\n", i)
		case i%101 == 31:
			bad[i] = "quote"
			fmt.Fprintf(&b, "%d,1.5,\"a\"b\n", i)
		case i%101 == 44:
			bad[i] = "null"
			fmt.Fprintf(&b, "%d,,ok\n", i)
		case i%50 == 0:
			fmt.Fprintf(&b, "%d,%d.5,\"two\nlines\"\n", i, i%9)
		default:
			fmt.Fprintf(&b, "%d,%d.5,ok\n", i, i%9)
		}
	}
	path = filepath.Join(dir, "in.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, bad
}

// badJob scores the value of badTable, by a model that cannot be fed nulls.
func badJob(t *testing.T, rows int, on *enginev1.BadRows) (dir string, bad map[int]string, spec *enginev1.JobSpec) {
	t.Helper()
	dir = t.TempDir()
	path, bad := badTable(t, dir, rows)
	model := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(model, enginetest.CastsModel(1, engine.Float64), 0o600); err != nil {
		t.Fatal(err)
	}
	if on != nil && on.GetAction() == "dead_letter" {
		on.Path = filepath.Join(dir, "rejects")
	}
	return dir, bad, &enginev1.JobSpec{
		Name: "bad rows", OnBadRow: on, Batch: &enginev1.Batch{Rows: 100},
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{
			Paths: []string{path}, Columns: []*enginev1.Column{{Name: "value", Type: "float64"}},
		}}},
		Steps: []*enginev1.Step{
			filterStep("id % 7 <> 5"),
			{Kind: &enginev1.Step_Infer{Infer: &enginev1.InferStep{Model: model, Inputs: []string{"value"}}}},
		},
		Sink: parquetSink(filepath.Join(dir, "out")),
	}
}

func checkRejected(t *testing.T, result client.Result, rows int, bad map[int]string) {
	t.Helper()
	var rejected, filtered int64
	for i := range rows {
		// A null is found by the model, behind the filter; the others by the reader, before it.
		switch {
		case bad[i] != "" && (bad[i] != "null" || i%7 != 5):
			rejected++
		case i%7 == 5:
			filtered++
		}
	}
	if result.RowsRead != int64(rows) || result.RowsRejected != rejected || result.RowsFiltered != filtered ||
		result.RowsWritten != int64(rows)-rejected-filtered {
		t.Errorf("%d rows read, %d written, %d filtered, %d rejected; expected %d, %d, %d, %d", result.RowsRead, result.RowsWritten,
			result.RowsFiltered, result.RowsRejected, rows, int64(rows)-rejected-filtered, filtered, rejected)
	}
}

// TestDeadLetters writes rows that cannot be read, and those that the model refuses, with all that is known of them.
func TestDeadLetters(t *testing.T) {
	const rows = 3000
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	dir, bad, spec := badJob(t, rows, &enginev1.BadRows{Action: "dead_letter", Limit: 1000})
	job := submit(t, c, spec)
	result := wait(t, job, engine.JobSucceeded)
	checkRejected(t, result, rows, bad)
	content, err := os.ReadFile(filepath.Join(dir, "in.csv"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, r := range rejectsIn(t, filepath.Join(dir, "rejects")) {
		if r.File != filepath.Join(dir, "in.csv") || r.Line == nil || r.Offset == nil || r.Raw == nil || r.Reason == "" {
			t.Fatalf("incomplete: %+v", r)
		}
		rest := string(content[*r.Offset:])
		if !strings.HasPrefix(rest, *r.Raw+"\n") || strings.Count(string(content[:*r.Offset]), "\n")+1 != int(*r.Line) {
			t.Fatalf("line %d, byte %d is not %q", *r.Line, *r.Offset, *r.Raw)
		}
		var id int
		if _, err := fmt.Sscanf(*r.Raw, "%d,", &id); err != nil {
			t.Fatal(err)
		}
		if r.Row == nil || *r.Row != int64(id)+1 {
			t.Errorf("%s: row %v", *r.Raw, r.Row)
		}
		want := map[string]string{
			"value": "value: expected float64, found", "fields": ": expected 3 fields, found 4", "quote": ": field 3: closing quote is followed by",
			"null": "value: null, and the model needs a value",
		}[bad[id]]
		column := ""
		if r.Column != nil {
			column = *r.Column
		}
		if got := column + ": " + r.Reason; want == "" || !strings.Contains(got, want) {
			t.Errorf("row %d: %s, expected %s", id, got, want)
		}
		found[*r.Raw]++
	}
	if len(found) != int(result.RowsRejected) {
		t.Errorf("%d rows, expected %d", len(found), result.RowsRejected)
	}
	good := tableOf(t, c, filepath.Join(dir, "out"))
	if len(good) != int(result.RowsWritten) {
		t.Errorf("%d rows are in the output, %d were written", len(good), result.RowsWritten)
	}
	lines := logOf(t, job)
	if !strings.Contains(lines, "rows were rejected") {
		t.Errorf("the log does not say it: %s", lines)
	}
}

// TestBadRowsAreSkipped leaves them out, whatever the format, and says how many.
func TestBadRowsAreSkipped(t *testing.T) {
	const rows = 3000
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	_, bad, spec := badJob(t, rows, &enginev1.BadRows{Action: "skip", Share: 0.05})
	checkRejected(t, wait(t, submit(t, c, spec), engine.JobSucceeded), rows, bad)

	dir := t.TempDir()
	var b strings.Builder
	want := 0
	for i := range 1000 {
		switch i % 10 {
		case 3:
			fmt.Fprintf(&b, "{\"id\": %d, \"tags\": [1, 2], \"value\": \"text\"}\n", i)
		case 4:
			fmt.Fprintf(&b, "{\"id\": %d, \"tags\": [1, 1e999], \"value\": 1.5}\n", i)
		case 5:
			fmt.Fprintf(&b, "{\"id\": %d, \"value\":\n", i)
		default:
			fmt.Fprintf(&b, "{\"id\": %d, \"tags\": [1, %d], \"value\": %d.25}\n", i, i, i)
			want++
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "in.json"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	spec = &enginev1.JobSpec{
		OnBadRow: &enginev1.BadRows{Action: "skip"}, Batch: &enginev1.Batch{Rows: 7},
		Source: &enginev1.Source{Kind: &enginev1.Source_Json{Json: &enginev1.JsonSource{
			Paths: []string{filepath.Join(dir, "in.json")}, Columns: []*enginev1.Column{{Name: "value", Type: "float64"}, {Name: "id", Type: "int64"}},
		}}},
		Steps: []*enginev1.Step{withStep(map[string]string{"inverse": "1000 / (value - 0.25 - 20)", "whole": "cast(id * 46341 * 46341 as int32)"})},
		Sink:  parquetSink(filepath.Join(dir, "out")),
	}
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	if result.RowsRead != 1000 || result.RowsRejected+result.RowsWritten != 1000 || result.RowsWritten >= int64(want) || result.RowsWritten == 0 {
		t.Errorf("%d rows read, %d rejected, %d written", result.RowsRead, result.RowsRejected, result.RowsWritten)
	}
	ids := tableOf(t, c, filepath.Join(dir, "out"))
	if len(ids) != int(result.RowsWritten) || len(slices.Compact(ids)) != len(ids) {
		t.Errorf("%d rows in the output", len(ids))
	}
}

// TestTooManyBadRows ends jobs that reject more than they may, or nothing of which may be bad.
func TestTooManyBadRows(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 5000})
	for _, test := range []struct {
		on   *enginev1.BadRows
		want string
	}{
		{nil, "/in.csv:"},
		{&enginev1.BadRows{Action: "skip", Limit: 2}, "3 rows are rejected, at most 2 may be; the first: "},
		{&enginev1.BadRows{Action: "dead_letter", Limit: 40}, "rows are rejected, at most 40 may be"},
		{&enginev1.BadRows{Action: "skip", Share: 0.01}, "of 3000 rows are rejected, a share of 0.0"},
	} {
		_, _, spec := badJob(t, 3000, test.on)
		result := wait(t, submit(t, c, spec), engine.JobFailed)
		if engine.KindOf(result.Err) != engine.KindData || !strings.Contains(fmt.Sprint(result.Err), test.want) {
			t.Errorf("%v: got %v", test.on, result.Err)
		}
	}
}

// TestBatchesOfBadRows rejects nearly all rows of large record batches, step by step.
func TestBatchesOfBadRows(t *testing.T) {
	const rows = 100_000
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("id,text\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,%s%d\n", i, []string{"", "no"}[min(1, i%1000)], i)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := &enginev1.JobSpec{
		OnBadRow: &enginev1.BadRows{Action: "dead_letter", Path: filepath.Join(dir, "rejects")}, Batch: &enginev1.Batch{Rows: rows},
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(dir, "in.csv")}}}},
		Steps: []*enginev1.Step{
			{Kind: &enginev1.Step_Cast{Cast: &enginev1.CastStep{Columns: map[string]string{"text": "int64"}}}},
			withStep(map[string]string{"small": "cast(id * 40000 as int32)"}),
			filterStep("id <> 3000 and cast(id * 100000 as int32) >= 0"),
		},
		Sink: parquetSink(filepath.Join(dir, "out")),
	}
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	// Of the hundred numbers, those from 54,000 on are too large for the second step, and those from 22,000 on for the third.
	if result.RowsRead != rows || result.RowsWritten != 21 || result.RowsFiltered != 1 || result.RowsRejected != rows-22 {
		t.Errorf("%d rows read, %d written, %d filtered, %d rejected", result.RowsRead, result.RowsWritten, result.RowsFiltered, result.RowsRejected)
	}
	columns := map[string]int{}
	last := -1
	for _, r := range rejectsIn(t, filepath.Join(dir, "rejects")) {
		var id int
		if _, err := fmt.Sscanf(*r.Raw, "%d,", &id); err != nil || int(*r.Line) != id+2 {
			t.Fatalf("line %d is not that of %q: %v", *r.Line, *r.Raw, err)
		}
		if id%1000 != 0 {
			columns["cast"]++
			if want := fmt.Sprintf("no%d", id); *r.Column != "text" || !strings.Contains(r.Reason, want) || id <= last {
				t.Fatalf("row %d after %d: column %s: %s, expected %s", id, last, *r.Column, r.Reason, want)
			}
			last = id
		}
	}
	if columns["cast"] != rows-100 {
		t.Errorf("%d rows were rejected by the first step", columns["cast"])
	}
}

// TestBadRowsOfTwoGoroutines rejects rows that the reader leaves out while it reads ahead, and ones whose vectors are no good.
func TestBadRowsOfTwoGoroutines(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	for _, action := range []string{"skip", "dead_letter"} {
		_, spec := embedJob(t, 3000, func(row int) (string, string, bool) {
			return map[int]string{5: "z", 6: "more,fields"}[row%7], "a", row%7 >= 5
		})
		spec.OnBadRow = &enginev1.BadRows{Action: action}
		rejects := filepath.Join(t.TempDir(), "rejects")
		if action == "dead_letter" {
			spec.OnBadRow.Path = rejects
		}
		result := wait(t, submit(t, c, spec), engine.JobSucceeded)
		if bad := int64(3000 / 7 * 2); result.RowsRead != 3000 || result.RowsRejected != bad || result.RowsWritten != 3000-bad {
			t.Errorf("%s: %d rows read, %d written, %d rejected, expected %d", action, result.RowsRead, result.RowsWritten, result.RowsRejected, bad)
		}
		raws := map[string]bool{}
		for _, r := range rejectsIn(t, rejects) {
			raws[*r.Raw] = true
		}
		if action == "dead_letter" && len(raws) != int(result.RowsRejected) {
			t.Errorf("%d rows were kept of %d", len(raws), result.RowsRejected)
		}
	}
}
