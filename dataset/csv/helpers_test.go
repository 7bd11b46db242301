package csv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

var (
	boolType      = arrow.FixedWidthTypes.Boolean
	int32Type     = arrow.PrimitiveTypes.Int32
	int64Type     = arrow.PrimitiveTypes.Int64
	float32Type   = arrow.PrimitiveTypes.Float32
	float64Type   = arrow.PrimitiveTypes.Float64
	textType      = arrow.BinaryTypes.String
	dateType      = arrow.FixedWidthTypes.Date32
	timestampType = &arrow.TimestampType{Unit: arrow.Microsecond}
)

// usual is the dialect of a job file that says nothing.
var usual = csv.Options{Header: true, Quote: '"'}

// with returns the usual options with declared columns, as pairs of name and type.
func with(columns ...any) csv.Options {
	options := usual
	for i := 0; i < len(columns); i += 2 {
		c := csv.Column{Name: columns[i].(string)}
		if t, ok := columns[i+1].(arrow.DataType); ok {
			c.Type = t
		}
		options.Columns = append(options.Columns, c)
	}
	return options
}

// writeFiles makes files of the names a.csv, b.csv, and so on.
func writeFiles(t testing.TB, contents ...string) []dataset.File {
	t.Helper()
	folder := t.TempDir()
	files := make([]dataset.File, len(contents))
	for i, content := range contents {
		path := filepath.Join(folder, string(rune('a'+i))+".csv")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		files[i] = fileInfo(t, path)
	}
	return files
}

// table is all that a source has read.
type table struct {
	schema *arrow.Schema
	splits []dataset.Split
	// rows are values as text, joined; texts are in quotes and nulls are "null".
	rows []string
	// where is what Reader.Where said of each row, and batches the number of rows of each record batch, by split.
	where   []string
	batches [][]int64
	read    int64
	// numbered are the rows of each file of which the number was right.
	numbered map[dataset.File]int64
}

// checkNumbers wants the rows of a record batch to have the next numbers.
func (all *table) checkNumbers(t testing.TB, reader dataset.Reader, file dataset.File, rows int64) {
	t.Helper()
	if all.numbered == nil {
		all.numbered = map[dataset.File]int64{}
	}
	at := reader.(dataset.Marker).Mark()
	for row := range rows {
		all.numbered[file]++
		if info := at.Locate(row); info.Row != all.numbered[file] {
			t.Errorf("%s:%d: row %d, want %d", filepath.Base(file.Path), info.Line, info.Row, all.numbered[file])
			return
		}
	}
}

// readOptions has defaults for what a test does not care for.
func readOptions(rows, bytes int64) dataset.ReadOptions {
	return dataset.ReadOptions{BatchRows: rows, BatchBytes: bytes}
}

// readAll plans and reads files, perhaps in blocks of another size. What has been read before an error is in the table.
func readAll(t testing.TB, options csv.Options, files []dataset.File, plan dataset.PlanOptions, read dataset.ReadOptions, blockBytes ...int) (table, error) {
	t.Helper()
	source, err := csv.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if len(blockBytes) > 0 && blockBytes[0] > 0 {
		source.SetBlockBytes(blockBytes[0])
	}
	layout, err := source.Plan(context.Background(), files, plan)
	if err != nil {
		return table{}, err
	}
	all := table{schema: layout.Schema, splits: layout.Splits}
	checkSplits(t, files, layout.Splits)
	read.Schema = layout.Schema
	for _, split := range layout.Splits {
		if err := all.readSplit(t, source, split, read); err != nil {
			return all, err
		}
	}
	return all, nil
}

func checkSplits(t testing.TB, files []dataset.File, splits []dataset.Split) {
	t.Helper()
	i := 0
	for _, file := range files {
		for offset := int64(0); offset < file.SizeBytes; i++ {
			if i >= len(splits) || splits[i].File != file || splits[i].StartOffsetBytes != offset || splits[i].EndOffsetBytes <= offset {
				t.Fatalf("splits %+v do not cover %+v", splits, files)
			}
			offset = splits[i].EndOffsetBytes
		}
	}
	if i != len(splits) {
		t.Fatalf("splits %+v are more than %+v", splits, files)
	}
}

func (all *table) readSplit(t testing.TB, source *csv.Source, split dataset.Split, options dataset.ReadOptions) (err error) {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options.Allocator = allocator
	reader, err := source.Open(context.Background(), split, options)
	if err != nil {
		return err
	}
	defer func() {
		all.read += reader.BytesRead()
		if closed := reader.Close(); closed != nil {
			t.Error(closed)
		}
		if closed := reader.Close(); closed != nil {
			t.Error(closed)
		}
	}()
	var batches []int64
	for {
		record, err := reader.Read(context.Background())
		if err != nil {
			all.batches = append(all.batches, batches)
			if again, err2 := reader.Read(context.Background()); again != nil || !errors.Is(err2, err) {
				t.Errorf("after %v, Read returned %v, %v", err, again, err2)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		batches = append(batches, record.NumRows())
		all.rows = append(all.rows, rowsOf(record)...)
		for row := range record.NumRows() {
			all.where = append(all.where, filepath.Base(reader.Where(row)))
		}
		if options.BadRow == nil {
			all.checkNumbers(t, reader, split.File, record.NumRows())
		}
		if record.NumRows() > options.BatchRows || record.NumRows() > 1 && dataset.BatchSizeBytes(record) > options.BatchBytes {
			t.Errorf("record batch of %d rows and %d bytes for %d and %d", record.NumRows(), dataset.BatchSizeBytes(record), options.BatchRows, options.BatchBytes)
		}
		record.Release()
	}
}

func rowsOf(record arrow.Record) []string {
	rows := make([]string, record.NumRows())
	for i := range rows {
		values := make([]string, record.NumCols())
		for j, column := range record.Columns() {
			values[j] = valueOf(column, i)
		}
		rows[i] = strings.Join(values, " ")
	}
	return rows
}

func valueOf(column arrow.Array, row int) string {
	if column.IsNull(row) {
		return "null"
	}
	switch c := column.(type) {
	case *array.String:
		return fmt.Sprintf("%q", c.Value(row))
	case *array.Timestamp:
		return c.Value(row).ToTime(arrow.Microsecond).Format("2006-01-02T15:04:05.999999")
	}
	return column.ValueStr(row)
}

// checkError compares an error's text, in which DIR stands for the folder of the files.
func checkError(t testing.TB, err error, kind engine.Kind, files []dataset.File, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", want)
	}
	got := err.Error()
	if len(files) > 0 {
		got = strings.ReplaceAll(got, filepath.Dir(files[0].Path)+"/", "")
	}
	if got != want {
		t.Errorf("error is\n     %s\nwant %s", got, want)
	}
	var e *engine.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("kind of %v is %v, want %v", err, engine.KindOf(err), kind)
	}
}
