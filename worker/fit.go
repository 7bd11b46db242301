package worker

import (
	"context"
	"errors"
	"io"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

// fit runs a task of a pass that fits steps: it reads the task's splits, looks at columns, and writes nothing.
func (w *Worker) fit(ctx context.Context, l *lease, result *enginev1.TaskResult) (err error) {
	program, err := w.compileFit(ctx, l.job)
	if err != nil {
		return err
	}
	seen := fit.NewPass(program.Fit)
	steps, err := w.stepsOf(ctx, program, l, seen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, steps.close()) }()
	// Rows that the job rejects count for nothing here either; the job's own tasks count and keep them.
	if steps.rejects, err = newRejects(l, nil); err != nil {
		return err
	}
	splits := w.splitsOf(ctx, program, l, steps.rejects)
	defer func() { err = errors.Join(err, splits.close()) }()
	if err := splits.each(func(split dataset.Split, reader dataset.Reader) error {
		return w.fitSplit(ctx, l, steps, split, reader)
	}); err != nil {
		return err
	}
	failpoint.Hit(failpoint.WorkerFit)
	result.Counts = l.counts.toProto()
	result.Fit, err = seen.ToProto()
	return err
}

// compiler has what the programs of a job need of this worker.
func (w *Worker) compiler(j *jobEntry) jobplan.Compiler {
	return jobplan.Compiler{Secrets: j.secrets, Open: object.FromStore(w.config.Store, w.config.Fetch), Operators: w.registry().StepSchema, Places: w.config.Places}
}

// registry has the operators of the program.
func (w *Worker) registry() *operator.Registry {
	if w.config.Operators == nil {
		return operator.Default
	}
	return w.config.Operators
}

// compileFit is compile for a pass that fits steps.
func (w *Worker) compileFit(ctx context.Context, j *jobEntry) (*jobplan.Program, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.program == nil {
		program, err := w.compiler(j).CompileFit(ctx, j.assignment.GetSpec(), j.assignment.GetPlan())
		if err != nil {
			return nil, err
		}
		j.program = program
	}
	return j.program, nil
}

// fitSplit gives one split to the steps, and closes its reader.
func (w *Worker) fitSplit(ctx context.Context, l *lease, steps *steps, split dataset.Split, reader dataset.Reader) (err error) {
	defer func() { err = errors.Join(err, reader.Close()) }()
	before := l.counts.bytesRead.Load()
	for {
		record, err := reader.Read(ctx)
		l.counts.bytesRead.Store(before + reader.BytesRead())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.counts.rowsRead.Add(record.NumRows())
		bad := steps.rejects.batch(reader, split.File.Path, record)
		made, err := applyAll(ctx, steps.operators, passed{record: record}, bad, w.config.Allocator)
		bad.close()
		if err != nil {
			return explain(err, reader.Where)
		}
		l.counts.rowsFiltered.Add(made.filtered)
		l.counts.batches.Add(1)
		if made.record != nil {
			made.record.Release()
		}
	}
}
