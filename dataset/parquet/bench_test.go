package parquet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
)

// Two kinds of numbers: "rounded" has two decimals, as measurements do, and compresses; "random" does not.
var benchData = map[string]func(*rand.Rand) float64{
	"rounded": func(r *rand.Rand) float64 { return math.Round(r.Float64()*1000) / 100 },
	"random":  func(r *rand.Rand) float64 { return r.NormFloat64() },
}

const benchBatches, benchRows = 100, 10_000

// benchRecords makes batches that all differ: repeated ones would compress too well.
func benchRecords(kind string, columns int) []arrow.Record {
	r := rand.New(rand.NewSource(1))
	records := make([]arrow.Record, benchBatches)
	for i := range records {
		records[i] = benchRecord(r, kind, columns)
	}
	return records
}

func benchRecord(r *rand.Rand, kind string, columns int) arrow.Record {
	fields := make([]arrow.Field, columns)
	arrays := make([]arrow.Array, columns)
	for c := range columns {
		b := array.NewFloat64Builder(memory.DefaultAllocator)
		for range benchRows {
			b.Append(benchData[kind](r))
		}
		fields[c] = arrow.Field{Name: fmt.Sprintf("c%d", c), Type: arrow.PrimitiveTypes.Float64, Nullable: true}
		arrays[c] = b.NewArray()
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), arrays, benchRows)
}

func millionRows(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchBatches*benchRows/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// BenchmarkWrite writes a million rows of 12 columns in batches of 10,000. The control is pqarrow without dictionaries, with our
// codecs, which replace arrow's in the whole process.
func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"rounded", "random"} {
		records := benchRecords(kind, 12)
		b.Run(kind+"/control", func(b *testing.B) {
			for b.Loop() {
				w, err := pqarrow.NewFileWriter(records[0].Schema(), struct{ io.Writer }{io.Discard},
					pq.NewWriterProperties(pq.WithCompression(compress.Codecs.Snappy), pq.WithDictionaryDefault(false)), pqarrow.DefaultWriterProps())
				if err != nil {
					b.Fatal(err)
				}
				for _, record := range records {
					if err := w.WriteBuffered(record); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			millionRows(b)
		})
		for _, compression := range []string{"snappy", "zstd", "lz4", "none"} {
			b.Run(kind+"/"+compression, func(b *testing.B) {
				var size int64
				for b.Loop() {
					counter := &countingWriter{}
					writeBench(b, counter, records, compression)
					size = counter.n
				}
				millionRows(b)
				b.ReportMetric(float64(size)/1e6, "MB")
			})
		}
	}
}

type countingWriter struct{ n int64 }

func (w *countingWriter) Write(p []byte) (int, error) { w.n += int64(len(p)); return len(p), nil }

func writeBench(b *testing.B, to io.Writer, records []arrow.Record, compression string) {
	b.Helper()
	sink, err := parquet.NewSink(parquet.SinkOptions{Compression: compression})
	if err != nil {
		b.Fatal(err)
	}
	w, err := sink.Create(to, records[0].Schema(), memory.DefaultAllocator)
	if err != nil {
		b.Fatal(err)
	}
	for _, record := range records {
		if err := w.Write(b.Context(), record); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(nil), w.Close()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRead reads a million rows of 11 columns in batches of 10,000. The control is pqarrow's record reader.
func BenchmarkRead(b *testing.B) {
	for _, kind := range []string{"rounded", "random"} {
		var content bytes.Buffer
		writeBench(b, &content, benchRecords(kind, 11), "snappy")
		path := filepath.Join(b.TempDir(), kind+".parquet")
		if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		b.Run(kind+"/control", func(b *testing.B) {
			for b.Loop() {
				readControl(b, path)
			}
			millionRows(b)
		})
		b.Run(kind+"/engine", func(b *testing.B) {
			for b.Loop() {
				readBench(b, path)
			}
			millionRows(b)
		})
	}
}

func readControl(b *testing.B, path string) {
	b.Helper()
	in, err := file.OpenParquetFile(path, false)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	files, err := pqarrow.NewFileReader(in, pqarrow.ArrowReadProperties{BatchSize: benchRows}, memory.DefaultAllocator)
	if err != nil {
		b.Fatal(err)
	}
	records, err := files.GetRecordReader(b.Context(), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer records.Release()
	rows := int64(0)
	for records.Next() {
		rows += records.Record().NumRows()
	}
	if rows != benchBatches*benchRows {
		b.Fatal(rows, records.Err())
	}
}

func readBench(b *testing.B, path string) {
	b.Helper()
	source := parquet.NewSource()
	layout, err := source.Plan(b.Context(), []dataset.File{statFile(b, path)}, dataset.PlanOptions{TargetSplitBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	r, err := source.Open(b.Context(), layout.Splits[0], dataset.ReadOptions{
		Schema: layout.Schema, BatchRows: benchRows, BatchBytes: 64 << 20, Allocator: memory.DefaultAllocator})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	rows := int64(0)
	for {
		record, err := r.Read(b.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		rows += record.NumRows()
		record.Release()
	}
	if rows != benchBatches*benchRows {
		b.Fatal(rows)
	}
}

func statFile(t testing.TB, path string) dataset.File {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}
}
