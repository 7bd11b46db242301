package csv

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset/text"
)

// kind is how a column's fields are parsed.
type kind uint8

const (
	// kindSkip: the column is not wanted, or its type is none of ours.
	kindSkip kind = iota
	// The numbers stand together: parse tells them from the others by their order.
	kindFloat64
	kindFloat32
	kindInt64
	kindInt32
	kindBool
	kindText
	kindDate
	kindTimestamp
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
	}
	return kindSkip
}

// valueBits is the width of one value: of a text, that of its offset.
func (k kind) valueBits() int64 {
	switch k {
	case kindSkip:
		return 0
	case kindBool:
		return 1
	case kindInt32, kindFloat32, kindDate, kindText:
		return 32
	}
	return 64
}

// column collects the values of one column of a record batch, in memory that becomes the Arrow array's. Its place in the reader's
// columns is its place in the file.
type column struct {
	// What the parsing of a number touches comes first, in one cache line.
	//
	// Constant.
	kind kind
	end  byte // what follows a field: the delimiter, or for the last column LF
	last bool
	// Of the present record batch: the memory of values, in the slice for the kind alone.
	float64s []float64
	int64s   []int64 // also microseconds
	int32s   []int32 // also days, and the offsets of texts
	float32s []float32
	bits     []byte

	// Constant.
	place    int // in the schema of the records; -1 if the column is skipped
	dataType arrow.DataType
	name     string
	wanted   bool // the type is what later steps need, not a guess

	// Of the present record batch. values holds fixed-width values, bits, or offsets; bytes the bytes of texts.
	values, bytes, validity *memory.Buffer
	text                    []byte // all that bytes has room for
	textSize                int    // how much of it is used
	valid                   []byte // nil as long as no row is null
	nulls                   int
}

// grow makes room for rows in all. Those that are there stay.
func (c *column) grow(rows int, allocator memory.Allocator) {
	if c.kind == kindSkip {
		return
	}
	if c.values == nil {
		c.values = memory.NewResizableBuffer(allocator)
		if c.kind == kindText {
			c.bytes = memory.NewResizableBuffer(allocator)
		}
	}
	count := int64(rows)
	if c.kind == kindText {
		count++
	}
	c.values.Resize(int((count*c.kind.valueBits() + 7) / 8))
	b := c.values.Bytes()
	switch c.kind {
	case kindBool:
		c.bits = b
	case kindInt32, kindDate, kindText:
		c.int32s = arrow.Int32Traits.CastFromBytes(b)
	case kindInt64, kindTimestamp:
		c.int64s = arrow.Int64Traits.CastFromBytes(b)
	case kindFloat32:
		c.float32s = arrow.Float32Traits.CastFromBytes(b)
	case kindFloat64:
		c.float64s = arrow.Float64Traits.CastFromBytes(b)
	}
	if c.kind == kindText && c.textSize == 0 {
		c.int32s[0] = 0
	}
	if c.valid != nil {
		c.growValid(rows)
	}
}

// growValid makes room for the validity of rows. New rows are valid.
func (c *column) growValid(rows int) {
	old := len(c.valid)
	c.validity.Resize((rows + 7) / 8)
	c.valid = c.validity.Bytes()
	for i := old; i < len(c.valid); i++ {
		c.valid[i] = 0xff
	}
}

// reserveText makes room for more bytes of text.
func (c *column) reserveText(more int) {
	if need := c.textSize + more; need > len(c.text) {
		// A whole record batch may be as large as its offsets can say.
		c.bytes.Resize(min(max(need, 2*len(c.text), 4096), max(need, math.MaxInt32)))
		c.text = c.bytes.Bytes()
	}
}

// null makes a row null.
func (c *column) null(row int, rows int, allocator memory.Allocator) {
	if c.valid == nil {
		c.validity = memory.NewResizableBuffer(allocator)
		c.growValid(rows)
	}
	c.valid[row>>3] &^= 1 << (row & 7)
	c.nulls++
	switch c.kind {
	case kindBool:
		bitutil.ClearBit(c.bits, row)
	case kindInt32, kindDate:
		c.int32s[row] = 0
	case kindInt64, kindTimestamp:
		c.int64s[row] = 0
	case kindFloat32:
		c.float32s[row] = 0
	case kindFloat64:
		c.float64s[row] = 0
	case kindText:
		c.int32s[row+1] = int32(c.textSize)
	}
}

// undo forgets what was stored for a row, the last one: it will be stored again, perhaps in the next record batch.
func (c *column) undo(row int) {
	if len(c.valid) > 0 && c.valid[row>>3]&(1<<(row&7)) == 0 {
		c.valid[row>>3] |= 1 << (row & 7)
		c.nulls--
	}
	if c.kind == kindText {
		c.textSize = int(c.int32s[row])
	}
}

// appendText stores a text, or returns false if it is not UTF-8, holds NUL, or, without quotes, holds CR.
func (c *column) appendText(b []byte, quoted bool, row int) bool {
	if !plain(b) && textFlaw(b, quoted) != "" {
		return false
	}
	if len(b) > len(c.text)-c.textSize {
		c.reserveText(len(b))
	}
	copy(c.text[c.textSize:], b)
	c.textSize += len(b)
	c.int32s[row+1] = int32(c.textSize)
	return true
}

// plain reports whether b is ASCII without control characters. Tabs are not plain; what is not plain is looked at once more.
func plain(b []byte) bool {
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		// 0x20 less than a byte below 0x20 borrows from its high bit.
		if (w|(w-everyByte*0x20))&everyHigh != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x80 {
			return false
		}
	}
	return true
}

const notUTF8 = "text is not UTF-8"

// textFlaw says what is wrong with a text, or is empty.
func textFlaw(b []byte, quoted bool) string {
	for _, c := range b {
		switch {
		case c == 0:
			return "text holds a NUL byte"
		case c == '\r' && !quoted:
			return "text holds a carriage return (CR) without a line feed (LF)"
		}
	}
	if !utf8.Valid(b) {
		return notUTF8
	}
	return ""
}

// convert parses a value that is not text and not null and stores it, or returns false.
func (c *column) convert(b []byte, row int) bool {
	switch c.kind {
	case kindBool:
		v, ok := parseBool(b)
		if ok {
			bitutil.SetBitTo(c.bits, row, v)
		}
		return ok
	case kindInt32:
		v, ok := parseInt(b)
		c.int32s[row] = int32(v)
		return ok && int64(int32(v)) == v
	case kindInt64:
		v, ok := parseInt(b)
		c.int64s[row] = v
		return ok
	case kindFloat32:
		v, ok := parseFloat32(b)
		c.float32s[row] = v
		return ok
	case kindFloat64:
		v, ok := parseFloat(b)
		c.float64s[row] = v
		return ok
	case kindDate:
		v, ok := text.ParseDate(b)
		c.int32s[row] = v
		return ok
	default:
		v, ok := text.ParseTimestamp(b)
		c.int64s[row] = v
		return ok
	}
}

// array returns the values of the first rows, which the caller releases, and leaves the column empty.
func (c *column) array(rows int) arrow.Array {
	bitsOf := func(count int64) int { return int((count*c.kind.valueBits() + 7) / 8) }
	buffers := []*memory.Buffer{nil, c.values}
	if c.nulls > 0 {
		c.validity.ResizeNoShrink((rows + 7) / 8)
		buffers[0] = c.validity
	}
	if c.kind == kindText {
		shrink(c.values, bitsOf(int64(rows)+1))
		shrink(c.bytes, c.textSize)
		buffers = append(buffers, c.bytes)
	} else {
		shrink(c.values, bitsOf(int64(rows)))
	}
	data := array.NewData(c.dataType, rows, buffers, nil, c.nulls, 0)
	defer data.Release()
	made := array.MakeFromData(data)
	c.release()
	return made
}

// shrink sets a buffer's length and gives memory back if much of it is not used.
func shrink(b *memory.Buffer, size int) {
	if b.Cap() > 4096 && size < b.Cap()/4*3 {
		b.Resize(size)
	} else {
		b.ResizeNoShrink(size)
	}
}

// release drops the column's memory. It may be called more than once.
func (c *column) release() {
	for _, b := range []*memory.Buffer{c.values, c.bytes, c.validity} {
		if b != nil {
			b.Release()
		}
	}
	c.values, c.bytes, c.validity = nil, nil, nil
	c.bits, c.int32s, c.int64s, c.float32s, c.float64s, c.text, c.valid = nil, nil, nil, nil, nil, nil, nil
	c.textSize, c.nulls = 0, 0
}
