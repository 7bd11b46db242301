package operator

import (
	"fmt"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

// BenchmarkGather makes a [10,000, 11] matrix out of columns, against a control that copies as many bytes in one piece.
func BenchmarkGather(b *testing.B) {
	const rows, features = 10_000, 11
	for _, test := range []struct {
		column arrow.DataType
		tensor engine.ElementType
	}{
		{arrow.PrimitiveTypes.Float64, engine.Float64}, {arrow.PrimitiveTypes.Float32, engine.Float32}, {arrow.PrimitiveTypes.Float64, engine.Float32},
		{arrow.PrimitiveTypes.Int64, engine.Float64}, {arrow.FixedWidthTypes.Boolean, engine.Float64},
	} {
		fields := make([]arrow.Field, features)
		columns := make([]arrow.Array, features)
		indices := make([]int, features)
		for c := range features {
			builder := array.NewBuilder(memory.NewGoAllocator(), test.column)
			for r := range rows {
				v := fmt.Sprint(r)
				if test.column.ID() == arrow.BOOL {
					v = fmt.Sprint(r%2 == 0)
				}
				if err := builder.AppendValueFromString(v); err != nil {
					b.Fatal(err)
				}
			}
			columns[c] = builder.NewArray()
			fields[c] = arrow.Field{Name: fmt.Sprint(c), Type: test.column}
			indices[c] = c
		}
		in := array.NewRecord(arrow.NewSchema(fields, nil), columns, rows)
		g, err := newGatherer(in.Schema(), indices, engine.TensorSpec{Name: "x", Type: test.tensor, Shape: []int64{-1, features}})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s to %s", test.column, test.tensor), func(b *testing.B) {
			b.SetBytes(int64(rows * features * test.tensor.SizeBytes()))
			for b.Loop() {
				if _, err := g.gather(in, 0, rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("control: copy", func(b *testing.B) {
		from, to := make([]byte, rows*features*8), make([]byte, rows*features*8)
		b.SetBytes(int64(len(from)))
		for b.Loop() {
			copy(to, from)
		}
	})
}
