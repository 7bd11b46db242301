package expression

import "strconv"

// maxListed bounds the categories that a message lists.
const maxListed = 10

// Position returns the expression of the place of a column's value in a list of texts, from 0, as int32. The column has texts, integers,
// or booleans. A value that is not in the list is an error of its row if strict, else null. The list must have no text twice.
func Position(column string, categories []string, strict bool) *Expression {
	return &Expression{text: "position of " + strconv.Quote(column), build: func(c *checker) (*node, error) {
		return c.position(column, categories, strict)
	}}
}

// Indicator returns the expression that is 1 where a column's value is the category, as Position has it, in this place, and 0 elsewhere,
// as int32. If strict, a value that is in no place is an error of its row.
func Indicator(column string, categories []string, place int, strict bool) *Expression {
	return &Expression{text: "category of " + strconv.Quote(column), build: func(c *checker) (*node, error) {
		var same *node
		var err error
		if strict {
			var at *node
			if at, err = c.position(column, categories, true); err == nil {
				same, err = c.compare(0, "=", at, c.literal(0, kindInt, &vector{ints: []int64{int64(place)}}))
			}
		} else {
			var value *node
			if value, err = c.category(column); err == nil {
				same, err = c.compare(0, "=", value, c.literal(0, kindText, textVector(categories[place])))
			}
		}
		if err != nil {
			return nil, err
		}
		return c.cast(0, same, 0, "int32")
	}}
}

// category is the text of a column.
func (c *checker) category(column string) (*node, error) {
	n, err := c.columnNode(0, column)
	if err != nil {
		return nil, err
	}
	if n.kind != kindText && n.kind != kindInt && n.kind != kindBool {
		return nil, errorAt(0, "categories are texts, whole numbers, or true and false, found %s", n.describe())
	}
	args := []*node{n}
	if err := c.texts("category", args); err != nil {
		return nil, err
	}
	return args[0], nil
}

// places are those of categories.
type places struct {
	of     map[string]int64
	column string
	listed []string
	strict bool
}

func (c *checker) position(column string, categories []string, strict bool) (*node, error) {
	value, err := c.category(column)
	if err != nil {
		return nil, err
	}
	p := &places{column: column, of: make(map[string]int64, len(categories)), listed: categories[:min(len(categories), maxListed)], strict: strict}
	for i, category := range categories {
		p.of[category] = int64(i)
	}
	return c.node(&node{kind: kindInt, typ: typeNames["int32"], args: []*node{value}, eval: evalPosition, extra: p, fails: strict}), nil
}

func evalPosition(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	defer e.done(a)
	p := n.extra.(*places)
	out := e.get()
	out.validAs(e.rows, a)
	if !p.strict && out.valid == nil {
		out.needValid(e.rows)
		for i := range out.valid {
			out.valid[i] = ^uint64(0)
		}
	}
	out.ints = grow(out.ints, e.rows)
	for i := range out.ints {
		out.ints[i] = 0
		if !a.isValid(i) {
			continue
		}
		place, ok := p.of[string(a.text(i))]
		switch {
		case ok:
			out.ints[i] = place
		case !p.strict:
			out.valid[i/64] &^= 1 << (i % 64)
		case matters(i, a, active):
			e.done(out)
			more := ""
			if len(p.of) > len(p.listed) {
				more = ", …"
			}
			return nil, n.rowError(i, "%s of column %q is none of the categories %q%s", valueText(a, n.args[0], i), p.column, p.listed, more)
		}
	}
	return out, nil
}
