package dataset_test

import (
	"math/rand"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
)

// build makes an array of JSON text.
func build(t testing.TB, dataType arrow.DataType, json string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, dataType, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func record(columns ...arrow.Array) arrow.Record {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: string(rune('a' + i)), Type: c.DataType(), Nullable: true}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), columns, int64(columns[0].Len()))
}

var structType = arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true})

// sized has, for each type, three values and the bits that each takes.
var sized = []struct {
	dataType arrow.DataType
	json     string
	bits     [3]int64
}{
	{arrow.FixedWidthTypes.Boolean, `[true, false, null]`, [3]int64{1, 1, 1}},
	{arrow.PrimitiveTypes.Int8, `[1, 2, null]`, [3]int64{8, 8, 8}},
	{arrow.PrimitiveTypes.Float64, `[1, null, 3]`, [3]int64{64, 64, 64}},
	{arrow.FixedWidthTypes.Date32, `[null, null, null]`, [3]int64{32, 32, 32}},
	{arrow.BinaryTypes.String, `["", "ä", "abc"]`, [3]int64{32, 48, 56}},
	{arrow.BinaryTypes.Binary, `["YQ==", null, "YWJj"]`, [3]int64{40, 32, 56}},
	{arrow.BinaryTypes.LargeString, `["", "ab", "abc"]`, [3]int64{64, 80, 88}},
	{arrow.BinaryTypes.LargeBinary, `["YQ==", null, "YWJj"]`, [3]int64{72, 64, 88}},
	{arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Float32), `[[1,2,3,4], null, [5,6,7,8]]`, [3]int64{128, 128, 128}},
	{arrow.ListOf(arrow.PrimitiveTypes.Float32), `[[1,2,3], null, []]`, [3]int64{128, 32, 32}},
	{arrow.LargeListOf(arrow.PrimitiveTypes.Float32), `[[1], null, [1,2]]`, [3]int64{96, 64, 128}},
	{arrow.ListOf(arrow.BinaryTypes.String), `[["a"], [], ["", "b"]]`, [3]int64{72, 32, 104}},
	{structType, `[{"x":1,"y":"a"}, null, {"x":null,"y":"abc"}]`, [3]int64{104, 96, 120}},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}, `["long text", "long text", null]`, [3]int64{16, 16, 16}},
}

func TestBatchSizeBytes(t *testing.T) {
	for _, c := range sized {
		whole := record(build(t, c.dataType, c.json))
		for from := range int64(4) {
			for to := from; to <= 3; to++ {
				var want int64
				for _, bits := range c.bits[from:to] {
					want += bits
				}
				if got := dataset.BatchSizeBytes(whole.NewSlice(from, to)); got != (want+7)/8 {
					t.Errorf("%s, rows %d to %d: %d bytes, want %d", c.dataType, from, to, got, (want+7)/8)
				}
			}
		}
	}
}

// TestBatchRowsWithin compares the search with counting.
func TestBatchRowsWithin(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	texts, numbers := array.NewStringBuilder(memory.DefaultAllocator), array.NewFloat64Builder(memory.DefaultAllocator)
	const rows = 200
	for range rows {
		texts.Append(strings.Repeat("x", r.Intn(60)))
		numbers.Append(r.Float64())
	}
	whole := record(texts.NewArray(), numbers.NewArray()).NewSlice(10, rows)
	for range 500 {
		start, maxRows, maxBytes := r.Int63n(whole.NumRows()+1), 1+r.Int63n(rows), r.Int63n(4000)
		want := int64(0)
		for want < min(maxRows, whole.NumRows()-start) && (want == 0 || dataset.BatchSizeBytes(whole.NewSlice(start, start+want+1)) <= maxBytes) {
			want++
		}
		if got := dataset.BatchRowsWithin(whole, start, maxRows, maxBytes); got != want {
			t.Errorf("from %d, %d rows, %d bytes: %d, want %d", start, maxRows, maxBytes, got, want)
		}
	}
	if got := dataset.BatchRowsWithin(whole, 0, 10, 0); got != 1 {
		t.Errorf("a row larger than the bound: %d", got)
	}
}
