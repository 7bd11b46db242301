package expression

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/internal/notation"
)

// maxNodes bounds the parts of an expression.
const maxNodes = 5_000

// checker turns the tree of an expression into nodes whose types fit.
type checker struct {
	text    string
	schema  *arrow.Schema
	columns map[string]*node
	nodes   int
}

// node makes a node, or the constant that it always is.
func (c *checker) node(n *node) *node {
	c.nodes++
	if n.typ == nil {
		n.typ = kindTypes[n.kind]
	}
	constant := len(n.args) > 0
	for _, a := range n.args {
		n.fails = n.fails || a.fails
		constant = constant && a.constant != nil
	}
	if !constant {
		return n
	}
	// What fails for a constant fails when, and only if, a row needs it.
	e := &Evaluator{rows: 1}
	v, err := n.eval(e, n, nil)
	if err != nil {
		return n
	}
	v.own = false
	return &node{at: n.at, kind: n.kind, typ: n.typ, constant: v, eval: evalConstant}
}

func (c *checker) at(offset int) int { return character(c.text, offset) }

func (c *checker) literal(at int, k kind, v *vector) *node {
	return c.node(&node{at: at, kind: k, constant: v, eval: evalConstant})
}

func textVector(s string) *vector {
	return &vector{offsets: []int32{0, int32(len(s))}, data: []byte(s), single: true} //nolint:gosec // MaxBytes fits.
}

func (c *checker) or(r *orRule) (*node, error) {
	return chain(c, r.Pos.Offset, r.Terms, c.and, "or", opOr, evalOr)
}

func (c *checker) and(r *andRule) (*node, error) {
	return chain(c, r.Pos.Offset, r.Terms, c.not, "and", opAnd, evalAnd)
}

func chain[R any](c *checker, offset int, terms []R, check func(R) (*node, error), name string, op operation, eval evalFunc) (*node, error) {
	left, err := check(terms[0])
	if err != nil {
		return nil, err
	}
	for _, t := range terms[1:] {
		right, err := check(t)
		if err != nil {
			return nil, err
		}
		args := []*node{left, right}
		if err := c.all(name, kindBool, args); err != nil {
			return nil, err
		}
		left = c.node(&node{at: c.at(offset), kind: kindBool, op: op, args: args, eval: eval})
	}
	return left, nil
}

func (c *checker) not(r *notRule) (*node, error) {
	if r.Not == nil {
		return c.test(r.Test)
	}
	n, err := c.not(r.Not)
	if err != nil {
		return nil, err
	}
	return c.negate(c.at(r.Pos.Offset), n)
}

func (c *checker) negate(at int, n *node) (*node, error) {
	args := []*node{n}
	if err := c.all("not", kindBool, args); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindBool, op: opNot, args: args, eval: evalNot}), nil
}

func (c *checker) test(r *testRule) (*node, error) {
	left, err := c.sum(r.Left)
	if err != nil || r.Tail == nil {
		return left, err
	}
	t := r.Tail
	at := c.at(t.Pos.Offset)
	var made *node
	switch {
	case t.Compare != nil:
		right, err := c.sum(t.Compare.Right)
		if err != nil {
			return nil, err
		}
		return c.compare(at, t.Compare.Op, left, right)
	case t.Is != nil:
		made, err = c.is(at, strings.ToLower(t.Is.What), left)
		if err == nil && t.Is.Not {
			made, err = c.negate(at, made)
		}
		return made, err
	case t.In != nil:
		made, err = c.in(at, left, t.In)
	case t.Between != nil:
		made, err = c.between(at, left, t.Between)
	default:
		var pattern *node
		if pattern, err = c.sum(t.Like); err != nil {
			return nil, err
		}
		args := []*node{left, pattern}
		if err := c.all("like", kindText, args); err != nil {
			return nil, err
		}
		made = c.node(&node{at: at, kind: kindBool, args: args, eval: evalTexts(like)})
	}
	if err == nil && t.Not {
		made, err = c.negate(at, made)
	}
	return made, err
}

func (c *checker) is(at int, what string, n *node) (*node, error) {
	if what == "null" {
		return c.node(&node{at: at, kind: kindBool, op: opIsNull, args: []*node{n}, eval: evalIsNull}), nil
	}
	args := []*node{n}
	if err := c.all("is "+what, kindBool, args); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindBool, args: args, eval: evalIsBool, extra: what == "true"}), nil
}

func (c *checker) between(at int, value *node, r *betweenRule) (*node, error) {
	low, err := c.sum(r.Low)
	if err != nil {
		return nil, err
	}
	high, err := c.sum(r.High)
	if err != nil {
		return nil, err
	}
	above, err := c.compare(at, ">=", value, low)
	if err != nil {
		return nil, err
	}
	below, err := c.compare(at, "<=", value, high)
	if err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindBool, op: opAnd, args: []*node{above, below}, eval: evalAnd}), nil
}

// in becomes a set if all items are constants, and a chain of comparisons else.
func (c *checker) in(at int, value *node, items []*orRule) (*node, error) {
	args := []*node{value}
	for _, item := range items {
		n, err := c.or(item)
		if err != nil {
			return nil, err
		}
		args = append(args, n)
	}
	k, err := c.unify("in", args)
	if err != nil {
		return nil, err
	}
	narrow := value.typ.ID() == arrow.FLOAT32
	value, rest := args[0], args[1:]
	if k != kindNull && !slices.ContainsFunc(rest, func(n *node) bool { return n.constant == nil }) {
		return c.node(&node{at: at, kind: kindBool, op: opIn, args: []*node{value}, eval: evalIn, extra: newSet(k, rest, narrow)}), nil
	}
	var found *node
	for _, item := range rest {
		same, err := c.compare(at, "=", value, item)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = same
			continue
		}
		found = c.node(&node{at: at, kind: kindBool, op: opOr, args: []*node{found, same}, eval: evalOr})
	}
	return found, nil
}

func (c *checker) compare(at int, op string, left, right *node) (*node, error) {
	args := []*node{left, right}
	narrow := left.typ.ID() == arrow.FLOAT32 || right.typ.ID() == arrow.FLOAT32
	k, err := c.unify(op, args)
	if err != nil {
		return nil, err
	}
	if narrow {
		// As if the literal had the column's type: 0.1 is then the same number on both sides.
		for i, a := range args {
			args[i] = c.rounded(a)
		}
	}
	swap, negate := false, false
	does, eval := opLess, evalLess(k)
	switch op {
	case "=", "==":
		does, eval = opEqual, evalEqual(k)
	case "<>", "!=":
		does, eval, negate = opEqual, evalEqual(k), true
	case ">":
		swap = true
	case "<=":
		swap, negate = true, true
	case ">=":
		negate = true
	}
	if swap {
		slices.Reverse(args)
	}
	made := c.node(&node{at: at, kind: kindBool, op: does, args: args, eval: eval})
	if negate {
		return c.negate(at, made)
	}
	return made, nil
}

// narrowed is the float32 next to a number, if there is one.
func narrowed(f float64) float64 {
	if r := float64(float32(f)); !math.IsInf(r, 0) {
		return r
	}
	return f
}

// rounded rounds a literal float to float32.
func (c *checker) rounded(n *node) *node {
	if n.literal == nil {
		return n
	}
	return c.literal(n.at, kindFloat, &vector{floats: []float64{narrowed(*n.literal)}})
}

func (c *checker) sum(r *sumRule) (*node, error) {
	left, err := c.product(r.Left)
	if err != nil {
		return nil, err
	}
	for _, t := range r.Rest {
		right, err := c.product(t.Right)
		if err != nil {
			return nil, err
		}
		at := c.at(t.Pos.Offset)
		if t.Op == "||" {
			left, err = c.join(at, left, right)
		} else {
			left, err = c.arithmetic(at, t.Op, left, right)
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

func (c *checker) join(at int, left, right *node) (*node, error) {
	if left.kind != kindText && right.kind != kindText {
		return nil, errorAt(at, `"||" joins texts, found %s and %s`, left.describe(), right.describe())
	}
	args := []*node{left, right}
	if err := c.texts(`"||"`, args); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindText, args: args, eval: evalJoin, fails: true}), nil
}

func (c *checker) product(r *productRule) (*node, error) {
	left, err := c.sign(r.Left)
	if err != nil {
		return nil, err
	}
	for _, t := range r.Rest {
		right, err := c.sign(t.Right)
		if err != nil {
			return nil, err
		}
		if left, err = c.arithmetic(c.at(t.Pos.Offset), t.Op, left, right); err != nil {
			return nil, err
		}
	}
	return left, nil
}

func (c *checker) arithmetic(at int, op string, left, right *node) (*node, error) {
	for _, n := range []*node{left, right} {
		if !n.kind.isNumber() && n.kind != kindNull {
			err := errorAt(at, "%q calculates with numbers, found %s", op, n.describe())
			if op == "+" && n.kind == kindText {
				err.Message += `; texts are joined by "||"`
			}
			return nil, err
		}
	}
	args := []*node{left, right}
	k, err := c.unify(op, args)
	if err != nil {
		return nil, err
	}
	if op == "/" || k == kindNull {
		k = kindFloat
		for i := range args {
			args[i] = c.to(args[i], kindFloat)
		}
	}
	n := &node{at: at, kind: k, args: args}
	if k == kindFloat {
		n.eval = floatOps[op]
	} else {
		n.eval, n.fails = intOps[op], true
	}
	return c.node(n), nil
}

func (c *checker) sign(r *signRule) (*node, error) {
	if r.Value != nil {
		return c.primary(r.Value)
	}
	at := c.at(r.Pos.Offset)
	if n := r.Under.Value; r.Sign == "-" && n != nil && n.Number != nil {
		return c.number(at, "-"+*n.Number)
	}
	n, err := c.sign(r.Under)
	if err != nil {
		return nil, err
	}
	if n.kind == kindNull {
		return n, nil
	}
	if !n.kind.isNumber() {
		return nil, errorAt(at, "%q calculates with numbers, found %s", r.Sign, n.describe())
	}
	if r.Sign == "+" {
		return n, nil
	}
	return c.function(at, "negate", []*node{n})
}

func (c *checker) number(at int, digits string) (*node, error) {
	if !strings.ContainsAny(digits, ".eE") {
		i, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return nil, errorAt(at, "the number %s does not fit int64", digits)
		}
		return c.literal(at, kindInt, &vector{ints: []int64{i}}), nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return nil, errorAt(at, "the number %s does not fit float64", digits)
	}
	n := c.literal(at, kindFloat, &vector{floats: []float64{f}})
	n.literal = &f
	return n, nil
}

func (c *checker) primary(r *primaryRule) (*node, error) {
	at := c.at(r.Pos.Offset)
	switch {
	case r.Number != nil:
		return c.number(at, *r.Number)
	case r.Text != nil:
		return c.literal(at, kindText, textVector(unquote(*r.Text))), nil
	case r.Word != nil:
		switch strings.ToLower(*r.Word) {
		case "null":
			return c.literal(at, kindNull, &vector{valid: bitmap{0}}), nil
		case "true":
			return c.literal(at, kindBool, &vector{bools: bitmap{1}}), nil
		default:
			return c.literal(at, kindBool, &vector{bools: bitmap{0}}), nil
		}
	case r.Case != nil:
		return c.cases(at, r.Case)
	case r.Cast != nil:
		n, err := c.or(r.Cast.Value)
		if err != nil {
			return nil, err
		}
		return c.cast(at, n, c.at(r.Cast.Type.Pos.Offset), r.Cast.Type.Name)
	case r.Typed != nil:
		return c.typed(at, r.Typed.Type, unquote(r.Typed.Text))
	case r.Call != nil:
		args := make([]*node, len(r.Call.Args))
		for i, a := range r.Call.Args {
			var err error
			if args[i], err = c.or(a); err != nil {
				return nil, err
			}
		}
		return c.function(at, strings.ToLower(r.Call.Name), args)
	case r.Grouped != nil:
		return c.or(r.Grouped)
	default:
		name := *r.Column
		if name[0] == '"' {
			name = unquote(name)
		}
		return c.columnNode(at, name)
	}
}

func (c *checker) columnNode(at int, name string) (*node, error) {
	if n := c.columns[name]; n != nil {
		return n, nil
	}
	places := c.schema.FieldIndices(name)
	if len(places) != 1 {
		err := errorAt(at, "column %q does not exist", name)
		if len(places) > 1 {
			err = errorAt(at, "%d columns are named %q", len(places), name)
		}
		err.Unknown, err.Column = name, true
		for _, f := range c.schema.Fields() {
			err.Candidates = append(err.Candidates, f.Name)
		}
		return nil, err
	}
	typ := c.schema.Field(places[0]).Type
	n := &node{at: at, kind: kindOf(typ), typ: typ, name: name, column: places[0], eval: evalColumn}
	n.fails = typ.ID() == arrow.UINT64 || typ.ID() == arrow.TIMESTAMP && typ.(*arrow.TimestampType).Unit != arrow.Microsecond
	c.columns[name] = c.node(n)
	return n, nil
}

// typed is date '…' or timestamp '…'.
func (c *checker) typed(at int, name, text string) (*node, error) {
	k := kindDate
	switch strings.ToLower(name) {
	case "date":
	case "timestamp":
		k = kindTime
	default:
		return nil, errorAt(at, "%q cannot stand before a text; use date or timestamp", name)
	}
	return c.moment(at, k, text)
}

// moment is a literal date or timestamp.
func (c *checker) moment(at int, k kind, text string) (*node, error) {
	var value int64
	var err error
	if k == kindDate {
		var days int32
		days, err = notation.ParseDate(text)
		value = int64(days)
	} else {
		value, err = notation.ParseTimestamp(text)
	}
	if errors.Is(err, notation.ErrNotExact) {
		return nil, errorAt(at, "%q has more than microseconds", text)
	}
	if err != nil {
		like := "2026-01-31"
		if k == kindTime {
			like = "2026-01-31 12:00:00"
		}
		return nil, errorAt(at, "%q is no %s like %s", text, typeName(kindTypes[k]), like)
	}
	return c.literal(at, k, &vector{ints: []int64{value}}), nil
}

func (c *checker) cases(at int, r *caseRule) (*node, error) {
	var whens, values []*node
	for _, w := range r.Whens {
		when, err := c.or(w.When)
		if err != nil {
			return nil, err
		}
		then, err := c.or(w.Then)
		if err != nil {
			return nil, err
		}
		whens, values = append(whens, when), append(values, then)
	}
	otherwise := c.literal(at, kindNull, &vector{valid: bitmap{0}})
	if r.Else != nil {
		var err error
		if otherwise, err = c.or(r.Else); err != nil {
			return nil, err
		}
	}
	return c.choose(at, "case", whens, append(values, otherwise))
}

// choose is the value of the first condition that is true, else the last value.
func (c *checker) choose(at int, op string, whens, values []*node) (*node, error) {
	if err := c.all("a condition of "+op, kindBool, whens); err != nil {
		return nil, err
	}
	typ := commonType(values)
	k, err := c.unify(op, values)
	if err != nil {
		return nil, err
	}
	if k == kindNull {
		return values[0], nil
	}
	if k == kindOther {
		return nil, errorAt(values[0].at, "%s does not take %s", op, values[0].describe())
	}
	return c.node(&node{at: at, kind: k, typ: typ, args: append(slices.Clone(whens), values...), eval: evalChoose, extra: len(whens)}), nil
}

// commonType is the type of values that all have the same one, of those that a cast can ask for; nil else.
func commonType(values []*node) (t arrow.DataType) {
	for _, v := range values {
		switch {
		case v.kind == kindNull:
		case v.typ.ID() != arrow.INT32 && v.typ.ID() != arrow.FLOAT32, t != nil && !arrow.TypeEqual(t, v.typ):
			return nil
		default:
			t = v.typ
		}
	}
	return t
}

// all makes the arguments be of a kind, as far as they are literal nulls; others are errors.
func (c *checker) all(op string, k kind, args []*node) error {
	for i, a := range args {
		if a.kind != k && a.kind != kindNull {
			return errorAt(a.at, "%s wants %s, found %s", op, wanted[k], a.describe())
		}
		args[i] = c.to(a, k)
	}
	return nil
}

var wanted = map[kind]string{
	kindBool: "true or false", kindInt: "an integer", kindFloat: "a number", kindText: "a text", kindDate: "a date", kindTime: "a timestamp",
}

// unify gives the arguments one kind, and returns it: kindNull if all are literal nulls.
func (c *checker) unify(op string, args []*node) (kind, error) {
	k := kindNull
	moment := slices.ContainsFunc(args, func(n *node) bool { return n.kind == kindDate || n.kind == kindTime })
	var first *node
	for i, a := range args {
		if moment && a.kind == kindText && a.constant != nil && a.constant.isValid(0) {
			// A text that has a time of day makes dates timestamps.
			text := string(a.constant.text(0))
			to := kindDate
			if _, err := notation.ParseDate(text); err != nil {
				to = kindTime
			}
			var err error
			if a, err = c.moment(a.at, to, text); err != nil {
				return 0, err
			}
			args[i] = a
		}
		switch {
		case a.kind == kindNull || a.kind == k:
		case k == kindNull:
			k, first = a.kind, a
		case k.isNumber() && a.kind.isNumber():
			k = kindFloat
		case (k == kindDate || k == kindTime) && (a.kind == kindDate || a.kind == kindTime):
			k = kindTime
		default:
			return 0, errorAt(a.at, "%s cannot put %s beside %s", strconv.Quote(op), a.describe(), first.describe())
		}
	}
	if k == kindOther {
		return 0, errorAt(first.at, "%s does not take %s", strconv.Quote(op), first.describe())
	}
	for i, a := range args {
		args[i] = c.to(a, k)
	}
	return k, nil
}

// to widens a node to a kind: a null to any, an integer to a float, a date to a timestamp.
func (c *checker) to(n *node, k kind) *node {
	switch {
	case n.kind == k || k == kindNull:
		return n
	case n.kind == kindNull:
		return c.literal(n.at, k, &vector{valid: bitmap{0}, ints: []int64{0}, floats: []float64{0}, bools: bitmap{0}, offsets: []int32{0, 0}, single: true})
	case k == kindFloat:
		return c.node(&node{at: n.at, kind: k, op: opToFloat, args: []*node{n}, eval: evalToFloat})
	default:
		return c.node(&node{at: n.at, kind: k, args: []*node{n}, eval: evalDateToTime})
	}
}

// texts makes texts of the arguments.
func (c *checker) texts(op string, args []*node) error {
	for i, a := range args {
		if a.kind == kindText || a.kind == kindNull {
			args[i] = c.to(a, kindText)
			continue
		}
		if a.kind == kindOther {
			return errorAt(a.at, "%s does not take %s", op, a.describe())
		}
		n, err := c.castTo(a.at, a, arrow.BinaryTypes.String)
		if err != nil {
			return err
		}
		args[i] = n
	}
	return nil
}

func (c *checker) cast(at int, n *node, typeAt int, name string) (*node, error) {
	t, ok := typeNames[strings.ToLower(name)]
	if !ok {
		err := errorAt(typeAt, "%q is not a type", name)
		err.Unknown, err.Candidates = name, slices.Sorted(maps.Keys(typeNames))
		return nil, err
	}
	return c.castTo(at, n, t)
}

func (c *checker) function(at int, name string, args []*node) (*node, error) {
	f, ok := functions[name]
	if !ok {
		err := errorAt(at, "there is no function %q", name)
		if better := otherNames[name]; better != "" {
			err.Message += fmt.Sprintf("; use %s", better)
			return nil, err
		}
		err.Unknown = name
		for _, f := range Functions() {
			err.Candidates = append(err.Candidates, f.Name)
		}
		return nil, err
	}
	if len(args) < f.min || f.max >= 0 && len(args) > f.max {
		return nil, errorAt(at, "%s takes %s, found %d: %s", name, countText(f.min, f.max), len(args), f.usage)
	}
	return f.check(c, at, name, args)
}

func countText(least, most int) string {
	switch {
	case most < 0:
		return fmt.Sprintf("at least %d values", least)
	case least < most:
		return fmt.Sprintf("%d to %d values", least, most)
	case least == 1:
		return "1 value"
	default:
		return fmt.Sprintf("%d values", least)
	}
}
