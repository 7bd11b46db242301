package operator

import (
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// castDecimals returns the caster from a type of decimals to numbers or text, or nil if there is none. To floats it rounds to the nearest; to
// integers it is exact.
func castDecimals(from arrow.DecimalType, to arrow.DataType) caster {
	scale := from.GetScale()
	var textOf func(column arrow.Array) func(row int) string
	switch from.ID() {
	case arrow.DECIMAL128:
		textOf = func(column arrow.Array) func(int) string {
			values := column.(*array.Decimal128)
			return func(row int) string { return decimalText(values.Value(row).BigInt().String(), int(scale)) }
		}
	case arrow.DECIMAL256:
		textOf = func(column arrow.Array) func(int) string {
			values := column.(*array.Decimal256)
			return func(row int) string { return decimalText(values.Value(row).BigInt().String(), int(scale)) }
		}
	default:
		return nil
	}
	switch to.ID() {
	case arrow.FLOAT64:
		return decimalsInto(to, textOf, func(s string) (float64, bool) {
			v, err := strconv.ParseFloat(s, 64)
			return v, err == nil
		})
	case arrow.FLOAT32:
		return decimalsInto(to, textOf, func(s string) (float32, bool) {
			v, err := strconv.ParseFloat(s, 32)
			return float32(v), err == nil
		})
	case arrow.INT64:
		return decimalsInto(to, textOf, func(s string) (int64, bool) { return wholeDecimal(s, 64) })
	case arrow.INT32:
		return decimalsInto(to, textOf, func(s string) (int32, bool) {
			v, ok := wholeDecimal(s, 32)
			return int32(v), ok //nolint:gosec // It has 32 bits.
		})
	case arrow.STRING:
		return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
			builder := array.NewStringBuilder(allocator)
			defer builder.Release()
			text := textOf(column)
			for i := range column.Len() {
				if column.IsNull(i) {
					builder.AppendNull()
				} else {
					builder.Append(text(i))
				}
			}
			return builder.NewArray(), nil
		}
	}
	return nil
}

// decimalText puts the point into the digits of a decimal.
func decimalText(digits string, scale int) string {
	if scale <= 0 {
		return digits + strings.Repeat("0", -scale)
	}
	digits, negative := strings.CutPrefix(digits, "-")
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	text := digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	if negative {
		return "-" + text
	}
	return text
}

// wholeDecimal is a decimal without a fraction.
func wholeDecimal(s string, bits int) (int64, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if strings.Trim(fraction, "0") != "" {
		return 0, false
	}
	v, err := strconv.ParseInt(whole, 10, bits)
	return v, err == nil
}

func decimalsInto[D arrow.FixedWidthType](to arrow.DataType, textOf func(arrow.Array) func(int) string, parse func(string) (D, bool)) caster {
	return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
		values := newBuffer(allocator, column.Len()*to.(arrow.FixedWidthDataType).Bytes())
		out, text := arrow.GetData[D](values.Bytes()), textOf(column)
		for i := range column.Len() {
			if column.IsNull(i) {
				out[i] = *new(D)
				continue
			}
			v, ok := parse(text(i))
			if !ok {
				values.Release()
				return nil, &badValue{row: i}
			}
			out[i] = v
		}
		return newColumn(to, column, values, allocator), nil
	}
}
