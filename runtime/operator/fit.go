package operator

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/runtime"
)

// FitColumn is a column that a step is fitted to.
type FitColumn struct {
	// Index is the column's place.
	Index int
	// Seen takes in its values. It is the operator's while that is in use.
	Seen *fit.Column
}

// fitting is an Operator that looks at columns and changes nothing.
type fitting struct {
	schema  *arrow.Schema
	columns []FitColumn
}

// NewFit returns an operator that lets columns observe their values and gives every record as it is. An index that does not exist is an
// error of kind engine.KindInvalidArgument.
func NewFit(schema *arrow.Schema, columns []FitColumn) (Operator, error) {
	for _, c := range columns {
		if err := checkIndex("fit columns", schema, c.Index); err != nil {
			return nil, err
		}
	}
	return &fitting{schema: schema, columns: columns}, nil
}

// Schema implements Operator.
func (f *fitting) Schema() *arrow.Schema { return f.schema }

// Apply implements Operator. It returns in, retained.
func (f *fitting) Apply(_ context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput("fit columns", f.schema, in); err != nil {
		return nil, err
	}
	for _, c := range f.columns {
		err := c.Seen.Observe(in.Column(c.Index))
		var row *fit.RowError
		if errors.As(err, &row) {
			cause := row.Err
			var e *engine.Error
			if errors.As(cause, &e) && e.Err != nil {
				cause = e.Err
			}
			return nil, &runtime.RowError{Column: f.schema.Field(c.Index).Name, Row: int64(row.Row), Err: cause}
		}
		if err != nil {
			return nil, err
		}
	}
	in.Retain()
	return in, nil
}
