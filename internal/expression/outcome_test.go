package expression_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
)

// TestMayMatch asks of conditions whether rows between bounds may match.
func TestMayMatch(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int64}, {Name: "f", Type: arrow.PrimitiveTypes.Float64}, {Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "u", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Float64}, {Name: "d", Type: arrow.FixedWidthTypes.Date32},
		{Name: "big", Type: arrow.PrimitiveTypes.Uint64}, {Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)}, {Name: "e", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	known := []expression.Range{
		{Low: int64(10), High: int64(20), NoNulls: true},
		{Low: 1.5, High: 2.5},
		{Low: "b", High: "dz"},
		{},
		{AllNulls: true},
		{Low: int64(20_000), High: int64(20_100)},
		{Low: int64(1), High: int64(2)},
		{NoNulls: true},
		{Low: 2.5, High: 1.5}, // makes no sense, so says nothing
	}
	for text, want := range map[string]bool{
		"i < 10": false, "i <= 10": true, "i > 20": false, "i >= 20": true, "i = 9": false, "i = 10": true, "i <> 15": true, "21 = i": false,
		"i between 21 and 30": false, "i between 20 and 30": true, "not (i >= 10)": false, "not (i >= 11)": true, "i is null": false, "i is not null": true,
		"i < 9.5": false, "i < 10.5": true, "i = 9.99": false,
		// Any float may be NaN, which is greater than all else.
		"f < 1": false, "f < 2": true, "f > 3": true, "f >= 3": true, "f = 3": false, "f between 3 and 4": false, "f > 3 and f < 4": false, "f > 3 and i > 1": true,
		"f > 3 and f < 4 or i = 1": false, "f is null": true,
		"s < 'b'": false, "s <= 'b'": true, "s > 'dz'": false, "s = 'e'": false, "s = 'c'": true, "s like 'z%'": true,
		"u = 1": true, "u is null": true, "n = 1": false, "n is null": true, "n is not null": false, "n <> 1": false, "n = 1 or i = 11": true, "n = 1 or i = 1": false,
		"d < date '2024-01-01'": false, "d = '2024-10-10'": true, "d > timestamp '2030-01-01 00:00:00'": true,
		"i in (1, 9, 21)": false, "i in (1, 10)": true, "i in (1, null)": false, "i in (1, 2) or i in (3)": false, "not (i in (1, 15))": true, "not (i in (15, null))": false,
		"i not in (1, 2)": true, "i in (9.5, 20.5)": false, "i in (9.5, 12.5)": true, "f in (1, 3)": false, "f in (1, 2)": true, "s in ('a', 'e')": false, "s in ('a', 'c')": true,
		"u in (1, 2)": true, "n in (1, 2)": false, "d in (date '2024-01-01')": false, "i in (1, u)": true, "i in (1, 2 + 1)": false, "e in (1)": true, "lower(s) in ('zzz')": true,
		"true": true, "false": false, "null and true": false, "i = 1 and true": false, "i = 1 or true": true,
		"i + 1 < 5": true, "l is null": false, "l is not null": true, "e = 7": true,
		// What may fail is looked at, unless rows that do not match never get there.
		"1 % u = 0 and i = 1": true, "i = 1 and 1 % u = 0": false, "i = 11 and 1 % u = 0": true, "i = 10 or 1 % u = 0": true, "big = 5": true, "big is null and i = 1": true,
		"i = 1 and big = 1": false,
	} {
		x, err := expression.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := x.BindCondition(schema)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := b.MayMatch(func(column int) expression.Range { return known[column] }); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// rangeOf is what is known of a column: all, or some of it.
func rangeOf(r *rand.Rand, column arrow.Array) (k expression.Range) {
	k.NoNulls = column.NullN() == 0 && r.IntN(4) > 0
	k.AllNulls = column.NullN() == column.Len() && r.IntN(4) > 0
	if r.IntN(6) == 0 {
		return k
	}
	for i := range column.Len() {
		switch v := valueOf(column, i).(type) {
		case int64:
			if k.Low == nil {
				k.Low, k.High = v, v
			}
			k.Low, k.High = min(k.Low.(int64), v), max(k.High.(int64), v)
		case float64:
			if math.IsNaN(v) {
				continue
			}
			if k.Low == nil {
				k.Low, k.High = v, v
			}
			k.Low, k.High = min(k.Low.(float64), v), max(k.High.(float64), v)
		case string:
			if k.Low == nil {
				k.Low, k.High = v, v
			}
			k.Low, k.High = min(k.Low.(string), v), max(k.High.(string), v)
		}
	}
	if low, ok := k.Low.(string); ok && r.IntN(2) == 0 { // as writers cut long texts
		k.Low, k.High = low[:len(low)/2], k.High.(string)+"x"
	}
	return k
}

// simple makes conditions of the kind that bounds decide.
func simple(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		a, b := simple(r, depth-1), simple(r, depth-1)
		return []string{"(" + a + " and " + b + ")", "(" + a + " or " + b + ")", "(not " + a + ")"}[r.IntN(3)]
	}
	op := []string{"<", "<=", ">", ">=", "=", "<>"}[r.IntN(6)]
	switch r.IntN(8) {
	case 6:
		return fmt.Sprintf("i%d %sin (%d, %d, %s)", 1+r.IntN(3), []string{"", "not "}[r.IntN(2)], r.IntN(140)-70, r.IntN(140)-70, []string{"1", "null"}[r.IntN(2)])
	case 7:
		return []string{
			fmt.Sprintf("f%d in (%.1f, -7.5)", 1+r.IntN(2), r.Float64()*12-6),
			fmt.Sprintf("not f%d in (8, %.1f)", 1+r.IntN(2), r.Float64()*12-6),
			fmt.Sprintf("s%d in ('', '%s')", 1+r.IntN(2), []string{"a", "zz", "m"}[r.IntN(3)]),
		}[r.IntN(3)]
	case 0:
		return fmt.Sprintf("i%d %s %d", 1+r.IntN(3), op, r.IntN(140)-70)
	case 1:
		return fmt.Sprintf("f%d %s %.1f", 1+r.IntN(2), op, r.Float64()*12-6)
	case 2:
		return fmt.Sprintf("s%d %s '%s'", 1+r.IntN(2), op, []string{"", "a", "zz", "m"}[r.IntN(4)])
	case 3:
		return fmt.Sprintf("%s is null", []string{"i1", "i2", "f1", "s1", "b2"}[r.IntN(5)])
	case 4:
		return fmt.Sprintf("i3 %s %.1f", op, r.Float64()*140-70)
	default:
		return fmt.Sprintf("%d %% i%d = 0", r.IntN(9), 1+r.IntN(3)) // fails for 0
	}
}

// TestMayMatchMeansNoRow evaluates conditions that bounds rule out: no row is selected, and nothing fails.
func TestMayMatchMeansNoRow(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	g := generator{r: r}
	ruledOut := 0
	for range 3000 {
		record, _ := randomTable(r, r.IntN(6))
		text := simple(r, r.IntN(4))
		if r.IntN(4) == 0 {
			text = g.make('b', 1+r.IntN(3)).text
		}
		x, err := expression.Parse(text)
		if err != nil {
			record.Release()
			continue // too long
		}
		bound, err := x.BindCondition(record.Schema())
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		ranges := map[int]expression.Range{}
		if !bound.MayMatch(func(column int) expression.Range {
			ranges[column] = rangeOf(r, record.Column(column))
			return ranges[column]
		}) {
			ruledOut++
			selected, err := bound.NewEvaluator(memory.DefaultAllocator).Select(record)
			if err != nil || selected.Count() > 0 {
				t.Fatalf("%s is ruled out by %v, but selects %d rows of %v, %v", text, ranges, selected.Count(), record, err)
			}
		}
		record.Release()
	}
	t.Logf("%d of 3000 were ruled out", ruledOut)
	if ruledOut < 100 {
		t.Error("too few conditions are ruled out for the test to say much")
	}
}
