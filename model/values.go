package model

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

// onnxTypes are the names of TensorProto.DataType, which start at 1.
var onnxTypes = [...]string{
	1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16", 11: "double",
	12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
	19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
}

var elementTypes = map[uint64]engine.ElementType{
	1: engine.Float32, 2: engine.Uint8, 3: engine.Int8, 4: engine.Uint16, 5: engine.Int16, 6: engine.Int32, 7: engine.Int64,
	8: engine.String, 9: engine.Bool, 10: engine.Float16, 11: engine.Float64, 12: engine.Uint32, 13: engine.Uint64,
}

func onnxTypeName(t uint64) string {
	if t > 0 && t < uint64(len(onnxTypes)) {
		return onnxTypes[t]
	}
	return "type " + strconv.FormatUint(t, 10)
}

// readValues sets the inputs and outputs of the main graph. Initializers come before inputs in the file, and there may be very
// many of them, so they are looked at in a second pass that remembers only those that are inputs too.
func (g *graphReader) readValues(ctx context.Context, graph field) error {
	var inputs []engine.TensorSpec
	place := map[string]bool{}
	err := g.each(ctx, graph.start, graph.end, func(f field) error {
		if f.number != 11 && f.number != 12 {
			return nil
		}
		spec, unsupported, err := g.readValueInfo(ctx, f)
		if err != nil {
			return err
		}
		if unsupported != "" {
			if g.graph.Unsupported == nil {
				g.graph.Unsupported = map[string]string{}
			}
			g.graph.Unsupported[spec.Name] = unsupported
		}
		if f.number == 11 {
			if place[spec.Name] {
				return fmt.Errorf("%w: two inputs are named %q", errDamaged, spec.Name)
			}
			place[spec.Name] = true
			inputs = append(inputs, spec)
		} else {
			g.graph.Outputs = append(g.graph.Outputs, spec)
		}
		if len(inputs) > maxValues || len(g.graph.Outputs) > maxValues {
			return fmt.Errorf("%w: over %d inputs or outputs", errDamaged, maxValues)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = g.each(ctx, graph.start, graph.end, func(f field) error {
		switch f.number {
		case 5:
			return g.dropInitializer(ctx, f, place)
		case 15:
			// The values of a sparse initializer carry its name.
			return g.each(ctx, f.start, f.end, func(f field) error {
				if f.number == 1 {
					return g.dropInitializer(ctx, f, place)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, spec := range inputs {
		if place[spec.Name] {
			g.graph.Inputs = append(g.graph.Inputs, spec)
		} else {
			delete(g.graph.Unsupported, spec.Name)
		}
	}
	return nil
}

// dropInitializer sets the entry of the input that a TensorProto gives a default, if there is one.
func (g *graphReader) dropInitializer(ctx context.Context, tensor field, inputs map[string]bool) error {
	return g.each(ctx, tensor.start, tensor.end, func(f field) error {
		if f.number != 8 {
			return nil
		}
		name, err := g.text(f)
		if inputs[name] {
			inputs[name] = false
		}
		return err
	})
}

// readValueInfo reads a ValueInfoProto. The second result describes a type that the spec cannot express.
func (g *graphReader) readValueInfo(ctx context.Context, f field) (spec engine.TensorSpec, unsupported string, err error) {
	if err := message(f, 0); err != nil {
		return spec, "", err
	}
	unsupported = "no type"
	err = g.each(ctx, f.start, f.end, func(f field) (err error) {
		switch f.number {
		case 1:
			spec.Name, err = g.text(f)
		case 2:
			unsupported, err = g.readType(ctx, f, &spec, 0)
		}
		return err
	})
	return spec, unsupported, err
}

// readType reads a TypeProto: a tensor of an element type that we know into spec, anything else into the description it returns.
func (g *graphReader) readType(ctx context.Context, f field, spec *engine.TensorSpec, depth int) (unsupported string, err error) {
	if err := message(f, depth); err != nil {
		return "", err
	}
	unsupported = "no type"
	err = g.each(ctx, f.start, f.end, func(f field) (err error) {
		if f.number == 6 {
			return nil // The denotation is for people.
		}
		if err := message(f, depth); err != nil {
			return err
		}
		switch f.number {
		case 1, 8:
			var element uint64
			if element, spec.Shape, err = g.readTensorType(ctx, f); err != nil {
				return err
			}
			spec.Type, unsupported = elementTypes[element], ""
			if f.number == 8 {
				spec.Type, unsupported = engine.ElementUnknown, "sparse_tensor("+onnxTypeName(element)+")"
			} else if spec.Type == engine.ElementUnknown {
				unsupported = "tensor(" + onnxTypeName(element) + ")"
			}
		case 4, 9:
			var inner string
			inner, err = g.readInner(ctx, f, 1, depth)
			unsupported = map[protowire.Number]string{4: "seq", 9: "optional"}[f.number] + "(" + inner + ")"
		case 5:
			unsupported, err = g.readMapType(ctx, f, depth)
		default:
			unsupported = "opaque"
		}
		return err
	})
	return unsupported, err
}

// readInner describes the TypeProto in field number of a container type.
func (g *graphReader) readInner(ctx context.Context, container field, number protowire.Number, depth int) (text string, err error) {
	text = "?"
	err = g.each(ctx, container.start, container.end, func(f field) error {
		if f.number != number {
			return nil
		}
		var spec engine.TensorSpec
		text, err = g.readType(ctx, f, &spec, depth+1)
		if text == "" {
			text = "tensor(" + spec.Type.String() + ")"
		}
		return err
	})
	return text, err
}

func (g *graphReader) readMapType(ctx context.Context, f field, depth int) (string, error) {
	var key uint64
	err := g.each(ctx, f.start, f.end, func(f field) error {
		if f.number == 1 {
			key = f.value
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	value, err := g.readInner(ctx, f, 2, depth)
	return "map(" + onnxTypeName(key) + ", " + value + ")", err
}

// readTensorType reads a TypeProto.Tensor. A shape of nil means that there is none.
func (g *graphReader) readTensorType(ctx context.Context, f field) (element uint64, shape []int64, err error) {
	err = g.each(ctx, f.start, f.end, func(f field) error {
		switch f.number {
		case 1:
			element = f.value
		case 2:
			if err := message(f, 0); err != nil {
				return err
			}
			shape = []int64{}
			return g.each(ctx, f.start, f.end, func(f field) error {
				if f.number != 1 {
					return nil
				}
				if len(shape) == maxDims {
					return fmt.Errorf("%w: a shape of over %d dimensions", errDamaged, maxDims)
				}
				dim, err := g.readDim(ctx, f)
				shape = append(shape, dim)
				return err
			})
		}
		return nil
	})
	return element, shape, err
}

// readDim reads a dimension: its value, or -1 if it is named or not given.
func (g *graphReader) readDim(ctx context.Context, f field) (int64, error) {
	dim := int64(-1)
	if err := message(f, 0); err != nil {
		return dim, err
	}
	err := g.each(ctx, f.start, f.end, func(f field) error {
		if f.number == 1 && f.kind == protowire.VarintType {
			dim = max(-1, int64(f.value))
		}
		return nil
	})
	return dim, err
}

// walkTensor notes where the data of a TensorProto lies if that is another file.
func (g *graphReader) walkTensor(ctx context.Context, f field) error {
	if err := message(f, 0); err != nil {
		return err
	}
	name, location, external := "", "", false
	var offset, length int64
	content := extent{elements: 1}
	err := g.each(ctx, f.start, f.end, func(f field) (err error) {
		switch f.number {
		case 1:
			err = g.readDims(f, &content)
		case 4, 5, 6, 7, 9, 10, 11:
			content.add(f)
		case 8:
			name, err = g.text(f)
		case 13:
			var key, value string
			if err := message(f, 0); err != nil {
				return err
			}
			err = g.each(ctx, f.start, f.end, func(f field) (err error) {
				switch f.number {
				case 1:
					key, err = g.text(f)
				case 2:
					value, err = g.text(f)
				}
				return err
			})
			if err != nil {
				return err
			}
			switch key {
			case "location":
				location = value
			case "offset":
				offset, err = strconv.ParseInt(value, 10, 64)
			case "length":
				length, err = strconv.ParseInt(value, 10, 64)
			}
			if err != nil || offset < 0 || length < 0 || offset > math.MaxInt64-length {
				return engine.Errorf(engine.KindModel, op, "", "tensor %q: external data has %s %q", name, key, value)
			}
		case 14:
			external = f.value == 1
		}
		return err
	})
	if err != nil {
		return err
	}
	if !external {
		return content.check(name)
	}
	if location == "" {
		return engine.Errorf(engine.KindModel, op, "", "tensor %q: external data has no location", name)
	}
	g.external[location] = max(g.external[location], offset+length)
	if len(g.external) > maxExternal {
		return fmt.Errorf("%w: over %d files of external data", errDamaged, maxExternal)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func joinNames(names []string) string { return strings.Join(names, ", ") }
