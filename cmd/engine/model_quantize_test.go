package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/model/modeltest"
)

func TestModelQuantize(t *testing.T) {
	library := testenv.ONNXRuntime(t)
	folder := modeltest.Tiny("bert").Folder(t)
	out := filepath.Join(t.TempDir(), "int8")
	c := newConsole(t, nil)
	c.run(t, 0, "model", "import", folder, "--name", "tiny")
	c.run(t, 0, "model", "quantize", "tiny", "--out", out, "--onnxruntime", library)
	for _, want := range []string{
		"path:      " + out + "\n", "matrices:  8 in int8\n", "sample:    48 texts, built-in sentences\n", "cosine:    min 0.9", ", 1st percentile 0.", ", mean 0.9", " threads: ", " x\n",
	} {
		if !strings.Contains(strings.ReplaceAll(c.stdout.String(), "1 thread:", "1 threads:"), want) {
			t.Errorf("got\n%s\nwithout\n%s", c.stdout, want)
		}
	}
	c.run(t, exitRefused, "model", "quantize", "tiny", "--out", out, "--onnxruntime", library)
	c.run(t, 0, "model", "inspect", out)
	if !strings.Contains(c.stdout.String(), filepath.Join(out, "onnx", "model_int8.onnx")+" (int8)") {
		t.Errorf("got %s", c.stdout)
	}
	sample := filepath.Join(t.TempDir(), "sample.csv")
	if err := os.WriteFile(sample, []byte("id,text\n1,a cat\n2,\n3,\"the dog\nsat\"\n4,a cat\n5,or not\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text, rows string
		texts      int
	}{{"text", "1000", 3}, {"2", "1000", 4}, {"text", "2", 2}} {
		c.run(t, 0, "model", "quantize", folder, "--out", filepath.Join(t.TempDir(), "q"), "--sample", sample, "--text", test.text, "--rows", test.rows,
			"--threads", "1", "--onnxruntime", library, "-o", "json")
		var v quantizedView
		if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if v.Texts != test.texts || v.Sample != sample || v.Cosine.Min < 0.9 || v.Cosine.Min > v.Cosine.Mean || v.TextsPerSecond.Int8 <= 0 || v.Threads != 1 || v.SizeBytes <= 0 || v.Source != folder {
			t.Errorf("got %+v", v)
		}
	}
	// The folder can be imported as it is.
	c.run(t, 0, "model", "import", out, "--name", "tiny-int8")
	c.run(t, 0, "model", "import", filepath.Join(out, "onnx", "model_int8.onnx"), "--name", "named")
	c.run(t, 0, "model", "inspect", "named")
	if !strings.Contains(c.stdout.String(), "kind:        embedding\n") || !strings.Contains(c.stdout.String(), "(int8)") {
		t.Errorf("got %s", c.stdout)
	}
	c.run(t, exitFailed, "model", "import", filepath.Join(out, "onnx"), "--name", "x")
}

func TestModelQuantizeRefuses(t *testing.T) {
	folder := modeltest.Tiny("bert").Folder(t)
	sample := filepath.Join(t.TempDir(), "sample.csv")
	if err := os.WriteFile(sample, []byte("id,text\n1,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "q")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{folder}, exitUsage, "--out FOLDER is missing"},
		{[]string{folder, "--out", out, "--text", "x"}, exitUsage, "belong together"},
		{[]string{folder, "--out", out, "--rows", "0"}, exitUsage, "--rows 0"},
		{[]string{folder, "--out", out, "--threads", "0"}, exitUsage, "--threads 0"},
		{[]string{folder, "--out", out, "--sample", sample, "--text", "txt"}, exitUsage, `there is no column "txt"; the file has id, text`},
		{[]string{folder, "--out", out, "--sample", sample, "--text", "3"}, exitUsage, "there is no column 3; the file has 2"},
		{[]string{folder, "--out", out, "--sample", sample, "--text", "text"}, exitFailed, `column "text" has no text`},
		{[]string{folder, "--out", out, "--sample", sample + ".gz", "--text", "text"}, exitFailed, "no such file"},
		{[]string{folder + "-none", "--out", out}, exitFailed, "no such file or folder"},
		{[]string{"../../examples/wine/model", "--out", out}, exitFailed, "it is no sentence embedding model"},
		{[]string{folder, "--out", out, "--onnxruntime", "/none.so"}, exitFailed, "find ONNX Runtime"},
	} {
		c := newConsole(t, nil)
		c.run(t, test.code, append([]string{"model", "quantize"}, test.args...)...)
		if !strings.Contains(c.stderr.String(), test.want) {
			t.Errorf("%q: got %s", test.args, c.stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%q: %s is there", test.args, out)
		}
	}
}
