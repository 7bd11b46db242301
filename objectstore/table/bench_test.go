package table_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/objectstore/table"
)

// wide makes a table of about 100 MB in ten batches of eleven columns, like the scores of a model: eight floats, a number, a text,
// and a label that is a dictionary.
func wide(b testing.TB, batches, rows int, letter string) (*arrow.Schema, []arrow.Record) {
	b.Helper()
	label := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	fields := []arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}}
	for i := range 8 {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("x%d", i), Type: arrow.PrimitiveTypes.Float64})
	}
	fields = append(fields, arrow.Field{Name: "label", Type: label})
	schema := arrow.NewSchema(fields, nil)
	var records []arrow.Record
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for range batches {
		for i := range rows {
			builder.Field(0).(*array.Int64Builder).Append(int64(i))
			if i%10 == 0 {
				builder.Field(1).AppendNull()
			} else {
				builder.Field(1).(*array.StringBuilder).Append("some text of a row" + letter)
			}
			for c := range 8 {
				builder.Field(2 + c).(*array.Float64Builder).Append(float64(i * c))
			}
			if err := builder.Field(10).(*array.BinaryDictionaryBuilder).AppendString([]string{"red", "green", "blue"}[i%3]); err != nil {
				b.Fatal(err)
			}
		}
		records = append(records, builder.NewRecord())
	}
	b.Cleanup(func() {
		for _, record := range records {
			record.Release()
		}
	})
	return schema, records
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// BenchmarkEncode100MB writes a table into warm memory, and between that copies as many bytes from one place to another. The ratio
// is the medians': 1 is as fast as copying.
func BenchmarkEncode100MB(b *testing.B) {
	schema, records := wide(b, 10, 100_000, "s")
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		b.Fatal(err)
	}
	size := encoding.SizeBytes()
	encoding.Release()
	dst, src := aligned(size), aligned(size)
	for i := range src {
		src[i], dst[i] = byte(i), 1
	}
	var encodes, writes, copies []time.Duration
	for b.Loop() {
		start := time.Now()
		encoding, err := table.Encode(schema, records...)
		if err != nil {
			b.Fatal(err)
		}
		measured := time.Now()
		encoding.CopyTo(dst)
		written := time.Now()
		encoding.Release()
		copy(dst, src)
		encodes, writes, copies = append(encodes, measured.Sub(start)), append(writes, written.Sub(start)), append(copies, time.Since(written))
	}
	put, control := median(writes), median(copies)
	b.ReportMetric(float64(size)/1e6, "MB")
	b.ReportMetric(float64(median(encodes).Nanoseconds())/1e3, "measure-µs")
	b.ReportMetric(float64(size)/put.Seconds()/1e9, "put-GB/s")
	b.ReportMetric(float64(size)/control.Seconds()/1e9, "memcpy-GB/s")
	b.ReportMetric(control.Seconds()/put.Seconds(), "memcpy/put")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkOpen opens a table of 100 MB. Trusted bytes take time by columns and batches, others by their size.
func BenchmarkOpen(b *testing.B) {
	for _, text := range []struct{ name, letter string }{{"ascii", "s"}, {"unicode", "ß"}} {
		schema, records := wide(b, 10, 100_000, text.letter)
		data := encode(b, schema, records...)
		for _, trusted := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/trusted=%t", text.name, trusted), func(b *testing.B) {
				b.ReportAllocs()
				var times []time.Duration
				for b.Loop() {
					start := time.Now()
					opened, err := table.Open(data, table.Options{Trusted: trusted})
					times = append(times, time.Since(start))
					if err != nil {
						b.Fatal(err)
					}
					opened.Release()
				}
				b.ReportMetric(float64(median(times).Nanoseconds())/1e3, "median-µs")
			})
		}
	}
}

// BenchmarkSmall writes and opens a table of about 1 KiB, as a call of the store does with an object that travels inline.
func BenchmarkSmall(b *testing.B) {
	builder := array.NewInt64Builder(memory.DefaultAllocator)
	defer builder.Release()
	for i := range 100 {
		builder.Append(int64(i))
	}
	column := builder.NewArray()
	defer column.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	record := array.NewRecord(schema, []arrow.Array{column}, 100)
	defer record.Release()
	var data []byte
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			encoding, err := table.Encode(schema, record)
			if err != nil {
				b.Fatal(err)
			}
			data = make([]byte, encoding.SizeBytes())
			encoding.CopyTo(data)
			encoding.Release()
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			opened, err := table.Open(data, table.Options{})
			if err != nil {
				b.Fatal(err)
			}
			opened.Release()
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := table.Check(data, table.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
