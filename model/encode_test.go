package model_test

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message under construction.
type message []byte

func (m message) int(number protowire.Number, value int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(value))
}

func (m message) text(number protowire.Number, value string) message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), value)
}

func (m message) add(number protowire.Number, parts ...message) message {
	for _, part := range parts {
		m = protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), part)
	}
	return m
}

// The element types of the tests.
const (
	onnxFloat    = 1
	onnxInt64    = 7
	onnxDouble   = 11
	onnxBfloat16 = 16
)

// tensorType is a TypeProto; a dimension of 0 is named instead, and no dims at all are no shape.
func tensorType(element int64, dims ...int64) message {
	var shape message
	for _, d := range dims {
		if d == 0 {
			shape = shape.add(1, message(nil).text(2, "N"))
		} else {
			shape = shape.add(1, message(nil).int(1, d))
		}
	}
	tensor := message(nil).int(1, element)
	if len(dims) > 0 {
		tensor = tensor.add(2, shape)
	}
	return message(nil).add(1, tensor)
}

func seqType(inner message) message { return message(nil).add(4, message(nil).add(1, inner)) }

func mapType(key int64, value message) message {
	return message(nil).add(5, message(nil).int(1, key).add(2, value))
}

func value(name string, typ message) message { return message(nil).text(1, name).add(2, typ) }

func node(domain, name string, attributes ...message) message {
	return message(nil).text(1, "x").text(2, "y").text(4, name).add(5, attributes...).text(7, domain)
}

func initializer(name string, raw []byte) message {
	return message(nil).int(1, int64(len(raw)/8)).int(2, onnxDouble).text(8, name).add(9, raw)
}

func externalTensor(name, location, offset, length string) message {
	t := message(nil).int(1, 4).int(2, onnxFloat).text(8, name)
	pairs := [][2]string{{"location", location}, {"offset", offset}, {"length", length}}
	for _, p := range pairs {
		if p[1] != "" {
			t = t.add(13, message(nil).text(1, p[0]).text(2, p[1]))
		}
	}
	return t.int(14, 1)
}

type graph struct {
	nodes, initializers, inputs, outputs []message
}

func (g graph) encode() message {
	return message(nil).add(1, g.nodes...).text(2, "g").add(5, g.initializers...).add(11, g.inputs...).add(12, g.outputs...)
}

// file is a ModelProto with this graph, opset 13 of ai.onnx, and functions.
func (g graph) file(functions ...message) []byte {
	return message(nil).int(1, 8).text(2, "test").text(3, "1.0").add(7, g.encode()).
		add(8, message(nil).text(1, "").int(2, 13)).add(25, functions...)
}

// matrix is a model with one [N, 11] input and one [N, 1] output.
func matrix() graph {
	return graph{
		nodes:        []message{node("", "MatMul")},
		initializers: []message{initializer("weights", make([]byte, 88))},
		inputs:       []message{value("X", tensorType(onnxDouble, 0, 11))},
		outputs:      []message{value("variable", tensorType(onnxDouble, 0, 1))},
	}
}
