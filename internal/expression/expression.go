package expression

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
)

// Expression is an expression as far as that can be said without a table. Parse makes it of a text.
type Expression struct {
	text string
	tree *orRule
	// build checks an expression that has no tree.
	build func(c *checker) (*node, error)
}

// Parse reads an expression. Its error is an *Error.
func Parse(text string) (*Expression, error) {
	tree, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &Expression{text: text, tree: tree}, nil
}

// String returns the text, or what the expression is.
func (x *Expression) String() string { return x.text }

// Bind checks the expression against a table. The error is an *Error: a column or function that does not exist, or an operator of
// types that it does not take.
func (x *Expression) Bind(schema *arrow.Schema) (*Bound, error) {
	c := &checker{text: x.text, schema: schema, columns: map[string]*node{}}
	build := x.build
	if build == nil {
		build = func(c *checker) (*node, error) { return c.or(x.tree) }
	}
	root, err := build(c)
	if err != nil {
		return nil, err
	}
	if c.nodes > maxNodes {
		return nil, errorAt(0, "the expression has %d parts, at most %d are allowed", c.nodes, maxNodes)
	}
	b := &Bound{text: x.text, root: root, schema: schema}
	for _, n := range c.columns {
		b.columns = append(b.columns, n.column)
	}
	slices.Sort(b.columns)
	return b, nil
}

// BindCondition is Bind for an expression that must be true or false. The untyped null is none.
func (x *Expression) BindCondition(schema *arrow.Schema) (*Bound, error) {
	b, err := x.Bind(schema)
	if err != nil {
		return nil, err
	}
	if b.root.kind != kindBool {
		return nil, errorAt(0, "a condition must be true or false, found %s", b.root.describe())
	}
	return b, nil
}

// BindValue is Bind for an expression whose values become a column. The untyped null is refused.
func (x *Expression) BindValue(schema *arrow.Schema) (*Bound, error) {
	b, err := x.Bind(schema)
	if err != nil {
		return nil, err
	}
	if b.root.kind == kindNull {
		return nil, errorAt(0, "null has no type; write cast(null as float64), or another type")
	}
	return b, nil
}

// Bound is an expression that was checked against a table.
type Bound struct {
	text    string
	root    *node
	schema  *arrow.Schema
	columns []int
}

// String returns the text.
func (b *Bound) String() string { return b.text }

// Type is the type of the column that the expression makes.
func (b *Bound) Type() arrow.DataType { return b.root.typ }

// Columns are the places in the schema of the columns that the expression uses, ascending. The caller must not change them.
func (b *Bound) Columns() []int { return b.columns }
