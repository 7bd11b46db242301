package csv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// padding is how many zero bytes follow the last byte of a block, so that words can be loaded across its end. Zero is neither a
// delimiter nor a line end nor a part of a number.
const padding = 16

// dialect knows where fields and rows end. It is constant.
type dialect struct {
	delimiter byte
	quote     byte
	quoting   bool
	// delimiters is the delimiter in every byte of a word.
	delimiters uint64
}

func newDialect(delimiter, quote byte) dialect {
	return dialect{delimiter: delimiter, quote: quote, quoting: quote != 0, delimiters: everyByte * uint64(delimiter)}
}

// field is one field of a row as it stands in the file.
type field struct {
	// text is without the quotes around it, and with doubled quotes undone.
	text   []byte
	quoted bool
}

// flaw is what is wrong with a row.
type flaw uint8

const (
	flawNone flaw = iota
	// flawMore: the row does not end within the bytes that are there.
	flawMore
	// flawAfterQuote: something other than a delimiter or a line end follows a closing quote.
	flawAfterQuote
)

const everyLF = everyByte * '\n'

// fieldEnd returns the place of the first delimiter or LF in b[pos:end], or -1. At least seven bytes must follow end in b.
func (d *dialect) fieldEnd(b []byte, pos, end int) int {
	for ; pos < end; pos += 8 {
		w := binary.LittleEndian.Uint64(b[pos:])
		x, y := w^d.delimiters, w^everyLF
		// The lowest bit that is set is right: borrows only travel upwards.
		if hit := ((x - everyByte) &^ x & everyHigh) | ((y - everyByte) &^ y & everyHigh); hit != 0 {
			if pos += bits.TrailingZeros64(hit) >> 3; pos < end {
				return pos
			}
			return -1
		}
	}
	return -1
}

// quotedEnd returns the place of the quote that closes the field whose opening quote stands at pos, and whether there are
// doubled quotes in between, or -1 if b[:end] does not hold that quote and the byte that follows it.
func (d *dialect) quotedEnd(b []byte, pos, end int) (closing int, doubled bool) {
	for pos++; pos < end; pos += 2 {
		i := bytes.IndexByte(b[pos:end], d.quote)
		if i < 0 || pos+i+1 >= end {
			return -1, false
		}
		pos += i
		if b[pos+1] != d.quote {
			return pos, doubled
		}
		doubled = true
	}
	return -1, false
}

// undouble appends text to scratch with its doubled quotes made single.
func (d *dialect) undouble(scratch, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, d.quote)
		if i < 0 {
			return append(scratch, text...)
		}
		scratch = append(scratch, text[:i+1]...)
		text = text[i+2:]
	}
}

// row takes the row at b[pos:end] apart, in the careful way: for headers, samples, and rows in which something is wrong. It appends to
// fields, whose text lies in b or is new, and returns where the next row begins. With a flaw, the fields are those before it and
// next is the place of the flaw: for flawMore the opening quote of the field that does not end, or end.
func (d *dialect) row(b []byte, pos, end int, fields []field) (_ []field, next int, _ flaw) {
	for {
		if pos >= end {
			return fields, end, flawMore
		}
		var f field
		if d.quoting && b[pos] == d.quote {
			closing, doubled := d.quotedEnd(b, pos, end)
			if closing < 0 {
				return fields, pos, flawMore
			}
			f.quoted, f.text = true, b[pos+1:closing]
			if doubled {
				f.text = d.undouble(nil, f.text)
			}
			pos = closing + 1
			if b[pos] == '\r' {
				if pos+1 >= end {
					return fields, end, flawMore
				}
				if b[pos+1] == '\n' {
					pos++
				}
			}
			if b[pos] != d.delimiter && b[pos] != '\n' {
				return fields, pos, flawAfterQuote
			}
		} else {
			stop := d.fieldEnd(b, pos, end)
			if stop < 0 {
				return fields, end, flawMore
			}
			f.text = b[pos:stop]
			if b[stop] == '\n' {
				f.text = bytes.TrimSuffix(f.text, []byte{'\r'})
			}
			pos = stop
		}
		fields = append(fields, f)
		pos++
		if b[pos-1] == '\n' {
			return fields, pos, flawNone
		}
	}
}

// blank returns how long the line end at b[pos:end] is, or 0 if none stands there.
func blank(b []byte, pos, end int) int {
	switch {
	case pos < end && b[pos] == '\n':
		return 1
	case pos+1 < end && b[pos] == '\r' && b[pos+1] == '\n':
		return 2
	}
	return 0
}

// trim drops blanks and tabs at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nulls knows the texts that mean null. It is constant.
type nulls struct {
	texts []string
	// empty says that the empty text is one of them, onlyEmpty that it is the only one.
	empty, onlyEmpty bool
}

func newNulls(texts []string) nulls {
	if len(texts) == 0 {
		texts = []string{""}
	}
	n := nulls{texts: texts}
	for _, s := range texts {
		n.empty = n.empty || s == ""
	}
	n.onlyEmpty = n.empty && len(texts) == 1
	return n
}

// is reports whether a field means null. Text is trimmed by the caller unless its column is of text.
func (n *nulls) is(text []byte, quoted, isText bool) bool {
	switch {
	case quoted:
		return len(text) == 0 && n.empty && !isText
	case n.onlyEmpty:
		return len(text) == 0
	}
	for _, s := range n.texts {
		if string(text) == s {
			return true
		}
	}
	return false
}
