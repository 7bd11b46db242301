package csv_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/internal/testenv"
)

// oracle reads the files of a folder with Python's csv module and with pyarrow, and prints what each made of them, a line a file: rows, or
// null if it refused the file. Pyarrow takes a lone CR for a line end and more behind a quote, so only what is sound goes to it.
const oracle = `
import csv, io, json, sys, os
import pyarrow as pa, pyarrow.csv as pc
csv.field_size_limit(1 << 30)
folder, count = sys.argv[1], int(sys.argv[2])
for i in range(count):
    with open(os.path.join(folder, f"{i}.csv"), "rb") as f:
        content = f.read()
    delimiter = chr(content[0]); content = content[1:]
    try:
        rows = [r for r in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True) if r]
    except (csv.Error, UnicodeDecodeError):
        rows = None
    arrow = None
    if rows:
        names = [str(c) for c in range(len(rows[0]))]
        try:
            table = pc.read_csv(pa.BufferReader(content), pc.ReadOptions(column_names=names, block_size=1 << 24, use_threads=False),
                pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pc.ConvertOptions(column_types={n: pa.string() for n in names}))
            arrow = [list(r) for r in zip(*(table[n].to_pylist() for n in names))]
        except pa.ArrowInvalid:
            pass
    print(json.dumps([rows, arrow]))
sys.stdout.flush()
os._exit(0) # Threads of Arrow that still run when the interpreter ends can abort it.
`

// pieces are what files are made of; most of a file is sound, and some of it not.
var pieces = []string{
	"a", "1", "größe", "世界", " ", "x y", `""`, `"q"`, `"a""b"`, "\"line\nend\"", "\"crlf\r\nend\"", `",;"`, `"` + "\n\n" + `"`, `"""`, `"`, `a"b`, `"a"b`, "\r", "\x00", "\xff",
	"\ufeff", "'", "\t", `"` + strings.Repeat("long \n", 50) + `"`, strings.Repeat("z", 300), "\\", `\"`,
}

// randomFile returns a delimiter and a file of rows with two to five fields.
func randomFile(r *rand.Rand) (delimiter byte, content []byte) {
	delimiter = ",;\t|"[r.IntN(4)]
	columns, end := 2+r.IntN(4), []string{"\n", "\r\n"}[r.IntN(2)]
	wild := r.IntN(3) == 0
	if r.IntN(4) == 0 {
		content = append(content, "\ufeff"...)
	}
	for range 1 + r.IntN(12) {
		for c := range columns {
			if c > 0 {
				content = append(content, delimiter)
			}
			switch {
			case r.IntN(5) == 0:
			case wild && r.IntN(4) == 0:
				for range 1 + r.IntN(3) {
					content = append(content, pieces[r.IntN(len(pieces))]...)
				}
			case r.IntN(400) == 0:
				content = append(content, `"`+strings.Repeat("very long, \n", 20_000)+`"`...)
			default:
				piece := pieces[r.IntN(13)]
				if strings.IndexByte(piece, delimiter) < 0 || piece[0] == '"' {
					content = append(content, piece...)
				}
			}
		}
		content = append(content, end...)
		if r.IntN(10) == 0 {
			content = append(content, end...)
		}
	}
	if r.IntN(4) == 0 {
		content = bytes.TrimRight(content, "\r\n")
	}
	// Some bytes of some files are damaged.
	for wild && r.IntN(2) == 0 && len(content) > 0 {
		i := r.IntN(len(content))
		content[i] = "\"\n\r,;a"[r.IntN(6)]
	}
	return delimiter, content
}

// sound tells whether a file that Python takes is one that the engine takes too: it is stricter.
func sound(content []byte, rows [][]string) bool {
	for _, row := range rows {
		if len(row) != len(rows[0]) {
			return false
		}
	}
	return len(rows) > 0 && len(rows[0]) > 1 && !loneCR(content) && !bytes.Contains(content, []byte("\x00"))
}

// readTexts reads a file without a header as texts; a null is an empty text.
func readTexts(t *testing.T, options csv.Options, files []dataset.File, splitBytes int64, block int) ([][]string, error) {
	t.Helper()
	source, err := csv.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if block > 0 {
		source.SetBlockBytes(block)
	}
	layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{TargetSplitBytes: splitBytes})
	if err != nil {
		return nil, err
	}
	rows := [][]string{}
	for _, split := range layout.Splits {
		reader, err := source.Open(t.Context(), split, dataset.ReadOptions{Schema: layout.Schema, BatchRows: 7, BatchBytes: 1 << 20, Allocator: memory.DefaultAllocator})
		if err != nil {
			return nil, err
		}
		for {
			record, err := reader.Read(t.Context())
			if err != nil {
				_ = reader.Close()
				if text(err) == "EOF" {
					break
				}
				return nil, err
			}
			for i := range int(record.NumRows()) {
				row := make([]string, record.NumCols())
				for c := range row {
					column := record.Column(c)
					if texts, ok := column.(*array.String); ok && column.IsValid(i) {
						row[c] = strings.Clone(texts.Value(i))
					} else if column.IsValid(i) {
						row[c] = column.ValueStr(i)
					}
				}
				rows = append(rows, row)
			}
			record.Release()
		}
	}
	return rows, nil
}

// TestAgainstPython reads generated and damaged files as Python's csv module and pyarrow do. What the engine takes, both take, with the
// same rows; what Python takes and is sound, the engine takes.
func TestAgainstPython(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	count := 400
	if os.Getenv("ENGINE_TEST") != "" {
		count = 10_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	type file struct {
		options csv.Options
		content []byte
	}
	made := make([]file, count)
	for i := range made {
		delimiter, content := randomFile(random)
		made[i] = file{csv.Options{Delimiter: delimiter, Quote: '"'}, content}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.csv", i)), append([]byte{delimiter}, content...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", oracle, dir, fmt.Sprint(count)).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatal(err)
	}
	taken, refused := 0, 0
	answers := json.NewDecoder(bytes.NewReader(out))
	for i, f := range made {
		var said [2][][]string
		if err := answers.Decode(&said); err != nil {
			t.Fatal(err)
		}
		options := f.options
		if len(said[0]) > 0 {
			for c := range said[0][0] {
				options.Columns = append(options.Columns, csv.Column{Name: fmt.Sprint("c", c), Type: textType})
			}
		}
		if len(f.content) == 0 || said[0] != nil && len(options.Columns) < 2 {
			continue // In a table of one column an empty line is a row here, and none to others.
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.csv", i))
		if err := os.WriteFile(path, f.content, 0o600); err != nil {
			t.Fatal(err)
		}
		files := []dataset.File{fileInfo(t, path)}
		got, err := readTexts(t, options, files, 1+random.Int64N(int64(len(f.content))), []int{0, 1 + random.IntN(40)}[random.IntN(2)])
		equal := func(want [][]string) bool {
			return slices.EqualFunc(got, want, slices.Equal)
		}
		switch {
		case err != nil:
			refused++
			if said[0] != nil && sound(f.content, said[0]) {
				t.Fatalf("file %d, %q: refused: %v", i, f.content, err)
			}
			if !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Fatalf("file %d: the error names no file: %v", i, err)
			}
		case said[0] == nil:
			t.Fatalf("file %d, %q: Python's csv refuses, and rows are %q", i, f.content, got)
		case !equal(said[0]):
			t.Fatalf("file %d, %q: rows are\n     %q\nPython's csv has %q", i, f.content, got, said[0])
		case said[1] == nil:
			t.Fatalf("file %d, %q: pyarrow refuses", i, f.content)
		case !equal(said[1]) && !loneCR(f.content):
			t.Fatalf("file %d, %q: rows are\n   %q\npyarrow has %q", i, f.content, got, said[1])
		default:
			taken++
		}
	}
	t.Logf("%d files taken, %d refused", taken, refused)
	if taken < count/4 || refused < count/50 {
		t.Errorf("of %d files %d were taken and %d refused: the test says little", count, taken, refused)
	}
}

func loneCR(content []byte) bool {
	return bytes.Contains(bytes.ReplaceAll(content, []byte("\r\n"), nil), []byte("\r"))
}

// TestSplitAnywhere cuts small files, with line ends in quotes, at every byte: the rows are those of one split.
func TestSplitAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	files := 0
	for files < 12 {
		delimiter, content := randomFile(random)
		if len(content) == 0 || len(content) > 2000 {
			continue
		}
		options := csv.Options{Delimiter: delimiter, Quote: '"'}
		in := writeFiles(t, string(content))
		whole, wholeErr := readTexts(t, options, in, 1<<40, 0)
		if wholeErr != nil && random.IntN(4) > 0 {
			continue
		}
		files++
		for target := range content {
			got, err := readTexts(t, options, in, int64(target+1), 1+target%50)
			if text(err) != text(wholeErr) || !slices.EqualFunc(got, whole, slices.Equal) {
				t.Fatalf("%q in splits of %d: %q, %v\nwant %q, %v", content, target+1, got, err, whole, wholeErr)
			}
		}
	}
}
