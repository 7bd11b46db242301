package jobplan_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/jobplan"
)

// describe writes what a program does in one line for each operation.
func describe(p *jobplan.Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "read %v of", p.Columns)
	for _, f := range p.SourceSchema.Fields() {
		fmt.Fprintf(&b, " %s:%s", f.Name, dataset.TypeName(f.Type))
	}
	for _, op := range p.Ops {
		b.WriteString("\n")
		switch op := op.(type) {
		case jobplan.SelectOp:
			fmt.Fprintf(&b, "select %v", op.Indices)
		case jobplan.RenameOp:
			fmt.Fprintf(&b, "rename %s", strings.Join(op.Names, " "))
		case jobplan.CastOp:
			b.WriteString("cast")
			for _, c := range op.Columns {
				fmt.Fprintf(&b, " %d:%s", c.Index, dataset.TypeName(c.Type))
			}
		case jobplan.FilterOp:
			fmt.Fprintf(&b, "filter %s", op.Where)
		case jobplan.WithOp:
			b.WriteString("with")
			for _, c := range op.Columns {
				if c.Value == nil {
					fmt.Fprintf(&b, " %d", c.Index)
				} else {
					fmt.Fprintf(&b, " %s=(%s)", c.Name, c.Value)
				}
			}
		case jobplan.InferOp:
			fmt.Fprintf(&b, "infer step %d %v matrix %v rows %d ->", op.Step, op.Inputs, op.Matrix, op.BatchRows)
			for _, o := range op.Outputs {
				fmt.Fprintf(&b, " %d:%s:%s", o.Index, o.Column, dataset.TypeName(o.Field.Type))
				if o.Field.Name != o.Column || o.Field.Nullable {
					b.WriteString("(bad field)")
				}
			}
		}
	}
	b.WriteString("\nwrite")
	for _, f := range p.OutputSchema.Fields() {
		fmt.Fprintf(&b, " %s:%s", f.Name, dataset.TypeName(f.Type))
	}
	return b.String()
}

// compileTest is a job over in/a.csv or in/a.parquet and the model MODEL.
type compileTest struct {
	name      string
	csv       string
	parquet   []string
	inputs    []string
	outputs   []string
	signature string
	steps     string
	columns   string // of the csv source
	// want is what describe says, or the error.
	want string
	kind engine.Kind
}

func (test *compileTest) run(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	source := `"source": {"csv": {"paths": ["DIR/in"], "columns": [` + test.columns + `]}}`
	if test.parquet != nil {
		writeParquet(t, filepath.Join(dir, "in", "a.parquet"), test.parquet, 3)
		source = `"source": {"parquet": {"paths": ["DIR/in"]}}`
	} else {
		write(t, filepath.Join(dir, "in", "a.csv"), test.csv)
	}
	if test.outputs == nil {
		test.outputs = []string{"variable: float[?, 1]"}
	}
	model := writeModel(t, dir, test.inputs, test.outputs, test.signature)
	if test.steps == "" {
		test.steps = `{"infer": {"model": "MODEL"}}`
	}
	steps := strings.ReplaceAll(test.steps, "MODEL", model)
	spec := parse(t, dir, `{`+source+`, "steps": [`+steps+`], "sink": {"parquet": {"path": "DIR/out"}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		if test.kind == engine.KindInternal {
			t.Fatal(err)
		}
		wantError(t, err, test.kind, dir, test.want)
		return
	}
	if test.kind != engine.KindInternal {
		t.Fatalf("got a plan, want %s", test.want)
	}
	plan.Tasks = nil
	program, err := jobplan.Compile(t.Context(), spec, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(program); got != test.want {
		t.Errorf("got\n%s\nwant\n%s", got, test.want)
	}
}

func TestCompile(t *testing.T) {
	for _, test := range []compileTest{
		{
			name: "outputs that do not say their shape", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float"},
			want: "read [0] of a:int64\ninfer step 0 [0] matrix true rows 0 -> 0:p:float32\nwrite a:int64 p:float32",
		},
		{
			name: "no steps", csv: "a,b\n1,x\n", inputs: []string{"X: float[?, 1]"}, steps: " ",
			want: "read [0 1] of a:int64 b:string\nwrite a:int64 b:string",
		},
		{
			name: "column signature is stacked in its own order", csv: "id,b,a,c\nx,1,2,3.5\n", inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: double",
			want: "read [0 1 2 3] of id:string b:float64 a:float64 c:float64\ninfer step 0 [2 1] matrix true rows 0 -> 0:variable:float32\n" +
				"write id:string b:float64 a:float64 c:float64 variable:float32",
		},
		{
			name: "select leaves the rest unread", csv: "id,b,a,c\nx,1,2,3.5\n", inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: double",
			steps: `{"infer": {"model": "MODEL", "output": "y"}}, {"select": {"columns": ["y", "a"]}}`,
			want: "read [1 2] of id:string b:float64 a:float64 c:float64\ninfer step 0 [1 0] matrix true rows 0 -> 0:y:float32\nselect [2 1]\n" +
				"write y:float32 a:float64",
		},
		{
			name: "declared types hold and are checked", csv: "a,b\n1,2\n", columns: `{"name": "a", "type": "float"}, {"name": "b", "type": "integer"}`,
			inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: double",
			want: "read [0 1] of a:float32 b:int32\ninfer step 0 [0 1] matrix true rows 0 -> 0:variable:float32\nwrite a:float32 b:int32 variable:float32",
		},
		{
			name: "a string signature over a graph of numbers gives names and order", csv: "b,a\n1,2\n", inputs: []string{"X: double[?, 2]"}, signature: "a: string, b: string",
			want: "read [0 1] of b:float64 a:float64\ninfer step 0 [1 0] matrix true rows 0 -> 0:variable:float32\nwrite b:float64 a:float64 variable:float32",
		},
		{
			name: "a double signature over a float graph is read as double", csv: "a\n1\n", inputs: []string{"X: float[?, 1]"}, signature: "a: double",
			want: "read [0] of a:float64\ninfer step 0 [0] matrix true rows 0 -> 0:variable:float32\nwrite a:float64 variable:float32",
		},
		{
			name: "a float signature", csv: "a\n1\n", inputs: []string{"X: float[?, 1]"}, signature: "a: float",
			want: "read [0] of a:float32\ninfer step 0 [0] matrix true rows 0 -> 0:variable:float32\nwrite a:float32 variable:float32",
		},
		{
			name: "types that a signature takes", parquet: []string{"l: int32", "d: int32", "f: float32", "u: uint32"},
			inputs: []string{"X: double[?, 4]"}, signature: "l: long, d: double, f: double, u: double",
			want: "read [0 1 2 3] of l:int32 d:int32 f:float32 u:uint32\ninfer step 0 [0 1 2 3] matrix true rows 0 -> 0:variable:float32\n" +
				"write l:int32 d:int32 f:float32 u:uint32 variable:float32",
		},
		{
			name: "all numeric columns in the order of the table", csv: "name,b,a,ok\nx,1,2.5,true\n", inputs: []string{"X: float[?, 2]"},
			want: "read [0 1 2 3] of name:string b:int64 a:float64 ok:bool\ninfer step 0 [1 2] matrix true rows 0 -> 0:variable:float32\n" +
				"write name:string b:int64 a:float64 ok:bool variable:float32",
		},
		{
			name: "a matrix of any width", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, ?]"},
			want: "read [0 1] of a:int64 b:int64\ninfer step 0 [0 1] matrix true rows 0 -> 0:variable:float32\nwrite a:int64 b:int64 variable:float32",
		},
		{
			name: "inputs in the model's order", csv: "a,b,c\n1,2,3\n", inputs: []string{"X: float[?, 2]"},
			steps: `{"infer": {"model": "MODEL", "inputs": ["c", "a"], "batch": {"rows": 7}}}`,
			want: "read [0 1 2] of a:float64 b:int64 c:float64\ninfer step 0 [2 0] matrix true rows 7 -> 0:variable:float32\n" +
				"write a:float64 b:int64 c:float64 variable:float32",
		},
		{
			name: "inputs stand for the signature's columns", csv: "x,y\n1,2\n", inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: long",
			steps: `{"infer": {"model": "MODEL", "inputs": ["y", "x"]}}`,
			want:  "read [0 1] of x:int64 y:float64\ninfer step 0 [1 0] matrix true rows 0 -> 0:variable:float32\nwrite x:int64 y:float64 variable:float32",
		},
		{
			name: "one tensor for each column", csv: "s,n,f,b\nx,1,2,true\n", inputs: []string{"f: float[?, 1]", "n: int64[?]", "s: string[?, 1]", "b: bool[?]"},
			want: "read [0 1 2 3] of s:string n:int64 f:float64 b:bool\ninfer step 0 [2 1 0 3] matrix false rows 0 -> 0:variable:float32\n" +
				"write s:string n:int64 f:float64 b:bool variable:float32",
		},
		{
			name: "one tensor for each column with a signature", csv: "n,f\n1,2\n", inputs: []string{"f: float[?, 1]", "n: int64[?, 1]"}, signature: "n: long, f: float",
			want: "read [0 1] of n:int64 f:float32\ninfer step 0 [1 0] matrix false rows 0 -> 0:variable:float32\nwrite n:int64 f:float32 variable:float32",
		},
		{
			name: "inputs of several tensors", csv: "p,q\n1,2\n", inputs: []string{"f: double[?, 1]", "n: int64[?, 1]"}, steps: `{"infer": {"model": "MODEL", "inputs": ["q", "p"]}}`,
			want: "read [0 1] of p:int64 q:float64\ninfer step 0 [1 0] matrix false rows 0 -> 0:variable:float32\nwrite p:int64 q:float64 variable:float32",
		},
		{
			name: "one tensor of one column by the input's name", csv: "z,x\n1,2\n", inputs: []string{"x: double[?, 1]"},
			want: "read [0 1] of z:int64 x:float64\ninfer step 0 [1] matrix true rows 0 -> 0:variable:float32\nwrite z:int64 x:float64 variable:float32",
		},
		{
			name: "a vector takes the one column of the signature", csv: "z,x\n1,2\n", inputs: []string{"input: double[?]"}, signature: "x: double",
			want: "read [0 1] of z:int64 x:float64\ninfer step 0 [1] matrix false rows 0 -> 0:variable:float32\nwrite z:int64 x:float64 variable:float32",
		},
		{
			name: "rename and select are followed backwards", csv: "one,two,three\n1,2,3\n", inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: double",
			steps: `{"rename": {"columns": {"one": "two", "two": "a"}}}, {"select": {"columns": ["a", "two"]}}, {"rename": {"columns": {"two": "b"}}}, {"infer": {"model": "MODEL"}}`,
			want: "read [0 1] of one:float64 two:float64 three:int64\nrename two a\nselect [1 0]\nrename a b\ninfer step 3 [0 1] matrix true rows 0 -> 0:variable:float32\n" +
				"write a:float64 b:float64 variable:float32",
		},
		{
			name: "a cast ends what the model wants", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, 2]"}, signature: "a: double, b: double",
			steps: `{"cast": {"columns": {"a": "double"}}}, {"infer": {"model": "MODEL"}}`,
			want:  "read [0 1] of a:int64 b:float64\ncast 0:float64\ninfer step 1 [0 1] matrix true rows 0 -> 0:variable:float32\nwrite a:float64 b:float64 variable:float32",
		},
		{
			name: "steps that change nothing are left out", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, 2]"},
			steps: `{"cast": {"columns": {"a": "long"}}}, {"select": {"columns": ["a", "b"]}}, {"rename": {"columns": {"a": "a"}}}`,
			want:  "read [0 1] of a:int64 b:int64\nwrite a:int64 b:int64",
		},
		{
			name: "a cast of what is dropped is not done", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, 2]"},
			steps: `{"cast": {"columns": {"a": "string", "b": "string"}}}, {"rename": {"columns": {"a": "c"}}}, {"select": {"columns": ["b"]}}`,
			want:  "read [1] of a:int64 b:int64\ncast 0:string\nwrite b:string",
		},
		{
			name: "outputs", csv: "a\n1.5\n", inputs: []string{"X: float[?, 1]"},
			outputs: []string{"label: int64[?]", "p: float[?, 3]", "text: string[?, 1]", "small: int8", "scores: double[1]"},
			want: "read [0] of a:float64\ninfer step 0 [0] matrix true rows 0 -> 0:label:int64 1:p:fixed_size_list<item: float32>[3] 2:text:string 3:small:int8 4:scores:float64\n" +
				"write a:float64 label:int64 p:fixed_size_list<item: float32>[3] text:string small:int8 scores:float64",
		},
		{
			name: "outputs that are not asked for do not matter", csv: "a\n1.5\n", inputs: []string{"X: float[?, 1]"},
			outputs: []string{"output_probability: zipmap", "output_label: int64[?]"}, steps: `{"infer": {"model": "MODEL", "outputs": {"output_label": "quality"}}}`,
			want: "read [0] of a:float64\ninfer step 0 [0] matrix true rows 0 -> 1:quality:int64\nwrite a:float64 quality:int64",
		},
		{
			name: "a model may read what another wrote", csv: "a\n1.5\n", inputs: []string{"X: float[?, 1]"},
			steps: `{"infer": {"model": "MODEL", "output": "y"}}, {"infer": {"model": "MODEL", "inputs": ["y"], "output": "z"}}, {"select": {"columns": ["z"]}}`,
			want: "read [0] of a:float64\ninfer step 0 [0] matrix true rows 0 -> 0:y:float32\ninfer step 1 [1] matrix true rows 0 -> 0:z:float32\nselect [2]\n" +
				"write z:float32",
		},
		{
			name: "a model that takes one row", csv: "a\n1.5\n", inputs: []string{"X: float[1, 1]"},
			want: "read [0] of a:float64\ninfer step 0 [0] matrix true rows 1 -> 0:variable:float32\nwrite a:float64 variable:float32",
		},
		{
			name: "two models want the same", csv: "a\n1.5\n", inputs: []string{"X: float[?, 1]"}, signature: "a: float",
			steps: `{"infer": {"model": "MODEL", "output": "y"}}, {"infer": {"model": "MODEL", "output": "z"}}`,
			want: "read [0] of a:float32\ninfer step 0 [0] matrix true rows 0 -> 0:y:float32\ninfer step 1 [0] matrix true rows 0 -> 0:z:float32\n" +
				"write a:float32 y:float32 z:float32",
		},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t) })
	}
}

func TestCompileRefuses(t *testing.T) {
	wine := []string{"X: double[?, 3]"}
	for _, test := range []compileTest{
		{
			name: "missing column", csv: "fixed_acidity,pH,x\n1,2,3\n", inputs: wine, signature: "fixed acidity: double, pH: double, x: double", kind: engine.KindData,
			want: `infer DIR/m: column "fixed acidity" is missing from the table of DIR/in/a.csv (nearest: "fixed_acidity")`,
		},
		{
			name: "all missing columns", csv: "alkohol,x\n1,2\n", inputs: wine, signature: "alcohol: double, pH: double, x: double", kind: engine.KindData,
			want: `infer DIR/m: columns are missing from the table of DIR/in/a.csv: "alcohol" (nearest: "alkohol"), "pH"`,
		},
		{
			name: "missing column that a step took", csv: "a,b,c\n1,2,3\n", inputs: wine, signature: "a: double, b: double, c: double", kind: engine.KindData,
			steps: `{"select": {"columns": ["a", "b"]}}, {"rename": {"columns": {"b": "B"}}}, {"infer": {"model": "MODEL"}}`,
			want:  `columns are missing from the table of DIR/in/a.csv: "b" (steps[1].rename makes it "B"), "c" (steps[0].select leaves it out)`,
		},
		{
			name: "missing optional column", csv: "a,b\n1,2\n", inputs: wine, signature: "a: double, b: double, c: double?", kind: engine.KindData,
			want: `infer DIR/m: column "c" is missing from the table of DIR/in/a.csv: the signature has it as optional, but the graph cannot do without`,
		},
		{
			name: "mistyped columns", parquet: []string{"a: int64", "fixed acidity: string", "c: float64"}, inputs: wine,
			signature: "a: double, fixed acidity: double, c: double", kind: engine.KindData,
			want: `infer DIR/m: column "a" is int64, the model's signature wants double; column "fixed acidity" is string, the model's signature wants double ` +
				`(add the step cast: {columns: {a: double, "fixed acidity": double}})`,
		},
		{
			name: "float64 for float", parquet: []string{"a: float64"}, inputs: []string{"X: float[?, 1]"}, signature: "a: float", kind: engine.KindData,
			want: `column "a" is float64, the model's signature wants float (add the step cast: {columns: {a: float}})`,
		},
		{
			name: "declared type", csv: "a\n1\n", columns: `{"name": "a", "type": "string"}`, inputs: []string{"X: float[?, 1]"}, signature: "a: float", kind: engine.KindData,
			want: `column "a" is string, the model's signature wants float`,
		},
		{
			name: "text without signature", parquet: []string{"a: string"}, inputs: []string{"a: float[?, 1]"}, kind: engine.KindData,
			want: `infer DIR/m.onnx: column "a" is string, the model's input "a" wants float (add the step cast: {columns: {a: float64}})`,
		},
		{
			name: "list without signature", parquet: []string{"a: list"}, inputs: []string{"a: float[?, 1]"}, kind: engine.KindData,
			want: `column "a" is list<item: int64, nullable>, the model's input "a" wants float`,
		},
		{
			name: "fractions for integers", parquet: []string{"a: float64"}, inputs: []string{"X: int64[?, 1]"}, kind: engine.KindData,
			want: `column "a" is float64, the model's input "X" wants int64 (add the step cast: {columns: {a: int64}})`,
		},
		{
			name: "too many numeric columns", csv: "id,a,b,c,t\n1,2,3,4,x\n", inputs: wine, kind: engine.KindData,
			want: `infer DIR/m.onnx: the table of DIR/in/a.csv has 4 numeric columns ("id", "a", "b", "c"), the model's input "X" wants 3 ` +
				`(set inputs to the columns that the model is fed, in its own order)`,
		},
		{
			name: "no numeric columns", csv: "t\nx\n", inputs: []string{"X: double[?, ?]"}, kind: engine.KindData,
			want: `the table of DIR/in/a.csv has no numeric columns, the model's input "X" wants columns`,
		},
		{
			name: "matrix of text", csv: "t,u\nx,y\n", inputs: []string{"X: string[?, 2]"}, kind: engine.KindInvalidArgument,
			want: `the model's input "X" is a matrix of string, and nothing says which columns it wants (set inputs`,
		},
		{
			name: "inputs of another number", csv: "a,b\n1,2\n", inputs: wine, steps: `{"infer": {"model": "MODEL", "inputs": ["a", "b"]}}`, kind: engine.KindInvalidArgument,
			want: `infer DIR/m.onnx: inputs names 2 columns, the model's input "X" wants 3`,
		},
		{
			name: "inputs of another number than the signature", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, ?]"}, signature: "a: double",
			steps: `{"infer": {"model": "MODEL", "inputs": ["a", "b"]}}`, kind: engine.KindInvalidArgument, want: `inputs names 2 columns, the model's signature has 1`,
		},
		{
			name: "inputs of another number than tensors", csv: "a,b\n1,2\n", inputs: []string{"x: double[?]", "y: double[?]"},
			steps: `{"infer": {"model": "MODEL", "inputs": ["a"]}}`, kind: engine.KindInvalidArgument, want: `inputs names 1 column, the model has 2 inputs: "x", "y"`,
		},
		{
			name: "unknown input", csv: "a,b\n1,2\n", inputs: []string{"X: double[?, 1]"}, steps: `{"infer": {"model": "MODEL", "inputs": ["A"]}}`, kind: engine.KindData,
			want: `column "A" is missing from the table of DIR/in/a.csv (nearest: "a")`,
		},
		{
			name: "signature of another width", csv: "a\n1\n", inputs: wine, signature: "a: double, b: double", kind: engine.KindModel,
			want: `infer DIR/m: the signature has 2 columns, the model's input "X" wants 3`,
		},
		{name: "no inputs", csv: "a\n1\n", kind: engine.KindModel, want: "the model has no inputs"},
		{
			name: "several matrices", csv: "a\n1\n", inputs: []string{"x: double[?, 2]", "y: double[?]"}, kind: engine.KindModel,
			want: `the model has 2 inputs, of which "x" has shape [?, 2]; of several inputs each must take one column`,
		},
		{
			name: "images", csv: "a\n1\n", inputs: []string{"x: double[?, 3, 224, 224]"}, kind: engine.KindModel,
			want: `the model's input "x" has shape [?, 3, 224, 224]; use [rows], [rows, 1], or [rows, columns]`,
		},
		{name: "scalar", csv: "a\n1\n", inputs: []string{"x: double[]"}, kind: engine.KindModel, want: `the model's input "x" has shape []; use`},
		{name: "no shape", csv: "a\n1\n", inputs: []string{"x: double"}, kind: engine.KindModel, want: `the model's input "x" has no shape; use`},
		{
			name: "half floats", csv: "a\n1\n", inputs: []string{"x: float16[?, 1]"}, kind: engine.KindModel,
			want: `the model's input "x" has elements of type float16; use float, double, int32, int64, bool, or string`,
		},
		{
			name: "brain floats", csv: "a\n1\n", inputs: []string{"x: bfloat16[?, 1]"}, kind: engine.KindModel,
			want: `the model's input "x" is a tensor(bfloat16), which no column can be fed to`,
		},
		{
			name: "fixed rows", csv: "a\n1\n", inputs: []string{"x: double[32, 1]"}, kind: engine.KindModel,
			want: `the model's input "x" has shape [32, 1]: it takes 32 rows at a time (export the model with a dynamic first dimension)`,
		},
		{
			name: "one row and a batch", csv: "a\n1\n", inputs: []string{"x: double[1, 1]"}, steps: `{"infer": {"model": "MODEL", "batch": {"rows": 5}}}`, kind: engine.KindInvalidArgument,
			want: `batch.rows is 5, the model's input "x" has shape [1, 1]: it takes 1 row at a time (leave batch out`,
		},
		{
			name: "zipmap", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"label: int64[?]", "probabilities: zipmap"}, kind: engine.KindModel,
			want: `the model's output "probabilities" is a seq(map(int64, tensor(float))), which no column can hold ` +
				`(convert the model with options={'zipmap': False}, or name the outputs that you want in outputs)`,
		},
		{
			name: "output for several", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"label: int64[?]", "p: float[?, 2]"}, kind: engine.KindInvalidArgument,
			steps: `{"infer": {"model": "MODEL", "output": "y"}}`,
			want:  `infer DIR/m.onnx: output names one column, the model has 2 outputs: "label", "p" (set outputs: {label: y})`,
		},
		{
			name: "unknown output", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"label: int64[?]"}, kind: engine.KindInvalidArgument,
			steps: `{"infer": {"model": "MODEL", "outputs": {"lable": "y"}}}`,
			want:  `outputs names "lable", which is no output of the model (nearest: "label") (the model has "label")`,
		},
		{
			name: "output exists", csv: "variable\n1\n", inputs: []string{"x: double[?, 1]"}, kind: engine.KindInvalidArgument,
			want: `the output "variable" would be a second column of that name in the table of DIR/in/a.csv (set output`,
		},
		{
			name: "open length", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float[?, ?]"}, kind: engine.KindModel,
			want: `the model's output "p" has shape [?, ?]: the length of its rows is not fixed`,
		},
		{
			name: "scalar output", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float[]"}, kind: engine.KindModel,
			want: `the model's output "p" has shape [], which no column can hold: the first dimension must be the rows`,
		},
		{
			name: "deep output", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float[?, 2, 2]"}, kind: engine.KindModel,
			want: `the model's output "p" has shape [?, 2, 2], which no column can hold`,
		},
		{
			name: "half output", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float16[?]"}, kind: engine.KindModel,
			want: `the model's output "p" has elements of type float16, which no column can hold`,
		},
		{name: "no outputs", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{}, kind: engine.KindModel, want: "the model has no outputs"},
		{
			name: "two outputs of one name", csv: "a\n1\n", inputs: []string{"x: double[?, 1]"}, outputs: []string{"p: float[?]", "p: float[?]"}, kind: engine.KindModel,
			want: `two outputs of the model are named "p"`,
		},
		{
			name: "select of a missing column", csv: "a,b\n1,2\n", inputs: wine, steps: `{"select": {"columns": ["a", "bb"]}}`, kind: engine.KindData,
			want: `steps[0].select: column "bb" is missing from the table of DIR/in/a.csv (nearest: "b")`,
		},
		{
			name: "rename of a missing column", csv: "a,b\n1,2\n", inputs: wine, steps: `{"rename": {"columns": {"c": "d"}}}`, kind: engine.KindData,
			want: `steps[0].rename: column "c" is missing from the table of DIR/in/a.csv`,
		},
		{
			name: "rename to what is there", csv: "a,b\n1,2\n", inputs: wine, steps: `{"rename": {"columns": {"a": "b"}}}`, kind: engine.KindInvalidArgument,
			want: `steps[0].rename: two columns would be named "b"`,
		},
		{
			name: "cast of a missing column", csv: "a,b\n1,2\n", inputs: wine, steps: `{"cast": {"columns": {"c": "long"}}}`, kind: engine.KindData,
			want: `steps[0].cast: column "c" is missing from the table of DIR/in/a.csv`,
		},
		{
			name: "cast that does not exist", parquet: []string{"a: list"}, inputs: wine, steps: `{"cast": {"columns": {"a": "long"}}}`, kind: engine.KindData,
			want: `steps[0].cast: column "a" of the table of DIR/in/a.parquet is list<item: int64, nullable>, which cannot be cast to int64`,
		},
		{
			name: "two models of different types", csv: "a\n1\n", inputs: []string{"a: double[?]"},
			steps: `{"infer": {"model": "MODEL", "output": "y"}}, {"infer": {"model": "DIR/text.onnx", "output": "z"}}`, kind: engine.KindInvalidArgument,
			want: `steps: column "a": steps[0] wants float64, steps[1] wants string (add the step cast between them)`,
		},
		{
			name: "no model", csv: "a\n1\n", inputs: wine, steps: `{"infer": {"model": "DIR/none.onnx"}}`, kind: engine.KindNotFound,
			want: "open model: DIR/none.onnx: no such file or folder",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.Contains(test.steps, "DIR/text.onnx") {
				other := filepath.Join(t.TempDir(), "text.onnx")
				write(t, other, string(onnx([]string{"a: string[?]"}, []string{"out: float[?]"})))
				test.steps = strings.ReplaceAll(test.steps, "DIR/text.onnx", other)
			}
			test.run(t)
		})
	}
}

func TestCompileChecksThePlan(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.csv"), "a\n1\n")
	model := writeModel(t, dir, []string{"a: double[?]"}, []string{"y: double[?]"}, "")
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/a.csv"]}}, "steps": [{"infer": {"model": "DIR/m.onnx"}}], "sink": {"parquet": {"path": "DIR/out"}},
		"resources": {"cpu": 1.5}, "batch": {"rows": 3, "bytes": "5KB"}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	program, err := jobplan.Compile(t.Context(), spec, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	op := program.Ops[0].(jobplan.InferOp)
	if program.Threads != 2 || program.BatchRows != 3 || program.BatchBytes != 5000 ||
		op.ModelPath != model || op.ONNXPath != model || op.Digest != plan.GetModels()[0].GetDigest() {
		t.Errorf("got %+v", program)
	}
	if lines, err := jobplan.CompareModels(t.Context(), spec, plan); err != nil || lines != nil {
		t.Error(lines, err)
	}
	write(t, model, string(onnx([]string{"b: double[?]"}, []string{"y: double[?]"})))
	_, err = jobplan.Compile(t.Context(), spec, plan, nil)
	wantError(t, err, engine.KindModel, dir, "verify model: DIR/m.onnx: the model has changed: its digest is sha256:")
	before := plan.GetModels()[0].GetDigest()
	lines, err := jobplan.CompareModels(t.Context(), spec, plan)
	if err != nil || len(lines) != 1 || !strings.HasPrefix(lines[0], "changed  model of steps[0], "+model+": "+before+" -> sha256:") {
		t.Error(lines, err)
	}
	plan.Models = nil
	_, err = jobplan.Compile(t.Context(), spec, plan, nil)
	wantError(t, err, engine.KindInvalidArgument, dir, "compile job: DIR/m.onnx: the plan does not pin the model of steps[0]")
	plan.SourceSchema = plan.SourceSchema[:10]
	_, err = jobplan.Compile(t.Context(), spec, plan, nil)
	wantError(t, err, engine.KindCorrupt, dir, "compile job: source_schema: ")
	plan.Inputs = nil
	_, err = jobplan.Compile(t.Context(), spec, plan, nil)
	wantError(t, err, engine.KindInvalidArgument, dir, "compile job: the plan has no inputs")
}
