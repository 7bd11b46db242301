package parquet_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
)

// readAll plans and reads a file. It returns the first error.
func readAll(t testing.TB, path string) error {
	t.Helper()
	return readEach(t, path, func(arrow.Record) {})
}

// readEach is readAll with a look at each record batch.
func readEach(t testing.TB, path string, look func(arrow.Record)) error {
	t.Helper()
	layout, err := parquet.NewSource().Plan(t.Context(), []dataset.File{statFile(t, path)}, dataset.PlanOptions{})
	if err != nil {
		return err
	}
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	for _, split := range layout.Splits {
		r, err := parquet.NewSource().Open(t.Context(), split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 300, BatchBytes: 1 << 20, Allocator: allocator})
		if err != nil {
			return err
		}
		for {
			var record arrow.Record
			if record, err = r.Read(t.Context()); err != nil {
				break
			}
			look(record)
			record.Release()
		}
		if closeErr := r.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func wholeFile(t testing.TB, columns []column, compression string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole.parquet")
	record := newRecord(columns, 500, 1, true, memory.DefaultAllocator)
	writeFile(t, path, record.Schema(), []arrow.Record{record, record}, compression, map[string]string{"k": "v"})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestNotWhole(t *testing.T) {
	whole := wholeFile(t, flatColumns(), "snappy")
	path := filepath.Join(t.TempDir(), "damaged.parquet")
	cases := map[string]struct {
		content []byte
		says    string
	}{
		"empty":     {nil, "empty"},
		"text":      {[]byte("fixed acidity;quality\n7.4;5\n"), "not a Parquet file: no PAR1 magic at its beginning"},
		"short":     {[]byte("PAR1"), "4 bytes"},
		"encrypted": {append([]byte("PARE"), whole[4:]...), "encrypted"},
		"truncated": {whole[:len(whole)/2], "no PAR1 magic at its end; truncated?"},
		"footer":    {append(append([]byte{}, whole[:4]...), whole[len(whole)-200:]...), "its footer should have"},
		"middle":    {append(append([]byte{}, whole[:len(whole)/4]...), whole[len(whole)/2:]...), "truncated?"},
	}
	sink, err := parquet.NewSink(parquet.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, ofMetadata := sink.Metadata(path)
		for _, err := range []error{readAll(t, path), ofMetadata} {
			if engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(fmt.Sprint(err), path) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v of kind %v, want %q", name, err, engine.KindOf(err), c.says)
			}
		}
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/500 {
		if err := os.WriteFile(path, whole[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, path); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("truncated to %d bytes: %v", at, err)
		}
	}
}

// TestFlippedBytes damages every part of a file. Damage need not be noticed, since pages have no checksums, but it must end in
// an error of kind engine.KindCorrupt (or KindData, if it hits a column's name) and never in a panic or a leak.
func TestFlippedBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "damaged.parquet")
	for name, columns := range map[string][]column{"flat": flatColumns(), "nested": nestedColumns()} {
		for _, compression := range []string{"snappy", "zstd", "gzip", "lz4", "brotli", "none"} {
			whole := wholeFile(t, columns, compression)
			random := rand.New(rand.NewSource(1))
			noticed := 0
			const rounds = 60
			for range rounds {
				content := append([]byte{}, whole...)
				// Half of the damage goes to the footer, which is small.
				at := random.Intn(len(content))
				if random.Intn(2) == 0 {
					at = len(content) - 1 - random.Intn(min(1500, len(content)))
				}
				content[at] ^= byte(1 << random.Intn(8))
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := readAll(t, path); err != nil {
					noticed++
					if kind := engine.KindOf(err); kind != engine.KindCorrupt && kind != engine.KindData || !strings.Contains(err.Error(), path) {
						t.Errorf("%s %s: byte %d of %d: %v of kind %v", name, compression, at, len(content), err, kind)
					}
				}
			}
			if noticed == 0 {
				t.Errorf("%s %s: no damage was noticed", name, compression)
			}
		}
	}
}

// TestDamagedPageNamesRowGroup breaks the second row group's data.
func TestDamagedPageNamesRowGroup(t *testing.T) {
	columns := flatColumns()[:1]
	var records []arrow.Record
	for i := range 4 {
		records = append(records, newRecord(columns, 100_000, int64(i), false, memory.DefaultAllocator))
	}
	path := tempPath(t)
	f := writeFile(t, path, records[0].Schema(), records, "zstd", nil)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(content) - 600_000; i < len(content)-500_000; i++ {
		content[i] = 0x55
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	err = readAll(t, path)
	if engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(fmt.Sprint(err), f.Path+": row group 1: column \"id\"") {
		t.Errorf("got %v", err)
	}
}

// FuzzOpen reads files whose last bytes, the footer, are replaced.
func FuzzOpen(f *testing.F) {
	whole := wholeFile(f, append(flatColumns(), nestedColumns()...), "snappy")
	flat := wholeFile(f, flatColumns()[:3], "none")
	f.Add(whole[len(whole)-2500:], uint16(2500), false)
	f.Add(flat[len(flat)-900:], uint16(900), true)
	f.Add([]byte("PAR1"), uint16(4), true)
	f.Fuzz(func(t *testing.T, tail []byte, cut uint16, small bool) {
		from := whole
		if small {
			from = flat
		}
		content := append(append([]byte{}, from[:max(0, len(from)-int(cut))]...), tail...)
		path := filepath.Join(t.TempDir(), "f.parquet")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, path); err != nil && engine.KindOf(err) == engine.KindInternal {
			t.Errorf("unclassified: %v", err)
		}
	})
}
