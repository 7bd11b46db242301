package enginetest

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/internal/onnxfile"
)

// The tokens of EmbeddingFolder: four special ones, then a letter each.
const (
	embeddingSpecial = 4
	embeddingVocab   = embeddingSpecial + 26
	// EmbeddingDim is the length of its vectors.
	EmbeddingDim = 4
	// EmbeddingMaxTokens is its limit, with the two special tokens around a text.
	EmbeddingMaxTokens = 16
	// EmbeddingNaN is the letter whose vector holds NaN.
	EmbeddingNaN = "z"
)

// EmbeddingModel is the graph of EmbeddingFolder: the inputs "input_ids" and "attention_mask", the latter unused, and the output
// "last_hidden_state". The vector of token i is (i, 1, i*i, 0), and holds NaN for the letter z.
func EmbeddingModel() []byte {
	var table []float64
	for i := range embeddingVocab {
		v := float64(i)
		if i == embeddingVocab-1 {
			table = append(table, math.NaN(), 0, 0, 0)
			continue
		}
		table = append(table, v, 1, v*v, 0)
	}
	tokens := []int64{-1, -1}
	return marshal(onnxfile.Graph{
		Nodes:        []onnxfile.Node{{Op: "Gather", Inputs: []string{"table", "input_ids"}, Outputs: []string{"last_hidden_state"}}},
		Initializers: []onnxfile.Tensor{constant("table", engine.Float32, []int64{embeddingVocab, EmbeddingDim}, table...)},
		Inputs:       []onnxfile.Value{{Name: "input_ids", Type: engine.Int64, Dims: tokens}, {Name: "attention_mask", Type: engine.Int64, Dims: tokens}},
		Outputs:      []onnxfile.Value{{Name: "last_hidden_state", Type: engine.Float32, Dims: []int64{-1, -1, EmbeddingDim}}},
	})
}

// EmbeddingFolder writes a folder of sentence-transformers with EmbeddingModel and mean pooling, without normalization, and returns
// its path. Texts are letters with white space around each: "a b". The prompt "query" is "q".
func EmbeddingFolder(t testing.TB) string {
	t.Helper()
	var vocab strings.Builder
	vocab.WriteString(`"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3`)
	for i := range 26 {
		fmt.Fprintf(&vocab, `, "%c": %d`, 'a'+i, embeddingSpecial+i)
	}
	folder := t.TempDir()
	for name, content := range map[string]string{
		"modules.json": `[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
			{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]`,
		"1_Pooling/config.json":             fmt.Sprintf(`{"word_embedding_dimension": %d, "pooling_mode_mean_tokens": true}`, EmbeddingDim),
		"config.json":                       fmt.Sprintf(`{"model_type": "bert", "hidden_size": %d, "max_position_embeddings": %d, "vocab_size": %d}`, EmbeddingDim, EmbeddingMaxTokens, embeddingVocab),
		"config_sentence_transformers.json": `{"prompts": {"query": "q "}}`,
		"tokenizer.json": `{"version": "1.0", "pre_tokenizer": {"type": "WhitespaceSplit"}, "padding": {"pad_id": 0},
			"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
			"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {` + vocab.String() + `}}}`,
		"onnx/model.onnx": string(EmbeddingModel()),
	} {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
