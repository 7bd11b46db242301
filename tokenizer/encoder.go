package tokenizer

import (
	"math"
	"unicode/utf8"
	"unsafe"
)

// Encoder encodes texts for one goroutine at a time. It keeps scratch memory from text to text, so that encoding allocates
// nothing once the largest text was seen; what a text of more than a megabyte needed is given back.
type Encoder struct {
	t     *Tokenizer
	ids   []int32
	stop  int // no more ids are wanted once len(ids) has reached it
	words bertScratch
	norm  [2][]byte // the text between two normalizers
	pre   [][]byte  // what each pre-tokenizer writes
	clean []byte    // the text made UTF-8
	runes [3][]rune // of normalizers
	cache pieceCache
	bpe   bpeScratch
	uni   unigramScratch
}

// keepBytes is the scratch memory, by buffer, that an Encoder keeps.
const keepBytes = 1 << 20

// NewEncoder returns an encoder for one goroutine.
func (t *Tokenizer) NewEncoder() *Encoder {
	e := &Encoder{t: t, pre: make([][]byte, len(t.pre))}
	e.words.init(t)
	return e
}

// AppendIDs appends text's token ids to ids, with the special tokens that the file puts around a text, and reports whether
// the text was cut. At most maxTokens ids are appended, special ones included; 0 means the file's MaxLength, a negative
// number no limit. The special tokens are kept even where they alone exceed maxTokens. The text is cut on the right unless
// the file says left, at tokens and not at words. Time grows with what is kept where the text is cut on the right, else
// with the text.
func (e *Encoder) AppendIDs(ids []int32, text string, maxTokens int) (out []int32, truncated bool) {
	ids = append(ids, e.t.post.prefix...)
	ids, truncated = e.encode(ids, text, maxTokens, e.t.post.len())
	return append(ids, e.t.post.suffix...), truncated
}

// AppendContentIDs is AppendIDs without the special tokens around the text, for which no room is kept either.
func (e *Encoder) AppendContentIDs(ids []int32, text string, maxTokens int) (out []int32, truncated bool) {
	return e.encode(ids, text, maxTokens, 0)
}

// AppendTypeIDs appends the token type ids that belong to n ids of one text from AppendIDs: 0 for nearly every model. The
// attention mask of a text is all ones, over its n ids.
func (e *Encoder) AppendTypeIDs(types []int32, n int) []int32 {
	return e.t.post.appendTypes(types, n)
}

func (e *Encoder) encode(ids []int32, text string, maxTokens, special int) ([]int32, bool) {
	room := math.MaxInt
	if maxTokens == 0 {
		maxTokens = e.t.truncation.maxLength
	}
	if maxTokens > 0 {
		room = max(0, maxTokens-special)
	}
	base := len(ids)
	e.ids, e.stop = ids, math.MaxInt
	if !e.t.truncation.left && room < math.MaxInt-base {
		e.stop = base + room + 1 // the one too many tells that the text is cut
	}
	e.text(unsafe.Slice(unsafe.StringData(text), len(text)))
	ids, e.ids = e.ids, nil
	e.shrink()
	cut := len(ids)-base > room
	switch {
	case cut && e.t.truncation.left:
		n := copy(ids[base:], ids[len(ids)-room:])
		ids = ids[:base+n]
	case cut:
		ids = ids[:base+room]
	}
	return ids, cut
}

// text encodes one text, which it only reads.
func (e *Encoder) text(text []byte) {
	if !utf8.Valid(text) {
		e.clean = appendReplaced(e.clean[:0], text)
		text = e.clean
	}
	if e.t.raw == nil {
		if len(text) > 0 {
			e.section(text, true)
		}
		return
	}
	for at := (addedScan{}); ; {
		from, to, token := e.t.raw.scan(e.t.chars, text, &at)
		if from < to && !e.section(text[from:to], from == 0) {
			return
		}
		if token == nil || !e.add(token.ID) {
			return
		}
	}
}

// add appends an id and reports whether more are wanted.
func (e *Encoder) add(id int32) bool {
	e.ids = append(e.ids, id)
	return len(e.ids) < e.stop
}

// section encodes what lies between two added tokens that were looked for in the raw text. first tells that it begins the
// text. Like all steps below it reports whether more ids are wanted.
func (e *Encoder) section(s []byte, first bool) bool {
	if e.t.bert != nil {
		return e.t.bert.encode(e, s)
	}
	s = e.normalizeText(s)
	if e.t.normalized == nil {
		return len(s) == 0 || e.split(0, s, first)
	}
	for at := (addedScan{}); ; {
		from, to, token := e.t.normalized.scan(e.t.chars, s, &at)
		if from < to && !e.split(0, s[from:to], first && from == 0) {
			return false
		}
		if token == nil {
			return true
		}
		if !e.add(token.ID) {
			return false
		}
	}
}

// normalizeText runs all normalizers; the result is valid until the next call.
func (e *Encoder) normalizeText(s []byte) []byte {
	free := 0 // the buffer that s does not lie in
	for _, n := range e.t.normalize {
		if out, changed := n.normalize(e, e.norm[free][:0], s); changed {
			e.norm[free], s = out, out
			free = 1 - free
		}
	}
	return s
}

// split gives a piece to the pre-tokenizer of the given step, and to the model after the last.
func (e *Encoder) split(step int, piece []byte, first bool) bool {
	if step < len(e.t.pre) {
		return e.t.pre[step].split(e, step, piece, first)
	}
	e.t.model.appendPiece(e, piece)
	return len(e.ids) < e.stop
}

// shrink gives back scratch memory that only a huge text needs.
func (e *Encoder) shrink() {
	for _, b := range []*[]byte{&e.norm[0], &e.norm[1], &e.clean} {
		if cap(*b) > keepBytes {
			*b = nil
		}
	}
	for i := range e.pre {
		if cap(e.pre[i]) > keepBytes {
			e.pre[i] = nil
		}
	}
	for i := range e.runes {
		if cap(e.runes[i]) > keepBytes/4 {
			e.runes[i] = nil
		}
	}
	e.bpe.shrink()
	e.uni.shrink()
}

// appendReplaced appends s with every maximal part of a broken sequence replaced by U+FFFD, as Python's decoder and the
// Unicode Standard (chapter 3, "U+FFFD Substitution of Maximal Subparts") do; Go would replace every byte.
func appendReplaced(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			dst = append(dst, s[i])
			i++
			continue
		}
		if r, n := utf8.DecodeRune(s[i:]); r != utf8.RuneError || n > 1 {
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		dst = append(dst, "\uFFFD"...)
		i += brokenLen(s[i:])
	}
	return dst
}

// brokenLen returns the length of the maximal subpart at the start of s, where no whole code point starts.
func brokenLen(s []byte) int {
	b, want, lo, hi := s[0], 0, byte(0x80), byte(0xBF)
	switch {
	case b >= 0xC2 && b <= 0xDF:
		want = 2
	case b >= 0xE0 && b <= 0xEF:
		want = 3
		switch b {
		case 0xE0:
			lo = 0xA0
		case 0xED:
			hi = 0x9F
		}
	case b >= 0xF0 && b <= 0xF4:
		want = 4
		switch b {
		case 0xF0:
			lo = 0x90
		case 0xF4:
			hi = 0x8F
		}
	}
	n := 1
	for n < want && n < len(s) && s[n] >= lo && s[n] <= hi {
		n, lo, hi = n+1, 0x80, 0xBF
	}
	return n
}
