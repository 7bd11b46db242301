package json_test

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/json"
	"github.com/f708428e/engine/internal/testenv"
)

func writeJSON(t testing.TB, record arrow.Record) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := json.NewSink(json.SinkOptions{}).Create(&out, record.Schema(), memory.DefaultAllocator)
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
	return out.Bytes()
}

func sinkRecord() arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "a \"key\"", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil))
	lists := b.Field(2).(*array.ListBuilder)
	for i, f := range []float64{0.1, math.NaN(), math.Inf(-1), 1e300, -5} {
		b.Field(0).(*array.Float64Builder).Append(f)
		b.Field(1).(*array.StringBuilder).Append([]string{"x", "\"\\\n\r\t\x00\x1f/", "é😀", "", "\u2028</script>"}[i])
		lists.Append(true)
		for j := range i {
			lists.ValueBuilder().(*array.Float64Builder).Append(float64(j) / 2)
		}
		b.Field(3).(*array.Date32Builder).Append(arrow.Date32(i - 1))
		b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(-1 + 3*i))
		b.Field(5).(*array.Int64Builder).Append(math.MaxInt64)
	}
	for _, f := range b.Fields() {
		f.AppendNull()
	}
	return b.NewRecord()
}

func TestSink(t *testing.T) {
	content := writeJSON(t, sinkRecord())
	want := `{"f":0.1,"a \"key\"":"x","l":[],"d":"1969-12-31","t":"1969-12-31T23:59:59.999999","i":9223372036854775807}
{"f":null,"a \"key\"":"\"\\\n\r\t\u0000\u001f/","l":[0.0],"d":"1970-01-01","t":"1970-01-01T00:00:00.000002","i":9223372036854775807}
`
	if !strings.HasPrefix(string(content), want) {
		t.Errorf("got\n%s\nwant\n%s", content, want)
	}
	for line := range bytes.Lines(content) {
		if !stdjson.Valid(line) {
			t.Errorf("%s", line)
		}
	}
	// What our source reads, written again, is the same.
	files := []dataset.File{writeFile(t, filepath.Join(t.TempDir(), "a.json"), content)}
	got, err := readAll(t, how{}, files)
	if err != nil || len(got.rows) != 6 {
		t.Fatalf("%q, %v", got.rows, err)
	}
	if want := strings.TrimSpace(strings.Repeat("null ", 6)); got.rows[5] != want {
		t.Errorf("the last row is %s", got.rows[5])
	}
	if want := "[0,0.5]"; !strings.Contains(got.rows[2], want) {
		t.Errorf("row 2 is %s", got.rows[2])
	}
	binary := arrow.NewSchema([]arrow.Field{{Name: "raw", Type: arrow.BinaryTypes.Binary}}, nil)
	if _, err := json.NewSink(json.SinkOptions{}).Create(&bytes.Buffer{}, binary, nil); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(fmt.Sprint(err), `column "raw" is binary, which JSON lines cannot hold`) {
		t.Errorf("got %v", err)
	}
}

// TestSinkReaders lets Python, pyarrow, and, if it is there, pandas read what is written.
func TestSinkReaders(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import json, sys
import pyarrow as pa, pyarrow.json as pj
try:
    import pandas as pd
except ImportError:
    pd = None
path = sys.argv[1]
rows = [json.loads(line) for line in open(path, encoding="utf-8", newline="\n")]
t = pj.read_json(path)
assert t.num_rows == len(rows) == 6
assert t.schema.field("i").type == pa.int64() and t.schema.field("f").type == pa.float64() and t.schema.field("l").type == pa.list_(pa.float64()), t.schema
# It takes texts with fractions of seconds for texts.
assert pa.types.is_timestamp(t.schema.field("d").type) and t.schema.field("t").type == pa.string(), t.schema
key = 'a "key"'
assert t[key].to_pylist() == [r[key] for r in rows], t[key]
if pd is not None:
    d = pd.read_json(path, lines=True)
    assert len(d) == 6 and sorted(d.columns) == sorted(t.column_names)
json.dump([r[key] for r in rows], sys.stdout)
`
	record := sinkRecord()
	file := writeFile(t, filepath.Join(t.TempDir(), "a.json"), writeJSON(t, record))
	out, err := exec.CommandContext(t.Context(), python, "-c", program, file.Path).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var texts []*string
	if err := stdjson.Unmarshal(out, &texts); err != nil {
		t.Fatal(err)
	}
	column := record.Column(1).(*array.String)
	var got, want []string
	for i, s := range texts[:5] {
		got, want = append(got, *s), append(want, column.Value(i))
	}
	if !slices.Equal(got, want) || texts[5] != nil {
		t.Errorf("texts are %q, want %q", got, want)
	}
}
