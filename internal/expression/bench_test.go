package expression_test

import (
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
)

const benchRows = 10_000

func benchTable(b *testing.B) (record arrow.Record, alcohol, acidity []float64) {
	b.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "alcohol", Type: arrow.PrimitiveTypes.Float64}, {Name: "acidity", Type: arrow.PrimitiveTypes.Float64},
		{Name: "name", Type: arrow.BinaryTypes.String},
	}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	r := rand.New(rand.NewPCG(1, 2))
	for range benchRows {
		builder.Field(0).(*array.Float64Builder).Append(8 + 6*r.Float64())
		builder.Field(1).(*array.Float64Builder).Append(4 + 8*r.Float64())
		builder.Field(2).(*array.StringBuilder).Append(words[r.IntN(len(words))])
	}
	record = builder.NewRecord()
	return record, record.Column(0).(*array.Float64).Float64Values(), record.Column(1).(*array.Float64).Float64Values()
}

// BenchmarkExpression evaluates 10,000 rows; each control is a plain loop over slices that does the same.
func BenchmarkExpression(b *testing.B) {
	record, alcohol, acidity := benchTable(b)
	defer record.Release()
	for _, text := range []string{"alcohol > 9 and acidity < 10", "alcohol / acidity", "round(alcohol * 2 + acidity, 1)", "upper(name) || '!'", "name in ('a', 'banana')"} {
		x, err := expression.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		bound, err := x.BindValue(record.Schema())
		if err != nil {
			b.Fatal(err)
		}
		e := bound.NewEvaluator(memory.DefaultAllocator)
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				column, err := e.Evaluate(record)
				if err != nil {
					b.Fatal(err)
				}
				column.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
		})
	}
	b.Run("control condition", func(b *testing.B) {
		out := make([]bool, benchRows)
		for b.Loop() {
			for i, a := range alcohol {
				out[i] = a > 9 && acidity[i] < 10
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	})
	b.Run("control division", func(b *testing.B) {
		for b.Loop() {
			out := make([]float64, benchRows)
			for i, a := range alcohol {
				out[i] = a / acidity[i]
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	})
}
