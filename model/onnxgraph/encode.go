package onnxgraph

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// The values of TensorProto.DataType and AttributeProto.AttributeType that are written.
const (
	typeFloat = 1
	typeInt32 = 6
	typeInt64 = 7

	attributeFloat = 1
	attributeInt   = 2
	attributeInts  = 7
)

// proto is a protobuf message that is being written.
type proto []byte

func (p proto) text(field protowire.Number, s string) proto {
	return protowire.AppendString(protowire.AppendTag(p, field, protowire.BytesType), s)
}

func (p proto) message(field protowire.Number, m proto) proto {
	return protowire.AppendBytes(protowire.AppendTag(p, field, protowire.BytesType), m)
}

func (p proto) int(field protowire.Number, v int64) proto {
	return protowire.AppendVarint(protowire.AppendTag(p, field, protowire.VarintType), uint64(v))
}

func (p proto) float(field protowire.Number, v float32) proto {
	return protowire.AppendFixed32(protowire.AppendTag(p, field, protowire.Fixed32Type), math.Float32bits(v))
}

// attribute is one attribute of a node. Its value is an int64, a []int64, or a float32.
type attribute struct {
	name  string
	value any
}

func (a attribute) encode() proto {
	p := proto(nil).text(1, a.name)
	switch v := a.value.(type) {
	case int64:
		return p.int(3, v).int(20, attributeInt)
	case float32:
		return p.float(2, v).int(20, attributeFloat)
	case []int64:
		for _, i := range v {
			p = p.int(8, i)
		}
		return p.int(20, attributeInts)
	}
	panic("onnxgraph: attribute " + a.name + " has a value of no known type")
}

// node returns a NodeProto. Its name is that of its first output.
func node(domain, operator string, inputs, outputs []string, attributes ...attribute) proto {
	var p proto
	for _, s := range inputs {
		p = p.text(1, s)
	}
	for _, s := range outputs {
		p = p.text(2, s)
	}
	p = p.text(3, outputs[0]).text(4, operator)
	for _, a := range attributes {
		p = p.message(5, a.encode())
	}
	if domain != "" {
		p = p.text(7, domain)
	}
	return p
}

// value returns a ValueInfoProto of a tensor. A dimension is an int or a name.
func value(name string, dataType int64, dims ...any) proto {
	var shape proto
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			shape = shape.message(1, proto(nil).int(1, int64(d)))
		case string:
			shape = shape.message(1, proto(nil).text(2, d))
		}
	}
	tensor := proto(nil).int(1, dataType).message(2, shape)
	return proto(nil).text(1, name).message(2, proto(nil).message(1, tensor))
}

// tensor returns the TensorProto of an initializer without its data.
func tensor(name string, dataType int64, dims []int64) proto {
	var p proto
	for _, d := range dims {
		p = p.int(1, d)
	}
	return p.int(2, dataType).text(8, name)
}

// external adds to a TensorProto where its data lies in another file.
func (p proto) external(location string, offset, length int64) proto {
	entry := func(key, v string) proto { return proto(nil).text(1, key).text(2, v) }
	return p.message(13, entry("location", location)).message(13, entry("offset", strconv.FormatInt(offset, 10))).
		message(13, entry("length", strconv.FormatInt(length, 10))).int(14, 1)
}
