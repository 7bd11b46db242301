package operator

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/runtime"
)

// Filter keeps the rows for which a condition is true. It is the one operator whose output may have fewer rows than its input; Kept tells
// which. Like every Operator it belongs to one goroutine.
type Filter struct {
	schema    *arrow.Schema
	evaluator *expression.Evaluator
	allocator memory.Allocator
	kept      expression.Selection
	indices   []int32
}

// NewFilter returns an operator that keeps the rows for which a condition is true, and neither false nor null. The columns that it uses
// are found by name. A condition that does not fit the schema is an error of kind engine.KindInvalidArgument.
func NewFilter(schema *arrow.Schema, where *expression.Expression, allocator memory.Allocator) (*Filter, error) {
	bound, err := where.BindCondition(schema)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opFilter, "", "%w", err)
	}
	return &Filter{schema: schema, evaluator: bound.NewEvaluator(allocator), allocator: allocator}, nil
}

const opFilter = "filter rows"

// Schema implements Operator.
func (o *Filter) Schema() *arrow.Schema { return o.schema }

// Kept returns the rows of the last record that Apply was given which are in the one that it returned. It is not changed by further
// calls.
func (o *Filter) Kept() expression.Selection { return o.kept }

// Apply implements Operator. The record that it returns has fewer rows, or is in itself.
func (o *Filter) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput(opFilter, o.schema, in); err != nil {
		return nil, err
	}
	kept, err := o.evaluator.Select(in)
	if err != nil {
		return nil, expressionError("", err)
	}
	o.kept = kept
	n := kept.Count()
	if n == kept.Len() {
		in.Retain()
		return in, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(opFilter, "", err)
	}
	o.indices = kept.Indices(o.indices)
	return take(in, kept, o.indices, o.allocator)
}

// expressionError makes a *runtime.RowError of the error of an expression.
func expressionError(column string, err error) error {
	var row *expression.RowError
	if !errors.As(err, &row) {
		return err
	}
	return &runtime.RowError{Column: column, Row: row.Row, Err: &expression.Error{Character: row.Character, Message: row.Message}}
}
