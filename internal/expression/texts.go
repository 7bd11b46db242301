package expression

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

// texts appends the rows of a column of text in order.
type texts struct {
	v       *vector
	data    []byte
	offsets []int32
	tooLong bool
}

func newTexts(v *vector) *texts {
	return &texts{v: v, data: v.data[:0], offsets: append(v.offsets[:0], 0)}
}

// end ends a row; what was appended to data since the last one is its text.
func (t *texts) end() {
	if len(t.data) > maxTextBytes {
		t.tooLong, t.data = true, t.data[:0]
	}
	t.offsets = append(t.offsets, int32(len(t.data))) //nolint:gosec // It was looked at.
}

// fits reports whether as many bytes more may be appended.
func (t *texts) fits(more int) bool {
	t.tooLong = t.tooLong || more > maxTextBytes-len(t.data)
	return !t.tooLong
}

// finish gives the vector what was appended.
func (t *texts) finish() error {
	t.v.data, t.v.offsets = t.data, t.offsets
	if t.tooLong {
		return engine.Errorf(engine.KindData, "evaluate expression", "", "the texts of one record batch take more than 1 GiB").
			WithHint("set batch.rows to a smaller number")
	}
	return nil
}

// evalTexts tests two texts.
func evalTexts(test func(a, b []byte) bool) evalFunc {
	return evalBinary(func(e *Evaluator, _ *node, out, a, b *vector) {
		out.bools = out.bools.resize(e.rows)
		pack(out.bools, e.rows, func(i int) bool { return out.isValid(i) && test(a.text(i), b.text(i)) })
	})
}

// evalText makes a text of one.
func evalText(f func(dst, text []byte) []byte) evalFunc {
	return func(e *Evaluator, n *node, active bitmap) (*vector, error) {
		a, err := e.eval(n.args[0], active)
		if err != nil {
			return nil, err
		}
		defer e.done(a)
		out := e.get()
		out.validAs(e.rows, a)
		t := newTexts(out)
		for i := range e.rows {
			if out.isValid(i) {
				t.data = f(t.data, a.text(i))
			}
			t.end()
		}
		return out, t.finish()
	}
}

func lower(dst, text []byte) []byte { return mapRunes(dst, text, 'A', 'Z', unicode.ToLower) }

func upper(dst, text []byte) []byte { return mapRunes(dst, text, 'a', 'z', unicode.ToUpper) }

// mapRunes maps the ASCII letters in [lo, hi] to the other case, and what is not ASCII by f. What is not UTF-8 stays.
func mapRunes(dst, text []byte, lo, hi byte, f func(rune) rune) []byte {
	for i := 0; i < len(text); {
		b := text[i]
		if b < utf8.RuneSelf {
			if lo <= b && b <= hi {
				b ^= 'a' - 'A'
			}
			dst = append(dst, b)
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, b)
		} else {
			dst = utf8.AppendRune(dst, f(r))
		}
		i += size
	}
	return dst
}

func trim(dst, text []byte) []byte      { return append(dst, bytes.Trim(text, " ")...) }
func trimLeft(dst, text []byte) []byte  { return append(dst, bytes.TrimLeft(text, " ")...) }
func trimRight(dst, text []byte) []byte { return append(dst, bytes.TrimRight(text, " ")...) }

// evalLength counts characters.
func evalLength(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.ints = grow(out.ints, e.rows)
	for i := range out.ints {
		out.ints[i] = 0
		if out.isValid(i) {
			out.ints[i] = int64(utf8.RuneCount(a.text(i)))
		}
	}
	e.done(a)
	return out, nil
}

// evalJoin is null where one of the texts is.
func evalJoin(e *Evaluator, n *node, active bitmap) (*vector, error) {
	var a, b *vector
	if err := e.args(n, active, &a, &b); err != nil {
		return nil, err
	}
	defer e.done(a)
	defer e.done(b)
	out := e.get()
	out.validBoth(e.rows, a, b)
	t := newTexts(out)
	for i := range e.rows {
		if out.isValid(i) {
			x, y := a.text(i), b.text(i)
			if t.fits(len(x) + len(y)) {
				t.data = append(append(t.data, x...), y...)
			}
		}
		t.end()
	}
	return out, t.finish()
}

// evalConcat leaves nulls out.
func evalConcat(e *Evaluator, n *node, active bitmap) (*vector, error) {
	parts := make([]*vector, 0, len(n.args))
	defer func() {
		for _, p := range parts {
			e.done(p)
		}
	}()
	for _, a := range n.args {
		v, err := e.eval(a, active)
		if err != nil {
			return nil, err
		}
		parts = append(parts, v)
	}
	out := e.get()
	t := newTexts(out)
	for i := range e.rows {
		for _, p := range parts {
			if p.isValid(i) && t.fits(len(p.text(i))) {
				t.data = append(t.data, p.text(i)...)
			}
		}
		t.end()
	}
	return out, t.finish()
}

func evalReplace(e *Evaluator, n *node, active bitmap) (*vector, error) {
	var a, from, to *vector
	if err := e.args(n, active, &a, &from, &to); err != nil {
		return nil, err
	}
	defer e.done(a)
	defer e.done(from)
	defer e.done(to)
	out := e.get()
	out.validBoth(e.rows, a, from)
	out.validAlso(e.rows, to)
	t := newTexts(out)
	for i := range e.rows {
		if out.isValid(i) {
			t.replace(a.text(i), from.text(i), to.text(i))
		}
		t.end()
	}
	return out, t.finish()
}

// replace appends a text with all occurrences of from, of which an empty one has none, replaced.
func (t *texts) replace(text, from, to []byte) {
	n := 0
	if len(from) > 0 {
		n = bytes.Count(text, from)
	}
	if !t.fits(len(text) + n*(len(to)-len(from))) {
		return
	}
	for ; n > 0; n-- {
		i := bytes.Index(text, from)
		t.data = append(append(t.data, text[:i]...), to...)
		text = text[i+len(from):]
	}
	t.data = append(t.data, text...)
}

// evalSubstring takes characters from a place, counted from 1, on: as many as a third argument says, or all. Places before the text
// count, and hold nothing, as SQL has it.
func evalSubstring(e *Evaluator, n *node, active bitmap) (*vector, error) {
	var a, start, length *vector
	into := []**vector{&a, &start, &length}[:len(n.args)]
	if err := e.args(n, active, into...); err != nil {
		return nil, err
	}
	defer func() {
		for _, v := range into {
			e.done(*v)
		}
	}()
	out := e.get()
	out.validBoth(e.rows, a, start)
	if length != nil {
		out.validAlso(e.rows, length)
	}
	t := newTexts(out)
	for i := range e.rows {
		if out.isValid(i) {
			count := int64(-1)
			if length != nil {
				if count = length.ints[i]; count < 0 {
					if !matters(i, out, active) {
						t.end()
						continue
					}
					_ = t.finish() // The row's error matters more.
					e.done(out)
					return nil, n.rowError(i, "the length %d of a substring is negative", count)
				}
			}
			t.data = append(t.data, substring(a.text(i), start.ints[i], count)...)
		}
		t.end()
	}
	return out, t.finish()
}

// substring takes all characters from start on if count is negative.
func substring(text []byte, start, count int64) []byte {
	if start < 1 {
		if count >= 0 {
			// start + count cannot overflow: one is below 1, the other not negative.
			count = max(0, start+count-1)
		}
		start = 1
	}
	for ; start > 1 && len(text) > 0; start-- {
		_, size := utf8.DecodeRune(text)
		text = text[size:]
	}
	if count < 0 || count >= int64(len(text)) {
		return text
	}
	end := 0
	for ; count > 0 && end < len(text); count-- {
		_, size := utf8.DecodeRune(text[end:])
		end += size
	}
	return text[:end]
}

// like matches a text with a pattern where % stands for any characters and _ for one.
func like(text, pattern []byte) bool {
	// Where to go on when what follows the last % does not match: one character further.
	resumeText, resumePattern := -1, -1
	i, j := 0, 0
	for i < len(text) {
		switch {
		case j < len(pattern) && pattern[j] == '%':
			j++
			resumeText, resumePattern = i, j
			continue
		case j < len(pattern) && pattern[j] == '_':
			_, size := utf8.DecodeRune(text[i:])
			i, j = i+size, j+1
			continue
		case j < len(pattern) && pattern[j] == text[i]:
			i, j = i+1, j+1
			continue
		case resumePattern < 0:
			return false
		}
		_, size := utf8.DecodeRune(text[resumeText:])
		resumeText += size
		i, j = resumeText, resumePattern
	}
	for j < len(pattern) && pattern[j] == '%' {
		j++
	}
	return j == len(pattern)
}
