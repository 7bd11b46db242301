package union_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/ipc"
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/dataset/union"
)

var types = map[string]arrow.DataType{
	"int32": arrow.PrimitiveTypes.Int32, "int64": arrow.PrimitiveTypes.Int64, "float32": arrow.PrimitiveTypes.Float32,
	"float64": arrow.PrimitiveTypes.Float64, "string": arrow.BinaryTypes.String, "bool": arrow.FixedWidthTypes.Boolean,
}

// columns makes fields of "name: type", or "name: type?" if there may be nulls.
func columns(text string) (fields []arrow.Field) {
	for c := range strings.SplitSeq(text, ", ") {
		name, typ, _ := strings.Cut(c, ": ")
		typ, nullable := strings.CutSuffix(typ, "?")
		fields = append(fields, arrow.Field{Name: name, Type: types[typ], Nullable: nullable})
	}
	return fields
}

func describe(fields []arrow.Field) string {
	var parts []string
	for _, f := range fields {
		mark := ""
		if f.Nullable {
			mark = "?"
		}
		parts = append(parts, fmt.Sprintf("%s: %s%s", f.Name, dataset.TypeName(f.Type), mark))
	}
	return strings.Join(parts, ", ")
}

func TestMerge(t *testing.T) {
	for _, test := range []struct{ fields, own, want, wrong string }{
		{"a: int32, b: string", "b: string, a: int32", "a: int32, b: string", ""},
		{"a: int32, b: string", "c: bool, a: int64?", "a: int64?, b: string?, c: bool?", ""},
		{"a: int64", "a: int32", "a: int64", ""},
		{"a: int64", "a: float32", "a: float64", ""},
		{"a: float32", "a: float64", "a: float64", ""},
		{"a: float32", "a: int32", "a: float64", ""},
		{"a: int32, b: bool", "a: string, b: int32, c: bool", "", `column "a" is string instead of int32; column "b" is int32 instead of bool`},
	} {
		fields := columns(test.fields)
		merged, wrong := union.Merge(fields, columns(test.own), nil)
		if wrong != test.wrong || wrong == "" && describe(merged) != test.want || describe(fields) != test.fields {
			t.Errorf("%s and %s: %s, %q", test.fields, test.own, describe(merged), wrong)
		}
	}
}

// source is a source and its sink, by the formats that use this package.
var formats = map[string]struct {
	source func(union bool) dataset.Source
	sink   func() (dataset.Sink, error)
}{
	"parquet": {
		func(union bool) dataset.Source { return &parquet.Source{Union: union} },
		func() (dataset.Sink, error) { return parquet.NewSink(parquet.SinkOptions{}) },
	},
	"arrow": {
		func(union bool) dataset.Source { return &ipc.Source{Union: union} },
		func() (dataset.Sink, error) { return ipc.NewSink(ipc.SinkOptions{}) },
	},
}

// save writes a table in JSON, one object a row.
func save(t *testing.T, sink dataset.Sink, path, fields, rows string) dataset.File {
	t.Helper()
	schema := arrow.NewSchema(columns(fields), nil)
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+rows+"]"))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Release()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Create(file, schema, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(t.Context(), record), w.Finish(nil), w.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}

// read returns the rows of a source, and checks the record batches.
func read(t *testing.T, source dataset.Source, files []dataset.File, places []int, batchBytes int64) (rows []string, schema *arrow.Schema, err error) {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer allocator.AssertSize(t, 0)
	layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{})
	if err != nil {
		return nil, nil, err
	}
	options := dataset.ReadOptions{Schema: layout.Schema, Columns: places, BatchRows: 2, BatchBytes: batchBytes, Allocator: allocator}
	for _, split := range layout.Splits {
		more, err := readSplit(t, source, split, options)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, more...)
	}
	return rows, layout.Schema, nil
}

func readSplit(t *testing.T, source dataset.Source, split dataset.Split, options dataset.ReadOptions) (rows []string, err error) {
	t.Helper()
	r, err := source.Open(t.Context(), split, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		record, err := r.Read(t.Context())
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if n := record.NumRows(); n < 1 || n > 2 || n > 1 && dataset.BatchSizeBytes(record) > options.BatchBytes {
			t.Errorf("a record batch of %d rows and %d bytes", n, dataset.BatchSizeBytes(record))
		}
		for i := range int(record.NumRows()) {
			if want := fmt.Sprintf("%s row %d", split.File.Path, len(rows)+1); r.Where(int64(i)) != want {
				t.Errorf("%s, want %s", r.Where(int64(i)), want)
			}
			if at := r.(dataset.Marker).Mark().Locate(int64(i)); at.Path != split.File.Path || at.Row != int64(len(rows))+1 {
				t.Errorf("found %+v, want row %d", at, len(rows)+1)
			}
			var values []string
			for c, column := range record.Columns() {
				if options.Columns == nil && !arrow.TypeEqual(column.DataType(), options.Schema.Field(c).Type) {
					t.Errorf("column %d is %s", c, column.DataType())
				}
				values = append(values, column.ValueStr(i))
			}
			rows = append(rows, strings.Join(values, " "))
		}
		record.Release()
	}
}

func TestRead(t *testing.T) {
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			sink, err := format.sink()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := func(i int, fields, rows string) dataset.File {
				return save(t, sink, filepath.Join(dir, fmt.Sprint(i)+sink.Extension()), fields, rows)
			}
			files := []dataset.File{
				file(0, "id: int32, x: int64?", `{"id":1,"x":2},{"id":2,"x":null},{"id":3,"x":9007199254740994}`),
				file(1, "x: float32, id: int64, s: string?", `{"x":1.5,"id":4,"s":"a"},{"x":2.5,"id":5,"s":null}`),
				file(2, "s: string, id: int32", `{"s":"b","id":6}`),
				file(3, "z: bool", `{"z":true},{"z":false},{"z":true}`),
			}
			rows, schema, err := read(t, format.source(true), files, nil, 60)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := describe(schema.Fields()), "id: int64?, x: float64?, s: string?, z: bool?"; got != want {
				t.Errorf("schema %s, want %s", got, want)
			}
			want := []string{
				"1 2 (null) (null)", "2 (null) (null) (null)", "3 9.007199254740994e+15 (null) (null)", "4 1.5 a (null)", "5 2.5 (null) (null)", "6 (null) b (null)",
				"(null) (null) (null) true", "(null) (null) (null) false", "(null) (null) (null) true",
			}
			if !slices.Equal(rows, want) {
				t.Errorf("got  %q\nwant %q", rows, want)
			}
			rows, _, err = read(t, format.source(true), files, []int{2}, 1)
			if want := []string{"(null)", "(null)", "(null)", "a", "(null)", "b", "(null)", "(null)", "(null)"}; err != nil || !slices.Equal(rows, want) {
				t.Errorf("got %q, %v", rows, err)
			}
			fails := func(union bool, files []dataset.File, says string) {
				t.Helper()
				_, _, err := read(t, format.source(union), files, nil, 1000)
				if engine.KindOf(err) != engine.KindData || !strings.Contains(err.Error(), says) {
					t.Errorf("%v: %v", engine.KindOf(err), err)
				}
			}
			fails(false, files, fmt.Sprintf("source.%s.union: true reads files of different columns", name))
			fails(true, append(files, file(4, "id: string", `{"id":"x"}`)), `do not go together with those of the files before it, such as `)
			fails(true, []dataset.File{files[1], file(5, "x: int64", `{"x":1},{"x":"9007199254740993"}`)}, fmt.Sprintf(`5%s row 2: column "x": 9007199254740993 is no exact float64`, sink.Extension()))
		})
	}
}
