package model_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/modeltest"
)

func TestQuantize(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f map[string][]byte)
		want   []string
	}{
		"weights": {
			want: []string{"1_Pooling/config.json", "config.json", "modules.json", "onnx/model_int8.onnx", "onnx/model_int8.onnx.data", "sentence_bert_config.json", "tokenizer.json"},
		},
		"a folder of the transformer, and a dense module": {
			change: func(f map[string][]byte) {
				f["modules.json"] = []byte(`[{"path":"0_T","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
					{"path":"2_Dense","type":"sentence_transformers.models.Dense"}]`)
				for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"} {
					f["0_T/"+name] = f[name]
					delete(f, name)
				}
				f["2_Dense/config.json"] = []byte(`{"in_features":16,"out_features":3,"bias":false,"activation_function":"torch.nn.modules.activation.Tanh"}`)
				f["2_Dense/model.safetensors"] = modeltest.Tensors{"linear.weight": {Shape: []int{3, 16}, Data: make([]float32, 48)}}.Safetensors()
			},
			want: []string{
				"0_T/config.json", "0_T/onnx/model_int8.onnx", "0_T/onnx/model_int8.onnx.data", "0_T/sentence_bert_config.json", "0_T/tokenizer.json",
				"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "modules.json",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := modeltest.Tiny("bert").Files()
			if test.change != nil {
				test.change(files)
			}
			source := t.TempDir()
			modeltest.Write(t, source, files)
			e, err := model.OpenEmbedding(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			folder := filepath.Join(t.TempDir(), "new", "int8")
			done, err := e.Quantize(t.Context(), t.TempDir(), folder)
			if err != nil || done.Matrices != 8 {
				t.Fatalf("got %+v, %v", done, err)
			}
			q, err := model.OpenEmbedding(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			if !q.Quantized || !slices.Equal(q.Files, test.want) || q.Dim != e.Dim || q.Digest == e.Digest || q.Normalize != e.Normalize {
				t.Errorf("got %+v", q)
			}
			if _, err := q.Quantize(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "again")); engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "integers already") {
				t.Errorf("got %v", err)
			}
			if _, err := e.Quantize(t.Context(), t.TempDir(), folder); engine.KindOf(err) != engine.KindConflict {
				t.Errorf("got %v", err)
			}
			// The model's own ONNX file, which has another name here.
			again := filepath.Join(t.TempDir(), "again")
			path, err := e.Materialize(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			folder = filepath.Dir(e.TokenizerPath)
			for _, name := range []string{"model.onnx", "model.onnx.data"} {
				content, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
				if err != nil {
					t.Fatal(err)
				}
				modeltest.Write(t, folder, map[string][]byte{"onnx/" + name: content})
			}
			if e, err = model.OpenEmbedding(t.Context(), source); err != nil || e.ONNXPath == "" {
				t.Fatal(e, err)
			}
			if _, err := e.Quantize(t.Context(), t.TempDir(), again); err != nil {
				t.Fatal(err)
			}
			if other, err := model.OpenEmbedding(t.Context(), again); err != nil || other.Digest != q.Digest {
				t.Errorf("got %+v, %v", other, err)
			}
		})
	}
}

// TestQuantizeLeavesNothing fails for a graph that cannot be quantized.
func TestQuantizeLeavesNothing(t *testing.T) {
	files := modeltest.Tiny("bert").Files()
	files["onnx/model.onnx"] = onnxFile(tokenInputs("input_ids"), []message{tokensOutput("last_hidden_state", 16)})
	source, parent := t.TempDir(), t.TempDir()
	modeltest.Write(t, source, files)
	e, err := model.OpenEmbedding(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Quantize(t.Context(), t.TempDir(), filepath.Join(parent, "x")); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestQuantizedMiniLM(t *testing.T) {
	n := 40
	if level := os.Getenv("ENGINE_TEST"); level == "full" || level == "soak" {
		n = 400
	}
	e, err := model.OpenEmbedding(t.Context(), testenv.MiniLM(t))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "int8")
	done, err := e.Quantize(t.Context(), t.TempDir(), folder)
	if err != nil || done.Matrices != 24 || done.KeptMatrices != 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	q, err := model.OpenEmbedding(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	texts := agNews(t, e, n)
	a, b := embed(t, e, load(t, e, 1), texts), embed(t, q, load(t, q, 1), texts)
	least, mean := 1.0, 0.0
	for i := range a {
		var dot, x, y float64
		for d := range a[i] {
			p, q := float64(a[i][d]), float64(b[i][d])
			dot, x, y = dot+p*q, x+p*p, y+q*q
		}
		cosine := dot / math.Sqrt(x*y)
		least, mean = min(least, cosine), mean+cosine/float64(n)
	}
	t.Logf("smallest cosine %.5f, mean %.5f", least, mean)
	if least < 0.975 || mean < 0.99 {
		t.Error("the vectors are too far apart")
	}
}
