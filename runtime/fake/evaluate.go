package fake

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/internal/onnxfile"
)

// value is a tensor whose numbers, where an operator computes with them, have been widened to float64.
type value struct {
	runtime.Tensor
	numbers []float64
}

// newValue returns a computed tensor; the numbers of a float32 tensor are rounded to it.
func newValue(typ engine.ElementType, shape []int64, numbers []float64) *value {
	v := &value{Tensor: runtime.Tensor{Type: typ, Shape: shape}, numbers: numbers}
	for i, n := range numbers {
		switch typ {
		case engine.Float32:
			numbers[i] = float64(float32(n))
			v.Data = binary.NativeEndian.AppendUint32(v.Data, math.Float32bits(float32(n)))
		case engine.Float64:
			v.Data = binary.NativeEndian.AppendUint64(v.Data, math.Float64bits(n))
		case engine.Int64:
			v.Data = binary.NativeEndian.AppendUint64(v.Data, uint64(int64(n)))
		case engine.Uint64:
			v.Data = binary.NativeEndian.AppendUint64(v.Data, uint64(n))
		case engine.Int32:
			v.Data = binary.NativeEndian.AppendUint32(v.Data, uint32(int32(n)))
		case engine.Uint32:
			v.Data = binary.NativeEndian.AppendUint32(v.Data, uint32(n))
		case engine.Int16:
			v.Data = binary.NativeEndian.AppendUint16(v.Data, uint16(int16(n)))
		case engine.Uint16:
			v.Data = binary.NativeEndian.AppendUint16(v.Data, uint16(n))
		case engine.Int8:
			v.Data = append(v.Data, byte(int8(n)))
		case engine.Uint8:
			v.Data = append(v.Data, byte(n))
		case engine.Bool:
			flag := byte(0)
			if n != 0 {
				flag = 1
			}
			v.Data = append(v.Data, flag)
		case engine.String:
			v.Strings = append(v.Strings, strconv.FormatFloat(n, 'g', -1, 64))
		}
	}
	return v
}

// floats returns the elements as numbers.
func (v *value) floats() ([]float64, error) {
	if v.numbers != nil {
		return v.numbers, nil
	}
	numbers := make([]float64, v.Elements())
	for i := range numbers {
		switch v.Type {
		case engine.Float32:
			numbers[i] = float64(math.Float32frombits(binary.NativeEndian.Uint32(v.Data[4*i:])))
		case engine.Float64:
			numbers[i] = math.Float64frombits(binary.NativeEndian.Uint64(v.Data[8*i:]))
		case engine.Int64:
			numbers[i] = float64(int64(binary.NativeEndian.Uint64(v.Data[8*i:])))
		default:
			return nil, fmt.Errorf("the fake runtime does not compute with %s", v.Type)
		}
	}
	v.numbers = numbers
	return numbers, nil
}

// operators holds the operators of ONNX's own domain that can be evaluated. Inputs are present.
var operators = map[string]func(n *onnxfile.Node, in []*value) (*value, error){
	"Identity":  func(_ *onnxfile.Node, in []*value) (*value, error) { return in[0], nil },
	"MatMul":    func(_ *onnxfile.Node, in []*value) (*value, error) { return matMul(in[0], in[1]) },
	"Add":       func(_ *onnxfile.Node, in []*value) (*value, error) { return add(in[0], in[1]) },
	"Gemm":      gemm,
	"Concat":    concat,
	"Reshape":   reshape,
	"Unsqueeze": unsqueeze,
	"ReduceSum": reduceSum,
	"Cast":      cast,
	"Gather":    gather,
}

// evaluate runs the nodes that the outputs need; the others may be of operators that we do not know.
func (m *model) evaluate(inputs []runtime.Tensor, outputs []runtime.Output) (err error) {
	if len(inputs) != len(m.inputs) {
		return fmt.Errorf("got %d inputs, expected %d", len(inputs), len(m.inputs))
	}
	values := map[string]*value{}
	for i := range m.graph.Initializers {
		t := &m.graph.Initializers[i]
		values[t.Name] = &value{Tensor: runtime.Tensor{Type: t.Type, Shape: t.Dims, Data: t.Raw}}
	}
	for i, t := range inputs {
		if err := checkInput(m.inputs[i], t); err != nil {
			return err
		}
		values[m.inputs[i].Name] = &value{Tensor: t}
	}
	for i := range m.graph.Nodes {
		n := &m.graph.Nodes[i]
		f, ok := operators[n.Op]
		if !ok {
			continue // check has seen to it that no output needs it
		}
		in := make([]*value, 0, 3)
		for _, name := range n.Inputs {
			if values[name] == nil {
				return fmt.Errorf("%s: input %q has no value", n.Op, name)
			}
			in = append(in, values[name])
		}
		if len(n.Outputs) != 1 || len(in) < arity[n.Op] {
			return fmt.Errorf("%s: unexpected number of inputs or outputs", n.Op)
		}
		out, err := f(n, in)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Op, err)
		}
		values[n.Outputs[0]] = out
	}
	for i := range outputs {
		o := &outputs[i]
		if o.Index < 0 || o.Index >= len(m.outputs) {
			return fmt.Errorf("there is no output %d", o.Index)
		}
		v := values[m.outputs[o.Index].Name]
		if v == nil {
			return fmt.Errorf("output %q is not computed", m.outputs[o.Index].Name)
		}
		if len(v.Shape) == 0 {
			spec := engine.TensorSpec{Name: m.outputs[o.Index].Name, Type: v.Type, Shape: []int64{}}
			return fmt.Errorf("the model returned %s, a scalar; expected the rows as its first dimension", spec)
		}
		if o.Tensor.Data == nil {
			o.Tensor = runtime.Tensor{Type: v.Type, Shape: slices.Clone(v.Shape), Data: slices.Clone(v.Data), Strings: slices.Clone(v.Strings)}
			continue
		}
		if o.Tensor.Type != v.Type || !slices.Equal(o.Tensor.Shape, v.Shape) || len(o.Tensor.Data) != len(v.Data) {
			return fmt.Errorf("output %q is %s%v, not %s%v", m.outputs[o.Index].Name, v.Type, v.Shape, o.Tensor.Type, o.Tensor.Shape)
		}
		copy(o.Tensor.Data, v.Data)
	}
	return nil
}

// arity is how many inputs an operator has at least, where not 1.
var arity = map[string]int{"Identity": 1, "MatMul": 2, "Add": 2, "Gemm": 2, "Concat": 1, "Reshape": 2, "Unsqueeze": 2, "ReduceSum": 2, "Cast": 1, "Gather": 2}

func checkInput(spec engine.TensorSpec, t runtime.Tensor) error {
	if t.Type != spec.Type {
		return fmt.Errorf("input %q: unexpected data type: got %s, expected %s", spec.Name, t.Type, spec.Type)
	}
	if spec.Shape != nil && len(t.Shape) != len(spec.Shape) {
		return fmt.Errorf("input %q: invalid rank: got %d, expected %d", spec.Name, len(t.Shape), len(spec.Shape))
	}
	for i, d := range spec.Shape {
		if d >= 0 && d != t.Shape[i] {
			return fmt.Errorf("input %q: got invalid dimensions: index %d, got %d, expected %d", spec.Name, i, t.Shape[i], d)
		}
	}
	if t.Type == engine.String && int64(len(t.Strings)) != t.Elements() || t.Type != engine.String && int64(len(t.Data)) != t.Elements()*int64(t.Type.SizeBytes()) {
		return fmt.Errorf("input %q: the data does not fit the shape %v", spec.Name, t.Shape)
	}
	return nil
}

func matMul(a, b *value) (*value, error) {
	if len(a.Shape) != 2 || len(b.Shape) < 1 || len(b.Shape) > 2 || a.Shape[1] != b.Shape[0] || a.Type != b.Type {
		return nil, fmt.Errorf("cannot multiply %s%v and %s%v", a.Type, a.Shape, b.Type, b.Shape)
	}
	x, err := a.floats()
	if err != nil {
		return nil, err
	}
	y, err := b.floats()
	if err != nil {
		return nil, err
	}
	rows, inner, columns := int(a.Shape[0]), int(a.Shape[1]), 1
	shape := []int64{a.Shape[0]}
	if len(b.Shape) == 2 {
		columns = int(b.Shape[1])
		shape = append(shape, b.Shape[1])
	}
	out := make([]float64, rows*columns)
	for r := range rows {
		for c := range columns {
			var sum float64
			for k := range inner {
				sum += x[r*inner+k] * y[k*columns+c]
			}
			out[r*columns+c] = sum
		}
	}
	return newValue(a.Type, shape, out), nil
}

// add broadcasts b over the rows of a: b has one element, or as many as a row of a.
func add(a, b *value) (*value, error) {
	x, err := a.floats()
	if err != nil {
		return nil, err
	}
	y, err := b.floats()
	if err != nil {
		return nil, err
	}
	last := len(a.Shape) - 1
	if a.Type != b.Type || last < 0 || len(y) != 1 && (len(b.Shape) > 2 || int64(len(y)) != a.Shape[last]) {
		return nil, fmt.Errorf("cannot add %s%v and %s%v", a.Type, a.Shape, b.Type, b.Shape)
	}
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] + y[i%len(y)]
	}
	return newValue(a.Type, a.Shape, out), nil
}

func gemm(n *onnxfile.Node, in []*value) (*value, error) {
	if len(n.Ints) > 0 || len(n.Floats) > 0 {
		return nil, fmt.Errorf("attributes are not supported by the fake runtime")
	}
	out, err := matMul(in[0], in[1])
	if err != nil || len(in) < 3 {
		return out, err
	}
	return add(out, in[2])
}

func concat(n *onnxfile.Node, in []*value) (*value, error) {
	rows, columns := int64(0), int64(0)
	for _, v := range in {
		if len(v.Shape) != 2 || rows != 0 && v.Shape[0] != rows || v.Type != in[0].Type || !slices.Equal(n.Ints["axis"], []int64{1}) {
			return nil, fmt.Errorf("only matrices side by side are supported by the fake runtime")
		}
		rows = v.Shape[0]
		columns += v.Shape[1]
	}
	out := make([]float64, rows*columns)
	at := int64(0)
	for _, v := range in {
		x, err := v.floats()
		if err != nil {
			return nil, err
		}
		for r := range rows {
			copy(out[r*columns+at:], x[r*v.Shape[1]:(r+1)*v.Shape[1]])
		}
		at += v.Shape[1]
	}
	return newValue(in[0].Type, []int64{rows, columns}, out), nil
}

func reshape(_ *onnxfile.Node, in []*value) (*value, error) {
	dims, err := in[1].floats()
	if err != nil {
		return nil, err
	}
	shape := make([]int64, len(dims))
	known, free := int64(1), -1
	for i, d := range dims {
		shape[i] = int64(d)
		if d < 0 {
			free = i
		} else {
			known *= int64(d)
		}
	}
	if free >= 0 && known > 0 {
		shape[free] = in[0].Elements() / known
	}
	out := *in[0]
	out.Shape = shape
	if out.Elements() != in[0].Elements() {
		return nil, fmt.Errorf("cannot reshape %v to %v", in[0].Shape, shape)
	}
	return &out, nil
}

func unsqueeze(_ *onnxfile.Node, in []*value) (*value, error) {
	axes, err := in[1].floats()
	if err != nil {
		return nil, err
	}
	if len(axes) != 1 || int(axes[0]) != len(in[0].Shape) {
		return nil, fmt.Errorf("only a new last dimension is supported by the fake runtime")
	}
	out := *in[0]
	out.Shape = append(slices.Clone(in[0].Shape), 1)
	return &out, nil
}

// gather takes rows of a matrix; the result has the shape of the places with the rows behind it.
func gather(n *onnxfile.Node, in []*value) (*value, error) {
	if len(in[0].Shape) != 2 || len(n.Ints["axis"]) > 0 && !slices.Equal(n.Ints["axis"], []int64{0}) {
		return nil, fmt.Errorf("only rows of a matrix are supported by the fake runtime")
	}
	x, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	places, err := in[1].floats()
	if err != nil {
		return nil, err
	}
	rows, width := in[0].Shape[0], in[0].Shape[1]
	out := make([]float64, 0, int64(len(places))*width)
	for _, place := range places {
		at := int64(place)
		if at < 0 || at >= rows {
			return nil, fmt.Errorf("row %d of %d", at, rows)
		}
		out = append(out, x[at*width:(at+1)*width]...)
	}
	return newValue(in[0].Type, append(slices.Clone(in[1].Shape), width), out), nil
}

// cast converts numbers, as far as they fit.
func cast(n *onnxfile.Node, in []*value) (*value, error) {
	x, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	to := n.Ints["to"]
	if len(to) != 1 || onnxfile.ElementType(to[0]) == engine.ElementUnknown || onnxfile.ElementType(to[0]) == engine.Float16 {
		return nil, fmt.Errorf("the type %v is not supported by the fake runtime", to)
	}
	return newValue(onnxfile.ElementType(to[0]), in[0].Shape, slices.Clone(x)), nil
}

// reduceSum adds up the rows of a matrix, or all of its elements to a scalar.
func reduceSum(n *onnxfile.Node, in []*value) (*value, error) {
	axes, err := in[1].floats()
	if err != nil {
		return nil, err
	}
	x, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	if slices.Equal(axes, []float64{0, 1}) && slices.Equal(n.Ints["keepdims"], []int64{0}) {
		var sum float64
		for _, v := range x {
			sum += v
		}
		return newValue(in[0].Type, []int64{}, []float64{sum}), nil
	}
	if len(axes) != 1 || axes[0] != 0 || len(in[0].Shape) != 2 {
		return nil, fmt.Errorf("only the sum over the rows of a matrix, or over all to a scalar, is supported by the fake runtime")
	}
	out := make([]float64, in[0].Shape[1])
	for i, v := range x {
		out[i%len(out)] += v
	}
	return newValue(in[0].Type, []int64{1, in[0].Shape[1]}, out), nil
}
