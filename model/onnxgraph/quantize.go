package onnxgraph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

const opQuantize = "quantize model"

const (
	typeInt8 = 3
	// maxWeight is the largest magnitude of a weight: seven bits. The sum of two products with an unsigned byte then fits into
	// 16 bits, where processors with AVX2 and AVX-512 but without VNNI add them up: with eight bits they saturate, and the same
	// file gives other vectors there.
	maxWeight = 64
	// maxFileBytes is what protobuf allows.
	maxFileBytes = 1<<31 - 1
)

// Quantized says what Quantize did.
type Quantized struct {
	// Matrices are how many matrices of weights are of int8 now, and KeptMatrices how many multiplications by a constant matrix are in
	// float32 still: of operators that have no form for integers.
	Matrices, KeptMatrices int
	// WeightBytes is the length of those matrices in float32.
	WeightBytes int64
}

// Quantize reads the ONNX file at path and writes one into folder that multiplies by constant matrices in integers: name, and the
// weights beside it with ".data" after the name. Weights are int8, symmetric, with a scale for each column, in the range of seven bits;
// what they are multiplied with is made uint8 call by call, with one scale for the whole tensor, so results depend a little on what is
// computed together. It knows MatMul, Gemm, and the Attention of ONNX Runtime; everything else stays as it is.
//
// The error is of kind engine.KindModel for a graph that computes in integers already, or has nothing to quantize. What was written
// before an error stays there.
func Quantize(ctx context.Context, path, folder, name string) (Quantized, error) {
	fail := func(err error) (Quantized, error) {
		var known *engine.Error
		switch {
		case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return Quantized{}, err
		case errors.Is(err, fs.ErrNotExist):
			return Quantized{}, engine.Errorf(engine.KindNotFound, opQuantize, path, "%w", err)
		}
		return Quantized{}, engine.Errorf(engine.KindModel, opQuantize, path, "%w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	if info.Size() > maxFileBytes {
		return fail(fmt.Errorf("it has %d bytes, more than an ONNX file can have", info.Size()))
	}
	content, err := os.ReadFile(path) //nolint:gosec // The user says which.
	if err != nil {
		return fail(err)
	}
	g, err := readGraph(content, filepath.Dir(path))
	if err != nil {
		return fail(err)
	}
	defer g.close()
	q := &quantizer{fileGraph: g, weights: map[string]quantizedWeight{}, names: map[string]bool{}}
	if err := q.rewrite(); err != nil {
		return fail(err)
	}
	if err := q.write(ctx, folder, name); err != nil {
		return fail(err)
	}
	return q.done, nil
}

// quantizer replaces nodes and weights of a graph.
type quantizer struct {
	*fileGraph
	done Quantized
	// weights are the matrices that are quantized, by the name of the original; order is that of their first use.
	weights map[string]quantizedWeight
	order   []string
	// names are those that new tensors have.
	names map[string]bool
}

// quantizedWeight names the tensors that take the place of a matrix.
type quantizedWeight struct{ values, scales string }

// constant returns a matrix of weights, or nil.
func (q *quantizer) constant(name string) *fileTensor {
	t := q.byName[name]
	if t == nil || t.dataType != typeFloat || len(t.dims) != 2 || t.elements() == 0 {
		return nil
	}
	return t
}

// rewrite decides on each node.
func (q *quantizer) rewrite() error {
	operators := map[string]bool{}
	for i := range q.nodes {
		n := &q.nodes[i]
		operators[n.operator] = true
		switch {
		case slices.Contains([]string{"MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "QAttention", "MatMulIntegerToFloat", "MatMulNBits"}, n.operator):
			return fmt.Errorf("the graph computes in integers already: it has the operator %s", n.operator)
		case n.domain == "" && n.operator == "MatMul" && len(n.outputs) == 1 && q.constant(n.input(1)) != nil:
			q.matMul(n)
		case n.domain == "" && n.operator == "Gemm" && len(n.outputs) == 1 && q.plain(n):
			w := q.quantized(q.constant(n.input(1)))
			n.replacement = []proto{node(contrib, "DynamicQuantizeMatMul", []string{n.input(0), w.values, w.scales, "", n.input(2)}, n.outputs)}
		case n.domain == contrib && n.operator == "Attention" && len(n.outputs) == 1 && q.constant(n.input(1)) != nil:
			q.attention(n)
		case slices.Contains([]string{"Gemm", "FusedMatMul", "MatMul"}, n.operator) && q.byName[n.input(1)] != nil:
			q.done.KeptMatrices++
		}
	}
	if len(q.order) == 0 {
		types := map[int64]string{10: "float16", 16: "bfloat16", 11: "double"}
		for _, t := range q.initializers {
			if text := types[t.dataType]; text != "" && len(t.dims) == 2 {
				return fmt.Errorf("its weights, such as %q, are of %s; only those of float32 can be quantized", t.name, text)
			}
		}
		return fmt.Errorf("it has no MatMul or Attention with constant weights; its operators are %s", strings.Join(slices.Sorted(maps.Keys(operators)), ", "))
	}
	if version := q.opsets[""]; version < 11 {
		return fmt.Errorf("it is of opset %d; from 11 on graphs can compute in integers", version)
	}
	q.done.Matrices = len(q.order)
	return nil
}

// quantized returns the tensors of a weight, of which q.uses is counted down.
func (q *quantizer) quantized(t *fileTensor) quantizedWeight {
	q.uses[t.name]--
	w, ok := q.weights[t.name]
	if !ok {
		w = quantizedWeight{q.free(t.name + "_quantized"), q.free(t.name + "_scale")}
		q.weights[t.name] = w
		q.order = append(q.order, t.name)
		q.done.WeightBytes += 4 * t.elements()
	}
	return w
}

// free returns a name that nothing has.
func (q *quantizer) free(name string) string {
	for q.names[name] || q.byName[name] != nil || q.uses[name] > 0 {
		name += "_"
	}
	q.names[name] = true
	return name
}

// plain reports whether a Gemm multiplies by a constant matrix as it is, and adds nothing but one vector of constants.
func (q *quantizer) plain(n *fileNode) bool {
	for _, name := range n.attributeNames {
		if name != "transA" && name != "transB" || n.integers[name] != 0 {
			return false
		}
	}
	weights, bias := q.constant(n.input(1)), q.byName[n.input(2)]
	return weights != nil && (n.input(2) == "" || bias != nil && slices.Equal(bias.dims, weights.dims[1:]))
}

func (q *quantizer) matMul(n *fileNode) {
	w := q.quantized(q.constant(n.input(1)))
	n.replacement = []proto{node(contrib, "DynamicQuantizeMatMul", []string{n.input(0), w.values, w.scales}, n.outputs)}
}

// attention uses the operator for integers where that can do what the node does, else it multiplies apart from it.
func (q *quantizer) attention(n *fileNode) {
	const weights, bias, mask, past, attentionBias = 1, 2, 3, 4, 5
	heads := n.integers["num_heads"]
	for _, name := range n.attributeNames {
		if name != "num_heads" && (name != "unidirectional" && name != "do_rotary" || n.integers[name] != 0) && name != "mask_filter_value" {
			q.done.KeptMatrices++
			return
		}
	}
	if n.input(past) != "" || len(n.inputs) > attentionBias+1 || heads < 1 || n.input(bias) == "" {
		q.done.KeptMatrices++
		return
	}
	t := q.constant(n.input(weights))
	output := n.outputs[0]
	if n.input(attentionBias) == "" {
		w := q.quantized(t)
		x, scale, zero := q.free(output+"_input"), q.free(output+"_input_scale"), q.free(output+"_input_zero")
		n.replacement = []proto{
			node("", "DynamicQuantizeLinear", n.inputs[:1], []string{x, scale, zero}),
			q.withAttributes(n, node(contrib, "QAttention", []string{x, w.values, n.input(bias), scale, w.scales, n.input(mask), zero}, n.outputs)),
		}
		return
	}
	if version := q.opsets[""]; version < 13 || version > 17 || t.dims[1]%3 != 0 {
		q.done.KeptMatrices++
		return
	}
	w := q.quantized(t)
	all, query, key, value := q.free(output+"_qkv"), q.free(output+"_query"), q.free(output+"_key"), q.free(output+"_value")
	n.replacement = []proto{
		node(contrib, "DynamicQuantizeMatMul", []string{n.input(0), w.values, w.scales, "", n.input(bias)}, []string{all}),
		node("", "Split", []string{all}, []string{query, key, value}, attribute{"axis", int64(2)}),
		q.withAttributes(n, node(contrib, "MultiHeadAttention", []string{query, key, value, "", n.input(mask), n.input(attentionBias)}, n.outputs)),
	}
}

// withAttributes adds the attributes of a node that the new one has too.
func (q *quantizer) withAttributes(n *fileNode, p proto) proto {
	for i, a := range n.attributes {
		if name := n.attributeNames[i]; name == "num_heads" || name == "mask_filter_value" {
			p = p.message(5, a)
		}
	}
	return p
}

// quantizeColumns makes a matrix of rows of columns elements int8, with a scale for each column.
func quantizeColumns(values []float32, columns int) ([]byte, []float32, error) {
	scales := make([]float32, columns)
	for i, v := range values {
		if magnitude := float32(math.Abs(float64(v))); magnitude > scales[i%columns] {
			scales[i%columns] = magnitude
		} else if magnitude != magnitude { // NaN
			return nil, nil, errors.New("it holds NaN")
		}
	}
	for c := range scales {
		if math.IsInf(float64(scales[c]), 0) {
			return nil, nil, errors.New("it holds infinity")
		}
		if scales[c] /= maxWeight; scales[c] == 0 {
			scales[c] = 1 // all elements are zero, or nearly so
		}
	}
	quantized := make([]byte, len(values))
	for i, v := range values {
		whole := math.RoundToEven(float64(v) / float64(scales[i%columns]))
		quantized[i] = byte(int8(min(max(whole, -maxWeight), maxWeight)))
	}
	return quantized, scales, nil
}

// write writes the file and its data.
func (q *quantizer) write(ctx context.Context, folder, name string) error {
	graph := proto(nil)
	for i := range q.nodes {
		n := &q.nodes[i]
		if n.replacement == nil {
			graph = graph.message(1, n.raw)
		}
		for _, p := range n.replacement {
			graph = graph.message(1, p)
		}
	}
	graph = append(graph, q.graph...)
	gone := func(name string) bool { _, replaced := q.weights[name]; return replaced && q.uses[name] == 0 }
	dataName := name + ".data"
	// broken is an error of the graph, not of the file that is written.
	var broken error
	err := writeFile(filepath.Join(folder, dataName), func(w io.Writer) error {
		out := &dataWriter{w: w, name: dataName}
		for _, t := range q.initializers {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, replaced := q.weights[t.name]; replaced {
				var tensors []initializer
				if tensors, broken = q.quantizedTensors(t); broken != nil {
					return broken
				}
				for _, i := range tensors {
					p, err := out.tensor(tensor(i.name, i.dataType, i.dims), i.raw)
					if err != nil {
						return err
					}
					graph = graph.message(5, p)
				}
			}
			if gone(t.name) {
				continue
			}
			var section *io.SectionReader
			if t.external {
				if section, broken = q.section(t); broken != nil {
					return broken
				}
			}
			p, err := keep(out, t, section)
			if err != nil {
				return err
			}
			graph = graph.message(5, p)
		}
		return nil
	})
	if broken != nil {
		return broken
	}
	if err != nil {
		return err
	}
	for _, in := range q.inputs {
		if !gone(in.name) {
			graph = graph.message(11, in.raw)
		}
	}
	q.opsets[contrib] = max(q.opsets[contrib], 1)
	model := proto(nil).int(1, max(q.irVersion, 4)) // of earlier files all initializers are inputs
	model = append(model, q.model...).message(7, graph)
	for _, domain := range slices.Sorted(maps.Keys(q.opsets)) {
		model = model.message(8, proto(nil).text(1, domain).int(2, q.opsets[domain]))
	}
	return writeFile(filepath.Join(folder, name), func(w io.Writer) error {
		_, err := w.Write(model)
		return err
	})
}

// quantizedTensors are those that take the place of a matrix.
func (q *quantizer) quantizedTensors(t *fileTensor) ([]initializer, error) {
	values, err := q.read(t)
	if err != nil {
		return nil, err
	}
	quantized, scales, err := quantizeColumns(values, int(t.dims[1]))
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.name, err)
	}
	w := q.weights[t.name]
	return []initializer{
		{name: w.values, dataType: typeInt8, dims: t.dims, raw: quantized},
		{name: w.scales, dataType: typeFloat, dims: t.dims[1:], raw: floats(nil, scales)},
	}, nil
}

// keep returns a tensor as it was, with its data where it can be mapped. section is the data that lies in another file.
func keep(out *dataWriter, t *fileTensor, section *io.SectionReader) (proto, error) {
	switch {
	case t.external:
		return out.copy(tensor(t.name, t.dataType, t.dims), section, section.Size())
	case t.content != nil:
		return out.tensor(tensor(t.name, t.dataType, t.dims), t.content)
	default:
		return t.raw, nil
	}
}

// dataWriter writes large tensors one behind the other, each at the beginning of a page.
type dataWriter struct {
	w    io.Writer
	name string
	at   int64
}

// tensor adds the content to a tensor, or writes it and adds where it is.
func (d *dataWriter) tensor(p proto, content []byte) (proto, error) {
	if len(content) <= inlineBytes {
		return p.message(9, content), nil
	}
	return d.copy(p, bytes.NewReader(content), int64(len(content)))
}

func (d *dataWriter) copy(p proto, r io.Reader, size int64) (proto, error) {
	p = p.external(d.name, d.at, size)
	if _, err := io.CopyN(d.w, r, size); err != nil {
		return nil, err
	}
	gap := (alignBytes - size%alignBytes) % alignBytes
	d.at += size + gap
	_, err := d.w.Write(make([]byte, gap))
	return p, err
}
