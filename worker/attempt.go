package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// jobEntry is what the worker keeps of a job: the assignment and, once a task has needed it, the program.
type jobEntry struct {
	assignment *enginev1.JobAssignment

	mu      sync.Mutex
	program *jobplan.Program
	output  folder.Output
}

// compile makes the program and the output, once for all tasks of the job. A failure is not kept: the next attempt may succeed.
func (j *jobEntry) compile(ctx context.Context) (*jobplan.Program, folder.Output, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.program != nil {
		return j.program, j.output, nil
	}
	program, err := jobplan.Compile(ctx, j.assignment.GetSpec(), j.assignment.GetPlan())
	if err != nil {
		return nil, folder.Output{}, err
	}
	if j.output, err = jobplan.Output(j.assignment.GetSpec(), engine.JobID(j.assignment.GetJobId())); err != nil {
		return nil, folder.Output{}, err
	}
	j.program = program
	return j.program, j.output, nil
}

// The metadata that a part carries: whose it is, and what its attempt did.
const (
	metaJob      = "engine.job"
	metaTask     = "engine.task"
	metaEpoch    = "engine.epoch"
	metaRead     = "engine.rows_read"
	metaWritten  = "engine.rows_written"
	metaRejected = "engine.rows_rejected"
	metaBytes    = "engine.bytes_read"
	metaBatches  = "engine.batches"
)

// attempt runs a lease and says how it ended. A panic costs the attempt, not the worker.
func (w *Worker) attempt(ctx context.Context, l *lease) (result *enginev1.TaskResult) {
	began := time.Now()
	result = &enginev1.TaskResult{Lease: l.ref()}
	defer func() {
		if p := recover(); p != nil {
			w.config.Logger.ErrorContext(ctx, "attempt panicked", "task", l.task, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			result = &enginev1.TaskResult{Lease: l.ref(), Error: rpc.ToProto(engine.Errorf(engine.KindInternal, "run task", l.task.String(), "panic: %v", p))}
		}
		result.Elapsed = durationpb.New(time.Since(began))
	}()
	err := w.run(ctx, l, result)
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
		attributes[name] = rpc.Text(text)
	}
	attributes["task"] = strconv.Itoa(l.task.Index)
	w.table.addLine(l.task.Job, &enginev1.LogLine{
		Time: timestamppb.Now(), Level: level, Origin: string(w.id), Message: message, Attributes: attributes,
	})
}

// run makes the task's part, or adopts the one that another attempt has published.
func (w *Worker) run(ctx context.Context, l *lease, result *enginev1.TaskResult) (err error) {
	program, output, err := l.job.compile(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(output.WorkFolder, l.plan.GetPart())
	if adopted, err := w.adopt(program, l, path, result); adopted || err != nil {
		return err
	}
	staging, err := output.Create(l.plan.GetPart(), strconv.FormatUint(uint64(l.epoch), 10))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, staging.Discard()) }()
	if err := w.write(ctx, program, l, staging); err != nil {
		return err
	}
	if err := w.table.awaitRight(ctx, l); err != nil {
		return err
	}
	won, err := staging.Publish(ctx)
	if err != nil {
		return err
	}
	if !won {
		adopted, err := w.adopt(program, l, path, result)
		if err == nil && !adopted {
			err = engine.Errorf(engine.KindInternal, "publish part", path, "another attempt's part is gone again")
		}
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return engine.WrapError("publish part", path, err)
	}
	l.counts.bytesWritten.Store(info.Size())
	result.Counts, result.PartSizeBytes, result.PublishedEpoch = l.counts.toProto(), info.Size(), uint64(l.epoch)
	return nil
}

// adopt takes over a part that is in place already: an earlier attempt published it and could not report that. It reports false if
// there is none.
func (w *Worker) adopt(program *jobplan.Program, l *lease, path string, result *enginev1.TaskResult) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, engine.WrapError("look for part", path, err)
	}
	metadata, err := program.Sink.Metadata(path)
	if err != nil {
		return false, err
	}
	if metadata[metaJob] != string(l.task.Job) || metadata[metaTask] != strconv.Itoa(l.task.Index) {
		return false, engine.Errorf(engine.KindConflict, "publish part", path, "a file that is not this task's output is in its place: it names job %q, task %q", metadata[metaJob], metadata[metaTask])
	}
	number := func(key string) int64 {
		n, parseErr := strconv.ParseInt(metadata[key], 10, 64)
		if parseErr != nil && err == nil {
			err = engine.Errorf(engine.KindCorrupt, "read part", path, "its metadata %s is %q", key, metadata[key])
		}
		return n
	}
	result.Counts = &enginev1.TaskCounts{
		RowsRead: number(metaRead), RowsWritten: number(metaWritten), RowsRejected: number(metaRejected),
		BytesRead: number(metaBytes), BytesWritten: info.Size(), Batches: number(metaBatches),
	}
	result.PartSizeBytes, result.PublishedEpoch = info.Size(), uint64(number(metaEpoch)) //nolint:gosec // An epoch fits.
	if err == nil {
		w.line(l, "INFO", "part of an earlier attempt was found in place and adopted", map[string]string{"part": l.plan.GetPart()})
	}
	return err == nil, err
}

// write reads the task's splits, applies the steps, and writes the part into out.
func (w *Worker) write(ctx context.Context, program *jobplan.Program, l *lease, out io.Writer) (err error) {
	steps, err := w.build(ctx, program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, steps.close()) }()
	writer, err := program.Sink.Create(out, program.OutputSchema, w.config.Allocator)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	for i, split := range l.plan.GetSplits() {
		if err := w.copySplit(ctx, program, l, steps, jobplan.SplitOf(l.inputs[i], split), writer); err != nil {
			return err
		}
	}
	c := l.counts.toProto()
	return writer.Finish(map[string]string{
		metaJob: string(l.task.Job), metaTask: strconv.Itoa(l.task.Index), metaEpoch: strconv.FormatUint(uint64(l.epoch), 10),
		metaRead: strconv.FormatInt(c.GetRowsRead(), 10), metaWritten: strconv.FormatInt(c.GetRowsWritten(), 10),
		metaRejected: strconv.FormatInt(c.GetRowsRejected(), 10), metaBytes: strconv.FormatInt(c.GetBytesRead(), 10),
		metaBatches: strconv.FormatInt(c.GetBatches(), 10),
	})
}

// copySplit moves one split through the steps into the writer.
func (w *Worker) copySplit(ctx context.Context, program *jobplan.Program, l *lease, steps *steps, split dataset.Split, writer dataset.Writer) (err error) {
	reader, err := program.Source.Open(ctx, split, dataset.ReadOptions{
		Schema: program.SourceSchema, Columns: program.Columns,
		BatchRows: program.BatchRows, BatchBytes: program.BatchBytes, Allocator: w.config.Allocator,
	})
	if err != nil {
		return err
	}
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
		if err := w.copyBatch(ctx, l, steps, record, writer); err != nil {
			var row *runtime.RowError
			if errors.As(err, &row) {
				// Rows keep their places through all steps, so the row of the batch is the row of the source.
				return engine.Errorf(engine.KindOf(err), "run step", reader.Where(row.Row), "column %q: %w", row.Column, row.Err)
			}
			return err
		}
	}
}

// copyBatch moves one record batch, which it releases, through the steps into the writer.
func (w *Worker) copyBatch(ctx context.Context, l *lease, steps *steps, record arrow.Record, writer dataset.Writer) error {
	rows := record.NumRows()
	l.counts.rowsRead.Add(rows)
	result, err := steps.apply(ctx, record)
	if err != nil {
		return err
	}
	defer result.Release()
	if err := writer.Write(ctx, result); err != nil {
		return err
	}
	l.counts.rowsWritten.Add(result.NumRows())
	l.counts.batches.Add(1)
	return nil
}
