package dataset_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

func TestTypes(t *testing.T) {
	// A type's own name comes first, then MLflow's.
	for _, names := range [][]string{
		{"bool", "boolean"}, {"int32", "integer"}, {"int64", "long"}, {"float32", "float"}, {"float64", "double"}, {"string"}, {"date"}, {"timestamp"},
	} {
		for _, name := range names {
			dataType, err := dataset.ParseType(name)
			if err != nil {
				t.Errorf("ParseType(%q): %v", name, err)
				continue
			}
			if got := dataset.TypeName(dataType); got != names[0] {
				t.Errorf("TypeName of %q: %q, want %q", name, got, names[0])
			}
		}
	}
	for _, name := range []string{"", "str", "Float64", "decimal"} {
		if _, err := dataset.ParseType(name); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "float64") {
			t.Errorf("ParseType(%q): %v", name, err)
		}
	}
	for want, dataType := range map[string]arrow.DataType{
		"timestamp[us, tz=UTC]": arrow.FixedWidthTypes.Timestamp_us, "int8": arrow.PrimitiveTypes.Int8, "binary": arrow.BinaryTypes.Binary,
	} {
		if got := dataset.TypeName(dataType); got != want {
			t.Errorf("TypeName: %q, want %q", got, want)
		}
	}
}
