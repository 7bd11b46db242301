// Package embedding turns texts into vectors with a sentence embedding model. It tokenizes texts and computes equal ones once;
// sorts by length, so that calls of the model hold little padding; pools the vectors of the tokens; and applies the layers after
// that. It knows nothing of tables: runtime/operator puts it into the steps of a job.
package embedding

import (
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/tokenizer"
)

// The budgets of padded tokens that a call of a model has by default. What a call of one thread on a CPU has between two layers should
// stay within the core's own cache. A GPU wants much work at once.
const (
	CPUBatchTokens = 256
	GPUBatchTokens = 16_384
)

// Config is what New needs.
type Config struct {
	// Model is the loaded graph of Spec with at least the output Spec.Output. It must stay open as long as the embedder is used. If it is
	// runtime.Metered, calls are kept within its meter's capacity. Required.
	Model runtime.Model
	// Spec says what the model does. Required.
	Spec *model.Embedding
	// Tokenizer is that of Spec. Required.
	Tokenizer *tokenizer.Tokenizer
	// Prompt is put before every text.
	Prompt string
	// MaxTokens is how many tokens of a text count, special ones included. At most Spec.MaxTokens, which zero means.
	MaxTokens int
	// Normalize scales the vectors to unit length.
	Normalize bool
	// BatchTokens is how many tokens one call of the model has at most, padding included. A longer text has a call of its own.
	// Zero means CPUBatchTokens. For a model on a GPU GPUBatchTokens is a good one.
	BatchTokens int
	// BatchRows is how many texts one call has at most. Zero means that BatchTokens alone decides.
	BatchRows int
	// Parallel is how many calls of the model run beside each other. Zero means 1. On a CPU as many calls of one thread each are
	// faster than one call of as many threads, which wait for each other many times in each layer.
	Parallel int
	// Done, if not nil, is called when a call of the model has ended well, with how many texts it was for; by several goroutines if calls
	// run beside each other.
	Done func(texts int)
}

// Embedder embeds texts. One goroutine at a time calls Run, and may do so while others fill batches. The vectors do not depend on
// which texts are embedded together, but for the rounding of float32.
type Embedder struct {
	config    Config
	maxTokens int
	// places are those of the model's inputs that exist, or -1.
	ids, mask, types int
	output           int
	hidden           int // length of what the model returns for a token, or for a text if the output is pooled
	pooled           int // length after pooling

	lanes []*lane
	meter *runtime.Meter // nil if nothing is measured
	plans plan

	// These are guarded by the lock of the queue while Run runs.
	budget  int    // falls when memory is short
	planned []call // memory of the queue
	stats   Stats
}

// Stats counts what an Embedder did.
type Stats struct {
	// Texts are all that were embedded, Distinct those of them that were computed, each once in its batch.
	Texts, Distinct int64
	// Truncated are the texts that were cut.
	Truncated int64
	// Calls are those of the model that succeeded; Tokens were computed in them, and PaddedTokens with what filled them up.
	Calls, Tokens, PaddedTokens int64
	// Halved is how often the budget was halved, or made smaller at once by what calls had been measured to take, because memory was short.
	Halved int64
}

// New returns an embedder. A model that does not fit its description, or has inputs that nothing can be fed to, is an error of kind
// engine.KindModel; limits that make no sense are of kind engine.KindInvalidArgument.
func New(config Config) (*Embedder, error) {
	const op = "bind model"
	spec := config.Spec
	e := &Embedder{config: config, maxTokens: config.MaxTokens, budget: config.BatchTokens}
	if e.maxTokens == 0 {
		e.maxTokens = spec.MaxTokens
	}
	if e.budget == 0 {
		e.budget = CPUBatchTokens
	}
	if special := config.Tokenizer.SpecialCount(); e.maxTokens <= special || e.maxTokens > spec.MaxTokens {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, spec.Path, "%d tokens of a text; it must be more than the %d special ones and at most the model's %d",
			e.maxTokens, special, spec.MaxTokens)
	}
	if e.budget < 1 || config.BatchRows < 0 || config.Parallel < 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, spec.Path, "%d tokens and %d rows a call, %d calls", config.BatchTokens, config.BatchRows, config.Parallel)
	}
	if metered, ok := config.Model.(runtime.Metered); ok {
		e.meter = metered.Meter()
	}
	for range max(1, config.Parallel) {
		e.lanes = append(e.lanes, &lane{e: e})
	}
	if err := e.bindInputs(); err != nil {
		return nil, err
	}
	if err := e.bindOutput(); err != nil {
		return nil, err
	}
	return e, nil
}

// bindInputs finds the places of the inputs in the graph, which must not have others.
func (e *Embedder) bindInputs() error {
	const op = "bind model"
	spec := e.config.Spec
	inputs := e.config.Model.Inputs()
	place := func(name string) int {
		return slices.IndexFunc(inputs, func(in engine.TensorSpec) bool { return name != "" && in.Name == name })
	}
	e.ids, e.mask, e.types = place(spec.Inputs.IDs), place(spec.Inputs.Mask), place(spec.Inputs.Types)
	for i, name := range []string{spec.Inputs.IDs, spec.Inputs.Mask, spec.Inputs.Types} {
		if (i == 0 || name != "") && place(name) < 0 {
			return engine.Errorf(engine.KindModel, op, spec.Path, "the graph has no input %q", name)
		}
	}
	for i, in := range inputs {
		if i != e.ids && i != e.mask && i != e.types {
			return engine.Errorf(engine.KindModel, op, spec.Path, "the engine cannot feed the input %s: it is neither token ids, attention mask, nor token types", in)
		}
		if in.Type != engine.Int64 || in.Shape != nil && len(in.Shape) != 2 {
			return engine.Errorf(engine.KindModel, op, spec.Path, "the engine cannot feed the input %s: expected int64[batch, length]", in)
		}
	}
	return nil
}

// bindOutput finds the output and follows the length of the vectors to the end.
func (e *Embedder) bindOutput() error {
	const op = "bind model"
	spec := e.config.Spec
	outputs := e.config.Model.Outputs()
	e.output = slices.IndexFunc(outputs, func(out engine.TensorSpec) bool { return out.Name == spec.Output })
	if e.output < 0 {
		return engine.Errorf(engine.KindModel, op, spec.Path, "the graph has no output %q", spec.Output)
	}
	rank := 3
	e.hidden, e.pooled = spec.HiddenDim, len(spec.Pooling)*spec.HiddenDim
	if spec.OutputPooled {
		rank = 2
		e.hidden = spec.Dim
		if len(spec.Dense) > 0 {
			e.hidden = spec.Dense[0].In
		}
		e.pooled = e.hidden
	}
	out := outputs[e.output]
	fits := out.Shape == nil // Nobody declared it.
	if len(out.Shape) == rank {
		last := out.Shape[rank-1]
		fits = last < 0 || last == int64(e.hidden)
	}
	if out.Type != engine.Float32 || !fits {
		want := engine.TensorSpec{Name: spec.Output, Type: engine.Float32, Shape: []int64{-1, -1, int64(e.hidden)}[3-rank:]}
		return engine.Errorf(engine.KindModel, op, spec.Path, "the graph's output is %s, expected %s", out, want)
	}
	for _, p := range spec.Pooling {
		if !spec.OutputPooled && poolers[p] == nil {
			return engine.Errorf(engine.KindModel, op, spec.Path, "the pooling %q is unknown", p)
		}
	}
	width := e.pooled
	for i, d := range spec.Dense {
		if d.In != width || d.Out < 1 || len(d.Weight) != d.In*d.Out || d.Bias != nil && len(d.Bias) != d.Out || activations[d.Activation] == nil {
			return engine.Errorf(engine.KindModel, op, spec.Path, "dense layer %d is %d to %d with %d weights, %d biases, and activation %q; it is given %d",
				i, d.In, d.Out, len(d.Weight), len(d.Bias), d.Activation, width)
		}
		width = d.Out
	}
	if width < 1 || width != spec.Dim {
		return engine.Errorf(engine.KindModel, op, spec.Path, "the vectors have %d elements at the end, the model says %d", width, spec.Dim)
	}
	return nil
}

// Dim is the length of the vectors.
func (e *Embedder) Dim() int { return e.config.Spec.Dim }

// Stats returns the counts of the calls of Run that have returned. It may not be called while Run runs.
func (e *Embedder) Stats() Stats { return e.stats }
