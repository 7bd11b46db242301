package parquet_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/internal/testenv"
)

// TestNumberDecoding reads the sequences as pyarrow writes them: in pages of both versions, with every compression, with small pages,
// with dictionaries of more values than 16 bits hold, and in the encodings that are left to arrow.
func TestNumberDecoding(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	const program = `
import sys
import pyarrow as pa, pyarrow.parquet as pq
t = pq.read_table(sys.argv[1])
folder = sys.argv[2]
for version, compression in (("1.0", "none"), ("1.0", "snappy"), ("2.0", "snappy"), ("2.0", "zstd"), ("1.0", "gzip"), ("2.0", "lz4"), ("2.0", "brotli")):
    pq.write_table(t, f"{folder}/{version}-{compression}.parquet", data_page_version=version, compression=compression,
        data_page_size=7000, row_group_size=9_000)
pq.write_table(t, f"{folder}/plain.parquet", use_dictionary=False, row_group_size=50_000)
pq.write_table(t, f"{folder}/large.parquet", dictionary_pagesize_limit=1 << 30)
for version in ("1.0", "2.0"):
    pq.write_table(t, f"{folder}/{version}-split.parquet", data_page_version=version, use_dictionary=False,
        column_encoding={n: "BYTE_STREAM_SPLIT" if "float" in n else "DELTA_BINARY_PACKED" for n in t.column_names})
`
	for _, rows := range []int{20_000, 70_000} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			if rows > 20_000 {
				testenv.Full(t)
			}
			decodeElsewhere(t, python, program, sequenceRecord(rows, 9))
		})
	}
}

// decodeElsewhere lets a program write a record to files, and reads those.
func decodeElsewhere(t *testing.T, python, program string, record arrow.Record) {
	t.Helper()
	ours, folder := tempPath(t), t.TempDir()
	writeFile(t, ours, record.Schema(), []arrow.Record{record}, "none", nil)
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, ours, folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.parquet"))
	if err != nil || len(paths) != 11 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			layout := plan(t, dataset.PlanOptions{}, statFile(t, path))
			var got []arrow.Record
			for _, split := range layout.Splits {
				part, err := readSplit(t, split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 9000})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, part...)
			}
			read := concat(t, got)
			for c := range record.Columns() {
				sameBits(t, record.ColumnName(c), read.Column(c), record.Column(c))
			}
		})
	}
}

// TestRecycledMemory overwrites the memory of batches when they are released, and looks whether those that are held stay what they are,
// also when the reader is closed before them.
func TestRecycledMemory(t *testing.T) {
	parquet.PoisonPools(true)
	defer parquet.PoisonPools(false)
	record := sequenceRecord(50_000, 4)
	f := writeFile(t, tempPath(t), record.Schema(), []arrow.Record{record}, "snappy", nil)
	layout := plan(t, dataset.PlanOptions{}, f)
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	r, err := parquet.NewSource().Open(t.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 5000, BatchBytes: 64 << 20, Allocator: allocator})
	if err != nil {
		t.Fatal(err)
	}
	held := map[int64]arrow.Record{}
	for row := int64(0); row < 50_000; row += 5000 {
		batch, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if row%15_000 == 0 {
			held[row] = batch
		} else {
			batch.Release()
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for row, batch := range held {
		want := record.NewSlice(row, row+5000)
		for c := range record.Columns() {
			sameBits(t, record.ColumnName(c), batch.Column(c), want.Column(c))
		}
		want.Release()
		batch.Release()
	}
	allocator.AssertSize(t, 0)
}

// FuzzHybrid decodes what was encoded, and anything.
func FuzzHybrid(f *testing.F) {
	r := rand.New(rand.NewSource(1))
	for _, width := range []int{1, 3, 7, 8, 9, 13, 14, 15, 16} {
		b := make([]byte, 2*r.Intn(2000))
		r.Read(b)
		copy(b[len(b)/2:], make([]byte, len(b)/4))
		f.Add(b, uint8(width), uint8(17))
	}
	f.Fuzz(func(t *testing.T, raw []byte, width, step uint8) {
		bits := int(width)%16 + 1
		every := int(step) + 1
		values := make([]uint16, len(raw)/2)
		for i := range values {
			values[i] = binary.LittleEndian.Uint16(raw[2*i:]) & (1<<bits - 1)
		}
		dictionary := make([]uint64, 1<<bits)
		for i := range dictionary {
			dictionary[i] = uint64(i) * 3
		}
		got, err := parquet.LookUp(parquet.AppendHybrid(values, bits), bits, dictionary, len(values), every)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if got[i] != uint64(v)*3 {
				t.Fatalf("number %d of %d bits is %d, want %d", i, bits, got[i]/3, v)
			}
		}
		// Whatever the bytes are, it is an error or as many values as asked for.
		_, _ = parquet.LookUp(raw, int(width)%40, dictionary[:len(dictionary)/2], 1000, every)
	})
}

// FuzzPageHeader parses anything. A header is no longer than the bytes.
func FuzzPageHeader(f *testing.F) {
	f.Add([]byte{0x15, 0, 0x15, 2, 0x15, 2, 0x2c, 0x15, 2, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0})
	f.Add([]byte{0x15, 4, 0x15, 2, 0x15, 2, 0x4c, 0x15, 2, 0x15, 0, 0x11, 0, 0})
	f.Add([]byte{0x15, 6, 0x15, 2, 0x15, 2, 0x5c, 0x15, 2, 0x15, 0, 0x15, 2, 0x15, 0, 0x15, 0, 0x15, 0, 0x12, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if size, ok := parquet.PageHeaderSize(b); ok && (size <= 0 || size > len(b)) {
			t.Fatal(fmt.Sprint(size, " bytes of ", len(b)))
		}
	})
}
