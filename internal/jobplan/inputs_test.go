package jobplan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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
	if err := jobplan.CheckInputs(t.Context(), plan); err != nil {
		t.Error(err)
	}
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	write(t, paths[1], "a\n12\n")
	if err := os.Chtimes(paths[2], time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	err = jobplan.CheckInputs(t.Context(), plan)
	wantError(t, err, engine.KindConflict, dir, "check inputs: inputs have changed since the job was accepted: DIR/in/00.csv is gone; "+
		"DIR/in/01.csv has 5 bytes, expected 4; DIR/in/02.csv was modified (put the old files back, or submit the job again under another id)")
	for _, p := range paths[3:] {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	err = jobplan.CheckInputs(t.Context(), plan)
	wantError(t, err, engine.KindConflict, dir, "DIR/in/09.csv is gone; and 3 more (put")
}
