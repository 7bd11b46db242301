// Package enginetest has models for tests, written from Go, and the suite that every runtime.Loader must pass. The models run
// on ONNX Runtime and on runtime/fake alike, unless they say otherwise.
package enginetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/internal/onnxfile"
)

// Names of the inputs and outputs of the models with one of each.
const (
	InputName  = "input"
	OutputName = "variable"
)

// WriteModel writes the content of a model into a file of the test's own and returns its path.
func WriteModel(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// encode returns values as elements of type typ.
func encode(typ engine.ElementType, values ...float64) []byte {
	var b []byte
	for _, v := range values {
		switch typ {
		case engine.Float32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case engine.Float64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		case engine.Int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
		case engine.Int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(int64(v)))
		default:
			panic(fmt.Sprintf("enginetest: models of %s are not supported", typ))
		}
	}
	return b
}

func constant(name string, typ engine.ElementType, dims []int64, values ...float64) onnxfile.Tensor {
	return onnxfile.Tensor{Name: name, Type: typ, Dims: dims, Raw: encode(typ, values...)}
}

func marshal(graph onnxfile.Graph) []byte {
	graph.Name = "test"
	return onnxfile.Marshal(&onnxfile.Model{IRVersion: 8, Producer: "enginetest", Opsets: map[string]int64{"": 17}, Graph: graph})
}

// LinearModel returns a model with the input "input" of shape [?, len(weights)] and the output "variable" of shape [?, 1], both
// of type typ (Float32 or Float64): the weighted sum of a row plus intercept.
func LinearModel(typ engine.ElementType, intercept float64, weights ...float64) []byte {
	features := int64(len(weights))
	return marshal(onnxfile.Graph{
		Nodes: []onnxfile.Node{
			{Op: "MatMul", Inputs: []string{InputName, "W"}, Outputs: []string{"product"}},
			{Op: "Add", Inputs: []string{"product", "b"}, Outputs: []string{OutputName}},
		},
		Initializers: []onnxfile.Tensor{
			constant("W", typ, []int64{features, 1}, weights...),
			constant("b", typ, []int64{1}, intercept),
		},
		Inputs:  []onnxfile.Value{{Name: InputName, Type: typ, Dims: []int64{-1, features}}},
		Outputs: []onnxfile.Value{{Name: OutputName, Type: typ, Dims: []int64{-1, 1}}},
	})
}

// ColumnsModel is LinearModel with one input for each of names, of shape [?] for rank 1 or [?, 1] for rank 2.
func ColumnsModel(typ engine.ElementType, rank int, names []string, intercept float64, weights ...float64) []byte {
	graph := onnxfile.Graph{
		Initializers: []onnxfile.Tensor{
			constant("W", typ, []int64{int64(len(weights)), 1}, weights...),
			constant("b", typ, []int64{1}, intercept),
			constant("axes", engine.Int64, []int64{1}, 1),
		},
		Outputs: []onnxfile.Value{{Name: OutputName, Type: typ, Dims: []int64{-1, 1}}},
	}
	parts := make([]string, len(names))
	for i, name := range names {
		dims := []int64{-1, 1}
		parts[i] = name
		if rank == 1 {
			dims = []int64{-1}
			parts[i] = "column:" + name
			graph.Nodes = append(graph.Nodes, onnxfile.Node{Op: "Unsqueeze", Inputs: []string{name, "axes"}, Outputs: parts[i : i+1]})
		}
		graph.Inputs = append(graph.Inputs, onnxfile.Value{Name: name, Type: typ, Dims: dims})
	}
	graph.Nodes = append(graph.Nodes,
		onnxfile.Node{Op: "Concat", Inputs: parts, Outputs: []string{"matrix"}, Ints: map[string][]int64{"axis": {1}}},
		onnxfile.Node{Op: "MatMul", Inputs: []string{"matrix", "W"}, Outputs: []string{"product"}},
		onnxfile.Node{Op: "Add", Inputs: []string{"product", "b"}, Outputs: []string{OutputName}},
	)
	return marshal(graph)
}

// SeveralModel returns a model with the input "input" of shape [?, 2] and four outputs of type typ: "sum" of shape [?, 1], "pair"
// of shape [?, 2] (each value doubled), "flat" of shape [?] (the sum again), and "open", which is pair and declared as [?, ?];
// a runtime may infer the missing length.
func SeveralModel(typ engine.ElementType) []byte {
	return marshal(onnxfile.Graph{
		Nodes: []onnxfile.Node{
			{Op: "MatMul", Inputs: []string{InputName, "ones"}, Outputs: []string{"sum"}},
			{Op: "Gemm", Inputs: []string{InputName, "twos", "zero"}, Outputs: []string{"pair"}},
			{Op: "Reshape", Inputs: []string{"sum", "any"}, Outputs: []string{"flat"}},
			{Op: "Identity", Inputs: []string{"pair"}, Outputs: []string{"open"}},
		},
		Initializers: []onnxfile.Tensor{
			constant("ones", typ, []int64{2, 1}, 1, 1),
			constant("twos", typ, []int64{2, 2}, 2, 0, 0, 2),
			constant("zero", typ, []int64{2}, 0, 0),
			constant("any", engine.Int64, []int64{1}, -1),
		},
		Inputs: []onnxfile.Value{{Name: InputName, Type: typ, Dims: []int64{-1, 2}}},
		Outputs: []onnxfile.Value{
			{Name: "sum", Type: typ, Dims: []int64{-1, 1}}, {Name: "pair", Type: typ, Dims: []int64{-1, 2}},
			{Name: "flat", Type: typ, Dims: []int64{-1}}, {Name: "open", Type: typ, Dims: []int64{-1, -1}},
		},
	})
}

// IdentityModel returns a model whose output "variable" is its input "input", of any type that the runtime knows.
func IdentityModel(typ engine.ElementType, shape ...int64) []byte {
	return marshal(onnxfile.Graph{
		Nodes:   []onnxfile.Node{{Op: "Identity", Inputs: []string{InputName}, Outputs: []string{OutputName}}},
		Inputs:  []onnxfile.Value{{Name: InputName, Type: typ, Dims: shape}},
		Outputs: []onnxfile.Value{{Name: OutputName, Type: typ, Dims: shape}},
	})
}

// IdentitiesModel has an input of each type, named like the type and of shape [?], and an output "out:"+name with the same
// values of shape [?].
func IdentitiesModel(types ...engine.ElementType) []byte {
	var graph onnxfile.Graph
	for _, typ := range types {
		in, out := typ.String(), "out:"+typ.String()
		graph.Nodes = append(graph.Nodes, onnxfile.Node{Op: "Identity", Inputs: []string{in}, Outputs: []string{out}})
		graph.Inputs = append(graph.Inputs, onnxfile.Value{Name: in, Type: typ, Dims: []int64{-1}})
		graph.Outputs = append(graph.Outputs, onnxfile.Value{Name: out, Type: typ, Dims: []int64{-1}})
	}
	return marshal(graph)
}

// TotalModel returns a model that says that its output "variable" has a row for every row of "input" (Float64, [?, 2]), but
// returns their sum, one row.
func TotalModel() []byte {
	return marshal(onnxfile.Graph{
		Nodes:        []onnxfile.Node{{Op: "ReduceSum", Inputs: []string{InputName, "axes"}, Outputs: []string{OutputName}, Ints: map[string][]int64{"keepdims": {1}}}},
		Initializers: []onnxfile.Tensor{constant("axes", engine.Int64, []int64{1}, 0)},
		Inputs:       []onnxfile.Value{{Name: InputName, Type: engine.Float64, Dims: []int64{-1, 2}}},
		Outputs:      []onnxfile.Value{{Name: OutputName, Type: engine.Float64, Dims: []int64{-1, 2}}},
	})
}

// ScalarModel returns a model whose output "variable" is the sum of all elements of "input" (Float64, [?, 2]), a scalar, which it
// declares to have the given shape. The output is a text if the type is String.
func ScalarModel(typ engine.ElementType, declared []int64) []byte {
	return marshal(onnxfile.Graph{
		Nodes: []onnxfile.Node{
			{Op: "ReduceSum", Inputs: []string{InputName, "axes"}, Outputs: []string{"sum"}, Ints: map[string][]int64{"keepdims": {0}}},
			{Op: "Cast", Inputs: []string{"sum"}, Outputs: []string{OutputName}, Ints: map[string][]int64{"to": {onnxfile.DataType(typ)}}},
		},
		Initializers: []onnxfile.Tensor{constant("axes", engine.Int64, []int64{2}, 0, 1)},
		Inputs:       []onnxfile.Value{{Name: InputName, Type: engine.Float64, Dims: []int64{-1, 2}}},
		Outputs:      []onnxfile.Value{{Name: OutputName, Type: typ, Dims: declared}},
	})
}

// CastsModel has the input "input" (Float64, [?, width]) and for each type an output "out:"+name, the input in that type.
func CastsModel(width int64, types ...engine.ElementType) []byte {
	shape := []int64{-1, width}
	graph := onnxfile.Graph{Inputs: []onnxfile.Value{{Name: InputName, Type: engine.Float64, Dims: shape}}}
	for _, typ := range types {
		out := "out:" + typ.String()
		graph.Nodes = append(graph.Nodes, onnxfile.Node{
			Op: "Cast", Inputs: []string{InputName}, Outputs: []string{out}, Ints: map[string][]int64{"to": {onnxfile.DataType(typ)}},
		})
		graph.Outputs = append(graph.Outputs, onnxfile.Value{Name: out, Type: typ, Dims: shape})
	}
	return marshal(graph)
}

// SequenceModel returns a model with the output "variable", equal to "input" (Float32, [?, 2]), and the output "sequence", which
// is no tensor. runtime/fake loads it, if only "variable" is asked for.
func SequenceModel() []byte {
	return marshal(onnxfile.Graph{
		Nodes: []onnxfile.Node{
			{Op: "Identity", Inputs: []string{InputName}, Outputs: []string{OutputName}},
			{Op: "SequenceConstruct", Inputs: []string{InputName}, Outputs: []string{"sequence"}},
		},
		Inputs:  []onnxfile.Value{{Name: InputName, Type: engine.Float32, Dims: []int64{-1, 2}}},
		Outputs: []onnxfile.Value{{Name: OutputName, Type: engine.Float32, Dims: []int64{-1, 2}}, {Name: "sequence"}},
	})
}

// DeepModel returns a model that takes its time: its output is its input (Float64, [?, width]) multiplied by the unit matrix, and
// that by it again, depth times.
func DeepModel(width, depth int) []byte {
	unit := make([]float64, width*width)
	for i := range width {
		unit[i*width+i] = 1
	}
	shape := []int64{-1, int64(width)}
	graph := onnxfile.Graph{
		Initializers: []onnxfile.Tensor{constant("unit", engine.Float64, []int64{int64(width), int64(width)}, unit...)},
		Inputs:       []onnxfile.Value{{Name: InputName, Type: engine.Float64, Dims: shape}},
		Outputs:      []onnxfile.Value{{Name: OutputName, Type: engine.Float64, Dims: shape}},
	}
	from := InputName
	for i := range depth {
		to := fmt.Sprintf("product%d", i)
		if i == depth-1 {
			to = OutputName
		}
		graph.Nodes = append(graph.Nodes, onnxfile.Node{Op: "MatMul", Inputs: []string{from, "unit"}, Outputs: []string{to}})
		from = to
	}
	return marshal(graph)
}

// UnknownDomainModel returns a model with the operator Frobnicate of the domain com.example, which no runtime has.
func UnknownDomainModel() []byte {
	return onnxfile.Marshal(&onnxfile.Model{
		IRVersion: 8, Producer: "enginetest", Opsets: map[string]int64{"": 17, "com.example": 1},
		Graph: onnxfile.Graph{
			Name:    "test",
			Nodes:   []onnxfile.Node{{Op: "Frobnicate", Domain: "com.example", Inputs: []string{InputName}, Outputs: []string{OutputName}}},
			Inputs:  []onnxfile.Value{{Name: InputName, Type: engine.Float64, Dims: []int64{-1, 2}}},
			Outputs: []onnxfile.Value{{Name: OutputName, Type: engine.Float64, Dims: []int64{-1, 2}}},
		},
	})
}
