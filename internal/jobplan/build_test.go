package jobplan_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden plans in testdata")

// planText writes a plan for people, with DIR for the folder.
func planText(t *testing.T, folder string, plan *enginev1.Plan) string {
	t.Helper()
	var b strings.Builder
	for i, in := range plan.GetInputs() {
		fmt.Fprintf(&b, "input %d %s %d bytes\n", i, in.GetPath(), in.GetSizeBytes())
	}
	for _, m := range plan.GetModels() {
		fmt.Fprintf(&b, "model of step %d %s %s\n", m.GetStep(), m.GetPath(), m.GetDigest())
	}
	for _, c := range plan.GetSourceColumns() {
		fmt.Fprintf(&b, "source column %s %s\n", c.GetName(), c.GetType())
	}
	for _, c := range plan.GetOutputColumns() {
		fmt.Fprintf(&b, "column %s %s\n", c.GetName(), c.GetType())
	}
	fmt.Fprintf(&b, "output %s in %s mode %s\n", plan.GetOutput().GetFolder(), plan.GetOutput().GetWorkFolder(), plan.GetOutput().GetMode())
	for _, task := range plan.GetTasks() {
		fmt.Fprintf(&b, "task %s", task.GetPart())
		for _, s := range task.GetSplits() {
			split := jobplan.SplitOf(plan.GetInputs()[s.GetInput()], s)
			if split.File.Path != plan.GetInputs()[s.GetInput()].GetPath() {
				t.Errorf("got split %+v of input %d", split, s.GetInput())
			}
			if split.RowGroups > 0 {
				fmt.Fprintf(&b, " %d:groups[%d+%d]", s.GetInput(), split.FirstRowGroup, split.RowGroups)
			} else {
				fmt.Fprintf(&b, " %d:[%d,%d)", s.GetInput(), split.StartOffsetBytes, split.EndOffsetBytes)
			}
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), folder, "DIR")
}

func TestBuildGolden(t *testing.T) {
	csvRows := func(n int) string { return "a;b\n" + strings.Repeat("1.5;x\n", n) }
	sources := map[string]func(t *testing.T, dir string) string{
		"csv": func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "in", "b.csv"), csvRows(100))
			write(t, filepath.Join(dir, "in", "a.csv"), csvRows(20))
			write(t, filepath.Join(dir, "in", "c.csv"), csvRows(0))
			return `{"csv": {"paths": ["DIR/in/*.csv"], "delimiter": ";"}}`
		},
		"parquet": func(t *testing.T, dir string) string {
			writeParquet(t, filepath.Join(dir, "in", "a.parquet"), []string{"a: float64", "b: string"}, 10)
			writeParquet(t, filepath.Join(dir, "in", "b.parquet"), []string{"a: float64", "b: string"}, 10, 20)
			return `{"parquet": {"paths": ["DIR/in"]}}`
		},
	}
	for _, test := range []struct {
		name, source string
		target       int64
		files        int
		steps        string
	}{
		{name: "csv-whole", source: "csv"},
		{name: "csv-small-splits", source: "csv", target: 200},
		{name: "csv-2-files", source: "csv", files: 2},
		{name: "csv-10-files", source: "csv", files: 10},
		{name: "csv-infer", source: "csv", steps: `{"infer": {"model": "DIR/m.onnx", "outputs": {"p": "p"}}}, {"select": {"columns": ["p", "b"]}}, {"infer": {"model": "DIR/m.onnx", "inputs": ["p"], "output": "q"}}`},
		{name: "parquet-whole", source: "parquet"},
		{name: "parquet-1-file", source: "parquet", files: 1},
		{name: "parquet-9-files", source: "parquet", files: 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			source := sources[test.source](t, dir)
			writeModel(t, dir, []string{"X: double[?, 1]"}, []string{"p: double[?, 1]"}, "")
			spec := parse(t, dir, fmt.Sprintf(`{"source": %s, "steps": [%s], "sink": {"parquet": {"path": "DIR/out", "mode": "error", "files": %d}}}`,
				source, test.steps, test.files))
			plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{TargetSplitBytes: test.target})
			if err != nil {
				t.Fatal(err)
			}
			again, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{TargetSplitBytes: test.target})
			if err != nil || !proto.Equal(plan, again) {
				t.Errorf("the same job was planned in another way: %v", err)
			}
			checkCover(t, plan)
			got := planText(t, dir, plan)
			golden := filepath.Join("testdata", test.name+".txt")
			if *rewrite {
				write(t, golden, got)
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (go test -rewrite makes it)", err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestBuildMoreFilesThanRows(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.csv"), "a,b\n"+strings.Repeat("1,2\n", 30))
	write(t, filepath.Join(dir, "in", "b.csv"), "a,b\n1,"+strings.Repeat("2", 18)+"\n")
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in"]}}, "sink": {"parquet": {"path": "DIR/out", "files": 1000}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if checkCover(t, plan); len(plan.GetTasks()) != 31 {
		t.Errorf("got %d tasks, want one for each row", len(plan.GetTasks()))
	}
}

// checkCover checks that the tasks read every part of every input once and in order, and that the parts are sorted by name.
func checkCover(t *testing.T, plan *enginev1.Plan) {
	t.Helper()
	offsets := make([]int64, len(plan.GetInputs()))
	groups := make([]int32, len(plan.GetInputs()))
	input, part := int32(0), ""
	for _, task := range plan.GetTasks() {
		if task.GetPart() <= part || len(task.GetSplits()) == 0 {
			t.Errorf("task %q with %d splits after %q", task.GetPart(), len(task.GetSplits()), part)
		}
		part = task.GetPart()
		for _, s := range task.GetSplits() {
			if s.GetInput() < input || s.GetInput() > input+1 || s.GetStartOffsetBytes() != offsets[s.GetInput()] || s.GetFirstRowGroup() != groups[s.GetInput()] {
				t.Errorf("split %v after input %d, byte %d, row group %d", s, input, offsets[s.GetInput()], groups[s.GetInput()])
			}
			input = s.GetInput()
			offsets[input], groups[input] = s.GetEndOffsetBytes(), groups[input]+s.GetRowGroups()
		}
	}
	for i, in := range plan.GetInputs() {
		if groups[i] == 0 && offsets[i] != in.GetSizeBytes() {
			t.Errorf("%s is read up to byte %d of %d", in.GetPath(), offsets[i], in.GetSizeBytes())
		}
	}
}

func TestBuildOutput(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.csv"), "a\n1\n")
	for _, test := range []struct {
		path, mode string
		want       string // folder, work folder, and mode, or the error
		kind       engine.Kind
	}{
		{"DIR/out/", "", "DIR/out in DIR/out error", engine.KindInternal},
		{"file://DIR/out", "append", "DIR/out in DIR/out append", engine.KindInternal},
		{"DIR/out", "overwrite", "DIR/out in DIR/.out.engine-" + string(testJob) + " overwrite", engine.KindInternal},
		{"DIR/in", "overwrite", "output folder: DIR/in: mode overwrite would delete the job's own input DIR/in/a.csv", engine.KindConflict},
		{"DIR", "overwrite", "would delete the job's own input DIR/in/a.csv", engine.KindConflict},
		{"DIR/in", "append", "output folder: DIR/in: mode append would add the output to the job's own input DIR/in/a.csv (write to another folder)", engine.KindConflict},
	} {
		spec := parse(t, dir, fmt.Sprintf(`{"source": {"csv": {"paths": ["DIR/in"]}}, "sink": {"parquet": {"path": %q, "mode": %q}}}`, test.path, test.mode))
		plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
		if test.kind != engine.KindInternal {
			wantError(t, err, test.kind, dir, test.want)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		folders, err := jobplan.Folders(spec, testJob, nil)
		if err != nil || len(folders) != 1 {
			t.Fatal(folders, err)
		}
		output := folders[0].Place
		got := fmt.Sprintf("%s in %s %s", plan.GetOutput().GetFolder(), plan.GetOutput().GetWorkFolder(), plan.GetOutput().GetMode())
		if want := strings.ReplaceAll(test.want, "DIR", dir); got != want || got != fmt.Sprintf("%s in %s %s", output.Target(), output.Work(), output.WriteMode()) {
			t.Errorf("got %s and %+v, want %s", got, output, want)
		}
	}
	_, err := jobplan.Build(t.Context(), "No/Job", parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in"]}}, "sink": {"parquet": {"path": "DIR/out"}}}`), jobplan.Options{})
	wantError(t, err, engine.KindInvalidArgument, dir, `"No/Job" is not a job id`)
}

// TestBuildGuardsModels has models in the folder that the job would overwrite.
func TestBuildGuardsModels(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.csv"), "a\n1\n")
	write(t, filepath.Join(dir, "bare", "weights", "w.bin"), "1234")
	// An external tensor of one float, in weights/w.bin.
	entry := func(key, value string) message { return message(nil).text(1, key).text(2, value) }
	tensor := message(nil).int(1, 1).int(2, onnxTypes["float"]).text(8, "w").add(13, entry("location", "weights/w.bin")).int(14, 1)
	graph := message(nil).add(1, message(nil).text(4, "Identity")).add(5, tensor).add(11, value("X: double[?, 1]")).add(12, value("p: double[?, 1]"))
	write(t, filepath.Join(dir, "bare", "m.onnx"), string(message(nil).int(1, 8).add(7, graph).add(8, message(nil).int(2, 13))))
	writeModel(t, filepath.Join(dir, "models"), []string{"X: double[?, 1]"}, []string{"p: double[?, 1]"}, "a: double")
	if err := os.Symlink(filepath.Join(dir, "models", "m"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ model, path, want string }{
		{"DIR/models/m", "DIR/models", "output folder: DIR/models: mode overwrite would delete the job's own model DIR/models/m (write to another folder)"},
		{"DIR/models/m", "DIR/models/m", "would delete the job's own model DIR/models/m ("},
		{"DIR/link", "DIR/models", "would delete the job's own model DIR/link ("},
		{"DIR/bare/m.onnx", "DIR/bare", "would delete the job's own model DIR/bare/m.onnx ("},
		{"DIR/bare/m.onnx", "DIR/bare/weights", "would delete the job's own model DIR/bare/weights/w.bin ("},
		{"DIR/models/m", "DIR/models/out", ""},
		{"DIR/bare/m.onnx", "DIR/bare/weight", ""},
	} {
		for _, mode := range []string{"overwrite", "append"} {
			spec := parse(t, dir, fmt.Sprintf(`{"source": {"csv": {"paths": ["DIR/in"]}}, "steps": [{"infer": {"model": %q}}], "sink": {"parquet": {"path": %q, "mode": %q}}}`,
				test.model, test.path, mode))
			_, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
			if test.want != "" && mode == "overwrite" {
				wantError(t, err, engine.KindConflict, dir, test.want)
			} else if err != nil {
				t.Errorf("%s %s: %v", mode, test.path, err)
			}
		}
	}
}

// TestBuildHintsDelimiter reads files with a delimiter that nobody has set.
func TestBuildHintsDelimiter(t *testing.T) {
	for _, test := range []struct{ csv, delimiter, steps, want string }{
		{"a;b\n1;2\n", "", `{"select": {"columns": ["a"]}}`, `steps[0].select: column "a" is missing from the table of DIR/in/a.csv (nearest: "a;b") (set source.csv.delimiter: ";")`},
		{"a\tb\n1\t2\n", "", `{"infer": {"model": "DIR/m.onnx", "inputs": ["a", "b"]}}`, `columns are missing from the table of DIR/in/a.csv: "a" (nearest: "a\tb"), "b" (nearest: "a\tb") (set source.csv.delimiter: "\t")`},
		{"a;b\n1;2\n", "", `{"infer": {"model": "DIR/m.onnx"}}`, `the model's input "X" wants 2 (set source.csv.delimiter: ";")`},
		{"\"a\";\"b\"\n1;2\n", "", `{"infer": {"model": "DIR/m.onnx"}}`, `closing quote is followed by ";" (set source.csv.delimiter: ";")`},
		{"a,b\n1,2\n", ";", `{"cast": {"columns": {"a": "string"}}}`, `(set source.csv.delimiter: ",")`},
		{"\"a;b\"\n1\n", ";", `{"select": {"columns": ["a"]}}`, `column "a" is missing from the table of DIR/in/a.csv`},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "in", "a.csv"), test.csv)
		writeModel(t, dir, []string{"X: double[?, 2]"}, []string{"p: double[?, 1]"}, "")
		_, err := jobplan.Build(t.Context(), testJob, parse(t, dir, fmt.Sprintf(`{"source": {"csv": {"paths": ["DIR/in"], "delimiter": %q}}, "steps": [%s],
			"sink": {"parquet": {"path": "DIR/out"}}}`, test.delimiter, test.steps)), jobplan.Options{})
		wantError(t, err, engine.KindData, dir, test.want)
		if err != nil && !strings.Contains(test.want, "(") && strings.Contains(err.Error(), "delimiter") {
			t.Errorf("%v: the delimiter is right", err)
		}
	}
}

func TestBuildParquetAsCSV(t *testing.T) {
	dir := t.TempDir()
	writeParquet(t, filepath.Join(dir, "in", "a.parquet"), []string{"a: float64"}, 10)
	writeParquet(t, filepath.Join(dir, "empty", "a.parquet"), []string{"a: float64"})
	for _, folder := range []string{"in", "empty"} {
		spec := parse(t, dir, fmt.Sprintf(`{"source": {"csv": {"paths": ["DIR/%s"]}}, "sink": {"parquet": {"path": "DIR/out"}}}`, folder))
		_, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
		wantError(t, err, engine.KindData, dir, "a.parquet: is a Parquet file, not CSV text (read it with source.parquet)")
	}
}
