package onnxgraph

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/safetensors"
)

// Names of the graph's inputs and of its output, as exports of the transformers library have them.
const (
	InputIDs   = "input_ids"
	InputMask  = "attention_mask"
	InputTypes = "token_type_ids"
	Output     = "last_hidden_state"
)

// Version changes whenever the same config and weights give other files than before.
const Version = 2

// Weights are the tensors that a graph is made of. safetensors.File and safetensors.Set are such.
type Weights interface {
	// Names returns all names.
	Names() []string
	// Tensor describes one; false if there is none of that name.
	Tensor(name string) (safetensors.Tensor, bool)
	// ReadFloat32 fills into with the tensor's elements from the given one on.
	ReadFloat32(name string, from int64, into []float32) error
}

// Graph is a graph that can be written. Its weights are read only then.
type Graph struct {
	config       *Config
	weights      Weights
	prefix       string
	nodes        []proto
	initializers []initializer
	used         map[string]bool
}

// initializer is a tensor of the graph.
type initializer struct {
	name     string
	dataType int64
	dims     []int64
	// raw is the content if it is not made of weights.
	raw []byte
	// emit calls write with the content piece by piece, in order, if raw is nil.
	emit func(write func([]float32) error) error
}

func (i *initializer) sizeBytes() int64 {
	if i.emit == nil {
		return int64(len(i.raw))
	}
	n := int64(4)
	for _, d := range i.dims {
		n *= d
	}
	return n
}

// New plans the graph. It looks at names and shapes of the weights, and does not read them. The error is of kind engine.KindModel:
// weights that are missing, of another shape than the config says, or that this package does not know and would leave out.
func New(config *Config, weights Weights) (*Graph, error) {
	g := &Graph{config: config, weights: weights, used: map[string]bool{}}
	const first = "embeddings.word_embeddings.weight"
	found := false
	for _, prefix := range config.family.prefixes {
		if _, ok := weights.Tensor(prefix + first); ok {
			g.prefix, found = prefix, true
			break
		}
	}
	if !found {
		return nil, engine.Errorf(engine.KindModel, op, "", "the weights have no tensor %q, which a model of type %s has", first, config.ModelType)
	}
	b := &builder{Graph: g}
	b.build()
	if b.err != nil {
		return nil, b.err
	}
	if err := g.checkUnused(); err != nil {
		return nil, err
	}
	return g, nil
}

// heads are the names, or their beginnings, of tensors that take no part in the last hidden state: positions that are counted here,
// and what comes after the encoder.
var heads = []string{"embeddings.position_ids", "embeddings.token_type_ids", "pooler.", "cls.", "lm_head.", "classifier.", "qa_outputs."}

// checkUnused refuses weights that would be left out silently: of layers beyond the config's number, adapters, other architectures.
func (g *Graph) checkUnused() error {
	for _, name := range g.weights.Names() {
		rest := strings.TrimPrefix(name, g.prefix)
		if g.used[name] || slices.ContainsFunc(heads, func(head string) bool { return strings.HasPrefix(rest, head) || strings.HasPrefix(name, head) }) {
			continue
		}
		return engine.Errorf(engine.KindModel, op, "", "the weights have a tensor %q, which a model of type %s with %d layers does not have", name, g.config.ModelType, g.config.Layers)
	}
	return nil
}

// builder adds nodes and initializers until the first error.
type builder struct {
	*Graph
	err error
}

// take checks that a weight is there with the given shape and returns its name in the file.
func (b *builder) take(name string, dims ...int) string {
	full := b.prefix + name
	if b.err != nil {
		return full
	}
	t, ok := b.weights.Tensor(full)
	want := make([]int64, len(dims))
	for i, d := range dims {
		want[i] = int64(d)
	}
	switch {
	case !ok:
		b.err = engine.Errorf(engine.KindModel, op, "", "the weights have no tensor %q", full)
	case !slices.Equal(t.Shape, want):
		b.err = engine.Errorf(engine.KindModel, op, "", "tensor %q has shape %v, expected %v by the config", full, t.Shape, want)
	case !slices.Contains([]string{"F32", "F16", "BF16", "F64"}, t.DType):
		b.err = engine.Errorf(engine.KindModel, op, "", "tensor %q holds %s, expected floating-point numbers", full, t.DType)
	}
	b.used[full] = true
	return full
}

// weight adds a weight as it lies in the file.
func (b *builder) weight(name string, dims ...int) string {
	full := b.take(name, dims...)
	return b.computed(name, dims, func(write func([]float32) error) error { return b.copyWeight(full, product(dims), write) })
}

// pieceElements is how much of a weight is in memory at a time.
const pieceElements = 1 << 20

func (g *Graph) copyWeight(full string, elements int, write func([]float32) error) error {
	piece := make([]float32, min(elements, pieceElements))
	for at := 0; at < elements; at += len(piece) {
		piece = piece[:min(len(piece), elements-at)]
		if err := g.weights.ReadFloat32(full, int64(at), piece); err != nil {
			return err
		}
		if err := write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (g *Graph) read(full string, elements int) ([]float32, error) {
	all := make([]float32, elements)
	return all, g.weights.ReadFloat32(full, 0, all)
}

// linear adds the weights [out, in] of linear layers with the same input as one matrix [in, sum of out], which is what MatMul wants.
func (b *builder) linear(name string, in, out int, layers ...string) string {
	full := make([]string, len(layers))
	for i, l := range layers {
		full[i] = b.take(l+".weight", out, in)
	}
	return b.computed(name, []int{in, len(layers) * out}, func(write func([]float32) error) error {
		width := len(layers) * out
		all := make([]float32, in*width)
		for l, name := range full {
			w, err := b.read(name, in*out)
			if err != nil {
				return err
			}
			for o := range out {
				for i, v := range w[o*in : (o+1)*in] {
					all[i*width+l*out+o] = v
				}
			}
		}
		return write(all)
	})
}

// biases adds the biases of linear layers one behind the other.
func (b *builder) biases(name string, out int, layers ...string) string {
	full := make([]string, len(layers))
	for i, l := range layers {
		full[i] = b.take(l+".bias", out)
	}
	return b.computed(name, []int{len(layers) * out}, func(write func([]float32) error) error {
		for _, name := range full {
			if err := b.copyWeight(name, out, write); err != nil {
				return err
			}
		}
		return nil
	})
}

// computed adds a float initializer that emit makes.
func (b *builder) computed(name string, dims []int, emit func(write func([]float32) error) error) string {
	wide := make([]int64, len(dims))
	for i, d := range dims {
		wide[i] = int64(d)
	}
	b.initializers = append(b.initializers, initializer{name: name, dataType: typeFloat, dims: wide, emit: emit})
	return name
}

// integers adds an initializer of int64, or int32 if narrow. No dims make a scalar.
func (b *builder) integers(name string, narrow bool, dims []int64, values ...int64) string {
	i := initializer{name: name, dataType: typeInt64, dims: dims, raw: []byte{}}
	for _, v := range values {
		if narrow {
			i.dataType = typeInt32
			i.raw = binary.LittleEndian.AppendUint32(i.raw, uint32(int32(v)))
		} else {
			i.raw = binary.LittleEndian.AppendUint64(i.raw, uint64(v))
		}
	}
	b.initializers = append(b.initializers, i)
	return name
}

// contrib is the domain of ONNX Runtime's own operators.
const contrib = "com.microsoft"

// node adds a node with one output and returns the output's name.
func (b *builder) node(domain, operator, output string, inputs []string, attributes ...attribute) string {
	b.nodes = append(b.nodes, node(domain, operator, inputs, []string{output}, attributes...))
	return output
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func floats(p []byte, values []float32) []byte {
	for _, v := range values {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
	}
	return p
}
