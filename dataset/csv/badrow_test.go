package csv_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

// TestLongBadRow meets a row whose quotes are wrong and whose line end is too far to be looked for, or does not come.
func TestLongBadRow(t *testing.T) {
	options := csv.Options{Header: true, Quote: '"', MaxLineBytes: 500}
	for _, test := range []struct {
		length int
		end    string
		want   string
	}{
		{100, "\n3,c\n", ""}, {100, "", ""}, {480, "\n3,c\n", ""}, {2000, "\n3,c\n", "a.csv:3: row is longer than 500 bytes"}, {2000, "", "a.csv:3: row is longer than 500 bytes"},
	} {
		for _, block := range []int{16, 100, 0} {
			files := writeFiles(t, "id,text\n1,a\n2,\"b\"x"+strings.Repeat("y", test.length)+test.end)
			var bad []dataset.BadRow
			read := readOptions(10, 1<<20)
			read.BadRow = func(row dataset.BadRow) error {
				bad = append(bad, row)
				return nil
			}
			got, err := readAll(t, options, files, dataset.PlanOptions{TargetSplitBytes: 1 << 20}, read, block)
			switch {
			case test.want != "":
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%d bytes, blocks of %d: got %v, want %s", test.length, block, err, test.want)
				}
			case err != nil || len(bad) != 1 || bad[0].Line != 3 || len(bad[0].Raw) != test.length+6 ||
				len(got.rows) != 1+strings.Count(test.end, "3"):
				t.Errorf("%d bytes, blocks of %d: got rows %v, bad ones %v, %v", test.length, block, got.rows, fmt.Sprint(bad), err)
			}
		}
	}
}
