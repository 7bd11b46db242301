package tokenizer

import (
	"encoding/json"
	"unicode/utf8"
)

// byteLevel is the pre-tokenizer ByteLevel of GPT-2. The official library also writes every byte as a printable character;
// here pieces stay bytes, and the BPE model's vocabulary is turned into bytes instead.
type byteLevel struct {
	prefixSpace bool
	regex       bool
}

func parseByteLevel(path string, raw json.RawMessage) (*byteLevel, error) {
	var f struct {
		Type        string `json:"type"`
		PrefixSpace *bool  `json:"add_prefix_space"`
		TrimOffsets *bool  `json:"trim_offsets"`
		UseRegex    *bool  `json:"use_regex"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return nil, err
	}
	if f.PrefixSpace == nil {
		return nil, badModel(path+".add_prefix_space", "missing")
	}
	return &byteLevel{prefixSpace: *f.PrefixSpace, regex: f.UseRegex == nil || *f.UseRegex}, nil
}

// split implements preTokenizer.
func (p *byteLevel) split(e *Encoder, step int, s []byte, first bool) bool {
	if p.prefixSpace && s[0] != ' ' {
		e.pre[step] = append(append(e.pre[step][:0], ' '), s...)
		s = e.pre[step]
	}
	if !p.regex {
		return e.split(step+1, s, first)
	}
	for i := 0; i < len(s); {
		end := gpt2Word(e.t.chars, s, i)
		if !e.split(step+1, s[i:end], first && i == 0) {
			return false
		}
		i = end
	}
	return true
}

// Classes of characters in GPT-2's pattern.
const (
	gptOther = iota
	gptLetter
	gptNumber
	gptSpace
)

var gptASCII = func() (class [utf8.RuneSelf]uint8) {
	for c := range class {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			class[c] = gptLetter
		case '0' <= c && c <= '9':
			class[c] = gptNumber
		case c == ' ' || '\t' <= c && c <= '\r':
			class[c] = gptSpace
		}
	}
	return class
}()

// gptClass returns the class of the code point at s[i] and its length.
func gptClass(t *charTables, s []byte, i int) (class uint8, size int) {
	if c := s[i]; c < utf8.RuneSelf {
		return gptASCII[c], 1
	}
	r, size := utf8.DecodeRune(s[i:])
	switch props := t.at(r).props; {
	case props&propLetter != 0:
		return gptLetter, size
	case props&propNumber != 0:
		return gptNumber, size
	case props&propWhite != 0:
		return gptSpace, size
	}
	return gptOther, size
}

// gpt2Word returns the end of the match at s[i] of GPT-2's pattern, which matches everywhere:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func gpt2Word(t *charTables, s []byte, i int) int {
	if s[i] == '\'' && i+1 < len(s) {
		switch c := s[i+1]; c {
		case 's', 't', 'm', 'd':
			return i + 2
		case 'r', 'v', 'l':
			want := byte('e')
			if c == 'l' {
				want = 'l'
			}
			if i+2 < len(s) && s[i+2] == want {
				return i + 3
			}
		}
	}
	j := i
	if s[i] == ' ' && i+1 < len(s) {
		j++
	}
	class, n := gptClass(t, s, j)
	if class != gptSpace {
		for j += n; j < len(s); j += n {
			c, size := gptClass(t, s, j)
			if c != class {
				break
			}
			n = size
		}
		return j
	}
	last := i // where the last white space of the run begins
	for j = i; j < len(s); {
		c, size := gptClass(t, s, j)
		if c != gptSpace {
			break
		}
		last = j
		j += size
	}
	if j < len(s) && last > i {
		return last // the last one belongs to what follows
	}
	return j
}

// byteOfChar is the inverse of the official library's bytes_char: which byte a printable character stands for.
var byteOfChar = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	n := rune(0)
	for b := range rune(256) {
		if '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b {
			m[b] = byte(b)
		} else {
			m[256+n] = byte(b)
			n++
		}
	}
	return m
}()

// appendBytesOf appends the bytes that a byte-level token stands for; false if it has other characters, so that no text can
// ever contain it.
func appendBytesOf(dst []byte, token string) ([]byte, bool) {
	for _, r := range token {
		b, ok := byteOfChar[r]
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
	}
	return dst, true
}
