// Package onnxfile reads and writes the part of the ONNX file format that tests need: small graphs with initializers. The
// format is https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
package onnxfile

import "github.com/f708428e/engine"

// Model is a ModelProto.
type Model struct {
	IRVersion int64
	Producer  string
	// Opsets holds versions by domain; ONNX's own domain is "".
	Opsets map[string]int64
	Graph  Graph
}

// Graph is a GraphProto. Nodes are sorted topologically.
type Graph struct {
	Name            string
	Nodes           []Node
	Initializers    []Tensor
	Inputs, Outputs []Value
}

// Node is a NodeProto.
type Node struct {
	Name, Op, Domain string
	Inputs, Outputs  []string
	// Ints and Floats are the attributes of types INT, INTS and FLOAT by name; INT has one element. Others are not read.
	Ints   map[string][]int64
	Floats map[string]float32
}

// Tensor is a TensorProto with its data as raw bytes.
type Tensor struct {
	Name string
	Type engine.ElementType
	Dims []int64
	// Raw holds the elements in little-endian order.
	Raw []byte
}

// Value is a ValueInfoProto.
type Value struct {
	Name string
	// Type is the type of the elements. engine.ElementUnknown is written as a sequence of float tensors, and read from anything
	// that is no tensor.
	Type engine.ElementType
	// Dims has -1 for a dimension without fixed length. Nil is an unknown shape.
	Dims []int64
}

// dataTypes is TensorProto.DataType.
var dataTypes = map[engine.ElementType]uint64{
	engine.Float32: 1, engine.Uint8: 2, engine.Int8: 3, engine.Uint16: 4, engine.Int16: 5, engine.Int32: 6, engine.Int64: 7,
	engine.String: 8, engine.Bool: 9, engine.Float16: 10, engine.Float64: 11, engine.Uint32: 12, engine.Uint64: 13,
}

// DataType returns the TensorProto.DataType of elements, 0 for those that have none.
func DataType(t engine.ElementType) int64 { return int64(dataTypes[t]) }

// ElementType is the inverse of DataType.
func ElementType(dataType int64) engine.ElementType { return elementType(uint64(dataType)) }

func elementType(dataType uint64) engine.ElementType {
	for t, n := range dataTypes {
		if n == dataType {
			return t
		}
	}
	return engine.ElementUnknown
}

// The AttributeProto.AttributeType values that we write.
const (
	attributeFloat = 1
	attributeInt   = 2
	attributeInts  = 7
)
