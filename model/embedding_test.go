package model_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/modeltest"
)

// onnxFile returns a graph with the inputs and outputs.
func onnxFile(inputs, outputs []message) []byte {
	return graph{inputs: inputs, outputs: outputs}.file()
}

// free is the type of the inputs.
func free() message { return tensorType(onnxInt64, 0, 0) }

func tokenInputs(names ...string) (all []message) {
	for _, name := range names {
		all = append(all, value(name, free()))
	}
	return all
}

// tokensOutput is [batch, length, n].
func tokensOutput(name string, n int64) message { return value(name, tensorType(onnxFloat, 0, 0, n)) }

func TestOpenEmbedding(t *testing.T) {
	hiddenState := onnxFile(tokenInputs("input_ids", "attention_mask", "token_type_ids"), []message{tokensOutput("last_hidden_state", 16)})
	both := onnxFile(tokenInputs("input_ids", "attention_mask"), []message{tokensOutput("token_embeddings", 16), value("sentence_embedding", tensorType(onnxFloat, 0, 8))})
	integers := graph{
		nodes: []message{node("com.microsoft", "DynamicQuantizeMatMul")}, inputs: tokenInputs("input_ids"), outputs: []message{tokensOutput("last_hidden_state", 16)},
	}.file()
	for name, test := range map[string]struct {
		kind   string
		change func(map[string][]byte)
		open   string
		check  func(e *model.Embedding) bool
	}{
		"sentence-transformers": {check: func(e *model.Embedding) bool {
			return e.Dim == 16 && e.MaxTokens == 32 && e.Normalize && !e.PoolingAssumed && slices.Equal(e.Pooling, []model.Pooling{model.PoolMean}) &&
				e.Inputs == model.EmbeddingInputs{IDs: "input_ids", Mask: "attention_mask", Types: "token_type_ids"} && e.Output == "last_hidden_state" &&
				slices.Equal(e.Files, []string{"1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json"})
		}},
		"plain": {
			change: func(f map[string][]byte) { delete(f, "modules.json"); delete(f, "sentence_bert_config.json") },
			check: func(e *model.Embedding) bool {
				return e.PoolingAssumed && !e.Normalize && e.MaxTokens == 64 && slices.Equal(e.Pooling, []model.Pooling{model.PoolMean})
			},
		},
		"limit of the tokenizer": {
			change: func(f map[string][]byte) {
				delete(f, "sentence_bert_config.json")
				f["tokenizer_config.json"] = []byte(`{"model_max_length": 20}`)
			},
			check: func(e *model.Embedding) bool { return e.MaxTokens == 20 },
		},
		"no limit of the tokenizer": {
			change: func(f map[string][]byte) {
				delete(f, "sentence_bert_config.json")
				f["tokenizer_config.json"] = []byte(`{"model_max_length": 1000000000000000019884624838656}`)
			},
			check: func(e *model.Embedding) bool { return e.MaxTokens == 64 },
		},
		"roberta": {
			kind: "xlm-roberta", change: func(f map[string][]byte) { delete(f, "sentence_bert_config.json") },
			check: func(e *model.Embedding) bool { return e.MaxTokens == 62 && e.PadID == 1 && e.Inputs.Types == "" },
		},
		"all pooling": {
			change: func(f map[string][]byte) {
				f["1_Pooling/config.json"] = []byte(`{"word_embedding_dimension":16,"pooling_mode_lasttoken":true,"pooling_mode_weightedmean_tokens":true,
					"pooling_mode_mean_sqrt_len_tokens":true,"pooling_mode_max_tokens":true,"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true,"include_prompt":true}`)
			},
			check: func(e *model.Embedding) bool {
				return e.Dim == 96 && slices.Equal(e.Pooling, []model.Pooling{"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"})
			},
		},
		"pooling by name": {
			change: func(f map[string][]byte) {
				f["1_Pooling/config.json"] = []byte(`{"embedding_dimension":16,"pooling_mode":["mean","cls"]}`)
			},
			check: func(e *model.Embedding) bool { return slices.Equal(e.Pooling, []model.Pooling{"cls", "mean"}) },
		},
		"dense and prompts": {
			change: func(f map[string][]byte) {
				f["modules.json"] = []byte(`[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
					{"path":"2_Dense","type":"sentence_transformers.models.Dense"}]`)
				f["2_Dense/config.json"] = []byte(`{"in_features":16,"out_features":3,"bias":true,"activation_function":"torch.nn.modules.activation.Tanh"}`)
				f["2_Dense/model.safetensors"] = modeltest.Tensors{
					"linear.weight": {Shape: []int{3, 16}, Data: make([]float32, 48)}, "linear.bias": {Shape: []int{3}, Data: []float32{1, 2, 3}},
				}.Safetensors()
				f["config_sentence_transformers.json"] = []byte(`{"prompts":{"query":"query: ","passage":null},"default_prompt_name":"query"}`)
			},
			check: func(e *model.Embedding) bool {
				return e.Dim == 3 && e.HiddenDim == 16 && !e.Normalize && len(e.Dense) == 1 && e.Dense[0].Activation == "tanh" && e.Dense[0].Bias[2] == 3 &&
					len(e.Dense[0].Weight) == 48 && maps.Equal(e.Prompts, map[string]string{"query": "query: "}) && e.DefaultPrompt == "query"
			},
		},
		"a folder of the transformer": {
			change: func(f map[string][]byte) {
				f["modules.json"] = []byte(strings.Replace(string(f["modules.json"]), `"path":""`, `"path":"0_Transformer"`, 1))
				for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"} {
					f["0_Transformer/"+name] = f[name]
					delete(f, name)
				}
			},
			check: func(e *model.Embedding) bool {
				return e.MaxTokens == 32 && e.TokenizerPath == filepath.Join(e.Folder, "0_Transformer", "tokenizer.json")
			},
		},
		"onnx": {
			change: func(f map[string][]byte) { f["onnx/model.onnx"] = hiddenState; delete(f, "model.safetensors") },
			check: func(e *model.Embedding) bool {
				return e.ONNXPath == filepath.Join(e.Folder, "onnx", "model.onnx") && e.Weights == nil && e.Inputs.Types == "token_type_ids" && slices.Contains(e.Files, "onnx/model.onnx")
			},
		},
		"the outputs of tokens where modules say how to pool": {
			change: func(f map[string][]byte) { f["model.onnx"] = both },
			check: func(e *model.Embedding) bool {
				return e.Output == "token_embeddings" && !e.OutputPooled && e.Dim == 16 && !slices.Contains(e.Files, "model.safetensors")
			},
		},
		"the pooled output where none do": {
			change: func(f map[string][]byte) { f["model.onnx"] = both; delete(f, "modules.json") },
			check:  func(e *model.Embedding) bool { return e.Output == "sentence_embedding" && e.OutputPooled && e.Dim == 8 },
		},
		"a named file": {
			change: func(f map[string][]byte) { f["onnx/model_int8.onnx"] = hiddenState },
			open:   "onnx/model_int8.onnx",
			check: func(e *model.Embedding) bool {
				return filepath.Base(e.Path) == "model_int8.onnx" && e.ONNXPath == e.Path && slices.Contains(e.Files, "onnx/model_int8.onnx") && e.Dim == 16
			},
		},
		"the only other file": {
			change: func(f map[string][]byte) {
				f["onnx/model_qint8_avx512.onnx"] = integers
				delete(f, "model.safetensors")
			},
			check: func(e *model.Embedding) bool {
				return e.ONNXPath == filepath.Join(e.Folder, "onnx", "model_qint8_avx512.onnx") && e.Quantized && slices.Contains(e.Files, "onnx/model_qint8_avx512.onnx")
			},
		},
		"weights before the only other file": {
			change: func(f map[string][]byte) { f["onnx/model_qint8_avx512.onnx"] = integers },
			check:  func(e *model.Embedding) bool { return e.ONNXPath == "" && !e.Quantized },
		},
		"shards": {
			change: func(f map[string][]byte) {
				w := modeltest.Tiny("bert").Weights()
				parts, index := []modeltest.Tensors{{}, {}}, map[string]string{}
				for i, name := range slices.Sorted(maps.Keys(w)) {
					parts[i%2][name], index[name] = w[name], fmt.Sprintf("model-0000%d-of-00002.safetensors", i%2+1)
				}
				f["model-00001-of-00002.safetensors"], f["model-00002-of-00002.safetensors"] = parts[0].Safetensors(), parts[1].Safetensors()
				f["model.safetensors.index.json"], _ = json.Marshal(map[string]any{"weight_map": index})
				delete(f, "model.safetensors")
			},
			check: func(e *model.Embedding) bool { return len(e.Weights) == 2 && len(e.Files) == 8 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			encoder := modeltest.Tiny(map[bool]string{true: "bert", false: test.kind}[test.kind == ""])
			files := encoder.Files()
			if test.change != nil {
				test.change(files)
			}
			folder := t.TempDir()
			modeltest.Write(t, folder, files)
			e, err := model.OpenEmbedding(t.Context(), filepath.Join(folder, test.open))
			if err != nil {
				t.Fatal(err)
			}
			if !test.check(e) || e.Folder != folder || e.SizeBytes < 1 || len(e.Digest) != 71 {
				e.Dense = nil
				t.Errorf("got %+v", *e)
			}
		})
	}
}

func TestOpenEmbeddingRefuses(t *testing.T) {
	set := func(name, content string) func(map[string][]byte) {
		return func(f map[string][]byte) { f[name] = []byte(content) }
	}
	graph := func(inputs, outputs []message) func(map[string][]byte) {
		return func(f map[string][]byte) { f["onnx/model.onnx"] = onnxFile(inputs, outputs) }
	}
	modules := func(tail string) string {
		return `[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}` + tail + `]`
	}
	hiddenState := []message{tokensOutput("last_hidden_state", 16)}
	for name, test := range map[string]struct {
		change func(map[string][]byte)
		want   string
	}{
		"no tokenizer":     {func(f map[string][]byte) { delete(f, "tokenizer.json") }, "tokenizer.json: the model has no tokenizer.json"},
		"only a word list": {func(f map[string][]byte) { delete(f, "tokenizer.json"); f["vocab.txt"] = nil }, "makes it of vocab.txt"},
		"other tokenizer": {func(f map[string][]byte) {
			small := modeltest.Tiny("bert")
			small.Vocabulary = 5
			maps.Copy(f, small.Files())
		}, "the model's table only 5 rows"},
		"no weights": {func(f map[string][]byte) { delete(f, "model.safetensors") }, "the folder has no weights"},
		"pickle":     {func(f map[string][]byte) { delete(f, "model.safetensors"); f["pytorch_model.bin"] = []byte("PK") }, "pytorch_model.bin: the weights are a Python pickle"},
		"other onnx": {func(f map[string][]byte) {
			delete(f, "model.safetensors")
			f["onnx/model_O3.onnx"], f["onnx/model_int8.onnx"] = nil, nil
		}, "found onnx/model_O3.onnx, onnx/model_int8.onnx (name one of them"},
		"no config": {func(f map[string][]byte) { delete(f, "config.json") }, "config.json: no such file"},
		"no limit": {func(f map[string][]byte) {
			delete(f, "config.json")
			delete(f, "sentence_bert_config.json")
			f["onnx/model.onnx"] = onnxFile(tokenInputs("input_ids"), hiddenState)
		}, "no file says how many tokens"},
		"zero limit":        {set("sentence_bert_config.json", `{"max_seq_length":0}`), "sentence_bert_config.json: texts may have 0 tokens"},
		"broken JSON":       {set("modules.json", `[{`), "modules.json: unexpected end"},
		"one module":        {set("modules.json", `[{"path":"","type":"sentence_transformers.models.Transformer"}]`), "it has 1 modules"},
		"unknown module":    {set("modules.json", modules(`,{"path":"2","type":"sentence_transformers.models.LSTM"}`)), `module 2 is of type "sentence_transformers.models.LSTM"; known are`},
		"custom module":     {set("modules.json", `[{"path":"","type":"custom_st.Transformer"}]`), `module 0 is of type "custom_st.Transformer"`},
		"module elsewhere":  {set("modules.json", modules(`,{"path":"../x","type":"sentence_transformers.models.Dense"}`)), `path "../x" leads out`},
		"order":             {set("modules.json", `[{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]`), `module 0 is of type "sentence_transformers.models.Pooling"; the first one`},
		"unknown pooling":   {set("1_Pooling/config.json", `{"pooling_mode_attention":true}`), `unknown pooling "pooling_mode_attention"`},
		"unknown by name":   {set("1_Pooling/config.json", `{"pooling_mode":"attention"}`), `unknown pooling_mode attention`},
		"no pooling":        {set("1_Pooling/config.json", `{"pooling_mode_cls_token":false}`), "no pooling is switched on"},
		"without prompt":    {set("1_Pooling/config.json", `{"pooling_mode_mean_tokens":true,"include_prompt":false}`), "include_prompt is false"},
		"pooling dimension": {set("1_Pooling/config.json", `{"word_embedding_dimension":8,"pooling_mode_mean_tokens":true}`), "pooling expects vectors of 8, the model gives 16"},
		"default prompt":    {set("config_sentence_transformers.json", `{"prompts":{},"default_prompt_name":"query"}`), `"query" is not among the prompts`},
		"dense dimension": {func(f map[string][]byte) {
			f["modules.json"] = []byte(modules(`,{"path":"2_Dense","type":"sentence_transformers.models.Dense"}`))
			f["2_Dense/config.json"] = []byte(`{"in_features":1,"out_features":1,"bias":false,"activation_function":"torch.nn.modules.linear.Identity"}`)
			f["2_Dense/model.safetensors"] = modeltest.Tensors{"linear.weight": {Shape: []int{1, 1}, Data: []float32{1}}}.Safetensors()
		}, "Dense module 0 expects vectors of 1, the one before it gives 16"},
		"dense pickle": {func(f map[string][]byte) {
			f["modules.json"] = []byte(modules(`,{"path":"2_Dense","type":"sentence_transformers.models.Dense"}`))
			f["2_Dense/config.json"] = []byte(`{"in_features":16,"out_features":1}`)
			f["2_Dense/pytorch_model.bin"] = nil
		}, "2_Dense/pytorch_model.bin: the weights are a Python pickle"},
		"dense activation": {func(f map[string][]byte) {
			f["modules.json"] = []byte(modules(`,{"path":"2_Dense","type":"sentence_transformers.models.Dense"}`))
			f["2_Dense/config.json"] = []byte(`{"in_features":16,"out_features":1,"activation_function":"torch.nn.modules.activation.SiLU"}`)
		}, "SiLU"},
		"shard elsewhere": {func(f map[string][]byte) {
			delete(f, "model.safetensors")
			f["model.safetensors.index.json"] = []byte(`{"weight_map":{"a":"../a.safetensors"}}`)
		}, `tensor "a" lies in "../a.safetensors"`},
		"lying weights": {set("model.safetensors", "\x10\x00\x00\x00\x00\x00\x00\x00{}"), "model.safetensors: truncated"},
		"other family": {func(f map[string][]byte) {
			f["config.json"] = bytes.Replace(f["config.json"], []byte(`"bert"`), []byte(`"t5"`), 1)
		}, `cannot make a graph for model_type "t5"`},
		"unknown input":  {graph(tokenInputs("input_ids", "position_ids"), hiddenState), `input "position_ids" that cannot be fed`},
		"no ids":         {graph(tokenInputs("attention_mask"), hiddenState), "no input input_ids"},
		"fixed shape":    {graph([]message{value("input_ids", tensorType(onnxInt64, 0, 128))}, hiddenState), "fixed shape"},
		"input type":     {graph([]message{value("input_ids", tensorType(onnxFloat, 0, 0))}, hiddenState), "expected int64 [batch, length]"},
		"unknown output": {graph(tokenInputs("input_ids"), []message{value("a", tensorType(onnxFloat, 0)), value("b", tensorType(onnxFloat, 0))}), "none of the outputs is known to hold vectors: found a: float"},
		"output type":    {graph(tokenInputs("input_ids"), []message{value("last_hidden_state", tensorType(onnxInt64, 0, 0, 16))}), "expected float32"},
		"external data outside": {func(f map[string][]byte) {
			f["onnx/model.onnx"] = modelWithExternal("../../weights")
		}, "is not a path inside the model's folder"},
	} {
		t.Run(name, func(t *testing.T) {
			files := modeltest.Tiny("bert").Files()
			test.change(files)
			folder := t.TempDir()
			modeltest.Write(t, folder, files)
			_, err := model.OpenEmbedding(t.Context(), folder)
			if err == nil || !strings.Contains(err.Error(), test.want) || engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), folder) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := model.OpenEmbedding(t.Context(), filepath.Join(t.TempDir(), "none")); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	if _, err := model.OpenEmbedding(t.Context(), "hf://org/name"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}

// modelWithExternal has weights at location.
func modelWithExternal(location string) []byte {
	return graph{
		initializers: []message{externalTensor("w", location, "", "16")}, inputs: tokenInputs("input_ids"),
		outputs: []message{tokensOutput("last_hidden_state", 16)},
	}.file()
}

func TestDigestOfEmbedding(t *testing.T) {
	folder := modeltest.Tiny("bert").Folder(t)
	digest := func() string {
		t.Helper()
		e, err := model.OpenEmbedding(t.Context(), folder)
		if err != nil {
			t.Fatal(err)
		}
		return e.Digest
	}
	first := digest()
	modeltest.Write(t, folder, map[string][]byte{"README.md": []byte("other")})
	if digest() != first {
		t.Error("a file that does not matter changes the digest")
	}
	modeltest.Write(t, folder, map[string][]byte{"sentence_bert_config.json": []byte(`{"max_seq_length":31}`)})
	if digest() == first {
		t.Error("the configuration does not change the digest")
	}
	e, err := model.OpenEmbedding(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Verify(first); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
}

func TestMaterializeAtTheSameTime(t *testing.T) {
	e, err := model.OpenEmbedding(t.Context(), modeltest.Tiny("mpnet").Folder(t))
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(t.TempDir(), "graphs")
	paths := make([]string, 8)
	var group sync.WaitGroup
	for i := range paths {
		group.Go(func() {
			var err error
			if paths[i], err = e.Materialize(t.Context(), cache); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(slices.Compact(paths)) != 1 {
		t.Errorf("paths %q", paths)
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
	m, err := model.Open(t.Context(), paths[0])
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Materialize(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(paths[0]); err != nil || !os.SameFile(before, after) || len(m.External) != 1 {
		t.Errorf("written again: %v", err)
	}
}

func TestMaterializeFails(t *testing.T) {
	folder := modeltest.Tiny("bert").Folder(t)
	e, err := model.OpenEmbedding(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	if err := os.Truncate(filepath.Join(folder, "model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Materialize(t.Context(), cache); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}
