package onnxgraph_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/model/modeltest"
	"github.com/f708428e/engine/model/onnxgraph"
	"github.com/f708428e/engine/model/safetensors"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/onnx"
)

// open returns weights in memory.
func open(t testing.TB, tensors modeltest.Tensors) *safetensors.File {
	t.Helper()
	content := tensors.Safetensors()
	f, err := safetensors.New("w.safetensors", bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write makes the graph of an encoder in a new folder.
func write(t testing.TB, e modeltest.Encoder) string {
	t.Helper()
	config, err := onnxgraph.ParseConfig("config.json", e.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnxgraph.New(config, open(t, e.Weights()))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := g.Write(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	return folder
}

func load(t testing.TB, folder string) runtime.Model {
	t.Helper()
	loader, err := onnx.New(onnx.Config{Library: testenv.ONNXRuntime(t)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: filepath.Join(folder, onnxgraph.ModelFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(); _ = loader.Close() })
	return m
}

func bytesOf[T any](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(*new(T))))
}

// run evaluates padded texts.
func run(t testing.TB, m runtime.Model, ids, mask, types []int64, batch, length, hidden int) []float32 {
	t.Helper()
	output := make([]float32, batch*length*hidden)
	inputs := make([]runtime.Tensor, len(m.Inputs()))
	for i, spec := range m.Inputs() {
		data := map[string][]int64{onnxgraph.InputIDs: ids, onnxgraph.InputMask: mask, onnxgraph.InputTypes: types}[spec.Name]
		inputs[i] = runtime.Tensor{Type: engine.Int64, Shape: []int64{int64(batch), int64(length)}, Data: bytesOf(data)}
	}
	err := m.Run(t.Context(), inputs, []runtime.Output{{Tensor: runtime.Tensor{
		Type: engine.Float32, Shape: []int64{int64(batch), int64(length), int64(hidden)}, Data: bytesOf(output),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// encoders are one of each kind that the package tells apart.
func encoders() map[string]modeltest.Encoder {
	all := map[string]modeltest.Encoder{}
	for _, kind := range []string{"bert", "roberta", "xlm-roberta", "camembert", "mpnet"} {
		all[kind] = modeltest.Tiny(kind)
	}
	prefixed := modeltest.Tiny("roberta")
	prefixed.Prefix, prefixed.PadID = "roberta.", 3
	all["a model with a head"] = prefixed
	types := modeltest.Tiny("roberta")
	types.TokenTypes = 2
	all["roberta with types"] = types
	one := modeltest.Tiny("bert")
	one.TokenTypes, one.Layers = 1, 1
	all["bert with one type"] = one
	for _, activation := range []string{"relu", "gelu_new"} {
		e := modeltest.Tiny("bert")
		e.Activation = activation
		all[activation] = e
	}
	// Distances beyond every edge of MPNet's buckets, and tensors that lie in the data file.
	long := modeltest.Tiny("mpnet")
	long.Positions, long.Hidden, long.Heads, long.Intermediate, long.Seed = 162, 32, 2, 64, 2
	all["long mpnet"] = long
	return all
}

func TestEncodersAgreeWithTheReference(t *testing.T) {
	for name, e := range encoders() {
		t.Run(name, func(t *testing.T) {
			m := load(t, write(t, e))
			weights := e.Weights()
			random := rand.New(rand.NewPCG(e.Seed, 7))
			longest := e.Positions - 2
			if e.PadID > 1 {
				longest = e.Positions - e.PadID - 1
			}
			for _, lengths := range [][]int{{1}, {5}, {3, 9, 1, 7}, {longest, 2}} {
				length := 0
				for _, n := range lengths {
					length = max(length, n)
				}
				cells := len(lengths) * length
				ids, mask, types := make([]int64, cells), make([]int64, cells), make([]int64, cells)
				texts, kinds := make([][]int, len(lengths)), make([][]int, len(lengths))
				for r, n := range lengths {
					for i := range length {
						at := r*length + i
						if ids[at] = int64(e.PadID); i >= n {
							continue
						}
						for ids[at] == int64(e.PadID) {
							ids[at] = random.Int64N(int64(e.Vocabulary))
						}
						mask[at] = 1
						types[at] = random.Int64N(int64(max(e.TokenTypes, 1)))
						texts[r], kinds[r] = append(texts[r], int(ids[at])), append(kinds[r], int(types[at]))
					}
				}
				got := run(t, m, ids, mask, types, len(lengths), length, e.Hidden)
				for r := range lengths {
					for i, want := range e.Evaluate(weights, texts[r], kinds[r]) {
						for d := range want {
							if g := float64(got[(r*length+i)*e.Hidden+d]); !(math.Abs(g-want[d]) <= 2e-5) {
								t.Fatalf("lengths %v, text %d, token %d, element %d: got %g, want %g", lengths, r, i, d, g, want[d])
							}
						}
					}
				}
			}
		})
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	for _, kind := range []string{"bert", "mpnet"} {
		a, b := write(t, modeltest.Tiny(kind)), write(t, modeltest.Tiny(kind))
		for _, name := range []string{onnxgraph.ModelFile, onnxgraph.DataFile} {
			x, errX := os.ReadFile(filepath.Join(a, name))
			y, errY := os.ReadFile(filepath.Join(b, name))
			if errX != nil || errY != nil || len(x) == 0 || !bytes.Equal(x, y) {
				t.Errorf("%s of %s differs: %v, %v", name, kind, errX, errY)
			}
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, test := range []struct {
		field string
		value any
		want  string
	}{
		{"model_type", "modernbert", `cannot make a graph for model_type "modernbert"; known are bert, roberta`},
		{"model_type", nil, "it has no model_type"},
		{"position_embedding_type", "relative_key", `position_embedding_type "relative_key"`},
		{"hidden_act", "silu", `hidden_act "silu"; known are gelu`},
		{"is_decoder", true, "a decoder"},
		{"embedding_size", 8, "embedding_size 8 differs from hidden_size 16"},
		{"layer_norm_eps", -1, "layer_norm_eps -1"},
		{"hidden_size", nil, "hidden_size is 0"},
		{"hidden_size", 18, "hidden_size 18 is no multiple of num_attention_heads 4"},
		{"num_hidden_layers", 1 << 40, "num_hidden_layers is 1099511627776"},
		{"vocab_size", -4, "vocab_size is -4"},
		{"pad_token_id", 1000, "pad_token_id is 1000, the vocabulary has"},
		{"hidden_size", "16", "config.json: json"},
	} {
		t.Run(fmt.Sprint(test.field, test.value), func(t *testing.T) {
			var fields map[string]any
			if err := json.Unmarshal(modeltest.Tiny("bert").ConfigJSON(), &fields); err != nil {
				t.Fatal(err)
			}
			if fields[test.field] = test.value; test.value == nil {
				delete(fields, test.field)
			}
			content, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			_, err = onnxgraph.ParseConfig("config.json", content)
			if err == nil || !strings.Contains(err.Error(), test.want) || engine.KindOf(err) != engine.KindModel {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestNewRefusesWeights(t *testing.T) {
	for name, test := range map[string]struct {
		change func(modeltest.Tensors)
		want   string
	}{
		"other model": {func(w modeltest.Tensors) { delete(w, "embeddings.word_embeddings.weight") }, `no tensor "embeddings.word_embeddings.weight", which a model of type bert has`},
		"missing":     {func(w modeltest.Tensors) { delete(w, "encoder.layer.1.output.dense.bias") }, `no tensor "encoder.layer.1.output.dense.bias"`},
		"shape": {func(w modeltest.Tensors) {
			w["encoder.layer.0.attention.self.key.weight"] = modeltest.Tensor{Shape: []int{16, 8}, Data: make([]float32, 128)}
		}, `tensor "encoder.layer.0.attention.self.key.weight" has shape [16 8], expected [16 16] by the config`},
		"one layer more": {func(w modeltest.Tensors) {
			w["encoder.layer.2.output.dense.bias"] = modeltest.Tensor{Shape: []int{1}, Data: make([]float32, 1)}
		}, `a tensor "encoder.layer.2.output.dense.bias", which a model of type bert with 2 layers does not have`},
	} {
		t.Run(name, func(t *testing.T) {
			e := modeltest.Tiny("bert")
			weights := e.Weights()
			test.change(weights)
			config, err := onnxgraph.ParseConfig("config.json", e.ConfigJSON())
			if err != nil {
				t.Fatal(err)
			}
			_, err = onnxgraph.New(config, open(t, weights))
			if err == nil || !strings.Contains(err.Error(), test.want) || engine.KindOf(err) != engine.KindModel {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestWriteFails(t *testing.T) {
	e := modeltest.Tiny("bert")
	config, err := onnxgraph.ParseConfig("config.json", e.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnxgraph.New(config, open(t, e.Weights()))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "none")
	if err := g.Write(t.Context(), folder); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, kind := range []string{"bert", "roberta", "mpnet"} {
		f.Add(modeltest.Tiny(kind).ConfigJSON())
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := onnxgraph.ParseConfig("config.json", content)
		switch {
		case err != nil && engine.KindOf(err) != engine.KindModel:
			t.Fatal(err)
		case err == nil && (c.MaxTokens() < 1 || c.Hidden%c.Heads != 0 || c.PadID >= c.Vocabulary):
			t.Fatalf("%+v", c)
		}
	})
}
