package postgres

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
)

// copySignature begins what a COPY in binary sends; flags and the length of an extension follow.
var copySignature = []byte("PGCOPY\n\xff\r\n\x00")

const copyHeaderBytes = 11 + 4 + 4

// epochDays and epochMicros are from 1970 to 2000, where Postgres begins to count.
const (
	epochDays   = 10_957
	epochMicros = epochDays * dayMicros
)

// decoder takes a COPY apart, in pieces of any length, and appends its rows to builders. It is not safe for concurrent use.
type decoder struct {
	columns []columnDecoder
	// data is what has come and is not decoded. It is the caller's until the next keep or add, which copy what is left to kept.
	data []byte
	// values are those of the row that next found, nil for nulls; rowBytes is how long the row is.
	values   [][]byte
	rowBytes int
	started  bool
	ended    bool
	kept     []byte
}

// columnDecoder appends the values of one column.
type columnDecoder struct {
	name string
	// append takes a value, or nil for null.
	append func(value []byte) error
	// fixedBits and offsetBits are what a value takes besides its own bytes; width is the bits of each element of a list, or zero.
	fixedBits, offsetBits int64
	text                  bool
	width                 int64
}

func newDecoder(schema *arrow.Schema, builders []array.Builder) (*decoder, error) {
	d := &decoder{values: make([][]byte, schema.NumFields())}
	for i, f := range schema.Fields() {
		c, err := newColumnDecoder(f, builders[i])
		if err != nil {
			return nil, err
		}
		d.columns = append(d.columns, c)
	}
	return d, nil
}

// keep copies what the last piece still holds, so that the caller may use that again.
func (d *decoder) keep() {
	if len(d.data) > 0 {
		d.kept = append(d.kept[:0], d.data...)
		d.data = d.kept
	}
}

// add gives the decoder the next piece. What the last one still holds is kept.
func (d *decoder) add(data []byte) {
	if len(d.data) > 0 {
		d.keep()
		d.kept = append(d.kept, data...)
		data = d.kept
	}
	d.data = data
}

// complete reports whether the end of the rows has come, and nothing behind it.
func (d *decoder) complete() bool { return d.ended && len(d.data) == 0 }

// next finds the next row, or finds that it has not come as a whole. Calling it again without append finds the same row.
func (d *decoder) next() (bool, error) {
	if !d.started {
		if ok, err := d.header(); !ok || err != nil {
			return false, err
		}
	}
	if d.ended {
		if len(d.data) > 0 {
			return false, corrupt("the server sent something after the last row")
		}
		return false, nil
	}
	if len(d.data) < 2 {
		return false, nil
	}
	count := int16(binary.BigEndian.Uint16(d.data)) //nolint:gosec // That is its type.
	switch {
	case count == -1:
		d.ended, d.data = true, d.data[2:]
		return d.next()
	case int(count) != len(d.columns):
		return false, corrupt("the server sent a row of %d columns, expected %d", count, len(d.columns))
	}
	rest := d.data[2:]
	for i := range d.values {
		if len(rest) < 4 {
			return false, nil
		}
		n := int32(binary.BigEndian.Uint32(rest)) //nolint:gosec // That is its type.
		rest = rest[4:]
		switch {
		case n == -1:
			d.values[i] = nil
			continue
		case n < 0:
			return false, corrupt("the server sent a value of %d bytes", n)
		case len(rest) < int(n):
			return false, nil
		}
		d.values[i], rest = rest[:n:n], rest[n:]
	}
	d.rowBytes = len(d.data) - len(rest)
	return true, nil
}

func (d *decoder) header() (bool, error) {
	n := min(len(d.data), len(copySignature))
	if !bytes.Equal(d.data[:n], copySignature[:n]) {
		return false, corrupt("the server sent something that is no COPY in binary")
	}
	if len(d.data) < copyHeaderBytes {
		return false, nil
	}
	extension := uint64(binary.BigEndian.Uint32(d.data[15:]))
	if extension > math.MaxInt32 {
		return false, corrupt("the server sent a header of %d bytes", extension)
	}
	if uint64(len(d.data)) < copyHeaderBytes+extension {
		return false, nil
	}
	d.started, d.data = true, d.data[copyHeaderBytes+extension:]
	return true, nil
}

// bits is what the row that next found takes in a record batch, as dataset.BatchSizeBytes counts.
func (d *decoder) bits() int64 {
	var total int64
	for i, c := range d.columns {
		total += c.fixedBits + c.offsetBits
		switch v := d.values[i]; {
		case c.text:
			total += 8 * int64(len(v))
		case c.width > 0 && len(v) >= 20:
			total += c.width * int64(binary.BigEndian.Uint32(v[12:]))
		}
	}
	return total
}

// append appends the row that next found.
func (d *decoder) append() error {
	for i, c := range d.columns {
		if err := c.append(d.values[i]); err != nil {
			return engine.WrapError("", "column "+quote(c.name), err)
		}
	}
	d.data = d.data[d.rowBytes:]
	return nil
}

func corrupt(format string, args ...any) error {
	return engine.Errorf(engine.KindCorrupt, "", "", format, args...)
}

func refused(format string, args ...any) error {
	return engine.Errorf(engine.KindData, "", "", format, args...)
}

// fixed appends values of so many bytes.
func fixed(bytes int, b array.Builder, add func(v []byte) error) func([]byte) error {
	return func(v []byte) error {
		switch {
		case v == nil:
			b.AppendNull()
			return nil
		case len(v) != bytes:
			return corrupt("the server sent a value of %d bytes, expected %d", len(v), bytes)
		}
		return add(v)
	}
}

func u16(v []byte) uint16 { return binary.BigEndian.Uint16(v) }
func u32(v []byte) uint32 { return binary.BigEndian.Uint32(v) }
func u64(v []byte) uint64 { return binary.BigEndian.Uint64(v) }

func newColumnDecoder(f arrow.Field, builder array.Builder) (columnDecoder, error) {
	c := columnDecoder{name: f.Name}
	if t, ok := f.Type.(arrow.FixedWidthDataType); ok {
		c.fixedBits = int64(t.BitWidth())
	}
	switch b := builder.(type) {
	case *array.StringBuilder:
		c.text, c.offsetBits = true, 32
		c.append = func(v []byte) error {
			switch {
			case v == nil:
				b.AppendNull()
			case !utf8.Valid(v):
				return refused("a text is not UTF-8, as in a database of encoding SQL_ASCII it need not be")
			default:
				b.BinaryBuilder.Append(v)
			}
			return nil
		}
		return c, nil
	case *array.BinaryBuilder:
		c.text, c.offsetBits = true, 32
		c.append = func(v []byte) error {
			if v == nil {
				b.AppendNull()
			} else {
				b.Append(v)
			}
			return nil
		}
		return c, nil
	case *array.ListBuilder:
		element := f.Type.(*arrow.ListType).Elem()
		values, ok := newScalar(element, b.ValueBuilder())
		if !ok {
			return c, unreadable(f)
		}
		c.offsetBits, c.width = 32, int64(element.(arrow.FixedWidthDataType).BitWidth())
		c.append = func(v []byte) error { return appendList(b, values, v) }
		return c, nil
	case *array.FixedSizeListBuilder:
		t := f.Type.(*arrow.FixedSizeListType)
		values, ok := b.ValueBuilder().(*array.Float32Builder)
		if !ok {
			return c, unreadable(f)
		}
		c.fixedBits = 32 * int64(t.Len())
		c.append = func(v []byte) error { return appendVector(b, values, int(t.Len()), v) }
		return c, nil
	}
	var ok bool
	if c.append, ok = newScalar(f.Type, builder); !ok {
		return c, unreadable(f)
	}
	return c, nil
}

func unreadable(f arrow.Field) error {
	return engine.Errorf(engine.KindInternal, opRead, "", "column %q is of type %s, which is not read from Postgres", f.Name, f.Type)
}

// newScalar returns what appends values of a type of fixed length.
func newScalar(t arrow.DataType, builder array.Builder) (appendValue func([]byte) error, ok bool) {
	switch b := builder.(type) {
	case *array.BooleanBuilder:
		return fixed(1, b, func(v []byte) error { b.Append(v[0] != 0); return nil }), true
	case *array.Int16Builder:
		return fixed(2, b, func(v []byte) error { b.Append(int16(u16(v))); return nil }), true //nolint:gosec // That is its type.
	case *array.Int32Builder:
		return fixed(4, b, func(v []byte) error { b.Append(int32(u32(v))); return nil }), true //nolint:gosec // That is its type.
	case *array.Int64Builder:
		return fixed(8, b, func(v []byte) error { b.Append(int64(u64(v))); return nil }), true //nolint:gosec // That is its type.
	case *array.Float32Builder:
		return fixed(4, b, func(v []byte) error { b.Append(math.Float32frombits(u32(v))); return nil }), true
	case *array.Float64Builder:
		return fixed(8, b, func(v []byte) error { b.Append(math.Float64frombits(u64(v))); return nil }), true
	case *array.Date32Builder:
		return fixed(4, b, func(v []byte) error {
			days := int32(u32(v)) //nolint:gosec // That is its type.
			if days == math.MaxInt32 || days == math.MinInt32 || days > math.MaxInt32-epochDays {
				return refused("a date is infinite, which no column here holds")
			}
			b.Append(arrow.Date32(days + epochDays))
			return nil
		}), true
	case *array.TimestampBuilder:
		return fixed(8, b, func(v []byte) error {
			micros := int64(u64(v)) //nolint:gosec // That is its type.
			if micros == math.MaxInt64 || micros == math.MinInt64 {
				return refused("a timestamp is infinite, which no column here holds")
			}
			if micros > math.MaxInt64-epochMicros {
				return refused("a timestamp is after the year 294246, which no column here holds")
			}
			b.Append(arrow.Timestamp(micros + epochMicros))
			return nil
		}), t.ID() == arrow.TIMESTAMP
	default:
		return nil, false
	}
}

// appendList appends an array of one dimension.
func appendList(b *array.ListBuilder, values func([]byte) error, v []byte) error {
	if v == nil {
		b.AppendNull()
		return nil
	}
	if len(v) < 12 {
		return corrupt("the server sent an array of %d bytes", len(v))
	}
	dimensions := u32(v)
	if dimensions == 0 {
		b.Append(true)
		return nil
	}
	if dimensions != 1 {
		return refused("an array has %d dimensions, only one is read", dimensions)
	}
	if len(v) < 20 {
		return corrupt("the server sent an array of %d bytes", len(v))
	}
	count := int64(u32(v[12:]))
	if v = v[20:]; count*4 > int64(len(v)) {
		return corrupt("the server sent an array of %d elements in %d bytes", count, len(v))
	}
	b.Append(true)
	for range count {
		if len(v) < 4 {
			return corrupt("the server sent an array that ends within an element")
		}
		n := int32(u32(v)) //nolint:gosec // That is its type.
		v = v[4:]
		var element []byte
		if n != -1 {
			if n < 0 || int(n) > len(v) {
				return corrupt("the server sent an array that ends within an element")
			}
			element, v = v[:n:n], v[n:]
		}
		if err := values(element); err != nil {
			return err
		}
	}
	if len(v) > 0 {
		return corrupt("the server sent %d bytes after an array", len(v))
	}
	return nil
}

// appendVector appends a vector of pgvector.
func appendVector(b *array.FixedSizeListBuilder, values *array.Float32Builder, length int, v []byte) error {
	if v == nil {
		// Elements are never null, also not those of a null.
		b.Append(false)
		values.Reserve(length)
		for range length {
			values.UnsafeAppend(0)
		}
		return nil
	}
	if len(v) < 4 {
		return corrupt("the server sent a vector of %d bytes", len(v))
	}
	if n := int(u16(v)); n != length || len(v) != 4+4*n {
		return refused("a vector has %d elements, expected %d", n, length)
	}
	b.Append(true)
	values.Reserve(length)
	for at := 4; at < len(v); at += 4 {
		values.UnsafeAppend(math.Float32frombits(u32(v[at:])))
	}
	return nil
}
