package parquet_test

import (
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset/parquet"
)

// TestPendingBytes wants to know, while a file is written, how large it will be.
func TestPendingBytes(t *testing.T) {
	for _, compression := range []string{"none", "snappy"} {
		for _, rows := range []int{100, 5000, 60_000} {
			record := newRecord(flatColumns(), rows, 3, true, memory.DefaultAllocator)
			sink, err := parquet.NewSink(parquet.SinkOptions{Compression: compression})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			w, err := sink.Create(&out, record.Schema(), memory.DefaultAllocator)
			if err != nil {
				t.Fatal(err)
			}
			if n := w.PendingBytes(); n != 0 {
				t.Errorf("%d bytes of nothing wait", n)
			}
			if err := w.Write(t.Context(), record); err != nil {
				t.Fatal(err)
			}
			guess := int64(out.Len()) + w.PendingBytes()
			if err := w.Finish(nil); err != nil {
				t.Fatal(err)
			}
			// The footer and the heads of pages come at the end.
			footer := 1000 * record.NumCols()
			if size := int64(out.Len()); size > guess*11/10+footer || size < guess/4 || compression == "none" && size < guess*3/4 {
				t.Errorf("%s, %d rows: %d bytes, expected were %d", compression, rows, size, guess)
			} else {
				t.Logf("%s, %d rows: %d bytes, expected were %d", compression, rows, size, guess)
			}
			if n := w.PendingBytes(); n != 0 {
				t.Errorf("%d bytes wait at the end", n)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			record.Release()
		}
	}
}
