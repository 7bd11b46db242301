package operator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
)

func load(t *testing.T, loader runtime.Loader, content []byte) runtime.Model {
	t.Helper()
	model, err := loader.Load(t.Context(), runtime.LoadRequest{Path: enginetest.WriteModel(t, content)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = model.Close() })
	return model
}

func newInfer(t *testing.T, p operator.InferParams) operator.Operator {
	t.Helper()
	p.Allocator = checked(t)
	o, err := operator.NewInfer(p)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func apply(t *testing.T, o operator.Operator, in arrow.Record) arrow.Record {
	t.Helper()
	out, err := o.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Release)
	if !out.Schema().Equal(o.Schema()) {
		t.Errorf("schema %v, want %v", out.Schema(), o.Schema())
	}
	return out
}

func TestInferMatrix(t *testing.T) {
	loader := fake.New()
	model := load(t, loader, enginetest.LinearModel(engine.Float64, 0.5, 1, 10, 100, 1000, 10000))
	in := record(
		column(t, arrow.PrimitiveTypes.Float64, "1", "2", "NaN", "4", "5"),
		column(t, arrow.BinaryTypes.String, "p", "q", "r", "s", "null"),
		column(t, arrow.PrimitiveTypes.Float32, "0.5", "1", "1", "1", "1"),
		column(t, arrow.PrimitiveTypes.Int32, "1", "1", "1", "1", "-1"),
		column(t, arrow.FixedWidthTypes.Boolean, "true", "false", "true", "false", "true"),
		column(t, arrow.PrimitiveTypes.Int64, "7", "8", "9", "10", "11"),
	)
	defer in.Release()
	for _, batch := range []int64{0, 1, 2, 5, 100} {
		before := loader.Stats().Runs
		o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{2, 3, 4, 0, 5}, Outputs: []operator.InferOutput{{0, "score"}}, BatchRows: batch})
		out := apply(t, o, in)
		want := []string{"71111", "82011.5", "NaN", "104011.5", "115091.5"} // 0.5 + c + 10d + 100e + 1000a + 10000f
		if got := texts(out.Column(6)); !slices.Equal(got, want) {
			t.Errorf("batch %d: got %v, want %v", batch, got, want)
		}
		if out.ColumnName(6) != "score" || out.Column(1) != in.Column(1) || out.Schema().Field(6).Nullable {
			t.Errorf("got %v", out)
		}
		calls := map[int64]int{0: 1, 1: 5, 2: 3, 5: 1, 100: 1}[batch]
		if got := loader.Stats().Runs - before; got != calls {
			t.Errorf("batch %d: %d calls, want %d", batch, got, calls)
		}

		slice := in.NewSlice(3, 5)
		t.Cleanup(slice.Release)
		if got := texts(apply(t, o, slice).Column(6)); !slices.Equal(got, want[3:]) {
			t.Errorf("slice: got %v, want %v", got, want[3:])
		}
		before = loader.Stats().Runs
		empty := in.NewSlice(2, 2)
		t.Cleanup(empty.Release)
		if out := apply(t, o, empty); out.NumRows() != 0 || out.NumCols() != 7 || loader.Stats().Runs != before {
			t.Errorf("empty: got %v", out)
		}
	}
}

func TestInferBadValues(t *testing.T) {
	const f, i, u = "float64", "int64", "uint64"
	types := map[string]arrow.DataType{f: arrow.PrimitiveTypes.Float64, i: arrow.PrimitiveTypes.Int64, u: arrow.PrimitiveTypes.Uint64}
	for _, test := range []struct {
		model  engine.ElementType
		a, b   []string // type, values
		column string
		row    int64
		part   string
	}{
		{engine.Float64, []string{f, "1", "null"}, []string{f, "1", "1"}, "a", 1, "null, and the model needs a value"},
		{engine.Float64, []string{f, "1", "null"}, []string{f, "null", "null"}, "b", 0, "null"},
		{engine.Float64, []string{f, "1", "null"}, []string{f, "1", "null"}, "a", 1, "null"},
		{engine.Float64, []string{i, "9007199254740992", "9007199254740993"}, []string{f, "1", "1"}, "a", 1, "value 9007199254740993 does not fit float64 exactly"},
		{engine.Float64, []string{i, "9007199254740993", "1"}, []string{f, "null", "1"}, "a", 0, "does not fit"},
		{engine.Float64, []string{f, "null", "1"}, []string{i, "9007199254740993", "1"}, "a", 0, "null"},
		{engine.Float64, []string{i, "1", "9007199254740993"}, []string{f, "null", "1"}, "b", 0, "null"},
		{engine.Float32, []string{i, "1", "16777217"}, []string{f, "1", "1"}, "a", 1, "value 16777217 does not fit float32"},
		{engine.Float32, []string{f, "1", "1"}, []string{f, "1", "1e300"}, "b", 1, "value 1e+300 does not fit float32"},
	} {
		model := load(t, fake.New(), enginetest.LinearModel(test.model, 0, 1, 1))
		// Blocks of rows are treated apart, so the bad row comes late too.
		for _, before := range []int{0, 1000} {
			fill := slices.Repeat([]string{"0"}, before)
			in := record(column(t, types[test.a[0]], append(fill, test.a[1:]...)...), column(t, types[test.b[0]], append(fill, test.b[1:]...)...))
			o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{0, 1}, Outputs: []operator.InferOutput{{0, "score"}}, BatchRows: 600})
			_, err := o.Apply(t.Context(), in)
			wantRowError(t, err, test.column, test.row+int64(before), test.part)
			in.Release()
		}
	}
}

func TestInferColumns(t *testing.T) {
	for rank := 1; rank <= 2; rank++ {
		model := load(t, fake.New(), enginetest.ColumnsModel(engine.Float32, rank, []string{"x", "y", "z"}, 1, 1, 10, 100))
		in := record(
			column(t, arrow.PrimitiveTypes.Int8, "1", "2", "3"),
			column(t, arrow.PrimitiveTypes.Float32, "1", "2", "3"),
			column(t, arrow.PrimitiveTypes.Float64, "1", "2", "3"),
		)
		t.Cleanup(in.Release)
		o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{2, 1, 0}, Layout: operator.Columns, Outputs: []operator.InferOutput{{0, "score"}}, BatchRows: 2})
		if got := texts(apply(t, o, in).Column(3)); !slices.Equal(got, []string{"112", "223", "334"}) {
			t.Errorf("rank %d: got %v", rank, got)
		}
		nulls := record(in.Column(0), column(t, arrow.PrimitiveTypes.Float32, "1", "2", "null"), in.Column(2))
		t.Cleanup(nulls.Release)
		_, err := o.Apply(t.Context(), nulls)
		wantRowError(t, err, "b", 2, "null")
	}
}

func TestInferSeveralOutputs(t *testing.T) {
	model := load(t, fake.New(), enginetest.SeveralModel(engine.Float32))
	in := record(column(t, arrow.PrimitiveTypes.Float32, "1", "2", "3"), column(t, arrow.PrimitiveTypes.Float32, "4", "5", "6"))
	defer in.Release()
	p := operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{0, 1}, Outputs: []operator.InferOutput{{1, "pair"}, {0, "sum"}, {2, "flat"}}, BatchRows: 2}
	out := apply(t, newInfer(t, p), in)
	for i, want := range [][]string{{"[2,8]", "[4,10]", "[6,12]"}, {"5", "7", "9"}, {"5", "7", "9"}} {
		if got := texts(out.Column(2 + i)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", out.ColumnName(2+i), got, want)
		}
	}
	if got := out.Column(2).DataType().String(); got != "fixed_size_list<item: float32>[2]" {
		t.Errorf("type %s", got)
	}
	p.Outputs = []operator.InferOutput{{3, "open"}}
	if _, err := operator.NewInfer(p); engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "open: float[?, ?]") {
		t.Errorf("open: %v", err)
	}
}

// TestInferTypes feeds every type of tensor, and reads it.
func TestInferTypes(t *testing.T) {
	for _, test := range []struct {
		element engine.ElementType
		column  arrow.DataType
		values  []string
	}{
		{engine.Float64, arrow.PrimitiveTypes.Int64, []string{"1", "2", "3"}},
		{engine.Int32, arrow.PrimitiveTypes.Float64, []string{"1", "2", "-3"}},
		{engine.Int64, arrow.PrimitiveTypes.Int64, []string{"1", "2", "-3"}},
		{engine.Uint8, arrow.PrimitiveTypes.Int64, []string{"1", "255", "0"}},
		{engine.Bool, arrow.FixedWidthTypes.Boolean, []string{"true", "false", "true"}},
		{engine.Bool, arrow.PrimitiveTypes.Float64, []string{"1", "0", "1"}},
		{engine.String, arrow.BinaryTypes.String, []string{"a", "", "größer"}},
	} {
		for width := 1; width <= 3; width++ {
			shape := []int64{-1, int64(width)}
			model := load(t, fake.New(), enginetest.IdentityModel(test.element, shape...))
			var columns []arrow.Array
			var inputs []int
			for c := range width {
				columns = append(columns, column(t, test.column, slices.Repeat(test.values, 5)...))
				inputs = append(inputs, c)
			}
			in := record(columns...)
			t.Cleanup(in.Release)
			for _, batch := range []int64{0, 4, 9} {
				o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: inputs, Outputs: []operator.InferOutput{{0, "out"}}, BatchRows: batch})
				out := apply(t, o, in).Column(width)
				elements := out
				if width > 1 {
					elements = out.(*array.FixedSizeList).ListValues()
				}
				var want []string
				for _, v := range slices.Repeat(test.values, 5) {
					if test.element == engine.Bool {
						v = map[string]string{"1": "true", "0": "false"}[v] + strings.Trim(v, "01")
					}
					want = append(want, slices.Repeat([]string{v}, width)...)
				}
				if got := texts(elements); !slices.Equal(got, want) {
					t.Errorf("%s of %s, width %d, batch %d: got %v, want %v", test.element, test.column, width, batch, got, want)
				}
			}
		}
	}
	model := load(t, fake.New(), enginetest.IdentityModel(engine.String, -1))
	in := record(column(t, arrow.BinaryTypes.String, "a", "b\x00c"))
	defer in.Release()
	o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: []int{0}, Outputs: []operator.InferOutput{{0, "out"}}})
	_, err := o.Apply(t.Context(), in)
	wantRowError(t, err, "a", 1, "NUL")
	in = record(column(t, arrow.BinaryTypes.String, "a", "null"))
	defer in.Release()
	_, err = o.Apply(t.Context(), in)
	wantRowError(t, err, "a", 1, "null")
}

// TestInferGather compares the matrix with its columns, for many shapes and mixtures of types.
func TestInferGather(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kinds := []arrow.DataType{arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Int32, arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Uint16}
	for range 60 {
		element := []engine.ElementType{engine.Float64, engine.Float32}[random.IntN(2)]
		rows, width := 1+random.IntN(700), 1+random.IntN(14)
		mixed := random.IntN(2) == 0
		columns := make([]arrow.Array, width)
		inputs := random.Perm(width)
		for c := range columns {
			kind := kinds[0]
			if mixed {
				kind = kinds[random.IntN(len(kinds))]
			}
			values := make([]string, rows)
			for r := range values {
				values[r] = fmt.Sprint(random.IntN(1000))
				if kind.ID() == arrow.BOOL {
					values[r] = fmt.Sprint(random.IntN(2) == 0)
				}
			}
			columns[c] = column(t, kind, values...)
		}
		whole := record(columns...)
		from := random.IntN(rows)
		in := whole.NewSlice(int64(from), int64(rows))
		model := load(t, fake.New(), enginetest.IdentityModel(element, -1, int64(width)))
		o := newInfer(t, operator.InferParams{Schema: in.Schema(), Model: model, Inputs: inputs, Outputs: []operator.InferOutput{{0, "out"}}, BatchRows: int64(random.IntN(300))})
		out := apply(t, o, in).Column(width)
		if width > 1 {
			out = out.(*array.FixedSizeList).ListValues()
		}
		got := texts(out)
		for r := range rows - from {
			for i, c := range inputs {
				want := in.Column(c).ValueStr(r)
				want = map[string]string{"true": "1", "false": "0"}[want] + strings.Trim(want, "truefals")
				if got[r*width+i] != want {
					t.Fatalf("row %d, feature %d: got %s, want %s", r, i, got[r*width+i], want)
				}
			}
		}
		in.Release()
		whole.Release()
	}
}

func TestInferBind(t *testing.T) {
	in := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.PrimitiveTypes.Float64}, {Name: "b", Type: arrow.BinaryTypes.String}, {Name: "day", Type: arrow.FixedWidthTypes.Date32},
		{Name: "d", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	linear := enginetest.LinearModel(engine.Float64, 0, 1, 1)
	out := []operator.InferOutput{{0, "score"}}
	for _, test := range []struct {
		name    string
		model   []byte
		inputs  []int
		layout  operator.Layout
		outputs []operator.InferOutput
		kind    engine.Kind
		part    string
	}{
		{"text", linear, []int{0, 1}, operator.Matrix, out, engine.KindInvalidArgument, `column "b" has the type string`},
		{"date", linear, []int{0, 2}, operator.Matrix, out, engine.KindInvalidArgument, `column "day" has the type date`},
		{"features", linear, []int{0}, operator.Matrix, out, engine.KindModel, "input: double[?, 2]"},
		{"no such column", linear, []int{0, 9}, operator.Matrix, out, engine.KindInvalidArgument, "9"},
		{"no columns", linear, nil, operator.Matrix, out, engine.KindInvalidArgument, "input"},
		{"layout", linear, []int{0, 3}, operator.Columns, out, engine.KindModel, "2 tensors for a model with 1 inputs"},
		{"output exists", linear, []int{0, 3}, operator.Matrix, []operator.InferOutput{{0, "a"}}, engine.KindInvalidArgument, `two columns "a"`},
		{"no such output", linear, []int{0, 3}, operator.Matrix, []operator.InferOutput{{1, "x"}}, engine.KindInvalidArgument, "output 1"},
		{"no outputs", linear, []int{0, 3}, operator.Matrix, nil, engine.KindInvalidArgument, "output"},
		{"output twice", linear, []int{0, 3}, operator.Matrix, []operator.InferOutput{{0, "x"}, {0, "y"}}, engine.KindInvalidArgument, "two columns"},
		{"sequence", enginetest.SequenceModel(), []int{0, 3}, operator.Matrix, []operator.InferOutput{{1, "x"}}, engine.KindModel, "sequence"},
		{"rank 3", enginetest.IdentityModel(engine.Float64, -1, 2, 2), []int{0, 3}, operator.Matrix, out, engine.KindModel, "3 dimensions"},
		{"fixed rows", enginetest.IdentityModel(engine.Float64, 32, 2), []int{0, 3}, operator.Matrix, out, engine.KindModel, "exactly 32 rows"},
		{"float16", enginetest.IdentityModel(engine.Float16, -1, 2), []int{0, 3}, operator.Matrix, out, engine.KindModel, "float16"},
		{"text model", enginetest.IdentityModel(engine.String, -1, 2), []int{0, 1}, operator.Matrix, out, engine.KindInvalidArgument, `column "a" has the type float64`},
	} {
		model := load(t, fake.New(), test.model)
		_, err := operator.NewInfer(operator.InferParams{Schema: in, Model: model, Inputs: test.inputs, Layout: test.layout, Outputs: test.outputs, Allocator: checked(t)})
		if engine.KindOf(err) != test.kind || err == nil || !strings.Contains(err.Error(), test.part) {
			t.Errorf("%s: got %v of kind %s, want %q of kind %s", test.name, err, engine.KindOf(err), test.part, test.kind)
		}
	}
}

func TestInferModelMisbehaves(t *testing.T) {
	in := record(column(t, arrow.PrimitiveTypes.Float64, "1", "2", "3"), column(t, arrow.PrimitiveTypes.Float64, "4", "5", "6"))
	defer in.Release()
	p := operator.InferParams{Schema: in.Schema(), Inputs: []int{0, 1}, Outputs: []operator.InferOutput{{0, "score"}}}

	p.Model = load(t, fake.New(), enginetest.TotalModel())
	_, err := newInfer(t, p).Apply(t.Context(), in)
	if engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "returned variable: double[1, 2] for 3 rows, expected variable: double[3, 2]") {
		t.Errorf("total: %v", err)
	}

	// One row a call, if the model wants it so.
	loader := fake.New()
	p.Model = load(t, loader, enginetest.IdentityModel(engine.Float64, 1, 2))
	out := apply(t, newInfer(t, p), in)
	if got := texts(out.Column(2)); !slices.Equal(got, []string{"[1,4]", "[2,5]", "[3,6]"}) || loader.Stats().Runs != 3 {
		t.Errorf("got %v in %d calls", got, loader.Stats().Runs)
	}

	loader = fake.New()
	p.Model = load(t, loader, enginetest.LinearModel(engine.Float64, 0, 1, 1))
	p.BatchRows = 1
	o := newInfer(t, p)
	loader.SetFaults(fake.Faults{Run: engine.Errorf(engine.KindUnavailable, "", "", "device lost"), SparedRuns: 1})
	if _, err := o.Apply(t.Context(), in); engine.KindOf(err) != engine.KindUnavailable || loader.Stats().Runs != 2 {
		t.Errorf("got %v after %d calls", err, loader.Stats().Runs)
	}
	loader.SetFaults(fake.Faults{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Apply(ctx, in); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("canceled: %v", err)
	}
	if got := texts(apply(t, o, in).Column(2)); !slices.Equal(got, []string{"5", "7", "9"}) {
		t.Errorf("after the failures: got %v", got)
	}
}
