package operator

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
)

// WithColumn is a column of the output of NewWith: one that is there, or one that is calculated.
type WithColumn struct {
	// Index is the place of a column that stays as it is, if Value is nil.
	Index int
	// Name is the name of a column that is calculated, and Value what of.
	Name  string
	Value *expression.Expression
}

const opWith = "calculate columns"

// NewWith returns an operator that gives the columns listed, in that order. Expressions see the columns of the input; those that they use
// are found by name. A value that cannot be calculated is a *runtime.RowError with the new column's name. An expression that does not fit
// the schema, a place that does not exist, or a name that comes twice is an error of kind engine.KindInvalidArgument.
func NewWith(schema *arrow.Schema, columns []WithColumn, allocator memory.Allocator) (Operator, error) {
	o := &with{in: schema, columns: columns, evaluators: make([]*expression.Evaluator, len(columns))}
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		if c.Value == nil {
			if err := checkIndex(opWith, schema, c.Index); err != nil {
				return nil, err
			}
			fields[i] = schema.Field(c.Index)
			continue
		}
		bound, err := c.Value.BindValue(schema)
		if err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, opWith, c.Name, "%w", err)
		}
		fields[i] = arrow.Field{Name: c.Name, Type: bound.Type(), Nullable: true}
		o.evaluators[i] = bound.NewEvaluator(allocator)
	}
	var err error
	o.out, err = newSchema(opWith, schema, fields)
	return o, err
}

type with struct {
	in, out    *arrow.Schema
	columns    []WithColumn
	evaluators []*expression.Evaluator // by column; nil where it stays
}

// Schema implements Operator.
func (o *with) Schema() *arrow.Schema { return o.out }

// Apply implements Operator.
func (o *with) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput(opWith, o.in, in); err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, len(o.columns))
	defer func() {
		for i, e := range o.evaluators {
			if e != nil && columns[i] != nil {
				columns[i].Release()
			}
		}
	}()
	for i, c := range o.columns {
		if o.evaluators[i] == nil {
			columns[i] = in.Column(c.Index)
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, engine.WrapError(opWith, "", err)
		}
		column, err := o.evaluators[i].Evaluate(in)
		if err != nil {
			return nil, expressionError(c.Name, err)
		}
		columns[i] = column
	}
	return array.NewRecord(o.out, columns, in.NumRows()), nil
}
