package jobplan

import (
	"math"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const hintZipMap = "convert the model with options={'zipmap': False}, or name the outputs that you want in outputs"

// outputArrow are the element types of outputs that become columns.
var outputArrow = map[engine.ElementType]arrow.DataType{
	engine.Float32: arrow.PrimitiveTypes.Float32,
	engine.Float64: arrow.PrimitiveTypes.Float64,
	engine.Int8:    arrow.PrimitiveTypes.Int8,
	engine.Int16:   arrow.PrimitiveTypes.Int16,
	engine.Int32:   arrow.PrimitiveTypes.Int32,
	engine.Int64:   arrow.PrimitiveTypes.Int64,
	engine.Uint8:   arrow.PrimitiveTypes.Uint8,
	engine.Uint16:  arrow.PrimitiveTypes.Uint16,
	engine.Uint32:  arrow.PrimitiveTypes.Uint32,
	engine.Uint64:  arrow.PrimitiveTypes.Uint64,
	engine.Bool:    arrow.FixedWidthTypes.Boolean,
	engine.String:  arrow.BinaryTypes.String,
}

// outputsOf returns the columns that a step appends, in the graph's order.
func outputsOf(op string, infer *enginev1.InferStep, m *model.Model) ([]InferOutput, error) {
	names := make([]string, len(m.Outputs))
	for i, out := range m.Outputs {
		names[i] = out.Name
	}
	for _, name := range sortedKeys(infer.GetOutputs()) {
		if !contains(names, name) {
			return nil, invalid(op, "outputs names %q, which is no output of the model%s", name, suggestion(name, names)).
				WithHint("the model has %s", abridged(names))
		}
	}
	if infer.GetOutput() != "" && len(names) != 1 {
		return nil, invalid(op, "output names one column, the model has %d outputs: %s", len(names), abridged(names)).
			WithHint("set outputs: {%s: %s}", firstName(names), infer.GetOutput())
	}
	var outputs []InferOutput
	seen := map[string]bool{}
	for i, out := range m.Outputs {
		column := outputName(infer, out.Name)
		if column == "" {
			continue
		}
		t, err := outputType(op, out, m)
		if err != nil {
			return nil, err
		}
		if seen[column] {
			return nil, engine.Errorf(engine.KindModel, op, "", "two outputs of the model are named %q", column)
		}
		seen[column] = true
		outputs = append(outputs, InferOutput{Index: i, Name: out.Name, Column: column, Field: arrow.Field{Name: column, Type: t}})
	}
	if len(outputs) == 0 {
		return nil, engine.Errorf(engine.KindModel, op, "", "the model has no outputs")
	}
	return outputs, nil
}

// outputType is the type of an output's column: the elements themselves for [rows] and [rows, 1], or where the graph does not say,
// which is a nil shape, unlike the empty one of a scalar;
// fixed_size_list<item: T not null>[k] for [rows, k]. It agrees with ColumnType of runtime/operator.
func outputType(op string, out engine.TensorSpec, m *model.Model) (arrow.DataType, error) {
	if text, ok := m.Unsupported[out.Name]; ok {
		refusal := engine.Errorf(engine.KindModel, op, "", "the model's output %q is a %s, which no column can hold", out.Name, text)
		if strings.Contains(text, "map(") || strings.HasPrefix(text, "seq(") {
			return nil, refusal.WithHint(hintZipMap)
		}
		return nil, refusal.WithHint("name the outputs that you want in outputs")
	}
	element, ok := outputArrow[out.Type]
	if !ok {
		return nil, engine.Errorf(engine.KindModel, op, "", "the model's output %q has elements of type %s, which no column can hold", out.Name, out.Type).
			WithHint("name the outputs that you want in outputs")
	}
	fixed := len(out.Shape) == 2
	switch {
	case out.Shape != nil && len(out.Shape) == 0:
		return nil, engine.Errorf(engine.KindModel, op, "", "the model's output %q has shape [], which no column can hold: the first dimension must be the rows", out.Name).
			WithHint("name the outputs that you want in outputs")
	case len(out.Shape) < 2 || fixed && out.Shape[1] == 1:
		return element, nil
	case !fixed:
		return nil, engine.Errorf(engine.KindModel, op, "", "the model's output %q has shape %s, which no column can hold; use [rows] or [rows, length]", out.Name, shapeText(out.Shape)).
			WithHint("name the outputs that you want in outputs")
	case out.Shape[1] < 1 || out.Shape[1] > math.MaxInt32:
		return nil, engine.Errorf(engine.KindModel, op, "", "the model's output %q has shape %s: the length of its rows is not fixed", out.Name, shapeText(out.Shape)).
			WithHint("export the model with that length, or name the outputs that you want in outputs")
	default:
		return arrow.FixedSizeListOfNonNullable(int32(out.Shape[1]), element), nil
	}
}

func firstName(names []string) string {
	if len(names) == 0 {
		return "NAME"
	}
	return yamlKey(names[0])
}
