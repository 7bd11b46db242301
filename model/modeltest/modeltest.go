// Package modeltest makes small sentence embedding models for tests, with random weights, and evaluates them in float64, step by
// step as the papers describe them, as a reference that shares no code with model/onnxgraph.
package modeltest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Tensor is an array in row-major order.
type Tensor struct {
	Shape []int
	Data  []float32
}

// Tensors are tensors by name.
type Tensors map[string]Tensor

// Safetensors returns the content of a .safetensors file.
func (t Tensors) Safetensors() []byte {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(t)) {
		from := len(data)
		for _, v := range t[name].Data {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		header[name] = entry{"F32", t[name].Shape, [2]int{from, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
}

// Encoder describes a transformer encoder. Tiny gives one.
type Encoder struct {
	// ModelType is "bert", "roberta", "xlm-roberta", "camembert", or "mpnet".
	ModelType string
	// The sizes are those of config.json.
	Hidden, Layers, Heads, Intermediate, Positions, Vocabulary, TokenTypes, PadID int
	// Activation is hidden_act.
	Activation string
	// Prefix stands before the names of all weights.
	Prefix string
	// Seed decides the weights.
	Seed uint64
}

// Tiny returns an encoder of two layers for the tokenizer of TokenizerJSON.
func Tiny(modelType string) Encoder {
	e := Encoder{ModelType: modelType, Hidden: 16, Layers: 2, Heads: 4, Intermediate: 24, Positions: 64, Vocabulary: len(vocabulary()), TokenTypes: 2, Activation: "gelu", Seed: 1}
	switch modelType {
	case "bert":
	case "mpnet":
		e.TokenTypes, e.PadID = 0, 1
	default:
		e.TokenTypes, e.PadID = 1, 1
	}
	return e
}

// Buckets is relative_attention_num_buckets of MPNet.
const Buckets = 32

// Epsilon is layer_norm_eps.
const Epsilon = 1e-5

// ConfigJSON returns the content of config.json.
func (e Encoder) ConfigJSON() []byte {
	config := map[string]any{
		"model_type": e.ModelType, "hidden_size": e.Hidden, "num_hidden_layers": e.Layers, "num_attention_heads": e.Heads,
		"intermediate_size": e.Intermediate, "hidden_act": e.Activation, "layer_norm_eps": Epsilon, "max_position_embeddings": e.Positions,
		"vocab_size": e.Vocabulary, "pad_token_id": e.PadID,
	}
	if e.TokenTypes > 0 {
		config["type_vocab_size"] = e.TokenTypes
	} else {
		config["relative_attention_num_buckets"] = Buckets
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return text
}

// attention names the projections of a layer and its normalization.
func (e Encoder) attention() (query, key, value, out, norm string) {
	if e.ModelType == "mpnet" {
		return "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o", "attention.LayerNorm"
	}
	return "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm"
}

// Weights returns random weights, the same for the same encoder.
func (e Encoder) Weights() Tensors {
	random := rand.New(rand.NewPCG(e.Seed, 0)) //nolint:gosec // the same weights for the same seed
	all := Tensors{}
	add := func(name string, scale, offset float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		t := Tensor{Shape: shape, Data: make([]float32, n)}
		for i := range t.Data {
			t.Data[i] = float32(offset + scale*random.NormFloat64())
		}
		all[e.Prefix+name] = t
	}
	norm := func(name string) { add(name+".weight", 0.2, 1, e.Hidden); add(name+".bias", 0.2, 0, e.Hidden) }
	linear := func(name string, in, out int) {
		add(name+".weight", 1.5/math.Sqrt(float64(in)), 0, out, in)
		add(name+".bias", 0.3, 0, out)
	}
	add("embeddings.word_embeddings.weight", 1, 0, e.Vocabulary, e.Hidden)
	add("embeddings.position_embeddings.weight", 1, 0, e.Positions, e.Hidden)
	if e.TokenTypes > 0 {
		add("embeddings.token_type_embeddings.weight", 1, 0, e.TokenTypes, e.Hidden)
	} else {
		add("encoder.relative_attention_bias.weight", 2, 0, Buckets, e.Heads)
	}
	norm("embeddings.LayerNorm")
	query, key, value, out, attentionNorm := e.attention()
	for i := range e.Layers {
		at := fmt.Sprintf("encoder.layer.%d.", i)
		for _, name := range []string{query, key, value, out} {
			linear(at+name, e.Hidden, e.Hidden)
		}
		norm(at + attentionNorm)
		linear(at+"intermediate.dense", e.Hidden, e.Intermediate)
		linear(at+"output.dense", e.Intermediate, e.Hidden)
		norm(at + "output.LayerNorm")
	}
	linear("pooler.dense", e.Hidden, e.Hidden)
	return all
}

func vocabulary() []string {
	words := []string{"[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"}
	for c := 'a'; c <= 'z'; c++ {
		words = append(words, string(c), "##"+string(c))
	}
	return append(words, strings.Fields("the cat dog sat on mat a b and or . , !")...)
}

// TokenizerJSON returns the content of a tokenizer.json: WordPiece with every letter, and [PAD] as id padID.
func TokenizerJSON(padID int) []byte {
	ids := map[string]int{}
	for _, w := range vocabulary() {
		if _, twice := ids[w]; !twice {
			ids[w] = len(ids)
		}
	}
	for w, id := range ids {
		if id == padID && w != "[PAD]" {
			ids[w], ids["[PAD]"] = ids["[PAD]"], padID
			break
		}
	}
	special := func(token string) map[string]any {
		return map[string]any{"id": ids[token], "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
	}
	text, err := json.Marshal(map[string]any{
		"version": "1.0", "truncation": nil,
		"padding": map[string]any{
			"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": nil, "pad_id": ids["[PAD]"], "pad_type_id": 0, "pad_token": "[PAD]",
		},
		"added_tokens":  []any{special("[PAD]"), special("[UNK]"), special("[CLS]"), special("[SEP]"), special("[MASK]")},
		"normalizer":    map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{
			"type": "BertProcessing", "sep": []any{"[SEP]", ids["[SEP]"]}, "cls": []any{"[CLS]", ids["[CLS]"]},
		},
		"decoder": map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model": map[string]any{
			"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": ids,
		},
	})
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return text
}

// Write writes files into folder, by their names relative to it.
func Write(t testing.TB, folder string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Files returns the files of a sentence-transformers folder with the encoder, mean pooling, and normalization, by name.
func (e Encoder) Files() map[string][]byte {
	return map[string][]byte{
		"modules.json": []byte(`[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
			{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
			{"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]`),
		"1_Pooling/config.json":     fmt.Appendf(nil, `{"word_embedding_dimension":%d,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}`, e.Hidden),
		"sentence_bert_config.json": []byte(`{"max_seq_length":32,"do_lower_case":false}`),
		"config.json":               e.ConfigJSON(),
		"tokenizer.json":            TokenizerJSON(e.PadID),
		"model.safetensors":         e.Weights().Safetensors(),
		"README.md":                 []byte("# A small model with random weights\n"),
	}
}

// Folder writes Files into a new folder and returns it.
func (e Encoder) Folder(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	Write(t, folder, e.Files())
	return folder
}
