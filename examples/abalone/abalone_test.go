package abalone_test

import (
	"context"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
)

var measurements = []string{"length", "diameter", "height", "whole_weight", "shucked_weight", "viscera_weight", "shell_weight"}

// run runs a job file of this folder with other paths.
func run(t *testing.T, c *testcluster.Cluster, name string, sets ...string) {
	t.Helper()
	spec, err := jobfile.Load(name, jobfile.Options{Sets: sets})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	job, err := c.Client().Submit(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	result, err := job.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if result.State != engine.JobSucceeded {
		t.Fatal(result.Err)
	}
}

// read returns the columns of a folder of Parquet files, by name.
func read(t *testing.T, folder string, files int) map[string][]float64 {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, "part-*.parquet"))
	if err != nil || len(parts) != files {
		t.Fatalf("%s holds %d files, expected %d: %v", folder, len(parts), files, err)
	}
	columns := map[string][]float64{}
	for _, part := range parts {
		reader, err := file.OpenParquetFile(part, false)
		if err != nil {
			t.Fatal(err)
		}
		arrowReader, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		table, err := arrowReader.ReadTable(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(table.NumCols()) {
			name := table.Schema().Field(i).Name
			for _, chunk := range table.Column(i).Data().Chunks() {
				columns[name] = append(columns[name], numbers(t, chunk)...)
			}
		}
		table.Release()
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return columns
}

func numbers(t *testing.T, a arrow.Array) []float64 {
	t.Helper()
	values := make([]float64, a.Len())
	for i := range values {
		switch a := a.(type) {
		case *array.Float64:
			values[i] = a.Value(i)
		case *array.Int64:
			values[i] = float64(a.Value(i))
		case *array.Int32:
			values[i] = float64(a.Value(i))
		default:
			t.Fatalf("a column of type %s", a.DataType())
		}
	}
	return values
}

// TestAbalone compares the sets with a plain calculation over the whole table.
func TestAbalone(t *testing.T) {
	path := testenv.Shared(t, "abalone.csv")
	input, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	rows, err := csv.NewReader(input).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]float64{}
	for i, name := range rows[0] {
		for _, row := range rows[1:] {
			if name == "sex" {
				for _, sex := range []string{"F", "I", "M"} {
					table["sex_"+sex] = append(table["sex_"+sex], map[bool]float64{true: 1}[row[i] == sex])
				}
				continue
			}
			value, err := strconv.ParseFloat(row[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			table[name] = append(table[name], value)
		}
	}
	moments := map[string][2]float64{}
	for _, name := range measurements {
		var sum, squares float64
		for _, v := range table[name] {
			sum += v
		}
		mean := sum / float64(len(table[name]))
		for _, v := range table[name] {
			squares += (v - mean) * (v - mean)
		}
		moments[name] = [2]float64{mean, math.Sqrt(squares / float64(len(table[name])))}
	}

	out := t.TempDir()
	c := testcluster.Start(t, testcluster.Options{Workers: 2})
	run(t, c, "job.yaml", "source.csv.paths=["+path+"]", "sinks.train.parquet.path="+out+"/train", "sinks.validation.parquet.path="+out+"/validation")
	train, validation := read(t, filepath.Join(out, "train"), 10), read(t, filepath.Join(out, "validation"), 10)
	if n, m := len(train["rings"]), len(validation["rings"]); n+m != len(rows)-1 || m < 700 || m > 970 {
		t.Errorf("%d and %d rows of %d", n, m, len(rows)-1)
	}
	names := append([]string{"rings", "sex_F", "sex_I", "sex_M"}, measurements...)
	if len(train) != len(names) {
		t.Errorf("%d columns, expected %d", len(train), len(names))
	}
	for _, name := range names {
		var got, want float64
		for i, v := range append(train[name], validation[name]...) {
			got += v * v
			raw := table[name][i]
			if m, ok := moments[name]; ok {
				raw = (raw - m[0]) / m[1]
			}
			want += raw * raw
		}
		if math.Abs(got-want) > 1e-8*want {
			t.Errorf("column %s: the squares add up to %v, expected %v", name, got, want)
		}
	}

	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(lines)), "\n")
	last := len(all) - 5
	if err := os.WriteFile(filepath.Join(out, "new.csv"), []byte(all[0]+"\n"+strings.Join(all[last:], "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, c, "new.yaml", "source.csv.paths=["+out+"/new.csv]", "sink.parquet.path="+out+"/new", "steps.0.one_hot.fitted="+out+"/train", "steps.1.scale.fitted="+out+"/train")
	fresh := read(t, filepath.Join(out, "new"), 1)
	for _, name := range measurements {
		for i, got := range fresh[name] {
			want := (table[name][last-1+i] - moments[name][0]) / moments[name][1]
			if math.Abs(got-want) > 1e-9 {
				t.Errorf("row %d, %s: %v, expected %v", i, name, got, want)
			}
		}
	}
	if len(fresh["sex_F"]) != 5 || len(fresh["sex_I"]) != 5 {
		t.Errorf("sex %v", fresh["sex_F"])
	}
}
