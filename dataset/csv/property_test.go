package csv_test

import (
	"bytes"
	stdcsv "encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

// randomTable writes a random well-formed file and says what is in it.
type randomTable struct {
	*rand.Rand
	options csv.Options
	lineEnd string
	content bytes.Buffer
	rows    []string
}

var words = []string{
	"", "x", "hello", "a b", " padded ", "größe", "世界", "🎈", "true", "12", "NA", "tab\there", strings.Repeat("long ", 50), "é,é", "semi;colon",
	"line\nend", "\n", "\n\n\n", "quo\"te", "\"", "\"\"", ",", ",\n\",", "'", "crlf\r\nend", "cr\rend", "\r", "\r\n",
}

func newRandomTable(seed uint64) *randomTable {
	r := &randomTable{Rand: rand.New(rand.NewPCG(seed, 7))}
	r.lineEnd = []string{"\n", "\r\n"}[r.IntN(2)]
	r.options = csv.Options{Header: r.IntN(3) > 0, Quote: "\"'"[r.IntN(2)], Delimiter: ",;\t|"[r.IntN(4)]}
	types := []arrow.DataType{boolType, int32Type, int64Type, float32Type, float64Type, textType, dateType, timestampType}
	for i := range 1 + r.IntN(8) {
		r.options.Columns = append(r.options.Columns, csv.Column{Name: fmt.Sprintf("c%d", i), Type: types[r.IntN(len(types))]})
	}
	if r.IntN(4) == 0 {
		r.content.WriteString("\xef\xbb\xbf")
	}
	if r.options.Header {
		r.record(func(i int) { r.text(r.options.Columns[i].Name, r.IntN(2) == 0) })
	}
	rows := r.IntN(60)
	if !r.options.Header {
		rows++
	}
	for range rows {
		if len(r.options.Columns) > 1 && r.IntN(10) == 0 {
			r.content.WriteString([]string{"\n", "\r\n"}[r.IntN(2)])
		}
		var values []string
		r.record(func(i int) { values = append(values, r.value(r.options.Columns[i].Type)) })
		r.rows = append(r.rows, strings.Join(values, " "))
	}
	// Without its line end, a last row that is an empty line would be none.
	if len(r.options.Columns) > 1 && r.IntN(3) == 0 {
		r.content.Truncate(len(bytes.TrimSuffix(r.content.Bytes(), []byte(r.lineEnd))))
	}
	return r
}

func (r *randomTable) record(field func(i int)) {
	for i := range r.options.Columns {
		if i > 0 {
			r.content.WriteByte(r.options.Delimiter)
		}
		field(i)
	}
	r.content.WriteString(r.lineEnd)
}

// text writes a field, in quotes if it must or may be.
func (r *randomTable) text(s string, quoted bool) {
	special := string([]byte{r.options.Delimiter, '\n', '\r'})
	if !quoted && !strings.ContainsAny(s, special) && !strings.HasPrefix(s, string(r.options.Quote)) {
		r.content.WriteString(s)
		return
	}
	q := string(r.options.Quote)
	r.content.WriteString(q + strings.ReplaceAll(s, q, q+q) + q)
}

// value writes a random field and returns its value as readAll shows it.
func (r *randomTable) value(t arrow.DataType) string {
	if r.IntN(8) == 0 {
		if t.ID() == arrow.STRING {
			return "null" // the empty field, as it is written: nothing
		}
		r.text("", r.IntN(2) == 0)
		return "null"
	}
	var field, shown string
	switch t.ID() {
	case arrow.BOOL:
		shown = strconv.FormatBool(r.IntN(2) == 0)
		field = shown
	case arrow.INT32:
		shown = strconv.FormatInt(int64(int32(r.Uint32()))>>r.IntN(32), 10)
		field = shown
	case arrow.INT64:
		shown = strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
		field = shown
	case arrow.FLOAT32:
		field = randomFloat(r.Rand)
		f, err := strconv.ParseFloat(field, 32)
		if err != nil {
			field, f = "0", 0
		}
		shown = strconv.FormatFloat(f, 'g', -1, 32)
	case arrow.FLOAT64:
		field = randomFloat(r.Rand)
		f, err := strconv.ParseFloat(field, 64)
		if err != nil {
			field, f = "0", 0
		}
		shown = strconv.FormatFloat(f, 'g', -1, 64)
	case arrow.DATE32:
		shown = arrow.Date32(r.IntN(2_000_000) - 700_000).FormattedString()
		field = shown
	case arrow.TIMESTAMP:
		shown = arrow.Timestamp(r.Int64N(3e17) - 6e16).ToTime(arrow.Microsecond).Format("2006-01-02T15:04:05.999999")
		field = shown
	default:
		word := words[r.IntN(len(words))] + words[r.IntN(len(words))]
		r.text(word, word == "" || r.IntN(3) == 0)
		return fmt.Sprintf("%q", word)
	}
	if r.IntN(5) == 0 && r.options.Delimiter != '\t' {
		field = " " + field + "\t"
	}
	r.text(field, r.IntN(4) == 0)
	return shown
}

// randomFloat writes a number in one of many ways.
func randomFloat(r *rand.Rand) string {
	f := math.Float64frombits(r.Uint64())
	switch r.IntN(8) {
	case 0:
		f = r.NormFloat64()
	case 1:
		return strconv.FormatFloat(r.NormFloat64()*100, 'f', r.IntN(30), 64)
	case 2:
		return strconv.Itoa(r.IntN(100_000_000) >> r.IntN(27))
	case 3:
		return strconv.FormatFloat(r.Float64()*math.Pow10(r.IntN(7)), 'f', r.IntN(6), 64)
	case 4:
		return fmt.Sprintf("%d.%de%d", r.Int64()>>r.IntN(63), r.Uint64()>>r.IntN(64), r.IntN(80)-40)
	case 5:
		f = float64(math.Float32frombits(r.Uint32()))
	case 6: // in the middle of two float64, or nearly
		middle := r.Uint64()>>10 | 1<<53 | 1
		return fmt.Sprintf("%d%s", middle, []string{"", ".0", ".0000000001", "e3", "00000000000000000001"}[r.IntN(5)])
	}
	return strconv.FormatFloat(f, []byte{'g', 'e', 'f'}[r.IntN(3)], []int{-1, -1, 17, 20}[r.IntN(4)], 64)
}

// TestRandomTables reads random tables under many bounds of splits and record batches: the rows must always be those that were
// written, and the record batches those that dataset.BatchRowsWithin cuts.
func TestRandomTables(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(150) {
		seed := seed + i
		want := newRandomTable(seed)
		files := writeFiles(t, want.content.String())
		if files[0].SizeBytes == 0 {
			continue
		}
		for range 6 {
			splitBytes := []int64{1, 2, 1 + want.Int64N(50), 1 + want.Int64N(2000), 0}[want.IntN(5)]
			bounds := readOptions(1+want.Int64N(40), []int64{1, 1 + want.Int64N(1000), 1 << 20}[want.IntN(3)])
			got, err := readAll(t, want.options, files, dataset.PlanOptions{TargetSplitBytes: splitBytes}, bounds, []int{0, 1 + want.IntN(5), 1 + want.IntN(500)}[want.IntN(3)])
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if !slices.Equal(got.rows, want.rows) {
				t.Fatalf("seed %d, splits of %d: rows are\n     %q\nwant %q\nof %q", seed, splitBytes, got.rows, want.rows, want.content.String())
			}
			checkBatches(t, want.options, got, bounds)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// checkBatches compares the sizes of record batches with what dataset.BatchRowsWithin says of the whole split.
func checkBatches(t *testing.T, options csv.Options, got table, bounds dataset.ReadOptions) {
	t.Helper()
	source, err := csv.New(options)
	if err != nil {
		t.Fatal(err)
	}
	for i, split := range got.splits {
		reader, err := source.Open(t.Context(), split, dataset.ReadOptions{
			Schema: got.schema, BatchRows: 1 << 40, BatchBytes: 1 << 40, Allocator: memory.NewGoAllocator(),
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []int64
		if whole, err := reader.Read(t.Context()); err == nil {
			for row := int64(0); row < whole.NumRows(); row += want[len(want)-1] {
				want = append(want, dataset.BatchRowsWithin(whole, row, bounds.BatchRows, bounds.BatchBytes))
			}
			whole.Release()
		}
		_ = reader.Close()
		if !slices.Equal(got.batches[i], want) {
			t.Errorf("record batches of %v rows, want %v for %d rows and %d bytes", got.batches[i], want, bounds.BatchRows, bounds.BatchBytes)
		}
	}
}

// TestAgainstStandardLibrary reads random tables as text and compares with encoding/csv, which turns CRLF within quotes into LF.
func TestAgainstStandardLibrary(t *testing.T) {
	seed := rand.Uint64()
	compared := 0
	for i := range uint64(300) {
		table := newRandomTable(seed + i)
		table.options.Quote = '"'
		if len(table.options.Columns) == 1 || strings.Contains(table.content.String(), "'") {
			continue
		}
		table.options.Columns, table.options.Header = nil, false
		standard := stdcsv.NewReader(bytes.NewReader(bytes.TrimPrefix(table.content.Bytes(), []byte("\xef\xbb\xbf"))))
		standard.Comma = rune(table.options.Delimiter)
		records, err := standard.ReadAll()
		if err != nil {
			continue // words with quotes are not to its taste
		}
		var want []string
		for _, record := range records {
			want = append(want, fmt.Sprintf("%q", record))
		}
		for i := range records[0] {
			table.options.Columns = append(table.options.Columns, csv.Column{Name: fmt.Sprint(i), Type: textType})
		}
		got, err := readAll(t, table.options, writeFiles(t, table.content.String()), dataset.PlanOptions{TargetSplitBytes: 1 + table.Int64N(300)}, readOptions(10, 1<<20))
		if err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
		for i := range got.rows {
			got.rows[i] = "[" + strings.ReplaceAll(strings.ReplaceAll(" "+got.rows[i]+" ", " null ", ` "" `), " null ", ` "" `) + "]"
			got.rows[i] = strings.ReplaceAll(strings.ReplaceAll(got.rows[i], "[ ", "["), " ]", "]")
			got.rows[i] = strings.ReplaceAll(got.rows[i], `\r\n`, `\n`)
		}
		if !slices.Equal(got.rows, want) {
			t.Fatalf("seed %d: rows are\n     %q\nwant %q", seed+i, got.rows, want)
		}
		compared++
	}
	if compared < 10 {
		t.Errorf("only %d tables could be compared", compared)
	}
	t.Logf("%d tables compared", compared)
}
