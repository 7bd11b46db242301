package operator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

func parse(t testing.TB, text string) *expression.Expression {
	t.Helper()
	x, err := expression.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestFilter(t *testing.T) {
	allocator := checked(t)
	in := record(
		column(t, arrow.PrimitiveTypes.Int64, "1", "2", "null", "4", "5"), column(t, arrow.BinaryTypes.String, "x", "null", "z", "", "w"),
	)
	defer in.Release()
	f, err := operator.NewFilter(in.Schema(), parse(t, "a % 2 = 0 or a = 5"), allocator)
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	if got := texts(out.Column(0)); !slices.Equal(got, []string{"2", "4", "5"}) {
		t.Errorf("%v", got)
	}
	if got := texts(out.Column(1)); !slices.Equal(got, []string{"null", "", "w"}) {
		t.Errorf("%v", got)
	}
	if k := f.Kept(); k.Count() != 3 || k.Row(0) != 1 || k.Row(2) != 4 {
		t.Errorf("%d rows: %d, %d", k.Count(), k.Row(0), k.Row(2))
	}
	all, err := operator.NewFilter(in.Schema(), parse(t, "true"), allocator)
	if err != nil {
		t.Fatal(err)
	}
	same, err := all.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Release()
	if same != in {
		t.Error("a filter that keeps all rows copies them")
	}
}

func TestFilterRefuses(t *testing.T) {
	in := record(column(t, arrow.PrimitiveTypes.Int64, "1", "9223372036854775807"))
	defer in.Release()
	for text, want := range map[string]string{"a": "must be true or false, found column", "b > 1": `column "b" does not exist`} {
		_, err := operator.NewFilter(in.Schema(), parse(t, text), memory.DefaultAllocator)
		if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	f, err := operator.NewFilter(in.Schema(), parse(t, "a + 1 > 0"), memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Apply(t.Context(), in)
	var row *runtime.RowError
	if !errors.As(err, &row) || row.Row != 1 || row.Column != "" || engine.KindOf(err) != engine.KindData {
		t.Errorf("%v", err)
	}
}

// TestFilterTakesEveryType compares with slices of one row put together, for types, nulls, and offsets of all sorts.
func TestFilterTakesEveryType(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint16, arrow.FixedWidthTypes.Boolean,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.Binary, arrow.FixedWidthTypes.Date32, timestamp,
		&arrow.Decimal128Type{Precision: 20, Scale: 2}, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		arrow.FixedSizeListOfNonNullable(3, arrow.PrimitiveTypes.Float32), arrow.FixedSizeListOf(2, arrow.BinaryTypes.String),
		arrow.ListOf(arrow.PrimitiveTypes.Int64), arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String},
	}
	for _, typ := range types {
		t.Run(typ.String(), func(t *testing.T) {
			allocator := checked(t)
			for range 20 {
				values := randomColumn(r, typ, r.IntN(300))
				keep := array.NewBooleanBuilder(memory.DefaultAllocator)
				share := r.IntN(5)
				for range values.Len() {
					keep.Append(r.IntN(4) < share)
				}
				flags := keep.NewBooleanArray()
				whole := record(flags, values)
				lo := r.Int64N(whole.NumRows() + 1)
				part := whole.NewSlice(lo, whole.NumRows())
				checkTake(t, part, allocator)
				part.Release()
				whole.Release()
				flags.Release()
				values.Release()
				keep.Release()
			}
		})
	}
}

func randomColumn(r *rand.Rand, typ arrow.DataType, rows int) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, typ)
	defer b.Release()
	var add func(b array.Builder)
	add = func(b array.Builder) {
		if r.IntN(5) == 0 && typ.ID() != arrow.FIXED_SIZE_LIST {
			b.AppendNull()
			return
		}
		text := fmt.Sprint(r.IntN(100))
		switch b := b.(type) {
		case *array.BooleanBuilder:
			b.Append(r.IntN(2) == 0)
		case *array.FixedSizeListBuilder:
			b.Append(r.IntN(5) > 0)
			for range b.Type().(*arrow.FixedSizeListType).Len() {
				if s, ok := b.ValueBuilder().(*array.StringBuilder); ok {
					s.Append(text)
				} else {
					b.ValueBuilder().(*array.Float32Builder).Append(r.Float32())
				}
			}
		case *array.ListBuilder:
			b.Append(true)
			for range r.IntN(4) {
				add(b.ValueBuilder())
			}
		case *array.StructBuilder:
			b.Append(true)
			add(b.FieldBuilder(0))
		case *array.FixedSizeBinaryBuilder:
			b.Append([]byte{byte(r.IntN(256)), 1, 2})
		case *array.BinaryBuilder:
			b.Append([]byte(text))
		case *array.Date32Builder:
			b.Append(arrow.Date32(r.IntN(20_000)))
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(r.Int64N(1 << 40)))
		case *array.Uint16Builder:
			b.Append(uint16(r.IntN(1 << 16)))
		default:
			if err := b.AppendValueFromString(text); err != nil {
				panic(err)
			}
		}
	}
	for range rows {
		add(b)
	}
	return b.NewArray()
}

func checkTake(t *testing.T, in arrow.Record, allocator memory.Allocator) {
	t.Helper()
	f, err := operator.NewFilter(in.Schema(), parse(t, "a"), allocator)
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.Apply(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	flags, row := in.Column(0).(*array.Boolean), int64(0)
	for i := range flags.Len() {
		if !flags.Value(i) {
			continue
		}
		for c := range int(in.NumCols()) {
			want := array.NewSlice(in.Column(c), int64(i), int64(i)+1)
			if row >= out.NumRows() {
				t.Fatalf("%d rows, expected more", out.NumRows())
			}
			got := array.NewSlice(out.Column(c), row, row+1)
			if !array.Equal(got, want) {
				t.Fatalf("row %d is %v, expected row %d: %v", row, got, i, want)
			}
			want.Release()
			got.Release()
		}
		row++
	}
	if row != out.NumRows() {
		t.Errorf("%d rows, expected %d", out.NumRows(), row)
	}
}

func TestWith(t *testing.T) {
	allocator := checked(t)
	in := record(column(t, arrow.PrimitiveTypes.Int64, "1", "null", "3"), column(t, arrow.BinaryTypes.String, "x", "y", "z"))
	defer in.Release()
	w, err := operator.NewWith(in.Schema(), []operator.WithColumn{
		{Name: "a", Value: parse(t, "a * 10")}, {Index: 1}, {Name: "c", Value: parse(t, "b || a")}, {Name: "same", Value: parse(t, "b")},
	}, allocator)
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	if !out.Schema().Equal(w.Schema()) {
		t.Errorf("schema %v, expected %v", out.Schema(), w.Schema())
	}
	var got []string
	for i := range int(out.NumCols()) {
		got = append(got, out.ColumnName(i)+": "+strings.Join(texts(out.Column(i)), ","))
	}
	if want := []string{"a: 10,null,30", "b: x,y,z", "c: x1,null,z3", "same: x,y,z"}; !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
	w, err = operator.NewWith(in.Schema(), []operator.WithColumn{{Index: 0}, {Name: "bad", Value: parse(t, "10 // (a - 3)")}}, allocator)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Apply(t.Context(), in)
	var row *runtime.RowError
	if !errors.As(err, &row) || row.Row != 2 || row.Column != "bad" || !strings.Contains(err.Error(), "10 // 0 divides by zero") {
		t.Errorf("%v", err)
	}
	for want, columns := range map[string][]operator.WithColumn{
		"does not exist": {{Index: 7}}, "two columns": {{Index: 0}, {Name: "a", Value: parse(t, "1")}}, "null has no type": {{Name: "n", Value: parse(t, "null")}},
	} {
		if _, err := operator.NewWith(in.Schema(), columns, allocator); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

// BenchmarkFilterWith applies filter and with to ten million rows of three columns; the control is a plain loop over slices.
func BenchmarkFilterWith(b *testing.B) {
	const rows, batches = 10_000, 1_000
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "alcohol", Type: arrow.PrimitiveTypes.Float64}, {Name: "acidity", Type: arrow.PrimitiveTypes.Float64}, {Name: "id", Type: arrow.PrimitiveTypes.Int64},
	}, nil))
	defer builder.Release()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		builder.Field(0).(*array.Float64Builder).Append(8 + 6*r.Float64())
		builder.Field(1).(*array.Float64Builder).Append(4 + 8*r.Float64())
		builder.Field(2).(*array.Int64Builder).Append(int64(i))
	}
	in := builder.NewRecord()
	defer in.Release()
	b.Run("engine", func(b *testing.B) {
		f, err := operator.NewFilter(in.Schema(), parse(b, "alcohol > 9 and acidity < 10"), memory.DefaultAllocator)
		if err != nil {
			b.Fatal(err)
		}
		w, err := operator.NewWith(f.Schema(), []operator.WithColumn{{Index: 0}, {Index: 1}, {Index: 2}, {Name: "ratio", Value: parse(b, "alcohol / acidity")}}, memory.DefaultAllocator)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			for range batches {
				kept, err := f.Apply(context.Background(), in)
				if err != nil {
					b.Fatal(err)
				}
				out, err := w.Apply(context.Background(), kept)
				if err != nil {
					b.Fatal(err)
				}
				kept.Release()
				out.Release()
			}
		}
		b.ReportMetric(float64(b.N)*rows*batches/b.Elapsed().Seconds()/1e6, "Mrows/s")
	})
	b.Run("control", func(b *testing.B) {
		alcohol, acidity := in.Column(0).(*array.Float64).Float64Values(), in.Column(1).(*array.Float64).Float64Values()
		ids := in.Column(2).(*array.Int64).Int64Values()
		for b.Loop() {
			for range batches {
				x, y, id, ratio := make([]float64, 0, rows), make([]float64, 0, rows), make([]int64, 0, rows), make([]float64, 0, rows)
				for i, a := range alcohol {
					if c := acidity[i]; a > 9 && c < 10 {
						x, y, id, ratio = append(x, a), append(y, c), append(id, ids[i]), append(ratio, a/c)
					}
				}
				_, _, _, _ = x, y, id, ratio
			}
		}
		b.ReportMetric(float64(b.N)*rows*batches/b.Elapsed().Seconds()/1e6, "Mrows/s")
	})
}
