package onnxgraph_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine/model/onnxgraph"
	"github.com/f708428e/engine/model/safetensors"
)

// openFile opens a file of testdata, for the duration of the test.
func openFile(t *testing.T, parts ...string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(append([]string{"testdata"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestGolden compares with the transformers library itself; see testdata/make_golden.py.
func TestGolden(t *testing.T) {
	for _, kind := range []string{"bert", "roberta", "mpnet"} {
		t.Run(kind, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("testdata", kind, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			config, err := onnxgraph.ParseConfig("config.json", content)
			if err != nil {
				t.Fatal(err)
			}
			g, err := onnxgraph.New(config, openFile(t, kind, "model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			if err := g.Write(t.Context(), folder); err != nil {
				t.Fatal(err)
			}
			golden := openFile(t, kind, "golden.safetensors")
			values := map[string][]float32{}
			for _, name := range golden.Names() {
				tensor, _ := golden.Tensor(name)
				values[name] = make([]float32, tensor.Elements)
				if err := golden.ReadFloat32(name, 0, values[name]); err != nil {
					t.Fatal(err)
				}
			}
			hidden, _ := golden.Tensor("hidden")
			cells := len(values["ids"])
			ids, mask := make([]int64, cells), make([]int64, cells)
			for i := range ids {
				ids[i], mask[i] = int64(values["ids"][i]), int64(values["mask"][i])
			}
			got := run(t, load(t, folder), ids, mask, make([]int64, cells), int(hidden.Shape[0]), int(hidden.Shape[1]), config.Hidden)
			most := 0.0
			for i, want := range values["hidden"] {
				if mask[i/config.Hidden] == 1 {
					most = max(most, math.Abs(float64(got[i]-want)))
				}
			}
			t.Logf("largest difference %.3g", most)
			if !(most < 1e-5) {
				t.Error("the vectors differ")
			}
		})
	}
}
