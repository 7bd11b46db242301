package expression

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/internal/notation"
)

// castTo casts a node by the rules of the step cast.
func (c *checker) castTo(at int, n *node, to arrow.DataType) (*node, error) {
	k := kindOf(to)
	if n.kind == kindNull {
		made := *c.to(n, k)
		made.typ = to
		return &made, nil
	}
	number := func(k kind) bool { return k.isNumber() || k == kindBool }
	moment := func(k kind) bool { return k == kindDate || k == kindTime }
	made := &node{at: at, kind: k, typ: to, args: []*node{n}, fails: true}
	switch {
	case n.kind == kindOther:
	case k == kindText && n.kind == kindText:
		return n, nil
	case k == kindText:
		made.eval = evalWrite
	case n.kind == kindText:
		made.eval = evalRead
	case number(k) && number(n.kind):
		made.eval = evalCastNumber
	case moment(k) && moment(n.kind):
		made.eval = evalCastMoment
	}
	if made.eval == nil {
		return nil, errorAt(at, "cast to %s does not take %s", typeName(to), n.describe())
	}
	return c.node(made), nil
}

// appendValue appends a value as the step cast writes it.
func appendValue(b []byte, v *vector, n *node, row int) []byte {
	switch n.kind {
	case kindBool:
		return strconv.AppendBool(b, v.bools.has(row))
	case kindInt:
		return strconv.AppendInt(b, v.ints[row], 10)
	case kindFloat:
		bits := 64
		if n.typ.ID() == arrow.FLOAT32 {
			bits = 32
		}
		return notation.AppendFloat(b, v.floats[row], bits)
	case kindDate:
		return notation.AppendDate(b, v.ints[row])
	case kindTime:
		b = notation.AppendTimestamp(b, v.ints[row])
		if t, ok := n.typ.(*arrow.TimestampType); ok && t.TimeZone != "" {
			b = append(b, 'Z')
		}
		return b
	default:
		return append(b, v.text(row)...)
	}
}

// maxValueBytes bounds a value in an error message.
const maxValueBytes = 80

func valueText(v *vector, n *node, row int) string {
	if n.kind != kindText {
		return string(appendValue(nil, v, n, row))
	}
	if text := v.text(row); len(text) > maxValueBytes {
		return fmt.Sprintf("%q…", text[:maxValueBytes])
	}
	return fmt.Sprintf("%q", v.text(row))
}

func evalWrite(e *Evaluator, n *node, active bitmap) (*vector, error) {
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
			t.data = appendValue(t.data, a, n.args[0], i)
		}
		t.end()
	}
	return out, t.finish()
}

// prepare makes room for values of a node's kind. What null rows hold must not trip kernels up, so it is 0.
func (v *vector) prepare(k kind, rows int) {
	switch k {
	case kindFloat:
		v.floats = grow(v.floats, rows)
		clear(v.floats)
	case kindBool:
		v.bools = v.bools.resize(rows)
		clear(v.bools)
	default:
		v.ints = grow(v.ints, rows)
		clear(v.ints)
	}
}

// evalRead reads texts.
func evalRead(e *Evaluator, n *node, active bitmap) (*vector, error) {
	return evalRows(e, n, active, func(out, a *vector, row int) string {
		var err error
		text := string(a.text(row))
		switch n.typ.ID() {
		case arrow.BOOL:
			var b bool
			if b, err = strconv.ParseBool(text); b {
				out.bools.set(row)
			}
		case arrow.INT32:
			out.ints[row], err = strconv.ParseInt(text, 10, 32)
		case arrow.INT64:
			out.ints[row], err = strconv.ParseInt(text, 10, 64)
		case arrow.FLOAT32:
			out.floats[row], err = notation.ParseFloat(text, 32)
		case arrow.FLOAT64:
			out.floats[row], err = notation.ParseFloat(text, 64)
		case arrow.DATE32:
			var days int32
			days, err = notation.ParseDate(text)
			out.ints[row] = int64(days)
		default:
			out.ints[row], err = notation.ParseTimestamp(text)
		}
		switch {
		case err == nil:
			return ""
		case errors.Is(err, notation.ErrNotExact), errors.Is(err, strconv.ErrRange):
			return "does not fit %s exactly"
		default:
			return "is not a valid %s"
		}
	})
}

// evalRows makes one value of each that is not null. What f returns says what is wrong with it, around the type's name.
func evalRows(e *Evaluator, n *node, active bitmap, f func(out, a *vector, row int) string) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	defer e.done(a)
	out := e.get()
	out.validAs(e.rows, a)
	out.prepare(n.kind, e.rows)
	for i := range e.rows {
		if !out.isValid(i) {
			continue
		}
		if wrong := f(out, a, i); wrong != "" && matters(i, out, active) {
			e.done(out)
			return nil, n.rowError(i, "value %s "+wrong, valueText(a, n.args[0], i), typeName(n.typ))
		}
	}
	return out, nil
}

const (
	notExact = "does not fit %s exactly"
	// aboveInt is the least float above all int64; the negative of it is the least int64.
	aboveInt = 1 << 63
)

func evalCastNumber(e *Evaluator, n *node, active bitmap) (*vector, error) {
	from := n.args[0].kind
	return evalRows(e, n, active, func(out, a *vector, row int) string {
		var whole int64
		float, isFloat := 0.0, from == kindFloat
		switch from {
		case kindBool:
			whole = int64(bit(a.bools.has(row)))
		case kindInt:
			whole = a.ints[row]
		default:
			float = a.floats[row]
		}
		if n.kind == kindFloat {
			return castToFloat(out, row, n.typ.ID() == arrow.FLOAT32, isFloat, whole, float)
		}
		if isFloat {
			if !(float >= -aboveInt && float < aboveInt) || math.Trunc(float) != float { // NaN fails too
				return notExact
			}
			whole = int64(float)
		}
		switch {
		case n.kind == kindBool:
			if whole != 0 && whole != 1 {
				return notExact
			}
			if whole == 1 {
				out.bools.set(row)
			}
		case n.typ.ID() == arrow.INT32 && int64(int32(whole)) != whole: //nolint:gosec // That is the question.
			return notExact
		default:
			out.ints[row] = whole
		}
		return ""
	})
}

func castToFloat(out *vector, row int, narrow, isFloat bool, whole int64, float float64) string {
	if !isFloat {
		float = float64(whole)
		if narrow {
			float = float64(float32(whole))
		}
		if float >= aboveInt || int64(float) != whole {
			return notExact
		}
	}
	if narrow {
		rounded := float64(float32(float))
		if math.IsInf(rounded, 0) && !math.IsInf(float, 0) {
			return notExact
		}
		float = rounded
	}
	out.floats[row] = float
	return ""
}

func evalCastMoment(e *Evaluator, n *node, active bitmap) (*vector, error) {
	from := n.args[0].kind
	return evalRows(e, n, active, func(out, a *vector, row int) string {
		x := a.ints[row]
		switch {
		case from == n.kind:
		case n.kind == kindTime:
			if x < math.MinInt64/microsPerDay || x > math.MaxInt64/microsPerDay {
				return notExact
			}
			x *= microsPerDay
		default:
			days := floorDiv(x, microsPerDay)
			if days*microsPerDay != x || int64(int32(days)) != days { //nolint:gosec // That is the question.
				return notExact
			}
			x = days
		}
		out.ints[row] = x
		return ""
	})
}
