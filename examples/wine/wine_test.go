package wine_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/f708428e/engine/examples/wine"
)

// The rows are data that models are trained on and benchmarks compare, so they never change.
func TestAtIsPinned(t *testing.T) {
	var b []byte
	b = wine.AppendHeader(b)
	for index := range uint64(3) {
		row := wine.At(2, index)
		b = row.AppendCSV(b)
	}
	want := `"fixed acidity";"volatile acidity";"citric acid";"residual sugar";"chlorides";"free sulfur dioxide";"total sulfur dioxide";"density";"pH";"sulphates";"alcohol";"quality"
7.5;0.295;0.16;2.45;0.06;4;52;0.9954;3.54;0.55;9.4;5
8.1;0.48;0.53;2.35;0.104;9;16;0.9965;3.44;0.61;11.9;5
6.6;0.61;0.07;1.55;0.037;34;106;0.9964;3.15;0.8;10.4;6
`
	if string(b) != want {
		t.Errorf("rows of seed 2:\n%swant:\n%s", b, want)
	}
}

func TestFloatIsTheDecimal(t *testing.T) {
	for index := range uint64(20_000) {
		row := wine.At(3, index)
		fields := strings.Split(strings.TrimSuffix(string(row.AppendCSV(nil)), "\n"), ";")
		if len(fields) != len(wine.Columns) {
			t.Fatalf("row %d: %d fields, want %d", index, len(fields), len(wine.Columns))
		}
		for column, field := range fields {
			parsed, err := strconv.ParseFloat(field, 64)
			if err != nil {
				t.Fatalf("row %d, column %q: %v", index, wine.Columns[column], err)
			}
			if got := row.Float(column); got != parsed {
				t.Fatalf("row %d, column %q: Float %v, CSV %q", index, wine.Columns[column], got, field)
			}
		}
	}
}

func BenchmarkAppendCSV(b *testing.B) {
	var line []byte
	var index uint64
	for b.Loop() {
		row := wine.At(2, index)
		line = row.AppendCSV(line[:0])
		index++
	}
	b.SetBytes(int64(len(line)))
}
