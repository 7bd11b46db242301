package json_test

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/klauspost/compress/gzip"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/json"
)

func TestRead(t *testing.T) {
	nulls := strings.Join([]string{"null", "null"}, " ")
	declared := func(columns ...json.Column) how { return how{options: json.Options{Columns: columns}} }
	float32s := arrow.PrimitiveTypes.Float32
	for _, test := range []struct {
		name   string
		how    how
		files  []string
		schema string // names and types
		rows   []string
	}{
		{"every type", how{}, []string{`{"b":true,"i":-1,"f":1.5e3,"s":"x\n\"\u00e9\ud83d\ude00/","d":"2024-02-29","t":"2024-02-29T01:02:03.5Z","l":[1,null,2.5],"n":null}` + "\r\n"},
			"b bool, i int64, f float64, s string, d date, t timestamp, l list<item: float64, nullable>, n string",
			[]string{"true -1 1500 \"x\n\"é😀/\" 2024-02-29 2024-02-29 01:02:03.5Z [1,null,2.5] null"}},
		{"missing keys, other order, blanks", how{}, []string{"\ufeff\n {\"a\": 1 , \"b\" : 2.5}\n\r\n\t\n{\"b\":3}\n{ }\n{\"b\":null,\"a\":-0}"},
			"a int64, b float64", []string{"1 2.5", "null 3", nulls, "0 null"}},
		{"keys of all files", how{}, []string{`{"a":1}`, `{"b":"x"}`, "", "\n"}, "a int64, b string", []string{"1 null", `null "x"`}},
		{"integers and decimals", how{}, []string{"{\"a\":1}\n{\"a\":2.5}"}, "a float64", []string{"1", "2.5"}},
		{"dates and times", how{}, []string{"{\"a\":\"2024-01-01\",\"b\":\"2024-01-01\"}\n{\"a\":\"2024-01-01 10:00:00\",\"b\":\"x\"}"},
			"a timestamp, b string", []string{`2024-01-01 00:00:00Z "2024-01-01"`, `2024-01-01 10:00:00Z "x"`}},
		{"declared", declared(json.Column{Name: "z", Type: float32s}, json.Column{Name: "a", Type: arrow.BinaryTypes.String}),
			[]string{"{\"a\":1.50,\"c\":1}\n{\"a\":true}\n{\"a\":\"x\"}\n{\"a\":99999999999999999999}"},
			"a string, c int64, z float32", []string{`"1.50" 1 null`, `"true" ` + nulls, `"x" ` + nulls, `"99999999999999999999" ` + nulls}},
		{"ignored, declared", how{options: json.Options{IgnoreUnknown: true, Columns: []json.Column{{Name: "z"}, {Name: "a"}}}},
			[]string{"{\"a\":1,\"c\":{\"d\":[{}]},\"c\":1}"}, "z string, a int64", []string{"null 1"}},
		{"ignored, later", how{sample: 5, options: json.Options{IgnoreUnknown: true}}, []string{"{\"a\":1}\n{\"b\":2,\"a\":3}"}, "a int64", []string{"1", "3"}},
		{"wanted", how{wanted: map[string]arrow.DataType{"a": float32s, "b": arrow.PrimitiveTypes.Uint8}}, []string{`{"a":1,"b":2}`}, "a float32, b int64", []string{"1 2"}},
		{"only some", how{columns: []int{1}}, []string{`{"a":1,"b":2,"c":[1]}`}, "a int64, b int64, c list<item: float64, nullable>", []string{"2"}},
		{"numbers", how{}, []string{`{"a":9223372036854775807,"b":1e-400,"c":0.1}`}, "a int64, b float64, c float64", []string{"9223372036854775807 0 0.1"}},
		{"escaped key", how{}, []string{"{\"a\\u0062\":1}\n{\"ab\":2}"}, "ab int64", []string{"1", "2"}},
		{"nothing but declared", declared(json.Column{Name: "a"}), []string{""}, "a string", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readAll(t, test.how, writeFiles(t, test.files...))
			if err != nil {
				t.Fatal(err)
			}
			var schema []string
			for _, f := range got.schema.Fields() {
				schema = append(schema, f.Name+" "+dataset.TypeName(f.Type))
			}
			if s := strings.Join(schema, ", "); s != test.schema {
				t.Errorf("schema is %s, want %s", s, test.schema)
			}
			if !slices.Equal(got.rows, test.rows) {
				t.Errorf("rows are %q, want %q", got.rows, test.rows)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	deep := strings.Repeat("[", 70)
	for _, test := range []struct {
		name  string
		how   how
		files []string
		want  string
	}{
		{"no keys", how{}, []string{"", "\n"}, "plan json: a.json: no file has a line that tells the columns (declare the columns)"},
		{"list of objects", how{}, []string{"[{\"a\":1}]"}, `plan json: a.json:1: byte 0: expected an object, found "[" (every line holds one object; jq -c '.[]' makes such lines of a list)`},
		{"many lines", how{}, []string{"\n{\n  \"a\": 1\n}\n"}, "plan json: a.json:2: byte 2: the line ends inside the object (every line holds one whole object; jq -c . makes such lines)"},
		{"csv", how{}, []string{"a,b\n1,2\n"}, `plan json: a.json:1: byte 0: expected an object, found "a"`},
		{"nan", how{}, []string{"{\"a\":1.5}\n{\"a\":NaN}\n"}, `read json: a.json:2: byte 15: expected a value, found "N" (JSON has no NaN and no infinity; write null)`},
		{"nested", how{}, []string{"{\"a\":1}\n{\"a\":{\"b\":1}}\n"}, "plan json: a.json:2: key \"a\" is an object, which no column can hold (give it to the engine in columns of its own, or declare the columns that you need and set source.json.unknown_keys: ignore)"},
		{"list of texts", how{}, []string{`{"a":["x"]}`}, "plan json: a.json:1: key \"a\" is a list of something other than numbers, which no column can hold (give it to the engine in columns of its own, or declare the columns that you need and set source.json.unknown_keys: ignore)"},
		{"two kinds", how{}, []string{`{"a":1}`, "\n{\"a\":\"x\"}"}, `plan json: key "a" is a number in a.json:1 and a text in b.json:2 (declare column "a" as string)`},
		{"beyond int64", how{}, []string{`{"a":9223372036854775808}`}, `plan json: key "a" is beyond int64: 9223372036854775808 in a.json:1 (declare column "a" as string or float64)`},
		{"decimal later", how{sample: 5}, []string{"{\"a\":1}\n{\"a\":2.5}"}, `read json: a.json:2: byte 13: column "a": expected int64, found 2.5 (declare column "a" as float64)`},
		{"text later", how{sample: 5}, []string{"{\"a\":1}\n{\"a\":\"x\"}"}, `read json: a.json:2: byte 14: column "a": expected int64, found "x" (declare column "a" as string)`},
		{"number later", how{sample: 5}, []string{"{\"a\":\"x\"}\n{\"a\":1}"}, `read json: a.json:2: byte 15: column "a": expected string, found 1 (declare column "a" as string)`},
		{"list later", how{sample: 5}, []string{"{\"a\":\"x\"}\n{\"a\":[1]}"}, `read json: a.json:2: byte 15: column "a": expected string, found a list`},
		{"beyond float64", how{}, []string{`{"a":1e999}`}, `read json: a.json:1: byte 5: column "a": expected float64, found 1e999`},
		{"unknown key", how{sample: 5}, []string{"{\"a\":1}\n{\"a\":1,\"b\":2}"}, `read json: a.json:2: byte 15: key "b" is no column: the beginnings of the files have none of that name (declare it in source.json.columns, or set source.json.unknown_keys: ignore)`},
		{"twice", how{}, []string{"{\"a\":1,\"\\u0061\":1}"}, `read json: a.json:1: byte 7: the object has the key "a" twice`},
		{"deep", how{}, []string{"{\"a\":" + deep + strings.Repeat("]", 70) + "}"}, "plan json: a.json:1: byte 68: values lie more than 64 deep in each other"},
		{"long", how{options: json.Options{MaxLineBytes: 10}}, []string{"{\"a\":1}\n{\"a\":\"" + strings.Repeat("x", 50) + "\"}"}, "plan json: a.json:2: byte 8: line is longer than 10 bytes"},
		{"not UTF-8", how{}, []string{"{\"a\":\"caf\xe9\"}"}, `plan json: a.json:1: byte 6: text is not UTF-8: "caf\xe9"`},
		{"half a pair", how{}, []string{`{"a":"\ud83d"}`}, `plan json: a.json:1: byte 6: "\\ud83d" is no escape`},
		{"control character", how{}, []string{"{\"a\":\"x\ty\"}"}, `plan json: a.json:1: byte 7: control character '\t' in a text`},
		{"leading zero", how{}, []string{`{"a":01}`}, `plan json: a.json:1: byte 5: the number "01" begins with 0`},
		{"behind", how{}, []string{`{"a":1} {"a":2}`}, `plan json: a.json:1: byte 8: expected the end of the line, found "{"`},
		{"comma at the end", how{}, []string{`{"a":1,}`}, `plan json: a.json:1: byte 7: expected a key in double quotes, found "}"`},
		{"comma in a list", how{}, []string{`{"a":[1,]}`}, `plan json: a.json:1: byte 8: expected a value, found "]"`},
		{"UTF-16", how{}, []string{"\xff\xfe{\x00"}, "read json: a.json: is not UTF-8: it begins with the byte order mark of UTF-16 (convert it, for example with iconv -f UTF-16 -t UTF-8)"},
		{"gzip", how{}, []string{"\x1f\x8b\x08"}, "read json: a.json: is a gzip file, not JSON lines (give it a name that ends in .gz, and it is unpacked as it is read)"},
		{"parquet", how{}, []string{"PAR1\x15"}, "read json: a.json: is a Parquet file, not JSON lines (read it with source.parquet)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := writeFiles(t, test.files...)
			_, err := readAll(t, test.how, files)
			got := strings.ReplaceAll(fmt.Sprint(err), filepath.Dir(files[0].Path)+"/", "")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if kind := engine.KindOf(err); kind != engine.KindData {
				t.Errorf("kind %v", kind)
			}
		})
	}
}

// TestSame reads one table with other splits, blocks, and record batches, and compressed.
func TestSame(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var content bytes.Buffer
	for i := range 3000 {
		row := map[string]any{"i": i, "f": random.NormFloat64() * math.Pow(10, float64(random.IntN(40)-20)), "s": strings.Repeat("é\n\"", random.IntN(20))}
		if random.IntN(3) == 0 {
			delete(row, "f")
		}
		if random.IntN(5) == 0 {
			row["l"] = []float64{1, random.Float64()}
		}
		line, err := stdjson.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		content.Write(line)
		content.WriteString([]string{"\n", "\r\n", "\n\n"}[random.IntN(3)])
	}
	files := writeFiles(t, content.String())
	want, err := readAll(t, how{}, files)
	if err != nil || len(want.rows) != 3000 {
		t.Fatalf("%d rows, %v", len(want.rows), err)
	}
	for range 20 {
		h := how{target: 1 + random.Int64N(100_000), rows: 1 + random.Int64N(500), bytes: 1 + random.Int64N(50_000), block: 1 + random.IntN(5000)}
		got, err := readAll(t, h, files)
		if err != nil || !slices.Equal(got.rows, want.rows) || !slices.Equal(got.where, want.where) || got.read != files[0].SizeBytes {
			t.Fatalf("%+v: %d rows, %d bytes, %v", h, len(got.rows), got.read, err)
		}
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(content.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, how{target: 1000, block: 777}, []dataset.File{writeFile(t, filepath.Join(t.TempDir(), "a.json.gz"), packed.Bytes())})
	if err != nil || !slices.Equal(got.rows, want.rows) || len(got.splits) != 1 || got.read != int64(packed.Len()) {
		t.Errorf("gzip: %d rows in %d splits, %v", len(got.rows), len(got.splits), err)
	}
}

// FuzzRead compares with encoding/json what lines are taken, and their values.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":"x\u00e9\ud83d\ude00","c":[1,2],"d":null}`, `{"a":1e5,"b":"\\"}`, `{"a":{"b":[{}]}}`, `{"a":-0.0}`, "{\"a\":1}\n{\"a\":2}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\n") || bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) || len(bytes.Trim(line, " \t\r")) == 0 {
			return
		}
		a := json.Column{Name: "a", Type: arrow.BinaryTypes.String}
		got, err := readAll(t, how{options: json.Options{IgnoreUnknown: true, Columns: []json.Column{a}}, block: 7}, writeFiles(t, string(line)))
		decoder := stdjson.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		var want map[string]any
		stdErr := decoder.Decode(&want)
		if stdErr == nil && decoder.Decode(new(any)) != io.EOF {
			stdErr = errors.New("more behind it")
		}
		if stdErr == nil && want == nil {
			stdErr = errors.New("null")
		}
		if err != nil {
			// Ours is stricter in what encoding/json replaces or lets pass.
			text := string(line)
			strict := strings.Contains(text, `\u`) || strings.ToValidUTF8(text, "") != text || strings.Count(text, `"a"`) > 1 ||
				strings.Count(text, "[")+strings.Count(text, "{") > 60 || strings.Contains(err.Error(), "expected string")
			if stdErr == nil && !strict {
				t.Fatalf("%q: refused: %v", line, err)
			}
			return
		}
		if stdErr != nil {
			t.Fatalf("%q: taken, and encoding/json says %v", line, stdErr)
		}
		value := "null"
		switch v := want["a"].(type) {
		case string:
			value = `"` + v + `"`
		case stdjson.Number:
			value = `"` + v.String() + `"`
		case bool:
			value = fmt.Sprintf(`"%v"`, v)
		case nil:
		default:
			t.Fatalf("%q: taken", line)
		}
		if got.rows[0] != value {
			t.Fatalf("%q: got %s, want %s", line, got.rows[0], value)
		}
	})
}

func wineLines(rows int) []byte {
	var b bytes.Buffer
	random := rand.New(rand.NewPCG(1, 1))
	for range rows {
		b.WriteString("{")
		for c := range 11 {
			if c > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, `"column %d":%.4g`, c, random.Float64()*10+0.1)
		}
		b.WriteString(",\"note\":\"a short text\"}\n")
	}
	return b.Bytes()
}

// BenchmarkRead compares with a loop over encoding/json.
func BenchmarkRead(b *testing.B) {
	const rows = 100_000
	content := wineLines(rows)
	file := writeFile(b, filepath.Join(b.TempDir(), "a.json"), content)
	source, err := json.New(json.Options{})
	if err != nil {
		b.Fatal(err)
	}
	layout, err := source.Plan(b.Context(), []dataset.File{file}, dataset.PlanOptions{TargetSplitBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("engine", func(b *testing.B) {
		b.SetBytes(file.SizeBytes)
		for b.Loop() {
			r, err := source.Open(b.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 64 << 20, Allocator: memory.DefaultAllocator})
			if err != nil {
				b.Fatal(err)
			}
			for {
				record, err := r.Read(b.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				record.Release()
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(file.SizeBytes)
		for b.Loop() {
			for line := range bytes.Lines(content) {
				var row map[string]any
				if err := stdjson.Unmarshal(line, &row); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
	})
}
