package jobplan

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/expression"
)

// MayMatch returns a function that tells, given bounds of the source's columns in some rows, whether the first filter may let one of them
// through, or fail for one. It is nil if there is no filter, or if another step than a choice of columns comes before it: the rows are
// needed then.
func (p *Program) MayMatch() func(bounds func(column string) dataset.Bounds) bool {
	fields := make([]arrow.Field, len(p.Columns))
	sources := make([]string, len(p.Columns)) // the names of the columns in the source
	for i, column := range p.Columns {
		fields[i] = p.SourceSchema.Field(column)
		sources[i] = fields[i].Name
	}
	for _, op := range p.Ops {
		switch op := op.(type) {
		case SelectOp:
			chosen, names := make([]arrow.Field, len(op.Indices)), make([]string, len(op.Indices))
			for i, index := range op.Indices {
				chosen[i], names[i] = fields[index], sources[index]
			}
			fields, sources = chosen, names
		case RenameOp:
			fields = slices.Clone(fields)
			for i, name := range op.Names {
				fields[i].Name = name
			}
		case FilterOp:
			condition, err := op.Where.BindCondition(arrow.NewSchema(fields, nil))
			if err != nil {
				return nil // which building the step says, too
			}
			return func(bounds func(column string) dataset.Bounds) bool {
				return condition.MayMatch(func(column int) expression.Range { return expression.Range(bounds(sources[column])) })
			}
		default:
			return nil
		}
	}
	return nil
}
