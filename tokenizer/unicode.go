package tokenizer

import (
	_ "embed" // unicode.bin
	"encoding/binary"
	"slices"
	"sync"
	"unicode/utf8"
)

// Properties of a code point, in the order of testdata/gen_tables.py.
const (
	propBertDrop   = 1 << iota // removed by BertNormalizer's clean_text
	propBertSpace              // made a space by it
	propCJK                    // set apart by handle_chinese_chars
	propMn                     // removed by strip_accents, after NFD
	propPunct                  // punctuation to BertPreTokenizer and Punctuation
	propWhite                  // White_Space
	propLetter                 // \p{L} in Oniguruma
	propNumber                 // \p{N} in Oniguruma
	propWord                   // \w in the regex crate
	propNumeric                // char::is_numeric of Rust
	propMark                   // removed by the normalizer StripAccents
	propInCBExtend             // InCB=Extend
	propInCBLinker             // InCB=Linker
)

const (
	pageBits = 7
	pageSize = 1 << pageBits
)

// codePoint is all that is known of one code point. The last three index charTables.strings; 0 is "itself".
type codePoint struct {
	props  uint16
	class  uint8 // canonical combining class
	gcb    uint8 // grapheme cluster break, gcb...
	canon  uint16
	compat uint16
	lower  uint16
}

// charTables is unicode.bin unpacked: two levels, equal pages shared. Immutable.
type charTables struct {
	index   [utf8.MaxRune>>pageBits + 1]uint16
	pages   [][pageSize]codePoint
	strings [][]rune
	compose map[uint64]rune // first<<32 | second -> primary composite
}

//go:embed unicode.bin
var unicodeBin []byte

var tables = sync.OnceValue(func() *charTables { return unpackTables(unicodeBin) })

// at returns what is known of r, which must be a valid code point.
func (t *charTables) at(r rune) *codePoint {
	return &t.pages[t.index[r>>pageBits]][r&(pageSize-1)]
}

// unpackTables reads the format of testdata/gen_tables.py. It panics on anything else: the data is part of the program.
func unpackTables(data []byte) *charTables {
	if string(data[:4]) != "EUT1" {
		panic("tokenizer: unicode.bin has an unknown format")
	}
	data = data[4:]
	next := func() int {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			panic("tokenizer: unicode.bin is truncated")
		}
		data = data[n:]
		return int(v)
	}
	flat := make([]codePoint, utf8.MaxRune+1)
	for runs, c := next(), 0; runs > 0; runs-- {
		n, row := next(), codePoint{}
		row.props, row.class, row.gcb = uint16(next()), uint8(next()), uint8(next())
		for ; n > 0; n-- {
			flat[c] = row
			c++
		}
	}
	t := &charTables{strings: make([][]rune, 1, 8192), compose: make(map[uint64]rune, 1024)}
	section := func(visit func(c rune, s []rune)) {
		for n, c := next(), 0; n > 0; n-- {
			c += next()
			s := make([]rune, next())
			for i := range s {
				s[i] = rune(next())
			}
			visit(rune(c), s)
		}
	}
	add := func(s []rune) uint16 {
		t.strings = append(t.strings, s)
		return uint16(len(t.strings) - 1)
	}
	section(func(c rune, s []rune) { flat[c].canon = add(s) })
	section(func(c rune, s []rune) { flat[c].compat = add(s) })
	section(func(c rune, s []rune) { flat[c].lower = add(s) })
	section(func(c rune, s []rune) { t.compose[uint64(s[0])<<32|uint64(s[1])] = c })

	pages := make(map[[pageSize]codePoint]uint16)
	for i := range t.index {
		page := [pageSize]codePoint(flat[i<<pageBits:])
		n, ok := pages[page]
		if !ok {
			n = uint16(len(t.pages))
			pages[page] = n
			t.pages = append(t.pages, page)
		}
		t.index[i] = n
	}
	t.pages = slices.Clip(t.pages)
	return t
}

// Hangul syllables are decomposed and composed by arithmetic (The Unicode Standard, section 3.12).
const (
	hangulS, hangulL, hangulV, hangulT      = 0xAC00, 0x1100, 0x1161, 0x11A7
	hangulLN, hangulVN, hangulTN, hangulNum = 19, 21, 28, 11172
)

// appendDecomposed appends the full canonical (or compatibility) decomposition of r, not yet in canonical order.
func (t *charTables) appendDecomposed(dst []rune, r rune, p *codePoint, compat bool) []rune {
	switch {
	case compat && p.compat != 0:
		return append(dst, t.strings[p.compat]...)
	case p.canon != 0:
		return append(dst, t.strings[p.canon]...)
	case r >= hangulS && r < hangulS+hangulNum:
		s := r - hangulS
		dst = append(dst, hangulL+s/(hangulVN*hangulTN), hangulV+s%(hangulVN*hangulTN)/hangulTN)
		if s%hangulTN != 0 {
			dst = append(dst, hangulT+s%hangulTN)
		}
		return dst
	}
	return append(dst, r)
}

// sortMarks brings a run of code points that all have a combining class into canonical order. The order of equal classes
// is kept; counting sort for long runs, so that time stays linear.
func (t *charTables) sortMarks(run []rune, scratch *[]rune) {
	if len(run) < 2 {
		return
	}
	if len(run) <= 16 {
		for i := 1; i < len(run); i++ {
			for j := i; j > 0 && t.at(run[j-1]).class > t.at(run[j]).class; j-- {
				run[j-1], run[j] = run[j], run[j-1]
			}
		}
		return
	}
	var from [257]int
	for _, r := range run {
		from[int(t.at(r).class)+1]++
	}
	for i := 1; i < len(from); i++ {
		from[i] += from[i-1]
	}
	*scratch = append((*scratch)[:0], run...)
	for _, r := range *scratch {
		c := t.at(r).class
		run[from[c]] = r
		from[c]++
	}
}

// composed returns the primary composite of a and b, or 0.
func (t *charTables) composed(a, b rune) rune {
	switch {
	case a >= hangulL && a < hangulL+hangulLN && b >= hangulV && b < hangulV+hangulVN:
		return hangulS + ((a-hangulL)*hangulVN+b-hangulV)*hangulTN
	case a >= hangulS && a < hangulS+hangulNum && (a-hangulS)%hangulTN == 0 && b > hangulT && b < hangulT+hangulTN:
		return a + b - hangulT
	}
	return t.compose[uint64(a)<<32|uint64(b)]
}

// composeRunes composes a decomposed sequence in canonical order in place (The Unicode Standard, D117) and returns it.
func (t *charTables) composeRunes(s []rune) []rune {
	starter, last := -1, 0 // the last starter's place; the class of the last code point that was kept
	n := 0
	for _, r := range s {
		class := int(t.at(r).class)
		if starter >= 0 && (n-1 == starter || last < class) { // not blocked
			if c := t.composed(s[starter], r); c != 0 {
				s[starter] = c
				continue
			}
		}
		if class == 0 {
			starter = n
		}
		last = class
		s[n] = r
		n++
	}
	return s[:n]
}
