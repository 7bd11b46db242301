package csv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

func TestBadInput(t *testing.T) {
	short := usual
	short.MaxLineBytes = 20
	listed := with("a", int64Type)
	listed.Nulls = []string{"NA"}
	semicolon := with("a", float64Type)
	semicolon.Delimiter = ';'
	for _, test := range []struct {
		name    string
		options csv.Options
		files   []string
		want    string
	}{
		{"empty", usual, []string{""}, `plan csv: a.csv: file is empty`},
		{"empty second file", usual, []string{"a\n1\n", ""}, `plan csv: b.csv: file is empty`},
		{"byte order mark alone", usual, []string{"\xef\xbb\xbf"}, `plan csv: a.csv: file is empty`},
		{"empty lines alone", usual, []string{"\n\r\n\n"}, `plan csv: a.csv: file has no header: its lines are empty`},
		{"empty lines alone, no header", csv.Options{}, []string{"\n\n"}, `plan csv: a.csv: file has no row that tells the number of columns (declare the columns)`},
		{"UTF-16", usual, []string{"\xff\xfea\x00"}, `plan csv: a.csv: file is not UTF-8: it begins with the byte order mark of UTF-16 (convert it, for example with iconv -f UTF-16 -t UTF-8)`},
		{"UTF-16 big endian", csv.Options{}, []string{"\xfe\xff\x00a"}, `plan csv: a.csv: file is not UTF-8: it begins with the byte order mark of UTF-16 (convert it, for example with iconv -f UTF-16 -t UTF-8)`},
		{"same name twice", usual, []string{"\na,b,a\n1,2,3\n"}, `plan csv: a.csv:2: header: columns 1 and 3 are both named "a"`},
		{"no name", usual, []string{",b\n1,2\n"}, `plan csv: a.csv:1: header: column 1 has no name`},
		{"Latin-1 name", usual, []string{"a,gr\xf6\xdfe\n1,2\n"}, `plan csv: a.csv:1: header: column 2: text is not UTF-8: "gr\xf6\xdfe" (convert it to UTF-8, for example with iconv -f latin1 -t utf-8)`},
		{"NUL in the header", usual, []string{"a,b\x00\n1,2\n"}, `plan csv: a.csv:1: header: column 2: text holds a NUL byte: "b\x00"`},
		{"lone CR line ends", usual, []string{"a,b\r1,2\r"}, `plan csv: a.csv:1: header: column 2: text holds a carriage return (CR) without a line feed (LF): "b\r1"`},
		{"header without end", usual, []string{"a,\"b\n1,2\n"}, `plan csv: a.csv:1: quoted field begins here and does not end before the file does`},
		{"text after a quote in the header", usual, []string{"a,\"b\"c\n1,2\n"}, `plan csv: a.csv:1: field 2: closing quote is followed by "c" (a quote inside a quoted field must be doubled)`},
		{"gzip", usual, []string{"\x1f\x8b\x08\x00\n"}, `plan csv: a.csv: is a gzip file, not CSV text (give it a name that ends in .gz, and it is unpacked as it is read)`},
		{"gzip, no header", csv.Options{}, []string{"\x1f\x8b"}, `plan csv: a.csv: is a gzip file, not CSV text (give it a name that ends in .gz, and it is unpacked as it is read)`},
		{"zstd", usual, []string{"a\n1\n", "\x28\xb5\x2f\xfd\n"}, `plan csv: b.csv: is a zstd file, not CSV text (give it a name that ends in .zst, and it is unpacked as it is read)`},
		{"zip", usual, []string{"PK\x03\x04\n"}, `plan csv: a.csv: is a zip file, not CSV text (unpack it first; export a spreadsheet as CSV)`},
		{"Parquet", usual, []string{"PAR1\x15\x04\n"}, `plan csv: a.csv: is a Parquet file, not CSV text (read it with source.parquet)`},
		{"Arrow", csv.Options{}, []string{"ARROW1\x00\x00\n"}, `plan csv: a.csv: is an Arrow file, not CSV text (read it with source.arrow)`},
		{"semicolons and quotes in the header", usual, []string{"\"a\";\"b\"\n1;2\n"}, `plan csv: a.csv:1: field 1: closing quote is followed by ";" (set source.csv.delimiter: ";")`},
		{"tabs and quotes in the header", usual, []string{"\"a\"\t\"b\"\n"}, `plan csv: a.csv:1: field 1: closing quote is followed by "\t" (set source.csv.delimiter: "\t")`},
		{"commas where semicolons are set", semicolon, []string{"\"a\",\"b\"\n"}, `plan csv: a.csv:1: field 1: closing quote is followed by "," (set source.csv.delimiter: ",")`},
		{"bars and quotes in the rows", usual, []string{"a|b\n1|2\n\"1\"|2\n"}, `read csv: a.csv:3: field 1: closing quote is followed by "|" (row 2, byte 8) (set source.csv.delimiter: "|")`},
		{"a lone semicolon after a quote", usual, []string{"a,b\n\"1\";2,3\n"}, `plan csv: a.csv:2: field 1: closing quote is followed by ";" (a quote inside a quoted field must be doubled)`},
		{"declared columns, another delimiter", with("a", nil), []string{"a;b\n1;2\n"}, `plan csv: a.csv: header lacks "a", which source.csv.columns declares (set source.csv.delimiter: ";")`},
		{"header lacks a column", usual, []string{"a,b,c\n1,2,3\n", "a,c\n1,3\n"}, `plan csv: b.csv: header lacks "b", which a.csv has (source.csv.union: true reads files of different columns)`},
		{"header has another column", usual, []string{"a,b\n1,2\n", "a,b,x,y\n1,2,3,4\n"}, `plan csv: b.csv: header has "x", "y", which a.csv lacks (source.csv.union: true reads files of different columns)`},
		{"header differs", usual, []string{"a,b\n1,2\n", "a,B\n1,2\n"}, `plan csv: b.csv: header lacks "b" and has "B", unlike a.csv (source.csv.union: true reads files of different columns)`},
		{"declared column is missing", with("z", nil), []string{"a,b\n1,2\n"}, `plan csv: a.csv: header lacks "z", which source.csv.columns declares (it has "a", "b")`},
		{"first row without header is broken", csv.Options{Quote: '"'}, []string{"\"a"}, `plan csv: a.csv:1: quoted field begins here and does not end before the file does`},

		{"too few fields", usual, []string{"a,b,c\n1,2,3\n1,2\n1,2,3\n"}, `read csv: a.csv:3: expected 3 fields, found 2, in the row that begins with "1" (row 2, byte 12)`},
		{"too many fields", usual, []string{"a,b\n1,2\n1,2,3\n"}, `read csv: a.csv:3: expected 2 fields, found 3, in the row that begins with "1" (row 2, byte 8)`},
		{"delimiter at the end", usual, []string{"a,b\n1,2,\n"}, `read csv: a.csv:2: expected 2 fields, found 3, in the row that begins with "1" (row 1, byte 4)`},
		{"a blank is a row", usual, []string{"a,b\n1,2\n \n"}, `read csv: a.csv:3: expected 2 fields, found 1, in the row that begins with " " (row 2, byte 8)`},
		{"lines inside quotes count", usual, []string{"a,b\n\"1\n\n\",2\nlonely\n"}, `read csv: a.csv:5: expected 2 fields, found 1, in the row that begins with "lonely" (row 2, byte 12)`},
		{"first row without header counts", csv.Options{}, []string{"1,2\n3\n"}, `read csv: a.csv:2: expected 2 fields, found 1, in the row that begins with "3" (row 2, byte 4)`},
		{"number of fields before values", with("a", int64Type), []string{"a,b\nx,2,3\n"}, `read csv: a.csv:2: expected 2 fields, found 3, in the row that begins with "x" (row 1, byte 4)`},

		{"text in a float column", with("a", float64Type), []string{"a,b\n1,2\n2.5,2\nabc,3\n"}, `read csv: a.csv:4: column "a": expected float64, found "abc" (row 3, byte 14)`},
		{"long value", with("a", float64Type), []string{"a\n" + strings.Repeat("ä", 100)}, `read csv: a.csv:2: column "a": expected float64, found "` + strings.Repeat("ä", 60) + `…" (row 1, byte 2)`},
		{"beyond int64", with("a", int64Type), []string{"a\n9223372036854775808\n"}, `read csv: a.csv:2: column "a": expected int64, found "9223372036854775808" (row 1, byte 2) (declare column "a" as float64)`},
		{"beyond int32", with("a", int32Type), []string{"a\n-2147483649\n"}, `read csv: a.csv:2: column "a": expected int32, found "-2147483649" (row 1, byte 2) (declare column "a" as int64)`},
		{"beyond float64", with("a", float64Type), []string{"a\n1e400\n"}, `read csv: a.csv:2: column "a": expected float64, found "1e400" (row 1, byte 2)`},
		{"beyond float32", with("a", float32Type), []string{"a\n1e39\n"}, `read csv: a.csv:2: column "a": expected float32, found "1e39" (row 1, byte 2)`},
		{"hexadecimal", with("a", float64Type), []string{"a\n0x1p3\n"}, `read csv: a.csv:2: column "a": expected float64, found "0x1p3" (row 1, byte 2)`},
		{"underscore", with("a", float64Type), []string{"a\n1_000\n"}, `read csv: a.csv:2: column "a": expected float64, found "1_000" (row 1, byte 2)`},
		{"decimal comma", semicolon, []string{"a;b\n1,5;2\n"}, `read csv: a.csv:2: column "a": expected float64, found "1,5" (row 1, byte 4) (numbers need a decimal point, not a comma)`},
		{"null word", with("a", float64Type), []string{"a\nN/A\n"}, `read csv: a.csv:2: column "a": expected float64, found "N/A" (row 1, byte 2) (list "N/A" in nulls if it means null)`},
		{"empty is no null", listed, []string{"a,b\nNA,1\n,2\n"}, `read csv: a.csv:3: column "a": expected int64, found "" (row 2, byte 9) (list "" in nulls if it means null)`},
		{"quoted null text is none", listed, []string{"a,b\n\"NA\",1\n"}, `read csv: a.csv:2: column "a": expected int64, found "NA" (row 1, byte 4) (list "NA" in nulls if it means null)`},
		{"bool", with("a", boolType), []string{"a\nyes\n"}, `read csv: a.csv:2: column "a": expected bool, found "yes" (row 1, byte 2)`},
		{"date", with("a", dateType), []string{"a\n2023-02-29\n"}, `read csv: a.csv:2: column "a": expected date, found "2023-02-29" (row 1, byte 2)`},
		{"timestamp", with("a", timestampType), []string{"a\n2023-02-28T24:00:00\n"}, `read csv: a.csv:2: column "a": expected timestamp, found "2023-02-28T24:00:00" (row 1, byte 2)`},
		{"nanoseconds", with("a", timestampType), []string{"a\n2023-02-28T23:00:00.1234567\n"}, `read csv: a.csv:2: column "a": expected timestamp, found "2023-02-28T23:00:00.1234567" (row 1, byte 2)`},
		{"lone point", with("a", float64Type), []string{"a\n.\n"}, `read csv: a.csv:2: column "a": expected float64, found "." (row 1, byte 2) (list "." in nulls if it means null)`},
		{"lone sign", with("a", int64Type), []string{"a,b\n-,1\n"}, `read csv: a.csv:2: column "a": expected int64, found "-" (row 1, byte 4) (list "-" in nulls if it means null)`},

		{"Latin-1 text", usual, []string{"a,b\n1,x\n2,gr\xf6\xdfe\n"}, `read csv: a.csv:3: column "b": text is not UTF-8: "gr\xf6\xdfe" (row 2, byte 8) (convert it to UTF-8, for example with iconv -f latin1 -t utf-8)`},
		{"NUL", usual, []string{"a,b\n1,x\n2,\"y\x00\"\n"}, `read csv: a.csv:3: column "b": text holds a NUL byte: "y\x00" (row 2, byte 8)`},
		{"lone CR", usual, []string{"a,b\n1,x\n2,y\rz\n"}, `read csv: a.csv:3: column "b": text holds a carriage return (CR) without a line feed (LF): "y\rz" (row 2, byte 8)`},
		{"two CR", usual, []string{"a,b\n1,x\n2,y\r\r\n"}, `read csv: a.csv:3: column "b": text holds a carriage return (CR) without a line feed (LF): "y\r" (row 2, byte 8)`},
		{"text after a quote", usual, []string{"a,b\n1,x\n\"\n\"y,z\n"}, `read csv: a.csv:4: field 1: closing quote is followed by "y" (row 2, byte 8) (a quote inside a quoted field must be doubled)`},
		{"blank after a quote", usual, []string{"a,b\n1,x\n2,\"y\" \n"}, `read csv: a.csv:3: field 2: closing quote is followed by " " (row 2, byte 8) (a quote inside a quoted field must be doubled)`},
		{"CR after a quote", usual, []string{"a,b\n1,x\n2,\"y\"\r3\n"}, `read csv: a.csv:3: field 2: closing quote is followed by "\r" (row 2, byte 8) (a quote inside a quoted field must be doubled)`},
		{"quote is not closed", usual, []string{"a,b\n1,x\n\"\n\",\"y\n\n3,z\n"}, `read csv: a.csv:4: quoted field begins here and does not end before the file does (row 2, byte 8)`},
		{"long row", short, []string{"a,b\n1,x\n1234567890,1234567890\n"}, `read csv: a.csv:3: row is longer than 20 bytes (row 2, byte 8)`},
		{"long row in quotes", short, []string{"a,b\n1,x\n2,\"" + strings.Repeat("x\n", 100)}, `read csv: a.csv:3: row is longer than 20 bytes (row 2, byte 8) (perhaps a quote is not closed)`},
		{"long header", short, []string{"abcdefghijklmnopqrst,b\n1,x\n"}, `plan csv: a.csv:1: row is longer than 20 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files := writeFiles(t, test.files...)
			for i, splitBytes := range []int64{0, 1, 5} {
				_, err := readAll(t, test.options, files, dataset.PlanOptions{TargetSplitBytes: splitBytes}, readOptions(7, 64<<20), 3*i)
				checkError(t, err, engine.KindData, files, test.want)
			}
		})
	}
}

// TestUnreadRowIsNotRejected has the reading end within a row that is bad already: its error is none of the row's.
func TestUnreadRowIsNotRejected(t *testing.T) {
	files := writeFiles(t, "a,b\nx,1\ny,\""+strings.Repeat("line\n", 150_000)+"\"\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source, err := csv.New(with("a", int64Type))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	options := readOptions(10, 64<<20)
	options.Schema, options.Allocator = layout.Schema, memory.NewGoAllocator()
	rejected := 0
	options.BadRow = func(dataset.BadRow) error {
		rejected++
		cancel()
		return nil
	}
	r, err := source.Open(ctx, layout.Splits[0], options)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(ctx); engine.KindOf(err) != engine.KindCanceled || rejected != 1 {
		t.Errorf("%v, %d rows rejected", err, rejected)
	}
}

// TestWrongInference reads files whose type shows only after the sample.
func TestWrongInference(t *testing.T) {
	for value, want := range map[string]string{
		"x":   `read csv: a.csv:300002: column "a": expected int64, found "x" (row 300001, byte 1200004) (declare column "a" as string if it holds text)`,
		"2.5": `read csv: a.csv:300002: column "a": expected int64, found "2.5" (row 300001, byte 1200004) (declare column "a" as float64)`,
	} {
		files := writeFiles(t, "a,b\n"+strings.Repeat("1,2\n", 300_000)+value+",3\n")
		_, err := readAll(t, usual, files, dataset.PlanOptions{}, readOptions(10_000, 64<<20))
		checkError(t, err, engine.KindData, files, want)
	}
}

// TestWantedHint has values that are none of a type that later steps need: another type is not advised.
func TestWantedHint(t *testing.T) {
	for value, want := range map[string]string{
		"x":   `read csv: a.csv:2: column "b": expected int64, found "x" (row 1, byte 4) (the job's steps need column "b" as int64)`,
		"2.5": `read csv: a.csv:2: column "b": expected int64, found "2.5" (row 1, byte 4) (the job's steps need column "b" as int64)`,
		"n/a": `read csv: a.csv:2: column "b": expected int64, found "n/a" (row 1, byte 4) (list "n/a" in nulls if it means null)`,
	} {
		files := writeFiles(t, "a,b\n1,"+value+"\n")
		_, err := readAll(t, usual, files, dataset.PlanOptions{WantedTypes: map[string]arrow.DataType{"b": int64Type}}, readOptions(10, 1000))
		checkError(t, err, engine.KindData, files, want)
	}
}

func TestDelimiterHint(t *testing.T) {
	for _, test := range []struct {
		delimiter byte
		names     []string
		want      string
	}{
		{0, []string{"a;b"}, `set source.csv.delimiter: ";"`},
		{0, []string{"a\tb\tc|d"}, `set source.csv.delimiter: "\t"`},
		{0, []string{"a\x01b"}, `set source.csv.delimiter: "\x01"`},
		{'|', []string{"a,b"}, `set source.csv.delimiter: ","`},
		{';', []string{"a;b"}, ""}, // quoted
		{0, []string{"a"}, ""},
		{0, []string{"a;b", "c"}, ""},
		{0, nil, ""},
	} {
		if got := (csv.Options{Header: true, Delimiter: test.delimiter}).DelimiterHint(test.names); got != test.want {
			t.Errorf("delimiter %q, names %q: %s, want %s", test.delimiter, test.names, got, test.want)
		}
	}
}

// TestDelimiters reads and plans with every delimiter that is accepted.
func TestDelimiters(t *testing.T) {
	for c := rune(1); c < 128; c++ {
		options := usual
		options.Delimiter = byte(c)
		refused := strings.ContainsRune("\n\r\"+-.", c) || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if err := options.Validate(); (err != nil) != refused {
			t.Errorf("delimiter %q: %v", c, err)
		}
		if refused {
			continue
		}
		content := strings.ReplaceAll("x1,x2,x3,x4\r\n1,2.5,t,\"u,\nv\"\n\n-12345678901,1e3,,w\n", ",", string(c))
		got, err := readAll(t, options, writeFiles(t, content), dataset.PlanOptions{TargetSplitBytes: 1}, readOptions(10, 1000))
		if err != nil {
			t.Errorf("delimiter %q: %v", c, err)
			continue
		}
		want := fmt.Sprintf(`1 2.5 "t" %q|-12345678901 1000 null "w"`, "u"+string(c)+"\nv")
		if rows := strings.Join(got.rows, "|"); rows != want {
			t.Errorf("delimiter %q: rows are %s, want %s", c, rows, want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, test := range []struct {
		options csv.Options
		want    string
	}{
		{csv.Options{Delimiter: '\n'}, `csv options: '\n' cannot be the delimiter: use one ASCII character that is no letter, digit, sign, point, or line end`},
		{csv.Options{Delimiter: '.'}, `csv options: '.' cannot be the delimiter: use one ASCII character that is no letter, digit, sign, point, or line end`},
		{csv.Options{Quote: '\x01'}, `csv options: '\x01' cannot be the quote: use one ASCII character that is no letter, digit, sign, point, blank, or control character`},
		{csv.Options{Delimiter: '5'}, `csv options: '5' cannot be the delimiter: use one ASCII character that is no letter, digit, sign, point, or line end`},
		{csv.Options{Quote: ' '}, `csv options: ' ' cannot be the quote: use one ASCII character that is no letter, digit, sign, point, blank, or control character`},
		{csv.Options{Quote: ','}, `csv options: delimiter and quote are both ','`},
		{csv.Options{MaxLineBytes: -1}, `csv options: max line bytes is -1: use 1 to 1073741824, or 0 for 16777216`},
		{csv.Options{Columns: []csv.Column{{}}}, `csv options: column 1 has no name`},
		{csv.Options{Columns: []csv.Column{{Name: "a"}, {Name: "a"}}}, `csv options: column "a" is declared twice`},
		{csv.Options{Columns: []csv.Column{{Name: "a", Type: arrow.PrimitiveTypes.Uint8}}}, `csv options: column "a": csv has no values of type uint8`},
	} {
		source, err := csv.New(test.options)
		checkError(t, err, engine.KindInvalidArgument, nil, test.want)
		if source != nil {
			t.Error("there is a source all the same")
		}
	}
}

func TestChangedFile(t *testing.T) {
	ctx := t.Context()
	const hint = " (leave input files alone while a job runs; submit the job again to read the new content)"
	big := "a\n" + strings.Repeat("123456\n", 1_000_000)
	for _, test := range []struct {
		name       string
		beforeOpen bool
		change     func(t *testing.T, path string)
		want       string
	}{
		{"longer", true, func(t *testing.T, path string) { appendTo(t, path, "5\n") },
			"read csv: a.csv: file changed since the job was planned: it had 7000002 bytes and has 7000004" + hint},
		{"modified", true, func(t *testing.T, path string) { touch(t, path) },
			"read csv: a.csv: file changed since the job was planned: it was modified at 2001-09-09T01:46:40.000Z" + hint},
		{"truncated while it is read", false, func(t *testing.T, path string) {
			if err := os.Truncate(path, 5_000_000); err != nil {
				t.Fatal(err)
			}
		}, "read csv: a.csv: file changed since the job was planned: it ends at byte 5000000" + hint},
		{"modified while it is read", false, func(t *testing.T, path string) { touch(t, path) },
			"read csv: a.csv: file changed since the job was planned: it was modified at 2001-09-09T01:46:40.000Z" + hint},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := writeFiles(t, big)
			source, err := csv.New(usual)
			if err != nil {
				t.Fatal(err)
			}
			layout, err := source.Plan(ctx, files, dataset.PlanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer allocator.AssertSize(t, 0)
			if test.beforeOpen {
				test.change(t, files[0].Path)
			}
			reader, err := source.Open(ctx, layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 1 << 20, Allocator: allocator})
			for first := true; err == nil; first = false {
				var record arrow.Record
				if record, err = reader.Read(ctx); err == nil {
					record.Release()
				}
				if first {
					test.change(t, files[0].Path)
				}
			}
			checkError(t, err, engine.KindData, files, test.want)
			if reader != nil {
				_ = reader.Close()
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		files := writeFiles(t, "a\n1\n")
		if err := os.Remove(files[0].Path); err != nil {
			t.Fatal(err)
		}
		_, err := readAll(t, usual, files, dataset.PlanOptions{}, readOptions(1, 1))
		checkError(t, err, engine.KindNotFound, files, "plan csv: a.csv: no such file or directory")
	})
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	when := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// TestStop closes and cancels readers at work: nothing may be left.
func TestStop(t *testing.T) {
	files := writeFiles(t, "a,b\n"+strings.Repeat("1,x\n", 50_000))
	source, err := csv.New(usual)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options := dataset.ReadOptions{Schema: layout.Schema, BatchRows: 1000, BatchBytes: 1 << 20, Allocator: allocator}
	reader, err := source.Open(t.Context(), layout.Splits[0], options)
	if err != nil {
		t.Fatal(err)
	}
	record, err := reader.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reader.Read(ctx); !errors.Is(err, context.Canceled) || engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("canceled Read returned %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if _, err := reader.Read(t.Context()); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("closed reader returned %v", err)
	}
	if rows := rowsOf(record); len(rows) != 1000 || rows[999] != `1 "x"` {
		t.Errorf("record of a closed reader has rows %q", rows)
	}
	record.Release()
	if _, err := source.Plan(ctx, files, dataset.PlanOptions{TargetSplitBytes: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Plan returned %v", err)
	}
	if _, err := source.Open(ctx, layout.Splits[0], options); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Open returned %v", err)
	}
	options.BatchRows = 0
	_, err = source.Open(t.Context(), layout.Splits[0], options)
	checkError(t, err, engine.KindInvalidArgument, files, "read csv: a.csv: a record batch of 0 rows and 1048576 bytes: both must be at least 1")
	if filepath.Base(reader.Where(0)) != "a.csv" {
		t.Errorf("Where without a record batch is %s", reader.Where(0))
	}
}
