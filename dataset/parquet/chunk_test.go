package parquet_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand"
	"os/exec"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/testenv"
)

// sequences are columns that lead the encoder of numbers into its every turn. Each gives the value of a row, and whether it is null.
var sequences = []struct {
	name string
	at   func(row int, r *rand.Rand) (float64, bool)
	// dictionary says that the file's column has one, and plain that it has plain values. Nulls alone have a dictionary without values.
	dictionary, plain bool
}{
	{"one value", func(int, *rand.Rand) (float64, bool) { return 1.5, true }, true, false},
	{"few values", func(_ int, r *rand.Rand) (float64, bool) { return float64(r.Intn(100)) / 4, true }, true, false},
	{"three thousand values", func(_ int, r *rand.Rand) (float64, bool) { return float64(r.Intn(3000)) / 4, true }, true, false},
	{"all differ", func(_ int, r *rand.Rand) (float64, bool) { return r.NormFloat64(), true }, false, true},
	{"sorted", func(row int, _ *rand.Rand) (float64, bool) { return float64(row / 100), true }, true, false},
	{"ever more values", func(row int, r *rand.Rand) (float64, bool) {
		if row < 40_000 {
			return float64(r.Intn(10)), true
		}
		return r.Float64(), true
	}, true, true},
	{"no values", func(int, *rand.Rand) (float64, bool) { return 0, false }, true, false},
	{"some nulls", func(_ int, r *rand.Rand) (float64, bool) { return float64(r.Intn(50)), r.Intn(3) > 0 }, true, false},
	{"one null at the end of a page", func(row int, _ *rand.Rand) (float64, bool) { return float64(row % 7), row != 32<<10-1 }, true, false},
	{"differ, with nulls", func(_ int, r *rand.Rand) (float64, bool) { return r.NormFloat64(), r.Intn(5) > 0 }, false, true},
	{"long runs", func(row int, r *rand.Rand) (float64, bool) { return float64(row / 1000 % 40), row%9000 > 100 }, true, false},
	{"short runs", func(row int, r *rand.Rand) (float64, bool) { return float64(row / 11 % 300), true }, true, false},
	{"zeros of both signs", func(_ int, r *rand.Rand) (float64, bool) { return []float64{0, math.Copysign(0, -1)}[r.Intn(2)], true }, true, false},
	{"negative zero", func(int, *rand.Rand) (float64, bool) { return math.Copysign(0, -1), true }, true, false},
	{"NaN and infinities", func(_ int, r *rand.Rand) (float64, bool) {
		return []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Float64frombits(0x7ff8000000000042), 3}[r.Intn(5)], true
	}, true, false},
	{"NaN alone", func(int, *rand.Rand) (float64, bool) { return math.NaN(), true }, true, false},
}

// sequenceTypes are those whose values the encoder sees.
var sequenceTypes = []arrow.DataType{
	arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32,
}

func sequenceRecord(rows int, seed int64) arrow.Record {
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, s := range sequences {
		for _, t := range sequenceTypes {
			r := rand.New(rand.NewSource(seed))
			b := array.NewBuilder(memory.DefaultAllocator, t)
			for row := range rows {
				v, ok := s.at(row, r)
				if !ok {
					b.AppendNull()
					continue
				}
				whole := int64(v * 1e6)
				if v != v || math.IsInf(v, 0) {
					whole = int64(math.Float64bits(v) >> 40)
				}
				switch b := b.(type) {
				case *array.Float64Builder:
					b.Append(v)
				case *array.Float32Builder:
					b.Append(float32(v))
				case *array.Int64Builder:
					b.Append(whole)
				case *array.Int32Builder:
					b.Append(int32(whole))
				}
			}
			fields = append(fields, arrow.Field{Name: s.name + " " + t.Name(), Type: t, Nullable: true})
			arrays = append(arrays, b.NewArray())
		}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), arrays, int64(rows))
}

// sameBits compares values by their bits, and nulls.
func sameBits(t *testing.T, name string, got, want arrow.Array) {
	t.Helper()
	if got.Len() != want.Len() || got.NullN() != want.NullN() {
		t.Fatalf("%s: %d values with %d nulls, want %d with %d", name, got.Len(), got.NullN(), want.Len(), want.NullN())
	}
	have, wanted := valueBytes(got), valueBytes(want)
	size := len(wanted) / want.Len()
	if want.NullN() == 0 && bytes.Equal(have, wanted) {
		return
	}
	for i := range want.Len() {
		if got.IsNull(i) != want.IsNull(i) {
			t.Fatalf("%s, row %d: null is %v", name, i, got.IsNull(i))
		}
		if want.IsNull(i) {
			continue
		}
		same := bytes.Equal(have[i*size:(i+1)*size], wanted[i*size:(i+1)*size])
		if !same {
			t.Fatalf("%s, row %d: %s, want %s", name, i, got.ValueStr(i), want.ValueStr(i))
		}
	}
}

// valueBytes are the values of an array of numbers, as they lie in memory.
func valueBytes(a arrow.Array) []byte {
	size := a.DataType().(arrow.FixedWidthDataType).BitWidth() / 8
	offset := a.Data().Offset()
	return a.Data().Buffers()[1].Bytes()[offset*size : (offset+a.Len())*size]
}

// TestNumberEncoding writes sequences of sizes around those of pages and row groups, in records of several sizes, and reads them back.
func TestNumberEncoding(t *testing.T) {
	for i, rows := range []int{1, 8, 9, 1599, 32<<10 + 1, 32 << 10, 80_001, 1<<18 + 17} {
		for _, compression := range []string{"snappy", "none"}[:1+i%2] {
			t.Run(fmt.Sprint(rows, " ", compression), func(t *testing.T) {
				if rows > 1<<18 {
					testenv.Full(t)
				}
				record := sequenceRecord(rows, int64(rows))
				var pieces []arrow.Record
				r := rand.New(rand.NewSource(int64(i)))
				for from := int64(0); from < int64(rows); {
					to := min(int64(rows), from+1+r.Int63n(20_000))
					pieces = append(pieces, record.NewSlice(from, to))
					from = to
				}
				f := writeFile(t, tempPath(t), record.Schema(), pieces, compression, nil)
				layout := plan(t, dataset.PlanOptions{}, f)
				var got []arrow.Record
				for _, split := range layout.Splits {
					part, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 9973})
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, part...)
				}
				read := concat(t, got)
				for c := range record.Columns() {
					sameBits(t, record.ColumnName(c), read.Column(c), record.Column(c))
				}
				if rows == 80_001 {
					checkEncodings(t, f.Path)
				}
				checkExtremes(t, f.Path, record)
			})
		}
	}
}

// checkEncodings looks at which columns of float64 have a dictionary, and which have plain values.
func checkEncodings(t *testing.T, path string) {
	t.Helper()
	f, err := file.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, s := range sequences {
		chunk, err := f.MetaData().RowGroup(0).ColumnChunk(i * len(sequenceTypes))
		if err != nil {
			t.Fatal(err)
		}
		plain := false
		for _, e := range chunk.EncodingStats() {
			plain = plain || e.PageType.String() == "DATA_PAGE" && e.Encoding.String() == "PLAIN"
		}
		if chunk.HasDictionaryPage() != s.dictionary || plain != s.plain {
			t.Errorf("%s: dictionary %v, plain %v; want %v, %v", s.name, chunk.HasDictionaryPage(), plain, s.dictionary, s.plain)
		}
	}
}

// checkExtremes compares the statistics of columns of float64 and int32 with their values.
func checkExtremes(t *testing.T, path string, record arrow.Record) {
	t.Helper()
	f, err := file.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for c, column := range record.Columns() {
		from := 0
		for g := range f.NumRowGroups() {
			group := f.MetaData().RowGroup(g)
			chunk, err := group.ColumnChunk(c)
			if err != nil {
				t.Fatal(err)
			}
			statistics, err := chunk.Statistics()
			if err != nil || statistics == nil {
				t.Fatalf("%s: statistics %v, %v", record.ColumnName(c), statistics, err)
			}
			low, high, nulls := math.Inf(1), math.Inf(-1), int64(0)
			see := func(v float64) {
				if v == v {
					low, high = math.Min(low, v), math.Max(high, v)
				}
			}
			for i := from; i < from+int(group.NumRows()); i++ {
				switch a := column.(type) {
				case *array.Float64:
					if a.IsNull(i) {
						nulls++
						continue
					}
					see(a.Value(i))
				case *array.Int32:
					if a.IsNull(i) {
						nulls++
						continue
					}
					see(float64(a.Value(i)))
				}
			}
			from += int(group.NumRows())
			var haveLow, haveHigh float64
			switch s := statistics.(type) {
			case *metadata.Float64Statistics:
				haveLow, haveHigh = s.Min(), s.Max()
			case *metadata.Int32Statistics:
				if _, ok := column.(*array.Int32); !ok {
					continue
				}
				haveLow, haveHigh = float64(s.Min()), float64(s.Max())
			default:
				continue
			}
			if statistics.NullCount() != nulls || statistics.HasMinMax() != (low <= high) {
				t.Errorf("%s: %d nulls, has bounds %v; want %d, %v", record.ColumnName(c), statistics.NullCount(), statistics.HasMinMax(), nulls, low <= high)
			}
			if low > high {
				continue
			}
			if _, ok := column.(*array.Float64); ok && haveLow == 0 && !math.Signbit(haveLow) || math.Signbit(haveHigh) && haveHigh == 0 {
				t.Errorf("%s: bounds %v and %v; zeros need both signs", record.ColumnName(c), haveLow, haveHigh)
			}
			if haveLow != low || haveHigh != high {
				t.Errorf("%s: bounds %v and %v, want %v and %v", record.ColumnName(c), haveLow, haveHigh, low, high)
			}
		}
	}
}

// TestNumberEncodingElsewhere lets other readers read the sequences: all must see the same values, bit for bit, as pyarrow writes them.
func TestNumberEncodingElsewhere(t *testing.T) {
	python := testenv.Python(t, "pyarrow", "polars", "duckdb")
	const program = `
import math, sys
import duckdb, polars, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
path = sys.argv[1]
a = pq.read_table(path)
a.validate(full=True)
b = polars.read_parquet(path, use_pyarrow=False).to_arrow().cast(a.schema)
c = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()
c = c.select(a.column_names).cast(a.schema)
def bits(column):
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    t = column.type
    wide = pa.int64() if t.bit_width == 64 else pa.int32()
    return column.view(wide)
for name in a.column_names:
    want = bits(a.column(name))
    assert bits(b.column(name)).equals(want), ("polars", name)
    assert bits(c.column(name)).equals(want), ("duckdb", name)
# Readers that plan by statistics must find every row.
for name in a.column_names:
    if not name.endswith("float64") or a.column(name).null_count == len(a):
        continue
    seen = pc.drop_null(a.column(name))
    for value in {seen[0].as_py(), seen[len(seen) // 2].as_py()}:
        if math.isnan(value):
            continue
        n = pc.sum(pc.equal(a.column(name), value)).as_py()
        got = pq.read_table(path, columns=[name], filters=pc.field(name) == value).num_rows
        assert got == n, ("pyarrow", name, value, n, got)
        got = duckdb.execute(f'SELECT count(*) FROM read_parquet(\'{path}\') WHERE "{name}" = ?', [value]).fetchone()[0]
        assert got == n, ("duckdb", name, value, n, got)
        got = polars.scan_parquet(path).filter(polars.col(name) == value).select(polars.len()).collect().item()
        assert got == n, ("polars", name, value, n, got)
`
	record := sequenceRecord(60_000, 3)
	path := tempPath(t)
	writeFile(t, path, record.Schema(), []arrow.Record{record}, "snappy", nil)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
