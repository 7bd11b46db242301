package embedding

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// calls is the memory of one call of the model, kept from call to call.
type calls struct {
	ids, mask, types []int64
	rowTypes         []int32
	hidden           []float32
	vectors          [2][]float32 // before and after a dense layer
	inputs           []runtime.Tensor
	outputs          [1]runtime.Output
	plan             plan
	// distrust is set when the model does not keep to the shape that it declares, and makes its own memory.
	distrust bool
}

// Run embeds the texts of a batch. into returns the memory of Dim elements where the vector of a distinct text goes; it is called
// once for each. A text without any token, which only a tokenizer without special tokens makes, is the vector zero before dense layers.
//
// Run returns the distinct texts whose vectors hold NaN, in no order. When the model is short of memory, calls are halved, down to
// a single text, and stay so. A call of which the model's process dies is halved too, until it succeeds or a text alone is at fault, which
// is a *TextError. Other errors are those of runtime.Model.
func (e *Embedder) Run(ctx context.Context, b *Batch, into func(i int) []float32) (nan []int, err error) {
	b.sort()
	order := b.order
	for len(order) > 0 && b.tokens(order[len(order)-1]) == 0 {
		nan = e.finish(order[len(order)-1], nil, 0, into, nan)
		order = order[:len(order)-1]
	}
	for sizes := e.plan(b, order); len(order) > 0; {
		longest, rows := b.tokens(order[0]), int(sizes[0])
		group := order[:rows]
		err := e.call(ctx, b, group, longest)
		var crash *runtime.CrashError
		crashed := errors.As(err, &crash) && !crash.Killed
		switch {
		case crashed && rows > 1:
			// A size stands at the place of its call's first text.
			sizes[0], sizes[rows/2] = int32(rows/2), int32(rows-rows/2) //nolint:gosec // It is less than rows.
			continue
		case crashed:
			return nil, &TextError{Text: int(order[0]), Err: err}
		case engine.KindOf(err) == engine.KindExhausted && err != nil && rows > 1:
			e.budget = rows * longest / 2
			e.stats.Halved++
			sizes = e.plan(b, order)
			continue
		case engine.KindOf(err) == engine.KindExhausted && err != nil:
			return nil, engine.Errorf(engine.KindExhausted, "embed", "", "a text of %d tokens alone: %w", longest, err)
		case err != nil:
			return nil, err
		}
		stride := e.hidden
		if !e.config.Spec.OutputPooled {
			stride *= longest
		}
		for row, text := range group {
			nan = e.finish(text, e.calls.hidden[row*stride:], b.tokens(text), into, nan)
			e.stats.Tokens += int64(b.tokens(text))
		}
		e.stats.PaddedTokens += int64(rows * longest)
		e.stats.Calls++
		order, sizes = order[rows:], sizes[rows:]
	}
	e.stats.Texts += b.texts
	e.stats.Distinct += int64(b.Len())
	e.stats.Truncated += b.truncated
	return nan, nil
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

// call runs the model on some texts; what it returns is in e.calls.hidden.
func (e *Embedder) call(ctx context.Context, b *Batch, group []int32, longest int) error {
	c := &e.calls
	n := len(group) * longest
	c.ids, c.mask, c.types = grow(c.ids, n), grow(c.mask, n), grow(c.types, n)
	pad := int64(e.config.Spec.PadID)
	for row, text := range group {
		ids := b.idsOf(int(text))
		to, mask := c.ids[row*longest:][:longest], c.mask[row*longest:][:longest]
		for i, id := range ids {
			to[i], mask[i] = int64(id), 1
		}
		for i := len(ids); i < longest; i++ {
			to[i], mask[i] = pad, 0
		}
		if e.types >= 0 {
			types := c.types[row*longest:][:longest]
			c.rowTypes = b.encoder.AppendTypeIDs(c.rowTypes[:0], len(ids))
			for i, t := range c.rowTypes {
				types[i] = int64(t)
			}
			clear(types[len(ids):])
		}
	}
	shape := []int64{int64(len(group)), int64(longest)}
	c.inputs = grow(c.inputs, len(e.config.Model.Inputs()))
	for _, in := range [...]struct {
		place  int
		values []int64
	}{{e.ids, c.ids}, {e.mask, c.mask}, {e.types, c.types}} {
		if in.place >= 0 {
			c.inputs[in.place] = runtime.Tensor{Type: engine.Int64, Shape: shape, Data: asBytes(in.values)}
		}
	}
	want := []int64{shape[0], shape[1], int64(e.hidden)}
	if e.config.Spec.OutputPooled {
		want = []int64{shape[0], int64(e.hidden)}
	}
	out := &c.outputs[0]
	*out = runtime.Output{Index: e.output, Tensor: runtime.Tensor{Type: engine.Float32, Shape: want}}
	c.hidden = grow(c.hidden, int(out.Tensor.Elements()))
	if !c.distrust {
		out.Tensor.Data = asBytes(c.hidden)
	}
	err := e.config.Model.Run(ctx, c.inputs, c.outputs[:])
	if runtime.IsRefused(err) && !c.distrust {
		// Perhaps the output has another shape than the model says. Let the model choose, to say what was expected and found.
		c.distrust = true
		*out = runtime.Output{Index: e.output}
		err = e.config.Model.Run(ctx, c.inputs, c.outputs[:])
	}
	if err != nil || !c.distrust {
		return err
	}
	if t := out.Tensor; t.Type != engine.Float32 || len(t.Shape) != len(want) || t.Elements() != int64(len(c.hidden)) || t.Shape[0] != want[0] {
		found := engine.TensorSpec{Name: e.config.Spec.Output, Type: t.Type, Shape: t.Shape}
		return engine.Errorf(engine.KindModel, "embed", e.config.Spec.Path, "the model returned %s, expected float32%v", found, want)
	}
	copy(asBytes(c.hidden), out.Tensor.Data)
	return nil
}

// finish makes the vector of a text of what the model returned for it.
func (e *Embedder) finish(text int32, hidden []float32, tokens int, into func(int) []float32, nan []int) []int {
	c := &e.calls
	spec := e.config.Spec
	to := into(int(text))
	vector := to
	if len(spec.Dense) > 0 {
		c.vectors[0] = grow(c.vectors[0], e.pooled)
		vector = c.vectors[0]
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
			c.vectors[1] = grow(c.vectors[1], spec.Dense[i].Out)
			next = c.vectors[1]
		}
		dense(next, vector, &spec.Dense[i])
		vector = next
		c.vectors[0], c.vectors[1] = c.vectors[1], c.vectors[0]
	}
	if e.config.Normalize {
		normalize(to)
	}
	if hasNaN(to) {
		nan = append(nan, int(text))
	}
	return nan
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
