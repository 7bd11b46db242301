package jobplan

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/fit"
)

// Program is a job as a worker runs it. It never changes and may be used by several goroutines.
type Program struct {
	// Source opens splits.
	Source dataset.Source
	// SourceSchema is the schema that planning settled, all columns.
	SourceSchema *arrow.Schema
	// Columns are the places in SourceSchema of the columns that the steps and the output need, ascending. What no later step
	// keeps is not read. The first of Ops is given records of just these.
	Columns []int
	// Ops are applied to every record batch, in order. Each is a SelectOp, RenameOp, CastOp, FilterOp, WithOp, InferOp, EmbedOp, MapOp, or FitOp. Steps that change
	// nothing have no Op.
	Ops []Op
	// OutputSchema is the schema of the records that the last of Ops gives, and of the output.
	OutputSchema *arrow.Schema
	// BatchRows and BatchBytes bound a record batch.
	BatchRows, BatchBytes int64
	// Split divides the output among several sinks; nil if there is one.
	Split *Split
	// Fit are the columns that a pass which fits steps looks at, by its FitOps; nil for a program that makes an output.
	Fit []fit.Target
	// Threads is how many threads one call of a model may use: the task's cpu, rounded up.
	Threads int
}

// Filters reports whether the steps may leave rows out.
func (p *Program) Filters() bool {
	return slices.ContainsFunc(p.Ops, func(op Op) bool { _, ok := op.(FilterOp); return ok })
}

// Op is one operation on a record batch: a SelectOp, RenameOp, CastOp, FilterOp, WithOp, InferOp, EmbedOp, MapOp, or FitOp. Columns are given by their place in the
// record that the Op is given.
type Op interface{ op() }

// SelectOp keeps columns.
type SelectOp struct {
	// Indices are the columns to keep, in this order.
	Indices []int
}

// RenameOp gives all columns names.
type RenameOp struct {
	// Names has one name for each column.
	Names []string
}

// CastOp changes the types of columns.
type CastOp struct {
	// Columns is in ascending order of Index.
	Columns []CastColumn
}

// CastColumn is one column of a CastOp.
type CastColumn struct {
	// Index is the column's place.
	Index int
	// Type is its new type, which is never the one it has.
	Type arrow.DataType
}

// InferOp evaluates a model and appends columns.
type InferOp struct {
	// Step is the step's place in the job, from 0.
	Step int
	// ModelPath is the model as the job names it, and ONNXPath its ONNX file, both absolute.
	ModelPath, ONNXPath string
	// Digest is the model's digest, which Compile has verified.
	Digest string
	// Inputs are the columns that the model is fed: side by side in one matrix, or one for each of the model's inputs in the order
	// of the graph.
	Inputs []int
	// Matrix says which of the two.
	Matrix bool
	// Outputs are the columns to append, in this order.
	Outputs []InferOutput
	// BatchRows is how many rows the model is called with at a time; zero means the record batch.
	BatchRows int64
}

// InferOutput is one column that an InferOp appends.
type InferOutput struct {
	// Index is the output's place in the graph.
	Index int
	// Name is the output's name in the graph.
	Name string
	// Column is the new column's name.
	Column string
	// Field is the new column: its name, its type, not nullable.
	Field arrow.Field
}

func (SelectOp) op() {}
func (RenameOp) op() {}
func (CastOp) op()   {}
func (InferOp) op()  {}
func (EmbedOp) op()  {}

// lower turns bound steps into operations on those columns of the source alone that are needed.
func (b *binding) lower() (columns []int, ops []Op, output *arrow.Schema) {
	live := map[int]bool{}
	mark := func(ids ...int) {
		for _, id := range ids {
			live[id] = true
		}
	}
	for _, c := range b.final {
		mark(c.id)
	}
	for _, s := range b.steps {
		switch {
		case s.infer != nil:
			mark(s.infer.inputs...)
			mark(s.infer.outputs...)
		case s.embed != nil:
			mark(s.embed.text...)
			mark(s.embed.output)
		case s.filter != nil:
			mark(s.filter.uses...)
		case s.mapped != nil:
			mark(s.mapped.uses...)
			mark(s.mapped.outputs...)
		case s.with != nil:
			for id, uses := range s.with.uses {
				mark(id)
				mark(uses...)
			}
		}
	}
	columns, ops = b.emit(b.steps, live, nil)
	fields := make([]arrow.Field, len(b.final))
	for i, c := range b.final {
		fields[i] = c.field
	}
	return columns, ops, arrow.NewSchema(fields, nil)
}

// emit is lower for some steps, given the columns that are live: what makes others is left out. look is called before each step with the
// places of columns, and may give an operation.
func (b *binding) emit(steps []step, live map[int]bool, look func(step int, place func(id int) int) Op) (columns []int, ops []Op) {
	type named struct {
		id   int
		name string
	}
	var table []named
	for i, f := range b.source.Fields() {
		if live[i] {
			columns = append(columns, i)
			table = append(table, named{i, f.Name})
		}
	}
	if len(table) == 0 && b.source.NumFields() > 0 {
		// Where all is calculated of nothing, a column says how many rows there are.
		columns = append(columns, 0)
		table = append(table, named{0, b.source.Field(0).Name})
	}
	place := func(id int) int { return slices.IndexFunc(table, func(c named) bool { return c.id == id }) }
	isLive := func(id int) bool { return live[id] }
	for i, s := range steps {
		if look != nil {
			if op := look(i, place); op != nil {
				ops = append(ops, op)
			}
		}
		switch {
		case s.infer != nil && !slices.ContainsFunc(s.infer.outputs, isLive), s.embed != nil && !live[s.embed.output],
			s.mapped != nil && len(s.mapped.outputs) > 0 && !slices.ContainsFunc(s.mapped.outputs, isLive):
			// Nobody needs what it makes.
		case s.infer != nil:
			op := s.infer.op
			op.Inputs = nil
			for _, id := range s.infer.inputs {
				op.Inputs = append(op.Inputs, place(id))
			}
			ops = append(ops, op)
			for i, id := range s.infer.outputs {
				table = append(table, named{id, op.Outputs[i].Column})
			}
		case s.embed != nil:
			op := s.embed.op
			op.Text = nil
			for _, id := range s.embed.text {
				op.Text = append(op.Text, place(id))
			}
			ops = append(ops, op)
			table = append(table, named{s.embed.output, op.Field.Name})
		case s.mapped != nil:
			ops = append(ops, s.mapped.op)
			table = nil
			for i, id := range s.mapped.outputs {
				table = append(table, named{id, s.mapped.op.Schema.Field(i).Name})
			}
		case s.filter != nil:
			ops = append(ops, FilterOp{Where: s.filter.where})
		case s.with != nil:
			var op WithOp
			var after []named
			for _, id := range s.with.after {
				if value, ok := s.with.values[id]; ok {
					if !live[id] {
						continue
					}
					op.Columns = append(op.Columns, value)
					after = append(after, named{id, value.Name})
				} else if p := place(id); p >= 0 {
					op.Columns = append(op.Columns, WithColumn{Index: p})
					after = append(after, table[p])
				}
			}
			if !slices.Equal(after, table) {
				ops = append(ops, op)
			}
			table = after
		case s.keep != nil:
			var op SelectOp
			var kept []named
			for _, id := range s.keep {
				if p := place(id); p >= 0 {
					op.Indices = append(op.Indices, p)
					kept = append(kept, table[p])
				}
			}
			if !slices.Equal(kept, table) {
				ops = append(ops, op)
			}
			table = kept
		case s.rename != nil:
			op := RenameOp{Names: make([]string, len(table))}
			changed := false
			for i, c := range table {
				if name, ok := s.rename[c.id]; ok && name != c.name {
					table[i].name, changed = name, true
				}
				op.Names[i] = table[i].name
			}
			if changed {
				ops = append(ops, op)
			}
		case s.cast != nil:
			var op CastOp
			for i, c := range table {
				if t, ok := s.cast[c.id]; ok {
					op.Columns = append(op.Columns, CastColumn{Index: i, Type: t})
				}
			}
			if len(op.Columns) > 0 {
				ops = append(ops, op)
			}
		}
	}
	return columns, ops
}
