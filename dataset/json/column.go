package json

import (
	"strconv"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset/text"
)

// kind is how a column's values are read.
type kind uint8

const (
	// kindSkip: the column is not wanted, or its type is none of ours.
	kindSkip kind = iota
	kindBool
	kindInt32
	kindInt64
	kindFloat32
	kindFloat64
	kindText
	kindDate
	kindTimestamp
	kindList
)

func kindOf(t arrow.DataType) kind {
	switch t.ID() {
	case arrow.BOOL:
		return kindBool
	case arrow.INT32:
		return kindInt32
	case arrow.INT64:
		return kindInt64
	case arrow.FLOAT32:
		return kindFloat32
	case arrow.FLOAT64:
		return kindFloat64
	case arrow.STRING:
		return kindText
	case arrow.DATE32:
		return kindDate
	case arrow.TIMESTAMP:
		if ts := t.(*arrow.TimestampType); ts.Unit == arrow.Microsecond && ts.TimeZone == "" {
			return kindTimestamp
		}
	case arrow.LIST:
		if arrow.TypeEqual(t, listType) {
			return kindList
		}
	}
	return kindSkip
}

// bits is the width of one value; of a text or list, that of its offset.
func (k kind) bits() int64 {
	switch k {
	case kindSkip:
		return 0
	case kindBool:
		return 1
	case kindInt64, kindFloat64, kindTimestamp:
		return 64
	}
	return 32
}

// column collects the values of one column of a record batch.
type column struct {
	// Constant.
	name     string
	dataType arrow.DataType
	kind     kind
	place    int  // in the schema of the records; -1 if the column is skipped
	asText   bool // numbers and booleans are texts too
	// Of the row at work: its value, and which row that is, counted from 1 over all rows.
	value value
	row   int64
	// Exactly the one for kind is set, and nothing for kindSkip.
	bools      *array.BooleanBuilder
	int32s     *array.Int32Builder
	int64s     *array.Int64Builder
	float32s   *array.Float32Builder
	float64s   *array.Float64Builder
	texts      *array.StringBuilder
	dates      *array.Date32Builder
	timestamps *array.TimestampBuilder
	lists      *array.ListBuilder
	items      *array.Float64Builder
	builder    array.Builder
}

func (c *column) build(allocator memory.Allocator) {
	if c.kind == kindSkip {
		return
	}
	c.builder = array.NewBuilder(allocator, c.dataType)
	switch b := c.builder.(type) {
	case *array.BooleanBuilder:
		c.bools = b
	case *array.Int32Builder:
		c.int32s = b
	case *array.Int64Builder:
		c.int64s = b
	case *array.Float32Builder:
		c.float32s = b
	case *array.Float64Builder:
		c.float64s = b
	case *array.StringBuilder:
		c.texts = b
	case *array.Date32Builder:
		c.dates = b
	case *array.TimestampBuilder:
		c.timestamps = b
	case *array.ListBuilder:
		c.lists, c.items = b, b.ValueBuilder().(*array.Float64Builder)
	}
}

// size is how many bits a value takes beyond kind.bits.
func (c *column) size(v value) int64 {
	switch c.kind {
	case kindText:
		return 8 * int64(v.end-v.start) // An escape is longer than what it stands for.
	case kindList:
		return 64 * int64(v.end-v.start) / 2 // A number and a comma take two bytes at least.
	}
	return 0
}

// add appends the value of a row, or returns false if it is none of the column's.
func (c *column) add(b []byte, v value, scratch *[]byte) bool {
	if v.form == formNone || v.form == formNull {
		c.builder.AppendNull()
		return true
	}
	raw := b[v.start:v.end]
	switch c.kind {
	case kindFloat64:
		f, ok := parseFloat(raw, v.form, 64)
		if ok {
			c.float64s.Append(f)
		}
		return ok
	case kindInt64:
		i, ok := parseInt(raw, v.form)
		if ok {
			c.int64s.Append(i)
		}
		return ok
	case kindText:
		switch {
		case v.form == formText && v.escaped:
			*scratch = unescape((*scratch)[:0], raw)
			c.texts.BinaryBuilder.Append(*scratch)
		case v.form == formText, c.asText && v.form < formText:
			c.texts.BinaryBuilder.Append(raw)
		default:
			return false
		}
		return true
	case kindFloat32:
		f, ok := parseFloat(raw, v.form, 32)
		if ok {
			c.float32s.Append(float32(f))
		}
		return ok
	case kindInt32:
		i, ok := parseInt(raw, v.form)
		if ok = ok && int64(int32(i)) == i; ok {
			c.int32s.Append(int32(i))
		}
		return ok
	case kindBool:
		if v.form != formTrue && v.form != formFalse {
			return false
		}
		c.bools.Append(v.form == formTrue)
		return true
	case kindDate:
		days, ok := text.ParseDate(contents(*scratch, b, v))
		if ok = ok && v.form == formText; ok {
			c.dates.Append(arrow.Date32(days))
		}
		return ok
	case kindTimestamp:
		micros, ok := text.ParseTimestamp(contents(*scratch, b, v))
		if ok = ok && v.form == formText; ok {
			c.timestamps.Append(arrow.Timestamp(micros))
		}
		return ok
	case kindList:
		return c.addList(raw, v)
	case kindSkip:
	}
	return false
}

// addList appends a list of numbers and nulls.
func (c *column) addList(raw []byte, v value) bool {
	if v.form != formList || !numbers(raw, nil) {
		return false
	}
	good := true
	c.lists.Append(true)
	numbers(raw, func(item []byte, f form) {
		if f == formNull {
			c.items.AppendNull()
			return
		}
		number, ok := parseFloat(item, f, 64)
		good = good && ok
		c.items.Append(number)
	})
	return good
}

// numbers calls item, which may be nil, for the items of a list that was scanned, and returns false at the first that is neither a
// number nor null.
func numbers(list []byte, item func(raw []byte, f form)) bool {
	s := scanner{b: list, pos: 1}
	for {
		s.space()
		if s.b[s.pos] == ',' {
			s.pos++
			continue
		}
		if s.b[s.pos] == ']' {
			return true
		}
		var v value
		if !s.value(&v, 1) || v.form != formInteger && v.form != formDecimal && v.form != formNull {
			return false
		}
		if item != nil {
			item(list[v.start:v.end], v.form)
		}
	}
}

func parseFloat(raw []byte, f form, bits int) (float64, bool) {
	if f != formInteger && f != formDecimal {
		return 0, false
	}
	v, err := strconv.ParseFloat(asString(raw), bits)
	return v, err == nil
}

func parseInt(raw []byte, f form) (int64, bool) {
	if f != formInteger {
		return 0, false
	}
	v, err := strconv.ParseInt(asString(raw), 10, 64)
	return v, err == nil
}

// asString is b as a string that must not outlive it.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// release drops what has been collected.
func (c *column) release() {
	if c.builder != nil {
		c.builder.Release()
		c.builder = nil
	}
}
