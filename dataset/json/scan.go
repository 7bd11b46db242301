package json

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/f708428e/engine/dataset/text"
)

// form is what a JSON value is.
type form uint8

const (
	formNone form = iota
	formNull
	formTrue
	formFalse
	formInteger
	formDecimal
	formText
	formList
	formObject
)

// value is a value as it stands in a line: b[start:end], of a text without its quotes.
type value struct {
	form       form
	escaped    bool // a text with escapes in it
	start, end int
}

// scanner takes the object of one line apart. What is wrong is in problem, and pos is then its place.
type scanner struct {
	b       []byte
	pos     int
	problem string
}

func (s *scanner) fail(pos int, format string, args ...any) bool {
	s.pos, s.problem = pos, fmt.Sprintf(format, args...)
	return false
}

// found describes what stands at pos, for messages.
func (s *scanner) found() string {
	if s.pos >= len(s.b) {
		return "the end of the line"
	}
	_, size := utf8.DecodeRune(s.b[s.pos:])
	return text.Shown(s.b[s.pos : s.pos+size])
}

func (s *scanner) space() {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// begin enters the object that a line holds.
func (s *scanner) begin() bool {
	s.space()
	if s.pos < len(s.b) && s.b[s.pos] == '{' {
		s.pos++
		return true
	}
	return s.fail(s.pos, "expected an object, found %s", s.found())
}

// member returns the next member of the object that begin has entered; first says that it is the first. After the last, and after
// nothing but blanks behind the object, more is false and problem empty.
func (s *scanner) member(first bool) (key, v value, more bool) {
	s.space()
	switch {
	case s.pos >= len(s.b):
		s.fail(s.pos, "the line ends inside the object")
		return key, v, false
	case s.b[s.pos] == '}':
		s.pos++
		if s.space(); s.pos < len(s.b) {
			s.fail(s.pos, "expected the end of the line, found %s", s.found())
		}
		return key, v, false
	case first:
	case s.b[s.pos] != ',':
		s.fail(s.pos, "expected a comma or }, found %s", s.found())
		return key, v, false
	default:
		s.pos++
		s.space()
	}
	if !s.key(&key) || !s.value(&v, 1) {
		return key, v, false
	}
	return key, v, true
}

// key reads a key and the colon behind it.
func (s *scanner) key(key *value) bool {
	if s.pos >= len(s.b) {
		return s.fail(s.pos, "the line ends inside the object")
	}
	if s.b[s.pos] != '"' {
		return s.fail(s.pos, "expected a key in double quotes, found %s", s.found())
	}
	if !s.text(key) {
		return false
	}
	if s.pos < len(s.b) && s.b[s.pos] == ':' {
		s.pos++
		return true
	}
	if s.space(); s.pos >= len(s.b) || s.b[s.pos] != ':' {
		return s.fail(s.pos, "expected a colon, found %s", s.found())
	}
	s.pos++
	return true
}

// value reads any value.
func (s *scanner) value(v *value, depth int) bool {
	if s.pos < len(s.b) && s.b[s.pos] <= ' ' {
		s.space()
	}
	if s.pos >= len(s.b) {
		return s.fail(s.pos, "expected a value, found the end of the line")
	}
	switch c := s.b[s.pos]; {
	case c == '-' || c-'0' <= 9:
		return s.number(v)
	case c == '"':
		return s.text(v)
	case c == 't':
		return s.word(v, "true", formTrue)
	case c == 'f':
		return s.word(v, "false", formFalse)
	case c == 'n':
		return s.word(v, "null", formNull)
	case c == '[' || c == '{':
		if depth == maxDepth {
			return s.fail(s.pos, "values lie more than %d deep in each other", maxDepth)
		}
		return s.nested(v, c == '{', depth+1)
	}
	return s.fail(s.pos, "expected a value, found %s", s.found())
}

func (s *scanner) word(v *value, word string, f form) bool {
	end := s.pos + len(word)
	if end > len(s.b) || string(s.b[s.pos:end]) != word {
		return s.fail(s.pos, "expected %s, found %s", word, text.Shown(s.b[s.pos:min(end, len(s.b))]))
	}
	*v = value{form: f, start: s.pos, end: end}
	s.pos = end
	return true
}

// nested reads a list or an object.
func (s *scanner) nested(v *value, object bool, depth int) bool {
	closing := byte(']')
	*v = value{form: formList, start: s.pos}
	if object {
		closing, v.form = '}', formObject
	}
	s.pos++
	for first := true; ; first = false {
		s.space()
		switch {
		case s.pos >= len(s.b):
			return s.fail(s.pos, "the line ends inside a value")
		case s.b[s.pos] == closing:
			s.pos++
			v.end = s.pos
			return true
		case first:
		case s.b[s.pos] != ',':
			return s.fail(s.pos, "expected a comma or %c, found %s", closing, s.found())
		default:
			s.pos++
			s.space()
			if s.pos < len(s.b) && s.b[s.pos] == closing {
				return s.fail(s.pos, "expected a value, found %s", s.found())
			}
		}
		var inner value
		if object && !s.key(&inner) || !s.value(&inner, depth) {
			return false
		}
	}
}

func (s *scanner) digits() bool {
	first := s.pos
	for s.pos < len(s.b) && s.b[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > first
}

func (s *scanner) number(v *value) bool {
	start := s.pos
	*v = value{form: formInteger, start: start}
	if s.b[s.pos] == '-' {
		s.pos++
	}
	first := s.pos
	if !s.digits() {
		return s.fail(s.pos, "expected a digit, found %s", s.found())
	}
	if s.b[first] == '0' && s.pos > first+1 {
		return s.fail(start, "the number %s begins with 0", text.Shown(s.b[start:s.pos]))
	}
	if s.pos < len(s.b) && s.b[s.pos] == '.' {
		v.form = formDecimal
		s.pos++
		if !s.digits() {
			return s.fail(s.pos, "expected a digit, found %s", s.found())
		}
	}
	if s.pos < len(s.b) && s.b[s.pos]|0x20 == 'e' {
		v.form = formDecimal
		s.pos++
		if s.pos < len(s.b) && (s.b[s.pos] == '-' || s.b[s.pos] == '+') {
			s.pos++
		}
		if !s.digits() {
			return s.fail(s.pos, "expected a digit, found %s", s.found())
		}
	}
	v.end = s.pos
	return true
}

const (
	everyByte = 0x0101010101010101
	everyHigh = 0x8080808080808080
)

// text reads a text in quotes.
func (s *scanner) text(v *value) bool {
	b, start := s.b, s.pos+1
	*v = value{form: formText, start: start}
	ascii := true
	for pos := start; ; {
		// Up to the next quote, backslash, control character, or byte that is not ASCII. A borrow reaches higher bytes alone.
		for pos+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[pos:])
			quote, back := w^everyByte*'"', w^everyByte*'\\'
			hit := ((w - everyByte*0x20) | w | (quote - everyByte) | (back - everyByte)) & everyHigh
			if hit != 0 {
				pos += bits.TrailingZeros64(hit) >> 3
				break
			}
			pos += 8
		}
		if pos >= len(b) {
			return s.fail(start-1, "the line ends inside the text that begins here")
		}
		switch c := b[pos]; {
		case c == '"':
			if !ascii && !utf8.Valid(b[start:pos]) {
				return s.fail(start, "text is not UTF-8: %s", text.Shown(b[start:pos]))
			}
			v.end = pos
			s.pos = pos + 1
			return true
		case c == '\\':
			v.escaped = true
			size := escapeSize(b[pos:])
			if size == 0 {
				return s.fail(pos, "%s is no escape", text.Shown(b[pos:min(pos+6, len(b))]))
			}
			pos += size
		case c < ' ':
			return s.fail(pos, "control character %q in a text", c)
		default:
			ascii = ascii && c < utf8.RuneSelf
			pos++
		}
	}
}

// escapeSize returns how long the escape is that b begins with, a pair of surrogates counting as one, or 0 if there is none.
func escapeSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r, ok := hex4(b)
		switch {
		case !ok:
			return 0
		case !utf16.IsSurrogate(r):
			return 6
		}
		if low, ok := hex4(b[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return 12
		}
	}
	return 0
}

// hex4 is the number of \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends a text that was scanned to dst, with its escapes undone.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			dst = append(dst, b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'u':
			r, _ := hex4(b[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(b[i:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
			continue
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

// contents returns what a text says, perhaps in scratch.
func contents(scratch, b []byte, v value) []byte {
	if v.escaped {
		return unescape(scratch[:0], b[v.start:v.end])
	}
	return b[v.start:v.end]
}
