package text_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/json"
	"github.com/f708428e/engine/internal/testenv"
)

// readToEnd reads all rows of a file and returns why it ended.
func readToEnd(t *testing.T, source dataset.Source, file dataset.File) error {
	t.Helper()
	layout, err := source.Plan(t.Context(), []dataset.File{file}, dataset.PlanOptions{})
	if err != nil {
		return err
	}
	for _, split := range layout.Splits {
		r, err := source.Open(t.Context(), split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 1 << 20, Allocator: memory.NewGoAllocator()})
		if err != nil {
			return err
		}
		for err == nil {
			record, readErr := r.Read(t.Context())
			if err = readErr; err == nil {
				record.Release()
			}
		}
		if err = errors.Join(err, r.Close()); !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// TestBombs reads small files that unpack to very much: equal rows up to the ratio, and a row without an end up to the longest line. Both are
// errors that name the file and the place, and take no more memory than the row.
func TestBombs(t *testing.T) {
	packers := map[string]func(io.Writer) (io.WriteCloser, error){
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
	}
	csvSource, err := csv.New(csv.Options{Header: true, Quote: '"'})
	if err != nil {
		t.Fatal(err)
	}
	jsonSource, err := json.New(json.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, format, head, row string
		source                  dataset.Source
		mebibytes               int
		want                    []string
	}{
		{"rows", ".csv", "a\n", "1\n", csvSource, 280, []string{"unpacks to over 1000 times its size"}},
		{"rows", ".json", "", `{"a":1111111111111}` + "\n", jsonSource, 280, []string{"unpacks to over 1000 times its size"}},
		{"one row", ".csv", "a\n1\n", "x", csvSource, 40, []string{":3:", "longer than"}},
		{"one quoted row", ".csv", "a\n1\n\"", "x\n", csvSource, 40, []string{":3:", "longer than"}},
		{"one row", ".json", `{"a":1}` + "\n" + `{"a":"`, "x", jsonSource, 40, []string{":2:", "byte 8", "longer than"}},
		{"deep", ".json", `{"a":`, "[", jsonSource, 1, []string{":1:", "more than 64 deep"}},
	} {
		for extension, packer := range packers {
			if c.mebibytes > 100 && extension == ".gz" {
				continue // Its format cannot reach the ratio with rows.
			}
			t.Run(c.name+c.format+extension, func(t *testing.T) {
				if c.mebibytes > 100 {
					testenv.Full(t)
				}
				var packed bytes.Buffer
				w, err := packer(&packed)
				if err != nil {
					t.Fatal(err)
				}
				block := []byte(strings.Repeat(c.row, 1<<20/len(c.row)))
				_, err = io.WriteString(w, c.head)
				for range c.mebibytes {
					if err == nil {
						_, err = w.Write(block)
					}
				}
				if err := errors.Join(err, w.Close()); err != nil {
					t.Fatal(err)
				}
				file := write(t, "bomb"+c.format+extension, packed.Bytes())
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err = readToEnd(t, c.source, file)
				runtime.ReadMemStats(&after)
				if engine.KindOf(err) != engine.KindData || !strings.Contains(fmt.Sprint(err), filepath.Base(file.Path)) {
					t.Fatalf("%d bytes gave %v", packed.Len(), err)
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in %v", want, err)
					}
				}
				if held := int64(after.HeapSys) - int64(before.HeapSys); held > 256<<20 {
					t.Errorf("%d MiB more are held", held>>20)
				}
			})
		}
	}
}
