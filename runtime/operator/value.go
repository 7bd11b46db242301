package operator

import (
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine/internal/notation"
)

// typeName is the job file's name of a type where it has one, else Arrow's.
func typeName(t arrow.DataType) string {
	switch t.ID() {
	case arrow.STRING:
		return "string"
	case arrow.DATE32:
		return "date"
	case arrow.TIMESTAMP:
		if arrow.TypeEqual(t, timestampMicros) {
			return "timestamp"
		}
	}
	return t.String()
}

// maxValueBytes bounds a value in an error message.
const maxValueBytes = 80

// valueText is a value as it stands in an error message.
func valueText(column arrow.Array, row int) string {
	if c, ok := column.(*array.String); ok {
		s := c.Value(row)
		if len(s) > maxValueBytes {
			return strconv.Quote(s[:maxValueBytes]) + "…"
		}
		return strconv.Quote(s)
	}
	if text, ok := appendText(nil, column, row); ok {
		return string(text)
	}
	return column.ValueStr(row)
}

// appendText appends a value as text: integers in decimal, floats in the fewest digits that parse to the same value, with an
// exponent if it is below -6 or above 20, NaN, Inf and -Inf, true and false, dates and times as in ISO 8601.
func appendText(b []byte, column arrow.Array, row int) ([]byte, bool) {
	switch c := column.(type) {
	case *array.Int8:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), true
	case *array.Int16:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), true
	case *array.Int32:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), true
	case *array.Int64:
		return strconv.AppendInt(b, c.Value(row), 10), true
	case *array.Uint8:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), true
	case *array.Uint16:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), true
	case *array.Uint32:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), true
	case *array.Uint64:
		return strconv.AppendUint(b, c.Value(row), 10), true
	case *array.Float32:
		return notation.AppendFloat(b, float64(c.Value(row)), 32), true
	case *array.Float64:
		return notation.AppendFloat(b, c.Value(row), 64), true
	case *array.Boolean:
		return strconv.AppendBool(b, c.Value(row)), true
	case *array.Date32:
		return c.Value(row).ToTime().AppendFormat(b, notation.DateLayout), true
	case *array.Timestamp:
		t := c.DataType().(*arrow.TimestampType)
		b = c.Value(row).ToTime(t.Unit).AppendFormat(b, notation.TimestampLayout)
		if t.TimeZone != "" {
			b = append(b, 'Z')
		}
		return b, true
	default:
		return b, false
	}
}
