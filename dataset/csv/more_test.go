package csv_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

// TestValues reads single values as declared types.
func TestValues(t *testing.T) {
	for _, test := range []struct {
		kind      string
		good, bad []string
	}{
		{"bool", []string{"0", "1", "true", "FALSE", " True\t"}, []string{"2", "t", "yes", "tRUE", "truefalse"}},
		{"int32", []string{"0", "-1", "+2147483647", "-2147483648", "0000000000000000000000000000001"}, []string{"1.0", "1e3", "2147483648", "99999999999999999999", "1 2", "- 1", "１"}},
		{"date", []string{"2024-02-29", "2000-02-29"}, []string{"1900-02-29", "2023-13-01", "2023-00-01", "2023-01-00", "2023-01-32", "2023-04-31", "0000-01-01", "2023-1-01", "2023/01/01", "20230101", "2023-01-0x", "-023-01-01"}},
		{"timestamp", []string{"2024-02-29", "2024-02-29T23:59:59Z", "2024-02-29 00:00:00.1+14:00"}, []string{
			"2024-02-30T00:00:00", "2024-02-29T", "2024-02-29T1:00:00", "2024-02-29T00:60:00", "2024-02-29T00:00:60", "2024-02-29T00:00", "2024-02-29x00:00:00", "2024-02-29T00:00:00.", "2024-02-29T00:00:00z",
			"2024-02-29T00:00:00+1:00", "2024-02-29T00:00:00+24:00", "2024-02-29T00:00:00+01:60", "2024-02-29T00:00:00 +01:00", "2024-02", "2024-02-29T0x:00:00",
		}},
	} {
		dataType, err := dataset.ParseType(test.kind)
		if err != nil {
			t.Fatal(err)
		}
		for i, value := range append(test.good, test.bad...) {
			_, err := readAll(t, with("a", dataType), writeFiles(t, "a,b\n"+value+",1\n"), dataset.PlanOptions{}, readOptions(1, 1))
			switch {
			case i < len(test.good) && err != nil:
				t.Error(err)
			case i >= len(test.good) && (err == nil || !strings.Contains(err.Error(), "expected "+test.kind+", found "+strconv.Quote(value))):
				t.Errorf("%s %q: error is %v", test.kind, value, err)
			}
		}
	}
}

// TestSkippedColumns: what is not read is not checked, but for the number of fields.
func TestSkippedColumns(t *testing.T) {
	files := writeFiles(t, "a,b,c\nx\x00\xff,1,\"y\"\nz,w,1\n")
	options := readOptions(10, 1000)
	options.Columns = []int{2}
	declared := with("a", int64Type, "b", int64Type)
	if _, err := readAll(t, declared, files, dataset.PlanOptions{}, options); err != nil {
		t.Error(err)
	}
	options.Columns = []int{1}
	_, err := readAll(t, declared, files, dataset.PlanOptions{}, options)
	checkError(t, err, engine.KindData, files, `read csv: a.csv:3: column "b": expected int64, found "w" (row 2, byte 16)`)
	options.Columns = []int{1, 1}
	_, err = readAll(t, declared, files, dataset.PlanOptions{}, options)
	checkError(t, err, engine.KindInvalidArgument, files, `read csv: a.csv: columns [1 1] are not ascending places in 3 columns`)
}

func TestWhereAfterClose(t *testing.T) {
	files := writeFiles(t, "a\n1\n2\n3\n")
	source, err := csv.New(usual)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := source.Open(t.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 10, BatchBytes: 100, Allocator: memory.NewGoAllocator()})
	if err != nil {
		t.Fatal(err)
	}
	record, err := reader.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record.Release()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []int64{2, 0, 1, 3, -1} {
		want := "a.csv"
		if row >= 0 && row < 3 {
			want = fmt.Sprintf("a.csv:%d", row+2)
		}
		if got := filepath.Base(reader.Where(row)); got != want {
			t.Errorf("row %d is at %s, want %s", row, got, want)
		}
	}
	if reader.BytesRead() != 6 {
		t.Errorf("%d bytes read", reader.BytesRead())
	}
}

// TestLongRows reads rows that are longer than blocks, with and without quotes, and texts that grow a column.
func TestLongRows(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	var content, want strings.Builder
	content.WriteString("a,b\n")
	for i := range 30 {
		size := random.IntN(1_500_000)
		text := strings.Repeat("x", size)
		if i%2 == 0 {
			text = strings.Repeat("y\n", size/2)
		}
		fmt.Fprintf(&content, "%d,%q\n", i, "TEXT")
		content.WriteString(fmt.Sprintf("%d,\"", i) + text + "\"\n")
		fmt.Fprintf(&want, "%d \"TEXT\"\n%d %q\n", i, i, text)
	}
	files := writeFiles(t, content.String())
	for _, splitBytes := range []int64{0, 100_000, 5_000_000} {
		got, err := readAll(t, usual, files, dataset.PlanOptions{TargetSplitBytes: splitBytes}, readOptions(7, 3_000_000))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(got.rows, "\n")+"\n" != want.String() {
			t.Errorf("splits of %d bytes: other rows", splitBytes)
		}
	}
}
