package onnxfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

// field is one field of a message; number is set for varint and fixed fields, data for those with a length.
type field struct {
	id     protowire.Number
	number uint64
	data   []byte
}

var errMalformed = errors.New("protobuf parsing failed")

// eachField calls f for every field of a message, and fails on bytes that are no protobuf.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		id, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		v := field{id: id}
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var u uint32
			u, n = protowire.ConsumeFixed32(b)
			v.number = uint64(u)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			v.data, n = protowire.ConsumeBytes(b)
		default:
			n = -1
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// varints returns the elements of a repeated integer field, packed or not.
func (v field) varints() ([]int64, error) {
	if v.data == nil {
		return []int64{int64(v.number)}, nil
	}
	var all []int64
	for b := v.data; len(b) > 0; {
		u, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, errMalformed
		}
		all = append(all, int64(u))
		b = b[n:]
	}
	return all, nil
}

// Unmarshal reads the content of an .onnx file. The tensors' data is not copied.
func Unmarshal(data []byte) (*Model, error) {
	m := &Model{Opsets: map[string]int64{}}
	graph := false
	err := eachField(data, func(v field) error {
		switch v.id {
		case 1:
			m.IRVersion = int64(v.number)
		case 2:
			m.Producer = string(v.data)
		case 7:
			graph = true
			return m.Graph.unmarshal(v.data)
		case 8:
			var domain string
			var version int64
			err := eachField(v.data, func(v field) error {
				switch v.id {
				case 1:
					domain = string(v.data)
				case 2:
					version = int64(v.number)
				}
				return nil
			})
			m.Opsets[domain] = version
			return err
		}
		return nil
	})
	if err == nil && !graph {
		err = errors.New("the file has no graph")
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (g *Graph) unmarshal(data []byte) error {
	return eachField(data, func(v field) (err error) {
		switch v.id {
		case 1:
			n := Node{Ints: map[string][]int64{}, Floats: map[string]float32{}}
			err = n.unmarshal(v.data)
			g.Nodes = append(g.Nodes, n)
		case 2:
			g.Name = string(v.data)
		case 5:
			var t Tensor
			err = t.unmarshal(v.data)
			g.Initializers = append(g.Initializers, t)
		case 11, 12:
			var value Value
			err = value.unmarshal(v.data)
			if v.id == 11 {
				g.Inputs = append(g.Inputs, value)
			} else {
				g.Outputs = append(g.Outputs, value)
			}
		}
		return err
	})
}

func (n *Node) unmarshal(data []byte) error {
	return eachField(data, func(v field) error {
		switch v.id {
		case 1:
			n.Inputs = append(n.Inputs, string(v.data))
		case 2:
			n.Outputs = append(n.Outputs, string(v.data))
		case 3:
			n.Name = string(v.data)
		case 4:
			n.Op = string(v.data)
		case 7:
			n.Domain = string(v.data)
		case 5:
			var name string
			var ints []int64
			var number float32
			var isFloat bool
			err := eachField(v.data, func(v field) error {
				switch v.id {
				case 1:
					name = string(v.data)
				case 2:
					number, isFloat = math.Float32frombits(uint32(v.number)), true
				case 3, 8:
					more, err := v.varints()
					ints = append(ints, more...)
					return err
				}
				return nil
			})
			if isFloat {
				n.Floats[name] = number
			}
			if ints != nil {
				n.Ints[name] = ints
			}
			return err
		}
		return nil
	})
}

func (t *Tensor) unmarshal(data []byte) error {
	var typed []byte // from the fields of one type each
	err := eachField(data, func(v field) error {
		switch v.id {
		case 1:
			more, err := v.varints()
			t.Dims = append(t.Dims, more...)
			return err
		case 2:
			t.Type = elementType(v.number)
		case 4, 10: // float_data, double_data: packed as they lie in memory
			if v.data == nil {
				return errMalformed
			}
			typed = append(typed, v.data...)
		case 7: // int64_data
			more, err := v.varints()
			for _, i := range more {
				typed = binary.LittleEndian.AppendUint64(typed, uint64(i))
			}
			return err
		case 8:
			t.Name = string(v.data)
		case 9:
			t.Raw = v.data
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.Raw == nil {
		t.Raw = typed
	}
	count := int64(1)
	for _, d := range t.Dims {
		if d < 0 || d > 0 && count > int64(len(t.Raw))/d {
			return fmt.Errorf("initializer %q: shape %v does not fit its %d bytes", t.Name, t.Dims, len(t.Raw))
		}
		count *= d
	}
	if size := int64(t.Type.SizeBytes()); count*size != int64(len(t.Raw)) {
		return fmt.Errorf("initializer %q: %d bytes, shape %v of %s needs %d", t.Name, len(t.Raw), t.Dims, t.Type, count*size)
	}
	return nil
}

func (value *Value) unmarshal(data []byte) error {
	value.Type = engine.ElementUnknown
	return eachField(data, func(v field) error {
		switch v.id {
		case 1:
			value.Name = string(v.data)
		case 2:
			return eachField(v.data, func(v field) error {
				if v.id != 1 {
					return nil
				}
				return eachField(v.data, value.unmarshalTensorType)
			})
		}
		return nil
	})
}

func (value *Value) unmarshalTensorType(v field) error {
	switch v.id {
	case 1:
		value.Type = elementType(v.number)
	case 2:
		value.Dims = []int64{}
		return eachField(v.data, func(v field) error {
			dim := int64(-1)
			err := eachField(v.data, func(v field) error {
				if v.id == 1 {
					dim = int64(v.number)
				}
				return nil
			})
			value.Dims = append(value.Dims, dim)
			return err
		})
	}
	return nil
}
