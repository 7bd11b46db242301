package operator

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// CastColumn is a new type for a column.
type CastColumn struct {
	// Index is the column's place in the schema.
	Index int
	// Type is its new type.
	Type arrow.DataType
}

// timestampMicros is what the job file calls timestamp.
var timestampMicros = &arrow.TimestampType{Unit: arrow.Microsecond}

// badValue is a value that the new type cannot hold.
type badValue struct {
	row int
	// text is set where the value is a text that is not written like a value of the new type.
	text bool
}

// caster makes a column of another type. Nulls stay null.
type caster func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue)

// casterFor returns nil if there is no cast between the types.
//
//   - Numbers become numbers if they fit exactly, but float64 to float32 rounds.
//   - Decimals become int32 and int64 if they fit exactly, and the nearest float32 and float64.
//   - Booleans count as 0 and 1, and only these numbers become booleans.
//   - Everything becomes text as appendText says, and text becomes everything by the rules of package strconv, without
//     hexadecimal floats and underscores; dates are 2006-01-02, timestamps 2006-01-02T15:04:05 with an optional fraction, a
//     space for the T, a Z at the end, or no time of day at all.
//   - A date becomes a timestamp at midnight, a timestamp at midnight a date; timestamps of other units and time zones become
//     UTC in microseconds, if they fit exactly.
func casterFor(from, to arrow.DataType) caster {
	if arrow.TypeEqual(from, to) {
		return func(column arrow.Array, _ memory.Allocator) (arrow.Array, *badValue) {
			column.Retain()
			return column, nil
		}
	}
	toTimestamp := arrow.TypeEqual(to, timestampMicros)
	if decimals, ok := from.(arrow.DecimalType); ok {
		return castDecimals(decimals, to)
	}
	switch {
	case to.ID() == arrow.STRING:
		return castToText(from)
	case from.ID() == arrow.STRING:
		return castFromText(to)
	case to.ID() == arrow.BOOL:
		if k := numberKernel(from.ID(), engine.Bool); k != nil {
			return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
				return castToBool(k, column, allocator)
			}
		}
	case elementOf(to) != engine.ElementUnknown:
		if k := numberKernel(from.ID(), elementOf(to)); k != nil {
			return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
				return castNumbers(k, to, column, allocator)
			}
		}
	case from.ID() == arrow.DATE32 && toTimestamp:
		return castTimes[arrow.Date32, int64](to, dateToMicros)
	case from.ID() == arrow.TIMESTAMP && to.ID() == arrow.DATE32:
		unit := from.(*arrow.TimestampType).Unit
		return castTimes[arrow.Timestamp, int32](to, func(t arrow.Timestamp) (int32, bool) { return toDays(int64(t), unit) })
	case from.ID() == arrow.TIMESTAMP && toTimestamp:
		unit := from.(*arrow.TimestampType).Unit
		return castTimes[arrow.Timestamp, int64](to, func(t arrow.Timestamp) (int64, bool) { return toMicros(int64(t), unit) })
	}
	return nil
}

// CastSchema returns the schema with the new types. Everything else of a field stays. A cast that does not exist, or two for one
// column, is an error of kind engine.KindInvalidArgument.
func CastSchema(schema *arrow.Schema, casts []CastColumn) (*arrow.Schema, error) {
	const op = "cast columns"
	fields := slices.Clone(schema.Fields())
	seen := map[int]bool{}
	for _, c := range casts {
		if err := checkIndex(op, schema, c.Index); err != nil {
			return nil, err
		}
		field := &fields[c.Index]
		if seen[c.Index] {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "column %q has two new types", field.Name)
		}
		seen[c.Index] = true
		if casterFor(field.Type, c.Type) == nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "column %q: %s cannot be cast to %s", field.Name, typeName(field.Type), typeName(c.Type))
		}
		field.Type = c.Type
	}
	return newSchema(op, schema, fields)
}

// NewCast returns an operator that changes the types of columns; casterFor in the source lists what is possible. Nulls stay
// null. A value that the new type cannot hold is a *runtime.RowError with column, row and value. Columns whose type does not
// change are not copied. Errors are those of CastSchema.
func NewCast(schema *arrow.Schema, casts []CastColumn, allocator memory.Allocator) (Operator, error) {
	out, err := CastSchema(schema, casts)
	if err != nil {
		return nil, err
	}
	o := &cast{in: schema, out: out, allocator: allocator, casters: make([]caster, schema.NumFields())}
	for _, c := range casts {
		o.casters[c.Index] = casterFor(schema.Field(c.Index).Type, c.Type)
	}
	return o, nil
}

type cast struct {
	in, out   *arrow.Schema
	casters   []caster // by column; nil where nothing changes
	allocator memory.Allocator
}

// Schema implements Operator.
func (o *cast) Schema() *arrow.Schema { return o.out }

// Apply implements Operator.
func (o *cast) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	const op = "cast columns"
	if err := checkInput(op, o.in, in); err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, in.NumCols())
	defer func() {
		for i, c := range columns {
			if c != nil && o.casters[i] != nil {
				c.Release()
			}
		}
	}()
	var first *badValue
	var firstColumn int
	for i := range columns {
		columns[i] = in.Column(i)
		if o.casters[i] == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			columns[i] = nil
			return nil, engine.WrapError(op, "", err)
		}
		var bad *badValue
		columns[i], bad = o.casters[i](in.Column(i), o.allocator)
		if bad != nil {
			columns[i] = nil
			if first == nil || bad.row < first.row {
				first, firstColumn = bad, i
			}
		}
	}
	if first != nil {
		return nil, o.rowError(in, firstColumn, first)
	}
	return array.NewRecord(o.out, columns, in.NumRows()), nil
}

func (o *cast) rowError(in arrow.Record, column int, bad *badValue) error {
	value := valueText(in.Column(column), bad.row)
	target := typeName(o.out.Field(column).Type)
	err := fmt.Errorf("value %s does not fit %s exactly", value, target)
	if bad.text {
		err = fmt.Errorf("value %s is not a valid %s", value, target)
	}
	return &runtime.RowError{Column: in.ColumnName(column), Row: int64(bad.row), Err: err}
}

// newBuffer returns a buffer of n bytes, whose content is not defined.
func newBuffer(allocator memory.Allocator, n int) *memory.Buffer {
	b := memory.NewResizableBuffer(allocator)
	b.Resize(n)
	return b
}

// validity returns a copy of the column's validity bitmap, or nil if it has no nulls.
func validity(column arrow.Array, allocator memory.Allocator) *memory.Buffer {
	if column.NullN() == 0 {
		return nil
	}
	n := column.Len()
	b := newBuffer(allocator, int(bitutil.BytesForBits(int64(n))))
	clear(b.Bytes())
	bitutil.CopyBitmap(column.NullBitmapBytes(), column.Data().Offset(), n, b.Bytes(), 0)
	return b
}

// newColumn makes an array of a fixed-size type of its values, with the nulls of source. It takes over values.
func newColumn(t arrow.DataType, source arrow.Array, values *memory.Buffer, allocator memory.Allocator) arrow.Array {
	valid := validity(source, allocator)
	data := array.NewData(t, source.Len(), []*memory.Buffer{valid, values}, nil, source.NullN(), 0)
	defer data.Release()
	values.Release()
	if valid != nil {
		valid.Release()
	}
	return array.MakeFromData(data)
}

// convertAll runs a kernel over a column. What null slots hold is of no matter.
func convertAll(k kernel, column arrow.Array, dst []byte, size int) *badValue {
	for lo := 0; lo < column.Len(); {
		bad := k(dst, lo, 1, column.Data(), lo, column.Len())
		if bad < 0 {
			break
		}
		if column.IsValid(bad) {
			return &badValue{row: bad}
		}
		clear(dst[bad*size : (bad+1)*size])
		lo = bad + 1
	}
	return nil
}

func castNumbers(k kernel, to arrow.DataType, column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
	size := to.(arrow.FixedWidthDataType).Bytes()
	values := newBuffer(allocator, column.Len()*size)
	if bad := convertAll(k, column, values.Bytes(), size); bad != nil {
		values.Release()
		return nil, bad
	}
	return newColumn(to, column, values, allocator), nil
}

func castToBool(k kernel, column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
	scratch := make([]byte, column.Len())
	if bad := convertAll(k, column, scratch, 1); bad != nil {
		return nil, bad
	}
	values := newBuffer(allocator, int(bitutil.BytesForBits(int64(column.Len()))))
	packBits(values.Bytes(), 0, scratch)
	return newColumn(arrow.FixedWidthTypes.Boolean, column, values, allocator), nil
}

// packBits writes a bit for each byte of flags, from bit at on; at is a multiple of 8, or the bits before are kept.
func packBits(dst []byte, at int, flags []byte) {
	for len(flags) > 0 && at%8 != 0 {
		bitutil.SetBitTo(dst, at, flags[0] != 0)
		flags = flags[1:]
		at++
	}
	for i, out := 0, dst[at/8:]; i < len(flags); i += 8 {
		var b byte
		for j, f := range flags[i:min(i+8, len(flags))] {
			if f != 0 {
				b |= 1 << j
			}
		}
		out[i/8] = b
	}
}

// castTimes casts value by value.
func castTimes[S, D arrow.FixedWidthType](to arrow.DataType, f func(S) (D, bool)) caster {
	return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, *badValue) {
		values := newBuffer(allocator, column.Len()*to.(arrow.FixedWidthDataType).Bytes())
		out := arrow.GetData[D](values.Bytes())
		for i, v := range arrow.GetValues[S](column.Data(), 1) {
			d, ok := f(v)
			if !ok && column.IsValid(i) {
				values.Release()
				return nil, &badValue{row: i}
			}
			out[i] = d
		}
		return newColumn(to, column, values, allocator), nil
	}
}

const microsPerDay int64 = 24 * 60 * 60 * 1_000_000

func dateToMicros(d arrow.Date32) (int64, bool) {
	const most = (1<<63 - 1) / microsPerDay
	return int64(d) * microsPerDay, int64(d) >= -most && int64(d) <= most
}

// microsPer is how many microseconds a unit has; nanoseconds are handled apart.
func microsPer(unit arrow.TimeUnit) int64 {
	switch unit {
	case arrow.Second:
		return 1_000_000
	case arrow.Millisecond:
		return 1_000
	default:
		return 1
	}
}

func toMicros(t int64, unit arrow.TimeUnit) (int64, bool) {
	if unit == arrow.Nanosecond {
		return t / 1_000, t%1_000 == 0
	}
	factor := microsPer(unit)
	micros := t * factor
	return micros, micros/factor == t
}

func toDays(t int64, unit arrow.TimeUnit) (int32, bool) {
	perDay := microsPerDay / microsPer(unit)
	if unit == arrow.Nanosecond {
		perDay = microsPerDay * 1_000
	}
	days := t / perDay
	return int32(days), t%perDay == 0 && int64(int32(days)) == days
}
