package jobplan_test

import (
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/jobplan"
)

// TestMayMatch asks programs of which rows they need, by bounds of the source's columns.
func TestMayMatch(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}, {Name: "c", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	known := map[string]dataset.Bounds{"a": {Low: int64(1), High: int64(5)}, "b": {Low: int64(10), High: int64(50)}, "c": {Low: int64(100), High: int64(500)}}
	filter := func(text string) jobplan.FilterOp {
		where, err := expression.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return jobplan.FilterOp{Where: where}
	}
	swapped := jobplan.SelectOp{Indices: []int{1, 0}}
	named := jobplan.RenameOp{Names: []string{"a", "b"}} // now a is c, and b is b
	cast := jobplan.CastOp{Columns: []jobplan.CastColumn{{Index: 0, Type: arrow.BinaryTypes.String}}}
	for name, test := range map[string]struct {
		ops  []jobplan.Op
		asks bool
		want bool
	}{
		"no filter":                  {ops: []jobplan.Op{swapped}},
		"out of bounds":              {ops: []jobplan.Op{filter("b < 10")}, asks: true},
		"within":                     {ops: []jobplan.Op{filter("b < 11")}, asks: true, want: true},
		"after a choice":             {ops: []jobplan.Op{swapped, filter("c < 100")}, asks: true},
		"names of other columns":     {ops: []jobplan.Op{swapped, named, filter("a < 100")}, asks: true},
		"names of other columns too": {ops: []jobplan.Op{swapped, named, filter("b < 20")}, asks: true, want: true},
		"a cast may fail":            {ops: []jobplan.Op{cast, filter("c < 100")}},
		"the first of two":           {ops: []jobplan.Op{filter("b < 11"), filter("c < 100")}, asks: true, want: true},
	} {
		p := &jobplan.Program{SourceSchema: schema, Columns: []int{1, 2}, Ops: test.ops}
		may := p.MayMatch()
		if (may != nil) != test.asks {
			t.Errorf("%s: asks %v, want %v", name, may != nil, test.asks)
			continue
		}
		if may != nil {
			if got := may(func(column string) dataset.Bounds { return known[column] }); got != test.want {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
		}
	}
}
