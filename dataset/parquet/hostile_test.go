package parquet_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

// TestLyingPages has the header of a page claim sizes that the file cannot hold: it is refused, and the memory is not asked for.
func TestLyingPages(t *testing.T) {
	for _, compression := range []string{"none", "snappy", "zstd", "gzip", "lz4", "brotli"} {
		path := tempPath(t)
		record := newRecord(flatColumns()[:1], 2000, 1, false, memory.DefaultAllocator)
		writeFile(t, path, record.Schema(), []arrow.Record{record}, compression, nil)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A header in Thrift's compact form: the fields type, uncompressed size, and compressed size follow each other.
		if whole[4] != 0x15 || whole[6] != 0x15 {
			t.Fatalf("%s: no page begins at byte 4: % x", compression, whole[4:12])
		}
		_, first := binary.Uvarint(whole[7:])
		if whole[7+first] != 0x15 {
			t.Fatalf("%s: % x", compression, whole[4:20])
		}
		compressed, second := binary.Varint(whole[8+first:])
		for _, claim := range []int64{1<<31 - 1, 1 << 30, -1, -(1 << 31)} {
			lie := binary.AppendVarint(nil, claim)
			// The page as a whole stays as long as it was, so that nothing but the size is wrong.
			longer := len(lie) - first
			shorter := binary.AppendVarint(nil, compressed-int64(longer))
			if len(shorter) != second {
				t.Fatalf("%s: %d bytes, and the size is written in another number of bytes", compression, compressed)
			}
			for name, content := range map[string][]byte{
				"uncompressed": bytes.Join([][]byte{whole[:7], lie, {0x15}, shorter, whole[8+first+second : 500], whole[500+longer:]}, nil),
				"compressed":   bytes.Join([][]byte{whole[:8+first], lie, whole[8+first+second:]}, nil),
				"both":         bytes.Join([][]byte{whole[:7], lie, {0x15}, lie, whole[8+first+second:]}, nil),
			} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := readAll(t, path)
				runtime.ReadMemStats(&after)
				if engine.KindOf(err) != engine.KindCorrupt {
					t.Errorf("%s: %s size of %d: %v", compression, name, claim, err)
				}
				if asked := after.TotalAlloc - before.TotalAlloc; asked > 256<<20 {
					t.Errorf("%s: %s size of %d: %d MiB were asked for", compression, name, claim, asked>>20)
				}
			}
		}
	}
}
