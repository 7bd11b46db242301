package ipc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	arrowipc "github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/ipc"
)

// countingAllocator counts the bytes that have ever been asked for.
type countingAllocator struct {
	memory.Allocator
	bytes int64
}

func (a *countingAllocator) Allocate(size int) []byte {
	a.bytes += int64(size)
	return a.Allocator.Allocate(size)
}

func (a *countingAllocator) Reallocate(size int, b []byte) []byte {
	a.bytes += int64(size)
	return a.Allocator.Reallocate(size, b)
}

// TestDictionaries reads streams whose dictionary is another one, or grows, with every record batch: each is read once, and each text
// copied a few times at most.
func TestDictionaries(t *testing.T) {
	const batches, rows = 40, 200
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "d", Type: typ, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for _, deltas := range []bool{false, true} {
		t.Run(fmt.Sprintf("deltas %v", deltas), func(t *testing.T) {
			var out bytes.Buffer
			w := arrowipc.NewWriter(&out, arrowipc.WithSchema(schema), arrowipc.WithDictionaryDeltas(deltas))
			b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			defer b.Release()
			var want []string
			for batch := range batches {
				d := b.Field(0).(*array.BinaryDictionaryBuilder)
				if !deltas {
					d.ResetFull()
				}
				for row := range rows {
					b.Field(1).(*array.Int64Builder).Append(int64(row))
					if row%7 == 0 {
						d.AppendNull()
						want = append(want, "(null)")
						continue
					}
					value := fmt.Sprintf("%d-%d-%s", batch, row, strings.Repeat("x", 100))
					if err := d.AppendString(value); err != nil {
						t.Fatal(err)
					}
					want = append(want, value)
				}
				record := b.NewRecord()
				if err := w.Write(record); err != nil {
					t.Fatal(err)
				}
				record.Release()
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			file := put(t, filepath.Join(t.TempDir(), "a.arrows"), out.Bytes())
			for _, target := range []int64{1, 50_000, 1 << 30} {
				source := ipc.NewSource()
				layout, err := source.Plan(t.Context(), []dataset.File{file}, dataset.PlanOptions{TargetSplitBytes: target})
				if err != nil {
					t.Fatal(err)
				}
				checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
				allocator := &countingAllocator{Allocator: checked}
				var got []string
				var read int64
				for _, split := range layout.Splits {
					r, err := source.Open(t.Context(), split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 1000, BatchBytes: 1 << 20, Allocator: allocator})
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
						for row := range int(record.NumRows()) {
							got = append(got, record.Column(0).ValueStr(row))
						}
						record.Release()
					}
					read += r.BytesRead()
					if err := r.Close(); err != nil {
						t.Fatal(err)
					}
				}
				checked.AssertSize(t, 0)
				if strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Fatalf("splits of %d bytes: %d rows differ from %d", target, len(got), len(want))
				}
				// Every split needs the deltas before it.
				if once := !deltas || len(layout.Splits) == 1; once && (read > file.SizeBytes || allocator.bytes > 8*file.SizeBytes) {
					t.Errorf("splits of %d bytes: %d bytes are read of %d, and memory of %d bytes is taken", target, read, file.SizeBytes, allocator.bytes)
				}
			}
		})
	}
}
