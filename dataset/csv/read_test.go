package csv_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

func TestRead(t *testing.T) {
	noHeader := csv.Options{Quote: '"'}
	semicolon := csv.Options{Header: true, Quote: '"', Delimiter: ';'}
	noQuote := csv.Options{Header: true}
	nulls := with("t", textType)
	nulls.Nulls = []string{"NA", "null"}
	for _, test := range []struct {
		name    string
		options csv.Options
		files   []string
		schema  string // names and types
		rows    string // separated by |
	}{
		{"plain", usual, []string{"a,b\n1,x\n2,y\n"}, "a int64, b string", `1 "x"|2 "y"`},
		{"no last line end", usual, []string{"a,b\n1,x\n2,y"}, "a int64, b string", `1 "x"|2 "y"`},
		{"CRLF", usual, []string{"a,b\r\n1,x\r\n2,y\r\n"}, "a int64, b string", `1 "x"|2 "y"`},
		{"CRLF after numbers", usual, []string{"a,b\r\n1,2.5\r\n2,-123456.125\r\n3,1\r"}, "a int64, b float64", `1 2.5|2 -123456.125|3 1`},
		{"mixed line ends", usual, []string{"a,b\r\n1,2\n3,4\r\n5,6"}, "a int64, b int64", `1 2|3 4|5 6`},
		{"byte order mark", usual, []string{"\xef\xbb\xbfa,b\n1,2\n"}, "a int64, b int64", `1 2`},
		{"byte order mark before a quote", usual, []string{"\xef\xbb\xbf\"a\",b\n1,2\n"}, "a int64, b int64", `1 2`},
		{"byte order mark without header", noHeader, []string{"\xef\xbb\xbf1,2\n"}, "f0 int64, f1 int64", `1 2`},
		{"header alone", usual, []string{"a,b\n"}, "a string, b string", ""},
		{"header alone without line end", usual, []string{"a,b"}, "a string, b string", ""},
		{"empty lines", usual, []string{"\n\r\na,b\n\n1,2\r\n\r\n\n3,4\n\n"}, "a int64, b int64", `1 2|3 4`},
		{"empty lines before the header of one column", usual, []string{"\n\r\na\n\n1\n"}, "a int64", `null|1`},
		{"empty lines of one column are nulls", usual, []string{"a\n1\n\n3\n\n"}, "a int64", `1|null|3|null`},
		{"quotes", usual, []string{"a,b\n\"x,y\",\"1\"\n\"x\"\"y\"\"\",2\n\"\",3\n\"x\ny\r\nz\",4\n"}, "a string, b int64",
			`"x,y" 1|"x\"y\"" 2|"" 3|"x\ny\r\nz" 4`},
		{"quoted everything and CRLF", usual, []string{"\"a\",\"b\"\r\n\"1\",\"2\"\r\n\"3\",\"4\""}, "a int64, b int64", `1 2|3 4`},
		{"quote in the middle is data", usual, []string{"a,b\n5\" disk,x\"y\n 6\",\"z\"\n"}, "a string, b string", `"5\" disk" "x\"y"|" 6\"" "z"`},
		{"quote at the end of the file", usual, []string{"a,b\n1,\"z\""}, "a int64, b string", `1 "z"`},
		{"only doubled quotes", usual, []string{"a,b\n\"\"\"\"\"\",1\n\"\"\"\",2\n"}, "a string, b int64", `"\"\"" 1|"\"" 2`},
		{"quoting off", noQuote, []string{"a,b\n\"x,1\n\"\"y\"\",2\n"}, "a string, b int64", `"\"x" 1|"\"\"y\"\"" 2`},
		{"other delimiter and quote", csv.Options{Header: true, Delimiter: '\t', Quote: '\''}, []string{"a\tb\n'x\ty'\t\"\n"}, "a string, b string", `"x\ty" "\""`},
		{"header with quotes and a line end", semicolon, []string{"\"fixed acidity\";\"p\n\"\"H\"\"\"\n7.4;3.51\n"}, "fixed acidity float64, p\n\"H\" float64", `7.4 3.51`},
		{"unicode", usual, []string{"größe,名\n1,héllo 世界 🎈\n"}, "größe int64, 名 string", `1 "héllo 世界 🎈"`},
		{"names without header", noHeader, []string{"1,x\n2,y\n"}, "f0 int64, f1 string", `1 "x"|2 "y"`},
		{"declared without header", csv.Options{Columns: []csv.Column{{Name: "u", Type: textType}, {Name: "v"}}}, []string{"1,2\n"}, "u string, v int64", `"1" 2`},

		{"nulls", usual, []string{"i,f,t,d\n1,,,2020-01-02\n,2.5,\"\",\n\"\",\" \",x,\"\"\n"}, "i int64, f float64, t string, d date",
			`1 null null 2020-01-02|null 2.5 "" null|null null "x" null`}, //nolint:dupword // values
		{"blanks alone", with("i", int64Type, "t", textType), []string{"i,t\n  ,  \n\t,x\n"}, "i int64, t string", `null "  "|null "x"`},
		{"listed nulls", nulls, []string{"i,t\nNA,NA\n1,\"NA\"\n null ,\n2,\"\"\n"}, "i int64, t string", `null null|1 "NA"|null ""|2 ""`},
		{"null in all types", with("b", boolType, "i", int32Type, "j", int64Type, "f", float32Type, "g", float64Type, "t", textType, "d", dateType, "s", timestampType),
			[]string{"b,i,j,f,g,t,d,s\n,,,,,,,\n1,1,1,1,1,1,2020-01-01,2020-01-01\n,,,,,,,\n"},
			"b bool, i int32, j int64, f float32, g float64, t string, d date, s timestamp",
			`null null null null null null null null|true 1 1 1 1 "1" 2020-01-01 2020-01-01T00:00:00|null null null null null null null null`}, //nolint:dupword // values

		{"blanks around numbers", with("a", float64Type, "b", int64Type, "c", boolType, "d", dateType), []string{"a,b,c,d\n 1.5 ,\t2, true,2020-02-29 \n\" 2.5\",\" 3 \",0,2020-02-29\n"},
			"a float64, b int64, c bool, d date", `1.5 2 true 2020-02-29|2.5 3 false 2020-02-29`},
		{"bool", with("a", boolType), []string{"a,b\ntrue,True\nFalse,TRUE\n1,false\n0,FALSE\n"}, "a bool, b bool", `true true|false true|true false|false false`},
		{"int64 bounds", usual, []string{"a\n9223372036854775807\n-9223372036854775808\n+7\n007\n-0\n00000000000000000000000000000012\n"}, "a int64",
			`9223372036854775807|-9223372036854775808|7|7|0|12`},
		{"int32 bounds", with("a", int32Type), []string{"a\n2147483647\n-2147483648\n+7\n"}, "a int32", `2147483647|-2147483648|7`},
		{"float forms", with("a", float64Type), []string{"a\n1\n-1.\n.5\n1e3\n1E-3\n+2.5e+2\nnan\n-inf\n+Infinity\nINF\n-0\n123456789012345678901234567890\n1e-400\n"}, "a float64",
			`1|-1|0.5|1000|0.001|250|NaN|-Inf|+Inf|+Inf|-0|1.2345678901234568e+29|0`},
		{"float32", with("a", float32Type), []string{"a\n0.1\n-16777217\n16777217.0000001\n3.4028235e38\n1e-45\nnan\n"}, "a float32",
			`0.1|-1.6777216e+07|1.6777218e+07|3.4028235e+38|1e-45|NaN`},
		{"dates", usual, []string{"a\n1970-01-01\n0001-01-01\n9999-12-31\n2000-02-29\n1969-12-31\n"}, "a date", `1970-01-01|0001-01-01|9999-12-31|2000-02-29|1969-12-31`},
		{"timestamps", usual, []string{"a\n2006-01-02T15:04:05\n2006-01-02 15:04:05.5\n2006-01-02T15:04:05.000001Z\n2006-01-02T15:04:05+02:30\n2006-01-02T15:04:05.123456000-01:00\n2006-01-02\n"},
			"a timestamp", `2006-01-02T15:04:05|2006-01-02T15:04:05.5|2006-01-02T15:04:05.000001|2006-01-02T12:34:05|2006-01-02T16:04:05.123456|2006-01-02T00:00:00`},

		{"inference", usual, []string{"b,i,f,x,d,s,t,n,big,w\ntrue,1,1,1,2020-01-01,2020-01-01,1,,1,0\nFalse,-2,2.5,nan,2020-01-02,2020-01-01 00:00:01,x,,12345678901234567890,1\n"},
			"b bool, i int64, f float64, x float64, d date, s timestamp, t string, n string, big string, w int64",
			`true 1 1 1 2020-01-01 2020-01-01T00:00:00 "1" null "1" 0|false -2 2.5 NaN 2020-01-02 2020-01-01T00:00:01 "x" null "12345678901234567890" 1`},
		{"files with columns in another order", usual, []string{"a,b\n1,x\n", "b,a\ny,2\n"}, "a int64, b string", `1 "x"|2 "y"`},
		{"all files are sampled", usual, []string{"a,b\n1,1\n", "b,a\n2.5,z\n"}, "a string, b float64", `"1" 1|"z" 2.5`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(t, test.options, writeFiles(t, test.files...), dataset.PlanOptions{}, readOptions(10_000, 64<<20))
			if err != nil {
				t.Fatal(err)
			}
			if schema := schemaText(got.schema); schema != test.schema {
				t.Errorf("schema is %s, want %s", schema, test.schema)
			}
			if rows := strings.Join(got.rows, "|"); rows != test.rows {
				t.Errorf("rows are\n     %s\nwant %s", rows, test.rows)
			}
			if len(got.splits) != len(test.files) {
				t.Errorf("%d splits for %d files", len(got.splits), len(test.files))
			}
		})
	}
}

func schemaText(schema *arrow.Schema) string {
	var parts []string
	for _, f := range schema.Fields() {
		parts = append(parts, f.Name+" "+dataset.TypeName(f.Type))
	}
	return strings.Join(parts, ", ")
}

func TestWantedTypes(t *testing.T) {
	files := writeFiles(t, "a,b,c,d\n1,2,3,4\n")
	got, err := readAll(t, with("b", textType, "d", nil), files, dataset.PlanOptions{WantedTypes: map[string]arrow.DataType{
		"a": float64Type, "b": float64Type, "c": arrow.PrimitiveTypes.Uint8, "d": float32Type, "e": float64Type,
	}}, readOptions(10, 1000))
	if err != nil {
		t.Fatal(err)
	}
	if schema := schemaText(got.schema); schema != "a float64, b string, c int64, d float32" {
		t.Errorf("schema is %s", schema)
	}
}

func TestColumns(t *testing.T) {
	content := "a,b,c,d\n1,x,2.5,\"q\nr\"\nbad,y,,z\n"
	for _, test := range []struct {
		columns []int
		rows    string
	}{
		{[]int{1, 2}, `"x" 2.5|"y" null`},
		{[]int{3}, `"q\nr"|"z"`},
		{[]int{}, `|`},
		{nil, `"1" "x" 2.5 "q\nr"|"bad" "y" null "z"`},
	} {
		options := readOptions(10, 1000)
		options.Columns = test.columns
		got, err := readAll(t, usual, writeFiles(t, content), dataset.PlanOptions{}, options)
		if err != nil {
			t.Fatal(err)
		}
		if rows := strings.Join(got.rows, "|"); rows != test.rows {
			t.Errorf("columns %v: rows are %s, want %s", test.columns, rows, test.rows)
		}
	}
}

func TestWhere(t *testing.T) {
	content := "\na,b\n1,x\n\n2,\"y\n\nz\"\n3,w\r\n4,v"
	want := []string{"a.csv:3", "a.csv:5", "a.csv:8", "a.csv:9"}
	for _, splitBytes := range []int64{1, 8, 1000} {
		got, err := readAll(t, usual, writeFiles(t, content), dataset.PlanOptions{TargetSplitBytes: splitBytes}, readOptions(2, 1000))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.where, want) {
			t.Errorf("splits of %d bytes: rows are at %v, want %v", splitBytes, got.where, want)
		}
	}
}

func TestSplits(t *testing.T) {
	// The header takes 4 bytes, the rows 4, 9, 4, and 4.
	content := "a,b\n1,2\n3,\"\"\"\n\n\"\n5,6\n7,8\n"
	for _, test := range []struct {
		options csv.Options
		target  int64
		ends    []int64
	}{
		{usual, 0, []int64{25}},
		{usual, 25, []int64{25}},
		{usual, math.MaxInt64, []int64{25}},
		{usual, 1, []int64{8, 17, 21, 25}},
		{usual, 9, []int64{17, 25}},
		{usual, 17, []int64{17, 25}},
		{usual, 18, []int64{21, 25}},
		{csv.Options{Header: true}, 12, []int64{14, 25}},
		{csv.Options{Header: true}, 8, []int64{8, 17, 25}},
	} {
		source, err := csv.New(test.options)
		if err != nil {
			t.Fatal(err)
		}
		files := writeFiles(t, content)
		layout, err := source.Plan(t.Context(), files, dataset.PlanOptions{TargetSplitBytes: test.target})
		if err != nil {
			t.Fatal(err)
		}
		checkSplits(t, files, layout.Splits)
		var ends []int64
		for _, split := range layout.Splits {
			ends = append(ends, split.EndOffsetBytes)
		}
		if !slices.Equal(ends, test.ends) {
			t.Errorf("target %d: splits end at %v, want %v", test.target, ends, test.ends)
		}
	}
}
