package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// jobEntry is what the worker keeps of a job: the assignment and, once a task has needed it, the program.
type jobEntry struct {
	assignment *enginev1.JobAssignment
	// secrets are the job's. What leaves the worker is free of them.
	secrets *secret.Set

	mu      sync.Mutex
	program *jobplan.Program
	output  output
}

// compile makes the program and the output, once for all tasks of the job. A failure is not kept: the next attempt may succeed.
func (w *Worker) compile(ctx context.Context, j *jobEntry) (*jobplan.Program, output, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.program != nil {
		return j.program, j.output, nil
	}
	program, err := w.compiler(j).Compile(ctx, j.assignment.GetSpec(), j.assignment.GetPlan())
	if err != nil {
		return nil, nil, err
	}
	if j.output, err = w.newOutput(j, program); err != nil {
		return nil, nil, err
	}
	j.program = program
	return j.program, j.output, nil
}

// attempt runs a lease and says how it ended. A panic costs the attempt, not the worker.
func (w *Worker) attempt(ctx context.Context, l *lease) (result *enginev1.TaskResult) {
	began := time.Now()
	result = &enginev1.TaskResult{Lease: l.ref()}
	if parent := l.job.assignment.GetTraceParent(); parent != "" && telemetry.IsTracing() {
		var end func(error)
		ctx, end = telemetry.Begin(telemetry.WithParent(ctx, parent), "run", attribute.String("engine.job", string(l.task.Job)),
			attribute.Int("engine.task", l.task.Index), attribute.Int("engine.attempt", int(l.attempt)), attribute.String("engine.node", string(w.id)))
		defer func() {
			if err := rpc.FromProto(result.GetError()); err != nil {
				end(err)
				return
			}
			end(nil)
		}()
	}
	defer func() {
		if p := recover(); p != nil {
			said := l.job.secrets.Redact(fmt.Sprint(p))
			w.config.Logger.ErrorContext(ctx, "attempt panicked", "task", l.task, "panic", said, "stack", l.job.secrets.Redact(string(debug.Stack())))
			result = &enginev1.TaskResult{Lease: l.ref(), Error: rpc.ToProto(engine.Errorf(engine.KindInternal, "run task", l.task.String(), "panic: %s", said))}
		}
		result.Elapsed = durationpb.New(time.Since(began))
	}()
	err := l.job.secrets.RedactError(w.run(ctx, l, result))
	if err != nil {
		result.Error = rpc.ToProto(err)
		if ctx.Err() == nil {
			w.line(l, "WARN", "attempt failed", map[string]string{"attempt": strconv.Itoa(int(l.attempt)), "error": err.Error()})
		}
	}
	return result
}

func (w *Worker) line(l *lease, level, message string, attributes map[string]string) {
	if attributes == nil {
		attributes = map[string]string{}
	}
	for name, text := range attributes {
		attributes[name] = l.job.secrets.Redact(rpc.Text(text))
	}
	attributes["task"] = strconv.Itoa(l.task.Index)
	w.table.addLine(l.task.Job, &enginev1.LogLine{
		Time: timestamppb.Now(), Level: level, Origin: string(w.id), Message: message, Attributes: attributes,
	})
}

// run makes the task's part, or adopts the one that another attempt has published.
func (w *Worker) run(ctx context.Context, l *lease, result *enginev1.TaskResult) (err error) {
	if l.job.assignment.GetFit() {
		return w.fit(ctx, l, result)
	}
	program, output, err := w.compile(ctx, l.job)
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.WorkerBegun)
	draft, published, err := output.begin(ctx, l)
	if err != nil {
		return err
	}
	if draft != nil {
		defer func() { err = errors.Join(err, draft.close()) }()
		if err := w.write(ctx, program, l, draft); err != nil {
			return err
		}
		failpoint.Hit(failpoint.WorkerPublishing)
		right := func(ctx context.Context) error { return w.table.awaitRight(ctx, l) }
		if published, err = draft.publish(ctx, l.counts.toProto(), right); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.WorkerPublished)
	if published.adopted {
		failpoint.Hit(failpoint.WorkerAdopted)
		w.line(l, "INFO", "part of an earlier attempt was found in place and adopted", map[string]string{"part": l.plan.GetPart()})
	}
	l.counts.bytesWritten.Store(published.sizeBytes)
	result.Counts, result.PartSizeBytes = published.counts, published.sizeBytes
	result.PublishedEpoch, result.Checkpoint, result.Parts = uint64(published.epoch), published.checkpoint, published.parts
	return nil
}

// write reads the task's splits, applies the steps, and writes what they make into out.
func (w *Worker) write(ctx context.Context, program *jobplan.Program, l *lease, out draft) (err error) {
	steps, err := w.stepsOf(ctx, program, l, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, steps.close()) }()
	if steps.rejects, err = newRejects(l, out); err != nil {
		return err
	}
	splits := w.splitsOf(ctx, program, l, steps.rejects)
	defer func() { err = errors.Join(err, splits.close()) }()
	if err := splits.each(func(split dataset.Split, reader dataset.Reader) error {
		if err := w.copySplit(ctx, program, l, steps, split, reader, out); err != nil {
			return err
		}
		return steps.rejects.flush(ctx)
	}); err != nil {
		return err
	}
	w.sayEmbedded(l, steps)
	steps.rejects.say(w)
	return l.counts.check()
}

// stepsOf makes the operators of an attempt, with its models on what its lease holds. seen is what a pass that fits steps finds; else nil.
func (w *Worker) stepsOf(ctx context.Context, program *jobplan.Program, l *lease, seen *fit.Pass) (*steps, error) {
	held, err := jobplan.Resources(l.job.assignment.GetSpec())
	if err != nil {
		return nil, err
	}
	place, err := placeModels(held, l.devices)
	if err != nil {
		return nil, err
	}
	return w.build(ctx, program, l.job, place, seen)
}

// copySplit moves one split through the steps into the draft, and closes its reader.
func (w *Worker) copySplit(ctx context.Context, program *jobplan.Program, l *lease, steps *steps, split dataset.Split, reader dataset.Reader, out draft) (err error) {
	defer func() { err = errors.Join(err, reader.Close()) }()
	if steps.embed != nil {
		return w.copyAhead(ctx, program, l, steps, split, reader, out)
	}
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
		if err := w.copyBatch(ctx, l, steps, steps.rejects.batch(reader, split.File.Path, record), record, out); err != nil {
			return explain(err, reader.Where)
		}
	}
}

func (w *Worker) open(ctx context.Context, program *jobplan.Program, j *jobEntry, split dataset.Split, reject func(dataset.BadRow) error, counts *counts) (dataset.Reader, error) {
	return program.Source.Open(ctx, split, dataset.ReadOptions{
		Schema: program.SourceSchema, Columns: program.Columns,
		BatchRows: program.BatchRows, BatchBytes: program.BatchBytes, Allocator: w.config.Allocator,
		Storage: jobplan.SourceStorage(j.assignment.GetSpec(), w.storage(j)),
		BadRow:  reject, Prune: prune(program, counts),
	})
}

// copyBatch moves one record batch, which it releases, through the steps into the draft.
func (w *Worker) copyBatch(ctx context.Context, l *lease, steps *steps, bad *batchRejects, record arrow.Record, out draft) error {
	defer bad.close()
	l.counts.rowsRead.Add(record.NumRows())
	err := w.finish(ctx, l, steps, 0, passed{record: record}, bad, out)
	l.counts.rowsProcessed.Store(l.counts.rowsRead.Load())
	return err
}

// finish moves a record batch, which it releases, through the operators from one on into the draft.
func (w *Worker) finish(ctx context.Context, l *lease, steps *steps, from int, in passed, bad *batchRejects, out draft) error {
	in.filtered = 0 // What came before has been counted.
	made, err := applyAll(ctx, steps.operators[from:], in, bad, w.config.Allocator)
	if err != nil {
		return err
	}
	l.counts.rowsFiltered.Add(made.filtered)
	l.counts.batches.Add(1)
	if made.record != nil {
		defer made.record.Release()
	}
	if err := steps.rejects.flush(ctx); err != nil || made.record == nil {
		return err
	}
	refused, err := bad.refused(out.Write(ctx, made.record), made.kept)
	if err != nil {
		return err
	}
	l.counts.rowsWritten.Add(made.record.NumRows() - refused)
	failpoint.Hit(failpoint.WorkerWrote)
	return nil
}
