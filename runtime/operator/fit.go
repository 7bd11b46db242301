package operator

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v15/arrow"

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
	// All are checked before any is observed: a record batch with a bad row comes again without it.
	for _, c := range f.columns {
		err := c.Seen.Check(in.Column(c.Index))
		var bad *fit.RowError
		if errors.As(err, &bad) {
			return nil, &runtime.RowError{Column: f.schema.Field(c.Index).Name, Row: bad.Rows[0], Others: bad.Rows[1:], Err: bad.Err}
		}
		if err != nil {
			return nil, err
		}
	}
	for _, c := range f.columns {
		if err := c.Seen.Observe(in.Column(c.Index)); err != nil {
			return nil, err
		}
	}
	in.Retain()
	return in, nil
}
