package csv_test

import (
	"bufio"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

var trickyFloats = []string{
	"0", "-0", "0.0", "00", "1", "-1", "9", "9.9", "99999999", "999999.9", "9999999", "-9999999", "-999999", "0.000001", ".1", "1.", "-.5", "+.5", "12345678",
	"1234567.8", "0.1234567", "0.12345678", "123456789012345678", "1234567890123456789", "12345678901234567890", "9007199254740993", "9007199254740992",
	"9007199254740991", "90071992547409931e-1", "1e22", "1e23", "1e-22", "1e-23", "123456789e-20", "8.5e22", "2.2250738585072011e-308", "2.2250738585072014e-308",
	"4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "5e-324", "1e-325", "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308",
	"1e309", "-1e309", "0e999999999", "1e-999999999", "1e999999999", "0.1e1", "1E5", "1e+5", "1e05", "6.8e-1", "2.5e0", "00000000000000000000001.5", "0.00000000000000000000000015",
	"1.00000000000000011102230246251565404236316680908203125", "1.00000000000000011102230246251565404236316680908203124", "1.00000000000000011102230246251565404236316680908203126",
	"179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
	"7.038531e-26", "1.1754943e-38", "1.1754942e-38", "1.4e-45", "7e-46", "3.4028235e38", "3.4028236e38", "16777217", "16777219", "1.00000017881393432617187499", "1.00000017881393432617187500", "1.00000017881393432617187501",
	"nan", "NaN", "inf", "-Inf", "+Infinity", "infinity",
	"", "-", "+", ".", "-.", "e5", "1e", "1e+", "1.2.3", "1-2", "--1", "0x10", "1_0", "in", "na", "infi", "1 2", "1f", "1e5.5", "∞", "١",
}

// checkFloat compares with strconv, which knows some forms that we do not.
func checkFloat(t testing.TB, text string) {
	t.Helper()
	want, err := strconv.ParseFloat(text, 64)
	wantOK := err == nil && !strings.ContainsAny(text, "xX_")
	lower := strings.ToLower(text)
	got, ok := csv.ParseFloat([]byte(text))
	if lower == "+nan" || lower == "-nan" {
		if !ok || !math.IsNaN(got) {
			t.Errorf("ParseFloat(%q) is %v, %v", text, got, ok)
		}
		return
	}
	if ok != wantOK || ok && math.Float64bits(got) != math.Float64bits(want) {
		t.Errorf("ParseFloat(%q) is %v, %v; want %v, %v", text, got, ok, want, wantOK)
	}
	double, err := strconv.ParseFloat(text, 32)
	single := float32(double)
	wantOK = err == nil && !strings.ContainsAny(text, "xX_")
	got32, ok := csv.ParseFloat32([]byte(text))
	if ok != wantOK || ok && math.Float32bits(got32) != math.Float32bits(single) {
		t.Errorf("ParseFloat32(%q) is %v, %v; want %v, %v", text, got32, ok, single, wantOK)
	}
}

func TestParseFloat(t *testing.T) {
	for _, text := range trickyFloats {
		checkFloat(t, text)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300_000 {
		checkFloat(t, randomFloat(r))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzParseFloat(f *testing.F) {
	for _, text := range trickyFloats {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkFloat(t, text)
	})
}

// TestReadFloats reads floats in the way of parse, which has its own path for short ones, in all types and places of a row.
func TestReadFloats(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	const rows = 40_000
	path := filepath.Join(t.TempDir(), "floats.csv")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	texts := make([][3]string, rows)
	for i := range texts {
		for j := range texts[i] {
			for {
				text := randomFloat(r)
				if r.IntN(2) == 0 {
					text = trickyFloats[r.IntN(len(trickyFloats))]
				}
				if _, ok := csv.ParseFloat32([]byte(text)); ok && len(text) < 40 {
					texts[i][j] = text
					break
				}
			}
		}
		_, _ = w.WriteString(texts[i][0] + "," + texts[i][1] + "," + texts[i][2] + []string{"\n", "\r\n"}[r.IntN(2)])
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	source, err := csv.New(csv.Options{Columns: []csv.Column{{Name: "a", Type: float64Type}, {Name: "b", Type: float32Type}, {Name: "c", Type: float64Type}}})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := source.Plan(t.Context(), []dataset.File{fileInfo(t, path)}, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := source.Open(t.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 1000, BatchBytes: 1 << 20, Allocator: memory.NewGoAllocator()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	row := 0
	for {
		record, err := reader.Read(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := range int(record.NumRows()) {
			for j := range 3 {
				checkValue(t, texts[row][j], record.Column(j), i)
			}
			row++
		}
		record.Release()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if row != rows {
		t.Errorf("%d rows", row)
	}
}

func checkValue(t *testing.T, text string, column arrow.Array, row int) {
	t.Helper()
	switch c := column.(type) {
	case *array.Float64:
		want, _ := strconv.ParseFloat(text, 64)
		if math.Float64bits(c.Value(row)) != math.Float64bits(want) {
			t.Errorf("%q was read as %v, want %v", text, c.Value(row), want)
		}
	case *array.Float32:
		want, _ := strconv.ParseFloat(text, 32)
		if math.Float32bits(c.Value(row)) != math.Float32bits(float32(want)) {
			t.Errorf("%q was read as %v, want %v", text, c.Value(row), float32(want))
		}
	}
}
