package testcluster_test

import (
	"bytes"
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
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/onnx"
)

var outputTypes = []engine.ElementType{
	engine.Float32, engine.Float64, engine.Int8, engine.Int16, engine.Int32, engine.Int64, engine.Uint8, engine.Uint16, engine.Uint32,
	engine.Uint64, engine.Bool, engine.String,
}

// withRuntimes runs a test on runtime/fake and, where it is installed, on ONNX Runtime.
func withRuntimes(t *testing.T, test func(*testing.T, func() runtime.Loader)) {
	t.Run("fake", func(t *testing.T) { test(t, nil) })
	t.Run("onnx", func(t *testing.T) {
		library := testenv.ONNXRuntime(t)
		test(t, func() runtime.Loader {
			loader, err := onnx.New(onnx.Config{Library: library})
			if err != nil {
				t.Error(err)
				return fake.New()
			}
			return loader
		})
	})
}

// scoreJob writes a table of rows 0;1;2, 3;4;5, and so on modulo 100, and a model that takes the first of its columns. It returns the
// job that applies one to the other.
func scoreJob(t *testing.T, rows int, model []byte, columns ...string) (string, *enginev1.JobSpec) {
	t.Helper()
	dir := t.TempDir()
	var table bytes.Buffer
	table.WriteString("a;b;c\n")
	for i := range rows {
		fmt.Fprintf(&table, "%d;%d;%d\n", 3*i%100, (3*i+1)%100, (3*i+2)%100)
	}
	for name, content := range map[string][]byte{"in.csv": table.Bytes(), "model.onnx": model} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "out"), &enginev1.JobSpec{
		Name:   "outputs",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(dir, "in.csv")}, Delimiter: ";"}}},
		Batch:  &enginev1.Batch{Rows: 100},
		Steps:  []*enginev1.Step{{Kind: &enginev1.Step_Infer{Infer: &enginev1.InferStep{Model: filepath.Join(dir, "model.onnx"), Inputs: columns}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(dir, "out")}}},
	}
}

// readOutput reads the files of an output folder.
func readOutput(t *testing.T, folder string) []arrow.Record {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, "part-*.parquet"))
	if err != nil || len(parts) == 0 {
		t.Fatalf("no output: %v", err)
	}
	var files []dataset.File
	for _, part := range parts {
		info, err := os.Stat(part)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, dataset.File{Path: part, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()})
	}
	layout, err := parquet.NewSource().Plan(t.Context(), files, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var records []arrow.Record
	for _, split := range layout.Splits {
		r, err := parquet.NewSource().Open(t.Context(), split, dataset.ReadOptions{
			Schema: layout.Schema, BatchRows: 1000, BatchBytes: 1 << 30, Allocator: memory.DefaultAllocator,
		})
		if err != nil {
			t.Fatal(err)
		}
		for {
			record, err := r.Read(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, record)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// TestOutputsOfEveryType scores a table with a model that has an output of three columns for each type, and reads all of them back.
func TestOutputsOfEveryType(t *testing.T) {
	withRuntimes(t, func(t *testing.T, models func() runtime.Loader) {
		const rows = 1000
		c := testcluster.Start(t, testcluster.Options{Workers: 2, Models: models, TargetSplitBytes: 3000})
		out, spec := scoreJob(t, rows, enginetest.CastsModel(3, outputTypes...), "a", "b", "c")
		wait(t, submit(t, c, spec), engine.JobSucceeded)
		next := 0
		for _, record := range readOutput(t, out) {
			for row := range int(record.NumRows()) {
				for i, typ := range outputTypes {
					field, column := record.Schema().Field(3+i), record.Column(3+i).(*array.FixedSizeList)
					list := field.Type.(*arrow.FixedSizeListType)
					if field.Name != "out:"+typ.String() || field.Nullable || list.Len() != 3 || list.ElemField().Nullable {
						t.Fatalf("column %d is %v", i, field)
					}
					from, _ := column.ValueOffsets(row)
					for j := range 3 {
						want := fmt.Sprint((3*next + j) % 100)
						if typ == engine.Bool {
							want = fmt.Sprint(want != "0")
						}
						if got := column.ListValues().ValueStr(int(from) + j); got != want {
							t.Fatalf("%s of row %d: element %d is %s, want %s", typ, next, j, got, want)
						}
					}
				}
				next++
			}
		}
		if next != rows {
			t.Errorf("%d rows, want %d", next, rows)
		}
	})
}

// TestScalarOutputs submits models whose output has no rows: one that says so is refused, another fails its job. The cluster goes on.
func TestScalarOutputs(t *testing.T) {
	withRuntimes(t, func(t *testing.T, models func() runtime.Loader) {
		c := testcluster.Start(t, testcluster.Options{Workers: 1, Models: models})
		for _, test := range []struct {
			declared []int64
			want     string
		}{
			{[]int64{}, `output "variable" has shape [], which no column can hold: the first dimension must be the rows`},
			{nil, "the model returned variable: double[], a scalar; expected the rows as its first dimension"},
			{[]int64{-1}, "the model returned variable: double[], a scalar; expected the rows as its first dimension"},
		} {
			_, spec := scoreJob(t, 10, enginetest.ScalarModel(engine.Float64, test.declared), "a", "b")
			result := wait(t, submit(t, c, spec), engine.JobFailed)
			if engine.KindOf(result.Err) != engine.KindModel || !strings.Contains(fmt.Sprint(result.Err), test.want) {
				t.Errorf("declared shape %v: got %v, want %s", test.declared, result.Err, test.want)
			}
		}
		out, spec := scoreJob(t, 10, enginetest.SeveralModel(engine.Float32), "a", "b")
		spec.Steps[0].GetInfer().Outputs = map[string]string{"pair": "pair", "sum": "sum", "flat": "flat"}
		wait(t, submit(t, c, spec), engine.JobSucceeded)
		if got := readOutput(t, out)[0].Column(4).ValueStr(1); !strings.Contains(got, "6") || !strings.Contains(got, "8") {
			t.Errorf("pair of row 1 is %s, want 6 and 8", got)
		}
	})
}
