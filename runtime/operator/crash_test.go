package operator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
)

// brittle is a model whose process dies of inputs that have a bad number anywhere, and of calls with more than most of them.
type brittle struct {
	runtime.Model
	bad    func(t runtime.Tensor) bool
	killed bool
	most   int64
	calls  *int
	deaths *int
}

func (m brittle) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	*m.calls++
	if m.bad(inputs[0]) || m.most > 0 && inputs[0].Shape[0] > m.most {
		times := 3
		if runtime.IsSuspect(ctx) {
			times = 1
		}
		if m.deaths != nil {
			*m.deaths += times
		}
		return fmt.Errorf("run: %w", &runtime.CrashError{Model: "m.onnx", Times: times, Cause: "signal: as you wish", Killed: m.killed})
	}
	return m.Model.Run(ctx, inputs, outputs)
}

func has(number float64) func(runtime.Tensor) bool {
	return func(t runtime.Tensor) bool { return slices.Contains(enginetest.Values(t), number) }
}

// A call of which the model's process dies is halved until the row at fault is alone.
func TestInferCrash(t *testing.T) {
	var numbers, want []string
	for i := range 100 {
		numbers = append(numbers, fmt.Sprint(i))
		want = append(want, fmt.Sprint(2*i))
	}
	in := record(column(t, arrow.PrimitiveTypes.Float64, numbers...))
	defer in.Release()
	for _, test := range []struct {
		name   string
		bad    float64
		killed bool
		most   int64
		row    int64
		kind   engine.Kind
		calls  int
	}{
		{name: "first", bad: 0, row: 0, kind: engine.KindData, calls: 8},
		{name: "row", bad: 42, row: 42, kind: engine.KindData, calls: 20},
		{name: "last", bad: 99, row: 99, kind: engine.KindData, calls: 20},
		{name: "memory", bad: 7, killed: true, row: -1, kind: engine.KindExhausted, calls: 20},
		{name: "only large ones", bad: -1, most: 13, row: -1, calls: 15},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, deaths := 0, 0
			model := brittle{load(t, fake.New(), enginetest.LinearModel(engine.Float64, 0, 2)), has(test.bad), test.killed, test.most, &calls, &deaths}
			o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{0}, Outputs: []operator.InferOutput{{Output: 0, Column: "p"}}})
			if test.row < 0 && test.kind == engine.KindInternal {
				if got := texts(apply(t, o, in).Column(1)); !slices.Equal(got, want) {
					t.Errorf("got %v", got)
				}
			} else {
				_, err := o.Apply(t.Context(), in)
				var row *runtime.RowError
				if found := errors.As(err, &row); found != (test.row >= 0) || found && row.Row != test.row || engine.KindOf(err) != test.kind {
					t.Errorf("%v of kind %s", err, engine.KindOf(err))
				}
				var crash *runtime.CrashError
				if !errors.As(err, &crash) && (row == nil || !errors.As(row.Err, &crash)) {
					t.Errorf("%v does not say why", err)
				}
			}
			if calls > test.calls {
				t.Errorf("%d calls, expected at most %d", calls, test.calls)
			}
			// Three for the whole call, one for each half of a hundred rows, and three for the row alone.
			if test.row >= 0 && deaths > 3+6+3 {
				t.Errorf("the process died %d times", deaths)
			}
		})
	}
}

// When the caller goes away while a call is halved, no row is at fault.
func TestInferCrashThenCanceled(t *testing.T) {
	in := record(column(t, arrow.PrimitiveTypes.Float64, "1", "2", "3"))
	defer in.Release()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	model := brittle{Model: load(t, fake.New(), enginetest.LinearModel(engine.Float64, 0, 2)), calls: &calls, bad: func(runtime.Tensor) bool {
		cancel()
		return true
	}}
	o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{0}, Outputs: []operator.InferOutput{{Output: 0, Column: "p"}}})
	if _, err := o.Apply(ctx, in); !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

// A text of which the model's process dies is named, and those beside it are not.
func TestEmbedCrash(t *testing.T) {
	loader := fake.New()
	in := record(column(t, arrow.BinaryTypes.String, "a b", "null", "c", "a b c d", "b", "e f", "c"))
	defer in.Release()
	letter := func(l byte) func(runtime.Tensor) bool {
		return func(t runtime.Tensor) bool {
			for ; len(t.Data) > 0; t.Data = t.Data[8:] {
				if t.Data[0] == 4+l-'a' {
					return true
				}
			}
			return false
		}
	}
	for _, test := range []struct {
		name   string
		bad    byte
		killed bool
		most   int64
		row    int64
	}{
		{name: "one text", bad: 'f', row: 5},
		{name: "the longest", bad: 'd', row: 3},
		{name: "only large calls", bad: 'z', most: 1, row: -1},
		{name: "memory", bad: 'z', killed: true, most: 2, row: -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, deaths := 0, 0
			made := newEmbed(t, in.Schema(), embedder(t, loader, enginetest.EmbeddingFolder(t), func(c *embedding.Config) {
				c.Model = brittle{c.Model, letter(test.bad), test.killed, test.most, &calls, &deaths}
			}), false, 0)
			whole := newEmbed(t, in.Schema(), embedder(t, loader, enginetest.EmbeddingFolder(t), nil), false, 0)
			if test.row < 0 {
				if got, want := texts(apply(t, made, in).Column(1)), texts(apply(t, whole, in).Column(1)); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				return
			}
			_, err := made.Apply(t.Context(), in)
			var row *runtime.RowError
			if !errors.As(err, &row) || row.Row != test.row {
				t.Errorf("got %v, expected row %d", err, test.row)
			}
			if deaths > 3+2+3 {
				t.Errorf("the process died %d times", deaths)
			}
		})
	}
}
