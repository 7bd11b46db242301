// Package onnxgraph writes ONNX graphs of transformer encoders from a Hugging Face config.json and the weights of a
// model.safetensors, so that such a model runs without Python or torch. It knows the families BERT, RoBERTa (with XLM-RoBERTa and
// CamemBERT), and MPNet.
//
// The graph takes token ids (and for BERT token types) and an attention mask of shape [batch, length], both free, and gives the last
// hidden state, [batch, length, hidden]. It is made of ONNX Runtime's fused operators (com.microsoft: EmbedLayerNormalization,
// Attention, SkipLayerNormalization, Gelu), which its optimizer would otherwise have to find in a graph of small ones, and may
// miss. The same config and weights give the same bytes.
//
// Functions block on file I/O. A Graph may be used by one goroutine at a time.
package onnxgraph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

const op = "make graph"

// family is how the encoders of one kind of model are built and how their weights are named.
type family struct {
	// prefixes may stand before all names, where the file is that of a model with a head.
	prefixes []string
	// query, key, value, and attentionOut name the projections of a layer's attention; attentionNorm its normalization.
	query, key, value, attentionOut, attentionNorm string
	// tokenTypes says that there is a table of token types.
	tokenTypes bool
	// padPositions says that positions count the tokens that are no padding, from the padding's id plus one.
	padPositions bool
	// relative says that attention has a bias by distance.
	relative bool
	padID    int
}

var (
	bert = family{
		prefixes: []string{"", "bert."}, tokenTypes: true,
		query: "attention.self.query", key: "attention.self.key", value: "attention.self.value",
		attentionOut: "attention.output.dense", attentionNorm: "attention.output.LayerNorm",
	}
	roberta = family{
		prefixes: []string{"", "roberta."}, tokenTypes: true, padPositions: true, padID: 1,
		query: bert.query, key: bert.key, value: bert.value, attentionOut: bert.attentionOut, attentionNorm: bert.attentionNorm,
	}
	mpnet = family{
		prefixes: []string{"", "mpnet."}, padPositions: true, relative: true, padID: 1,
		query: "attention.attn.q", key: "attention.attn.k", value: "attention.attn.v",
		attentionOut: "attention.attn.o", attentionNorm: "attention.LayerNorm",
	}
)

// families are the values of model_type.
var families = map[string]*family{"bert": &bert, "roberta": &roberta, "xlm-roberta": &roberta, "camembert": &roberta, "mpnet": &mpnet}

// activations are the values of hidden_act that the graph can have.
var activations = []string{"gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"}

// Config is what a config.json says of an encoder.
type Config struct {
	// ModelType is the family in the file's words, such as "xlm-roberta".
	ModelType string
	// Hidden is the length of a token's vector.
	Hidden int
	// Layers, Heads, and Intermediate are the number of layers, of attention heads, and the width of the feed-forward part.
	Layers, Heads, Intermediate int
	// Activation is the function of the feed-forward part in the file's words, such as "gelu".
	Activation string
	// Epsilon is what layer normalization adds to the variance.
	Epsilon float64
	// Positions is the number of rows of the table of positions.
	Positions int
	// Vocabulary is the number of rows of the table of tokens.
	Vocabulary int
	// TokenTypes is the number of rows of the table of token types; 0 where the family has none.
	TokenTypes int
	// PadID is the id of the padding token.
	PadID int
	// Buckets is the number of distances that have a bias of their own; 0 where the family has none.
	Buckets int

	family *family
}

// Limits on a config, far above any model's, that keep products of two numbers in range.
const (
	maxWidth      = 1 << 20
	maxLayers     = 1 << 12
	maxVocabulary = 1 << 28
)

// ParseConfig reads the content of a config.json. name stands in errors, which are of kind engine.KindModel: not JSON, a family or
// a feature that this package does not know, numbers that cannot be.
func ParseConfig(name string, data []byte) (*Config, error) {
	fail := func(format string, args ...any) (*Config, error) {
		return nil, engine.Errorf(engine.KindModel, op, name, format, args...)
	}
	// Where older files say nothing, the library's defaults hold.
	file := struct {
		ModelType    string  `json:"model_type"`
		Hidden       int     `json:"hidden_size"`
		Layers       int     `json:"num_hidden_layers"`
		Heads        int     `json:"num_attention_heads"`
		Intermediate int     `json:"intermediate_size"`
		Activation   string  `json:"hidden_act"`
		Epsilon      float64 `json:"layer_norm_eps"`
		Positions    int     `json:"max_position_embeddings"`
		Vocabulary   int     `json:"vocab_size"`
		TokenTypes   int     `json:"type_vocab_size"`
		PadID        *int    `json:"pad_token_id"`
		Buckets      int     `json:"relative_attention_num_buckets"`
		PositionType string  `json:"position_embedding_type"`
		Decoder      bool    `json:"is_decoder"`
		Cross        bool    `json:"add_cross_attention"`
		Embedding    *int    `json:"embedding_size"`
	}{Activation: "gelu", Epsilon: 1e-12, TokenTypes: 2, PositionType: "absolute", Buckets: 32}
	if err := json.Unmarshal(data, &file); err != nil {
		return fail("%w", err)
	}
	f := families[file.ModelType]
	switch {
	case file.ModelType == "":
		return fail("it has no model_type")
	case f == nil:
		err := engine.Errorf(engine.KindModel, op, name, "cannot make a graph for model_type %q; known are bert, roberta, xlm-roberta, camembert, mpnet", file.ModelType)
		return nil, err.WithHint("export the model to ONNX (optimum-cli export onnx --task feature-extraction) and put the file into the folder as onnx/model.onnx")
	case !slices.Contains([]string{"", "absolute"}, file.PositionType):
		return fail("position_embedding_type %q; only \"absolute\" is known", file.PositionType)
	case file.Decoder || file.Cross:
		return fail("a decoder; only encoders can be embedded with")
	case file.Embedding != nil && *file.Embedding != file.Hidden:
		return fail("embedding_size %d differs from hidden_size %d", *file.Embedding, file.Hidden)
	case !slices.Contains(activations, file.Activation):
		return fail("hidden_act %q; known are %s", file.Activation, strings.Join(activations, ", "))
	case !(file.Epsilon > 0 && file.Epsilon < 1): // A NaN is refused too.
		return fail("layer_norm_eps %g", file.Epsilon)
	}
	for _, n := range []struct {
		name        string
		value, most int
	}{
		{"hidden_size", file.Hidden, maxWidth}, {"num_hidden_layers", file.Layers, maxLayers}, {"num_attention_heads", file.Heads, maxWidth},
		{"intermediate_size", file.Intermediate, maxWidth}, {"max_position_embeddings", file.Positions, maxWidth}, {"vocab_size", file.Vocabulary, maxVocabulary},
		{"type_vocab_size", file.TokenTypes, maxWidth}, {"relative_attention_num_buckets", file.Buckets, maxWidth},
	} {
		if n.value < 1 || n.value > n.most {
			return fail("%s is %d, expected 1 to %d", n.name, n.value, n.most)
		}
	}
	c := &Config{
		ModelType: file.ModelType, Hidden: file.Hidden, Layers: file.Layers, Heads: file.Heads, Intermediate: file.Intermediate,
		Activation: file.Activation, Epsilon: file.Epsilon, Positions: file.Positions, Vocabulary: file.Vocabulary,
		PadID: f.padID, family: f,
	}
	if c.Hidden%c.Heads != 0 {
		return fail("hidden_size %d is no multiple of num_attention_heads %d", c.Hidden, c.Heads)
	}
	if f.tokenTypes {
		c.TokenTypes = file.TokenTypes
	}
	if f.relative {
		c.Buckets = file.Buckets
		if c.Buckets%4 != 0 {
			return fail("relative_attention_num_buckets is %d, expected a multiple of 4", c.Buckets)
		}
	}
	// MPNet's padding id is in its code, whatever the file says.
	if file.PadID != nil && !f.relative {
		c.PadID = *file.PadID
	}
	if c.PadID < 0 || c.PadID >= c.Vocabulary {
		return fail("pad_token_id is %d, the vocabulary has %d", c.PadID, c.Vocabulary)
	}
	if c.MaxTokens() < 1 {
		return fail("max_position_embeddings %d leaves no room for tokens", c.Positions)
	}
	return c, nil
}

// MaxTokens is how many tokens a text may have, special ones included.
func (c *Config) MaxTokens() int {
	if c.family.padPositions {
		return c.Positions - c.PadID - 1
	}
	return c.Positions
}

// HasTokenTypes reports whether the graph has an input for token types.
func (c *Config) HasTokenTypes() bool { return c.TokenTypes > 1 }

func layer(i int, name string) string { return fmt.Sprintf("encoder.layer.%d.%s", i, name) }
