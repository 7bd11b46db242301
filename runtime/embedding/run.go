package embedding

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"unsafe"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// Run embeds the texts of a batch. into returns the memory of Dim elements where the vector of a distinct text goes; it is called
// once for each, by several goroutines if calls run beside each other. A text without any token, which only a tokenizer without
// special tokens makes, is the vector zero before dense layers.
//
// Run returns the distinct texts whose vectors hold NaN, in no order. When the model is short of memory, calls are halved, down to
// a single text, and stay so. A call of which the model's process dies is halved too, until it succeeds or a text alone is at fault, which
// is a *TextError. Other errors are those of runtime.Model.
func (e *Embedder) Run(ctx context.Context, b *Batch, into func(i int) []float32) (nan []int, err error) {
	b.sort()
	order := b.order
	for len(order) > 0 && b.tokens(order[len(order)-1]) == 0 {
		e.lanes[0].finish(b, order[len(order)-1], nil, into)
		order = order[:len(order)-1]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := &queue{e: e, batch: b, into: into, cancel: cancel}
	q.fill(order)
	var beside sync.WaitGroup
	for _, l := range e.lanes[1:max(1, min(len(e.lanes), len(q.calls)))] {
		beside.Go(func() { l.run(ctx, q) })
	}
	e.lanes[0].run(ctx, q)
	beside.Wait()
	for _, l := range e.lanes {
		nan, l.nan = append(nan, l.nan...), l.nan[:0]
	}
	switch {
	case q.panicked != nil:
		panic(q.panicked)
	case q.err != nil:
		return nil, q.err
	}
	e.stats.Texts += b.texts
	e.stats.Distinct += int64(b.Len())
	e.stats.Truncated += b.truncated
	return nan, nil
}

// queue holds the calls that are left of a batch.
type queue struct {
	e      *Embedder
	batch  *Batch
	into   func(i int) []float32
	cancel context.CancelFunc

	mu       sync.Mutex
	calls    []call // the next one is the last
	err      error  // of the first call that failed for good
	panicked any
}

// call is one of the model.
type call struct {
	texts []int32 // the longest first
	// suspect says that the model's process has died of these texts and others.
	suspect bool
}

// fill plans the calls of texts, which are sorted by length.
func (q *queue) fill(order []int32) {
	q.calls = q.e.planned[:0]
	for sizes := q.e.plan(q.batch, order); len(order) > 0; {
		n := sizes[0]
		q.calls = append(q.calls, call{texts: order[:n:n]})
		order, sizes = order[n:], sizes[n:]
	}
	q.e.planned = q.calls
	slices.Reverse(q.calls)
}

// next takes a call; false if none is left, or one has failed.
func (q *queue) next() (c call, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || len(q.calls) == 0 {
		return call{}, false
	}
	c = q.calls[len(q.calls)-1]
	q.calls = q.calls[:len(q.calls)-1]
	return c, true
}

// failed decides what becomes of a call that failed.
func (q *queue) failed(texts []int32, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	longest, rows := q.batch.tokens(texts[0]), len(texts)
	var crash *runtime.CrashError
	crashed := errors.As(err, &crash) && !crash.Killed
	short := engine.KindOf(err) == engine.KindExhausted
	switch {
	case q.err != nil: // The others have been told to end.
		return
	case crashed && rows > 1:
		q.calls = append(q.calls, call{texts[rows/2:], true}, call{texts[:rows/2], true})
		return
	case short && rows > 1:
		q.shrink(texts, rows*longest/2)
		return
	case crashed:
		err = &TextError{Text: int(texts[0]), Err: err}
	case short:
		err = engine.Errorf(engine.KindExhausted, "embed", "", "a text of %d tokens alone: %w", longest, err)
	}
	q.err = err
	q.cancel()
}

// shrink plans the calls that are left, and these texts, with a smaller budget, which stays.
func (q *queue) shrink(texts []int32, budget int) {
	q.e.budget = min(q.e.budget, max(1, budget))
	q.e.stats.Halved++
	rest := slices.Clone(texts)
	for _, c := range slices.Backward(q.calls) {
		rest = append(rest, c.texts...)
	}
	q.batch.sortByLength(rest)
	q.fill(rest)
}

// admit waits until a call of so many padded tokens may begin. false: it never may, and smaller ones are in the queue instead.
func (q *queue) admit(ctx context.Context, texts []int32, tokens int64) (bool, error) {
	m := q.e.meter
	if m == nil {
		return true, nil
	}
	if capacity := m.Capacity(); capacity > 0 && tokens > capacity && len(texts) > 1 {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.shrink(texts, int(capacity))
		return false, nil
	}
	return true, m.Begin(ctx, tokens)
}

// lane makes one call of the model after the other. It keeps the memory of such a call.
type lane struct {
	e                *Embedder
	ids, mask, types []int64
	rowTypes         []int32
	hidden           []float32
	vectors          [2][]float32 // before and after a dense layer
	inputs           []runtime.Tensor
	outputs          [1]runtime.Output
	// distrust is set when the model does not keep to the shape that it declares, and makes its own memory.
	distrust bool
	nan      []int
}

// run makes calls until none is left.
func (l *lane) run(ctx context.Context, q *queue) {
	defer func() {
		if p := recover(); p != nil { // Run panics in the goroutine of its caller, who may want to live on.
			q.mu.Lock()
			defer q.mu.Unlock()
			q.err, q.panicked = fmt.Errorf("panic: %v", p), fmt.Sprintf("%v\n%s", p, debug.Stack())
			q.cancel()
		}
	}()
	for {
		c, ok := q.next()
		if !ok {
			return
		}
		marked, texts := ctx, c.texts
		if c.suspect && len(texts) > 1 {
			marked = runtime.Suspect(ctx)
		}
		longest := q.batch.tokens(texts[0])
		padded := int64(len(texts) * longest)
		admitted, err := q.admit(ctx, texts, padded)
		if !admitted {
			continue
		}
		if err == nil {
			err = l.metered(marked, q.batch, texts, longest)
		}
		if err != nil {
			q.failed(texts, err)
			continue
		}
		stride := l.e.hidden
		if !l.e.config.Spec.OutputPooled {
			stride *= longest
		}
		tokens := 0
		for row, text := range texts {
			l.finish(q.batch, text, l.hidden[row*stride:], q.into)
			tokens += q.batch.tokens(text)
		}
		q.mu.Lock()
		l.e.stats.Tokens += int64(tokens)
		l.e.stats.PaddedTokens += padded
		l.e.stats.Calls++
		q.mu.Unlock()
		if done := l.e.config.Done; done != nil {
			done(len(texts))
		}
	}
}

// TextError is a text of which the model's process died, when it was alone.
type TextError struct {
	// Text is its place among the distinct texts of the batch.
	Text int
	// Err is the *runtime.CrashError.
	Err error
}

// Error returns the place and the cause.
func (e *TextError) Error() string { return fmt.Sprintf("text %d of the batch: %v", e.Text, e.Err) }

// Unwrap returns the cause.
func (e *TextError) Unwrap() error { return e.Err }

// metered is call, and ends what queue.admit has begun, also in a panic.
func (l *lane) metered(ctx context.Context, b *Batch, texts []int32, longest int) error {
	if m := l.e.meter; m != nil {
		defer m.End(int64(len(texts) * longest))
	}
	return l.call(ctx, b, texts, longest)
}

// call runs the model on some texts; what it returns is in l.hidden.
func (l *lane) call(ctx context.Context, b *Batch, group []int32, longest int) error {
	e := l.e
	n := len(group) * longest
	l.ids, l.mask, l.types = grow(l.ids, n), grow(l.mask, n), grow(l.types, n)
	pad := int64(e.config.Spec.PadID)
	for row, text := range group {
		ids := b.idsOf(int(text))
		to, mask := l.ids[row*longest:][:longest], l.mask[row*longest:][:longest]
		for i, id := range ids {
			to[i], mask[i] = int64(id), 1
		}
		for i := len(ids); i < longest; i++ {
			to[i], mask[i] = pad, 0
		}
		if e.types >= 0 {
			types := l.types[row*longest:][:longest]
			l.rowTypes = b.encoder.AppendTypeIDs(l.rowTypes[:0], len(ids))
			for i, t := range l.rowTypes {
				types[i] = int64(t)
			}
			clear(types[len(ids):])
		}
	}
	shape := []int64{int64(len(group)), int64(longest)}
	l.inputs = grow(l.inputs, len(e.config.Model.Inputs()))
	for _, in := range [...]struct {
		place  int
		values []int64
	}{{e.ids, l.ids}, {e.mask, l.mask}, {e.types, l.types}} {
		if in.place >= 0 {
			l.inputs[in.place] = runtime.Tensor{Type: engine.Int64, Shape: shape, Data: asBytes(in.values)}
		}
	}
	want := []int64{shape[0], shape[1], int64(e.hidden)}
	if e.config.Spec.OutputPooled {
		want = []int64{shape[0], int64(e.hidden)}
	}
	out := &l.outputs[0]
	*out = runtime.Output{Index: e.output, Tensor: runtime.Tensor{Type: engine.Float32, Shape: want}}
	l.hidden = grow(l.hidden, int(out.Tensor.Elements()))
	if !l.distrust {
		out.Tensor.Data = asBytes(l.hidden)
	}
	err := e.config.Model.Run(ctx, l.inputs, l.outputs[:])
	if runtime.IsRefused(err) && !l.distrust {
		// Perhaps the output has another shape than the model says. Let the model choose, to say what was expected and found.
		l.distrust = true
		*out = runtime.Output{Index: e.output}
		err = e.config.Model.Run(ctx, l.inputs, l.outputs[:])
	}
	if err != nil || !l.distrust {
		return err
	}
	if t := out.Tensor; t.Type != engine.Float32 || len(t.Shape) != len(want) || t.Elements() != int64(len(l.hidden)) || t.Shape[0] != want[0] {
		found := engine.TensorSpec{Name: e.config.Spec.Output, Type: t.Type, Shape: t.Shape}
		return engine.Errorf(engine.KindModel, "embed", e.config.Spec.Path, "the model returned %s, expected float32%v", found, want)
	}
	copy(asBytes(l.hidden), out.Tensor.Data)
	return nil
}

// finish makes the vector of a text of what the model returned for it.
func (l *lane) finish(b *Batch, text int32, hidden []float32, into func(int) []float32) {
	e, tokens := l.e, b.tokens(text)
	spec := e.config.Spec
	to := into(int(text))
	vector := to
	if len(spec.Dense) > 0 {
		l.vectors[0] = grow(l.vectors[0], e.pooled)
		vector = l.vectors[0]
	}
	switch {
	case tokens == 0:
		clear(vector)
	case spec.OutputPooled:
		copy(vector, hidden[:e.hidden])
	default:
		for i, p := range spec.Pooling {
			poolers[p](vector[i*e.hidden:][:e.hidden], hidden[:tokens*e.hidden])
		}
	}
	for i := range spec.Dense {
		next := to
		if i+1 < len(spec.Dense) {
			l.vectors[1] = grow(l.vectors[1], spec.Dense[i].Out)
			next = l.vectors[1]
		}
		dense(next, vector, &spec.Dense[i])
		vector = next
		l.vectors[0], l.vectors[1] = l.vectors[1], l.vectors[0]
	}
	if e.config.Normalize {
		normalize(to)
	}
	if hasNaN(to) {
		l.nan = append(l.nan, int(text))
	}
}

// grow returns a slice of length n, with the memory of s if that is large enough. What it holds is undefined.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// asBytes views numbers as their bytes.
func asBytes[T int64 | float32](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(*new(T))))
}
