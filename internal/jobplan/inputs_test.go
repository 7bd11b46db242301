package jobplan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const testJob engine.JobID = "20261123-142330-7f3k2m9q"

// buildPaths plans a job that converts CSV files.
func buildPaths(t *testing.T, folder string, paths ...string) (*enginev1.Plan, error) {
	t.Helper()
	spec := parse(t, folder, `{"sink": {"parquet": {"path": "DIR/out"}}}`)
	csv := &enginev1.CsvSource{}
	for _, p := range paths {
		csv.Paths = append(csv.Paths, strings.ReplaceAll(p, "DIR", folder))
	}
	spec.Source = &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: csv}}
	return jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
}

func TestInputs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"b.csv", "a.csv", "c.txt", "_SUCCESS", ".hidden.csv", "_staged.csv", "sub/z.csv", "sub/deep/y.csv", "sub/_temporary/x.csv",
		"other/a.csv", "odd [1]*.csv", "äpfel.csv",
	} {
		write(t, filepath.Join(dir, "in", name), "a;b\n1;2\n")
	}
	for _, test := range []struct{ paths, want []string }{
		{[]string{"DIR/in/b.csv", "DIR/in/a.csv"}, []string{"b.csv", "a.csv"}},
		{[]string{"file://DIR/in/a.csv"}, []string{"a.csv"}},
		{[]string{"file://DIR/in/%C3%A4pfel.csv"}, []string{"äpfel.csv"}},
		{[]string{"DIR/in/?.csv"}, []string{"a.csv", "b.csv"}},
		{[]string{"DIR/in/[bc].*"}, []string{"b.csv", "c.txt"}},
		{[]string{"DIR/in/_*"}, []string{"_SUCCESS", "_staged.csv"}},
		{[]string{"DIR/i*/o*/a.csv"}, []string{"other/a.csv"}},
		{[]string{"DIR/in/s*"}, []string{"sub/deep/y.csv", "sub/z.csv"}},
		{[]string{"DIR/in/odd [1]*.csv"}, []string{"odd [1]*.csv"}},
		{[]string{"DIR/in/"}, []string{"a.csv", "b.csv", "c.txt", "odd [1]*.csv", "other/a.csv", "sub/deep/y.csv", "sub/z.csv", "äpfel.csv"}},
		{[]string{"DIR/in/../in//a.csv"}, []string{"a.csv"}},
	} {
		plan, err := buildPaths(t, dir, test.paths...)
		if err != nil {
			t.Errorf("%v: %v", test.paths, err)
			continue
		}
		var got []string
		for _, in := range plan.GetInputs() {
			relative, err := filepath.Rel(filepath.Join(dir, "in"), in.GetPath())
			if err != nil || in.GetSizeBytes() != 8 || in.GetModifiedUnixNanos() == 0 {
				t.Errorf("got %v, %v", in, err)
			}
			got = append(got, relative)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.paths, got, test.want)
		}
	}
}

func TestInputsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.csv"), "a\n1\n")
	write(t, filepath.Join(dir, "hidden", "_a.csv"), "a\n1\n")
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		paths []string
		kind  engine.Kind
		want  string
	}{
		{[]string{"DIR/in/b.csv"}, engine.KindNotFound, "list inputs: DIR/in/b.csv: no such file or folder"},
		{[]string{"DIR/in/a.csv/b"}, engine.KindNotFound, "list inputs: DIR/in/a.csv/b: no such file or folder"},
		{[]string{"DIR/in/*.tsv"}, engine.KindNotFound, "list inputs: DIR/in/*.tsv: no file matches"},
		{[]string{"DIR/in/a.csv", "DIR/no*/*.csv"}, engine.KindNotFound, "list inputs: DIR/no*/*.csv: no file matches"},
		{[]string{"DIR/hidden/*"}, engine.KindNotFound, "no file matches"},
		{[]string{"DIR/empty"}, engine.KindNotFound, `list inputs: DIR/empty: the folder holds no files (names that start with "_" or "." do not count)`},
		{[]string{"DIR/hidden"}, engine.KindNotFound, "the folder holds no files"},
		{[]string{"DIR/in", "DIR/in/a.csv"}, engine.KindInvalidArgument, `source.csv.paths[1]: "DIR/in/a.csv" names DIR/in/a.csv, which "DIR/in" names already (its rows would be read twice)`},
		{[]string{"DIR/**/a.csv"}, engine.KindInvalidArgument, `DIR/**/a.csv: "**" is not supported (name the folder: its subfolders are read too)`},
		{[]string{"DIR/in/[a.csv"}, engine.KindInvalidArgument, `DIR/in/[a.csv: not a glob: "[a.csv"`},
		{[]string{"DIR/nothing/[a"}, engine.KindInvalidArgument, "not a glob: a [ without ]"},
		{[]string{"/dev/null"}, engine.KindInvalidArgument, "/dev/null: neither a file nor a folder"},
	} {
		_, err := buildPaths(t, dir, test.paths...)
		wantError(t, err, test.kind, dir, test.want)
	}
	if err := os.Symlink(filepath.Join(dir, "in"), filepath.Join(dir, "in", "loop")); err != nil {
		t.Skip("this file system has no symbolic links: ", err)
	}
	_, err := buildPaths(t, dir, "DIR/in")
	wantError(t, err, engine.KindInvalidArgument, dir, "DIR/in/loop: a folder that contains itself")
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "hidden", "dangling")); err != nil {
		t.Fatal(err)
	}
	_, err = buildPaths(t, dir, "DIR/hidden")
	wantError(t, err, engine.KindNotFound, dir, "DIR/hidden/dangling: no such file or folder")
}

// TestPartitions names a partition folder, what is above it, and what is in it.
func TestPartitions(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "parts", "year=2026", "month=11", "a.csv"), "a\n1\n")
	for _, test := range []struct {
		path, want string
	}{
		{"DIR/parts", "year=2026/month=11"},
		{"DIR", "year=2026/month=11"},
		{"DIR/parts/year=*/month=11/*.csv", "year=2026/month=11"},
		{"DIR/*/year=2026", "year=2026/month=11"},
		{"DIR/parts/year=2026", "month=11"},
		{"DIR/parts/year=2026/month=11", ""},
		{"DIR/parts/year=2026/month=11/a.csv", ""},
		{"DIR/parts/year=2026/month=11/*.csv", ""},
	} {
		plan, err := buildPaths(t, dir, test.path)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		if got := plan.GetInputs()[0].GetPartitions(); got != test.want {
			t.Errorf("%s: partitions %q, want %q", test.path, got, test.want)
		}
		columns := 1
		if test.want != "" {
			columns += strings.Count(test.want, "/") + 1
		}
		if len(plan.GetOutputColumns()) != columns {
			t.Errorf("%s: columns %v", test.path, plan.GetOutputColumns())
		}
	}
}

// TestDeclaredPartitions declares columns that folders give.
func TestDeclaredPartitions(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "csv", "zip=00123", "a.csv"), "1\n")
	write(t, filepath.Join(dir, "json", "zip=00123", "a.json"), "{\"a\": 1}\n")
	const columns = `"columns": [{"name": "zip", "type": "string"}, {"name": "a", "type": "int32"}]`
	for _, source := range []string{`{"csv": {"paths": ["DIR/csv"], "header": false, ` + columns + `}}`, `{"json": {"paths": ["DIR/json"], ` + columns + `}}`} {
		plan, err := jobplan.Build(t.Context(), testJob, parse(t, dir, `{"source": `+source+`, "sink": {"parquet": {"path": "DIR/out"}}}`), jobplan.Options{})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		var got []string
		for _, c := range plan.GetSourceColumns() {
			got = append(got, c.GetName()+" "+c.GetType())
		}
		if want := "[a int32 zip string]"; fmt.Sprint(got) != want {
			t.Errorf("%s: columns are %v, want %s", source, got, want)
		}
	}
}

func TestCheckInputs(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i := range 13 {
		paths = append(paths, write(t, filepath.Join(dir, "in", fmt.Sprintf("%02d.csv", i)), "a\n1\n"))
	}
	plan, err := buildPaths(t, dir, "DIR/in")
	if err != nil {
		t.Fatal(err)
	}
	if err := jobplan.CheckInputs(t.Context(), nil, nil, plan); err != nil {
		t.Error(err)
	}
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	write(t, paths[1], "a\n12\n")
	for _, p := range paths[1:3] {
		if err := os.Chtimes(p, time.Time{}, time.Unix(1, 5)); err != nil {
			t.Fatal(err)
		}
	}
	was := func(i int) string {
		return time.Unix(0, plan.GetInputs()[i].GetModifiedUnixNanos()).UTC().Format(time.RFC3339Nano)
	}
	err = jobplan.CheckInputs(t.Context(), nil, nil, plan)
	wantError(t, err, engine.KindConflict, dir, "check inputs: inputs have changed since the job was planned:\n"+
		"  removed  DIR/in/00.csv: 4 bytes, modified "+was(0)+"\n"+
		"  changed  DIR/in/01.csv: 4 -> 5 bytes, modified "+was(1)+" -> 1970-01-01T00:00:01.000000005Z\n"+
		"  changed  DIR/in/02.csv: modified "+was(2)+" -> 1970-01-01T00:00:01.000000005Z (put the old files back, or submit the job again under another id)")
	for _, p := range paths[3:] {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	err = jobplan.CheckInputs(t.Context(), nil, nil, plan)
	wantError(t, err, engine.KindConflict, dir, "removed  DIR/in/11.csv: 4 bytes")
	wantError(t, err, engine.KindConflict, dir, "\n  removed  and 1 more\n")
}

// TestCompareInputs changes a folder under a job of which a part is done.
func TestCompareInputs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.csv", "b.csv", "c.csv"} {
		write(t, filepath.Join(dir, "in", name), "a\n1\n")
	}
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in"]}}, "sink": {"parquet": {"path": "DIR/in/out"}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compare := func(onlyNew bool, done ...int) jobplan.InputChanges {
		t.Helper()
		changes, err := jobplan.CompareInputs(t.Context(), nil, nil, spec, plan, onlyNew, func(task int) bool { return slices.Contains(done, task) })
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	want := func(changes jobplan.InputChanges, gone int, lines ...string) {
		t.Helper()
		got := changes.Lines()
		if len(got) != len(lines) || changes.Done != gone {
			t.Fatalf("%d done and %q, want %d and %q", changes.Done, got, gone, lines)
		}
		for i, line := range lines {
			if !strings.HasPrefix(strings.ReplaceAll(got[i], dir, "DIR"), line) {
				t.Errorf("line %q, want %q", got[i], line)
			}
		}
	}
	// What the job itself has written there is no new input.
	write(t, filepath.Join(dir, "in", "out", "part-"+string(testJob)+"-000000.parquet"), "x")
	want(compare(false), 0)
	write(t, filepath.Join(dir, "in", "d.csv"), "a\n1\n")
	if err := os.Remove(filepath.Join(dir, "in", "a.csv")); err != nil {
		t.Fatal(err)
	}
	want(compare(false), 0, "added    DIR/in/d.csv: 4 bytes, modified ", "removed  DIR/in/a.csv: 4 bytes, modified ")
	want(compare(false, 0), 1, "added    DIR/in/d.csv")
	want(compare(true, 0), 1)
	want(compare(true, 1, 2), 0, "removed  DIR/in/a.csv")
	write(t, filepath.Join(dir, "in", "b.csv"), "a\n1\n2\n")
	want(compare(true, 0, 1, 2), 1, "changed  DIR/in/b.csv: 4 -> 6 bytes, modified ")
	if err := os.RemoveAll(filepath.Join(dir, "in")); err != nil {
		t.Fatal(err)
	}
	want(compare(false, 0, 1, 2), 3)
	want(compare(false, 0, 1), 2, "removed  DIR/in/c.csv")
}

func TestSpecChanges(t *testing.T) {
	before := parse(t, "", `{"name": "a", "source": {"csv": {"paths": ["/a", "/b"], "header": false}}, "batch": {"rows": 5},
		"steps": [{"select": {"columns": ["x"]}}], "sink": {"parquet": {"path": "/o", "mode": "append"}}, "labels": {"k": "v", "l": "1"}}`)
	after := parse(t, "", `{"name": "a", "source": {"csv": {"paths": ["/a", "/c", "/d"], "header": true}}, "batch": {},
		"steps": [{"filter": {"where": "x > 1"}}], "sink": {"json": {"path": "/o"}}, "labels": {"k": "w", "m": "1"}}`)
	want := []string{
		`source.csv.paths[1]: "/b" -> "/c"`, `source.csv.header: false -> true`, `batch.rows: 5 -> unset`, `steps[0].select.columns[0]: "x" -> unset`,
		`sink.parquet.path: "/o" -> unset`, `sink.parquet.mode: "append" -> unset`, `labels.k: "v" -> "w"`, `labels.l: "1" -> unset`,
		`source.csv.paths[2]: unset -> "/d"`, `batch: unset -> {}`, `steps[0].filter.where: unset -> "x > 1"`, `sink.json.path: unset -> "/o"`, `labels.m: unset -> "1"`,
	}
	if got := jobplan.SpecChanges(before, after); !slices.Equal(got, want) {
		t.Errorf("got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := jobplan.SpecChanges(before, before); got != nil {
		t.Errorf("got %q of equal ones", got)
	}
}
