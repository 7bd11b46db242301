package hive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/hive"
)

// tree makes files by their paths.
func tree(t *testing.T, contents ...string) []dataset.File {
	t.Helper()
	dir := t.TempDir()
	var files []dataset.File
	for i := 0; i < len(contents); i += 2 {
		path := filepath.Join(dir, contents[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(contents[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano(), Partitions: hive.Partitions(contents[i])})
	}
	return files
}

func read(t *testing.T, files []dataset.File, options dataset.ReadOptions) (rows, where []string, err error) {
	t.Helper()
	return readDeclared(t, files, options, nil, nil)
}

func readDeclared(t *testing.T, files []dataset.File, options dataset.ReadOptions, declared, wanted map[string]arrow.DataType) (rows, where []string, err error) {
	t.Helper()
	source := hive.New(declared, func(without []string) (dataset.Source, error) {
		o := csv.Options{Header: true, Quote: '"'}
		for name, typ := range declared {
			if !slices.Contains(without, name) {
				o.Columns = append(o.Columns, csv.Column{Name: name, Type: typ})
			}
		}
		return csv.New(o)
	})
	layout, err := source.Plan(context.Background(), files, dataset.PlanOptions{WantedTypes: wanted})
	if err != nil {
		return nil, nil, err
	}
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options.Schema, options.Allocator = layout.Schema, allocator
	for _, split := range layout.Splits {
		r, err := source.Open(context.Background(), split, options)
		if err != nil {
			return nil, nil, err
		}
		for {
			record, err := r.Read(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if record.NumRows() > 1 && dataset.BatchSizeBytes(record) > options.BatchBytes {
				t.Errorf("%d rows of %d bytes", record.NumRows(), dataset.BatchSizeBytes(record))
			}
			for i := range int(record.NumRows()) {
				var values []string
				for j, c := range record.Columns() {
					values = append(values, fmt.Sprintf("%s:%s=%s", record.ColumnName(j), dataset.TypeName(c.DataType()), c.ValueStr(i)))
				}
				rows = append(rows, strings.Join(values, " "))
				where = append(where, filepath.Base(r.Where(int64(i))))
			}
			record.Release()
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return rows, where, nil
}

func TestRead(t *testing.T) {
	files := tree(t,
		"year=2025/place=Z%C3%BCrich%2FHB/a.csv", "x\n1\n2\n3\n",
		"year=2026/more/place=__HIVE_DEFAULT_PARTITION__/b.csv", "x\n4\n",
		"year=__HIVE_DEFAULT_PARTITION__/place=7/c.csv", "x\n5\n")
	for _, bytes := range []int64{1, 50, 1 << 20} {
		rows, where, err := read(t, files, dataset.ReadOptions{BatchRows: 2, BatchBytes: bytes})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"x:int64=1 year:int64=2025 place:string=Zürich/HB", "x:int64=2 year:int64=2025 place:string=Zürich/HB", "x:int64=3 year:int64=2025 place:string=Zürich/HB",
			"x:int64=4 year:int64=2026 place:string=(null)", "x:int64=5 year:int64=(null) place:string=7",
		}
		if fmt.Sprint(rows) != fmt.Sprint(want) {
			t.Errorf("rows are %q, want %q", rows, want)
		}
		if want := "[a.csv:2 a.csv:3 a.csv:4 b.csv:2 c.csv:2]"; fmt.Sprint(where) != want {
			t.Errorf("rows are from %v, want %s", where, want)
		}
	}
	rows, _, err := read(t, files, dataset.ReadOptions{BatchRows: 2, BatchBytes: 1 << 20, Columns: []int{1}})
	if want := "[" + strings.Repeat("year:int64=2025 ", 3) + "year:int64=2026 year:int64=(null)]"; err != nil || fmt.Sprint(rows) != want {
		t.Errorf("rows are %v, %v; want %s", rows, err, want)
	}
	rows, _, err = read(t, tree(t, "plain/a.csv", "x\n1\n"), dataset.ReadOptions{BatchRows: 2, BatchBytes: 1 << 20})
	if err != nil || fmt.Sprint(rows) != "[x:int64=1]" {
		t.Errorf("without partitions: %v, %v", rows, err)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		files []string
		want  string
	}{
		{[]string{"a=1/x.csv", "x\n1\n", "b=1/x.csv", "x\n1\n"}, `b=1/x.csv: its folders give the columns ["b"], those of `},
		{[]string{"a=1/x.csv", "x\n1\n", "x.csv", "x\n1\n"}, `x.csv: its folders give the columns none, those of `},
		{[]string{"a=1/a=2/x.csv", "x\n1\n"}, `two folders around it give the column "a"`},
		{[]string{"x=1/x.csv", "x\n1\n"}, `column "x" is in the files and in the names of their folders`},
		{[]string{"a=%zz/x.csv", "x\n1\n"}, `the folder "a=%zz" holds a % that is no percent-encoding`},
		{[]string{"a=%ff/x.csv", "x\n1\n"}, `the folder "a=%ff" is not UTF-8`},
	} {
		_, _, err := read(t, tree(t, test.files...), dataset.ReadOptions{BatchRows: 1, BatchBytes: 1})
		if engine.KindOf(err) != engine.KindData || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestTypes(t *testing.T) {
	types := map[string]arrow.DataType{}
	for _, name := range []string{"bool", "int32", "int64", "float32", "float64", "string", "date", "timestamp"} {
		typ, err := dataset.ParseType(name)
		if err != nil {
			t.Fatal(err)
		}
		types[name] = typ
	}
	options := dataset.ReadOptions{BatchRows: 2, BatchBytes: 1 << 20}
	for _, test := range []struct{ typ, value, want string }{
		{"bool", "true", "bool=true"}, {"int32", "-7", "int32=-7"}, {"int64", "07", "int64=7"}, {"float32", "2", "float32=2"}, {"float64", "1e3", "float64=1000"},
		{"string", "007", "string=007"}, {"date", "2026-01-31", "date=2026-01-31"}, {"timestamp", "2026-01-31 01%3A02%3A03", "timestamp=2026-01-31 01:02:03Z"},
		{"int32", "__HIVE_DEFAULT_PARTITION__", "int32=(null)"},
	} {
		declared := map[string]arrow.DataType{"p": types[test.typ], "x": types["string"]}
		rows, _, err := readDeclared(t, tree(t, "p="+test.value+"/a.csv", "x\n1\n"), options, declared, nil)
		if want := "[x:string=1 p:" + test.want + "]"; err != nil || fmt.Sprint(rows) != want {
			t.Errorf("rows are %v, %v; want %s", rows, err, want)
		}
	}
	for _, test := range []struct{ typ, value string }{
		{"bool", "yes"}, {"int32", "3000000000"}, {"int64", "1.5"}, {"float64", ""}, {"date", "2026-02-30"}, {"timestamp", "now"},
	} {
		_, _, err := readDeclared(t, tree(t, "p="+test.value+"/a.csv", "x\n1\n"), options, map[string]arrow.DataType{"p": types[test.typ]}, nil)
		want := fmt.Sprintf(`its folder gives the column "p", which is declared as %s, the value %q`, test.typ, test.value)
		if engine.KindOf(err) != engine.KindData || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// What later steps want is tried.
	files := tree(t, "p=1/a.csv", "x\n1\n", "p=2/a.csv", "x\n2\n")
	for typ, want := range map[string]string{
		"float32": "[x:int64=1 p:float32=1 x:int64=2 p:float32=2]", "date": "[x:int64=1 p:int64=1 x:int64=2 p:int64=2]",
	} {
		if rows, _, err := readDeclared(t, files, options, nil, map[string]arrow.DataType{"p": types[typ]}); err != nil || fmt.Sprint(rows) != want {
			t.Errorf("rows are %v, %v; want %s", rows, err, want)
		}
	}
}
