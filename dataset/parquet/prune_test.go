package parquet_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/internal/testenv"
)

// boundsOf opens a file and asks what it says of columns, row group by row group.
func boundsOf(t *testing.T, path string, columns ...string) (found []map[string]dataset.Bounds) {
	t.Helper()
	layout := plan(t, dataset.PlanOptions{}, statFile(t, path))
	for _, split := range layout.Splits {
		_, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, Prune: &dataset.Prune{
			MayMatch: func(bounds func(string) dataset.Bounds) bool {
				group := map[string]dataset.Bounds{}
				for _, c := range columns {
					group[c] = bounds(c)
				}
				found = append(found, group)
				return true
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestPrunedRowGroups leaves row groups out in all combinations, and looks at the rows that come, at where they come from, at the
// bytes read, and at the count of the others.
func TestPrunedRowGroups(t *testing.T) {
	record := newRecord(flatColumns(), 1000, 5, true, memory.DefaultAllocator)
	f := writeGroups(t, record, 250)
	layout := plan(t, dataset.PlanOptions{}, f)
	if len(layout.Splits) != 1 || layout.Splits[0].RowGroups != 4 {
		t.Fatalf("splits %+v", layout.Splits)
	}
	whole := int64(0)
	for kept := 15; kept >= 0; kept-- {
		for _, batch := range []int64{100, 250, 400, 5000} {
			t.Run(fmt.Sprintf("%04b %d", kept, batch), func(t *testing.T) {
				asked, leftOut := 0, int64(0)
				allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
				defer allocator.AssertSize(t, 0)
				r, err := parquet.NewSource().Open(t.Context(), layout.Splits[0], dataset.ReadOptions{
					Schema: layout.Schema, BatchRows: batch, BatchBytes: 64 << 20, Allocator: allocator,
					Prune: &dataset.Prune{
						MayMatch: func(func(string) dataset.Bounds) bool { asked++; return kept>>(asked-1)&1 != 0 },
						LeftOut:  func(rows int64) { leftOut += rows },
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				var wanted []int64
				for row := range int64(1000) {
					if kept>>(row/250)&1 != 0 {
						wanted = append(wanted, row)
					}
				}
				for {
					got, err := r.Read(t.Context())
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					n := got.NumRows()
					if n > int64(len(wanted)) || n == 0 || n > batch || wanted[n-1] != wanted[0]+n-1 {
						t.Fatalf("a batch of %d rows, of those left from %v", n, wanted[0])
					}
					want := record.NewSlice(wanted[0], wanted[0]+n)
					mustEqual(t, got, want)
					want.Release()
					got.Release()
					for _, i := range []int64{0, n - 1} {
						if where := r.Where(i); !strings.HasSuffix(where, fmt.Sprintf(" row %d", wanted[i]+1)) {
							t.Fatalf("row %d of the batch comes from %s, want row %d", i, where, wanted[i]+1)
						}
					}
					wanted = wanted[n:]
				}
				if len(wanted) > 0 || asked != 4 {
					t.Fatalf("%d rows did not come; asked %d times", len(wanted), asked)
				}
				rest := int64(0)
				for group := range 4 {
					rest += int64(1-kept>>group&1) * 250
				}
				if leftOut != rest {
					t.Errorf("%d rows left out, want %d", leftOut, rest)
				}
				if kept == 15 {
					whole = r.BytesRead()
				}
				if kept == 0 && r.BytesRead() > whole/2 {
					t.Errorf("%d bytes read of nothing, %d of everything", r.BytesRead(), whole)
				}
			})
		}
	}
}

// writeGroups writes a file with row groups of so many rows.
func writeGroups(t *testing.T, record arrow.Record, rows int64) dataset.File {
	t.Helper()
	python := testenv.Python(t, "pyarrow")
	ours, path := tempPath(t), tempPath(t)
	writeFile(t, ours, record.Schema(), []arrow.Record{record}, "snappy", nil)
	program := fmt.Sprintf("import sys, pyarrow.parquet as pq; pq.write_table(pq.read_table(sys.argv[1]), sys.argv[2], row_group_size=%d)", rows)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, ours, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return statFile(t, path)
}

// TestBounds compares what files of ours and of pyarrow say with their values.
func TestBounds(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import sys, datetime
import pyarrow as pa, pyarrow.parquet as pq
nan, inf = float("nan"), float("inf")
t = pa.table({
    "i": pa.array([3, None, -7], pa.int64()), "small": pa.array([1, 2, -3], pa.int8()), "u": pa.array([1, 2, 3], pa.uint32()),
    "f": pa.array([nan, 2.5, -inf], pa.float64()), "nan": pa.array([nan, nan, nan], pa.float64()), "zero": pa.array([0.0, 0.0, 0.0], pa.float32()),
    "d": pa.array([datetime.date(1970, 1, 2), None, datetime.date(1970, 1, 11)]), "t": pa.array([5, 6, 7], pa.timestamp("us")),
    "s": pa.array(["b", "x" * 300, "ä"]), "n": pa.array([None, None, None], pa.int64()), "l": pa.array([[1], [2], None]),
    "dec": pa.array([1, 2, 3], pa.decimal128(10, 2)), "st": pa.array([{"a": 1}, {"a": 2}, None]), "b": pa.array([b"\xff", b"a", b"b"]),
})
t = t.cast(pa.schema([f.with_nullable(f.name not in ("t",)) for f in t.schema]))
pq.write_table(t, sys.argv[1])
pq.write_table(t, sys.argv[2], write_statistics=False)
pq.write_table(t.slice(0, 1), sys.argv[3], write_statistics=["i"])
`
	with, without, some := tempPath(t), tempPath(t), tempPath(t)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, with, without, some).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := map[string]dataset.Bounds{
		"i": {Low: int64(-7), High: int64(3)}, "small": {Low: int64(-3), High: int64(2), NoNulls: true}, "u": {NoNulls: true},
		"f": {Low: math.Inf(-1), High: 2.5, NoNulls: true}, "nan": {NoNulls: true}, "zero": {Low: math.Copysign(0, -1), High: 0.0, NoNulls: true},
		"d": {Low: int64(1), High: int64(10)}, "t": {Low: int64(5), High: int64(7), NoNulls: true}, "n": {AllNulls: true},
		"l": {}, "dec": {NoNulls: true}, "st": {}, "b": {NoNulls: true}, "missing": {},
	}
	var names []string
	for name := range want {
		names = append(names, name)
	}
	got := boundsOf(t, with, append(names, "s")...)[0]
	for name, w := range want {
		if g := got[name]; g != w && !(name == "zero" && g.Low == 0.0 && g.High == 0.0) {
			t.Errorf("%s: %+v, want %+v", name, g, w)
		}
	}
	if s := got["s"]; s.Low != nil && (s.Low.(string) > "b" || s.High.(string) < "ä") {
		t.Errorf("s: %+v", s)
	}
	for name, g := range boundsOf(t, without, names...)[0] {
		if g.Low != nil || g.High != nil || g.AllNulls || g.NoNulls != (name == "t") {
			t.Errorf("without statistics, %s: %+v", name, g)
		}
	}
	if g := boundsOf(t, some, "i", "d")[0]; g["i"] != (dataset.Bounds{Low: int64(3), High: int64(3), NoNulls: true}) || g["d"] != (dataset.Bounds{}) {
		t.Errorf("%+v", g)
	}
	record := sequenceRecord(100, 1)
	ours := tempPath(t)
	writeFile(t, ours, record.Schema(), []arrow.Record{record}, "snappy", nil)
	own := boundsOf(t, ours, "no values int64", "NaN alone float64", "one value float32", "negative zero float64")[0]
	for name, w := range map[string]dataset.Bounds{
		"no values int64": {AllNulls: true}, "NaN alone float64": {NoNulls: true}, "one value float32": {Low: 1.5, High: 1.5, NoNulls: true},
		"negative zero float64": {Low: 0.0, High: 0.0, NoNulls: true},
	} {
		if g := own[name]; g != w {
			t.Errorf("%s: %+v, want %+v", name, g, w)
		}
	}
}
