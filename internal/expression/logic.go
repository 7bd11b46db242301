package expression

import (
	"bytes"
	"math"
)

// number is what kernels compare.
type number interface{ int64 | float64 }

// pack fills a bitmap with a test of each row.
func pack(dst bitmap, rows int, test func(row int) bool) {
	for w := range words(rows) {
		var word uint64
		for i := w * 64; i < min(w*64+64, rows); i++ {
			if test(i) {
				word |= 1 << (i % 64)
			}
		}
		dst[w] = word
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Kernels shift a word's bits in from above, which is faster than to place each; what the last word lacks is shifted away.

// less is a < b where NaN is greater than all else.
func less[T number](dst bitmap, a, b []T) {
	b = b[:len(a)]
	for w := range dst {
		x := a[w*64 : min(w*64+64, len(a))]
		y := b[w*64:][:len(x)]
		var word uint64
		for i, l := range x {
			word = word>>1 | (bit(y[i] <= l)^1)&bit(l == l)<<63 //nolint:gocritic // NaN differs from itself.
		}
		dst[w] = word >> (64 - len(x))
	}
}

// lessThan is a < c for a constant that is not NaN.
func lessThan[T number](dst bitmap, a []T, c T) {
	for w := range dst {
		x := a[w*64 : min(w*64+64, len(a))]
		var word uint64
		for _, l := range x {
			word = word>>1 | bit(l < c)<<63
		}
		dst[w] = word >> (64 - len(x))
	}
}

// moreThan is c < a for a constant that is not NaN.
func moreThan[T number](dst bitmap, c T, a []T) {
	for w := range dst {
		x := a[w*64 : min(w*64+64, len(a))]
		var word uint64
		for _, l := range x {
			word = word>>1 | (bit(l <= c)^1)<<63
		}
		dst[w] = word >> (64 - len(x))
	}
}

// lessAny chooses among them.
func lessAny[T number](dst bitmap, n *node, a, b []T) {
	switch {
	case n.args[1].constant != nil && len(b) > 0 && b[0] == b[0]: //nolint:gocritic // NaN differs from itself.
		lessThan(dst, a, b[0])
	case n.args[0].constant != nil && len(a) > 0 && a[0] == a[0]: //nolint:gocritic // NaN differs from itself.
		moreThan(dst, a[0], b[:len(a)])
	default:
		less(dst, a, b)
	}
}

// equal is a = b where NaN equals NaN.
func equal[T number](dst bitmap, a, b []T) {
	b = b[:len(a)]
	for w := range dst {
		x := a[w*64 : min(w*64+64, len(a))]
		y := b[w*64:][:len(x)]
		var word uint64
		for i, l := range x {
			r := y[i]
			word = word>>1 | (bit(l == r)|bit(l != l)&bit(r != r))<<63 //nolint:gocritic // NaN differs from itself.
		}
		dst[w] = word >> (64 - len(x))
	}
}

// evalBinary evaluates two arguments, and f for what they are.
func evalBinary(f func(e *Evaluator, n *node, out, a, b *vector)) evalFunc {
	return func(e *Evaluator, n *node, active bitmap) (*vector, error) {
		var a, b *vector
		if err := e.args(n, active, &a, &b); err != nil {
			return nil, err
		}
		out := e.get()
		out.validBoth(e.rows, a, b)
		f(e, n, out, a, b)
		e.done(a)
		e.done(b)
		return out, nil
	}
}

func evalLess(k kind) evalFunc {
	return evalBinary(func(e *Evaluator, n *node, out, a, b *vector) {
		out.bools = out.bools.resize(e.rows)
		switch {
		case k == kindFloat:
			lessAny(out.bools, n, a.floats[:e.rows], b.floats)
		case k == kindText:
			pack(out.bools, e.rows, func(i int) bool { return out.isValid(i) && bytes.Compare(a.text(i), b.text(i)) < 0 })
		case k == kindBool:
			for i := range out.bools {
				out.bools[i] = ^a.bools[i] & b.bools[i]
			}
		case k.hasInts():
			lessAny(out.bools, n, a.ints[:e.rows], b.ints)
		}
	})
}

func evalEqual(k kind) evalFunc {
	return evalBinary(func(e *Evaluator, _ *node, out, a, b *vector) {
		out.bools = out.bools.resize(e.rows)
		switch {
		case k == kindFloat:
			equal(out.bools, a.floats[:e.rows], b.floats)
		case k == kindText:
			pack(out.bools, e.rows, func(i int) bool { return out.isValid(i) && bytes.Equal(a.text(i), b.text(i)) })
		case k == kindBool:
			for i := range out.bools {
				out.bools[i] = ^(a.bools[i] ^ b.bools[i])
			}
		case k.hasInts():
			equal(out.bools, a.ints[:e.rows], b.ints)
		}
	})
}

func evalNot(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.bools = out.bools.resize(e.rows)
	for i := range out.bools {
		out.bools[i] = ^a.bools[i]
	}
	e.done(a)
	return out, nil
}

// evalIsNull is never null itself.
func evalIsNull(e *Evaluator, n *node, active bitmap) (*vector, error) {
	out := e.get()
	out.bools = out.bools.resize(e.rows)
	if arg := n.args[0]; arg.kind == kindOther {
		column := e.record.Column(arg.column)
		pack(out.bools, e.rows, column.IsNull)
		return out, nil
	}
	a, err := e.eval(n.args[0], active)
	if err != nil {
		e.done(out)
		return nil, err
	}
	for i := range out.bools {
		out.bools[i] = 0
		if a.valid != nil {
			out.bools[i] = ^a.valid[i]
		}
	}
	e.done(a)
	return out, nil
}

// evalIsBool tells whether a value is true, or false, as extra says; it is never null itself.
func evalIsBool(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.bools = out.bools.resize(e.rows)
	for i := range out.bools {
		w := a.bools[i]
		if n.extra == false {
			w = ^w
		}
		if a.valid != nil {
			w &= a.valid[i]
		}
		out.bools[i] = w
	}
	e.done(a)
	return out, nil
}

func (v *vector) validWord(i int) uint64 {
	if v.valid == nil {
		return ^uint64(0)
	}
	return v.valid[i]
}

// undecided are the active rows whose value, of which word says that it decides alone, does not.
func (e *Evaluator) undecided(a *vector, active bitmap, decided func(value, valid uint64) uint64) bitmap {
	m := e.mask()
	for i := range m {
		m[i] = ^decided(a.bools[i], a.validWord(i))
		if active != nil {
			m[i] &= active[i]
		}
	}
	return m
}

// evalLogic evaluates an and or an or: decided says where one value alone decides, to the bits of decision, so that a left one that does
// makes the right one not needed.
func evalLogic(decision uint64, decided func(value, valid uint64) uint64, both func(x, y uint64) uint64) evalFunc {
	return func(e *Evaluator, n *node, active bitmap) (*vector, error) {
		a, err := e.eval(n.args[0], active)
		if err != nil {
			return nil, err
		}
		var needed bitmap
		if n.args[1].fails {
			needed = e.undecided(a, active, decided)
		}
		b, err := e.eval(n.args[1], needed)
		e.unmask(needed)
		if err != nil {
			e.done(a)
			return nil, err
		}
		out := e.get()
		out.bools = out.bools.resize(e.rows)
		if a.valid == nil && b.valid == nil {
			for i := range out.bools {
				out.bools[i] = both(a.bools[i], b.bools[i])
			}
		} else {
			valid := out.needValid(e.rows)
			for i := range out.bools {
				x, y, xValid, yValid := a.bools[i], b.bools[i], a.validWord(i), b.validWord(i)
				decides := decided(x, xValid) | decided(y, yValid)
				valid[i] = xValid&yValid | decides
				out.bools[i] = both(x, y)&^decides | decision&decides
			}
		}
		e.done(a)
		e.done(b)
		return out, nil
	}
}

var (
	evalAnd = evalLogic(0, func(value, valid uint64) uint64 { return ^value & valid }, func(x, y uint64) uint64 { return x & y })
	evalOr  = evalLogic(^uint64(0), func(value, valid uint64) uint64 { return value & valid }, func(x, y uint64) uint64 { return x | y })
)

// evalChoose has conditions, as many as extra says, and one value more than that.
func evalChoose(e *Evaluator, n *node, active bitmap) (*vector, error) {
	whens := n.args[:n.extra.(int)]
	values := n.args[len(whens):]
	pending := e.mask()
	defer e.unmask(pending)
	for i := range pending {
		pending[i] = ^uint64(0)
		if active != nil {
			pending[i] = active[i]
		}
	}
	out := e.get()
	ch := chooser{e: e, out: out, kind: n.kind}
	ch.begin()
	defer ch.end()
	for i, value := range values {
		taken := e.mask()
		if i == len(whens) {
			copy(taken, pending)
		} else {
			when, err := e.eval(whens[i], pending)
			if err != nil {
				e.unmask(taken)
				e.done(out)
				return nil, err
			}
			for w := range taken {
				taken[w] = pending[w] & when.bools[w] & when.validWord(w)
				pending[w] &^= taken[w]
			}
			e.done(when)
		}
		v, err := e.eval(value, taken)
		if err != nil {
			e.unmask(taken)
			e.done(out)
			return nil, err
		}
		ch.take(taken, v)
	}
	return out, ch.finish()
}

// chooser puts a vector together of rows of others.
type chooser struct {
	e    *Evaluator
	out  *vector
	kind kind
	// For texts: which vector a row comes from, since they must be appended in order; 0 is none.
	from    []uint32
	vectors []*vector
	masks   []bitmap
}

func (c *chooser) begin() {
	rows := c.e.rows
	// What is taken by nobody was asked for by nobody.
	clear(c.out.needValid(rows))
	switch c.kind {
	case kindFloat:
		c.out.floats = grow(c.out.floats, rows)
	case kindBool:
		c.out.bools = c.out.bools.resize(rows)
		clear(c.out.bools)
	case kindText:
		c.from = make([]uint32, rows)
	default:
		c.out.ints = grow(c.out.ints, rows)
	}
}

// take takes over the mask and the vector.
func (c *chooser) take(taken bitmap, v *vector) {
	c.vectors, c.masks = append(c.vectors, v), append(c.masks, taken)
	rows := c.e.rows
	for w := range taken {
		c.out.valid[w] |= taken[w] & v.validWord(w)
	}
	switch c.kind {
	case kindFloat:
		copyRows(c.out.floats, v.floats, taken, rows)
	case kindBool:
		for w := range taken {
			c.out.bools[w] |= taken[w] & v.bools[w]
		}
	case kindText:
		place := uint32(len(c.vectors)) //nolint:gosec // An expression has fewer parts.
		taken.each(rows, func(row int) bool { c.from[row] = place; return true })
	default:
		copyRows(c.out.ints, v.ints, taken, rows)
	}
}

func copyRows[T number](dst, src []T, rows bitmap, n int) {
	for w := range rows {
		lo := w * 64
		switch word := rows[w]; {
		case word == 0:
		case word == ^uint64(0) && lo+64 <= n:
			copy(dst[lo:lo+64], src[lo:lo+64])
		default:
			for i := lo; i < min(lo+64, n); i++ {
				if word>>(i-lo)&1 != 0 {
					dst[i] = src[i]
				}
			}
		}
	}
}

func (c *chooser) finish() error {
	if c.kind != kindText {
		return nil
	}
	t := newTexts(c.out)
	for row, place := range c.from {
		if place > 0 && c.out.valid.has(row) {
			t.data = append(t.data, c.vectors[place-1].text(row)...)
		}
		t.end()
	}
	return t.finish()
}

func (c *chooser) end() {
	for i, v := range c.vectors {
		c.e.done(v)
		c.e.unmask(c.masks[i])
	}
}

// set are the constants of an in.
type set struct {
	ints   map[int64]struct{}
	floats map[float64]struct{}
	texts  map[string]struct{}
	bools  [2]bool
	hasNaN bool
	// hasNull says that a value that is not found is null.
	hasNull bool
}

func newSet(k kind, items []*node, narrow bool) *set {
	s := &set{ints: map[int64]struct{}{}, floats: map[float64]struct{}{}, texts: map[string]struct{}{}}
	for _, item := range items {
		v := item.constant
		switch {
		case !v.isValid(0):
			s.hasNull = true
		case k == kindFloat:
			f := v.floats[0]
			if narrow && item.literal != nil {
				f = narrowed(f)
			}
			s.floats[f] = struct{}{}
			s.hasNaN = s.hasNaN || math.IsNaN(f)
		case k == kindText:
			s.texts[string(v.text(0))] = struct{}{}
		case k == kindBool:
			s.bools[bit(v.bools.has(0))] = true
		default:
			s.ints[v.ints[0]] = struct{}{}
		}
	}
	return s
}

func evalIn(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	s := n.extra.(*set)
	out := e.get()
	out.bools = out.bools.resize(e.rows)
	switch n.args[0].kind {
	case kindFloat:
		pack(out.bools, e.rows, func(i int) bool {
			f := a.floats[i]
			_, ok := s.floats[f]
			return ok || s.hasNaN && math.IsNaN(f)
		})
	case kindText:
		pack(out.bools, e.rows, func(i int) bool {
			if !a.isValid(i) {
				return false
			}
			_, ok := s.texts[string(a.text(i))]
			return ok
		})
	case kindBool:
		pack(out.bools, e.rows, func(i int) bool { return s.bools[bit(a.bools.has(i))] })
	default:
		pack(out.bools, e.rows, func(i int) bool { _, ok := s.ints[a.ints[i]]; return ok })
	}
	out.validAs(e.rows, a)
	if s.hasNull {
		if out.valid == nil {
			out.needValid(e.rows)
			for i := range out.valid {
				out.valid[i] = ^uint64(0)
			}
		}
		for i := range out.valid {
			out.valid[i] &= out.bools[i]
		}
	}
	e.done(a)
	return out, nil
}
