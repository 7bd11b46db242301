package operator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/tokenizer"
)

// embedder opens a model folder with loader.
func embedder(t testing.TB, loader runtime.Loader, folder string, change func(*embedding.Config)) *embedding.Embedder {
	t.Helper()
	e, err := model.OpenEmbedding(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	path, err := e.Materialize(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Digest: e.Digest, Threads: 1, Outputs: []string{e.Output}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loaded.Close() })
	words, err := tokenizer.Open(e.TokenizerPath)
	if err != nil {
		t.Fatal(err)
	}
	config := embedding.Config{Model: loaded, Spec: e, Tokenizer: words, Normalize: e.Normalize}
	if change != nil {
		change(&config)
	}
	made, err := embedding.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newEmbed(t *testing.T, schema *arrow.Schema, e *embedding.Embedder, allowNaN bool, text ...int) *operator.Embed {
	t.Helper()
	o, err := operator.NewEmbed(operator.EmbedParams{
		Schema: schema, Text: text, Column: "embedding", Embedder: e, AllowNaN: allowNaN, Allocator: checked(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestEmbed(t *testing.T) {
	title := column(t, arrow.BinaryTypes.String, "a", "null", "a b", "null", "", "a")
	body := column(t, arrow.BinaryTypes.LargeString, "b c", "b", "c", "null", "null", "d")
	in := record(column(t, arrow.PrimitiveTypes.Int64, "1", "2", "3", "4", "5", "6"), title, body)
	defer in.Release()
	o := newEmbed(t, in.Schema(), embedder(t, fake.New(), enginetest.EmbeddingFolder(t), nil), false, 1, 2)
	// Ids: [CLS] 1, [SEP] 2, a 4, b 5, c 6, d 7; vectors (i, 1, i*i, 0).
	want := []string{"[3.6,1,16.4,0]", "[2.6666667,1,10,0]", "[3.6,1,16.4,0]", "null", "[1.5,1,2.5,0]", "[3.5,1,17.5,0]"}
	for range 2 {
		out := apply(t, o, in)
		if got := texts(out.Column(3)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if out.Column(0) != in.Column(0) || out.ColumnName(3) != "embedding" || !out.Schema().Field(3).Nullable {
			t.Errorf("got %v", out)
		}
	}
	if got := o.Stats(); got.Texts != 10 || got.Distinct != 8 {
		t.Errorf("got %+v", got)
	}
	// A part of a record, whose columns begin elsewhere in their memory, and one without rows.
	part := in.NewSlice(2, 5)
	defer part.Release()
	if got := texts(apply(t, o, part).Column(3)); !slices.Equal(got, want[2:5]) {
		t.Errorf("got %v, want %v", got, want[2:5])
	}
	none := in.NewSlice(2, 2)
	defer none.Release()
	if got := apply(t, o, none); got.NumRows() != 0 {
		t.Errorf("got %v", got)
	}
}

// TestEmbedStrangeTexts has texts that are huge, broken, or nothing but white space.
func TestEmbedStrangeTexts(t *testing.T) {
	b := array.NewStringBuilder(checked(t))
	defer b.Release()
	for _, text := range []string{strings.Repeat("a ", 5<<20), "\xff a", "\u2028\x1f\t", "a\x00b"} {
		b.Append(text)
	}
	values := b.NewArray()
	defer values.Release()
	in := record(values)
	defer in.Release()
	o := newEmbed(t, in.Schema(), embedder(t, fake.New(), enginetest.EmbeddingFolder(t), nil), false, 0)
	// 14 times "a" (4) with [CLS] and [SEP]; [UNK] (3) and "a"; nothing; [UNK].
	want := []string{"[3.6875,1,14.3125,0]", "[2.5,1,7.5,0]", "[1.5,1,2.5,0]", "[2,1,4.6666665,0]"}
	if got := texts(apply(t, o, in).Column(1)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := o.Stats(); got.Truncated != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestEmbedSchema(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "b", Type: arrow.BinaryTypes.String}, {Name: "c", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	out, err := operator.EmbedSchema(schema, []int{0, 1}, "v", 7)
	if err != nil || out.Field(3).Nullable || !arrow.TypeEqual(out.Field(3).Type, arrow.FixedSizeListOfNonNullable(7, arrow.PrimitiveTypes.Float32)) {
		t.Errorf("got %v, %v", out, err)
	}
	for _, c := range []struct {
		text   []int
		column string
		want   string
	}{
		{nil, "v", "no columns of text"},
		{[]int{0, 2}, "v", `column "c" is int64, which cannot be embedded`},
		{[]int{3}, "v", "column 3 does not exist"},
		{[]int{0}, "c", `two columns "c"`},
	} {
		if _, err := operator.EmbedSchema(schema, c.text, c.column, 7); engine.KindOf(err) != engine.KindInvalidArgument || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestEmbedNaN(t *testing.T) {
	in := record(column(t, arrow.BinaryTypes.String, "a", "null", "b z", "a", "z", "b z"))
	defer in.Release()
	folder := enginetest.EmbeddingFolder(t)
	o := newEmbed(t, in.Schema(), embedder(t, fake.New(), folder, nil), false, 0)
	_, err := o.Apply(t.Context(), in)
	wantRowError(t, err, "a", 2, "holds NaN, as do those of 2 more rows")
	o = newEmbed(t, in.Schema(), embedder(t, fake.New(), folder, nil), true, 0)
	list := apply(t, o, in).Column(1).(*array.FixedSizeList)
	values := list.ListValues().(*array.Float32).Float32Values()
	if first := values[2*enginetest.EmbeddingDim]; first == first || !list.IsNull(1) || values[3*enginetest.EmbeddingDim] != 7./3 {
		t.Errorf("got %v", values)
	}
}

// TestEmbedGivesUp looks at what is left behind when a model fails or its caller loses interest.
func TestEmbedGivesUp(t *testing.T) {
	in := record(column(t, arrow.BinaryTypes.String, "a", "b"))
	defer in.Release()
	loader := fake.New()
	o := newEmbed(t, in.Schema(), embedder(t, loader, enginetest.EmbeddingFolder(t), nil), false, 0)
	broken := errors.New("broken")
	loader.SetFaults(fake.Faults{Run: broken})
	if _, err := o.Apply(t.Context(), in); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	loader.SetFaults(fake.Faults{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Apply(ctx, in); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("got %v", err)
	}
	// A batch may be prepared while another is run.
	first, err := o.Prepare(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := o.Prepare(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*operator.EmbedBatch{first, second} {
		out, err := o.Run(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if got := texts(out.Column(1)); !slices.Equal(got, []string{"[2.3333333,1,7,0]", "[2.6666667,1,10,0]"}) {
			t.Errorf("got %v", got)
		}
		out.Release()
	}
}
