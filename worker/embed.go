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

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/operator"
)

// buildEmbed makes the operator of a step embed.
func (w *Worker) buildEmbed(ctx context.Context, program *jobplan.Program, s *steps, schema *arrow.Schema, op jobplan.EmbedOp) (operator.Operator, error) {
	_, onGPU := s.place.device.GPU()
	if onGPU && op.Model.Quantized {
		return nil, engine.Errorf(engine.KindInvalidArgument, "embed", op.Model.Path,
			"the model computes in integers, for which CUDA has no operators: they would run on the CPU, between copies to the GPU and back").
			WithHint("take the model that it was quantized from, or ask for no gpu")
	}
	folder := w.config.ModelFolder
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, engine.Errorf(engine.KindUnavailable, "embed", op.Model.Path, "the user has no cache folder: %w", err)
		}
		folder = filepath.Join(cache, "engine", "models")
	}
	path, err := op.Model.Materialize(ctx, folder)
	if err != nil {
		return nil, err
	}
	request := runtime.LoadRequest{
		Path: path, Digest: op.Model.Digest, Threads: 1, Outputs: []string{op.Model.Output}, Device: s.place.device, GPUMemoryBytes: s.place.memoryBytes,
	}
	config := embedding.Config{
		Spec: op.Model, Tokenizer: op.Model.Tokenizer, Prompt: op.Prompt, MaxTokens: op.MaxTokens, Normalize: op.Normalize,
		BatchTokens: op.BatchTokens, BatchRows: op.BatchRows, Parallel: program.Threads,
		Done: s.embedding.done,
	}
	if !onGPU {
		request.MemoryBytes = s.place.hostBytes
	} else {
		request.Threads, config.Parallel = program.Threads, 1
		if config.BatchTokens == 0 {
			config.BatchTokens = embedding.GPUBatchTokens
		}
	}
	if config.Model, err = s.loader.Load(ctx, request); err != nil {
		return nil, err
	}
	s.models = append(s.models, config.Model)
	embedder, err := embedding.New(config)
	if err != nil {
		return nil, err
	}
	made, err := operator.NewEmbed(operator.EmbedParams{
		Schema: schema, Text: op.Text, Column: op.Field.Name, Embedder: embedder, AllowNaN: op.AllowNaN, Allocator: w.config.Allocator,
	})
	if err != nil {
		return nil, engine.WrapError("embed", op.Model.Path, err)
	}
	if s.embed == nil {
		s.embed, s.before = made, len(s.operators)
	}
	s.embedded = append(s.embedded, embedded{op, made})
	return made, nil
}

// embedded is a step embed and its operator.
type embedded struct {
	op   jobplan.EmbedOp
	made *operator.Embed
}

// embedProgress tells an attempt's counts how far the models are with a record batch, which may take them minutes.
type embedProgress struct {
	mu     sync.Mutex
	counts *counts
	// from are the rows that were processed before the batch, to those after it.
	from, to int64
	// texts are those that the models have to embed, of all steps; embedded are done.
	texts, embedded int64
}

// begin is called before a batch of so many distinct texts for each of some steps; read rows will be processed after it.
func (p *embedProgress) begin(counts *counts, read int64, texts, steps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts, p.from, p.to = counts, counts.rowsProcessed.Load(), read
	p.texts, p.embedded = int64(texts)*int64(steps), 0
}

// done notes that a model has embedded so many texts more. It is safe for concurrent use.
func (p *embedProgress) done(texts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.embedded = min(p.embedded+int64(texts), p.texts) // a batch that is run again, without some rows, does not count twice
	if p.texts > 0 {
		p.counts.rowsProcessed.Store(p.from + int64(float64(p.to-p.from)*float64(p.embedded)/float64(p.texts)))
	}
}

// sayEmbedded tells the job's log what users want to know of their texts.
func (w *Worker) sayEmbedded(l *lease, s *steps) {
	for _, e := range s.embedded {
		stats := e.made.Stats()
		step := strconv.Itoa(e.op.Step)
		l.counts.textsTruncated.Add(stats.Truncated)
		if stats.Truncated > 0 {
			w.line(l, "INFO", "texts were cut", map[string]string{
				"step": step, "max_tokens": strconv.Itoa(e.op.MaxTokens), "texts": strconv.FormatInt(stats.Texts, 10), "cut": strconv.FormatInt(stats.Truncated, 10),
			})
		}
		if stats.Halved > 0 {
			w.line(l, "WARN", "memory was short: calls of the model were made smaller", map[string]string{
				"step": step, "halvings": strconv.FormatInt(stats.Halved, 10),
			})
		}
	}
}

// tokenized is a record batch on its way to the model.
type tokenized struct {
	batch *operator.EmbedBatch
	// place is the record batch's in the split, and read how many rows of the split were read with it.
	place int
	read  int64
	// before is what was made of it before the model; its record is that of batch, and nil unless rows may be rejected.
	before passed
	bad    *batchRejects
}

func (t *tokenized) close() {
	t.bad.close()
	if t.before.record != nil {
		t.before.record.Release()
		t.before.record = nil
	}
}

// copyAhead moves a split through steps that embed: a second goroutine reads a record batch and tokenizes its texts while the model
// works on the one before, so that the model never waits. It has ended when copyAhead returns. One batch at most waits between them.
func (w *Worker) copyAhead(ctx context.Context, program *jobplan.Program, l *lease, s *steps, split dataset.Split, reader dataset.Reader, out draft) (err error) {
	ready := make(chan tokenized)
	group := lifecycle.NewGroup(ctx, "read ahead")
	var failed error // set before ready is closed
	group.Go("tokenize", func(ctx context.Context) error {
		defer close(ready)
		failed = w.tokenize(ctx, l, s, split, reader, ready)
		return nil
	})
	// The goroutine looks at its context before every read and at every hand-over; it needs no deadline.
	defer func() { err = errors.Join(err, group.Stop(context.WithoutCancel(ctx))) }()
	for {
		next, ok := <-ready
		if !ok {
			return failed
		}
		if err := w.copyTokenized(ctx, l, s, next, out); err != nil {
			return explain(err, func(row int64) string { return w.where(ctx, program, l.job, split, next.place, row) })
		}
	}
}

// tokenize reads until the end, and hands over what is ready.
func (w *Worker) tokenize(ctx context.Context, l *lease, s *steps, split dataset.Split, reader dataset.Reader, ready chan<- tokenized) (err error) {
	defer func() {
		if p := recover(); p != nil { // as in attempt
			w.config.Logger.ErrorContext(ctx, "attempt panicked", "task", l.task, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = engine.Errorf(engine.KindInternal, "run task", l.task.String(), "panic: %v", p)
		}
	}()
	before := l.counts.bytesRead.Load()
	for place := 0; ; place++ {
		record, err := reader.Read(ctx)
		l.counts.bytesRead.Store(before + reader.BytesRead())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		next := tokenized{place: place, read: l.counts.rowsRead.Add(record.NumRows()), bad: s.rejects.batch(reader, split.File.Path, record)}
		if next.before, err = applyAll(ctx, s.operators[:s.before], passed{record: record}, next.bad, w.config.Allocator); err != nil {
			next.close()
			return explain(err, reader.Where)
		}
		l.counts.rowsFiltered.Add(next.before.filtered)
		if next.before.record == nil {
			next.close()
			l.counts.batches.Add(1)
			continue
		}
		if next.batch, err = s.embed.Prepare(ctx, next.before.record); err != nil {
			next.close()
			return explain(sourceRow(err, next.before.kept), reader.Where)
		}
		if next.bad == nil {
			next.close()
		}
		select {
		case ready <- next:
		case <-ctx.Done():
			next.close()
			s.embed.Discard(next.batch)
			return context.Cause(ctx)
		}
	}
}

// copyTokenized moves one batch through the model and the steps after it into the draft.
func (w *Worker) copyTokenized(ctx context.Context, l *lease, s *steps, next tokenized, out draft) error {
	defer next.close()
	defer l.counts.rowsProcessed.Store(next.read)
	s.embedding.begin(&l.counts, next.read, next.batch.Texts(), len(s.embedded))
	record, err := s.embed.Run(ctx, next.batch)
	if err == nil {
		return w.finish(ctx, l, s, s.before+1, passed{record: record, kept: next.before.kept}, next.bad, out)
	}
	if next.bad == nil {
		return sourceRow(err, next.before.kept)
	}
	left, err := next.bad.take(ctx, err, nil, next.before.record, next.before.kept)
	if err == nil {
		err = next.before.leave(left, w.config.Allocator)
	}
	if err != nil {
		return err
	}
	if next.before.record == nil {
		l.counts.batches.Add(1)
		return s.rejects.flush(ctx)
	}
	again := next.before
	next.before.record = nil
	return w.finish(ctx, l, s, s.before, again, next.bad, out)
}

// explain says where the row of a *runtime.RowError came from, which is a row of the record batch that was read.
func explain(err error, where func(row int64) string) error {
	var row *runtime.RowError
	if !errors.As(err, &row) {
		return err
	}
	if row.Column == "" {
		return engine.Errorf(engine.KindOf(err), "run step", where(row.Row), "%w", row.Err)
	}
	return engine.Errorf(engine.KindOf(err), "run step", where(row.Row), "column %q: %w", row.Column, row.Err)
}

// where finds out where a row came from that lies in a record batch which the reader has left behind: the split is read again, up to
// that batch.
func (w *Worker) where(ctx context.Context, program *jobplan.Program, j *jobEntry, split dataset.Split, batch int, row int64) string {
	unknown := fmt.Sprintf("%s, record batch %d, row %d", split.File.Path, batch+1, row+1)
	reader, err := w.open(ctx, program, j, split, nil, nil)
	if err != nil {
		return unknown
	}
	defer func() { _ = reader.Close() }() // The error at hand matters more.
	for range batch + 1 {
		record, err := reader.Read(ctx)
		if err != nil {
			return unknown
		}
		record.Release()
	}
	return reader.Where(row)
}
