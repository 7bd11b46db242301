package model

import "github.com/f708428e/engine/tokenizer"

// Pooling says how the vectors of a text's tokens become one.
type Pooling string

// The ways of pooling that sentence-transformers has. All of them look only at tokens that the attention mask keeps.
const (
	// PoolMean is the mean of the tokens' vectors.
	PoolMean Pooling = "mean"
	// PoolCLS is the vector of the first token.
	PoolCLS Pooling = "cls"
	// PoolMax is the largest value of each element.
	PoolMax Pooling = "max"
	// PoolLastToken is the vector of the last token.
	PoolLastToken Pooling = "lasttoken"
	// PoolWeightedMean is the mean in which the token at position i, from 0, weighs i+1.
	PoolWeightedMean Pooling = "weightedmean"
	// PoolMeanSqrtLen is the sum over the square root of the number of tokens.
	PoolMeanSqrtLen Pooling = "mean_sqrt_len_tokens"
)

// The activations of a Dense layer.
const (
	ActivationIdentity = "identity"
	ActivationTanh     = "tanh"
	ActivationGELU     = "gelu" // x·Φ(x), with the error function
	ActivationReLU     = "relu"
)

// Dense is a layer after pooling: y = activation(W x + b).
type Dense struct {
	In, Out int
	// Weight is row-major, Out rows of In elements.
	Weight []float32
	// Bias has Out elements, or is nil.
	Bias []float32
	// Activation is one of the constants above.
	Activation string
}

// EmbeddingInputs names the inputs of an embedding model's graph, all int64 of shape [batch, length].
type EmbeddingInputs struct {
	// IDs takes the token ids.
	IDs string
	// Mask takes 1 for tokens and 0 for padding; empty if the graph has none.
	Mask string
	// Types takes token type ids; empty if the graph has none.
	Types string
}

// Embedding is a sentence embedding model as its folder describes it. It holds no resources and never changes; what its fields
// refer to must not be changed either.
//
// A text becomes: prompt and text; lower case if LowerCase; token ids, at most MaxTokens; the graph's Output; Pooling unless
// OutputPooled; each of Dense; unit length if Normalize.
type Embedding struct {
	// Path is the folder or the ONNX file in it that was opened, absolute.
	Path string
	// Folder is the folder, absolute: Path, or the folder around it that has the tokenizer.
	Folder string
	// Digest is over Files, as that of a Model.
	Digest string
	// Files are the files that say what the vectors are: weights, tokenizer, and configuration; relative to Folder,
	// with slashes, sorted.
	Files []string
	// SizeBytes is the length of all Files together.
	SizeBytes int64
	// ONNXPath is the folder's ONNX file, absolute. Empty: the graph is made from weights, see Materialize.
	ONNXPath string
	// Quantized says that the folder's ONNX file computes in integers, as Graph has it.
	Quantized bool
	// TokenizerPath is the tokenizer.json, absolute, and Tokenizer what it says.
	TokenizerPath string
	Tokenizer     *tokenizer.Tokenizer
	// MaxTokens is how long a text may be, special tokens included. Never zero.
	MaxTokens int
	// Dim is the length of the vectors that come out at the end.
	Dim int
	// HiddenDim is the length of the tokens' vectors.
	HiddenDim int
	// Pooling has at least one element; the vectors of several are concatenated in this order.
	Pooling []Pooling
	// PoolingAssumed says that the folder does not say how to pool: it has no modules.json, so Pooling is mean, as in
	// sentence-transformers.
	PoolingAssumed bool
	// Normalize says that vectors are scaled to unit length at the end.
	Normalize bool
	// Dense are the layers after pooling, in order.
	Dense []Dense
	// Prompts are texts to put before a text, by name. Nil if there is none.
	Prompts map[string]string
	// DefaultPrompt is the name of the prompt that is used where none is asked for; empty for none.
	DefaultPrompt string
	// LowerCase says that texts become lower case before they are tokenized.
	LowerCase bool
	// Inputs are the names of the graph's inputs.
	Inputs EmbeddingInputs
	// Output is the name of the output of the graph that is used: [batch, length, HiddenDim], or [batch, dim] if OutputPooled.
	Output string
	// OutputPooled says that Output holds one vector a text already.
	OutputPooled bool
	// PadID is the token id that fills up texts that are shorter than others of their batch.
	PadID int
	// Weights are the safetensors files that the graph is made of, absolute; nil if there is an ONNXPath.
	Weights []string
	// ModelType is the family in the words of config.json, such as "bert"; empty if there is no such file.
	ModelType string

	config     []byte   // the content of config.json
	graphFiles []string // those of Files that hold the graph or what it is made of
}
