package worker

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

// steps are a job's operators, made for one attempt and used by its goroutine alone.
type steps struct {
	place     modelPlace
	loader    runtime.Loader
	operators []operator.Operator
	models    []runtime.Model
	// embed is the first operator that embeds, if there is one; before is how many come before it. See copyAhead.
	embed    *operator.Embed
	before   int
	embedded []embedded
	// embedding is the record batch that the models of the steps embed work on.
	embedding embedProgress
	// rejects are the attempt's; nil if it fails with the first bad row.
	rejects *rejects
}

// build makes the operators of a program, whose models run at place. Models come from the worker's cache: attempts share their
// sessions. seen are the columns of a pass that fits steps; nil for a program that makes an output.
func (w *Worker) build(ctx context.Context, program *jobplan.Program, j *jobEntry, place modelPlace, seen *fit.Pass) (_ *steps, err error) {
	s := &steps{place: place}
	if s.loader, err = w.loader(j.assignment.GetSpec().GetIsolation()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	fields := make([]arrow.Field, len(program.Columns))
	for i, column := range program.Columns {
		fields[i] = program.SourceSchema.Field(column)
	}
	schema := arrow.NewSchema(fields, nil)
	for _, op := range program.Ops {
		var made operator.Operator
		switch op := op.(type) {
		case jobplan.SelectOp:
			made, err = operator.NewSelect(schema, op.Indices)
		case jobplan.RenameOp:
			made, err = operator.NewRename(schema, op.Names)
		case jobplan.CastOp:
			casts := make([]operator.CastColumn, len(op.Columns))
			for i, c := range op.Columns {
				casts[i] = operator.CastColumn{Index: c.Index, Type: c.Type}
			}
			made, err = operator.NewCast(schema, casts, w.config.Allocator)
		case jobplan.FilterOp:
			made, err = operator.NewFilter(schema, op.Where, w.config.Allocator)
		case jobplan.WithOp:
			columns := make([]operator.WithColumn, len(op.Columns))
			for i, c := range op.Columns {
				columns[i] = operator.WithColumn(c)
			}
			made, err = operator.NewWith(schema, columns, w.config.Allocator)
		case jobplan.FitOp:
			columns := make([]operator.FitColumn, len(op.Columns))
			for i, c := range op.Columns {
				columns[i] = operator.FitColumn{Index: c.Index, Seen: seen.Columns()[c.Target]}
			}
			made, err = operator.NewFit(schema, columns)
		case jobplan.MapOp:
			made, err = w.registry().NewStep(op.Operator, op.Params, schema)
			if err == nil && !made.Schema().Equal(op.Schema) {
				err = engine.Errorf(engine.KindInternal, "build steps", "", "operator %s makes %v, and %v the second time it is asked", op.Operator, op.Schema, made.Schema())
			}
		case jobplan.InferOp:
			made, err = w.buildInfer(ctx, program, s, schema, op)
		case jobplan.EmbedOp:
			made, err = w.buildEmbed(ctx, program, s, schema, op)
		default:
			err = engine.Errorf(engine.KindInternal, "build steps", "", "operation %T is unknown", op)
		}
		if err != nil {
			return nil, err
		}
		s.operators = append(s.operators, made)
		schema = made.Schema()
	}
	if seen == nil && !schema.Equal(program.OutputSchema) {
		// The plan believed what the model's file says of its outputs; the runtime knows better.
		return nil, engine.Errorf(engine.KindModel, "build steps", "", "the steps make %v, the plan expects %v", schema, program.OutputSchema)
	}
	return s, nil
}

// loader is where the models of a job run that asks for this isolation.
func (w *Worker) loader(isolation string) (runtime.Loader, error) {
	switch {
	case isolation == "none" && w.config.OnlyIsolated:
		return nil, engine.Errorf(engine.KindPermission, "load model", "", "isolation: none: the worker %s runs models in executors alone", w.id).
			WithHint("leave isolation out; who runs the worker decides, by --isolation")
	case isolation == "none" || isolation == "" && !w.config.Isolated && !w.config.OnlyIsolated:
		return w.config.Models, nil
	case w.config.Executors == nil:
		return nil, engine.Errorf(engine.KindUnavailable, "load model", "", "isolation: process: the worker %s has no executors", w.id).
			WithHint("they need Linux, and a program that calls node.RunExecutor; or use isolation: none")
	default:
		return w.config.Executors, nil
	}
}

func (w *Worker) buildInfer(ctx context.Context, program *jobplan.Program, s *steps, schema *arrow.Schema, op jobplan.InferOp) (operator.Operator, error) {
	request := runtime.LoadRequest{
		Path: op.ONNXPath, Digest: op.Digest, Threads: program.Threads, Device: s.place.device, GPUMemoryBytes: s.place.memoryBytes,
	}
	for _, output := range op.Outputs {
		request.Outputs = append(request.Outputs, output.Name)
	}
	model, err := s.loader.Load(ctx, request)
	if err != nil {
		return nil, err
	}
	s.models = append(s.models, model)
	params := operator.InferParams{
		Schema: schema, Model: model, Inputs: op.Inputs, Layout: operator.Columns, BatchRows: op.BatchRows, Allocator: w.config.Allocator,
	}
	if op.Matrix {
		params.Layout = operator.Matrix
	}
	for _, output := range op.Outputs {
		params.Outputs = append(params.Outputs, operator.InferOutput{Output: output.Index, Column: output.Column})
	}
	made, err := operator.NewInfer(params)
	return made, engine.WrapError("infer", op.ModelPath, err)
}

// passed is a record batch on its way through operators.
type passed struct {
	// record is as it is now; nil if no row is left.
	record arrow.Record
	// kept are the selections of rows that filters and rejections have made of the record batch that was read, one after the other.
	kept []expression.Selection
	// filtered is how many rows filters have left out.
	filtered int64
}

// applyAll gives the record of in, which it releases, to operators one after the other. Rows that an operator refuses are rejected, unless
// bad is nil. The row of a *runtime.RowError is the one of the record batch that was read.
func applyAll(ctx context.Context, operators []operator.Operator, in passed, bad *batchRejects, allocator memory.Allocator) (passed, error) {
	for _, op := range operators {
		for {
			next, err := op.Apply(ctx, in.record)
			if err == nil {
				if err := in.step(op, next); err != nil {
					return passed{}, err
				}
				break
			}
			left, err := bad.take(ctx, err, op, in.record, in.kept)
			if err == nil {
				err = in.leave(left, allocator)
			}
			if err != nil {
				if in.record != nil {
					in.record.Release()
				}
				return passed{}, err
			}
			if in.record == nil {
				return in, nil
			}
		}
		if in.record == nil {
			return in, nil
		}
	}
	return in, nil
}

// step replaces the record by what an operator made of it.
func (p *passed) step(op operator.Operator, next arrow.Record) error {
	rows := p.record.NumRows()
	p.record.Release()
	p.record = next
	filter, ok := op.(*operator.Filter)
	if !ok {
		if next.NumRows() != rows {
			next.Release()
			return engine.Errorf(engine.KindInternal, "run step", "", "%T made %d rows of %d", op, next.NumRows(), rows)
		}
		return nil
	}
	p.filtered += rows - next.NumRows()
	p.kept = append(p.kept, filter.Kept())
	if next.NumRows() == 0 && rows > 0 {
		// Models need not be able to evaluate nothing.
		next.Release()
		p.record = nil
	}
	return nil
}

// leave goes on with the rows at the places of left alone.
func (p *passed) leave(left []int32, allocator memory.Allocator) error {
	record, selection, err := without(p.record, left, allocator)
	p.record = nil
	if err != nil {
		return err
	}
	p.kept = append(p.kept, selection)
	if record.NumRows() == 0 {
		record.Release()
		return nil
	}
	p.record = record
	return nil
}

// sourceRow gives a *runtime.RowError the row that its row had before rows were left out.
func sourceRow(err error, selections []expression.Selection) error {
	var row *runtime.RowError
	if len(selections) == 0 || !errors.As(err, &row) {
		return err
	}
	moved := *row
	for _, s := range slices.Backward(selections) {
		moved.Row = s.Row(moved.Row)
	}
	return &moved
}

// close gives the models back.
func (s *steps) close() error {
	var err error
	for _, model := range s.models {
		err = errors.Join(err, model.Close())
	}
	return err
}
