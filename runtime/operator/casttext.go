package operator

import (
	"errors"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/notation"
)

// castToText returns the caster from a type, or nil if its values cannot be written.
func castToText(from arrow.DataType) caster {
	switch from.ID() {
	case arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
		arrow.FLOAT32, arrow.FLOAT64, arrow.DATE32, arrow.TIMESTAMP:
	default:
		return nil
	}
	return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
		builder := array.NewStringBuilder(allocator)
		defer builder.Release()
		builder.Reserve(column.Len())
		var text []byte
		for i := range column.Len() {
			if column.IsNull(i) {
				builder.AppendNull()
				continue
			}
			text, _ = appendText(text[:0], column, i)
			builder.BinaryBuilder.Append(text)
		}
		return builder.NewArray(), nil
	}
}

// castFromText returns the caster to a type, or nil if it has no notation.
func castFromText(to arrow.DataType) caster {
	switch to.ID() {
	case arrow.INT32:
		return parseInto(to, func(s string) (int32, error) {
			v, err := strconv.ParseInt(s, 10, 32)
			return int32(v), err
		})
	case arrow.INT64:
		return parseInto(to, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	case arrow.FLOAT32:
		return parseInto(to, func(s string) (float32, error) {
			v, err := notation.ParseFloat(s, 32)
			return float32(v), err
		})
	case arrow.FLOAT64:
		return parseInto(to, func(s string) (float64, error) { return notation.ParseFloat(s, 64) })
	case arrow.DATE32:
		return parseInto(to, notation.ParseDate)
	case arrow.TIMESTAMP:
		if arrow.TypeEqual(to, timestampMicros) {
			return parseInto(to, notation.ParseTimestamp)
		}
	case arrow.BOOL:
		return parseBools
	}
	return nil
}

func parseInto[D arrow.FixedWidthType](to arrow.DataType, parse func(string) (D, error)) caster {
	return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
		texts := column.(*array.String)
		values := newBuffer(allocator, column.Len()*to.(arrow.FixedWidthDataType).Bytes())
		out := arrow.GetData[D](values.Bytes())
		for i := range texts.Len() {
			if texts.IsNull(i) {
				out[i] = *new(D)
				continue
			}
			v, err := parse(texts.Value(i))
			if err != nil {
				values.Release()
				return nil, &badValue{row: i, text: !errors.Is(err, notation.ErrNotExact) && !errors.Is(err, strconv.ErrRange)}
			}
			out[i] = v
		}
		return newColumn(to, column, values, allocator), nil
	}
}

func parseBools(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
	texts := column.(*array.String)
	values := newBuffer(allocator, int(bitutil.BytesForBits(int64(column.Len()))))
	clear(values.Bytes())
	for i := range texts.Len() {
		if texts.IsNull(i) {
			continue
		}
		v, err := strconv.ParseBool(texts.Value(i))
		if err != nil {
			values.Release()
			return nil, &badValue{row: i, text: true}
		}
		bitutil.SetBitTo(values.Bytes(), i, v)
	}
	return newColumn(arrow.FixedWidthTypes.Boolean, column, values, allocator), nil
}
