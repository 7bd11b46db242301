package engine

import "fmt"

// ElementType is the type of a tensor's elements. The names are ONNX's.
type ElementType uint8

// The element types that a model's inputs and outputs may have.
const (
	// ElementUnknown is a type that the engine cannot feed or read.
	ElementUnknown ElementType = iota
	Float32
	Float64
	Int32
	Int64
	Bool
	String
	Int8
	Uint8
	Int16
	Uint16
	Uint32
	Uint64
	Float16
)

var elementNames = [...]string{"unknown", "float", "double", "int32", "int64", "bool", "string", "int8", "uint8", "int16", "uint16", "uint32", "uint64", "float16"}

// elementSizes is indexed like elementNames; 0 where elements have no fixed size.
var elementSizes = [...]int{0, 4, 8, 4, 8, 1, 0, 1, 1, 2, 2, 4, 8, 2}

// String returns ONNX's name of the type, such as "double".
func (t ElementType) String() string {
	if int(t) < len(elementNames) {
		return elementNames[t]
	}
	return fmt.Sprintf("element(%d)", uint8(t))
}

// SizeBytes is the size of one element, or 0 for strings and unknown types.
func (t ElementType) SizeBytes() int {
	if int(t) < len(elementSizes) {
		return elementSizes[t]
	}
	return 0
}

// TensorSpec describes one input or output of a model.
type TensorSpec struct {
	// Name is the tensor's name in the graph.
	Name string
	// Type is the type of its elements.
	Type ElementType
	// Shape has one entry a dimension; -1 is a dimension that is not fixed. Nil is a shape that nobody declared; one that is empty,
	// but not nil, is that of a scalar.
	Shape []int64
}

// String returns the spec as "name: double[?, 11]".
func (s TensorSpec) String() string {
	return fmt.Sprintf("%s: %s%s", s.Name, s.Type, shapeText(s.Shape))
}

func shapeText(shape []int64) string {
	text := "["
	for i, d := range shape {
		if i > 0 {
			text += ", "
		}
		if d < 0 {
			text += "?"
		} else {
			text += fmt.Sprint(d)
		}
	}
	return text + "]"
}
