package jobplan

import (
	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// elementArrow are the element types that the engine feeds to models, each with the Arrow type of the same values.
var elementArrow = map[engine.ElementType]arrow.DataType{
	engine.Float32: arrow.PrimitiveTypes.Float32,
	engine.Float64: arrow.PrimitiveTypes.Float64,
	engine.Int32:   arrow.PrimitiveTypes.Int32,
	engine.Int64:   arrow.PrimitiveTypes.Int64,
	engine.Bool:    arrow.FixedWidthTypes.Boolean,
	engine.String:  arrow.BinaryTypes.String,
}

// signatureTypes are the MLflow types of columns that a tensor can hold.
var signatureTypes = map[string]arrow.DataType{
	"boolean": arrow.FixedWidthTypes.Boolean,
	"integer": arrow.PrimitiveTypes.Int32,
	"long":    arrow.PrimitiveTypes.Int64,
	"float":   arrow.PrimitiveTypes.Float32,
	"double":  arrow.PrimitiveTypes.Float64,
	"string":  arrow.BinaryTypes.String,
}

// feedable reports whether a column may go into a tensor: numbers into floats, integers into integers, bool and text into their
// own. float64 is rounded to float32; every other value must be exact, which is checked when it is fed.
func feedable(column arrow.DataType, element engine.ElementType) bool {
	switch element {
	case engine.Float32, engine.Float64:
		return numericType(column)
	case engine.Int32, engine.Int64:
		return integerType(column)
	case engine.Bool:
		return column.ID() == arrow.BOOL
	case engine.String:
		return column.ID() == arrow.STRING
	default:
		return false
	}
}

// mlflowAccepts reports whether MLflow's schema enforcement takes a column for a type of a signature: only safe widening, as
// _enforce_mlflow_datatype in mlflow/models/utils.py has it.
func mlflowAccepts(column arrow.DataType, signature string) bool {
	want := signatureTypes[signature]
	if want == nil || arrow.TypeEqual(column, want) {
		return want != nil
	}
	unsigned := column.ID() == arrow.UINT8 || column.ID() == arrow.UINT16 || column.ID() == arrow.UINT32 || column.ID() == arrow.UINT64
	switch {
	case floatingType(column) && floatingType(want):
		return bits(column) <= bits(want)
	case integerType(column) && integerType(want):
		return bits(column) < bits(want) || !unsigned && bits(column) == bits(want)
	case integerType(column) && want.ID() == arrow.FLOAT64:
		return bits(column) <= 48
	default:
		return false
	}
}

func bits(t arrow.DataType) int {
	if fixed, ok := t.(arrow.FixedWidthDataType); ok {
		return fixed.BitWidth()
	}
	return 0
}

// castable reports whether the step cast can turn a column into a type of the job file. It says what runtime/operator can do.
func castable(from, to arrow.DataType) bool {
	number := func(t arrow.DataType) bool { return numericType(t) || t.ID() == arrow.BOOL }
	moment := func(t arrow.DataType) bool { return t.ID() == arrow.DATE32 || t.ID() == arrow.TIMESTAMP }
	switch {
	case arrow.TypeEqual(from, to), from.ID() == arrow.STRING:
		return true
	case from.ID() == arrow.DECIMAL128, from.ID() == arrow.DECIMAL256:
		return to.ID() == arrow.STRING || floatingType(to) || to.ID() == arrow.INT32 || to.ID() == arrow.INT64
	case to.ID() == arrow.STRING:
		return number(from) || moment(from)
	case number(to):
		return number(from)
	default:
		return moment(to) && moment(from)
	}
}
