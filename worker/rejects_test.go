package worker_test

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/worker"
)

// TestRejectsDoNotPileUp leaves out far more rows than fit into memory before a reader finds a good one.
func TestRejectsDoNotPileUp(t *testing.T) {
	row := dataset.BadRow{RowInfo: dataset.RowInfo{Path: "in.csv", Line: 1, Raw: bytes.Repeat([]byte{'x'}, 1000)}, Reason: "is bad"}
	const rows = 20_000
	written, waited, err := worker.RejectWhileReading(context.Background(), rows, row)
	if err != nil || written != rows || waited > 2000 {
		t.Errorf("%d of %d rows were written, %d waited at a time, %v", written, rows, waited, err)
	}
}

// TestRowOfNaN keeps a row with numbers that JSON lacks, one of them in a list.
func TestRowOfNaN(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "x", Type: arrow.PrimitiveTypes.Float64},
		{Name: "v", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)}, {Name: "w", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)},
	}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(7)
	b.Field(1).(*array.Float64Builder).Append(math.Inf(1))
	for i, values := range [][]float32{{1, float32(math.NaN())}, {1, 2.5}} {
		list := b.Field(2 + i).(*array.FixedSizeListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Float32Builder).AppendValues(values, nil)
	}
	record := b.NewRecord()
	defer record.Release()
	if got, want := string(worker.RowJSON(record, 0)), `{"id":7,"v":null,"w":[1,2.5],"x":"+Inf"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRowsAreIdentifiedByTheirPlace has attempts that find out more or less of a row.
func TestRowsAreIdentifiedByTheirPlace(t *testing.T) {
	digest := func(row dataset.BadRow) uint64 {
		t.Helper()
		d, err := worker.DigestRejected(row)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	text := dataset.BadRow{RowInfo: dataset.RowInfo{Path: "a.csv", Line: 17, Row: 16, OffsetBytes: 400, Raw: []byte("x;y")}, Column: "a", Reason: "why"}
	less, other := text, text
	less.Line, less.Row, less.Raw, less.Reason = 0, 0, nil, "another"
	other.OffsetBytes = 0
	if digest(text) != digest(less) || digest(text) == digest(other) {
		t.Error("a row of a text is not what stands at its offset")
	}
	parquet := dataset.BadRow{RowInfo: dataset.RowInfo{Path: "a.parquet", Row: 16, OffsetBytes: -1, Raw: []byte("{}")}}
	less, other = parquet, parquet
	less.Raw = nil
	other.Row = 17
	if digest(parquet) != digest(less) || digest(parquet) == digest(other) {
		t.Error("a row that has a number alone is not that of its number")
	}
}
