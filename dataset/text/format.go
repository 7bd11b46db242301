package text

import (
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Appender appends the value of a row of one column as text.
type Appender func(dst []byte, row int) []byte

// Style is how a format writes what formats write differently.
type Style struct {
	// Null is a null.
	Null string
	// Quote stands around dates and timestamps.
	Quote string
	// NaN, Infinity, and MinusInfinity are the floats that are no numbers.
	NaN, Infinity, MinusInfinity string
	// Text appends a text.
	Text func(dst []byte, text string) []byte
}

// Writable tells whether NewAppender knows a type.
func Writable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
		arrow.FLOAT32, arrow.FLOAT64, arrow.STRING, arrow.LARGE_STRING, arrow.DATE32, arrow.DATE64, arrow.TIMESTAMP, arrow.DECIMAL128:
		return true
	default:
		return false
	}
}

// NewAppender returns what appends the values of a column, or nil for a type that is not Writable. It is valid as long as the column is.
func NewAppender(column arrow.Array, style *Style) Appender {
	values := newAppender(column, style)
	if values == nil || column.NullN() == 0 {
		return values
	}
	return func(dst []byte, row int) []byte {
		if column.IsNull(row) {
			return append(dst, style.Null...)
		}
		return values(dst, row)
	}
}

func newAppender(column arrow.Array, style *Style) Appender {
	switch a := column.(type) {
	case *array.Boolean:
		return func(dst []byte, row int) []byte { return strconv.AppendBool(dst, a.Value(row)) }
	case *array.Int8:
		return integers(a.Int8Values())
	case *array.Int16:
		return integers(a.Int16Values())
	case *array.Int32:
		return integers(a.Int32Values())
	case *array.Int64:
		return integers(a.Int64Values())
	case *array.Uint8:
		return integers(a.Uint8Values())
	case *array.Uint16:
		return integers(a.Uint16Values())
	case *array.Uint32:
		return integers(a.Uint32Values())
	case *array.Uint64:
		values := a.Uint64Values()
		return func(dst []byte, row int) []byte { return strconv.AppendUint(dst, values[row], 10) }
	case *array.Float32:
		values := a.Float32Values()
		return func(dst []byte, row int) []byte { return style.float(dst, float64(values[row]), 32) }
	case *array.Float64:
		values := a.Float64Values()
		return func(dst []byte, row int) []byte { return style.float(dst, values[row], 64) }
	case *array.String:
		return func(dst []byte, row int) []byte { return style.Text(dst, a.Value(row)) }
	case *array.LargeString:
		return func(dst []byte, row int) []byte { return style.Text(dst, a.Value(row)) }
	case *array.Date32:
		return func(dst []byte, row int) []byte { return style.date(dst, a.Value(row).ToTime()) }
	case *array.Date64:
		return func(dst []byte, row int) []byte { return style.date(dst, a.Value(row).ToTime()) }
	case *array.Timestamp:
		return timestamps(a, style)
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return func(dst []byte, row int) []byte { return append(dst, a.Value(row).ToString(scale)...) }
	}
	return nil
}

func integers[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](values []T) Appender {
	return func(dst []byte, row int) []byte { return strconv.AppendInt(dst, int64(values[row]), 10) }
}

func (s *Style) float(dst []byte, f float64, bits int) []byte {
	switch {
	case f != f:
		return append(dst, s.NaN...)
	case f > math.MaxFloat64:
		return append(dst, s.Infinity...)
	case f < -math.MaxFloat64:
		return append(dst, s.MinusInfinity...)
	}
	return appendFloat(dst, f, bits)
}

// appendFloat appends as few digits as give the float back exactly, one behind the point at least, so that a reader that infers types
// does not take it for an integer.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if magnitude := math.Abs(f); magnitude != 0 && (magnitude < 1e-5 || magnitude >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, bits)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, bits)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

func (s *Style) date(dst []byte, t time.Time) []byte {
	dst = append(dst, s.Quote...)
	return append(appendDate(dst, t), s.Quote...)
}

func appendDate(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, time.DateOnly)
	}
	dst = appendTwo(appendTwo(dst, year/100), year%100)
	dst = appendTwo(append(dst, '-'), int(month))
	return appendTwo(append(dst, '-'), day)
}

func appendTwo(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

func timestamps(a *array.Timestamp, style *Style) Appender {
	t := a.DataType().(*arrow.TimestampType)
	digits := map[arrow.TimeUnit]int{arrow.Second: 0, arrow.Millisecond: 3, arrow.Microsecond: 6, arrow.Nanosecond: 9}[t.Unit]
	perSecond := int64(math.Pow10(digits))
	end := style.Quote
	if t.TimeZone != "" {
		end = "Z" + end
	}
	return func(dst []byte, row int) []byte {
		value := int64(a.Value(row))
		seconds, rest := value/perSecond, value%perSecond
		if rest < 0 {
			seconds, rest = seconds-1, rest+perSecond
		}
		at := time.Unix(seconds, 0).UTC()
		dst = append(appendDate(append(dst, style.Quote...), at), 'T')
		hour, minute, second := at.Clock()
		dst = appendTwo(append(appendTwo(append(appendTwo(dst, hour), ':'), minute), ':'), second)
		if digits > 0 {
			dst = append(dst, '.')
			for unit := perSecond / 10; unit > 0; unit /= 10 {
				dst = append(dst, byte('0'+rest/unit%10))
			}
		}
		return append(dst, end...)
	}
}
