package csv_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// packed compresses contents, several parts of it one behind the other, as cat of compressed files makes.
func packed(t testing.TB, extension string, parts ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, part := range parts {
		switch extension {
		case ".gz":
			w := gzip.NewWriter(&out)
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		default:
			w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.Bytes()
}

func writePacked(t testing.TB, name string, content []byte) []dataset.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return []dataset.File{fileInfo(t, path)}
}

// readPacked reads one compressed file.
func readPacked(t testing.TB, files []dataset.File, blockBytes int) (table, error) {
	t.Helper()
	return readAll(t, usual, files, dataset.PlanOptions{TargetSplitBytes: 10}, readOptions(100, 1<<20), blockBytes)
}

func TestPackedIsPlain(t *testing.T) {
	var content strings.Builder
	content.WriteString("\ufeffa,b,c\n")
	for i := range 5000 {
		fmt.Fprintf(&content, "%d,%d.5,\"x\n%d\"\n", i, i, i)
	}
	whole := strings.TrimSuffix(content.String(), "\n")
	want, err := readAll(t, usual, writeFiles(t, whole), dataset.PlanOptions{}, readOptions(100, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, extension := range []string{".gz", ".zst"} {
		for _, block := range []int{0, 100} {
			content := packed(t, extension, whole[:len(whole)/3], whole[len(whole)/3:])
			got, err := readPacked(t, writePacked(t, "a.csv"+extension, content), block)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.rows, want.rows) || !got.schema.Equal(want.schema) {
				t.Errorf("%s in blocks of %d: %d rows of %v, want %d of %v", extension, block, len(got.rows), got.schema, len(want.rows), want.schema)
			}
			if len(got.splits) != 1 || got.read != int64(len(content)) {
				t.Errorf("%s: %d splits, %d bytes read of %d", extension, len(got.splits), got.read, len(content))
			}
			if last := got.where[4999]; !strings.HasSuffix(last, "a.csv"+extension+":10000") {
				t.Errorf("%s: the last row is at %s", extension, last)
			}
		}
	}
}

func TestPackedErrors(t *testing.T) {
	row := strings.Repeat("1,2\n", 1000)
	for _, test := range []struct {
		name string
		cut  func([]byte) []byte
		text string
		kind engine.Kind
		want string
	}{
		{"cut off", func(b []byte) []byte { return b[:len(b)-5] }, "a,b\n" + row, engine.KindCorrupt, "the compressed file is cut off: its end is missing"},
		{"cut in the beginning", func(b []byte) []byte { return b[:6] }, "a,b\n" + row, engine.KindCorrupt, "the compressed file is cut off: its end is missing"},
		{"not compressed", func([]byte) []byte { return []byte("a,b\n1,2\n1,2\n1,2\n1,2\n") }, "", engine.KindCorrupt, "is not a whole compressed file, as its name says: "},
		{"empty", func([]byte) []byte { return nil }, "", engine.KindData, "file is empty"},
		{"nothing in it", func(b []byte) []byte { return b }, "", engine.KindData, "file is empty"},
		{"bad row", func(b []byte) []byte { return b }, "a,b\n" + row + "1\n", engine.KindData, `:1002: expected 2 fields, found 1, in the row that begins with "1"`},
	} {
		for _, extension := range []string{".gz", ".zst"} {
			t.Run(test.name+extension, func(t *testing.T) {
				files := writePacked(t, "a.csv"+extension, test.cut(packed(t, extension, test.text)))
				_, err := readPacked(t, files, 0)
				if engine.KindOf(err) != test.kind || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), "a.csv"+extension) {
					t.Errorf("got %v (%v), want %s (%v)", err, engine.KindOf(err), test.want, test.kind)
				}
			})
		}
	}
	t.Run("checksum", func(t *testing.T) {
		content := packed(t, ".gz", "a,b\n"+row)
		content[len(content)-6] ^= 1
		if _, err := readPacked(t, writePacked(t, "a.csv.gz", content), 0); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzPacked(f *testing.F) {
	f.Add(packed(f, ".gz", "a,b\n1,2\n"), true)
	f.Add(packed(f, ".zst", "a,b\n", "1,2\n"), false)
	f.Fuzz(func(t *testing.T, content []byte, gz bool) {
		name := "a.csv.zst"
		if gz {
			name = "a.csv.gz"
		}
		_, err := readPacked(t, writePacked(t, name, content), 64)
		if kind := engine.KindOf(err); err != nil && kind != engine.KindCorrupt && kind != engine.KindData {
			t.Errorf("kind %v of %v", kind, err)
		}
	})
}
