package parquet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine"
)

// TestLyingPages has the header of a page claim sizes that the file cannot hold: it is refused, and the memory is not asked for.
func TestLyingPages(t *testing.T) {
	// Each column goes through another decoder: ours, arrow's through ours, our lists, and arrow's.
	columns := map[string]column{}
	for _, c := range append(flatColumns(), nestedColumns()...) {
		columns[c.field.Name] = c
	}
	for _, name := range []string{"id", "string", "bool", "embedding", "numbers", nestedColumns()[0].field.Name} {
		compressions := []string{"none", "zstd"}
		if name == "id" {
			compressions = []string{"none", "snappy", "zstd", "gzip", "lz4", "brotli"}
		}
		t.Run(name, func(t *testing.T) { lie(t, columns[name], compressions) })
	}
}

func lie(t *testing.T, of column, compressions []string) {
	for _, compression := range compressions {
		path := tempPath(t)
		record := newRecord([]column{of}, 2000, 1, false, memory.DefaultAllocator)
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

// TestLyingDictionary has a dictionary claim more values than it has bytes.
func TestLyingDictionary(t *testing.T) {
	for _, c := range flatColumns() {
		if c.field.Name != "string" {
			continue
		}
		path := tempPath(t)
		record := newRecord([]column{c}, 2000, 1, false, memory.DefaultAllocator)
		properties := pq.NewWriterProperties(pq.WithDictionaryDefault(true), pq.WithCompression(compress.Codecs.Uncompressed))
		var out bytes.Buffer
		w, err := pqarrow.NewFileWriter(record.Schema(), &out, properties, pqarrow.DefaultWriterProps())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(record), w.Close()); err != nil {
			t.Fatal(err)
		}
		whole := out.Bytes()
		// Type, both sizes, and in the struct of the dictionary page, field 7, its number of values.
		at := bytes.Index(whole[:64], []byte{0x4c, 0x15})
		if whole[5] != 0x04 || at < 0 {
			t.Fatalf("no dictionary: % x", whole[:64])
		}
		_, size := binary.Varint(whole[at+2:])
		lie := binary.AppendVarint(nil, 1<<31-1)
		if err := os.WriteFile(path, slices.Concat(whole[:at+2], lie, whole[at+2+size:]), 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = readAll(t, path)
		runtime.ReadMemStats(&after)
		if asked := after.TotalAlloc - before.TotalAlloc; engine.KindOf(err) != engine.KindCorrupt || asked > 64<<20 {
			t.Errorf("%v, and %d MiB were asked for", err, asked>>20)
		}
	}
}

// lookAt reads each value of a column. Lists have no text if they hold NaN.
func lookAt(c arrow.Array) {
	if list, ok := c.(array.ListLike); ok {
		for row := range c.Len() {
			from, to := list.ValueOffsets(row)
			values := array.NewSlice(list.ListValues(), from, to)
			lookAt(values)
			values.Release()
		}
		return
	}
	for row := range c.Len() {
		_ = c.ValueStr(row)
	}
}

// FuzzPages reads columns of every type of which the pages are damaged, and looks at each value: no decoder may read what is not there.
func FuzzPages(f *testing.F) {
	var files [][]byte
	for _, c := range append(append(flatColumns(), nestedColumns()...), outputColumns()...) {
		for _, compression := range []string{"none", "snappy"} {
			path := filepath.Join(f.TempDir(), "a.parquet")
			record := newRecord([]column{c}, 70, 1, true, memory.DefaultAllocator)
			writeFile(f, path, record.Schema(), []arrow.Record{record}, compression, nil)
			whole, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			files = append(files, whole)
		}
	}
	for i := range files {
		f.Add(uint16(i), uint16(30), []byte{0xff, 0xff, 0xff, 0x7f})
		f.Add(uint16(i), uint16(20), []byte{0})
	}
	f.Fuzz(func(t *testing.T, which, at uint16, damage []byte) {
		whole := bytes.Clone(files[int(which)%len(files)])
		footer := 8 + int(binary.LittleEndian.Uint32(whole[len(whole)-8:]))
		pages := whole[4 : len(whole)-footer]
		copy(pages[int(at)%len(pages):], damage)
		path := filepath.Join(t.TempDir(), "f.parquet")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		err := readEach(t, path, func(record arrow.Record) {
			for _, c := range record.Columns() {
				lookAt(c)
			}
		})
		if err != nil && engine.KindOf(err) != engine.KindCorrupt && engine.KindOf(err) != engine.KindData {
			t.Errorf("unclassified: %v", err)
		}
	})
}
