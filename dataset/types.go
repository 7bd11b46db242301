package dataset

import (
	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// typeNames lists the types of the job file; MLflow's names stand beside our own.
var typeNames = map[string]arrow.DataType{
	"bool": arrow.FixedWidthTypes.Boolean, "boolean": arrow.FixedWidthTypes.Boolean,
	"int32": arrow.PrimitiveTypes.Int32, "integer": arrow.PrimitiveTypes.Int32,
	"int64": arrow.PrimitiveTypes.Int64, "long": arrow.PrimitiveTypes.Int64,
	"float32": arrow.PrimitiveTypes.Float32, "float": arrow.PrimitiveTypes.Float32,
	"float64": arrow.PrimitiveTypes.Float64, "double": arrow.PrimitiveTypes.Float64,
	"string": arrow.BinaryTypes.String,
	"date":   arrow.FixedWidthTypes.Date32,
	// Microseconds without a zone: what Parquet stores and every reader understands.
	"timestamp": &arrow.TimestampType{Unit: arrow.Microsecond},
}

// ParseType returns the Arrow type of a type name in a job file: bool, int32, int64, float32, float64, string, date, timestamp,
// or MLflow's boolean, integer, long, float, double.
func ParseType(name string) (arrow.DataType, error) {
	if t, ok := typeNames[name]; ok {
		return t, nil
	}
	return nil, engine.Errorf(engine.KindInvalidArgument, "parse type", "", "%q is not a type: use bool, int32, int64, float32, float64, string, date, or timestamp", name)
}

// TypeName returns the job file's name of an Arrow type, or Arrow's own where the job file has none.
func TypeName(t arrow.DataType) string {
	switch t.ID() {
	case arrow.BOOL:
		return "bool"
	case arrow.STRING:
		return "string"
	case arrow.DATE32:
		return "date"
	case arrow.TIMESTAMP:
		if arrow.TypeEqual(t, typeNames["timestamp"]) {
			return "timestamp"
		}
	}
	return t.String()
}
