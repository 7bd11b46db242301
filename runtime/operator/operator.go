// Package operator applies the steps of a job to record batches: it selects, renames, casts, and calculates columns, filters rows, and
// evaluates models. Operators are made from parameters that are bound already: columns are given by their place in the schema, in
// expressions by name. What the output looks like is decided by the functions that end in Schema, which planners use without making an
// operator.
package operator

import (
	"context"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
)

// Operator turns record batches into record batches with the same number of rows; a Filter alone leaves rows out. It may keep memory from call to call, so one
// goroutine uses it at a time.
type Operator interface {
	// Schema is that of the records that Apply returns.
	Schema() *arrow.Schema
	// Apply returns a new record, which the caller releases. It does not release in, whose schema must be the one that the
	// operator was made for. A value that cannot be processed is a *runtime.RowError.
	Apply(ctx context.Context, in arrow.Record) (arrow.Record, error)
}

// checkInput refuses a record of another schema: a mistake of the program, not of the data.
func checkInput(op string, want *arrow.Schema, in arrow.Record) error {
	if got := in.Schema(); got != want && !got.Equal(want) {
		return engine.Errorf(engine.KindInternal, op, "", "the record batch has the schema %v, expected %v", got, want)
	}
	return nil
}

// checkIndex refuses a place that is not in the schema.
func checkIndex(op string, schema *arrow.Schema, index int) error {
	if index < 0 || index >= schema.NumFields() {
		return engine.Errorf(engine.KindInvalidArgument, op, "", "column %d does not exist: the table has %d columns", index, schema.NumFields())
	}
	return nil
}

// newSchema returns a schema of fields, whose names must differ, with the metadata of schema.
func newSchema(op string, schema *arrow.Schema, fields []arrow.Field) (*arrow.Schema, error) {
	seen := make(map[string]bool, len(fields))
	for _, f := range fields {
		if seen[f.Name] {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "there would be two columns %q", f.Name)
		}
		seen[f.Name] = true
	}
	metadata := schema.Metadata()
	return arrow.NewSchema(fields, &metadata), nil
}

// selection is an Operator that takes columns as they are.
type selection struct {
	op      string
	in, out *arrow.Schema
	indices []int
}

// Schema implements Operator.
func (s *selection) Schema() *arrow.Schema { return s.out }

// Apply implements Operator.
func (s *selection) Apply(_ context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput(s.op, s.in, in); err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, len(s.indices))
	for i, index := range s.indices {
		columns[i] = in.Column(index)
	}
	return array.NewRecord(s.out, columns, in.NumRows()), nil
}

// SelectSchema returns the schema of the columns at indices, in that order. An index that does not exist or comes twice is an
// error of kind engine.KindInvalidArgument.
func SelectSchema(schema *arrow.Schema, indices []int) (*arrow.Schema, error) {
	const op = "select columns"
	fields := make([]arrow.Field, len(indices))
	for i, index := range indices {
		if err := checkIndex(op, schema, index); err != nil {
			return nil, err
		}
		fields[i] = schema.Field(index)
	}
	return newSchema(op, schema, fields)
}

// NewSelect returns an operator that keeps the columns at indices, in that order. It does not copy values. Errors are those of
// SelectSchema.
func NewSelect(schema *arrow.Schema, indices []int) (Operator, error) {
	out, err := SelectSchema(schema, indices)
	if err != nil {
		return nil, err
	}
	return &selection{op: "select columns", in: schema, out: out, indices: slices.Clone(indices)}, nil
}

// RenameSchema returns the schema with new names: one for each column, none twice; else an error of kind
// engine.KindInvalidArgument.
func RenameSchema(schema *arrow.Schema, names []string) (*arrow.Schema, error) {
	const op = "rename columns"
	if len(names) != schema.NumFields() {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%d names for %d columns", len(names), schema.NumFields())
	}
	fields := slices.Clone(schema.Fields())
	for i, name := range names {
		fields[i].Name = name
	}
	return newSchema(op, schema, fields)
}

// NewRename returns an operator that gives the columns new names, one for each. It does not copy values. Errors are those of
// RenameSchema.
func NewRename(schema *arrow.Schema, names []string) (Operator, error) {
	out, err := RenameSchema(schema, names)
	if err != nil {
		return nil, err
	}
	indices := make([]int, len(names))
	for i := range indices {
		indices[i] = i
	}
	return &selection{op: "rename columns", in: schema, out: out, indices: indices}, nil
}
