package onnxfile

import (
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), data)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// Marshal returns the model as the content of an .onnx file.
func Marshal(m *Model) []byte {
	b := appendVarint(nil, 1, uint64(m.IRVersion))
	b = appendString(b, 2, m.Producer)
	b = appendBytes(b, 7, marshalGraph(&m.Graph))
	for _, domain := range slices.Sorted(maps.Keys(m.Opsets)) {
		b = appendBytes(b, 8, appendVarint(appendString(nil, 1, domain), 2, uint64(m.Opsets[domain])))
	}
	return b
}

func marshalGraph(g *Graph) []byte {
	var b []byte
	for i := range g.Nodes {
		b = appendBytes(b, 1, marshalNode(&g.Nodes[i]))
	}
	b = appendString(b, 2, g.Name)
	for i := range g.Initializers {
		b = appendBytes(b, 5, marshalTensor(&g.Initializers[i]))
	}
	for i := range g.Inputs {
		b = appendBytes(b, 11, marshalValue(&g.Inputs[i]))
	}
	for i := range g.Outputs {
		b = appendBytes(b, 12, marshalValue(&g.Outputs[i]))
	}
	return b
}

func marshalNode(n *Node) []byte {
	var b []byte
	for _, s := range n.Inputs {
		b = appendString(b, 1, s)
	}
	for _, s := range n.Outputs {
		b = appendString(b, 2, s)
	}
	b = appendString(b, 3, n.Name)
	b = appendString(b, 4, n.Op)
	for _, name := range slices.Sorted(maps.Keys(n.Ints)) {
		a := appendString(nil, 1, name)
		if ints := n.Ints[name]; len(ints) == 1 {
			a = appendVarint(appendVarint(a, 3, uint64(ints[0])), 20, attributeInt)
		} else {
			for _, v := range ints {
				a = appendVarint(a, 8, uint64(v))
			}
			a = appendVarint(a, 20, attributeInts)
		}
		b = appendBytes(b, 5, a)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Floats)) {
		a := protowire.AppendTag(appendString(nil, 1, name), 2, protowire.Fixed32Type)
		a = protowire.AppendFixed32(a, math.Float32bits(n.Floats[name]))
		b = appendBytes(b, 5, appendVarint(a, 20, attributeFloat))
	}
	return appendString(b, 7, n.Domain)
}

func marshalTensor(t *Tensor) []byte {
	var b []byte
	for _, d := range t.Dims {
		b = appendVarint(b, 1, uint64(d))
	}
	b = appendVarint(b, 2, dataTypes[t.Type])
	b = appendString(b, 8, t.Name)
	return appendBytes(b, 9, t.Raw)
}

func marshalValue(v *Value) []byte {
	element := v.Type
	if element == engine.ElementUnknown {
		element = engine.Float32
	}
	tensor := appendVarint(nil, 1, dataTypes[element])
	if v.Dims != nil {
		var shape []byte
		for _, d := range v.Dims {
			var dim []byte
			if d >= 0 {
				dim = appendVarint(nil, 1, uint64(d))
			}
			shape = appendBytes(shape, 1, dim)
		}
		tensor = appendBytes(tensor, 2, shape)
	}
	kind := appendBytes(nil, 1, tensor) // TypeProto.tensor_type
	if v.Type == engine.ElementUnknown {
		kind = appendBytes(nil, 4, appendBytes(nil, 1, kind)) // TypeProto.sequence_type of it
	}
	return appendBytes(appendString(nil, 1, v.Name), 2, kind)
}
