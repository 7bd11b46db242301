package csv

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
)

// What field returns instead of the place of the next field.
const (
	fieldPart = -1 // the field is not whole in the block
	fieldBad  = -2 // the value is none of the column, or the row does not have the right number of fields
)

// parse turns rows into values, from pos on, until block or room ends or a row cannot be taken.
//
// A number is parsed before it is known where its field ends. If it is followed by what must follow the field, that was all; whatever
// else it may be, from a null to an error, is left to number and field.
func (r *reader) parse() outcome {
	b, columns, starts := r.block, r.columns, r.starts
	pos, row := r.pos, r.rows
	room := min(r.room, len(starts))
	for pos < r.limit && row < room {
		if b[pos] <= '\r' && len(columns) != 1 {
			if n := blank(b, pos, r.end); n > 0 {
				pos += n
				continue
			}
		}
		begin := pos
		for i := range columns {
			c := &columns[i]
			if c.kind-kindFloat64 <= kindInt32-kindFloat64 {
				// Most numbers end within a word, and need no loop over their characters and no branch on their length.
				w := binary.LittleEndian.Uint64(b[pos:])
				minus := uint64(0)
				if byte(w) == '-' {
					minus = 1
				}
				w >>= minus * 8
				digits := w ^ everyZero
				other := nonDigits(digits)
				// Lengths are in bits. A number that fills the word has stop 64, and a digit or point as stopper.
				stop := uint(bits.TrailingZeros64(other)) &^ 7
				size, fraction := stop, uint(0)
				if byte(w>>(stop&63)) == '.' {
					// The digits behind the point close up to those before it.
					whole := uint64(1)<<(stop&63) - 1
					digits = digits&whole | digits>>8&^whole
					fraction = stop
					stop = uint(bits.TrailingZeros64(other&(other-1))) &^ 7
					size = stop - 8
					fraction = size - fraction
				}
				stopper := byte(w >> (stop & 63))
				next := pos + int(minus) + int(stop>>3)
				if size != 0 && (stopper == c.end || stopper == '\r' && c.last && b[next+1] == '\n') {
					mantissa := int64(eightDigits(digits << ((64 - size) & 63)))
					if stopper == '\r' {
						next++
					}
					if c.kind == kindFloat64 {
						// Seven digits and a small power of ten are exact, so one division rounds once; see decimal.float64.
						f := float64(mantissa) / pow10[fraction>>3&31]
						c.float64s[row] = math.Float64frombits(math.Float64bits(f) ^ minus<<63)
						pos = next + 1
						continue
					}
					if c.kind == kindFloat32 {
						f := float32(mantissa) / float32(pow10[fraction>>3&31])
						c.float32s[row] = math.Float32frombits(math.Float32bits(f) ^ uint32(minus)<<31)
						pos = next + 1
						continue
					}
					if size == stop {
						mantissa = (mantissa ^ -int64(minus)) + int64(minus)
						if c.kind == kindInt64 {
							c.int64s[row] = mantissa
						} else {
							c.int32s[row] = int32(mantissa)
						}
						pos = next + 1
						continue
					}
				}
				if next := r.number(c, pos, row); next >= 0 {
					pos = next
					continue
				}
			}
			next := r.field(c, pos, row)
			if next < 0 {
				r.pos, r.rows = begin, row
				r.undo()
				if next == fieldPart {
					return parsedPart
				}
				return parsedBad
			}
			pos = next
		}
		if pos-begin > r.source.maxLineBytes {
			r.pos, r.rows = begin, row
			r.undo()
			return parsedBad
		}
		if r.texts != nil && row > 0 && r.full(row) {
			r.pos, r.rows = begin, row
			r.undo()
			return parsedFull
		}
		starts[row] = r.base + int64(begin)
		row++
	}
	r.pos, r.rows = pos, row
	return parsedAll
}

// undo takes back what was stored for the row that does not count: the one after rows.
func (r *reader) undo() {
	for i := range r.columns {
		if c := &r.columns[i]; c.kind != kindSkip {
			c.undo(r.rows)
		}
	}
}

// full reports whether the record batch is too large with a row that has just been stored.
func (r *reader) full(row int) bool {
	size := int64(row+1) * r.rowBits
	for _, i := range r.texts {
		size += 8 * int64(r.columns[i].textSize)
	}
	// The size in whole bytes, as dataset.BatchSizeBytes rounds it, is within the limit if and only if this is.
	return size > r.textLimit
}

// number parses a field that holds a long number, and returns the place of the next field. If it is anything else, the result is
// negative and nothing is stored that field will not store over.
func (r *reader) number(c *column, pos, row int) int {
	b := r.block
	d, end := scanDecimal(b, pos)
	if end < 0 {
		return -1
	}
	next := end
	if b[next] == '\r' && c.last {
		next++
	}
	if b[next] != c.end {
		return -1
	}
	switch c.kind {
	case kindFloat64:
		f, ok := d.float64()
		if !ok {
			return -1
		}
		c.float64s[row] = f
	case kindFloat32:
		f, ok := d.float64()
		if !ok {
			return -1
		}
		single, ok := narrow(f)
		if !ok {
			return -1
		}
		c.float32s[row] = single
	default:
		v, ok := d.int64()
		if !ok || !d.integer || d.truncated {
			return -1
		}
		if c.kind == kindInt64 {
			c.int64s[row] = v
			break
		}
		if int64(int32(v)) != v {
			return -1
		}
		c.int32s[row] = int32(v)
	}
	return next + 1
}

// field parses any field, and returns the place of the next one, fieldPart, or fieldBad.
func (r *reader) field(c *column, pos, row int) int {
	b, end := r.block, r.end
	if pos >= end {
		return fieldPart
	}
	var value []byte
	quoted := r.dialect.quoting && b[pos] == r.dialect.quote
	if quoted {
		closing, doubled := r.dialect.quotedEnd(b, pos, end)
		if closing < 0 {
			return fieldPart
		}
		value = b[pos+1 : closing]
		if doubled && c.kind != kindSkip {
			r.scratch = r.dialect.undouble(r.scratch[:0], value)
			value = r.scratch
		}
		pos = closing + 1
		if b[pos] == '\r' && c.last {
			if pos++; pos == end {
				return fieldPart
			}
		}
	} else {
		stop := r.dialect.fieldEnd(b, pos, end)
		if stop < 0 {
			return fieldPart
		}
		value = b[pos:stop]
		if c.last {
			value = bytes.TrimSuffix(value, []byte{'\r'})
		}
		pos = stop
	}
	if b[pos] != c.end {
		return fieldBad
	}
	if c.kind == kindSkip {
		return pos + 1
	}
	isText := c.kind == kindText
	if !isText {
		value = trim(value)
	}
	switch {
	case r.source.nulls.is(value, quoted, isText):
		c.null(row, r.room, r.options.Allocator)
	case isText && !c.appendText(value, quoted, row), !isText && !c.convert(value, row):
		return fieldBad
	}
	return pos + 1
}
