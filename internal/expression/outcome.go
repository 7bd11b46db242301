package expression

import (
	"bytes"
	"cmp"
	"math"
)

// Range is what is known of the values that a column has in some rows.
type Range struct {
	// Low and High bound the values that are neither null nor NaN: both int64 (of dates the days, of timestamps the microseconds, since
	// 1970), both float64, or both text. If they are nil, nothing is known of the values.
	Low, High any
	// NoNulls says that no row is null, AllNulls that every row is.
	NoNulls, AllNulls bool
}

// operation says what a node does, as far as Bound.MayMatch understands it.
type operation uint8

const (
	opOther operation = iota
	opAnd
	opOr
	opNot
	opIsNull
	opLess  // of the first argument and the second
	opEqual // likewise
	opIn    // of the argument and the set in extra
	opToFloat
)

// outcome is a set of what a condition may be for a row.
type outcome uint8

const (
	mayTrue outcome = 1 << iota
	mayFalse
	mayNull
	mayFail
	anyOutcome = mayTrue | mayFalse | mayNull
)

// maxNaNColumns bounds the columns of floats of a condition that MayMatch looks at: each may be NaN or not.
const maxNaNColumns = 6

// MayMatch reports whether the condition may be true for a row, or fail, given what is known of the columns by their place in the
// schema. If it returns false, no row need be looked at: a filter would leave all of them out, without an error.
func (b *Bound) MayMatch(known func(column int) Range) bool {
	o := outcomes{known: map[int]Range{}}
	for _, column := range b.columns {
		o.known[column] = known(column)
		if kindOf(b.schema.Field(column).Type) == kindFloat {
			o.floats = append(o.floats, column)
		}
	}
	if len(o.floats) > maxNaNColumns {
		return true
	}
	// Bounds say nothing of NaN, which is greater than all else. Whether a column is NaN in a row is the same for all parts of the
	// condition.
	for o.nan = range 1 << len(o.floats) {
		if o.of(b.root)&(mayTrue|mayFail) != 0 {
			return true
		}
	}
	return false
}

// outcomes works out what nodes may be.
type outcomes struct {
	known  map[int]Range
	floats []int // the columns of floats
	nan    int   // a bit for each of floats: it is NaN or null
}

// of returns what a condition may be.
func (o *outcomes) of(n *node) outcome {
	if n.kind != kindBool {
		return anyOutcome | mayFail
	}
	if v := n.constant; v != nil {
		switch {
		case !v.isValid(0):
			return mayNull
		case v.bools.has(0):
			return mayTrue
		default:
			return mayFalse
		}
	}
	var out outcome
	switch n.op {
	case opNot:
		a := o.of(n.args[0])
		out = a & (mayNull | mayFail)
		if a&mayTrue != 0 {
			out |= mayFalse
		}
		if a&mayFalse != 0 {
			out |= mayTrue
		}
	case opAnd:
		return o.both(n, mayTrue, mayFalse)
	case opOr:
		return o.both(n, mayFalse, mayTrue)
	case opIsNull:
		v := o.value(n.args[0])
		if v.mayBeNull {
			out |= mayTrue
		}
		if v.mayBeValue {
			out |= mayFalse
		}
		if n.fails {
			out |= mayFail
		}
	case opLess, opEqual:
		out = compareValues(n.op, o.value(n.args[0]), o.value(n.args[1]))
		if n.fails {
			out |= mayFail
		}
	case opIn:
		out = isAmong(o.value(n.args[0]), n.extra.(*set))
		if n.fails {
			out |= mayFail
		}
	default:
		out = anyOutcome
		if n.fails {
			out |= mayFail
		}
	}
	return out
}

// both is for and, where one false decides, and or, where one true does. The second argument is not evaluated for rows that the first
// decides.
func (o *outcomes) both(n *node, neutral, decides outcome) outcome {
	a := o.of(n.args[0])
	if a&(neutral|mayNull) == 0 {
		return a
	}
	b := o.of(n.args[1])
	out := (a|b)&(decides|mayFail) | a&b&neutral
	if a&mayNull != 0 && b&(neutral|mayNull) != 0 || b&mayNull != 0 && a&(neutral|mayNull) != 0 {
		out |= mayNull
	}
	return out
}

// values are those that a node may have.
type values struct {
	mayBeNull, mayBeValue bool
	// low and high bound them, both of type int64, float64, or string; nil if they may be anything.
	low, high any
}

func (o *outcomes) value(n *node) values {
	unknown := values{mayBeNull: true, mayBeValue: true}
	switch {
	case n.constant != nil:
		v := n.constant
		if !v.isValid(0) {
			return values{mayBeNull: true}
		}
		var x any
		switch {
		case n.kind == kindFloat:
			x = v.floats[0]
		case n.kind.hasInts():
			x = v.ints[0]
		case n.kind == kindText:
			x = string(v.text(0))
		}
		return values{mayBeValue: true, low: x, high: x}
	case n.name != "":
		return o.column(n)
	case n.op == opToFloat:
		v := o.value(n.args[0])
		low, ok := v.low.(int64)
		high, also := v.high.(int64)
		if !ok || !also {
			return values{mayBeNull: v.mayBeNull, mayBeValue: v.mayBeValue}
		}
		v.low, v.high = float64(low), float64(high) // which keeps their order
		return v
	default:
		return unknown
	}
}

func (o *outcomes) column(n *node) values {
	r := o.known[n.column]
	v := values{mayBeNull: !r.NoNulls, mayBeValue: !r.AllNulls}
	for i, column := range o.floats {
		if column == n.column && o.nan>>i&1 != 0 {
			v.low, v.high = math.NaN(), math.NaN()
			return v
		}
	}
	fits := false
	switch low := r.Low.(type) {
	case int64:
		_, ok := r.High.(int64)
		fits = ok && n.kind.hasInts()
	case float64:
		high, ok := r.High.(float64)
		fits = ok && n.kind == kindFloat && low <= high // not NaN
	case string:
		_, ok := r.High.(string)
		fits = ok && n.kind == kindText
	}
	if fits {
		v.low, v.high = r.Low, r.High
	}
	return v
}

// compareValues returns what a comparison may be.
func compareValues(op operation, a, b values) (out outcome) {
	if a.mayBeNull || b.mayBeNull {
		out |= mayNull
	}
	if !a.mayBeValue || !b.mayBeValue {
		return out
	}
	lowToHigh, ok := order(a.low, b.high)
	highToLow, also := order(a.high, b.low)
	if !ok || !also {
		return out | mayTrue | mayFalse
	}
	if op == opLess {
		if lowToHigh < 0 {
			out |= mayTrue
		}
		if highToLow >= 0 {
			out |= mayFalse
		}
		return out
	}
	if lowToHigh <= 0 && highToLow >= 0 {
		out |= mayTrue
	}
	if !(lowToHigh == 0 && highToLow == 0) {
		out |= mayFalse
	}
	return out
}

// isAmong returns what a search in a set may be.
func isAmong(v values, s *set) (out outcome) {
	if v.mayBeNull {
		out |= mayNull
	}
	if !v.mayBeValue {
		return out
	}
	found, only := true, false
	switch low := v.low.(type) {
	case int64:
		high := v.high.(int64)
		found, only = meets(s.ints, low, high)
	case float64:
		high := v.high.(float64)
		if math.IsNaN(low) {
			found, only = s.hasNaN, s.hasNaN // It is NaN.
		} else {
			found, only = meets(s.floats, low, high)
		}
	case string:
		high := v.high.(string)
		found, only = meets(s.texts, low, high)
	}
	if found {
		out |= mayTrue
	}
	switch {
	case only:
	case s.hasNull:
		out |= mayNull
	default:
		out |= mayFalse
	}
	return out
}

// meets tells whether a value between bounds may be in a set, and whether none can be outside of it.
func meets[T cmp.Ordered](items map[T]struct{}, low, high T) (found, only bool) {
	for item := range items {
		if low <= item && item <= high {
			return true, low == high
		}
	}
	return false, false
}

// order compares two values of one type as the kernels do: NaN is greater than all else.
func order(a, b any) (int, bool) {
	switch a := a.(type) {
	case int64:
		b, ok := b.(int64)
		return cmp.Compare(a, b), ok
	case float64:
		b, ok := b.(float64)
		switch {
		case a != a && b != b:
			return 0, ok
		case a != a:
			return 1, ok
		case b != b:
			return -1, ok
		}
		return cmp.Compare(a, b), ok
	case string:
		b, ok := b.(string)
		return bytes.Compare([]byte(a), []byte(b)), ok
	}
	return 0, false
}
