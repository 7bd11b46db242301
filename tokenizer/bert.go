package tokenizer

import (
	"encoding/json"
	"unicode/utf8"
)

// bertNormalizer is BertNormalizer: clean_text, then handle_chinese_chars, then strip_accents, then lowercase.
type bertNormalizer struct {
	clean, chinese, strip, lower bool
}

func parseBertNormalizer(path string, raw json.RawMessage) (*bertNormalizer, error) {
	var f struct {
		Type    string `json:"type"`
		Clean   *bool  `json:"clean_text"`
		Chinese *bool  `json:"handle_chinese_chars"`
		Strip   *bool  `json:"strip_accents"`
		Lower   *bool  `json:"lowercase"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return nil, err
	}
	if f.Clean == nil || f.Chinese == nil || f.Lower == nil {
		return nil, badModel(path, "clean_text, handle_chinese_chars and lowercase must all be there")
	}
	n := &bertNormalizer{clean: *f.Clean, chinese: *f.Chinese, strip: *f.Lower, lower: *f.Lower}
	if f.Strip != nil {
		n.strip = *f.Strip
	}
	return n, nil
}

// maxRun is about how many code points bertNormalizer.run takes at a time.
const maxRun = 256

// run normalizes s from i on, as far as the next ASCII character at least, and returns what comes out and where it stopped.
// Marks of the class spacing keep their canonical order though the others are removed: pending holds them until a code
// point of class 0 comes, so a run ends only where none is pending.
func (n *bertNormalizer) run(t *charTables, out []rune, scratch *[3][]rune, s []byte, i int) ([]rune, int) {
	pending, parts := scratch[1][:0], scratch[2]
	flush := func(out []rune) []rune {
		t.sortMarks(pending, &parts)
		for _, r := range pending {
			out = n.appendLower(t, out, r)
		}
		pending = pending[:0]
		return out
	}
	var single [4]rune
	for i < len(s) && (len(pending) > 0 || s[i] >= utf8.RuneSelf && len(out) < maxRun) {
		r, size := utf8.DecodeRune(s[i:])
		i += size
		p := t.at(r)
		if n.clean {
			if p.props&propBertDrop != 0 {
				continue
			}
			if p.props&propBertSpace != 0 {
				r, p = ' ', t.at(' ')
			}
		}
		if !n.strip {
			if n.chinese && p.props&propCJK != 0 {
				out = append(out, ' ', r, ' ')
				continue
			}
			out = n.appendLower(t, out, r)
			continue
		}
		chinese := n.chinese && p.props&propCJK != 0
		if chinese {
			out = append(flush(out), ' ')
		}
		for _, d := range t.appendDecomposed(single[:0], r, p, false) {
			switch q := t.at(d); {
			case q.class == 0:
				if len(pending) > 0 {
					out = flush(out)
				}
				if q.props&propMn == 0 {
					out = n.appendLower(t, out, d)
				}
			case q.props&propMn == 0:
				pending = append(pending, d)
			}
		}
		if chinese {
			out = append(flush(out), ' ')
		}
	}
	if len(pending) > 0 {
		out = flush(out)
	}
	scratch[1], scratch[2] = pending, parts
	return out, i
}

func (n *bertNormalizer) appendLower(t *charTables, out []rune, r rune) []rune {
	if n.lower {
		if k := t.at(r).lower; k != 0 {
			return append(out, t.strings[k]...)
		}
	}
	return append(out, r)
}

// normalize implements normalizer.
func (n *bertNormalizer) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	t := e.t.chars
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			i++
			props := t.at(rune(c)).props
			switch {
			case n.clean && props&propBertDrop != 0:
			case n.clean && props&propBertSpace != 0:
				dst = append(dst, ' ')
			case n.lower && 'A' <= c && c <= 'Z':
				dst = append(dst, c+'a'-'A')
			default:
				dst = append(dst, c)
			}
			continue
		}
		e.runes[0], i = n.run(t, e.runes[0][:0], &e.runes, s, i)
		for _, r := range e.runes[0] {
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst, true
}

// bertPreTokenizer is BertPreTokenizer: pieces lie between white space, and every punctuation character is a piece.
type bertPreTokenizer struct{}

// split implements preTokenizer.
func (bertPreTokenizer) split(e *Encoder, step int, piece []byte, first bool) bool {
	return splitByProp(e, step, piece, first, propWhite, propPunct)
}

// Classes of ASCII characters on bertPath.
const (
	asciiWord  = iota
	asciiSpace // ends a word
	asciiPunct // ends a word and is one
	asciiDrop  // is not there
	asciiHigh  // not ASCII
)

// bertPath does BertNormalizer, BertPreTokenizer and WordPiece in one pass over the text: ASCII characters take one table
// look-up each, and only what is not ASCII is normalized through buffers. Immutable.
type bertPath struct {
	norm  *bertNormalizer
	model *wordPiece
	fold  [256]byte // what a character of a word becomes; 0 for everything else
	class [256]byte
	punct [128]int32 // ids of punctuation characters
}

// newBertPath returns nil unless the tokenizer is made of just these three.
func newBertPath(t *Tokenizer) *bertPath {
	model, ok := t.model.(*wordPiece)
	if !ok || t.normalized != nil || len(t.normalize) != 1 || len(t.pre) != 1 {
		return nil
	}
	norm, ok := t.normalize[0].(*bertNormalizer)
	if !ok {
		return nil
	}
	if _, ok := t.pre[0].(bertPreTokenizer); !ok {
		return nil
	}
	p := &bertPath{norm: norm, model: model}
	e := &Encoder{t: t}
	for c := range 256 {
		if c >= utf8.RuneSelf {
			p.class[c] = asciiHigh
			continue
		}
		b := byte(c)
		props := t.chars.at(rune(c)).props
		switch {
		case norm.clean && props&propBertDrop != 0:
			p.class[c] = asciiDrop
		case props&propWhite != 0:
			p.class[c] = asciiSpace
		case props&propPunct != 0:
			p.class[c] = asciiPunct
			e.ids = e.ids[:0]
			model.appendPiece(e, []byte{b})
			p.punct[c] = e.ids[0]
		case norm.lower && 'A' <= b && b <= 'Z':
			p.fold[c] = b + 'a' - 'A'
		default:
			p.fold[c] = b // 0 for NUL, which goes the long way
		}
	}
	return p
}

// bertScratch is the word being read: its bytes, and how many code points they are. A word longer than the model allows is
// only counted.
type bertScratch struct {
	buf   []byte
	n     int // bytes in buf
	chars int
}

func (w *bertScratch) init(t *Tokenizer) {
	if m, ok := t.model.(*wordPiece); ok {
		w.buf = make([]byte, max(shortWord, min(m.maxChars, 1<<10)*utf8.UTFMax))
	}
}

// put adds a code point.
func (w *bertScratch) put(r rune, maxChars int) {
	w.chars++
	if w.chars > maxChars {
		return
	}
	if w.n+utf8.UTFMax > len(w.buf) {
		w.buf = append(w.buf, make([]byte, len(w.buf))...)
	}
	w.n += utf8.EncodeRune(w.buf[w.n:], r)
}

// flush ends the word and appends its ids.
func (p *bertPath) flush(e *Encoder) {
	w := &e.words
	n, chars := w.n, w.chars
	w.n, w.chars = 0, 0
	if chars > p.model.maxChars {
		e.ids = append(e.ids, p.model.unknown)
		return
	}
	if n <= shortWord {
		if id := p.model.words.get(w.buf, n); id >= 0 {
			e.ids = append(e.ids, id)
			return
		}
	}
	e.ids = p.model.appendSplit(e.ids, w.buf[:n])
}

// encode appends the ids of one section.
func (p *bertPath) encode(e *Encoder, s []byte) bool {
	w := &e.words
	w.n, w.chars = 0, 0
	for i := 0; i < len(s); {
		// A run of word characters, as far as the buffer reaches.
		buf := w.buf[w.n:]
		run := s[i:min(len(s), i+len(buf))]
		n := 0
		for n < len(run) && n < len(buf) {
			c := p.fold[run[n]]
			if c == 0 {
				break
			}
			buf[n] = c
			n++
		}
		i, w.n, w.chars = i+n, w.n+n, w.chars+n
		if i == len(s) {
			break
		}
		c := s[i]
		switch p.class[c] {
		case asciiWord: // the buffer is full, or NUL is a character here
			w.put(rune(c), p.model.maxChars)
			i++
		case asciiDrop:
			i++
		case asciiSpace, asciiPunct:
			i++
			if w.chars > 0 {
				p.flush(e)
			}
			if p.class[c] == asciiPunct {
				e.ids = append(e.ids, p.punct[c])
			}
			if len(e.ids) >= e.stop {
				return false
			}
		case asciiHigh:
			e.runes[0], i = p.norm.run(e.t.chars, e.runes[0][:0], &e.runes, s, i)
			if !p.words(e, e.runes[0]) {
				return false
			}
		}
	}
	if w.chars > 0 {
		p.flush(e)
	}
	return len(e.ids) < e.stop
}

// words takes normalized code points into the current word and ends words where they end.
func (p *bertPath) words(e *Encoder, runes []rune) bool {
	w, t := &e.words, e.t.chars
	for _, r := range runes {
		props := t.at(r).props
		if props&(propWhite|propPunct) == 0 {
			w.put(r, p.model.maxChars)
			continue
		}
		if w.chars > 0 {
			p.flush(e)
		}
		if props&propPunct != 0 {
			w.put(r, p.model.maxChars)
			p.flush(e)
		}
		if len(e.ids) >= e.stop {
			return false
		}
	}
	return true
}
