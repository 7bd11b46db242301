package operator

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// Layout is how columns become the inputs of a model.
type Layout uint8

// The layouts.
const (
	// Matrix is one input of shape [rows, features] for all columns.
	Matrix Layout = iota
	// Columns is one input of shape [rows] or [rows, 1] for each column.
	Columns
)

// InferParams is what NewInfer needs.
type InferParams struct {
	// Schema is that of the records. Required.
	Schema *arrow.Schema
	// Model must stay open as long as the operator is used. Required.
	Model runtime.Model
	// Inputs are the places of the columns that the model is fed: the features in order for Matrix, a column for each input of the
	// model in order for Columns. At least one.
	Inputs []int
	// Layout says how.
	Layout Layout
	// Outputs become columns after those of Schema. At least one.
	Outputs []InferOutput
	// BatchRows is how many rows the model is called with at most. Zero means a whole record. A model whose first dimension is
	// fixed to 1 is called with one row at a time in any case.
	BatchRows int64
	// Allocator provides the memory of the new columns. Required.
	Allocator memory.Allocator
}

// NewInfer returns an operator that evaluates a model and adds its outputs as columns, with the schema of InferSchema. The other
// columns pass through without being copied.
//
// Columns of numbers and booleans are converted to the type of the model's input: exactly, except that float64 rounds to float32;
// NaN and infinities pass. A null, a number that does not fit (an int64 beyond what float64 can hold exactly), and a text with a
// NUL character is a *runtime.RowError, of the first such row. Text feeds inputs of strings only. Dates and decimals feed none.
//
// Columns that cannot be fed are errors of kind engine.KindInvalidArgument, inputs and outputs of the model that the engine cannot
// handle of kind engine.KindModel. So are outputs whose shape is not what the model says: their first dimension must be the rows.
func NewInfer(p InferParams) (Operator, error) {
	const op = "bind model"
	out, err := InferSchema(p.Schema, p.Model.Outputs(), p.Outputs)
	if err != nil {
		return nil, err
	}
	if len(p.Inputs) == 0 || len(p.Outputs) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%d input columns and %d outputs; at least one of each is needed", len(p.Inputs), len(p.Outputs))
	}
	if p.BatchRows < 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%d rows a call", p.BatchRows)
	}
	for _, index := range p.Inputs {
		if err := checkIndex(op, p.Schema, index); err != nil {
			return nil, err
		}
	}
	o := &infer{in: p.Schema, out: out, model: p.Model, batchRows: p.BatchRows, allocator: p.Allocator}
	if err := o.bindInputs(p); err != nil {
		return nil, err
	}
	for i, output := range p.Outputs {
		if slices.ContainsFunc(p.Outputs[:i], func(other InferOutput) bool { return other.Output == output.Output }) {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "output %d becomes two columns", output.Output)
		}
		field := out.Field(p.Schema.NumFields() + i)
		o.outputs = append(o.outputs, newScatterer(output.Output, p.Model.Outputs()[output.Output], field.Type))
	}
	return o, nil
}

type infer struct {
	in, out   *arrow.Schema
	model     runtime.Model
	inputs    []*gatherer
	outputs   []*scatterer
	batchRows int64 // 0: all
	allocator memory.Allocator
}

func (o *infer) bindInputs(p InferParams) error {
	const op = "bind model"
	specs := p.Model.Inputs()
	columns := [][]int{p.Inputs}
	if p.Layout == Columns {
		columns = nil
		for _, index := range p.Inputs {
			columns = append(columns, []int{index})
		}
	}
	if len(columns) != len(specs) {
		return engine.Errorf(engine.KindModel, op, "", "%d tensors for a model with %d inputs", len(columns), len(specs))
	}
	for i, spec := range specs {
		id := "input " + spec.String()
		switch rank := len(spec.Shape); {
		case rank == 0 || rank > 2:
			return engine.Errorf(engine.KindModel, op, id, "it has %d dimensions; the engine feeds [rows] or [rows, features]", rank)
		case rank == 1 && len(columns[i]) > 1 || rank == 2 && spec.Shape[1] >= 0 && spec.Shape[1] != int64(len(columns[i])):
			return engine.Errorf(engine.KindModel, op, id, "%d columns do not fit", len(columns[i]))
		case spec.Shape[0] == 1:
			o.batchRows = 1
		case spec.Shape[0] >= 0:
			return engine.Errorf(engine.KindModel, op, id, "it takes exactly %d rows a call; export the model with a first dimension that is not fixed", spec.Shape[0])
		}
		g, err := newGatherer(p.Schema, columns[i], spec)
		if err != nil {
			return err
		}
		o.inputs = append(o.inputs, g)
	}
	return nil
}

// Schema implements Operator.
func (o *infer) Schema() *arrow.Schema { return o.out }

// Apply implements Operator.
func (o *infer) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput("infer", o.in, in); err != nil {
		return nil, err
	}
	rows := int(in.NumRows())
	defer func() {
		for _, s := range o.outputs {
			s.release()
		}
	}()
	for _, s := range o.outputs {
		s.begin(rows, o.allocator)
	}
	step := rows
	if o.batchRows > 0 {
		step = int(min(o.batchRows, in.NumRows()))
	}
	for lo := 0; lo < rows; lo += step {
		if err := o.evaluate(ctx, in, lo, min(lo+step, rows), false); err != nil {
			return nil, err
		}
	}
	columns := slices.Clone(in.Columns())
	for _, s := range o.outputs {
		columns = append(columns, s.finish(rows))
	}
	out := array.NewRecord(o.out, columns, in.NumRows())
	for _, column := range columns[in.NumCols():] {
		column.Release() // the record has references of its own
	}
	return out, nil
}

// evaluate runs the model on the rows in [lo, hi). A call for which there is too little memory, or of which the model's process dies, is
// halved, until it succeeds or a row alone is at fault. suspect says that the process has died of these rows and others.
func (o *infer) evaluate(ctx context.Context, in arrow.Record, lo, hi int, suspect bool) error {
	marked := ctx
	if suspect && hi-lo > 1 {
		marked = runtime.Suspect(ctx)
	}
	err := o.call(marked, in, lo, hi)
	var crash *runtime.CrashError
	crashed := errors.As(err, &crash)
	switch {
	case err == nil || !crashed && engine.KindOf(err) != engine.KindExhausted:
		return err
	case ctx.Err() != nil:
		return engine.WrapError("infer", "", ctx.Err())
	case hi-lo > 1:
		middle := lo + (hi-lo)/2
		if err := o.evaluate(ctx, in, lo, middle, crashed); err != nil {
			return err
		}
		return o.evaluate(ctx, in, middle, hi, crashed)
	case crashed && !crash.Killed:
		return &runtime.RowError{Row: int64(lo), Err: err}
	default:
		return err
	}
}

// call runs the model on the rows in [lo, hi).
func (o *infer) call(ctx context.Context, in arrow.Record, lo, hi int) error {
	inputs := make([]runtime.Tensor, len(o.inputs))
	defer func() {
		for _, t := range inputs {
			clear(t.Strings) // they lie in the record's memory
		}
	}()
	for i, g := range o.inputs {
		var err error
		if inputs[i], err = g.gather(in, lo, hi); err != nil {
			return err
		}
	}
	outputs := make([]runtime.Output, len(o.outputs))
	given := false
	for i, s := range o.outputs {
		outputs[i] = s.prepare(lo, hi)
		given = given || outputs[i].Tensor.Data != nil
	}
	err := o.model.Run(ctx, inputs, outputs)
	if given && runtime.IsRefused(err) {
		// Perhaps an output has another shape than the model says. Let the model choose, to take it if it is as good, or to say
		// what was expected and found.
		for i, s := range o.outputs {
			s.distrust = true
			outputs[i] = s.prepare(lo, hi)
		}
		err = o.model.Run(ctx, inputs, outputs)
	}
	if err != nil {
		return err
	}
	for i, s := range o.outputs {
		if err := s.take(outputs[i].Tensor, lo, hi); err != nil {
			return err
		}
	}
	return nil
}
