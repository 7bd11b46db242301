package csv_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

// FuzzRead reads any bytes: the result is rows or an error, and the same for all bounds of splits and record batches.
func FuzzRead(f *testing.F) {
	for _, content := range []string{
		"a,b\n1,2\n", "a,b\r\n1,x\r\n", "\xef\xbb\xbfa\n\n1\n", "a,b\n\"x\"\"y\",\"z\n\n\"\n3,4", "a,b\n1.5,-2\n1e5,nan\n12345678901234567,0.1\n",
		"a,b\n\"x\"y,1\n", "a,b\n1,\"x", "a,b\n1\n", "a\n\"\n\"\n", "a,b\n2020-01-01,2020-01-01T00:00:00Z\n", "a,b\n\r\n1\r,2\n", "\"a\",\"b\"\n\"1\",\"2\"\n",
		"a,b,c\n1,,x\n,2,\n", "\xff\xfea\x00", "a,b\n1,\xff\n", "a,b\n1,\x00\n", "a,b\ntrue,1\nFALSE,-9223372036854775808\n",
	} {
		f.Add([]byte(content), byte(1), byte(3), byte(2), byte(1), true, true, false)
		f.Add([]byte(content), byte(9), byte(1), byte(30), byte(5), false, true, true)
		f.Add([]byte(content), byte(4), byte(2), byte(1), byte(20), true, false, true)
	}
	f.Fuzz(func(t *testing.T, content []byte, splitBytes, batchRows, batchBytes, blockBytes byte, header, quoting, short bool) {
		if len(content) > 10_000 {
			t.Skip()
		}
		options := csv.Options{Header: header}
		if quoting {
			options.Quote = '"'
		}
		if short {
			options.MaxLineBytes = 16
		}
		files := writeFiles(t, string(content))
		whole, wholeErr := readAll(t, options, files, dataset.PlanOptions{}, readOptions(1_000_000, 1<<30))
		cut, cutErr := readAll(t, options, files, dataset.PlanOptions{TargetSplitBytes: max(1, int64(splitBytes))},
			readOptions(max(1, int64(batchRows)), max(1, int64(batchBytes))), int(blockBytes))
		if text(wholeErr) != text(cutErr) {
			t.Fatalf("read at once: %v\nread in parts: %v", wholeErr, cutErr)
		}
		if wholeErr == nil {
			if !slices.Equal(whole.rows, cut.rows) {
				t.Fatalf("read at once: %q\nread in parts: %q", whole.rows, cut.rows)
			}
			if !slices.Equal(whole.where, cut.where) {
				t.Fatalf("read at once, rows are at %q\nread in parts: %q", whole.where, cut.where)
			}
			return
		}
		if !strings.Contains(wholeErr.Error(), filepath.Base(files[0].Path)) {
			t.Fatalf("error does not name the file: %v", wholeErr)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
