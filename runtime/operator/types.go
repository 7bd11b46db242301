package operator

import (
	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// elementTypes pairs Arrow's types with those of tensors.
var elementTypes = []struct {
	arrow   arrow.DataType
	element engine.ElementType
}{
	{arrow.PrimitiveTypes.Float32, engine.Float32},
	{arrow.PrimitiveTypes.Float64, engine.Float64},
	{arrow.PrimitiveTypes.Int8, engine.Int8},
	{arrow.PrimitiveTypes.Int16, engine.Int16},
	{arrow.PrimitiveTypes.Int32, engine.Int32},
	{arrow.PrimitiveTypes.Int64, engine.Int64},
	{arrow.PrimitiveTypes.Uint8, engine.Uint8},
	{arrow.PrimitiveTypes.Uint16, engine.Uint16},
	{arrow.PrimitiveTypes.Uint32, engine.Uint32},
	{arrow.PrimitiveTypes.Uint64, engine.Uint64},
	{arrow.FixedWidthTypes.Boolean, engine.Bool},
	{arrow.BinaryTypes.String, engine.String},
}

// elementOf returns engine.ElementUnknown for a type without counterpart.
func elementOf(t arrow.DataType) engine.ElementType {
	for _, pair := range elementTypes {
		if pair.arrow.ID() == t.ID() {
			return pair.element
		}
	}
	return engine.ElementUnknown
}

// arrowOf returns nil for an element type without counterpart.
func arrowOf(t engine.ElementType) arrow.DataType {
	for _, pair := range elementTypes {
		if pair.element == t {
			return pair.arrow
		}
	}
	return nil
}

// InferOutput is an output of a model that becomes a column.
type InferOutput struct {
	// Output is the output's place among those of the model.
	Output int
	// Column is the new column's name.
	Column string
}

// ColumnType returns the type of the column that an output of a model becomes, whose first dimension is the rows: a scalar of
// the elements' type for shape [?], [?, 1] and for an output that does not tell its shape (nil); fixed_size_list<item: T not
// null>[k] for [?, k]. Any other shape, a scalar's among them, and a type that no column has (float16, sequences, maps), is an
// error of kind engine.KindModel.
func ColumnType(spec engine.TensorSpec) (arrow.DataType, error) {
	t := arrowOf(spec.Type)
	switch {
	case t == nil:
		return nil, outputError(spec, "its type cannot become a column")
	case spec.Shape != nil && len(spec.Shape) == 0:
		return nil, outputError(spec, "it is a scalar; its first dimension must be the rows")
	case len(spec.Shape) < 2 || len(spec.Shape) == 2 && spec.Shape[1] == 1:
		return t, nil
	case len(spec.Shape) > 2:
		return nil, outputError(spec, "it has %d dimensions; a column can hold [rows] or [rows, length]", len(spec.Shape))
	case spec.Shape[1] < 1:
		return nil, outputError(spec, "the length of its rows is not fixed in the model")
	case spec.Shape[1] > 1<<31-1:
		return nil, outputError(spec, "its rows are too long")
	}
	return arrow.FixedSizeListOfNonNullable(int32(spec.Shape[1]), t), nil
}

func outputError(spec engine.TensorSpec, format string, args ...any) error {
	return engine.Errorf(engine.KindModel, "bind model", "output "+spec.String(), format, args...)
}

// InferSchema returns the schema with a column for each of outputs after the others, with the type that ColumnType gives it and
// without nulls. specs are all outputs of the model. A column that exists already is an error of kind
// engine.KindInvalidArgument; for other errors see ColumnType.
func InferSchema(schema *arrow.Schema, specs []engine.TensorSpec, outputs []InferOutput) (*arrow.Schema, error) {
	const op = "bind model"
	fields := append([]arrow.Field(nil), schema.Fields()...)
	for _, o := range outputs {
		if o.Output < 0 || o.Output >= len(specs) {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "the model has no output %d", o.Output)
		}
		t, err := ColumnType(specs[o.Output])
		if err != nil {
			return nil, err
		}
		fields = append(fields, arrow.Field{Name: o.Column, Type: t})
	}
	return newSchema(op, schema, fields)
}
