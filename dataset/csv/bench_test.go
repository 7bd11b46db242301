package csv_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	arrowcsv "github.com/apache/arrow/go/v15/arrow/csv"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

const benchRows = 1_000_000

var wineNames = []string{
	"fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
	"total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
}

// wineFile writes rows like those of the wine quality data: eleven numbers of one to four decimals. With quotes, one text
// column with a quoted word is added, so that planning has to follow the quotes.
func wineFile(b *testing.B, rows int, quoted bool) dataset.File {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(b.TempDir(), "wine.csv")
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	_, _ = w.WriteString(`"` + strings.Join(wineNames, `";"`) + `"`)
	if quoted {
		_, _ = w.WriteString(`;"color"`)
	}
	_ = w.WriteByte('\n')
	var line []byte
	for range rows {
		line = line[:0]
		for i, value := range []struct {
			low, width float64
			decimals   int
		}{
			{4.6, 11.3, 1}, {0.12, 1.46, 2}, {0, 1, 2}, {0.9, 14.6, 1}, {0.012, 0.599, 3}, {1, 71, 0},
			{6, 283, 0}, {0.99007, 0.01362, 4}, {2.74, 1.27, 2}, {0.33, 1.67, 2}, {8.4, 6.5, 1},
		} {
			if i > 0 {
				line = append(line, ';')
			}
			line = strconv.AppendFloat(line, value.low+random.Float64()*value.width, 'f', value.decimals, 64)
		}
		if quoted {
			line = append(line, `;"red"`...)
		}
		_, _ = w.Write(append(line, '\n'))
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	return fileInfo(b, path)
}

func fileInfo(t testing.TB, path string) dataset.File {
	t.Helper()
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: stat.Size(), ModifiedUnixNanos: stat.ModTime().UnixNano()}
}

// BenchmarkRead reads eleven float64 columns, in one goroutine. Its control, BenchmarkReadArrow, reads the same file with Arrow's
// own reader.
func BenchmarkRead(b *testing.B) {
	file := wineFile(b, benchRows, false)
	source, err := csv.New(csv.Options{Delimiter: ';', Header: true, Quote: '"'})
	if err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		columns []int
	}{{"all", nil}, {"2of11", []int{3, 10}}} {
		b.Run(test.name, func(b *testing.B) {
			layout, err := source.Plan(context.Background(), []dataset.File{file}, dataset.PlanOptions{WantedTypes: wineTypes()})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(file.SizeBytes)
			b.ResetTimer()
			for range b.N {
				rows := int64(0)
				for _, split := range layout.Splits {
					reader, err := source.Open(context.Background(), split, dataset.ReadOptions{
						Schema: layout.Schema, Columns: test.columns, BatchRows: 10_000, BatchBytes: 64 << 20, Allocator: memory.DefaultAllocator,
					})
					if err != nil {
						b.Fatal(err)
					}
					for {
						record, err := reader.Read(context.Background())
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							b.Fatal(err)
						}
						rows += record.NumRows()
						record.Release()
					}
					_ = reader.Close()
				}
				if rows != benchRows {
					b.Fatalf("read %d rows", rows)
				}
			}
			b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

func wineTypes() map[string]arrow.DataType {
	types := map[string]arrow.DataType{"color": arrow.BinaryTypes.String}
	for _, name := range wineNames {
		types[name] = arrow.PrimitiveTypes.Float64
	}
	return types
}

func BenchmarkReadArrow(b *testing.B) {
	info := wineFile(b, benchRows, false)
	var fields []arrow.Field
	for _, name := range wineNames {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	b.SetBytes(info.SizeBytes)
	b.ResetTimer()
	for range b.N {
		file, err := os.Open(info.Path)
		if err != nil {
			b.Fatal(err)
		}
		reader := arrowcsv.NewReader(file, schema, arrowcsv.WithComma(';'), arrowcsv.WithHeader(true), arrowcsv.WithChunk(10_000))
		rows := int64(0)
		for reader.Next() {
			rows += reader.Record().NumRows()
		}
		if err := reader.Err(); err != nil {
			b.Fatal(err)
		}
		reader.Release()
		_ = file.Close()
		if rows != benchRows {
			b.Fatalf("read %d rows", rows)
		}
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// BenchmarkPlan finds the boundaries of splits of 4 MiB. No type is inferred.
func BenchmarkPlan(b *testing.B) {
	for _, test := range []struct {
		name         string
		quote        byte
		quotedFields bool
	}{{"noQuotes", '"', false}, {"aQuotedFieldARow", '"', true}, {"quotingOff", 0, false}} {
		b.Run(test.name, func(b *testing.B) {
			file := wineFile(b, benchRows, test.quotedFields)
			source, err := csv.New(csv.Options{Delimiter: ';', Header: true, Quote: test.quote})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(file.SizeBytes)
			b.ResetTimer()
			for range b.N {
				if _, err := source.Plan(context.Background(), []dataset.File{file}, dataset.PlanOptions{TargetSplitBytes: 4 << 20, WantedTypes: wineTypes()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInfer plans a small file of 1,599 rows and the first MiB of a large one, with types inferred.
func BenchmarkInfer(b *testing.B) {
	for _, rows := range []int{1599, 100_000} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			file := wineFile(b, rows, false)
			source, err := csv.New(csv.Options{Delimiter: ';', Header: true, Quote: '"'})
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for range b.N {
				if _, err := source.Plan(context.Background(), []dataset.File{file}, dataset.PlanOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
