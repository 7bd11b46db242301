package json_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/json"
)

// writeFiles makes files of the names a.json, b.json, and so on.
func writeFiles(t testing.TB, contents ...string) []dataset.File {
	t.Helper()
	folder := t.TempDir()
	files := make([]dataset.File, len(contents))
	for i, content := range contents {
		files[i] = writeFile(t, filepath.Join(folder, string(rune('a'+i))+".json"), []byte(content))
	}
	return files
}

func writeFile(t testing.TB, path string, content []byte) dataset.File {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}

// how is how a test reads.
type how struct {
	options             json.Options
	wanted              map[string]arrow.DataType
	target, rows, bytes int64
	block, sample       int
	columns             []int
}

// table is all that a source has read: rows have values as text, texts in quotes.
type table struct {
	schema *arrow.Schema
	splits []dataset.Split
	rows   []string
	where  []string
	sizes  []int64
	read   int64
	// numbered is how many rows of each file have had the right number.
	numbered map[dataset.File]int64
}

func readAll(t testing.TB, h how, files []dataset.File) (table, error) {
	t.Helper()
	source, err := json.New(h.options)
	if err != nil {
		t.Fatal(err)
	}
	if h.block > 0 {
		source.SetBlockBytes(h.block)
	}
	if h.sample > 0 {
		source.SetSampleBytes(h.sample)
	}
	layout, err := source.Plan(context.Background(), files, dataset.PlanOptions{TargetSplitBytes: h.target, WantedTypes: h.wanted})
	if err != nil {
		return table{}, err
	}
	all := table{schema: layout.Schema, splits: layout.Splits}
	for _, split := range layout.Splits {
		if err := all.readSplit(t, source, split, h); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (all *table) readSplit(t testing.TB, source *json.Source, split dataset.Split, h how) (err error) {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options := dataset.ReadOptions{Schema: all.schema, Columns: h.columns, BatchRows: h.rows, BatchBytes: h.bytes, Allocator: allocator}
	if options.BatchRows == 0 {
		options.BatchRows = 1000
	}
	if options.BatchBytes == 0 {
		options.BatchBytes = 1 << 20
	}
	r, err := source.Open(context.Background(), split, options)
	if err != nil {
		return err
	}
	defer func() {
		all.read += r.BytesRead()
		if closeErr := r.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	}()
	for {
		record, err := r.Read(context.Background())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if record.NumRows() > options.BatchRows || record.NumRows() > 1 && dataset.BatchSizeBytes(record) > options.BatchBytes {
			t.Errorf("a record batch of %d rows and %d bytes", record.NumRows(), dataset.BatchSizeBytes(record))
		}
		at := r.(dataset.Marker).Mark()
		for i := range int(record.NumRows()) {
			if all.numbered == nil {
				all.numbered = map[dataset.File]int64{}
			}
			all.numbered[split.File]++
			if info := at.Locate(int64(i)); info.Row != all.numbered[split.File] {
				t.Errorf("line %d: row %d, want %d", info.Line, info.Row, all.numbered[split.File])
			}
			var values []string
			for _, c := range record.Columns() {
				v := c.ValueStr(i)
				switch {
				case c.IsNull(i):
					v = "null"
				case c.DataType().ID() == arrow.STRING:
					v = `"` + c.(*array.String).Value(i) + `"`
				}
				values = append(values, v)
			}
			all.rows = append(all.rows, strings.Join(values, " "))
			all.where = append(all.where, r.Where(int64(i)))
		}
		all.sizes = append(all.sizes, record.NumRows())
		record.Release()
	}
}
