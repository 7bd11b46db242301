package expression

import (
	"math"
	"math/bits"
)

// floatOps are the operators of floats, by their signs.
var floatOps = map[string]evalFunc{
	"+": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = x + b[i]
		}
	}),
	"-": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = x - b[i]
		}
	}),
	"*": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = x * b[i]
		}
	}),
	"/": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = x / b[i]
		}
	}),
	"//": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = math.Trunc(x / b[i])
		}
	}),
	"%": evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = math.Mod(x, b[i])
		}
	}),
}

// evalFloats calculates all rows, also those that are null: nothing can go wrong.
func evalFloats(f func(out, a, b []float64)) evalFunc {
	return evalBinary(func(e *Evaluator, _ *node, out, a, b *vector) {
		out.floats = grow(out.floats, e.rows)
		f(out.floats, a.floats[:e.rows], b.floats[:e.rows])
	})
}

func evalFloat(f func(float64) float64) evalFunc {
	return func(e *Evaluator, n *node, active bitmap) (*vector, error) {
		a, err := e.eval(n.args[0], active)
		if err != nil {
			return nil, err
		}
		out := e.get()
		out.validAs(e.rows, a)
		out.floats = grow(out.floats, e.rows)
		for i, x := range a.floats[:e.rows] {
			out.floats[i] = f(x)
		}
		e.done(a)
		return out, nil
	}
}

func evalToFloat(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.floats = grow(out.floats, e.rows)
	for i, x := range a.ints[:e.rows] {
		out.floats[i] = float64(x)
	}
	e.done(a)
	return out, nil
}

// intOps are the operators of integers, by their signs. Each loop says whether a row may have gone wrong, and does not stop there:
// which rows did is looked for only then.
var intOps = map[string]evalFunc{
	"+": evalInts("+", func(out, a, b []int64) bool {
		var bad int64
		for i, x := range a {
			y := b[i]
			r := x + y
			bad |= (x ^ r) & (y ^ r)
			out[i] = r
		}
		return bad < 0
	}, func(x, y int64) bool { r := x + y; return (x^r)&(y^r) < 0 }),
	"-": evalInts("-", func(out, a, b []int64) bool {
		var bad int64
		for i, x := range a {
			y := b[i]
			r := x - y
			bad |= (x ^ y) & (x ^ r)
			out[i] = r
		}
		return bad < 0
	}, func(x, y int64) bool { return (x^y)&(x^(x-y)) < 0 }),
	"*": evalInts("*", func(out, a, b []int64) bool {
		var bad int64
		for i, x := range a {
			high, low := multiply(x, b[i])
			bad |= high ^ low>>63
			out[i] = low
		}
		return bad != 0
	}, func(x, y int64) bool { high, low := multiply(x, y); return high != low>>63 }),
	"//": evalInts("//", func(out, a, b []int64) bool {
		bad := false
		for i, x := range a {
			y := b[i]
			if y == 0 || y == -1 && x == math.MinInt64 {
				bad, out[i] = true, 0
				continue
			}
			out[i] = x / y
		}
		return bad
	}, func(x, y int64) bool { return y == 0 || y == -1 && x == math.MinInt64 }),
	"%": evalInts("%", func(out, a, b []int64) bool {
		bad := false
		for i, x := range a {
			y := b[i]
			switch y {
			case 0:
				bad, out[i] = true, 0
			case -1: // of the least integer the quotient overflows, the remainder is 0 all the same
				out[i] = 0
			default:
				out[i] = x % y
			}
		}
		return bad
	}, func(_, y int64) bool { return y == 0 }),
}

// multiply returns the 128 bits of a product.
func multiply(x, y int64) (high, low int64) {
	h, l := bits.Mul64(uint64(x), uint64(y))          //nolint:gosec // Two's complement.
	return int64(h) - (x>>63)&y - (y>>63)&x, int64(l) //nolint:gosec // Two's complement.
}

// evalInts evaluates an operator of integers with a loop; wrong says which values have no result.
func evalInts(op string, loop func(out, a, b []int64) bool, wrong func(x, y int64) bool) evalFunc {
	return func(e *Evaluator, n *node, active bitmap) (*vector, error) {
		var a, b *vector
		if err := e.args(n, active, &a, &b); err != nil {
			return nil, err
		}
		defer e.done(a)
		defer e.done(b)
		out := e.get()
		out.validBoth(e.rows, a, b)
		out.ints = grow(out.ints, e.rows)
		if !loop(out.ints, a.ints[:e.rows], b.ints[:e.rows]) {
			return out, nil
		}
		for i := range e.rows {
			x, y := a.ints[i], b.ints[i]
			if wrong(x, y) && matters(i, out, active) {
				e.done(out)
				if y == 0 && op != "*" && op != "+" && op != "-" {
					return nil, n.rowError(i, "%d %s 0 divides by zero", x, op)
				}
				return nil, n.rowError(i, "%d %s %d does not fit int64", x, op, y)
			}
		}
		return out, nil
	}
}

// evalSign is the negative, or the absolute value as extra says, of an integer.
func evalSign(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	defer e.done(a)
	out := e.get()
	out.validAs(e.rows, a)
	out.ints = grow(out.ints, e.rows)
	always := n.extra == "negate"
	for i, x := range a.ints[:e.rows] {
		if x < 0 || always {
			if x == math.MinInt64 && matters(i, a, active) {
				e.done(out)
				return nil, n.rowError(i, "the negative of %d does not fit int64", x)
			}
			x = -x
		}
		out.ints[i] = x
	}
	return out, nil
}

// evalExtreme is the greater, or the lesser as extra says, of two values; that of a null and a value is the value.
func evalExtreme(e *Evaluator, n *node, active bitmap) (*vector, error) {
	var a, b *vector
	if err := e.args(n, active, &a, &b); err != nil {
		return nil, err
	}
	greatest := n.extra == "greatest"
	takeB := e.mask()
	switch {
	case n.kind == kindFloat && greatest:
		less(takeB, a.floats[:e.rows], b.floats)
	case n.kind == kindFloat:
		less(takeB, b.floats[:e.rows], a.floats)
	case greatest:
		less(takeB, a.ints[:e.rows], b.ints)
	default:
		less(takeB, b.ints[:e.rows], a.ints)
	}
	out := e.get()
	valid := out.needValid(e.rows)
	takeA := e.mask()
	for i := range takeB {
		x, y := a.validWord(i), b.validWord(i)
		valid[i] = x | y
		takeB[i] = takeB[i]&x&y | ^x
		takeA[i] = ^takeB[i]
	}
	if n.kind == kindFloat {
		out.floats = grow(out.floats, e.rows)
		copyRows(out.floats, a.floats, takeA, e.rows)
		copyRows(out.floats, b.floats, takeB, e.rows)
	} else {
		out.ints = grow(out.ints, e.rows)
		copyRows(out.ints, a.ints, takeA, e.rows)
		copyRows(out.ints, b.ints, takeB, e.rows)
	}
	e.unmask(takeA)
	e.unmask(takeB)
	e.done(a)
	e.done(b)
	return out, nil
}

func evalIsNaN(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.bools = out.bools.resize(e.rows)
	pack(out.bools, e.rows, func(i int) bool { return math.IsNaN(a.floats[i]) })
	e.done(a)
	return out, nil
}

// evalNullIf is the first value, but null where it equals the second.
func evalNullIf(e *Evaluator, n *node, active bitmap) (*vector, error) {
	same, err := e.eval(n.args[1], active)
	if err != nil {
		return nil, err
	}
	defer e.done(same)
	keep := e.mask()
	defer e.unmask(keep)
	for i := range keep {
		keep[i] = ^(same.bools[i] & same.validWord(i))
	}
	v, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	c := chooser{e: e, out: out, kind: n.kind}
	c.begin()
	mask := e.mask()
	copy(mask, keep)
	c.take(mask, v)
	defer c.end()
	return out, c.finish()
}

// roundTo rounds half away from zero to as many digits after the point.
func roundTo(x float64, digits int64) float64 {
	if digits == 0 {
		return math.Round(x)
	}
	if digits < -308 {
		return 0 * x
	}
	if digits > 308 {
		return x
	}
	scale := math.Pow10(int(digits))
	scaled := x * scale
	if math.IsInf(scaled, 0) || math.IsNaN(scaled) {
		return x
	}
	return math.Round(scaled) / scale
}

// evalRound has the digits, constant or not, as its second argument.
func evalRound(e *Evaluator, n *node, active bitmap) (*vector, error) {
	var a, b *vector
	if err := e.args(n, active, &a, &b); err != nil {
		return nil, err
	}
	out := e.get()
	out.validBoth(e.rows, a, b)
	out.floats = grow(out.floats, e.rows)
	for i, x := range a.floats[:e.rows] {
		out.floats[i] = roundTo(x, b.ints[i])
	}
	e.done(a)
	e.done(b)
	return out, nil
}
