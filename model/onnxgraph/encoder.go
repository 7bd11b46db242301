package onnxgraph

import (
	"fmt"
	"math"
)

// build adds the whole encoder.
func (b *builder) build() {
	c := b.config
	x := b.embeddings()
	mask := b.node("", "Cast", "mask", []string{InputMask}, attribute{"to", int64(typeInt32)})
	b.integers("flat", false, []int64{2}, -1, int64(c.Hidden))
	b.node("", "Concat", "shape", []string{
		b.node("", "Shape", "ids.shape", []string{InputIDs}), b.integers("hidden", false, []int64{1}, int64(c.Hidden)),
	}, attribute{"axis", int64(0)})
	bias := ""
	if c.family.relative {
		bias = b.relativeBias()
	}
	for i := range c.Layers {
		output := fmt.Sprintf("layer.%d", i)
		if i == c.Layers-1 {
			output = Output
		}
		x = b.layer(i, x, mask, bias, output)
	}
}

func (b *builder) epsilon() attribute { return attribute{"epsilon", float32(b.config.Epsilon)} }

func (b *builder) embeddings() string {
	c := b.config
	ids := b.node("", "Cast", "ids", []string{InputIDs}, attribute{"to", int64(typeInt32)})
	words := b.weight("embeddings.word_embeddings.weight", c.Vocabulary, c.Hidden)
	var types, typeTable, positions, positionTable string
	switch {
	case c.HasTokenTypes():
		types = b.node("", "Cast", "types", []string{InputTypes}, attribute{"to", int64(typeInt32)})
		typeTable = b.weight("embeddings.token_type_embeddings.weight", c.TokenTypes, c.Hidden)
		fallthrough
	case c.TokenTypes == 0:
		positionTable = b.weight("embeddings.position_embeddings.weight", c.Positions, c.Hidden)
	default:
		positionTable = b.positionsWithType()
	}
	if c.family.padPositions {
		positions = b.padPositions(ids)
	}
	norm := "embeddings.LayerNorm"
	inputs := []string{ids, types, words, positionTable, typeTable, b.weight(norm+".weight", c.Hidden), b.weight(norm+".bias", c.Hidden)}
	if positions != "" {
		inputs = append(inputs, "", positions)
	}
	// The operator must have its second output, which nobody uses.
	b.nodes = append(b.nodes, node(contrib, "EmbedLayerNormalization", inputs, []string{"embeddings", "embeddings.unused"}, b.epsilon()))
	return "embeddings"
}

// positionsWithType adds the only token type's vector to every position's: all tokens have both.
func (b *builder) positionsWithType() string {
	c := b.config
	positions := b.take("embeddings.position_embeddings.weight", c.Positions, c.Hidden)
	types := b.take("embeddings.token_type_embeddings.weight", 1, c.Hidden)
	return b.computed("embeddings.positions_and_type", []int{c.Positions, c.Hidden}, func(write func([]float32) error) error {
		table, err := b.read(positions, c.Positions*c.Hidden)
		if err != nil {
			return err
		}
		row, err := b.read(types, c.Hidden)
		if err != nil {
			return err
		}
		for i := range table {
			table[i] += row[i%c.Hidden]
		}
		return write(table)
	})
}

// padPositions numbers the tokens that are no padding from the padding's id plus one; padding has the padding's id.
func (b *builder) padPositions(ids string) string {
	pad := b.integers("positions.pad", true, nil, int64(b.config.PadID))
	axis := b.integers("positions.axis", true, nil, 1)
	isPad := b.node("", "Equal", "positions.is_pad", []string{ids, pad})
	kept := b.node("", "Cast", "positions.kept", []string{b.node("", "Not", "positions.is_kept", []string{isPad})}, attribute{"to", int64(typeInt32)})
	count := b.node("", "CumSum", "positions.count", []string{kept, axis})
	return b.node("", "Add", "positions", []string{b.node("", "Mul", "positions.masked", []string{count, kept}), pad})
}

func (b *builder) layer(i int, x, mask, bias, output string) string {
	c, f := b.config, b.config.family
	at := func(name string) string { return layer(i, name) }
	norm := func(name, output, x, residual, linear string) string {
		return b.node(contrib, "SkipLayerNormalization", output, []string{
			x, residual, b.weight(at(name+".weight"), c.Hidden), b.weight(at(name+".bias"), c.Hidden), b.weight(at(linear+".bias"), c.Hidden),
		}, b.epsilon())
	}
	matMul := func(x, linear string, in, out int) string {
		return b.node("", "MatMul", at(linear), []string{x, b.linear(at(linear+".weight_t"), in, out, at(linear))})
	}
	inputs := []string{
		x, b.linear(at("attention.qkv.weight_t"), c.Hidden, c.Hidden, at(f.query), at(f.key), at(f.value)),
		b.biases(at("attention.qkv.bias"), c.Hidden, at(f.query), at(f.key), at(f.value)), mask,
	}
	if bias != "" {
		inputs = append(inputs, "", bias)
	}
	attention := b.node(contrib, "Attention", at("attention"), inputs, attribute{"num_heads", int64(c.Heads)})
	attention = matMul(attention, f.attentionOut, c.Hidden, c.Hidden)
	x = norm(f.attentionNorm, at("attention.normalized"), attention, x, f.attentionOut)
	// Gemm adds its bias in less time than any operator after it, but knows matrices alone. Reshape copies nothing here.
	flat := b.node("", "Reshape", at("flat"), []string{x, "flat"})
	wide := b.node("", "Gemm", at("intermediate.dense"), []string{
		flat, b.linear(at("intermediate.dense.weight_t"), c.Hidden, c.Intermediate, at("intermediate.dense")), b.weight(at("intermediate.dense.bias"), c.Intermediate),
	})
	wide = matMul(b.activation(at("intermediate.activated"), wide), "output.dense", c.Intermediate, c.Hidden)
	wide = b.node("", "Reshape", at("shaped"), []string{wide, "shape"})
	return norm("output.LayerNorm", output, wide, x, "output.dense")
}

// activation applies the config's function.
func (b *builder) activation(output, x string) string {
	switch b.config.Activation {
	case "relu":
		return b.node("", "Relu", output, []string{x})
	case "gelu_new", "gelu_fast", "gelu_pytorch_tanh":
		return b.node(contrib, "FastGelu", output, []string{x})
	}
	return b.node(contrib, "Gelu", output, []string{x})
}

// relativeBias is [1, heads, length, length]: what attention adds to the score of a query and a key, by how far the key is away.
func (b *builder) relativeBias() string {
	c := b.config
	n := c.MaxTokens()
	table := b.take("encoder.relative_attention_bias.weight", c.Buckets, c.Heads)
	byDistance := b.computed("relative.by_distance", []int{2*n - 1, c.Heads}, func(write func([]float32) error) error {
		buckets, err := b.read(table, c.Buckets*c.Heads)
		if err != nil {
			return err
		}
		rows := make([]float32, 0, (2*n-1)*c.Heads)
		for distance := 1 - n; distance < n; distance++ {
			at := bucket(distance, c.Buckets) * c.Heads
			rows = append(rows, buckets[at:at+c.Heads]...)
		}
		return write(rows)
	})
	one := b.integers("relative.one", false, nil, 1)
	zero := b.integers("relative.zero", false, nil, 0)
	zeros := b.integers("relative.zeros", false, []int64{1}, 0)
	ones := b.integers("relative.ones", false, []int64{1}, 1)
	shape := b.node("", "Shape", "relative.shape", []string{InputIDs})
	length := b.node("", "Gather", "relative.length", []string{shape, one}, attribute{"axis", int64(0)})
	line := b.node("", "Range", "relative.range", []string{zero, length, one})
	keys := b.node("", "Unsqueeze", "relative.keys", []string{line, zeros})
	queries := b.node("", "Unsqueeze", "relative.queries", []string{line, ones})
	distance := b.node("", "Sub", "relative.distance", []string{keys, queries})
	row := b.node("", "Add", "relative.row", []string{distance, b.integers("relative.offset", false, nil, int64(n-1))})
	bias := b.node("", "Gather", "relative.gathered", []string{byDistance, row}, attribute{"axis", int64(0)})
	bias = b.node("", "Transpose", "relative.transposed", []string{bias}, attribute{"perm", []int64{2, 0, 1}})
	return b.node("", "Unsqueeze", "relative.bias", []string{bias, zeros})
}

// maxDistance is where the last bucket begins, in MPNet's code and in no config.
const maxDistance = 128

// bucket is the row of the table of biases for a key that lies distance tokens after its query. Half of the buckets are for each
// direction; half of those have one distance each, the others grow with its logarithm. As in the reference, it is float32 that
// decides where a distance lies at the edge of two buckets.
func bucket(distance, buckets int) int {
	buckets /= 2
	first := 0
	if distance > 0 {
		first = buckets
	}
	distance = max(distance, -distance)
	exact := buckets / 2
	if distance < exact {
		return first + distance
	}
	log := float32(math.Log(float64(float32(distance) / float32(exact))))
	far := log / float32(math.Log(maxDistance/float64(exact))) * float32(buckets-exact)
	return first + min(exact+int(far), buckets-1)
}
