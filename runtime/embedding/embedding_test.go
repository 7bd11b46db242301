package embedding_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/tokenizer"
)

// words is a tokenizer with one id for each letter: [PAD] is 0, [CLS] 1, [SEP] 2, [UNK] 3, "a" 4, and so on.
func words(t testing.TB, special bool) *tokenizer.Tokenizer {
	t.Helper()
	var vocab strings.Builder
	vocab.WriteString(`"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3`)
	for i := range 26 {
		fmt.Fprintf(&vocab, `, "%c": %d`, 'a'+i, 4+i)
	}
	post := "null"
	if special {
		post = `{"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}`
	}
	made, err := tokenizer.Parse([]byte(`{"version": "1.0", "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": ` + post + `,
		"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {` + vocab.String() + `}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

const hidden = 3

// graph is a model that returns for a token (its id, its position, the sum of the ids that the mask keeps), so that a wrong mask
// or a neighbour's tokens show.
type graph struct {
	inputs, outputs []engine.TensorSpec
	pooled          bool
	most            int // padded tokens beyond which memory is short; 0: none
	nanID           int64
	lie             bool // returns one dimension more
	panics          bool

	mu    sync.Mutex
	calls [][]int64
}

func newGraph() *graph {
	g := &graph{}
	for _, name := range []string{"token_type_ids", "input_ids", "attention_mask"} {
		g.inputs = append(g.inputs, engine.TensorSpec{Name: name, Type: engine.Int64, Shape: []int64{-1, -1}})
	}
	g.outputs = []engine.TensorSpec{
		{Name: "other", Type: engine.Float32, Shape: []int64{-1}},
		{Name: "last_hidden_state", Type: engine.Float32, Shape: []int64{-1, -1, hidden}},
	}
	return g
}

func (g *graph) Inputs() []engine.TensorSpec  { return g.inputs }
func (g *graph) Outputs() []engine.TensorSpec { return g.outputs }
func (g *graph) Close() error                 { return nil }

func (g *graph) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	shape := inputs[0].Shape
	rows, length := int(shape[0]), int(shape[1])
	g.mu.Lock()
	g.calls = append(g.calls, slices.Clone(shape))
	g.mu.Unlock()
	if g.panics {
		panic("the model panics")
	}
	if g.most > 0 && rows*length > g.most {
		return engine.Errorf(engine.KindExhausted, "run model", "", "%d tokens", rows*length)
	}
	element := func(t runtime.Tensor, i int) int64 { return int64(binary.NativeEndian.Uint64(t.Data[8*i:])) }
	var types, ids, mask runtime.Tensor
	for i, in := range g.inputs {
		switch in.Name {
		case "token_type_ids":
			types = inputs[i]
		case "input_ids":
			ids = inputs[i]
		case "attention_mask":
			mask = inputs[i]
		}
	}
	out := &outputs[0].Tensor
	want := []int64{int64(rows), int64(length), hidden}
	if g.pooled {
		want = []int64{int64(rows), hidden}
	}
	if g.lie {
		want = append(want, 1)
	}
	if out.Data == nil {
		*out = runtime.Tensor{Type: engine.Float32, Shape: want, Data: make([]byte, 4*rows*length*hidden)}
	} else if !slices.Equal(out.Shape, want) {
		return engine.Errorf(engine.KindModel, "run model", "", "the output is %v, not %v", want, out.Shape)
	}
	values := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(out.Data))), len(out.Data)/4)
	for r := range rows {
		var sum int64
		for i := range length {
			if len(types.Data) > 0 && element(types, r*length+i) != 0 {
				return fmt.Errorf("a token type is not 0")
			}
			sum += element(mask, r*length+i) * element(ids, r*length+i)
			if m := element(mask, r*length+i); m == 0 && element(ids, r*length+i) != 0 {
				return fmt.Errorf("padding has another id than [PAD]")
			}
		}
		for i := range length {
			token := []float32{float32(element(ids, r*length+i)), float32(i), float32(sum)}
			if g.nanID != 0 && element(ids, r*length+i) == g.nanID {
				token[0] = float32(math.NaN())
			}
			if !g.pooled {
				copy(values[(r*length+i)*hidden:], token)
			} else if i == 0 {
				copy(values[r*hidden:], token)
			}
		}
	}
	return nil
}

func spec(pooling ...model.Pooling) *model.Embedding {
	return &model.Embedding{
		Path: "/m", MaxTokens: 64, HiddenDim: hidden, Dim: hidden * len(pooling), Pooling: pooling,
		Inputs: model.EmbeddingInputs{IDs: "input_ids", Mask: "attention_mask", Types: "token_type_ids"}, Output: "last_hidden_state",
	}
}

// embed returns the vectors of texts, by their places.
func embed(t testing.TB, e *embedding.Embedder, texts ...string) [][]float32 {
	t.Helper()
	vectors, _, err := try(t, e, texts...)
	if err != nil {
		t.Fatal(err)
	}
	return vectors
}

func try(t testing.TB, e *embedding.Embedder, texts ...string) ([][]float32, []int, error) {
	b := e.NewBatch()
	places := make([]int, len(texts))
	for i, text := range texts {
		places[i] = b.Add(text)
	}
	distinct := make([][]float32, b.Len())
	var mu sync.Mutex
	nan, err := e.Run(t.Context(), b, func(i int) []float32 {
		mu.Lock()
		defer mu.Unlock()
		if distinct[i] != nil {
			t.Errorf("text %d is computed twice", i)
		}
		distinct[i] = make([]float32, e.Dim())
		return distinct[i]
	})
	vectors := make([][]float32, len(texts))
	for i, place := range places {
		vectors[i] = distinct[place]
	}
	return vectors, nan, err
}

func newEmbedder(t testing.TB, c embedding.Config) *embedding.Embedder {
	t.Helper()
	if c.Tokenizer == nil {
		c.Tokenizer = words(t, true)
	}
	e, err := embedding.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPooling(t *testing.T) {
	// "a b c" is 1 4 5 6 2 at positions 0 to 4, and the sum 18.
	sqrt5 := float32(math.Sqrt(5))
	for pooling, want := range map[model.Pooling][]float32{
		model.PoolMean:         {18. / 5, 2, 18},
		model.PoolCLS:          {1, 0, 18},
		model.PoolMax:          {6, 4, 18},
		model.PoolLastToken:    {2, 4, 18},
		model.PoolWeightedMean: {(1*1 + 2*4 + 3*5 + 4*6 + 5*2) / 15., (0 + 2 + 6 + 12 + 20) / 15., 18},
		model.PoolMeanSqrtLen:  {18 / sqrt5, 10 / sqrt5, 90 / sqrt5},
	} {
		e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(pooling)})
		// The longer text makes padding.
		got := embed(t, e, "a b c", "a b c d e f g h i j k l m n o p q")[0]
		if !near(got, want, 1e-6) {
			t.Errorf("%s: got %v, want %v", pooling, got, want)
		}
	}
	e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolCLS, model.PoolMax), Normalize: true})
	length := float32(math.Sqrt(1 + 18*18 + 36 + 16 + 18*18))
	if got, want := embed(t, e, "a b c")[0], []float32{1 / length, 0, 18 / length, 6 / length, 4 / length, 18 / length}; !near(got, want, 1e-6) {
		t.Errorf("concatenated and normalized: got %v, want %v", got, want)
	}
}

func near(got, want []float32, most float64) bool {
	return slices.EqualFunc(got, want, func(a, b float32) bool { return math.Abs(float64(a)-float64(b)) <= most })
}

func TestDense(t *testing.T) {
	s := spec(model.PoolCLS) // 1 0 sum
	s.Dense = []model.Dense{
		{In: 3, Out: 2, Weight: []float32{1, 0, -1, 0, 0, 0.5}, Bias: []float32{2, -1}, Activation: model.ActivationReLU},
		{In: 2, Out: 4, Weight: []float32{1, 1, 0, 0.25, 1, 0, -1, -0.25}, Activation: model.ActivationTanh},
		{In: 4, Out: 1, Weight: []float32{1, 1, 1, 1}, Bias: []float32{1}, Activation: model.ActivationGELU},
	}
	s.Dim = 1
	e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: s})
	// "a" sums to 1+4+2 = 7: [1 0 7] -> relu [-4 2.5] = [0 2.5] -> tanh [2.5 0.625 0 -0.625] -> gelu(tanh(2.5) + 1)
	x := math.Tanh(2.5) + 1
	want := x * 0.5 * (1 + math.Erf(x/math.Sqrt2))
	for range 2 { // the memory of layers is used again
		if got := embed(t, e, "a")[0]; !near(got, []float32{float32(want)}, 1e-6) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestPooledOutput(t *testing.T) {
	g := newGraph()
	g.pooled = true
	g.outputs[1] = engine.TensorSpec{Name: "sentence_embedding", Type: engine.Float32, Shape: []int64{-1, hidden}}
	s := spec(model.PoolMean)
	s.Output, s.OutputPooled = "sentence_embedding", true
	e := newEmbedder(t, embedding.Config{Model: g, Spec: s})
	if got := embed(t, e, "a", "a b", "c"); !near(slices.Concat(got...), []float32{1, 0, 7, 1, 0, 12, 1, 0, 9}, 0) {
		t.Errorf("got %v", got)
	}
}

// TestBatches looks at how calls are formed.
func TestBatches(t *testing.T) {
	g := newGraph()
	e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), BatchTokens: 12, BatchRows: 3})
	embed(t, e, "a", "b", "a", "c", "d e", "a b c d e f g h i j k l m n", "e", "", "  a\u2003\x1f")
	want := [][]int64{{1, 16}, {1, 4}, {3, 3}, {2, 3}}
	// 14 letters alone, above the budget; "d e"; then those of one letter, three at most, and with the last the empty text.
	if !slices.EqualFunc(g.calls, want, slices.Equal) {
		t.Errorf("calls %v, want %v", g.calls, want)
	}
	if got, want := e.Stats(), (embedding.Stats{Texts: 9, Distinct: 7, Calls: 4, Tokens: 16 + 4 + 4*3 + 2, PaddedTokens: 16 + 4 + 9 + 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestCallsCostLittle compares the calls with the best of all ways to cut the sorted texts.
func TestCallsCostLittle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		budget, rows := 1+r.IntN(300), r.IntN(10)
		all := make([]string, 1+r.IntN(60))
		var lengths []int
		for i := range all {
			// Different, so that none is computed once for two.
			letters := 2 + r.IntN(1+r.IntN(40))
			all[i] = strings.TrimSpace(strings.Repeat("a ", letters-2) + string(rune('a'+i/26)) + " " + string(rune('a'+i%26)))
			lengths = append(lengths, letters+2)
		}
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
		call := max(1, budget/32)
		best := make([]int, len(lengths)+1)
		for i := len(lengths) - 1; i >= 0; i-- {
			best[i] = math.MaxInt
			for k := 1; i+k <= len(lengths) && (k == 1 || k*lengths[i] <= budget) && (rows == 0 || k <= rows); k++ {
				best[i] = min(best[i], k*lengths[i]+call+best[i+k])
			}
		}
		g := newGraph()
		e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolCLS), BatchTokens: budget, BatchRows: rows})
		embed(t, e, all...)
		cost, texts := 0, 0
		for _, c := range g.calls {
			if c[0] > 1 && (int(c[0]*c[1]) > budget || rows > 0 && int(c[0]) > rows) {
				t.Errorf("call %v is over %d tokens or %d rows", c, budget, rows)
			}
			cost += int(c[0]*c[1]) + call
			texts += int(c[0])
		}
		if float64(cost) > 1.03*float64(best[0])+float64(call) || texts != len(all) {
			t.Fatalf("lengths %v, budget %d, rows %d: calls %v cost %d, the best %d", lengths, budget, rows, g.calls, cost, best[0])
		}
	}
}

func TestVectorsDoNotDependOnBatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]string, 500)
	for i := range all {
		var b strings.Builder
		for range r.IntN(40) {
			b.WriteByte(byte('a' + r.IntN(26)))
			b.WriteByte(' ')
		}
		all[i] = b.String()
	}
	var first [][]float32
	for _, c := range []embedding.Config{
		{BatchRows: 1}, {BatchRows: 7}, {BatchRows: 10_000}, {BatchTokens: 1}, {BatchTokens: 256}, {BatchTokens: 4096}, {BatchTokens: 65_536},
		{Parallel: 2}, {Parallel: 7, BatchTokens: 64}, {Parallel: 16, BatchTokens: 65_536},
	} {
		c.Model, c.Spec, c.Normalize = newGraph(), spec(model.PoolMean, model.PoolMax), true
		got := embed(t, newEmbedder(t, c), all...)
		if first == nil {
			first = got
		}
		for i := range got {
			if !slices.Equal(got[i], first[i]) {
				t.Errorf("%d rows, %d tokens: text %d is %v, want %v", c.BatchRows, c.BatchTokens, i, got[i], first[i])
			}
		}
	}
}

func TestShortMemory(t *testing.T) {
	g := newGraph()
	g.most = 20
	e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), BatchTokens: 100})
	all := make([]string, 26)
	for i := range all {
		all[i] = string(rune('a' + i))
	}
	for i, v := range embed(t, e, all...) {
		if v[2] != float32(1+4+i+2) {
			t.Errorf("text %d is %v", i, v)
		}
	}
	if got := e.Stats(); got.Halved != 2 || got.Calls != 5 || got.PaddedTokens != 78 {
		t.Errorf("got %+v", got)
	}
	// The budget stays, also for the next batch.
	g.calls = nil
	if embed(t, e, all...); len(g.calls) != 5 {
		t.Errorf("calls %v", g.calls)
	}
	_, _, err := try(t, e, strings.Repeat("a ", 30))
	if engine.KindOf(err) != engine.KindExhausted || !strings.Contains(err.Error(), "a text of 32 tokens alone") {
		t.Errorf("got %v", err)
	}
}

// TestParallel looks at calls that run beside each other.
func TestParallel(t *testing.T) {
	letters := strings.Split("a b c d e f g h i j k l m n o p q r s t u v w x y z", " ") // of three tokens each
	g := newGraph()
	var done atomic.Int64
	e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), BatchTokens: 1000, Parallel: 3, Done: func(texts int) { done.Add(int64(texts)) }})
	embed(t, e, letters...)
	if done.Load() != 26 {
		t.Errorf("told of %d of 26 texts", done.Load())
	}
	sizes := []int64{}
	for _, c := range g.calls {
		sizes = append(sizes, c[0])
	}
	if slices.Sort(sizes); !slices.Equal(sizes, []int64{8, 9, 9}) && !slices.Equal(sizes, []int64{8, 8, 10}) {
		t.Errorf("calls of %v texts: they do not share the work", sizes)
	}

	g = newGraph()
	g.most = 7
	e = newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), BatchTokens: 100, Parallel: 4})
	for i, v := range embed(t, e, letters...) {
		if v[2] != float32(1+4+i+2) {
			t.Errorf("short of memory: text %d is %v", i, v)
		}
	}
	if got := e.Stats(); got.Halved < 1 || got.Texts != 26 || got.Tokens != 78 {
		t.Errorf("got %+v", got)
	}
	_, _, err := try(t, e, append(letters, "a b c d e f g h", "b c d e f g h i")...)
	if engine.KindOf(err) != engine.KindExhausted || !strings.Contains(err.Error(), "a text of 10 tokens alone") {
		t.Errorf("got %v", err)
	}

	g = newGraph()
	g.panics = true
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "the model panics") || !strings.Contains(p, "graph).Run") {
			t.Errorf("got %v", p)
		}
	}()
	_, _, _ = try(t, newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), BatchTokens: 10, Parallel: 2}), letters...)
	t.Error("the panic of a call was lost")
}

// metered is a model whose process has a hundred bytes for each token of the calls that ran when most did.
type metered struct {
	*graph
	meter *runtime.Meter
}

func (m *metered) ResidentBytes() int64  { return 1000 }
func (m *metered) Meter() *runtime.Meter { return m.meter }
func (m *metered) MemoryBytes() int64    { return 1000 + 100*m.meter.Most() }

// TestMeasuredMemory keeps calls, and what runs of them at once, within what was granted.
func TestMeasuredMemory(t *testing.T) {
	m := &metered{graph: newGraph()}
	m.meter = runtime.NewMeter(m)
	m.meter.Join(1000 + 100*24)
	e := newEmbedder(t, embedding.Config{Model: m, Spec: spec(model.PoolMean), BatchTokens: 20, Parallel: 4})
	all := make([]string, 26)
	for i := range all {
		all[i] = string(rune('a' + i))
	}
	for round := range 4 {
		for i, v := range embed(t, e, all...) {
			if v[2] != float32(1+4+i+2) {
				t.Errorf("round %d: text %d is %v", round, i, v)
			}
		}
	}
	if most := m.meter.Most(); most > 24 || most < 18 || e.Stats().Halved != 0 {
		t.Errorf("%d tokens at once, %+v", most, e.Stats())
	}
	m.meter.Leave(1000 + 100*24)
	m.meter.Join(1000 + 100*9)
	m.calls = nil
	embed(t, e, all...)
	for _, c := range m.calls {
		if c[0]*c[1] > 9 {
			t.Errorf("a call of %v", c)
		}
	}
	if e.Stats().Halved == 0 {
		t.Errorf("%+v does not say that memory was short", e.Stats())
	}
}

func TestTextsWithoutTokens(t *testing.T) {
	g := newGraph()
	e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean), Tokenizer: words(t, false), Normalize: true})
	got := embed(t, e, "", "a", "   ")
	if !near(got[0], make([]float32, hidden), 0) || !near(got[2], got[0], 0) || got[1][0] == 0 || len(g.calls) != 1 {
		t.Errorf("got %v after calls %v", got, g.calls)
	}
	if got := embed(t, e, " "); !near(got[0], make([]float32, hidden), 0) {
		t.Errorf("got %v", got)
	}
}

func TestCutsAndPrompts(t *testing.T) {
	s := spec(model.PoolCLS)
	s.LowerCase = true
	e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: s, MaxTokens: 4, Prompt: " B "})
	got := embed(t, e, "C", "C D", "", "cA")
	// [CLS] b c [SEP], twice, [CLS] b [SEP], and [CLS] b [UNK] [SEP]
	if !near(slices.Concat(got...), []float32{1, 0, 14, 1, 0, 14, 1, 0, 8, 1, 0, 11}, 0) {
		t.Errorf("got %v", got)
	}
	if stats := e.Stats(); stats.Truncated != 1 || stats.Distinct != 3 {
		t.Errorf("got %+v", stats)
	}
}

func TestNaN(t *testing.T) {
	g := newGraph()
	g.nanID = 5
	for _, pooling := range []model.Pooling{model.PoolMean, model.PoolMax, model.PoolWeightedMean, model.PoolMeanSqrtLen} {
		e := newEmbedder(t, embedding.Config{Model: g, Spec: spec(pooling), Normalize: true})
		_, nan, err := try(t, e, "a", "a b c", "c", "b")
		if slices.Sort(nan); err != nil || !slices.Equal(nan, []int{1, 3}) {
			t.Errorf("%s: got %v, %v", pooling, nan, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*embedding.Config, *graph)
		kind   engine.Kind
		want   string
	}{
		{"unknown input", func(_ *embedding.Config, g *graph) {
			g.inputs = append(g.inputs, engine.TensorSpec{Name: "pixels", Type: engine.Float32, Shape: []int64{-1, 3}})
		}, engine.KindModel, "cannot feed the input pixels"},
		{"int32 ids", func(_ *embedding.Config, g *graph) { g.inputs[1].Type = engine.Int32 }, engine.KindModel, "cannot feed the input input_ids"},
		{"no mask", func(_ *embedding.Config, g *graph) { g.inputs = g.inputs[:2] }, engine.KindModel, `no input "attention_mask"`},
		{"no ids", func(c *embedding.Config, _ *graph) { c.Spec.Inputs.IDs = "" }, engine.KindModel, `no input ""`},
		{"no output", func(c *embedding.Config, _ *graph) { c.Spec.Output = "x" }, engine.KindModel, `no output "x"`},
		{"other width", func(_ *embedding.Config, g *graph) { g.outputs[1].Shape[2] = 4 }, engine.KindModel, "expected last_hidden_state"},
		{"pooled or not", func(c *embedding.Config, _ *graph) { c.Spec.OutputPooled = true }, engine.KindModel, "expected last_hidden_state"},
		{"unknown pooling", func(c *embedding.Config, _ *graph) { c.Spec.Pooling[0] = "attention" }, engine.KindModel, `"attention"`},
		{"wrong dim", func(c *embedding.Config, _ *graph) { c.Spec.Dim = 4 }, engine.KindModel, "3 elements at the end, the model says 4"},
		{"wrong layer", func(c *embedding.Config, _ *graph) {
			c.Spec.Dense = []model.Dense{{In: 4, Out: 3, Weight: make([]float32, 12), Activation: "tanh"}}
		}, engine.KindModel, "dense layer 0 is 4 to 3"},
		{"unknown activation", func(c *embedding.Config, _ *graph) {
			c.Spec.Dense = []model.Dense{{In: 3, Out: 3, Weight: make([]float32, 9), Activation: "swish"}}
		}, engine.KindModel, `"swish"`},
		{"too many tokens", func(c *embedding.Config, _ *graph) { c.MaxTokens = 65 }, engine.KindInvalidArgument, "at most the model's 64"},
		{"no room", func(c *embedding.Config, _ *graph) { c.MaxTokens = 2 }, engine.KindInvalidArgument, "more than the 2 special ones"},
		{"negative budget", func(c *embedding.Config, _ *graph) { c.BatchTokens = -1 }, engine.KindInvalidArgument, "-1 tokens"},
	} {
		g := newGraph()
		config := embedding.Config{Model: g, Spec: spec(model.PoolMean), Tokenizer: words(t, true)}
		c.change(&config, g)
		if _, err := embedding.New(config); engine.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestModelThatLies(t *testing.T) {
	g := newGraph()
	g.lie = true
	_, _, err := try(t, newEmbedder(t, embedding.Config{Model: g, Spec: spec(model.PoolMean)}), "a", "b")
	if engine.KindOf(err) != engine.KindModel || err == nil || !strings.Contains(err.Error(), "[2, 3, 3, 1], expected") {
		t.Errorf("got %v", err)
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolMean)})
	b := e.NewBatch()
	b.Add("a")
	if _, err := e.Run(ctx, b, func(int) []float32 { return make([]float32, hidden) }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestBatchAllocatesNothing holds once a batch has seen its largest content.
func TestBatchAllocatesNothing(t *testing.T) {
	e := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolMean), Prompt: "q "})
	b := e.NewBatch()
	fill := func() {
		b.Reset()
		for i := range 26 {
			b.Add("a b c d e f g h i j"[i%19:])
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
