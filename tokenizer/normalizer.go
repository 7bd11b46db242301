package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// normalizer rewrites text.
type normalizer interface {
	// normalize returns the text rewritten, appended to dst, and true; or anything and false where nothing changes.
	normalize(e *Encoder, dst, s []byte) ([]byte, bool)
}

func (t *Tokenizer) parseNormalizer(path string, raw json.RawMessage, depth int) ([]normalizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	kind, err := typeOf(path, raw)
	if err != nil {
		return nil, err
	}
	bare := func(n normalizer) ([]normalizer, error) {
		var f struct {
			Type string `json:"type"`
		}
		return []normalizer{n}, decodeStrict(path, raw, &f)
	}
	switch kind {
	case "BertNormalizer":
		n, err := parseBertNormalizer(path, raw)
		return []normalizer{n}, err
	case "Lowercase":
		return bare(lowercase{})
	case "NFC":
		return bare(unicodeForm{compose: true})
	case "NFD":
		return bare(unicodeForm{})
	case "NFKC":
		return bare(unicodeForm{compat: true, compose: true})
	case "NFKD":
		return bare(unicodeForm{compat: true})
	case "Nmt":
		return bare(nmt{})
	case "StripAccents":
		return bare(stripAccents{})
	case "Strip":
		var f struct {
			Type  string `json:"type"`
			Left  *bool  `json:"strip_left"`
			Right *bool  `json:"strip_right"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if f.Left == nil || f.Right == nil {
			return nil, badModel(path, "strip_left and strip_right must both be there")
		}
		return []normalizer{strip{*f.Left, *f.Right}}, nil
	case "Prepend":
		var f struct {
			Type    string  `json:"type"`
			Prepend *string `json:"prepend"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if f.Prepend == nil {
			return nil, badModel(path+".prepend", "missing")
		}
		return []normalizer{prepend{*f.Prepend}}, nil
	case "Replace":
		return parseReplace(path, raw)
	case "Precompiled":
		n, err := parsePrecompiled(path, raw)
		return []normalizer{n}, err
	case "Sequence":
		var f struct {
			Type    string            `json:"type"`
			Members []json.RawMessage `json:"normalizers"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if depth >= maxDepth {
			return nil, badModel(path, "is nested too deep")
		}
		var all []normalizer
		for i, m := range f.Members {
			n, err := t.parseNormalizer(fmt.Sprintf("%s.normalizers[%d]", path, i), m, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, n...)
		}
		return all, nil
	}
	return nil, unknown(path, "normalizer", kind)
}

// lowercase is Lowercase: every code point by itself, as Rust's char::to_lowercase.
type lowercase struct{}

// normalize implements normalizer.
func (lowercase) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	t := e.t.chars
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		if k := t.at(r).lower; k != 0 {
			for _, l := range t.strings[k] {
				dst = utf8.AppendRune(dst, l)
			}
		} else {
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst, true
}

// unicodeForm is NFC, NFD, NFKC or NFKD. Unlike golang.org/x/text it puts no joiner into long runs of marks.
type unicodeForm struct{ compat, compose bool }

// normalize implements normalizer.
func (f unicodeForm) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	t, runes := e.t.chars, e.runes[0]
	i := asciiPrefix(s)
	if i == len(s) {
		return nil, false
	}
	for start := 0; start < len(s); {
		// What is ASCII stays, but its last character may compose with what follows.
		from := max(start, i-1)
		dst = append(dst, s[start:from]...)
		runes = runes[:0]
		marks := -1 // where the run of marks at the end of runes begins
		for i = from; i < len(s) && (i == from || s[i] >= utf8.RuneSelf); {
			r, n := utf8.DecodeRune(s[i:])
			i += n
			have := len(runes)
			runes = t.appendDecomposed(runes, r, t.at(r), f.compat)
			for j := have; j < len(runes); j++ {
				switch class := t.at(runes[j]).class; {
				case class != 0 && marks < 0:
					marks = j
				case class == 0 && marks >= 0:
					t.sortMarks(runes[marks:j], &e.runes[2])
					marks = -1
				}
			}
		}
		if marks >= 0 {
			t.sortMarks(runes[marks:], &e.runes[2])
		}
		if f.compose {
			runes = t.composeRunes(runes)
		}
		for _, r := range runes {
			dst = utf8.AppendRune(dst, r)
		}
		start = i
		i += asciiPrefix(s[i:])
		if i == len(s) {
			dst = append(dst, s[start:]...)
			break
		}
	}
	e.runes[0] = runes
	return dst, true
}

// asciiPrefix returns the number of ASCII characters at the start of s.
func asciiPrefix(s []byte) int {
	for i, c := range s {
		if c >= utf8.RuneSelf {
			return i
		}
	}
	return len(s)
}

// nmt is Nmt, what SentencePiece calls the rules of NMT: controls go, and what looks like white space is a space.
type nmt struct{}

// normalize implements normalizer.
func (nmt) normalize(_ *Encoder, dst, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		switch {
		case r >= 0x01 && r <= 0x08, r == 0x0B, r >= 0x0E && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
		case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, r >= 0x200B && r <= 0x200F, r == 0x2028, r == 0x2029,
			r == 0x2581, r == 0xFEFF, r == 0xFFFD:
			dst = append(dst, ' ')
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst, true
}

// stripAccents is StripAccents: combining marks go.
type stripAccents struct{}

// normalize implements normalizer.
func (stripAccents) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if e.t.chars.at(r).props&propMark == 0 {
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst, true
}

// strip is Strip: white space at the ends goes.
type strip struct{ left, right bool }

// normalize implements normalizer.
func (p strip) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	white := func(r rune) bool { return e.t.chars.at(r).props&propWhite != 0 }
	if p.left {
		s = bytes.TrimLeftFunc(s, white)
	}
	if p.right {
		s = bytes.TrimRightFunc(s, white)
	}
	return append(dst, s...), true
}

// prepend is Prepend.
type prepend struct{ text string }

// normalize implements normalizer.
func (p prepend) normalize(_ *Encoder, dst, s []byte) ([]byte, bool) {
	if len(s) == 0 {
		return nil, false
	}
	return append(append(dst, p.text...), s...), true
}

// replace is Replace: of a string, or of runs of at least two spaces.
type replace struct {
	from   []byte // nil for runs of spaces
	to     string
	spaces bool
}

func parseReplace(path string, raw json.RawMessage) ([]normalizer, error) {
	var f struct {
		Type    string `json:"type"`
		Pattern struct {
			String *string `json:"String"`
			Regex  *string `json:"Regex"`
		} `json:"pattern"`
		Content *string `json:"content"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return nil, err
	}
	switch p := f.Pattern; {
	case f.Content == nil:
		return nil, badModel(path+".content", "missing")
	case p.String != nil && p.Regex == nil && *p.String != "":
		return []normalizer{replace{from: []byte(*p.String), to: *f.Content}}, nil
	case p.Regex != nil && p.String == nil && *p.Regex == " {2,}":
		return []normalizer{replace{spaces: true, from: []byte("  "), to: *f.Content}}, nil
	case p.Regex != nil:
		return nil, badModel(path+".pattern.Regex", "%q is not supported, only a string and \" {2,}\"", clip(*p.Regex))
	}
	return nil, badModel(path+".pattern", "is neither a string nor a regular expression")
}

// normalize implements normalizer.
func (p replace) normalize(_ *Encoder, dst, s []byte) ([]byte, bool) {
	n := bytes.Index(s, p.from)
	if n < 0 {
		return nil, false
	}
	for n >= 0 {
		dst = append(append(dst, s[:n]...), p.to...)
		s = s[n+len(p.from):]
		for p.spaces && len(s) > 0 && s[0] == ' ' {
			s = s[1:]
		}
		n = bytes.Index(s, p.from)
	}
	return append(dst, s...), true
}
