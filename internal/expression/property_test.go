package expression_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
)

// row is one row of a table as plain values; nil is null.
type row map[string]any

// failure is what the plain evaluation panics with where a row has no value.
type failure struct{}

// plain is an expression as text, and as a function of one row that knows nothing of vectors.
type plain struct {
	text  string
	value func(row) any
}

// generator makes random expressions of a type: b, i, f, or s.
type generator struct {
	r *rand.Rand
	// duck leaves out what DuckDB sees otherwise: roots of negative numbers and lengths are errors there, places in texts below 1 count
	// from the end, and exp need not have the same last bit.
	duck bool
}

func (g generator) pick(options ...func() plain) plain { return options[g.r.IntN(len(options))]() }

func (g generator) column(names ...string) plain {
	name := names[g.r.IntN(len(names))]
	return plain{name, func(r row) any { return r[name] }}
}

func (g generator) make(typ byte, depth int) plain {
	if depth <= 0 {
		return g.leaf(typ)
	}
	sub := func(t byte) plain { return g.make(t, depth-1-g.r.IntN(2)) }
	any3 := func() plain {
		c, x, y := sub('b'), sub(typ), sub(typ)
		return plain{fmt.Sprintf("if(%s, %s, %s)", c.text, x.text, y.text), func(r row) any {
			if c.value(r) == true {
				return x.value(r)
			}
			return y.value(r)
		}}
	}
	coalesce := func() plain {
		x, y := sub(typ), sub(typ)
		return plain{fmt.Sprintf("coalesce(%s, %s)", x.text, y.text), func(r row) any {
			if v := x.value(r); v != nil {
				return v
			}
			return y.value(r)
		}}
	}
	cases := func() plain {
		c, x, d, y := sub('b'), sub(typ), sub('b'), sub(typ)
		return plain{fmt.Sprintf("case when %s then %s when %s then %s end", c.text, x.text, d.text, y.text), func(r row) any {
			if c.value(r) == true {
				return x.value(r)
			}
			if d.value(r) == true {
				return y.value(r)
			}
			return nil
		}}
	}
	switch typ {
	case 'b':
		return g.pick(any3, coalesce, cases, g.logic(sub), g.logic(sub), g.comparison(sub), g.comparison(sub), g.test(sub), g.textTest(sub), func() plain { return g.leaf(typ) })
	case 'i':
		return g.pick(any3, coalesce, cases, g.integers(sub), g.integers(sub), g.integerFunction(sub), g.extreme(typ, sub), func() plain { return g.leaf(typ) })
	case 'f':
		return g.pick(any3, coalesce, cases, g.floats(sub), g.floats(sub), g.floatFunction(sub), g.extreme(typ, sub), func() plain { return g.leaf(typ) })
	default:
		return g.pick(any3, coalesce, cases, g.texts(sub), g.texts(sub), func() plain { return g.leaf(typ) })
	}
}

func (g generator) leaf(typ byte) plain {
	if g.r.IntN(12) == 0 {
		names := map[byte]string{'b': "bool", 'i': "int64", 'f': "float64", 's': "string"}
		return plain{"cast(null as " + names[typ] + ")", func(row) any { return nil }}
	}
	if g.r.IntN(3) > 0 {
		return g.column(map[byte][]string{'b': {"b1", "b2"}, 'i': {"i1", "i2", "i3"}, 'f': {"f1", "f2"}, 's': {"s1", "s2"}}[typ]...)
	}
	switch typ {
	case 'b':
		v := g.r.IntN(2) == 0
		return plain{fmt.Sprint(v), func(row) any { return v }}
	case 'i':
		v := []int64{0, 1, -1, 2, 7, math.MaxInt64, math.MinInt64, 1 << 32}[g.r.IntN(8)]
		return plain{fmt.Sprint(v), func(row) any { return v }}
	case 'f':
		v := []float64{0, 1, -0.5, 2.25, 1e300}[g.r.IntN(5)]
		return plain{fmt.Sprintf("%e", v), func(row) any { return v }}
	default:
		v := words[g.r.IntN(len(words))]
		return plain{"'" + v + "'", func(row) any { return v }}
	}
}

func (g generator) logic(sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub('b'), sub('b')
		switch g.r.IntN(3) {
		case 0:
			return plain{"(not " + x.text + ")", func(r row) any {
				if v := x.value(r); v != nil {
					return v == false
				}
				return nil
			}}
		case 1:
			return plain{"(" + x.text + " and " + y.text + ")", func(r row) any { return decide(r, x, y, false) }}
		default:
			return plain{"(" + x.text + " or " + y.text + ")", func(r row) any { return decide(r, x, y, true) }}
		}
	}
}

// decide is SQL's and, where by is false, and its or, where it is true.
func decide(r row, x, y plain, by bool) any {
	a := x.value(r)
	if a == by {
		return by
	}
	b := y.value(r)
	switch {
	case b == by:
		return by
	case a == nil || b == nil:
		return nil
	default:
		return !by
	}
}

// order compares two values of one type; NaN is greatest.
func order(a, b any) int {
	less := func(x, y bool) int {
		switch {
		case x:
			return -1
		case y:
			return 1
		default:
			return 0
		}
	}
	switch x := a.(type) {
	case bool:
		return less(!x && b.(bool), x && !b.(bool))
	case int64:
		return less(x < b.(int64), x > b.(int64))
	case float64:
		y := b.(float64)
		switch {
		case math.IsNaN(x) && math.IsNaN(y):
			return 0
		case math.IsNaN(x):
			return 1
		case math.IsNaN(y):
			return -1
		}
		return less(x < y, x > y)
	default:
		return strings.Compare(a.(string), b.(string))
	}
}

var comparisons = map[string]func(int) bool{
	"=": func(o int) bool { return o == 0 }, "<>": func(o int) bool { return o != 0 }, "<": func(o int) bool { return o < 0 },
	"<=": func(o int) bool { return o <= 0 }, ">": func(o int) bool { return o > 0 }, ">=": func(o int) bool { return o >= 0 },
}

func (g generator) comparison(sub func(byte) plain) func() plain {
	return func() plain {
		typ := "bifs"[g.r.IntN(4)]
		x, y := sub(typ), sub(typ)
		op := []string{"=", "<>", "<", "<=", ">", ">="}[g.r.IntN(6)]
		return plain{fmt.Sprintf("(%s %s %s)", x.text, op, y.text), func(r row) any {
			a, b := x.value(r), y.value(r)
			if a == nil || b == nil {
				return nil
			}
			return comparisons[op](order(a, b))
		}}
	}
}

func (g generator) test(sub func(byte) plain) func() plain {
	return func() plain {
		typ := "bifs"[g.r.IntN(4)]
		x := sub(typ)
		switch g.r.IntN(3) {
		case 0:
			return plain{"(" + x.text + " is null)", func(r row) any { return x.value(r) == nil }}
		case 1:
			items := make([]plain, 1+g.r.IntN(4))
			var texts []string
			for i := range items {
				items[i] = g.leaf(typ)
				texts = append(texts, items[i].text)
			}
			return plain{fmt.Sprintf("(%s in (%s))", x.text, strings.Join(texts, ", ")), func(r row) any {
				a := x.value(r)
				if a == nil {
					return nil
				}
				var found any = false
				for _, item := range items {
					switch b := item.value(r); {
					case b == nil:
						found = nil
					case order(a, b) == 0:
						return true
					}
				}
				return found
			}}
		default:
			low, high := g.leaf(typ), g.leaf(typ)
			return plain{fmt.Sprintf("(%s between %s and %s)", x.text, low.text, high.text), func(r row) any {
				above := plain{value: func(r row) any { return atLeast(x.value(r), low.value(r)) }}
				below := plain{value: func(r row) any { return atLeast(high.value(r), x.value(r)) }}
				return decide(r, above, below, false)
			}}
		}
	}
}

func atLeast(a, b any) any {
	if a == nil || b == nil {
		return nil
	}
	return order(a, b) >= 0
}

func (g generator) textTest(sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub('s'), sub('s')
		name := []string{"contains", "starts_with", "ends_with"}[g.r.IntN(3)]
		f := map[string]func(string, string) bool{"contains": strings.Contains, "starts_with": strings.HasPrefix, "ends_with": strings.HasSuffix}[name]
		return plain{fmt.Sprintf("%s(%s, %s)", name, x.text, y.text), func(r row) any {
			a, b := x.value(r), y.value(r)
			if a == nil || b == nil {
				return nil
			}
			return f(a.(string), b.(string))
		}}
	}
}

// exact fails where a result does not fit int64.
func exact(result *big.Int) int64 {
	if !result.IsInt64() {
		panic(failure{})
	}
	return result.Int64()
}

func (g generator) integers(sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub('i'), sub('i')
		op := []string{"+", "-", "*", "//", "%"}[g.r.IntN(5)]
		return plain{fmt.Sprintf("(%s %s %s)", x.text, op, y.text), func(r row) any {
			a, b := x.value(r), y.value(r)
			if a == nil || b == nil {
				return nil
			}
			i, j := a.(int64), b.(int64)
			switch op {
			case "+":
				return exact(new(big.Int).Add(big.NewInt(i), big.NewInt(j)))
			case "-":
				return exact(new(big.Int).Sub(big.NewInt(i), big.NewInt(j)))
			case "*":
				return exact(new(big.Int).Mul(big.NewInt(i), big.NewInt(j)))
			}
			if j == 0 {
				panic(failure{})
			}
			if op == "%" {
				return i % j
			}
			return exact(new(big.Int).Quo(big.NewInt(i), big.NewInt(j)))
		}}
	}
}

func (g generator) integerFunction(sub func(byte) plain) func() plain {
	return func() plain {
		switch g.r.IntN(3) {
		case 0:
			x := sub('s')
			return plain{"length(" + x.text + ")", func(r row) any {
				if a := x.value(r); a != nil {
					return int64(utf8.RuneCountInString(a.(string)))
				}
				return nil
			}}
		case 1:
			x := sub('i')
			return plain{"(- " + x.text + ")", func(r row) any {
				if a := x.value(r); a != nil {
					return exact(new(big.Int).Neg(big.NewInt(a.(int64))))
				}
				return nil
			}}
		default:
			x, y := sub('i'), sub('i')
			return plain{fmt.Sprintf("nullif(%s, %s)", x.text, y.text), func(r row) any {
				a, b := x.value(r), y.value(r)
				if a != nil && b != nil && order(a, b) == 0 {
					return nil
				}
				return a
			}}
		}
	}
}

func (g generator) extreme(typ byte, sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub(typ), sub(typ)
		name, sign := "least", -1
		if g.r.IntN(2) == 0 {
			name, sign = "greatest", 1
		}
		return plain{fmt.Sprintf("%s(%s, %s)", name, x.text, y.text), func(r row) any {
			a, b := x.value(r), y.value(r)
			if a == nil || b != nil && order(b, a) == sign {
				return b
			}
			return a
		}}
	}
}

func (g generator) floats(sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub('f'), sub("fi"[g.r.IntN(2)])
		op := []string{"+", "-", "*", "/"}[g.r.IntN(4)]
		return plain{fmt.Sprintf("(%s %s %s)", x.text, op, y.text), func(r row) any {
			a, b := x.value(r), y.value(r)
			if a == nil || b == nil {
				return nil
			}
			i := a.(float64)
			j, ok := b.(float64)
			if !ok {
				j = float64(b.(int64))
			}
			switch op {
			case "+":
				return i + j
			case "-":
				return i - j
			case "*":
				return i * j
			default:
				return i / j
			}
		}}
	}
}

func (g generator) floatFunction(sub func(byte) plain) func() plain {
	return func() plain {
		names := []string{"abs", "floor", "ceil", "round", "sqrt", "exp"}
		if g.duck {
			names = names[:4]
		}
		name := names[g.r.IntN(len(names))]
		f := map[string]func(float64) float64{
			"abs": math.Abs, "floor": math.Floor, "ceil": math.Ceil, "round": math.Round, "sqrt": math.Sqrt, "exp": math.Exp,
		}[name]
		x := sub('f')
		return plain{fmt.Sprintf("%s(%s)", name, x.text), func(r row) any {
			if a := x.value(r); a != nil {
				return f(a.(float64))
			}
			return nil
		}}
	}
}

func (g generator) texts(sub func(byte) plain) func() plain {
	return func() plain {
		x, y := sub('s'), sub('s')
		switch g.r.IntN(5) {
		case 0:
			return plain{"upper(" + x.text + ")", func(r row) any {
				if a := x.value(r); a != nil {
					return strings.ToUpper(a.(string))
				}
				return nil
			}}
		case 1:
			return plain{fmt.Sprintf("(%s || %s)", x.text, y.text), func(r row) any {
				a, b := x.value(r), y.value(r)
				if a == nil || b == nil {
					return nil
				}
				return a.(string) + b.(string)
			}}
		case 2:
			return plain{fmt.Sprintf("concat(%s, %s)", x.text, y.text), func(r row) any {
				joined := ""
				for _, p := range []plain{x, y} {
					if v := p.value(r); v != nil {
						joined += v.(string)
					}
				}
				return joined
			}}
		case 3:
			return plain{fmt.Sprintf("replace(%s, 'a', %s)", x.text, y.text), func(r row) any {
				a, b := x.value(r), y.value(r)
				if a == nil || b == nil {
					return nil
				}
				return strings.ReplaceAll(a.(string), "a", b.(string))
			}}
		default:
			start, length := g.r.Int64N(5)-1, g.r.Int64N(4)
			if g.duck {
				start = max(start, 1)
			}
			return plain{fmt.Sprintf("substring(%s, %d, %d)", x.text, start, length), func(r row) any {
				a := x.value(r)
				if a == nil {
					return nil
				}
				var kept []rune
				for i, c := range []rune(a.(string)) {
					if place := int64(i) + 1; place >= start && place < start+length {
						kept = append(kept, c)
					}
				}
				return string(kept)
			}}
		}
	}
}

var words = []string{"", "a", "b", "ab", "äöü", "a b", "banana", "日本"}

// randomTable makes a table, as Arrow and as rows, that is a slice with an offset of a longer one.
func randomTable(r *rand.Rand, rows int) (arrow.Record, []row) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "b1", Type: arrow.FixedWidthTypes.Boolean}, {Name: "b2", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "i1", Type: arrow.PrimitiveTypes.Int64}, {Name: "i2", Type: arrow.PrimitiveTypes.Int64}, {Name: "i3", Type: arrow.PrimitiveTypes.Int32},
		{Name: "f1", Type: arrow.PrimitiveTypes.Float64}, {Name: "f2", Type: arrow.PrimitiveTypes.Float32},
		{Name: "s1", Type: arrow.BinaryTypes.String}, {Name: "s2", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	offset := r.IntN(70)
	var all []row
	for n := range rows + offset {
		one := row{}
		for i, f := range schema.Fields() {
			// Columns that end in 1 have nulls.
			if f.Name[1] == '1' && r.IntN(4) == 0 {
				b.Field(i).AppendNull()
				one[f.Name] = nil
				continue
			}
			switch builder := b.Field(i).(type) {
			case *array.BooleanBuilder:
				v := r.IntN(2) == 0
				builder.Append(v)
				one[f.Name] = v
			case *array.Int64Builder:
				v := []int64{r.Int64N(10) - 5, r.Int64() - r.Int64(), 0, 1}[r.IntN(4)]
				builder.Append(v)
				one[f.Name] = v
			case *array.Int32Builder:
				v := int32(r.IntN(100) - 50)
				builder.Append(v)
				one[f.Name] = int64(v)
			case *array.Float64Builder:
				v := []float64{r.NormFloat64(), float64(r.IntN(5)), math.NaN(), math.Inf(1), math.Copysign(0, -1)}[r.IntN(5)]
				builder.Append(v)
				one[f.Name] = v
			case *array.Float32Builder:
				v := float32(r.IntN(8)) / 4
				builder.Append(v)
				one[f.Name] = float64(v)
			case *array.StringBuilder:
				v := words[r.IntN(len(words))]
				builder.Append(v)
				one[f.Name] = v
			}
		}
		if n >= offset {
			all = append(all, one)
		}
	}
	record := b.NewRecord()
	defer record.Release()
	return record.NewSlice(int64(offset), int64(rows+offset)), all
}

// compute runs the plain function; ok is false where it fails.
func (p plain) compute(r row) (v any, ok bool) {
	defer func() {
		if f := recover(); f != nil {
			if _, expected := f.(failure); !expected {
				panic(f)
			}
			v, ok = nil, false
		}
	}()
	return p.value(r), true
}

func valueOf(column arrow.Array, i int) any {
	if column.IsNull(i) {
		return nil
	}
	switch c := column.(type) {
	case *array.Boolean:
		return c.Value(i)
	case *array.Int64:
		return c.Value(i)
	case *array.Int32:
		return int64(c.Value(i))
	case *array.Float64:
		return c.Value(i)
	case *array.Float32:
		return float64(c.Value(i))
	default:
		return c.(*array.String).Value(i)
	}
}

func same(a, b any) bool {
	x, xFloat := a.(float64)
	y, yFloat := b.(float64)
	if xFloat && yFloat {
		return x == y || math.IsNaN(x) && math.IsNaN(y)
	}
	return a == b
}

// TestVectorsEqualRows evaluates random expressions over random tables with nulls and offsets, at once and row by row.
func TestVectorsEqualRows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	g := generator{r: r}
	failed, passed := 0, 0
	for range 500 {
		record, rows := randomTable(r, r.IntN(200))
		p := g.make("bifs"[r.IntN(4)], 1+r.IntN(5))
		if checkPlain(t, p, record, rows) {
			passed++
		} else {
			failed++
		}
		record.Release()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d expressions had values for all rows, %d failed for one", passed, failed)
	if passed < failed/2 {
		t.Error("too many expressions fail for the test to say much")
	}
}

func checkPlain(t *testing.T, p plain, record arrow.Record, rows []row) bool {
	t.Helper()
	x, err := expression.Parse(p.text)
	if err != nil {
		if strings.Contains(err.Error(), "at most") {
			return true
		}
		t.Fatalf("%s: %v", p.text, err)
	}
	bound, err := x.BindValue(record.Schema())
	if err != nil {
		t.Fatalf("%s: %v", p.text, err)
	}
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer allocator.AssertSize(t, 0)
	e := bound.NewEvaluator(allocator)
	failedOnce := false
	for range 2 { // what is used again must not remember anything
		column, err := e.Evaluate(record)
		var wrong *expression.RowError
		if err != nil && !errors.As(err, &wrong) {
			t.Fatalf("%s: %v", p.text, err)
		}
		if err != nil {
			if _, ok := p.compute(rows[wrong.Row]); ok {
				t.Fatalf("%s: %v, row by row it has a value", p.text, err)
			}
			failedOnce = true
			continue
		}
		for i, one := range rows {
			want, ok := p.compute(one)
			if got := valueOf(column, i); !ok || !same(got, want) {
				t.Fatalf("%s: row %d is %v, row by row %v (%t); %v", p.text, i, got, want, ok, one)
			}
		}
		column.Release()
	}
	if bound.Type().ID() == arrow.BOOL {
		checkSelection(t, p, e, record, rows)
	}
	return !failedOnce
}

func checkSelection(t *testing.T, p plain, e *expression.Evaluator, record arrow.Record, rows []row) {
	t.Helper()
	s, err := e.Select(record)
	if err != nil {
		return
	}
	var want, runs bytes.Buffer
	n := int64(0)
	for i, one := range rows {
		if v, _ := p.compute(one); v == true {
			fmt.Fprintf(&want, "%d ", i)
			if got := s.Row(n); got != int64(i) {
				t.Fatalf("%s: row %d of the selection is %d, expected %d", p.text, n, got, i)
			}
			n++
		}
	}
	s.Runs(func(lo, hi int) {
		for i := lo; i < hi; i++ {
			fmt.Fprintf(&runs, "%d ", i)
		}
	})
	if s.Count() != int(n) || runs.String() != want.String() {
		t.Fatalf("%s: %d rows, expected %d; %s, expected %s", p.text, s.Count(), n, &runs, &want)
	}
}
