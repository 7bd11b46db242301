package fit_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func floats(values []float64, valid []bool) arrow.Array {
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(values, valid)
	return b.NewArray()
}

func texts(values []string, valid []bool) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(values, valid)
	return b.NewArray()
}

func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// fitAll lets columns observe pieces of an array and merges what they have seen, through messages, in any order.
func fitAll(t *testing.T, r *rand.Rand, target fit.Target, values arrow.Array) (*enginev1.FittedColumn, error) {
	t.Helper()
	var messages []*enginev1.FitColumn
	for at := 0; at < values.Len() || at == 0; {
		c := fit.New(target)
		for range 1 + r.IntN(3) {
			end := min(values.Len(), at+r.IntN(1+values.Len()))
			piece := array.NewSlice(values, int64(at), int64(end))
			if err := c.Observe(piece); err != nil {
				return nil, err
			}
			piece.Release()
			at = end
		}
		encoded, err := proto.Marshal(c.ToProto())
		if err != nil {
			t.Fatal(err)
		}
		message := &enginev1.FitColumn{}
		if err := proto.Unmarshal(encoded, message); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, message)
		if values.Len() == 0 {
			break
		}
	}
	r.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	merged := fit.New(target)
	for _, m := range messages {
		if err := merged.Merge(m); err != nil {
			t.Fatal(err)
		}
	}
	return merged.Result()
}

// reference calculates mean and std with rational numbers.
func reference(values []float64) (mean, std float64) {
	sum, squares := new(big.Rat), new(big.Rat)
	for _, v := range values {
		x := new(big.Rat).SetFloat64(v)
		sum.Add(sum, x)
		squares.Add(squares, new(big.Rat).Mul(x, x))
	}
	n := big.NewRat(int64(len(values)), 1)
	m := new(big.Rat).Quo(sum, n)
	mean, _ = m.Float64()
	variance := new(big.Rat).Sub(new(big.Rat).Quo(squares, n), new(big.Rat).Mul(m, m))
	f := new(big.Float).SetPrec(2000).SetRat(variance)
	std, _ = f.Sqrt(f).Float64()
	return mean, std
}

func TestStandardIsExact(t *testing.T) {
	r := random(t)
	makers := map[string]func() float64{
		"normal":        r.NormFloat64,
		"far from zero": func() float64 { return 1e15 + float64(r.IntN(7)) },
		"any bits": func() float64 {
			for {
				if v := math.Float64frombits(r.Uint64()); !math.IsNaN(v) && !math.IsInf(v, 0) {
					return v
				}
			}
		},
		"subnormal":    func() float64 { return float64(r.IntN(100)-50) * math.SmallestNonzeroFloat64 },
		"largest":      func() float64 { return math.MaxFloat64 * float64(r.IntN(3)-1) },
		"constant":     func() float64 { return 0.1 },
		"cancellation": func() float64 { return []float64{1e300, -1e300, 1, 1e-300}[r.IntN(4)] },
	}
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				var all, counted []float64
				var valid []bool
				nulls := int64(0)
				for range 1 + r.IntN(200) {
					v := maker()
					switch r.IntN(20) {
					case 0:
						all, valid = append(all, v), append(valid, false)
						nulls++
					case 1:
						all, valid = append(all, math.NaN()), append(valid, true)
						nulls++
					default:
						all, valid, counted = append(all, v), append(valid, true), append(counted, v)
					}
				}
				if len(counted) == 0 {
					continue
				}
				values := floats(all, valid)
				got, err := fitAll(t, r, fit.Target{Column: "x", Kind: fit.Standard}, values)
				if err != nil {
					t.Fatal(err)
				}
				mean, std := reference(counted)
				if got.GetMean() != mean || got.GetStd() != std || got.GetRows() != int64(len(all)) || got.GetNulls() != nulls {
					t.Fatalf("got %v, expected mean %v, std %v, %d rows, %d nulls", got, mean, std, len(all), nulls)
				}
				if name == "constant" && got.GetStd() != 0 {
					t.Fatalf("std %v", got.GetStd())
				}
				ranged, err := fitAll(t, r, fit.Target{Column: "x", Kind: fit.MinMax}, values)
				low, high := slices.Min(counted), slices.Max(counted)
				if math.IsInf(high-low, 0) {
					if engine.KindOf(err) != engine.KindData {
						t.Fatalf("range %v to %v: %v", low, high, err)
					}
					continue
				}
				if err != nil || ranged.GetMin() != low || ranged.GetMax() != high {
					t.Fatalf("got %v, %v, expected %v to %v", ranged, err, low, high)
				}
				values.Release()
			}
		})
	}
}

func TestCategories(t *testing.T) {
	r := random(t)
	for _, target := range []fit.Target{
		{Column: "x", Kind: fit.Categories}, {Column: "x", Kind: fit.Categories, ByFrequency: true},
		{Column: "x", Kind: fit.Categories, Integers: true}, {Column: "x", Kind: fit.Categories, Integers: true, ByFrequency: true},
	} {
		for range 20 {
			count := map[string]int64{}
			var all []string
			var valid []bool
			var ints []int64
			for range 1 + r.IntN(300) {
				n := r.Int64N(30) - 15
				if r.IntN(50) == 0 {
					n *= math.MaxInt64 / 15
				}
				all, valid, ints = append(all, strconv.FormatInt(n, 10)), append(valid, r.IntN(10) > 0), append(ints, n)
				if valid[len(valid)-1] {
					count[all[len(all)-1]]++
				}
			}
			if len(count) == 0 {
				continue
			}
			var want []string
			for category := range count {
				want = append(want, category)
			}
			sort.Slice(want, func(i, j int) bool {
				a, b := want[i], want[j]
				if target.ByFrequency && count[a] != count[b] {
					return count[a] > count[b]
				}
				if target.Integers {
					x, _ := strconv.ParseInt(a, 10, 64)
					y, _ := strconv.ParseInt(b, 10, 64)
					return x < y
				}
				return a < b
			})
			values := texts(all, valid)
			if target.Integers {
				b := array.NewInt64Builder(memory.DefaultAllocator)
				b.AppendValues(ints, valid)
				values = b.NewArray()
			}
			got, err := fitAll(t, r, target, values)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.GetCategories(), want) {
				t.Fatalf("%+v: got %q, expected %q", target, got.GetCategories(), want)
			}
			for i, category := range want {
				if got.GetCounts()[i] != count[category] {
					t.Fatalf("%d rows of %q, expected %d", got.GetCounts()[i], category, count[category])
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	many := make([]string, fit.MaxCategories+1)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	for name, c := range map[string]struct {
		kind   fit.Kind
		values arrow.Array
		want   string
	}{
		"nothing":    {fit.Standard, floats(nil, nil), "no row reaches the step"},
		"all null":   {fit.Standard, floats([]float64{1, math.NaN()}, []bool{false, true}), "all of 2 values are null or NaN"},
		"infinite":   {fit.MinMax, floats([]float64{1, math.Inf(-1)}, nil), "row 1: -Inf is infinite"},
		"too many":   {fit.Categories, texts(many, nil), `column "x": it has more than 10000 categories`},
		"no text":    {fit.Categories, texts([]string{"a\xff"}, nil), "is not UTF-8"},
		"all absent": {fit.Categories, texts([]string{"a"}, []bool{false}), "all of 1 values"},
	} {
		t.Run(name, func(t *testing.T) {
			column := fit.New(fit.Target{Step: 3, Column: "x", Kind: c.kind})
			err := column.Check(c.values)
			if err == nil {
				err = column.Observe(c.values)
			}
			if err == nil {
				_, err = column.Result()
			}
			if err == nil || engine.KindOf(err) != engine.KindData || !contains(err.Error(), c.want) {
				t.Fatalf("got %v, expected %q", err, c.want)
			}
		})
	}
}

func contains(text, part string) bool {
	for i := range text {
		if len(text)-i >= len(part) && text[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

func FuzzMerge(f *testing.F) {
	c := fit.New(fit.Target{Column: "x", Kind: fit.Standard})
	if err := c.Observe(floats([]float64{1, -2.5, 1e300}, nil)); err != nil {
		f.Fatal(err)
	}
	for kind := fit.Categories; kind <= fit.MinMax; kind++ {
		encoded, err := proto.Marshal(c.ToProto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), encoded)
	}
	f.Fuzz(func(t *testing.T, kind uint8, encoded []byte) {
		message := &enginev1.FitColumn{}
		if proto.Unmarshal(encoded, message) != nil {
			return
		}
		c := fit.New(fit.Target{Column: "x", Kind: fit.Kind(kind%3 + 1)})
		if err := c.Merge(message); err != nil {
			return
		}
		if result, err := c.Result(); err == nil && result.Std != nil && (math.IsNaN(*result.Std) || *result.Std < 0) {
			t.Fatalf("std %v of %v", *result.Std, message)
		}
	})
}

func FuzzDecode(f *testing.F) {
	mean, std := 1.5, 0.0
	file := fit.NewFile("20261123-142330-7f3k2m9q", []*enginev1.FittedColumn{
		{Step: 1, Column: "sex", Rows: 3, Categories: []string{"F", "M"}, Counts: []int64{1, 2}}, {Step: 2, Column: "length", Rows: 3, Mean: &mean, Std: &std},
	}, func(step int) string { return []string{"", "one_hot", "scale"}[step] })
	content, err := file.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		decoded, err := fit.Decode(content)
		if err != nil {
			return
		}
		again, err := decoded.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := fit.Decode(again); err != nil || len(same.Columns) != len(decoded.Columns) {
			t.Fatalf("%v", err)
		}
	})
}

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		content, want string
		kind          engine.Kind
	}{
		"empty":         {``, "it is no such file", engine.KindCorrupt},
		"other":         {`{"job": "x"}`, "it has no version", engine.KindCorrupt},
		"later":         {`{"version": 2, "other": 1}`, "version 2", engine.KindVersion},
		"unknown":       {`{"version": 1, "other": 1}`, "other", engine.KindCorrupt},
		"behind":        {`{"version": 1} {}`, "", engine.KindCorrupt},
		"kind":          {`{"version": 1, "columns": [{"kind": "x", "column": "a"}]}`, "kind is none of", engine.KindCorrupt},
		"no categories": {`{"version": 1, "columns": [{"kind": "index", "column": "a"}]}`, "needs categories", engine.KindCorrupt},
		"twice":         {`{"version": 1, "columns": [{"kind": "index", "column": "a", "categories": ["b", "b"]}]}`, "twice", engine.KindCorrupt},
		"half":          {`{"version": 1, "columns": [{"kind": "scale", "column": "a", "mean": 1}]}`, "either mean and std", engine.KindCorrupt},
		"negative":      {`{"version": 1, "columns": [{"kind": "scale", "column": "a", "mean": 1, "std": -1}]}`, "negative", engine.KindCorrupt},
		"range":         {`{"version": 1, "columns": [{"kind": "scale", "column": "a", "min": 1, "max": 0}]}`, "below min", engine.KindCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fit.Decode([]byte(c.content)); engine.KindOf(err) != c.kind || !contains(err.Error(), c.want) {
				t.Fatalf("got %v, expected %q", err, c.want)
			}
		})
	}
}

func BenchmarkStandard(b *testing.B) {
	values := make([]float64, 10_000)
	for i := range values {
		values[i] = rand.NormFloat64()
	}
	a := floats(values, nil)
	c := fit.New(fit.Target{Column: "x", Kind: fit.Standard})
	b.SetBytes(8 * 10_000)
	for b.Loop() {
		if err := errors.Join(c.Check(a), c.Observe(a)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCategories(b *testing.B) {
	values := make([]string, 10_000)
	for i := range values {
		values[i] = []string{"F", "I", "M"}[rand.IntN(3)]
	}
	a := texts(values, nil)
	c := fit.New(fit.Target{Column: "x", Kind: fit.Categories})
	for b.Loop() {
		if err := errors.Join(c.Check(a), c.Observe(a)); err != nil {
			b.Fatal(err)
		}
	}
}
