package csv_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	packing "github.com/f708428e/engine/dataset/text"
	"github.com/f708428e/engine/internal/testenv"
)

func writeCSV(t testing.TB, options csv.SinkOptions, record arrow.Record) string {
	t.Helper()
	sink, err := csv.NewSink(options)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := sink.Create(&out, record.Schema(), memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	for i := range record.NumRows() {
		if err := w.Write(t.Context(), record.NewSlice(i, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func recordOf(t testing.TB, schema *arrow.Schema, rows string) arrow.Record {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestSink(t *testing.T) {
	field := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	wide := arrow.NewSchema([]arrow.Field{
		field("b", boolType), field("i", int32Type), field("u", arrow.PrimitiveTypes.Uint64), field("f", float64Type), field("g", float32Type),
		field("a \"name\"", textType), field("d", dateType), field("t", timestampType), field("z", &arrow.TimestampType{Unit: arrow.Second, TimeZone: "UTC"}),
	}, nil)
	for _, test := range []struct {
		name    string
		options csv.SinkOptions
		schema  *arrow.Schema
		rows    string
		want    string
	}{
		{"every type", csv.SinkOptions{Header: true}, wide,
			`[{"b":true,"i":-1,"u":7,"f":0.1,"g":0.1,"a \"name\"":"x, \"y\"\nz","d":"2024-02-29","t":"2024-02-29 01:02:03.5","z":"1969-12-31 23:59:59"},
			  {"f":1e300,"g":3,"a \"name\"":"","t":"1969-12-31 23:59:59.999999"}, {}]`,
			"b,i,u,f,g,\"a \"\"name\"\"\",d,t,z\n" +
				"true,-1,7,0.1,0.1,\"x, \"\"y\"\"\nz\",2024-02-29,2024-02-29T01:02:03.500000,1969-12-31T23:59:59Z\n" +
				",,,1e+300,3.0,\"\",,1969-12-31T23:59:59.999999,\n,,,,,,,,\n"},
		{"delimiter, no header", csv.SinkOptions{Delimiter: ';'}, arrow.NewSchema([]arrow.Field{field("a", textType), field("b", textType)}, nil),
			`[{"a":"x;y","b":"1,5"},{"b":"\r"}]`, "\"x;y\";1,5\n;\"\r\"\n"},
		{"one column", csv.SinkOptions{Header: true}, arrow.NewSchema([]arrow.Field{field("a", int32Type)}, nil), `[{"a":1},{}]`, "a\n1\n\"\"\n"},
		{"one text", csv.SinkOptions{Header: true}, arrow.NewSchema([]arrow.Field{field("a", textType)}, nil), `[{"a":""},{}]`, "a\n\"\"\n\"\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := writeCSV(t, test.options, recordOf(t, test.schema, test.rows)); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	sink, err := csv.NewSink(csv.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Create(&bytes.Buffer{}, arrow.NewSchema([]arrow.Field{field("v", arrow.ListOf(float64Type))}, nil), nil)
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(fmt.Sprint(err), `column "v" is list<item: float64, nullable>, which a CSV file cannot hold`) {
		t.Errorf("got %v", err)
	}
	if _, err := csv.NewSink(csv.SinkOptions{Delimiter: 'x'}); err == nil {
		t.Error("a letter is taken for a delimiter")
	}
}

// TestSinkRoundTrip writes random rows, and reads them with our source, with Python's csv module, with pyarrow, and with pandas if it is
// there.
func TestSinkRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	schema := arrow.NewSchema([]arrow.Field{{Name: "i", Type: int64Type, Nullable: true}, {Name: "f", Type: float64Type, Nullable: true}, {Name: "s", Type: textType}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	letters := []rune("ab,\"\n\r; \té'#€😀")
	var texts []string
	var floats []float64
	for range 2000 {
		text := make([]rune, random.IntN(6))
		for j := range text {
			text[j] = letters[random.IntN(len(letters))]
		}
		f := math.Float64frombits(random.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			f = 0
		}
		texts, floats = append(texts, string(text)), append(floats, f)
		b.Field(0).(*array.Int64Builder).Append(random.Int64())
		b.Field(1).(*array.Float64Builder).Append(f)
		b.Field(2).(*array.StringBuilder).Append(string(text))
	}
	record := b.NewRecord()
	content := writeCSV(t, csv.SinkOptions{Header: true}, record)
	files := writeFiles(t, content)
	got, err := readAll(t, usual, files, dataset.PlanOptions{}, readOptions(100, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for i := range texts {
		if want := fmt.Sprintf("%d %s %q", record.Column(0).(*array.Int64).Value(i), record.Column(1).ValueStr(i), texts[i]); got.rows[i] != want {
			t.Fatalf("row %d is %s, want %s", i, got.rows[i], want)
		}
	}
	python := testenv.Python(t, "pyarrow")
	//nolint:dupword // It is Python.
	const program = `
import csv, json, sys
import pyarrow.csv as pc
try:
    import pandas as pd
except ImportError:
    pd = None
path = sys.argv[1]
rows = list(csv.reader(open(path, newline="", encoding="utf-8")))
t = pc.read_csv(path, parse_options=pc.ParseOptions(newlines_in_values=True), convert_options=pc.ConvertOptions(quoted_strings_can_be_null=False))
read = {"csv": [[r[2], float(r[1])] for r in rows[1:]], "pyarrow": list(zip(t["s"].to_pylist(), t["f"].to_pylist()))}
ints = [str(t["i"].type)]
if pd is not None:
    d = pd.read_csv(path, float_precision="round_trip", keep_default_na=False)
    read["pandas"] = list(zip(d["s"], d["f"]))
    ints.append(str(d["i"].dtype))
one = list(csv.reader(open(sys.argv[2], newline="", encoding="utf-8")))
assert one == [["s"], ["a"], [""], [""]], one
one = pc.read_csv(sys.argv[2])["s"].to_pylist()
assert one == ["a", "", ""], one
assert pd is None or len(pd.read_csv(sys.argv[2])) == 3
json.dump({"rows": read, "ints": ints}, sys.stdout)
`
	one := arrow.NewSchema([]arrow.Field{{Name: "s", Type: textType, Nullable: true}}, nil)
	oneColumn := writeFiles(t, writeCSV(t, csv.SinkOptions{Header: true}, recordOf(t, one, `[{"s":"a"},{},{"s":""}]`)))
	out, err := exec.CommandContext(t.Context(), python, "-c", program, files[0].Path, oneColumn[0].Path).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var read struct {
		Rows map[string][][2]any
		Ints []string
	}
	if err := json.Unmarshal(out, &read); err != nil {
		t.Fatal(err)
	}
	for reader, rows := range read.Rows {
		if len(rows) != len(texts) {
			t.Fatalf("%s: %d rows", reader, len(rows))
		}
		for i, row := range rows {
			if row[0] != texts[i] || row[1] != floats[i] {
				t.Fatalf("%s: row %d is %q, want %q %v", reader, i, row, texts[i], floats[i])
			}
		}
	}
	if slices.ContainsFunc(read.Ints, func(name string) bool { return name != "int64" }) {
		t.Errorf("integers are %q", read.Ints)
	}
	if !slices.Equal(strings.Split(content, "\n")[:1], []string{"i,f,s"}) {
		t.Errorf("header is %q", content[:10])
	}
}

// BenchmarkWrite writes twelve columns.
func BenchmarkWrite(b *testing.B) {
	fields := make([]arrow.Field, 12)
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprintf("column %d", i), Type: float64Type}
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	for range 10_000 {
		for _, f := range builder.Fields() {
			f.(*array.Float64Builder).Append(math.Round(rand.Float64()*1e4) / 1e3)
		}
	}
	record := builder.NewRecord()
	sink, err := csv.NewSink(csv.SinkOptions{Header: true})
	if err != nil {
		b.Fatal(err)
	}
	var size int
	for b.Loop() {
		var out bytes.Buffer
		w, err := sink.Create(&out, record.Schema(), memory.DefaultAllocator)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(w.Write(b.Context(), record), w.Finish(nil), w.Close()); err != nil {
			b.Fatal(err)
		}
		size = out.Len()
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(10_000*b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// TestPackedSink unpacks what was written with what others use.
func TestPackedSink(t *testing.T) {
	record := recordOf(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}}, nil), `[{"a": 1}, {"a": 22}, {"a": 333}]`)
	defer record.Release()
	for compression, unpack := range map[packing.Compression]func(io.Reader) (io.Reader, error){
		packing.Plain: func(r io.Reader) (io.Reader, error) { return r, nil },
		packing.Gzip:  func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		packing.Zstd:  func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		options := csv.SinkOptions{Header: true, Compression: compression}
		plain, err := unpack(strings.NewReader(writeCSV(t, options, record)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != "a\n1\n22\n333\n" {
			t.Errorf("%q: %q, %v", compression, got, err)
		}
		sink, err := csv.NewSink(options)
		if want := map[packing.Compression]string{packing.Gzip: ".csv.gz", packing.Zstd: ".csv.zst", packing.Plain: ".csv"}[compression]; err != nil || sink.Extension() != want {
			t.Errorf("%q: %s, %v", compression, sink.Extension(), err)
		}
	}
	if _, err := packing.ParseCompression("snappy"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}
