package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/runtime/enginetest"
)

// twoColumns is a job over in.csv with columns a and b and a model over both.
const twoColumns = `source:
  csv: {paths: ["in*.csv"]}
steps:
  - infer: {model: model.onnx, output: p, inputs: [a, b]}
sink:
  parquet: {path: out}
`

func TestBadInput(t *testing.T) {
	model := string(enginetest.LinearModel(engine.Float64, 0.5, 1, 2))
	good := map[string]string{"job.yaml": twoColumns, "in.csv": "a,b\n1,2\n3,4\n", "model.onnx": model}
	for _, test := range []struct {
		name  string
		files map[string]string
		code  int
		want  []string // In the message.
	}{
		{"nothing is wrong", nil, 0, nil},
		{"misspelled field", map[string]string{"job.yaml": strings.Replace(twoColumns, "paths", "pahts", 1)}, 2, []string{"job.yaml:2", "pahts", `"paths"`}},
		{"not YAML", map[string]string{"job.yaml": "source: [\n"}, 2, []string{"job.yaml"}},
		{"bad mode", map[string]string{"job.yaml": twoColumns + "    mode: replace\n"}, 2, []string{"job.yaml"}},
		{"bad size", map[string]string{"job.yaml": twoColumns + "batch: {bytes: 3 apples}\n"}, 2, []string{"3 apples"}},
		{"no file matches", map[string]string{"in.csv": "-"}, 1, []string{"in*.csv"}},
		{"too few fields", map[string]string{"in.csv": "a,b\n1,2\n3\n"}, 1, []string{"in.csv:3", "expected 2", "found 1"}},
		{"too many fields", map[string]string{"in.csv": "a,b\n1,2\n3,4,5\n"}, 1, []string{"in.csv:3", "expected 2", "found 3"}},
		{"text in a number", map[string]string{"in.csv": "a,b\n1,2\n3,many\n"}, 1, []string{"in.csv:3", `"b"`, `"many"`}},
		{"text in a number, inputs not named", map[string]string{
			"job.yaml": strings.Replace(twoColumns, ", inputs: [a, b]", "", 1), "in.csv": "a,b\n1,2\n3,many\n",
		}, 1, []string{"in.csv:3", `"b"`, `"many"`, "inputs"}},
		{"column is missing", map[string]string{"in.csv": "a,c\n1,x\n3,y\n"}, 1, []string{"in.csv", "model.onnx", `"b"`}},
		{"empty field for the model", map[string]string{"in.csv": "a,b\n1,2\n3,\n"}, 1, []string{"in.csv:3", `"b"`}},
		{"empty file", map[string]string{"in.csv": ""}, 1, []string{"in.csv", "empty"}},
		{"one of several files is empty", map[string]string{"in2.csv": ""}, 1, []string{"in2.csv", "empty"}},
		{"schemas differ", map[string]string{"in2.csv": "a,x\n1,2\n"}, 1, []string{"in2.csv", `"x"`}},
		{"duplicate column", map[string]string{"in.csv": "a,a\n1,2\n"}, 1, []string{"in.csv", `"a"`}},
		{"UTF-16", map[string]string{"in.csv": "\xff\xfea\x00,\x00b\x00"}, 1, []string{"in.csv", "UTF-16"}},
		{"unterminated quote", map[string]string{"in.csv": "a,b\n1,\"2\n"}, 1, []string{"in.csv:2"}},
		{"model is truncated", map[string]string{"model.onnx": model[:len(model)/2]}, 1, []string{"model.onnx", "truncated"}},
		{"model is no ONNX", map[string]string{"model.onnx": "PK\x03\x04 a zip file, not a model"}, 1, []string{"model.onnx", "ONNX"}},
		{"model wants an unknown domain", map[string]string{"model.onnx": string(enginetest.UnknownDomainModel())}, 1, []string{"model.onnx", "domain"}},
		{"model does not exist", map[string]string{"model.onnx": "-"}, 1, []string{"model.onnx"}},
		{"model wants more columns", map[string]string{"model.onnx": string(enginetest.LinearModel(engine.Float64, 0, 1, 2, 3))}, 1, []string{"model.onnx", "2", "3"}},
		{"output has data", map[string]string{"out/other.parquet": "x"}, 5, []string{"out", "overwrite"}},
		{"output is a file", map[string]string{"out": "x"}, 5, []string{"out"}},
		{"truncated Parquet", map[string]string{
			"job.yaml": strings.Replace(twoColumns, `csv: {paths: ["in*.csv"]}`, `parquet: {paths: ["in.parquet"]}`, 1), "in.parquet": "PAR1 and then nothing",
		}, 1, []string{"in.parquet", "Parquet"}},
		{"task larger than the machine", map[string]string{"job.yaml": twoColumns + "resources: {cpu: 10000}\n"}, 1, []string{"cpu: 10000"}},
		{"timeout", map[string]string{"job.yaml": twoColumns + "timeout: 1ms\n"}, 1, []string{"timeout"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			for name, content := range good {
				if _, changed := test.files[name]; !changed {
					p.write(name, content)
				}
			}
			for name, content := range test.files {
				if content != "-" {
					p.write(name, content)
				}
			}
			o := p.engine("run", "job.yaml")
			t.Logf("%s", o.stderr)
			if o.code != test.code {
				t.Fatalf("exit code %d, want %d\n%s", o.code, test.code, o.stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("the message lacks %q:\n%s", want, o.stderr)
				}
			}
			if test.code == 0 {
				noLeftovers(t, p.path("out"))
				return
			}
			if exists(p.path("out", "_SUCCESS")) {
				t.Error("a failed job's output has _SUCCESS")
			}
			if parts, err := filepath.Glob(p.path("out", "part-*")); err != nil || len(parts) > 0 {
				t.Errorf("a failed job left %v %v", parts, err)
			}
		})
	}
}

// TestGoodPartsStayAfterAFailure has one bad file among good ones: what is published stays for a resumption, without _SUCCESS, and after
// the file is mended and touched back, resuming is refused by name because the input has changed.
func TestInputThatChangedIsNotResumed(t *testing.T) {
	p := newPlace(t)
	p.write("model.onnx", string(enginetest.LinearModel(engine.Float64, 0.5, 1, 2)))
	p.write("job.yaml", twoColumns)
	p.write("in1.csv", "a,b\n1,2\n")
	p.write("in2.csv", "a,b\n1,many\n")
	if o := p.engine("run", "job.yaml", "--submission-id", "once"); o.code != 1 || !strings.Contains(o.stderr, "in2.csv:2") {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	p.write("in2.csv", "a,b\n1,23456\n")
	o := p.engine("run", "job.yaml", "--submission-id", "once")
	if o.code != 5 || !strings.Contains(o.stderr, "in2.csv") {
		t.Fatalf("exit code %d, want 5 and the name of the file\n%s", o.code, o.stderr)
	}
	p.must("run", "job.yaml", "--submission-id", "twice", "--set", "sink.parquet.mode=overwrite")
	noLeftovers(t, p.path("out"))
}

func TestFullDisk(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(4, 20_000)
	mount := p.path("small")
	if err := os.Mkdir(mount, 0o750); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	o := p.engine("run", p.wineJob("job.yaml", "small/out", "error"), "--submission-id", "full")
	if o.code != 1 || !strings.Contains(o.stderr, "no space left") || !strings.Contains(o.stderr, mount) {
		t.Fatalf("exit code %d, want 1 and the folder's name\n%s", o.code, o.stderr)
	}
	if exists(filepath.Join(mount, "out", "_SUCCESS")) {
		t.Error("a failed job's output has _SUCCESS")
	}
	readRows(t, filepath.Join(mount, "out")) // Whatever is visible is whole.
	if out, err := exec.Command("mount", "-o", "remount,size=64m", mount).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v %s", err, out)
	}
	p.must("run", p.wineJob("job.yaml", "small/out", "error"), "--submission-id", "full")
	if rows := readRows(t, filepath.Join(mount, "out")); len(rows) != 80_000 {
		t.Fatalf("after the disk had space again the output has %d rows", len(rows))
	}
	noLeftovers(t, filepath.Join(mount, "out"))
}

func TestCommandsThatAreRefused(t *testing.T) {
	p := newPlace(t)
	p.write("job.yaml", twoColumns)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"start", "--head", "--host", "0.0.0.0", "--port", "0", "--insecure"}, 2, "--i-understand"},
		{[]string{"start", "--head", "--insecure", "--i-understand", "--secure", "--data-dir", "h"}, 2, "insecure and encrypted"},
		{[]string{"start", "--head", "--host", "192.0.2.1", "--port", "0", "--data-dir", "h"}, 5, "192.0.2.1"},
		{[]string{"start"}, 2, "--head"},
		{[]string{"start", "--address", "192.0.2.1:10001", "--data-dir", "w"}, 5, "needs a token"},
		{[]string{"start", "--address", "192.0.2.1:10001", "--data-dir", "w", "--token", "engine-join-1.AAAA"}, 2, "mistyped"},
		{[]string{"status", "--address", "192.0.2.1:10001"}, 2, "loopback"},
		{[]string{"status", "--tls-ca", "ca.pem", "--tls-fingerprint", "00"}, 2, "say one of"},
		{[]string{"status", "--tls-fingerprint", "00"}, 2, "hexadecimal digits"},
		{[]string{"run", "job.yaml", "--submission-id", ""}, 2, "submission"},
		{[]string{"submit", "job.yaml", "--submission-id", "a b"}, 2, "submission"},
		{[]string{"start", "--address", "127.0.0.1:1", "--data-dir", "w"}, 4, "127.0.0.1:1"},
		{[]string{"submit", "job.yaml", "--address", "127.0.0.1:1"}, 4, "127.0.0.1:1"},
		{[]string{"job", "list", "--address", "127.0.0.1:1"}, 4, "127.0.0.1:1"},
		{[]string{"run"}, 2, "JOB.yaml"},
		{[]string{"run", "nothing.yaml"}, 2, "nothing.yaml"},
		{[]string{"run", "job.yaml", "--set", "sink.parquet.pth=x"}, 2, `"path"`},
		{[]string{"run", "job.yaml", "--no-such-flag"}, 2, "no-such-flag"},
		{[]string{"rnu", "job.yaml"}, 2, "run"},
		{[]string{"status", "-o", "xml"}, 2, "xml"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			o := p.engine(test.args...)
			t.Logf("%s", o.stderr)
			if o.code != test.code || !strings.Contains(o.stderr, test.want) {
				t.Fatalf("exit code %d, want %d and %q in the message:\n%s", o.code, test.code, test.want, o.stderr)
			}
		})
	}
}

// TestPythonAgrees compares the output for the real wine table with the model's own predictions in Python.
func TestPythonAgrees(t *testing.T) {
	p := newPlace(t)
	data := testenv.Shared(t, "winequality-red.csv")
	python := testenv.Python(t, "pyarrow", "onnxruntime", "numpy")
	model := filepath.Join(testenv.Root(t), "examples", "wine", "model")
	p.write("job.yaml", fmt.Sprintf(`source:
  csv: {paths: [%q], delimiter: ";"}
batch: {rows: 100}
steps:
  - infer: {model: %q, output: prediction}
sink:
  parquet: {path: out}
`, data, model))
	p.must("run", "job.yaml")
	script := p.write("check.py", `
import csv, sys
import numpy as np, onnxruntime as ort, pyarrow.parquet as pq
data, model, out = sys.argv[1:]
rows = list(csv.reader(open(data), delimiter=";"))
names, values = rows[0], np.array(rows[1:], dtype=np.float64)
table = pq.read_table(out)
assert table.num_rows == len(values) == 1599, table.num_rows
for i, name in enumerate(names):
    assert np.array_equal(np.asarray(table[name], dtype=np.float64), values[:, i]), name
session = ort.InferenceSession(model + "/model.onnx", providers=["CPUExecutionProvider"])
want = session.run(None, {session.get_inputs()[0].name: values[:, :11]})[0].reshape(-1)
worst = np.abs(np.asarray(table["prediction"]) - want).max()
assert worst <= 1e-9, worst
print(worst)
`)
	if out, err := exec.Command(python, script, data, model, p.path("out")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
