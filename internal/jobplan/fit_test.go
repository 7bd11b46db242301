package jobplan_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// found is what a pass might find in a column.
func found(target fit.Target) *enginev1.FittedColumn {
	zero, one := 0.0, 1.0
	f := &enginev1.FittedColumn{Step: int32(target.Step), Column: target.Column, Rows: 2}
	switch target.Kind {
	case fit.Standard:
		f.Mean, f.Std = &zero, &one
	case fit.MinMax:
		f.Min, f.Max = &zero, &one
	default:
		f.Categories, f.Counts = []string{"p", "q"}, []int64{1, 1}
	}
	return f
}

// TestPasses says what each pass over the data looks at and reads, and what is left in the end.
func TestPasses(t *testing.T) {
	for name, test := range map[string]struct {
		steps string
		// want has a line for each pass: the columns that it looks at, those that it reads, and its operations.
		want []string
		// columns are those of the output.
		columns string
		// known says that planning knows them.
		known bool
	}{
		"at once": {
			steps: `{"one_hot": {"columns": [{"name": "s"}]}}, {"scale": {"columns": [{"name": "x"}, {"name": "y", "method": "min_max"}]}}, {"index": {"columns": [{"name": "u"}]}}`,
			want:  []string{"0:s 1:x 1:y 2:u of s u x y: +FitOp +WithOp +FitOp +WithOp +FitOp"}, columns: "x y u z s_p s_q",
		},
		"none": {steps: `{"scale": {"columns": [{"name": "x", "mean": 1, "std": 2}]}}`, columns: "s x y u z", known: true},
		"only what is needed": {
			steps:   `{"with": {"columns": {"w": "x + y", "v": "z"}}}, {"filter": {"where": "s <> 'a'"}}, {"scale": {"columns": [{"name": "w"}]}}, {"filter": {"where": "u > ''"}}`,
			want:    []string{"2:w of s x y: +WithOp +FilterOp +FitOp"},
			columns: "s x y u z v w", known: true,
		},
		"one behind the other": {
			steps: `{"scale": {"columns": [{"name": "x"}]}}, {"with": {"columns": {"w": "x * 2"}}}, {"scale": {"columns": [{"name": "w"}, {"name": "y"}]}}`,
			want:  []string{"0:x 2:y of x y: +FitOp +WithOp +FitOp", "2:w of x: +WithOp +WithOp +FitOp"}, columns: "s x y u z w", known: true,
		},
		"rows that depend": {
			steps: `{"scale": {"columns": [{"name": "x"}]}}, {"filter": {"where": "x > 0"}}, {"scale": {"columns": [{"name": "y"}]}}`,
			want:  []string{"0:x of x: +FitOp", "2:y of x y: +WithOp +FilterOp +FitOp"}, columns: "s x y u z", known: true,
		},
		"columns to come": {
			steps:   `{"one_hot": {"columns": [{"name": "s"}]}}, {"select": {"columns": ["s_p", "x"]}}, {"rename": {"columns": {"s_p": "p"}}}, {"scale": {"columns": [{"name": "x"}]}}, {"filter": {"where": "p = 1"}}, {"scale": {"columns": [{"name": "p"}]}}`,
			want:    []string{"0:s 3:x of s x: +FitOp +WithOp +FitOp", "5:p of s: +WithOp +RenameOp +FilterOp +FitOp"},
			columns: "p x",
		},
		"twice the same column": {
			steps: `{"scale": {"columns": [{"name": "x"}]}}, {"scale": {"columns": [{"name": "x", "method": "min_max"}]}}`,
			want:  []string{"0:x of x: +FitOp", "1:x of x: +WithOp +FitOp"}, columns: "s x y u z", known: true,
		},
		"given and found": {
			steps: `{"one_hot": {"columns": [{"name": "s", "categories": ["a"]}, {"name": "u"}]}}, {"scale": {"columns": [{"name": "s_a"}]}}`,
			want:  []string{"0:u 1:s_a of s u: +FitOp +WithOp +FitOp"}, columns: "x y z s_a u_p u_q",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "in.csv"), "s,x,y,u,z\na,1,2,b,5\nc,3,4,d,6\n")
			spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in.csv"]}}, "steps": [`+test.steps+`], "sink": {"parquet": {"path": "DIR/out"}}}`)
			plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if known := len(plan.GetOutputColumns()) > 0; known != test.known {
				t.Errorf("the plan has the columns %v", plan.GetOutputColumns())
			}
			var all []*enginev1.FittedColumn
			var passes []string
			resolved := jobplan.Resolve(spec)
			for !jobplan.IsFitted(resolved) {
				pass, err := jobplan.NextPass(t.Context(), resolved, plan, nil)
				if err != nil {
					t.Fatal(err)
				}
				sent := proto.CloneOf(pass.Plan)
				sent.Tasks = nil
				program, err := jobplan.Compiler{}.CompileFit(t.Context(), pass.Spec, sent)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(program.Fit) != fmt.Sprint(pass.Targets) {
					t.Errorf("the worker looks at %v, the head expects %v", program.Fit, pass.Targets)
				}
				var line strings.Builder
				for _, target := range pass.Targets {
					fmt.Fprintf(&line, "%d:%s ", target.Step, target.Column)
					all = append(all, found(target))
				}
				line.WriteString("of")
				var names []string
				for _, column := range program.Columns {
					names = append(names, program.SourceSchema.Field(column).Name)
				}
				slices.Sort(names)
				fmt.Fprintf(&line, " %s:", strings.Join(names, " "))
				for _, op := range program.Ops {
					line.WriteString(" +" + strings.TrimPrefix(fmt.Sprintf("%T", op), "jobplan."))
				}
				passes = append(passes, line.String())
				resolved = jobplan.Resolve(spec, all...)
			}
			if !slices.Equal(passes, test.want) {
				t.Errorf("got\n%s\nexpected\n%s", strings.Join(passes, "\n"), strings.Join(test.want, "\n"))
			}
			columns, err := jobplan.Fitted(t.Context(), testJob, resolved, plan, jobplan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range columns {
				names = append(names, c.GetName())
			}
			if got := strings.Join(names, " "); got != test.columns {
				t.Errorf("columns %s, expected %s", got, test.columns)
			}
			if len(test.want) > 0 {
				if _, err := jobplan.Compile(t.Context(), spec, plan, nil); engine.KindOf(err) != engine.KindInternal {
					t.Errorf("a job that is not fitted was compiled: %v", err)
				}
			}
			if _, err := jobplan.Compile(t.Context(), resolved, plan, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFittedIsRefusedLate says what only shows once something is fitted.
func TestFittedIsRefusedLate(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in.csv"), "s,x,s_p\na,1,2\n")
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in.csv"]}}, "steps": [{"one_hot": {"columns": [{"name": "s"}]}}], "sink": {"parquet": {"path": "DIR/out"}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	resolved := jobplan.Resolve(spec, found(fit.Target{Column: "s", Kind: fit.Categories}))
	_, err = jobplan.Fitted(t.Context(), testJob, resolved, plan, jobplan.Options{})
	wantError(t, err, engine.KindInvalidArgument, dir, `"s_p" would be a second column of that name`)
}

func TestFittedFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in.csv"), "s,x\na,1\n")
	file := func(job, columns string) {
		write(t, filepath.Join(dir, "out", "_engine", "fitted-"+job+".json"), `{"version": 1, "job": "`+job+`", "columns": [`+columns+`]}`)
	}
	build := func(steps string) (*enginev1.Plan, error) {
		spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in.csv"]}}, "steps": [`+steps+`], "sink": {"parquet": {"path": "DIR/next"}}}`)
		return jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	}
	const scale = `{"scale": {"columns": [{"name": "x"}], "fitted": "DIR/out"}}`
	_, err := build(scale)
	wantError(t, err, engine.KindNotFound, dir, "read fitted values: DIR/out: there is no such file or folder")
	write(t, filepath.Join(dir, "out", "part.csv"), "")
	_, err = build(scale)
	wantError(t, err, engine.KindNotFound, dir, "the folder holds no _engine/fitted-*.json")
	first := "20261123-142330-7f3k2m9q"
	file(first, `{"kind": "scale", "step": 4, "column": "x", "min": 0, "max": 2}, {"kind": "scale", "step": 5, "column": "y", "min": 0, "max": 2}`)
	plan, err := build(scale)
	if err != nil {
		t.Fatal(err)
	}
	if f := plan.GetFitted(); len(f) != 1 || f[0].GetMax() != 2 || f[0].GetStep() != 0 || !strings.HasPrefix(plan.GetFittedFiles()[0].GetDigest(), "sha256:") || plan.GetFittedFiles()[0].GetStep() != 0 {
		t.Errorf("plan %v", plan)
	}
	_, err = build(`{"scale": {"columns": [{"name": "x", "method": "standard"}], "fitted": "DIR/out"}}`)
	wantError(t, err, engine.KindInvalidArgument, dir, `column "x" was scaled by method min_max, the job file says standard`)
	_, err = build(`{"index": {"columns": [{"name": "s"}], "fitted": "DIR/out"}}`)
	wantError(t, err, engine.KindData, dir, `job `+first+` was not fitted to column "s" in a step index`)

	second := "20261124-142330-7f3k2m9q"
	file(second, `{"kind": "scale", "step": 1, "column": "x", "min": 0, "max": 3}, {"kind": "scale", "step": 2, "column": "x", "min": 0, "max": 4}`)
	_, err = build(scale)
	wantError(t, err, engine.KindConflict, dir, "several jobs that were fitted have written there: fitted-"+first+".json")
	write(t, filepath.Join(dir, "out", "_SUCCESS"), `{"job": "`+second+`"}`)
	_, err = build(scale)
	wantError(t, err, engine.KindData, dir, `was fitted to column "x" in 2 steps scale, none of them steps[0]`)
	if plan, err = build(`{"select": {"columns": ["x"]}}, ` + scale); err != nil || plan.GetFitted()[0].GetMax() != 3 {
		t.Errorf("plan %v, %v", plan.GetFitted(), err)
	}
	write(t, filepath.Join(dir, "broken.json"), "{")
	_, err = build(`{"scale": {"columns": [{"name": "x"}], "fitted": "DIR/broken.json"}}`)
	wantError(t, err, engine.KindCorrupt, dir, "read fitted values: DIR/broken.json: it is no such file")
}

func TestFittedFilesInBuckets(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in.csv"), "s,x\na,1\n")
	bucket := memory.New("b")
	put := func(key, content string) {
		if _, err := bucket.Put(t.Context(), key, strings.NewReader(content), int64(len(content)), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	file := func(job string, high int) {
		put("out/_engine/fitted-"+job+".json", fmt.Sprintf(`{"version": 1, "job": %q, "columns": [{"kind": "scale", "column": "x", "min": 0, "max": %d}]}`, job, high))
	}
	from := storage.New(func(context.Context, string) (blob.Bucket, error) { return bucket, nil }, storage.Options{})
	build := func(entry string) (*enginev1.Plan, error) {
		spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in.csv"]}}, "steps": [{"scale": {"columns": [{"name": "x"}], "fitted": "`+entry+`"}}], "sink": {"parquet": {"path": "DIR/next"}}}`)
		return jobplan.Build(t.Context(), testJob, spec, jobplan.Options{Storage: from})
	}
	put("out/part.parquet", "")
	_, err := build("s3://b/out")
	wantError(t, err, engine.KindNotFound, dir, "read fitted values: s3://b/out: the folder holds no _engine/fitted-*.json")
	first, second := "20261123-142330-7f3k2m9q", "20261124-142330-7f3k2m9q"
	file(first, 2)
	file(second, 3)
	_, err = build("s3://b/out/")
	wantError(t, err, engine.KindConflict, dir, "several jobs that were fitted")
	put("out/_SUCCESS", `{"job": "`+second+`"}`)
	for entry, high := range map[string]float64{"s3://b/out": 3, "s3://b/out/": 3, "s3://b/out/_engine/fitted-" + first + ".json": 2} {
		plan, err := build(entry)
		if err != nil || plan.GetFitted()[0].GetMax() != high || !strings.HasPrefix(plan.GetFittedFiles()[0].GetPath(), "s3://b/out/_engine/fitted-") {
			t.Errorf("%s: %v, %v", entry, plan.GetFittedFiles(), err)
		}
	}
}
